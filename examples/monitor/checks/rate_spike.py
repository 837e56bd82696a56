from monitor.check import Mask, Samples, check

# A counter's rate varies by a fifth, so an honest rate is at most 1.2 / 0.8 = 1.5 times the mean of
# those before. Five times is far from that and still catches every spike of more than six rates.
_TIMES_THE_MEAN = 5.0


@check
def rate_spike(samples: Samples) -> Mask:
    """A counter that grows many times faster than it used to."""
    usual = samples.baseline.mean
    return samples.is_counter & (usual > 0) & (samples.rate > _TIMES_THE_MEAN * usual)
