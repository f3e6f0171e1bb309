"""A producer's own process: answers, failures, hanging and dying, each ends in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from generalad.runtime.cameras.camera import CameraLost
from generalad.runtime.cameras.industrial import process_device
from generalad.runtime.cameras.industrial.process_device import ProcessDevice

SERVE = """
import os, pickle, sys, time
answers = os.fdopen(os.dup(1), "wb")
while True:
    try:
        name, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    if name == "start":
        os._exit(1)
    if name == "stop":
        time.sleep(60)
    answer = (False, "not\\nnow") if name == "check" else (True, (name, *arguments))
    pickle.dump(answer, answers)
    answers.flush()
"""

Start = Callable[[], ProcessDevice]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    program = tmp_path / "program.py"
    program.write_text(SERVE)
    monkeypatch.setattr(process_device, "PROGRAM", program)
    monkeypatch.setattr(process_device, "_CLOSING", 0.1)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(ProcessDevice("key", patience=0.5)))


def test_requests_are_answered_in_order(start: Start) -> None:
    device = start()
    answers: list[object] = [device.feature("Gain"), device.fetch(0.1)]
    assert answers == [("feature", "Gain"), ("fetch", 0.1)]
    with pytest.raises(CameraLost, match=r"^not now$"):
        device.check()
    assert device.names() == ("names",)


def test_a_process_that_dies_is_a_lost_camera(start: Start) -> None:
    device = start()
    with pytest.raises(CameraLost, match=r"^the producer's process has ended by itself$"):
        device.start()
    with pytest.raises(CameraLost):
        device.check()


def test_a_process_that_hangs_is_ended(start: Start) -> None:
    device = start()
    with pytest.raises(CameraLost, match=r"^the producer hangs; its process was ended$"):
        device.stop()
    assert device._process is not None and device._process.wait(10) != 0


def test_closing_ends_the_process_also_before_it_began(start: Start) -> None:
    start().close()
    device = start()
    device.names()
    device.close()
    assert device._process is not None and device._process.poll() == 0
