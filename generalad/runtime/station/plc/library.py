"""What libraries of protocols need around them: a remedy, silence, and a reason."""

from __future__ import annotations

import logging
import socket

from generalad.errors import require_extra


def need(needed_for: str, extra: str, module: str) -> None:
    """Refuse work whose library is not installed, and keep that library off stderr.

    What goes wrong is a state with a reason; a library that also says it would say it for every
    attempt. A program that configures logging still sees it.

    Raises:
        MissingExtraError: naming the pip command.
    """
    require_extra(needed_for, extra, module)
    logging.getLogger(module).addHandler(logging.NullHandler())


def bind_once(host: str, port: int) -> int:
    """Take a port and let it go, for the reason why it cannot be had: libraries say that it failed.

    Returns:
        The port; a free one where it was 0.

    Raises:
        OSError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as probe:
        found: int = probe.getsockname()[1]
        return found


def in_address(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host
