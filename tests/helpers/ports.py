"""A port that stays free until somebody listens there."""

from __future__ import annotations

import random
import socket

_LISTENED_AT = range(10_000, 32_000)
"""Below those that systems give to outgoing connections: another test's connection would take a
port of theirs before the server starts, or while it is down."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    while True:
        port = random.choice(_LISTENED_AT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
