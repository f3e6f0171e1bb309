"""Deliveries to a real broker that is away, killed, paused, closed to us, and encrypted."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from delivery_helpers import (
    HOST,
    QUICK,
    Broker,
    Gate,
    certificates,
    message,
    needs,
    subscribed,
    until,
    without_repetitions,
)
from ports import free_port

from generalad.errors import UsageError
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.mqtt import MqttTransport
from generalad.runtime.delivery.sink import NetworkSink, open_transport
from generalad.runtime.delivery.transport import Refused, Unavailable
from generalad.runtime.notification import Notification
from generalad.runtime.secrets import Secret

PASSWORD = "correct:horse@battery/staple"
WRONG = "wrong-horse"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path).start()
    yield broker
    broker.kill()


@contextlib.contextmanager
def sending(port: int, queue: Path, *, address: str = "", **settings: Any) -> Iterator[NetworkSink]:
    """An open sink to a broker; `lines` are its reports."""
    transport = open_transport(address or f"mqtt://{HOST}:{port}/plant")
    settings.setdefault("drain", 0.0)
    settings.setdefault("timeout", 5.0)
    sink = NetworkSink(transport, queue=queue, backoff=QUICK, **settings)
    sink.open([], fake_spec())
    try:
        yield sink
    finally:
        sink.close(complete=True)


def event(number: int, stream: str = "line") -> Notification:
    return Notification("event", stream, 1000.0 + number, {"number": number})


def waiting(sink: NetworkSink) -> int:
    assert sink.status is not None
    return sink.status.waiting


def test_topics_contents_and_status(broker: Broker, tmp_path: Path) -> None:
    with subscribed(broker.port) as subscriber:
        with sending(broker.port, tmp_path / "q", drain=10.0) as sink:
            notification = Notification(
                "fault", "line/1+#", 12.5, {"number": 1, "reason": "schwärzlich"}
            )
            sink.notification(notification)
            until(lambda: subscriber.numbers)
            assert sink.status is not None and sink.status.connected
        until(lambda: len(subscriber.states) == 2)
    (topic, online, _), (where, content, retained), (_, offline, _) = subscriber.received
    assert topic == "plant/status" and online["status"] == "online" and online["time"] > 1e9
    assert where == "plant/line_1__/fault" and content == notification.to_dict() and not retained
    assert offline["status"] == "offline" and offline["time"] >= online["time"]
    with subscribed(broker.port) as later:  # retained: who comes later knows too
        until(lambda: later.states)
        assert later.received == [("plant/status", offline, True)]


def test_broker_away_and_back(broker: Broker, tmp_path: Path) -> None:
    gate = Gate(broker.port)
    lines: list[str] = []
    with subscribed(broker.port) as subscriber:
        with sending(gate.port, tmp_path / "q", log=lines.append) as sink:
            for number in range(5):  # away from the start
                sink.notification(event(number))
            gate.open()
            until(lambda: waiting(sink) == 0)
            gate.close()
            for number in range(5, 10):
                sink.notification(event(number))
            until(lambda: sink.status is not None and not sink.status.connected)
            assert waiting(sink) >= 4  # one may have been on its way
            gate.open()
            until(lambda: waiting(sink) == 0)
        gate.close()
        until(lambda: 9 in subscriber.numbers)
        assert without_repetitions(subscriber.numbers) == list(range(10))
    told = [line.rpartition(": ")[2] for line in lines]
    assert told[0] == "connection refused" and told.count("connected") == 2


def test_killed_broker_in_the_middle_of_deliveries(broker: Broker, tmp_path: Path) -> None:
    gate = Gate(broker.port)  # so that the subscriber is there before the sender
    received: list[int] = []
    sent: list[int] = []
    stop = threading.Event()
    with sending(gate.port, tmp_path / "q") as sink:

        def produce() -> None:
            while not stop.wait(0.001):
                sink.notification(event(len(sent)))
                sent.append(len(sent))

        producer = threading.Thread(target=produce)
        producer.start()
        for _ in range(3):
            with subscribed(broker.port) as subscriber:
                gate.open()
                until(lambda s=subscriber: len(s.numbers) > 30)  # type: ignore[misc]
                broker.kill()
                assert subscriber.broken_off.wait(30)
                received += subscriber.numbers
            gate.close()
            broker.start()
        stop.set()
        producer.join()
        with subscribed(broker.port) as subscriber:
            gate.open()
            until(lambda: waiting(sink) == 0)
            until(lambda: sent[-1] in subscriber.numbers)
            received += subscriber.numbers
        assert sink.status is not None and not sink.status.dropped
    gate.close()
    assert without_repetitions(received) == sent  # none lost, and in order


def test_silent_broker(broker: Broker, tmp_path: Path) -> None:
    """Paused, it still takes connections and bytes, but confirms nothing."""
    with subscribed(broker.port) as subscriber:
        with sending(broker.port, tmp_path / "q", timeout=0.3) as sink:
            sink.notification(event(0))
            until(lambda: waiting(sink) == 0)
            broker.send(signal.SIGSTOP)
            sink.notification(event(1))
            sink.notification(event(2))
            until(lambda: sink.status is not None and "no answer" in sink.status.reason)
            broker.send(signal.SIGCONT)
            until(lambda: waiting(sink) == 0)
        until(lambda: 2 in subscriber.numbers)
        assert without_repetitions(subscriber.numbers) == [0, 1, 2]


def test_last_will_tells_that_we_are_gone(broker: Broker) -> None:
    transport = MqttTransport(Secret(f"mqtt://{HOST}:{broker.port}"))
    with subscribed(broker.port) as subscriber:
        transport.connect("gadtest", 5)
        transport._drop_connection()
        until(lambda: subscriber.states == ["online", "offline"])
        assert subscriber.received[-1][:2] == ("gad/status", {"status": "offline", "time": None})


def test_idle_connection_that_breaks_is_noticed(broker: Broker) -> None:
    transport = MqttTransport(Secret(f"mqtt://{HOST}:{broker.port}"))
    transport.connect("gadtest", 5)
    transport.check()
    broker.kill()

    def gone() -> bool:
        with contextlib.suppress(Unavailable):
            transport.check()
            return False
        return True

    until(gone)
    with pytest.raises(Unavailable, match="refused"):
        transport.connect("gadtest", 5)
    transport.close(1)


def password_broker(folder: Path, *settings: str) -> Broker:
    needs("mosquitto_passwd")
    passwords = folder / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", str(passwords), "ann", PASSWORD]
    subprocess.run(command, check=True, capture_output=True)
    return Broker(folder, "allow_anonymous false", f"password_file {passwords}", *settings).start()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    broker = password_broker(tmp_path)
    yield broker
    broker.kill()


def test_password_is_used_and_shown_nowhere(
    guarded: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    address = f"mqtt://ann:${{SECRET}}@{HOST}:{guarded.port}/plant"
    queue = tmp_path / "q"
    monkeypatch.setenv("SECRET", WRONG)
    with sending(0, queue, address=address, log=lines.append) as sink:
        sink.notification(event(0))
        until(lambda: lines)
        assert sink.status is not None and sink.status.reason == "user or password refused"
        shown = [repr(sink.status), repr(sink), repr(vars(sink)), repr(vars(sink._transport))]
        assert lines == [f"mqtt://{HOST}:{guarded.port}/plant: user or password refused"]
    monkeypatch.setenv("SECRET", PASSWORD)
    with (
        subscribed(guarded.port, user=("ann", PASSWORD)) as subscriber,
        sending(0, queue, address=address, log=lines.append) as sink,
    ):
        until(lambda: subscriber.numbers == [0])
        transport = sink._transport
        assert isinstance(transport, MqttTransport)
        shown += [repr(sink.status), repr(vars(transport)), repr(transport._connection)]
    out, err = capfd.readouterr()
    for text in [*shown, *lines, caplog.text, out, err]:
        assert "horse" not in text


def test_anonymous_where_a_user_is_needed(guarded: Broker) -> None:
    transport = MqttTransport(Secret(f"mqtt://{HOST}:{guarded.port}"))
    with pytest.raises(Unavailable, match="user or password refused"):
        transport.connect("gadtest", 5)


def test_topics_that_are_forbidden(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(
        "user ann\ntopic write plant/status\ntopic write plant/line/event\ntopic read #\n"
    )
    broker = password_broker(tmp_path, f"acl_file {tmp_path / 'acl'}")
    try:
        user = f"ann:{PASSWORD.replace(':', '%3A').replace('@', '%40').replace('/', '%2F')}"
        transport = MqttTransport(Secret(f"mqtt://{user}@{HOST}:{broker.port}/plant"))
        transport.connect("gadtest", 5)
        transport.deliver(message(1), 5)
        with pytest.raises(Refused, match="not authorized"):
            transport.deliver(message(2, "fault"), 5)
        transport.deliver(message(3), 5)
        transport.close(5)
        other = MqttTransport(Secret(f"mqtt://{user}@{HOST}:{broker.port}/other"))
        with pytest.raises(Unavailable, match=r"no right to write to other/status|not authorized"):
            other.connect("gadtest", 5)
        other.close(1)
    finally:
        broker.kill()


def test_messages_that_are_too_large_are_refused(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "max_packet_size 1000").start()
    try:
        transport = MqttTransport(Secret(f"mqtt://{HOST}:{broker.port}"))
        transport.connect("gadtest", 5)
        with pytest.raises(Refused, match="larger than the 1000 bytes"):
            transport.deliver(message(1, size=1000), 5)
        transport.deliver(message(2, size=900), 5)
        transport.close(1)
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def encrypted(tmp_path: Path, papers: Path) -> Iterator[Broker]:
    broker = Broker(
        tmp_path,
        f"cafile {papers / 'ca.crt'}",
        f"certfile {papers / 'server.crt'}",
        f"keyfile {papers / 'server.key'}",
        "require_certificate true",
    ).start()
    yield broker
    broker.kill()


def test_certificates_on_both_sides(encrypted: Broker, papers: Path) -> None:
    transport = open_transport(
        f"mqtts://{HOST}:{encrypted.port}/plant",
        ca=papers / "ca.crt",
        certificate=papers / "client.crt",
        key=papers / "client.key",
    )
    transport.connect("gadtest", 5)
    for number in range(5):
        transport.deliver(message(number, size=40_000), 5)
    transport.check()
    transport.close(5)
    assert encrypted.log.count("Received PUBLISH from gadtest") == 7  # with online and offline


# The library leaves a socket open when the other side is not trusted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_broker_that_is_not_trusted(encrypted: Broker) -> None:
    transport = open_transport(f"mqtts://{HOST}:{encrypted.port}")
    with pytest.raises(Unavailable, match="its certificate is not trusted"):
        transport.connect("gadtest", 5)
    transport.close(1)


def test_client_that_is_not_trusted(encrypted: Broker, papers: Path) -> None:
    transport = open_transport(f"mqtts://{HOST}:{encrypted.port}", ca=papers / "ca.crt")
    with pytest.raises(Unavailable):
        transport.connect("gadtest", 5)
    transport.close(1)


def test_certificates_that_cannot_be_used(papers: Path, tmp_path: Path) -> None:
    address = f"mqtts://{HOST}:1"
    (tmp_path / "empty.crt").write_text("")
    for wrong in (tmp_path / "none.crt", tmp_path / "empty.crt"):
        with pytest.raises(UsageError, match="cannot be used for an encrypted"):
            open_transport(address, ca=wrong)
    with pytest.raises(UsageError, match="both"):
        open_transport(address, certificate=papers / "client.crt")
    with pytest.raises(UsageError, match="cannot be used"):
        open_transport(address, certificate=papers / "client.crt", key=papers / "server.key")
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "ec",
        "-in",
        str(papers / "client.key"),
        "-aes128",
        "-passout",
        "pass:abcd",
    ]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(UsageError, match="cannot be used"):  # and does not ask on the terminal
        open_transport(address, certificate=papers / "client.crt", key=locked)
    with pytest.raises(UsageError, match="mqtts://"):
        open_transport("mqtt://host", ca=papers / "ca.crt")


class OldBroker(threading.Thread):
    """Knows MQTT 3.1.1 only: answers or closes when another version is asked for."""

    def __init__(self, *, answers: bool) -> None:
        super().__init__(daemon=True)
        self.versions: list[int] = []
        self.topics: list[bytes] = []
        self._answers = answers
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                self._serve(connection, stream)

    def _serve(self, connection: socket.socket, stream: Any) -> None:
        while head := stream.read(1):
            length, shift = 0, 0
            while (byte := stream.read(1)[0]) & 0x80:
                length, shift = length | (byte & 0x7F) << shift, shift + 7
            body = stream.read(length | byte << shift)
            if head[0] >> 4 == 1:
                self.versions.append(body[6])
                if body[6] != 4:
                    if self._answers:
                        connection.sendall(b"\x20\x02\x00\x01")
                    return
                connection.sendall(b"\x20\x02\x00\x00")
            elif head[0] >> 4 == 3:
                end = 2 + int.from_bytes(body[:2], "big")
                self.topics.append(body[2:end])
                connection.sendall(b"\x40\x02" + body[end : end + 2])

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join()


@pytest.mark.parametrize("answers", [True, False])
def test_broker_of_the_older_protocol(answers: bool) -> None:
    broker = OldBroker(answers=answers)
    try:
        transport = MqttTransport(Secret(f"mqtt://{HOST}:{broker.port}/plant"))
        transport.connect("gadtest", 5)
        transport.deliver(message(1), 5)
        transport.close(5)
    finally:
        broker.stop()
    assert broker.versions == [5, 4]
    assert broker.topics == [b"plant/status", b"plant/line/event", b"plant/status"]


def test_server_that_is_no_broker() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = int(listener.getsockname()[1])

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        transport = MqttTransport(Secret(f"mqtt://{HOST}:{port}"))
        with pytest.raises(Unavailable):
            transport.connect("gadtest", 5)
        transport.close(1)
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, port)).close()
        thread.join()


def test_addresses_that_cannot_be() -> None:
    for wrong in (
        "mqtt://",
        "mqtt:///prefix",
        "mqtt://host:99999/x",
        "mqtt://host/a+b",
        "mqtt://h/a//b",
        "mqtt://h/a?b",
        "mqtt://h/a#b",
    ):
        with pytest.raises(UsageError) as caught:
            open_transport(wrong.replace("://", "://ann:hidden@"))
        assert "hidden" not in str(caught.value)
    assert open_transport("mqtt://ann:hidden@host").name == "mqtt://host:1883/gad"
    assert open_transport("mqtts://host/a/b/").name == "mqtts://host:8883/a/b"
    with pytest.raises(UsageError, match="not a token"):
        open_transport("mqtt://host", token="x")


def test_name_that_no_server_has() -> None:
    transport = MqttTransport(Secret("mqtt://no-such-host.invalid"))
    with pytest.raises(Unavailable, match=r"the name of the host is not known|no answer"):
        transport.connect("gadtest", 5)
    closed = MqttTransport(Secret(f"mqtt://{HOST}:{free_port()}"))
    with pytest.raises(Unavailable, match="connection refused"):
        closed.connect("gadtest", 5)
    with pytest.raises(Unavailable, match="not connected"):
        closed.deliver(Message("1", "event", "t", b""), 1)
