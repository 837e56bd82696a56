import numpy as np

from monitor.check import Mask, Samples, check


@check
def limits(samples: Samples) -> Mask:
    """A number that its unit does not allow: negative bytes, a ratio above one."""
    outside = (samples.value < samples.low) | (samples.value > samples.high)
    return np.isfinite(samples.value) & outside
