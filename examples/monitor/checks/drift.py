import numpy as np

from monitor.check import Mask, Samples, check

# Gauges stay within 1.5 % of their level, so an honest value is at most 3 % from the mean of those
# before: a tenth is well clear of it. Where a baseline varies by itself, five deviations are asked
# for instead; with bounded noise that is never more than 7.5 %. Two sweeps are the least that have
# a deviation at all.
_SHARE_OF_MEAN = 0.10
_DEVIATIONS = 5.0
_SWEEPS = 2


@check
def drift(samples: Samples) -> Mask:
    """A gauge that has left its own baseline, at a value that another host might well have."""
    usual = samples.baseline
    allowed = np.maximum(_SHARE_OF_MEAN * np.abs(usual.mean), _DEVIATIONS * usual.deviation)
    away = np.abs(samples.value - usual.mean) > allowed
    return samples.is_gauge & samples.believable & (usual.sweeps >= _SWEEPS) & away
