"""The sink: which kinds it sends, what is in them, and what a killed process leaves to the next."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from delivery_helpers import HOST, QUICK, Broker, FakeTransport, subscribed, until
from ports import free_port

from generalad.decision import Milliseconds, Result
from generalad.errors import StorageError, UsageError
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.delivery.message import IMPORTANCE, Message
from generalad.runtime.delivery.sink import NetworkSink, open_transport
from generalad.runtime.line.events import EventTracker
from generalad.runtime.notification import (
    Notification,
    NotificationKind,
    TakesNotifications,
)
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import Frame

CAMERA = "rtsp://ann:hidden@camera/1"
RESULT = Result(CAMERA, 3, 1.5, CAMERA, 0.5, 0.4, False, (), Milliseconds(1, 2, 3, 4))
FRAME = Frame(source=CAMERA, index=3, time=1.5, path=CAMERA, name="3", image=None)


class Keeping(FakeTransport):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def deliver(self, message: Message, timeout: float) -> None:
        super().deliver(message, timeout)
        self.messages.append(message)


@contextlib.contextmanager
def opened(queue: Path, **settings: Any) -> Iterator[tuple[NetworkSink, Keeping]]:
    transport = Keeping()
    sink = NetworkSink(transport, queue=queue, backoff=QUICK, **settings)
    sink.open([], fake_spec())
    try:
        yield sink, transport
    finally:
        sink.close(complete=True)


def test_is_a_sink_that_takes_notifications(tmp_path: Path) -> None:
    sink = NetworkSink(FakeTransport(), queue=tmp_path / "q")
    as_sink: Sink = sink
    assert isinstance(as_sink, TakesNotifications) and not sink.needs_image and sink.status is None
    sink.close(complete=False)  # never opened


@pytest.mark.parametrize("send", [("event",), ("camera", "fault"), ("result",), tuple(IMPORTANCE)])
def test_sends_the_kinds_that_are_asked_for(tmp_path: Path, send: Any) -> None:
    with opened(tmp_path / "q", send=send) as (sink, transport):
        for kind in get_args(NotificationKind):
            sink.notification(Notification(kind, "line 1", 2.0, {"what": "größe"}, id=kind))
        sink.write(FRAME, RESULT, None)
    assert {message.kind for message in transport.messages} == set(send)
    for message in transport.messages:
        content = json.loads(message.payload)
        assert message.topic.endswith(f"/{message.kind}") and content["id"] == message.id
        if message.kind != "result":
            assert content["notice"] == message.kind and content["what"] == "größe"
            assert message.topic == f"line 1/{message.kind}"
        else:
            assert content["score"] == 0.5 and content["index"] == 3
            assert "hidden" not in message.topic and b"hidden" not in message.payload


def test_default_is_everything_but_results(tmp_path: Path) -> None:
    with opened(tmp_path / "q") as (sink, transport):
        sink.write(FRAME, RESULT, None)
        sink.notification(Notification("drift", "line", 2.0, {}))
    assert [message.kind for message in transport.messages] == ["drift"]


def test_wrong_kinds_and_addresses(tmp_path: Path) -> None:
    for wrong in (["events"], []):
        with pytest.raises(UsageError, match="cannot send"):
            NetworkSink(FakeTransport(), queue=tmp_path / "q", send=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not an address") as caught:
        open_transport("smtp://ann:hidden@host")
    assert "hidden" not in str(caught.value)


def test_what_is_not_json_stops_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "q") as (sink, transport):
        sink.notification(Notification("event", "line", 2.0, {"score": float("nan")}))
        sink.notification(Notification("event", "line", 2.0, {"object": object()}))
        sink.notification(Notification("event", "line", 2.0, {}, id="good"))
        until(lambda: transport.delivered == ["good"])
        assert sink.status is not None and sink.status.dropped == {"not JSON": 2}


def test_unusable_queue_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = NetworkSink(FakeTransport(), queue=tmp_path / "file" / "q")
    with pytest.raises(StorageError):
        sink.open([], fake_spec())
    with opened(tmp_path / "q"), pytest.raises(UsageError, match="in use"), opened(tmp_path / "q"):
        pass


def test_wrong_rate_lets_go_of_the_queue(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a minute"), opened(tmp_path / "q", per_minute=0):
        pass
    with opened(tmp_path / "q"):
        pass


CHILD = """
import itertools, sys
from pathlib import Path
from generalad.runtime.delivery.sink import NetworkSink, open_transport
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.notification import Notification
address, queue = sys.argv[1:]
sink = NetworkSink(open_transport(address), queue=Path(queue))
sink.open([], fake_spec())
for number in itertools.count():
    sink.notification(Notification("event", "line", 1.0, {"number": number}))
    print(number, flush=True)
