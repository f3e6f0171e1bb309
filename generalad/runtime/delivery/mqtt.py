"""`MqttTransport`: messages to an MQTT broker, each confirmed by it (QoS 1).

MQTT 5 where the broker speaks it, because only there does it say that it threw a message away;
MQTT 3.1.1 otherwise. The client library runs in the caller's thread: `check` serves it.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generalad.errors import UsageError, require_extra
from generalad.runtime.delivery.message import Message, safe_level
from generalad.runtime.delivery.mqtt_address import Broker
from generalad.runtime.delivery.transport import Refused, Unavailable, network_reason
from generalad.runtime.secrets import Secret, redacted

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_KEEP_ALIVE = 15  # seconds
_REFUSED_USER = (0x86, 0x87, 0x8C)
_REFUSED_PROTOCOL = 0x84
_OVERHEAD = 32  # bytes of a packet beside topic and payload, more than enough


class MqttTransport:
    """Topics are `PREFIX/STREAM/KIND`; `PREFIX/status` holds whether we are online, retained."""

    def __init__(
        self,
        address: Secret,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        """Nothing is opened before `connect`.

        Args:
            address: `mqtt://user:password@host:1883/prefix`, or `mqtts://` with TLS.
            ca: see `tls_context`, like the two others.
            certificate: of this client.
            key: of this client.

        Raises:
            UsageError: an address or file that cannot be.
            MissingExtraError: paho-mqtt is not installed.
        """
        require_extra("MQTT", "streams", "paho")
        self._broker = broker = Broker.at(address)
        self._prefix = broker.topic or "gad"
        odd = any(safe_level(level) != level for level in self._prefix.split("/"))
        wrong = odd or broker.parts.query or broker.parts.fragment
        if not broker.host or not broker.port or wrong:
            raise UsageError(
                f"{redacted(address.reveal())}: not the address of a broker",
                remedy="expected mqtt://host:1883/prefix or mqtts://host:8883/prefix",
            )
        self._tls = broker.tls(ca, certificate, key)
        self._connection: _Connection | None = None

    @property
    def name(self) -> str:
        """Address without user and password."""
        return self._broker.url(self._prefix)

    def connect(self, sender: str, timeout: float) -> None:
        """Connect and say that we are online; raises Unavailable."""
        self._drop_connection()
        deadline = time.monotonic() + timeout
        try:
            self._connection = self._open(sender, deadline, version=5)
        except _OldBroker:
            try:
                self._connection = self._open(sender, deadline, version=4)
            except _OldBroker:
                raise Unavailable("the broker went away without an answer") from None
        try:
            self._say_status("online", deadline)
        except Refused as error:
            raise Unavailable(f"no right to write to {self._prefix}/status: {error}") from None

    def _open(self, sender: str, deadline: float, *, version: int) -> _Connection:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=sender,
            clean_session=None if version == 5 else True,
            protocol=MQTTProtocolVersion(version),
            reconnect_on_failure=False,
        )
        self._broker.introduce(client, self._tls)
        client.will_set(f"{self._prefix}/status", _status("offline", None), qos=1, retain=True)
        client.connect_timeout = max(0.1, deadline - time.monotonic())
        connection = _Connection(client)
        connection.open(self._broker.host, self._broker.port, deadline)
        return connection

    def deliver(self, message: Message, timeout: float) -> None:
        """Publish and wait for the broker's confirmation; raises Unavailable or Refused."""
        topic = f"{self._prefix}/{message.topic}"
        deadline = time.monotonic() + timeout
        self._connected().publish(topic, message.payload, retain=False, deadline=deadline)

    def check(self) -> None:
        """Answer the broker and notification that it is gone; raises Unavailable."""
        self._connected().serve(0.0)

    def close(self, timeout: float) -> None:
        """Say that we are offline, so that the broker need not find out, and disconnect."""
        if self._connection is not None:
            with contextlib.suppress(Unavailable, Refused):
                self._say_status("offline", time.monotonic() + timeout)
                self._connection.goodbye()
        self._drop_connection()

    def _say_status(self, status: str, deadline: float) -> None:
        self._connected().publish(
            f"{self._prefix}/status", _status(status, time.time()), retain=True, deadline=deadline
        )

    def _connected(self) -> _Connection:
        if self._connection is None:
            raise Unavailable("not connected")
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None


