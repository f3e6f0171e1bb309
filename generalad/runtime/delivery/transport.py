"""`Transport`: one way to deliver messages, and the two ways in which that can fail."""

from __future__ import annotations

from typing import Protocol

from generalad.runtime.delivery.message import Message


class Unavailable(Exception):
    """The receiver cannot be reached or takes nothing now; worth another attempt.

    The text is the reason that is shown: one line without secrets. `retry_after` is how many
    seconds the receiver asked to be left alone, if it did.
    """

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(Exception):
    """The receiver will never take this message; the text is the reason, without secrets."""


class Transport(Protocol):
    """Used by one thread. After `Unavailable` comes `connect` again, or `close`."""

    @property
    def name(self) -> str:
        """Where it delivers to, without secrets."""

    def connect(self, sender: str, timeout: float) -> None:
        """Connect anew, whatever was before.

        Args:
            sender: permanent name of the queue, at most 23 letters and digits: the receiver knows a
                sender that comes back by it.
            timeout: in seconds.

        Raises:
            Unavailable: not now.
        """

    def deliver(self, message: Message, timeout: float) -> None:
        """Return when the receiver has confirmed the message.

        Raises:
            Unavailable: it is not known to have arrived.
            Refused: it never will.
        """

    def check(self) -> None:
        """Keep the connection alive, called every second; raises Unavailable when it is lost."""

    def close(self, timeout: float) -> None:
        """Say goodbye and free everything; raises nothing."""


def network_reason(error: Exception) -> str:
    """One line for an error of the network, of which only parts without secrets are taken."""
    import socket
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection: {error.reason or 'broken off'}".lower().replace("_", " ")
    if isinstance(error, socket.gaierror):
        return "the name of the host is not known"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"broken off ({type(error).__name__})"
