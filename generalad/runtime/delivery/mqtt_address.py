"""`Broker`: what the address of an MQTT broker says, for those who write to it and who listen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from generalad.errors import UsageError
from generalad.runtime.secrets import Secret, split_user

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.client import Client

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Broker:
    """A broker, and who logs in.

    Attributes:
        parts: of the address without user and password.
        host: empty where there is none.
        port: 0 where there is none, and the protocol is not known.
        topic: the path, without slashes around it.
        user: or empty.
        password: or empty.
    """

    parts: SplitResult
    host: str
    port: int
    topic: str
    user: str
    password: Secret

    @classmethod
    def at(cls, address: Secret) -> Broker:
        """Take `mqtt://user:password@host:1883/topic` apart; `mqtts://` is with TLS."""
        bare, user, password = split_user(address.reveal())
        parts = urlsplit(bare)
        return cls(
            parts,
            parts.hostname or "",
            parts.port or _PORTS.get(parts.scheme, 0),
            unquote(parts.path).strip("/"),
            user,
            Secret(password),
        )

    def tls(
        self, ca: Path | None, certificate: Path | None, key: Path | None
    ) -> ssl.SSLContext | None:
        """For `mqtts://`, see `tls_context`; None for `mqtt://`.

        Raises:
            UsageError: files that cannot be, or that are given without TLS.
        """
        if self.parts.scheme == "mqtts":
            from generalad.runtime.delivery.tls import tls_context

            return tls_context(ca, certificate, key)
        if ca or certificate or key:
            raise UsageError("certificates need an address that begins with mqtts://")
        return None

    def url(self, topic: str) -> str:
        """The address of a topic, without user and password."""
        scheme = "mqtts" if self.parts.scheme == "mqtts" else "mqtt"
        return f"{scheme}://{self.host}:{self.port}/{topic}"

    def introduce(self, client: Client, tls: ssl.SSLContext | None) -> None:
        """Tell a client who it is and how it speaks, before it connects."""
        if self.user:
            client.username_pw_set(self.user, self.password.reveal() or None)
        if tls is not None:
            client.tls_set_context(tls)
