"""`WebhookTransport`: messages to a web server, each as one POST that it confirms with 2xx."""

from __future__ import annotations

import email.utils
import http.client
import io
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from generalad.errors import UsageError
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.transport import Refused, Unavailable, network_reason
from generalad.runtime.secrets import Secret, redacted, split_user

if TYPE_CHECKING:
    import ssl

LONGEST_RETRY_AFTER = 300.0  # seconds; a server does not silence a line for longer

# These speak of the address, the token or the moment, not of the message: it waits.
_AGAIN = frozenset({401, 403, 404, 405, 407, 408, 409, 421, 425, 429})


class WebhookTransport:
    """POST with `Idempotency-Key`; one connection a message, no redirects, no proxy."""

    def __init__(
        self, address: Secret, *, token: Secret | None = None, ca: Path | None = None
    ) -> None:
        """Nothing is opened before `connect`.

        Args:
            address: `https://host/path`, or `http://`; a user and password in it are sent as basic
                authentication.
            token: sent as bearer token.
            ca: certificates to trust, PEM; None trusts those of the system.

        Raises:
            UsageError: an address, token or file that cannot be.
        """
        bare, user, password = split_user(address.reveal())
        parts = urlsplit(bare)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{redacted(address.reveal())}: not the address of a web server",
                remedy="expected https://host/path",
            )
        if user and token:
            raise UsageError("expected a token or a user in the address, found both")
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not _sendable(target) or " " in target:
            raise UsageError(
                f"{self.name}: the path holds characters that cannot be sent",
                remedy="write them percent-quoted, as %20 for a space",
            )
        self._target = Secret(target)
        self._authorization = _authorization(user, password, token)
        self._tls: ssl.SSLContext | None = None
        if self._scheme == "https":
            from generalad.runtime.delivery.tls import tls_context

            self._tls = tls_context(ca)
        elif ca:
            raise UsageError("certificates need an address that begins with https://")

    @property
    def name(self) -> str:
        """Scheme and host; paths of webhooks often are secrets."""
        return f"{self._scheme}://{self._host}" + (f":{self._port}" if self._port else "")

    def connect(self, sender: str, timeout: float) -> None:
        """See whether the server can be reached; raises Unavailable."""
        self._open(timeout).close()

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        )
        try:
            connection.connect()
        except (OSError, ValueError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable(network_reason(error)) from None
        return connection

    def deliver(self, message: Message, timeout: float) -> None:
        """Post one message; raises Unavailable or Refused."""
        deadline = time.monotonic() + timeout
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": quote(message.id, safe=""),
            "Connection": "close",
        }
        if self._authorization is not None:
            headers["Authorization"] = self._authorization.reveal()
        connection = self._open(timeout)
        try:
            # For http.client, which only asks for these three methods.
            connection.sock = _Limited(connection.sock, deadline)
            connection.request("POST", self._target.reveal(), message.payload, headers)
            response = connection.getresponse()
            _judge(response.status, response.headers.get("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(network_reason(error)) from None
        finally:
            connection.close()

    def check(self) -> None:
        """There is no permanent connection to lose."""

    def close(self, timeout: float) -> None:
        """Nothing is open."""


def _authorization(user: str, password: str, token: Secret | None) -> Secret | None:
    if token is not None:
        if not _sendable(token.reveal()):
            raise UsageError("the token of a webhook holds characters that cannot be sent")
        return Secret(f"Bearer {token.reveal()}")
    if not user:
        return None
    import base64

    return Secret(f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")


def _sendable(text: str) -> bool:
    """Whether it may stand in the head of a request."""
    return text.isascii() and text.isprintable()


def _judge(status: int, retry_after: str | None) -> None:
    """Turn an answer that is no success into an exception."""
    if 200 <= status < 300:
        return
    reason = f"HTTP {status}, {http.client.responses.get(status, 'unknown').lower()}"
    if 300 <= status < 400:
        raise Unavailable(f"{reason}: redirects are not followed, correct the address")
    if status in _AGAIN or status >= 500 or status < 200:
        raise Unavailable(reason, retry_after=_seconds(retry_after))
    raise Refused(reason)


def _seconds(retry_after: str | None) -> float:
    """What `Retry-After` says, a number of seconds or a date, within limits; 0 if nothing."""
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else 0.0


class _Limited:
    """A socket whose whole answer must arrive before a deadline, also if it trickles."""

    def __init__(self, inner: socket.socket, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def _set_limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("too late")
        self._inner.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._set_limit()
        self._inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reading(self))

    def receive_into(self, buffer: memoryview) -> int:
        self._set_limit()
        return self._inner.recv_into(buffer)

    def close(self) -> None:
        self._inner.close()


class _Reading(io.RawIOBase):
    def __init__(self, limited: _Limited) -> None:
        super().__init__()
        self._limited = limited

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._limited.receive_into(buffer)
