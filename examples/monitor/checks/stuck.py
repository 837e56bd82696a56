import numpy as np

from monitor.check import Mask, Samples, check

# Only a counter that has moved in every sweep can be called stuck. Rates that stay within a fifth
# of their mean deviate by 0.2 means at most; a single sweep of five at rest makes that 0.5.
_STEADY = 0.4


@check
def stuck(samples: Samples) -> Mask:
    """A counter that has always moved and now stands still."""
    usual = samples.baseline
    moved = (usual.mean > 0) & (usual.deviation < _STEADY * usual.mean)
    return samples.is_counter & moved & np.equal(samples.rate, 0)
