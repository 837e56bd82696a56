from monitor.check import Mask, Samples, check


@check
def counter_reset(samples: Samples) -> Mask:
    """A counter that went down, though still a number it can be: its process has started again."""
    return samples.is_counter & samples.believable & (samples.rate < 0)
