"""Triggers beside cameras and PLCs: HTTP, MQTT, a photo-eye."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from delivery_helpers import Broker, until
from ports import free_port

from generalad.areas import Areas
from generalad.errors import UsageError
from generalad.runtime.secrets import Secret
from generalad.runtime.sources import Frame
from generalad.runtime.station.triggers import http_trigger
from generalad.runtime.station.triggers.http_trigger import HttpTrigger
from generalad.runtime.station.triggers.mqtt_trigger import MqttTrigger
from generalad.runtime.station.triggers.photo_eye import PhotoEye
from generalad.runtime.station.verdict import Verdict

AREA = Areas(inspect=(((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)),))


def frame(number: int, *, part: float = 0.0, light: int = 0) -> Frame:
    """A belt with noise; `part` is the share of the area that a part covers."""
    rng = np.random.default_rng(number)
    image = (80 + light + rng.integers(0, 8, (64, 96, 3))).astype(np.uint8)
    image[16:48, 24 : 24 + round(48 * part)] = 220
    return Frame("top", number, 0.0, "", "", image, captured_at=number / 10)


def triggers(eye: PhotoEye, frames: Iterator[Frame] | list[Frame]) -> list[int]:
    return [found.index for found in frames if eye(found)]


def test_one_trigger_a_part_however_long_it_stays() -> None:
    eye = PhotoEye(AREA)
    belt = [frame(number) for number in range(30)]
    coming = [0.2, 0.28, 0.32, 0.29, 0.31, 1.0, 1.0, 0.25, 0.31, 0.15, 0.05, 0.0]
    passing = [frame(30 + n, part=part) for n, part in enumerate(coming)]
    second = [frame(42 + n, part=part) for n, part in enumerate([0.5, 0.5, 0.0])]
    assert triggers(eye, belt + passing + second) == [32, 42]


def test_it_follows_the_light_and_not_a_part() -> None:
    eye = PhotoEye(AREA)
    frames = [frame(n, light=min(60, n // 10)) for n in range(1000)]
    assert triggers(eye, frames) == []
    assert triggers(eye, [frame(1001, part=1.0, light=60)]) == [1001]


def test_the_empty_area_is_learned_though_parts_pass() -> None:
    eye = PhotoEye(AREA)
    frames = [frame(n, part=1.0 if n % 5 < 2 else 0.0) for n in range(60)]
    assert triggers(eye, frames) == [25, 30, 35, 40, 45, 50, 55]


def test_a_sudden_light_is_one_false_part_and_is_said() -> None:
    said: list[str] = []
    eye = PhotoEye(AREA, longest=2.0, log=said.append)
    frames = [frame(n) for n in range(30)] + [frame(30 + n, light=90) for n in range(60)]
    assert triggers(eye, frames) == [30]
    assert len(said) == 1 and "learned anew" in said[0]
    assert triggers(eye, [frame(91, light=90), frame(92, part=1.0, light=30)]) == [92]


@pytest.mark.parametrize(("enter", "leave"), [(0.1, 0.3), (1.5, 0.1), (0.3, -0.1), (0.3, 0.3)])
def test_levels_that_cannot_be(enter: float, leave: float) -> None:
    with pytest.raises(UsageError, match="leave < enter"):
        PhotoEye(AREA, enter=enter, leave=leave)


class Served:
    """A trigger over HTTP that rejects every part."""

    def __init__(self, token: str | None = None, answer: str | None = None) -> None:
        self.parts: list[str | None] = []
        self._answer = answer
        self.trigger = HttpTrigger("0", token=None if token is None else Secret(token))
        self.trigger.start(self._inspect)

    def _inspect(self, part: str | None) -> Verdict | str:
        self.parts.append(part)
        if self._answer is not None:
            return self._answer
        return Verdict(len(self.parts), part, "reject", None, "", "reject", 0.9, 1.0, 1.1, "w")

    def post(
        self,
        body: bytes = b"",
        path: str = "/trigger",
        token: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict]:  # type: ignore[type-arg]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.trigger.port}{path}",
            data=body,
            headers=headers or {},
            method="POST",
        )
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.trigger.close()


def test_a_post_is_answered_with_the_verdict(served: Served) -> None:
    code, found = served.post(b'{"part": "A-1"}')
    assert code == 200 and (found["verdict"], found["part"], found["outcome"]) == (
        1,
        "A-1",
        "reject",
    )
    assert served.post()[1]["part"] is None
    assert served.parts == ["A-1", None]


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b'{"part": 3}', b"[1]", b'{"part": "' + b"x" * 300 + b'"}', b"x" * 5000),
        *(b"[" * 4000, b'{"part": "\\ud800"}', b'{"part": "A\xff"}'),
    ],
)
def test_what_is_no_trigger_begins_no_part(served: Served, body: bytes) -> None:
    code, found = served.post(body)
    assert code == 400 and "expected" in found["error"]
    assert served.parts == []


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nA-12\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n  POST /trigger HTTP/1.1\r\n\r\n",
        b"Content-Length: \xb2\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 20\r\n\r\n",  # and nothing of it
    ],
    ids=["chunked", "two lengths", "superscript", "negative", "cut off"],
)
def test_a_body_whose_length_is_not_known_begins_no_part(served: Served, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.trigger.port), timeout=10) as client:
        client.sendall(b"POST /trigger HTTP/1.1\r\n" + head)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1
    assert served.parts == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "elsewhere.example"}, 403),
        ({"Host": "elsewhere.example:9200", "Origin": "http://elsewhere.example:9200"}, 403),
        ({"Host": "localhost:9200", "Origin": "http://localhost:9200"}, 200),
        ({"Host": "[::1]:9200"}, 200),
    ],
)
def test_a_page_in_a_browser_begins_no_part(
    served: Served, headers: dict[str, str], code: int
) -> None:
    assert served.post(headers=headers)[0] == code
    assert len(served.parts) == (code == 200)


def test_a_body_that_nobody_reads_is_no_trigger(served: Served) -> None:
    hidden = b"POST /trigger HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /other HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    with socket.create_connection(("127.0.0.1", served.trigger.port), timeout=10) as client:
        client.sendall(head + hidden)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404 ") and answer.count(b"HTTP/1.1") == 1
    assert served.parts == []


def test_a_client_that_sends_byte_by_byte_is_hung_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_trigger._Handler, "timeout", 0.3)
    with socket.create_connection(("127.0.0.1", served.trigger.port), timeout=10) as client:
        client.sendall(b"POST /trigger HTTP/1.1\r\nX: ")
        with pytest.raises(OSError):
            for _ in range(200):
                client.sendall(b"y")
                time.sleep(0.02)
    assert served.post()[0] == 200
    assert served.parts == [None]


def test_another_path_and_a_wrong_token() -> None:
    server = Served(token="s3cret")
    assert server.post(path="/metrics")[0] == 404
    assert server.post(token="other")[0] == 401
    assert server.post()[0] == 401
    assert server.parts == []
    assert server.post(token="s3cret")[0] == 200
    server.trigger.close()


def test_a_station_that_is_not_ready_says_so() -> None:
    server = Served(answer="not ready")
    assert server.post() == (503, {"error": "not ready"})
    server.trigger.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /trigger HTTP/1.1\r\nContent-Length: 50\r\n\r\n{",
        b"POST /trigger HTTP/1.1\r\nContent-Le",
        b"POST /trigger HTTP/1.1\r\n",
        b"POST /trigger HTTP/1.1",
    ],
)
def test_a_client_that_goes_away_begins_no_part(served: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.trigger.port), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert served.parts == []
    assert served.post()[0] == 200


def test_a_port_that_is_taken(served: Served) -> None:
    with pytest.raises(UsageError, match="cannot be served"):
        HttpTrigger(str(served.trigger.port))
    with pytest.raises(UsageError, match="PORT"):
        HttpTrigger("localhost")


def test_messages_begin_parts_and_kept_ones_do_not(tmp_path: Path) -> None:
    from paho.mqtt import publish

    with contextlib.ExitStack() as stack:
        broker = Broker(tmp_path).start()
        stack.callback(broker.kill)
        publish.single("press/trigger", b"old", retain=True, port=broker.port, hostname="127.0.0.1")
        said: list[str] = []
        parts: list[str | None] = []
        came = threading.Event()

        def trigger(part: str | None) -> None:
            parts.append(part)
            if part == "last":
                came.set()

        listening = MqttTrigger(
            Secret(f"mqtt://127.0.0.1:{broker.port}/press/trigger"), log=said.append
        )
        assert listening.problem
        listening.start(trigger)
        until(lambda: not listening.problem)
        for body in (b"", b'{"part": "A-1"}', b"{", b'{"part": "last"}'):
            publish.single("press/trigger", body, qos=2, port=broker.port, hostname="127.0.0.1")
        assert came.wait(10)
        listening.close()
    assert parts == [None, "A-1", "last"]
    assert any("no trigger" in line for line in said)


@pytest.mark.parametrize(
    "address", ["mqtt://host", "mqtt:///topic", "http://host/a", "mqtt://h/a/#"]
)
def test_addresses_of_topics(address: str) -> None:
    pytest.importorskip("paho")
    with pytest.raises(UsageError, match=r"topic|host or port"):
        MqttTrigger(Secret(address))


def test_a_broker_that_is_away_is_a_problem_and_no_end() -> None:
    pytest.importorskip("paho")
    listening = MqttTrigger(Secret(f"mqtt://127.0.0.1:{free_port()}/press/trigger"))
    listening.start(lambda part: None)
    assert listening.problem
    listening.close()
