from monitor.check import Hosts, Mask, host_check

_SWEEPS = 2  # one lost answer happens; two in a row are a host that is gone


@host_check
def silent(hosts: Hosts) -> Mask:
    """A host that has not answered for several sweeps."""
    return hosts.silent_for >= _SWEEPS
