"""`MqttTrigger`: each message on a topic begins a part; its verdict goes to the sinks.

Quality of service 2, so that the broker hands each message over exactly once where the sender asks
for it. Messages that it had kept (retained, or from before the connection) are of parts that are
long gone, and begin none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generalad.errors import UsageError, require_extra
from generalad.progress import Log
from generalad.runtime.delivery.mqtt_address import Broker
from generalad.runtime.secrets import Secret, redacted
from generalad.runtime.station.triggers.http_trigger import part_of

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_FORM = "expected mqtt://host:1883/topic or mqtts://host:8883/topic"


class MqttTrigger:
    """Listens until `close`, and comes back when the broker does."""

    def __init__(
        self,
        address: Secret,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        log: Log | None = None,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            address: `mqtt://user:password@host:1883/topic`, or `mqtts://` with TLS.
            ca: see `tls_context`, like the two others.
            certificate: of this client.
            key: of this client.
            log: told of the connection and of messages that are no trigger.

        Raises:
            UsageError: an address or file that cannot be.
            MissingExtraError: paho-mqtt is not installed.
        """
        require_extra("MQTT", "streams", "paho")
        self._broker = broker = Broker.at(address)
        self._topic = broker.topic
        wild = "#" in address.reveal() or "+" in self._topic
        if not broker.host or not broker.port or not self._topic or wild:
            shown = redacted(address.reveal())
            raise UsageError(f"{shown}: not the address of a topic", remedy=_FORM)
        self._tls = broker.tls(ca, certificate, key)
        self._log = log
        self._client: Client | None = None
        self.problem = "not connected yet"
        """Why no trigger can come, or empty."""

    @property
    def name(self) -> str:
        """Address without user and password."""
        return self._broker.url(self._topic)

    def start(self, trigger: Callable[[str | None], object]) -> None:
        """Connect in a thread of the library, now and whenever the connection was lost."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._trigger = trigger
        # A name of its own: no messages from before wait for it.
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"gad-trigger-{os.urandom(6).hex()}")
        self._broker.introduce(client, self._tls)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 10)
        client.connect_async(self._broker.host, self._broker.port, keepalive=5)
        client.loop_start()
        self._client = client

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.disconnect()
            self._client.loop_stop()

    # Called by the library, in its thread

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            self._say(f"the broker refused: {str(reason).lower()}")
        else:
            client.subscribe(self._topic, qos=2)
            self._say("")

    def _on_disconnect(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, _more: Any
    ) -> None:
        self._say(f"not connected: {str(reason).lower()}")

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        if message.retain:
            return
        try:
            part = part_of(message.payload)
        except ValueError as error:
            if self._log is not None:
                self._log(f"{self.name}: a message is no trigger: {error}")
            return
        self._trigger(part)

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            if self._log is not None:
                self._log(f"{self.name}: {problem or 'connected'}")
