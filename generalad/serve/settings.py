"""`Settings`: what a service allows, with what holds where nothing is said."""

from __future__ import annotations

import os
from dataclasses import dataclass

from generalad.errors import UsageError
from generalad.runtime.hosts import is_loopback
from generalad.runtime.secrets import Secret, expand

_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Settings:
    """How a service runs, and what it refuses.

    Attributes:
        batch: most images a run of the network; None for 1 on a processor and 8 on a GPU.
        max_wait: seconds that an image may wait for others which are being decoded.
        threads: CPU threads of each network; None for all cores.
        device: see `open_session`.
        max_body: bytes of a request.
        max_megapixels: of an image; `GAD_MAX_MEGAPIXELS` bounds it too.
        max_in_flight: images that are decoded, wait or are scored at a time.
        max_connections: at a time.
        timeout: seconds from the end of a request's body to its answer.
        client_timeout: seconds that a client may take to send a request, or to take its answer.
        decoders: images that are decoded at a time.
    """

    batch: int | None = None
    max_wait: float = 0.005
    threads: int | None = None
    device: str | None = None
    max_body: int = 32_000_000
    max_megapixels: float = 24.0
    max_in_flight: int = 64
    max_connections: int = 256
    timeout: float = 10.0
    client_timeout: float = 10.0
    decoders: int = min(4, os.cpu_count() or 1)

    def __post_init__(self) -> None:
        """Raises UsageError where a number is out of range."""
        for name in ("batch", "max_body", "max_in_flight", "max_connections", "decoders"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected at least 1, found {value}")
        for name in ("timeout", "client_timeout", "max_megapixels"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: expected more than 0, found {getattr(self, name)}")
        if not self.max_wait >= 0:
            raise UsageError(f"max_wait: expected seconds, 0 or more, found {self.max_wait}")


def token_of(text: str | None, *, host: str) -> Secret | None:
    """The token that clients must show, from `${NAME}` or `${file:PATH}`; None for nobody's.

    Raises:
        UsageError: a token that is written out or short, or none where others can reach the
            service.
    """
    if text is None:
        if not is_loopback(host):
            raise UsageError(
                f"at {host} others can reach the service, so it needs a token",
                remedy="give one with --token '${GAD_TOKEN}', or serve at 127.0.0.1",
            )
        return None
    if not text.startswith("${") or not text.endswith("}"):
        raise UsageError(
            "the token would be seen in the list of processes",
            remedy="name an environment variable, '${GAD_TOKEN}', or a file, '${file:PATH}'",
        )
    token = expand(text)
    found = token.reveal()
    if len(found) < _SHORTEST_TOKEN or not found.isascii() or not found.isprintable():
        raise UsageError(
            f"{text}: expected a token of at least {_SHORTEST_TOKEN} letters and digits",
            remedy="make one: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return token
