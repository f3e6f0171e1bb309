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


def without_port(host: str) -> str:
    """The host of a header Host, which may have a port."""
    head, _, port = host.rpartition(":")
    return head if port.isdigit() and (host.startswith("[") or host.count(":") == 1) else host


def from_another_page(host: str, origin: str) -> bool:
    """Whether a browser asks for a page that did not come from here; programs name no origin.

    Args:
        host: of the header Host.
        origin: of the header Origin, or empty.
    """
    return bool(origin) and origin.partition("://")[2] != host