def _status(status: str, now: float | None) -> bytes:
    """The last will has no time: the broker sends it when it finds out."""
    return json.dumps({"status": status, "time": now}).encode()


class _OldBroker(Exception):
    """The broker does not know this version of the protocol, or went away without an answer."""


class _Connection:
    """One connection of the client library, served by the thread that uses it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._answer: ReasonCode | None = None
        self._confirmed: dict[int, ReasonCode] = {}
        self._lost = ""
        self._largest = 0  # bytes of a packet that the broker takes; 0 is not known
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect

    def open(self, host: str, port: int, deadline: float) -> None:
        """Connect; raises Unavailable or _OldBroker."""
        try:
            self._client.connect(host, port, keepalive=_KEEP_ALIVE)
            while self._answer is None and not self._lost:
                self._serve_until(deadline)
        except (OSError, ValueError) as error:
            raise Unavailable(network_reason(error)) from None
        finally:
            if self._answer is None or self._answer.is_failure:
                self.abandon()
        if self._answer is None or self._answer.value == _REFUSED_PROTOCOL:
            raise _OldBroker
        if self._answer.value in _REFUSED_USER:
            raise Unavailable("user or password refused")
        if self._answer.is_failure:
            raise Unavailable(f"the broker refused: {str(self._answer).lower()}")

    def publish(self, topic: str, payload: bytes, *, retain: bool, deadline: float) -> None:
        """Return when the broker has it; raises Unavailable or Refused."""
        size = len(topic.encode()) + len(payload) + _OVERHEAD
        if 0 < self._largest < size:
            raise Refused(f"larger than the {self._largest} bytes that the broker takes")
        self._check()
        try:
            number = self._client.publish(topic, payload, qos=1, retain=retain).mid
        except ValueError:
            raise Refused("not a topic or too large") from None
        while number not in self._confirmed:
            self._serve_until(deadline)
            self._check()
        answer = self._confirmed.pop(number)
        if answer.is_failure:
            raise Refused(str(answer).lower())

    def serve(self, timeout: float) -> None:
        """Let the library read and write for at most `timeout` seconds; raises Unavailable."""
        self._turn(timeout)
        self._check()

    def goodbye(self) -> None:
        """Disconnect properly, so that the broker does not send the last will."""
        self._client.disconnect()

    def abandon(self) -> None:
        """Close without a word."""
        socket: Any = self._client.socket()
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.close()

    def _serve_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable("no answer in time")
        self._turn(left)

    def _turn(self, timeout: float) -> None:
        socket: Any = self._client.socket()
        if socket is None:
            self._lost = self._lost or "the connection was lost"
            return
        wanted = selectors.EVENT_READ
        if self._client.want_write():
            wanted |= selectors.EVENT_WRITE
        # What TLS has already read does not show on the socket.
        pending = getattr(socket, "pending", lambda: 0)()
        with selectors.DefaultSelector() as selector:
            selector.register(socket, wanted)
            events = selector.select(0.0 if pending else timeout)
        ready = events[0][1] if events else 0
        if pending or ready & selectors.EVENT_READ:
            self._client.loop_read()
        if ready & selectors.EVENT_WRITE:
            self._client.loop_write()
        self._client.loop_misc()

    def _check(self) -> None:
        if self._lost or self._client.socket() is None:
            raise Unavailable(self._lost or "the connection was lost")

    # Called by the library, in this thread

    def _on_connect(
        self,
        client: Client,
        data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._answer = reason
        self._largest = getattr(properties, "MaximumPacketSize", 0)

    def _on_publish(
        self, client: Client, data: Any, number: int, reason: ReasonCode, properties: Any
    ) -> None:
        self._confirmed[number] = reason

    def _on_disconnect(
        self,
        client: Client,
        data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Any,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lost = f"the broker ended the connection: {str(reason).lower()}"
        else:
            self._lost = "the connection was lost"
