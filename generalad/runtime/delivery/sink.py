"""`NetworkSink`: notifications and results to a broker or web server, see the package."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from generalad.decision import Result
from generalad.errors import UsageError
from generalad.progress import Log
from generalad.runtime.backoff import Backoff
from generalad.runtime.delivery.limits import Limits
from generalad.runtime.delivery.message import IMPORTANCE, Message, MessageKind, safe_level
from generalad.runtime.delivery.outbox import Outbox
from generalad.runtime.delivery.sender import DeliveryStatus, Sender
from generalad.runtime.delivery.transport import Transport
from generalad.runtime.notification import Notification
from generalad.runtime.secrets import expand, redacted
from generalad.runtime.sinks.sink import Map
from generalad.runtime.sources import Frame, Source
from generalad.spec import Spec

NOTIFICATIONS: tuple[MessageKind, ...] = (
    "event",
    "camera",
    "fault",
    "drift",
    "verdict",
    "station",
)
NOT_JSON = "not JSON"


def open_transport(
    address: str,
    *,
    token: str | None = None,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Transport:
    """The way to an address, `mqtt://`, `mqtts://`, `http://` or `https://`.

    Args:
        address: as written, with `${NAME}` and `${file:PATH}` for secrets.
        token: bearer token for a web server, written likewise.
        ca: certificates to trust, PEM.
        certificate: of this client, PEM, for a broker.
        key: of that certificate, PEM.

    Raises:
        UsageError: an address, file, variable or combination that cannot be.
        MissingExtraError: a library is not installed.
    """
    expanded = expand(address, quote=True)
    scheme = expanded.reveal().partition("://")[0].lower()
    if scheme in ("mqtt", "mqtts"):
        if token is not None:
            raise UsageError("a broker takes a user and password in its address, not a token")
        from generalad.runtime.delivery.mqtt import MqttTransport

        return MqttTransport(expanded, ca=ca, certificate=certificate, key=key)
    if scheme in ("http", "https"):
        if certificate is not None or key is not None:
            raise UsageError("client certificates are for mqtts:// only")
        from generalad.runtime.delivery.webhook import WebhookTransport

        return WebhookTransport(expanded, token=expand(token) if token is not None else None, ca=ca)
    raise UsageError(
        f"{redacted(address)}: not an address that notifications can be sent to",
        remedy="expected mqtt://, mqtts://, http:// or https://",
    )


class NetworkSink:
    """Sends what it is given, now or later: at least once, in order, told apart by `id`."""

    needs_image = False

    def __init__(
        self,
        transport: Transport,
        *,
        queue: Path,
        send: Collection[MessageKind] = NOTIFICATIONS,
        per_minute: float | None = None,
        drain: float = 5.0,
        limits: Limits | None = None,
        backoff: Backoff | None = None,
        timeout: float = 10.0,
        log: Log | None = None,
    ) -> None:
        """Nothing is opened before `open`.

        Args:
            transport: see `open_transport`.
            queue: file of what waits, for this sink alone.
            send: kinds of messages; the others are ignored.
            per_minute: rate limit; results beyond it are dropped, everything else waits.
            drain: seconds that closing may go on to deliver; the rest stays for the next run.
            limits: of the queue.
            backoff: waiting times between attempts to connect.
            timeout: seconds for connecting, and for delivering one message.
            log: called with one line for every change worth telling, in another thread.

        Raises:
            UsageError: an unknown kind.
        """
        unknown = sorted(set(send) - set(IMPORTANCE))
        if unknown or not send:
            raise UsageError(
                f"cannot send {', '.join(unknown) or 'nothing'}",
                remedy=f"choose from {', '.join(IMPORTANCE)}",
            )
        self._transport = transport
        self._queue = queue
        self._send = frozenset(send)
        self._per_minute = per_minute
        self._drain = drain
        self._limits = limits
        self._backoff = backoff
        self._timeout = timeout
        self._log = log
        self._outbox: Outbox | None = None
        self._sender: Sender | None = None

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Open the queue and start sending what waits in it, without waiting for the receiver.

        Raises:
            StorageError: the queue cannot be written.
            UsageError: the queue is in use by another process.
        """
        outbox = Outbox(self._queue, limits=self._limits)
        try:
            self._sender = Sender(
                outbox,
                self._transport,
                per_minute=self._per_minute,
                backoff=self._backoff,
                timeout=self._timeout,
                log=self._log,
            )
        except BaseException:
            outbox.close()
            raise
        self._outbox = outbox
        self._sender.start()

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Promise one result, if results are sent."""
        if "result" in self._send:
            id = uuid.uuid4().hex
            content = {"id": id, **result.to_dict()}
            # The address of a camera may hold its password.
            content["source"], content["path"] = redacted(result.source), redacted(result.path)
            self._put(_message(id, "result", content["source"], content))

    def notification(self, notification: Notification) -> None:
        """Promise one notification, if its kind is sent."""
        if notification.kind in self._send:
            self._put(
                _of_notification(notification),
                None
                if notification.if_killed is None
                else _of_notification(notification.if_killed),
            )

    def close(self, *, complete: bool) -> None:
        """Deliver for a moment, and leave the rest for the next run.

        Raises:
            StorageError: messages that could not be written are lost.
        """
        if self._sender is not None and self._outbox is not None:
            self._sender.close(self._drain)
            self._outbox.close()

    @property
    def status(self) -> DeliveryStatus | None:
        """State and counts; None before `open`."""
        return self._sender.status if self._sender is not None else None

    def _put(self, message: Message | None, if_killed: Message | None = None) -> None:
        assert self._sender is not None and self._outbox is not None, "not open"
        if message is None:
            self._outbox.drop(NOT_JSON)  # counted and said; a line does not stop for it
        else:
            self._sender.put(message, if_killed=if_killed)


def _of_notification(notification: Notification) -> Message | None:
    return _message(notification.id, notification.kind, notification.stream, notification.to_dict())


def _message(id: str, kind: MessageKind, stream: str, content: dict[str, Any]) -> Message | None:
    """None where the content is not JSON."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        return Message(id, kind, f"{safe_level(stream)}/{kind}", text.encode())
    except (TypeError, ValueError):
        return None
