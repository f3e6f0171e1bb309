"""Names and numbers of machines in a network."""

from __future__ import annotations


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