"""


def test_killed_process_leaves_its_events_to_the_next(tmp_path: Path) -> None:
    """Killed at any moment, with the broker away: every event that was promised is delivered."""
    broker = Broker(tmp_path)
    address, queue = f"mqtt://{HOST}:{broker.port}/plant", tmp_path / "q"
    command = [sys.executable, "-c", CHILD, address, str(queue)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(100):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        promised = 100 + len(child.stdout.read().splitlines())
    broker.start()
    try:
        with subscribed(broker.port) as subscriber:
            sink = NetworkSink(open_transport(address), queue=queue, backoff=QUICK)
            sink.open([], fake_spec())
            until(lambda: sink.status is not None and sink.status.waiting == 0)
            until(lambda: len(subscriber.numbers) >= promised)
            sink.close(complete=True)
            # The last one may have been written, but not printed.
            assert subscriber.numbers in ([*range(promised)], [*range(promised + 1)])
    finally:
        broker.kill()


def test_an_event_that_a_kill_cut_off_is_ended_by_the_next_process(tmp_path: Path) -> None:
    queue = tmp_path / "q"
    tracker = EventTracker("line")
    frame = dataclasses.replace(FRAME, image=np.zeros((4, 6, 3), np.uint8))
    anomalous = dataclasses.replace(RESULT, score=3.0, normalised=0.9, anomalous=True)
    (begin,) = tracker.add(frame, anomalous, np.zeros((2, 3), np.float32))
    with opened(queue) as (sink, transport):
        sink.notification(begin)
        until(lambda: transport.delivered == [begin.id])
        copy = tmp_path / "as-killed"  # what lies on the disk at this moment
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{queue}{suffix}", f"{copy}{suffix}")
        (end,) = tracker.close("camera lost")
        sink.notification(end)
    with opened(copy) as (_, transport):
        until(lambda: end.id in transport.delivered)
    told = json.loads(transport.messages[-1].payload)
    assert (told["id"], told["event"], told["phase"]) == (end.id, end.data["event"], "end")
    assert told["ended_by"] == "gad was killed" and told["begin"] <= told["end"]
    with opened(queue) as (_, transport):
        pass
    assert not transport.messages, "this one was ended by its own process"


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, generalad.runtime.delivery.sink\n"
        "heavy = {'paho', 'ssl', 'http.client', 'torch', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import generalad.runtime.delivery.mqtt, generalad.runtime.delivery.webhook\n"
        "assert 'paho' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_library_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'generalad\[streams\]'"):
        open_transport(f"mqtt://{HOST}:{free_port()}")


def test_trouble_with_the_queue_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, lines = tmp_path / "q", list[str]()
    queue.write_bytes(b"no database at all" * 100)
    with opened(queue, log=lines.append) as (sink, transport):
        until(lambda: any("a damaged queue was moved to" in line for line in lines))
        with monkeypatch.context() as patch:
            patch.setattr("generalad.runtime.delivery.store.Store.write", _full)
            sink.notification(Notification("event", "line", 1.0, {}, id="a"))  # goes on from memory
            until(lambda: transport.delivered == ["a"])
            until(lambda: any("the disk is full" in line for line in lines))
            assert sink.status is not None and "the disk is full" in sink.status.problem
        until(lambda: any("can be written again" in line for line in lines))
        assert sink.status.problem == "" and sink.status.delivered == 1


def _full(store: object, **values: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")
