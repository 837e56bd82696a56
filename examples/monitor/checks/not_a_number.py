import numpy as np

from monitor.check import Mask, Samples, check


@check
def not_a_number(samples: Samples) -> Mask:
    """A counter or gauge that reads NaN or infinity."""
    return (samples.is_counter | samples.is_gauge) & ~np.isfinite(samples.value)
