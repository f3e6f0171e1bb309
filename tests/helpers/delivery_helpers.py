"""What the tests of deliveries share: a broker, a gate before it, a subscriber, a transport."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from ports import free_port

from generalad.runtime.backoff import Backoff
from generalad.runtime.delivery.message import Message, MessageKind
from generalad.runtime.delivery.transport import Transport

PATIENCE = 30.0  # real seconds until a test gives up; never reached by a test that passes
QUICK = Backoff(first=0.05, cap=0.2, jitter=0.5, good_after=1.0)
HOST = "127.0.0.1"


def message(number: int, kind: MessageKind = "event", size: int = 10) -> Message:
    return Message(f"m{number}", kind, f"line/{kind}", b"x" * size)


def until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited too long {what}"
        time.sleep(0.01)


class FakeTransport:
    """Delivers into a list; raises what `plan` says instead, one item an attempt."""

    name = "fake://receiver"

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.plan: list[Exception | None] = []
        self.down: Exception | None = None
        self.connects = 0
        self.checks = 0
        self.closed = 0

    def connect(self, sender: str, timeout: float) -> None:
        assert len(sender) <= 23 and sender.isalnum() and timeout > 0
        self.connects += 1
        if self.down is not None:
            raise self.down

    def deliver(self, message: Message, timeout: float) -> None:
        if self.down is not None:
            raise self.down
        step = self.plan.pop(0) if self.plan else None
        if step is not None:
            raise step
        self.delivered.append(message.id)

    def check(self) -> None:
        self.checks += 1
        if self.down is not None:
            raise self.down

    def close(self, timeout: float) -> None:
        self.closed += 1


_: Transport = FakeTransport()


def needs(*programs: str) -> None:
    """Skip where a program is not installed; some lie where only root looks."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    for program in programs:
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{program} is not installed: Debian's package {program.split('_')[0]}")


class Broker:
    """A real mosquitto on a port of its own, which it keeps when it is started again."""

    def __init__(self, folder: Path, *settings: str) -> None:
        needs("mosquitto")
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} {HOST}", *settings]
        if not any(line.startswith("allow_anonymous") for line in settings):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")  # another user could not read the test's folder
        self._config.write_text("\n".join(lines) + "\n")
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> Broker:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-v", "-c", str(self._config)], stdout=log, stderr=log
            )
        until(self._answers, f"for the broker: {self.log}")
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


class Gate:
    """Passes connections on to a port while it is open; closing it breaks all of them off."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        with self._lock:
            sockets, self._open = self._open, []
            if self._listener is not None:
                sockets.append(self._listener)
                self._listener = None
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                incoming, _ = listener.accept()
            except OSError:
                return
            try:
                outgoing = socket.create_connection((HOST, self._target))
            except OSError:
                incoming.close()
                continue
            with self._lock:
                self._open += [incoming, outgoing]
            for pair in ((incoming, outgoing), (outgoing, incoming)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Subscriber:
    """Receives everything; another one must be made after the broker was restarted.

    Its quality of service is 0: the broker passes a message on before it confirms it to the sender.
    """

    def __init__(
        self, port: int, *, user: tuple[str, str] | None = None, ca: Path | None = None
    ) -> None:
        self.received: list[tuple[str, dict[str, Any], bool]] = []
        self._subscribed = threading.Event()
        self.broken_off = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self.broken_off.set()
        if user is not None:
            self._client.username_pw_set(*user)
        if ca is not None:
            self._client.tls_set(str(ca))
        self._client.on_connect = self._on_connect
        self._client.connect(HOST, port)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE)

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe("#", qos=0)

    def _on_message(self, client: Any, data: Any, incoming: paho.MQTTMessage) -> None:
        content = json.loads(incoming.payload)
        self.received.append((incoming.topic, content, bool(incoming.retain)))

    @property
    def numbers(self) -> list[int]:
        """`number` of the notifications that arrived, in order."""
        return [content["number"] for _, content, _ in self.received if "number" in content]

    @property
    def states(self) -> list[str]:
        return [content["status"] for _, content, _ in self.received if "status" in content]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def subscribed(port: int, **settings: Any) -> Iterator[Subscriber]:
    subscriber = Subscriber(port, **settings)
    try:
        yield subscriber
    finally:
        subscriber.close()


def without_repetitions(numbers: list[int]) -> list[int]:
    """Each number where it came first."""
    return list(dict.fromkeys(numbers))


@functools.cache
def certificates(folder: Path) -> Path:
    """`folder` with an authority, a server (127.0.0.1) and a client: ca, server, client .crt."""
    needs("openssl")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt",
        "-subj", "/CN=Test authority", "-days", "2",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}\n")
    for who in ("server", "client"):
        openssl(
            "req", *new_key, "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}"
        )
        openssl(
            "x509", "-req", "-in", f"{who}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{who}.crt", "-days", "2", "-extfile", "names",
        )  # fmt: skip
    return folder
