"""Progress in a log: lines now and then, by a clock that the tests move."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.cli.console import SILENCE, ProgressLines, console, progress


class Log:
    """Collects lines; `now` is its clock, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[str] = []
        self.times: list[float] = []
        self.report = ProgressLines(self._say, lambda: self.now)

    def _say(self, line: str) -> None:
        self.lines.append(line)
        self.times.append(self.now)

    def after(self, seconds: float, stage: str, done: int, total: int) -> None:
        self.now += seconds
        self.report(stage, done, total)


def test_a_stage_that_goes_on_says_how_far_it_is_and_how_long_it_will_take() -> None:
    log = Log()
    for epoch in range(1, 29):
        log.after(3.0, "training", epoch, 28)
    assert log.lines[0] == "training: 4 of 28, 72 s left"
    assert log.lines[-1] == "training: 28 in 84.0 s"
    assert len(log.lines) == 7


def test_the_time_left_is_by_what_was_done_in_this_run() -> None:
    log = Log()
    log.after(1.0, "training", 21, 28)  # went on with an earlier run
    log.after(10.0, "training", 22, 28)
    assert log.lines == ["training: 22 of 28, 60 s left"]


def test_the_time_left_is_by_the_pace_of_late() -> None:
    log = Log()
    log.after(1.0, "training", 1, 16)
    log.after(43.0, "training", 2, 16)  # slow, as first epochs may be
    for epoch in range(3, 17):
        log.after(2.0, "training", epoch, 16)
    assert log.lines == [
        "training: 2 of 16, 10 min left",
        "training: 7 of 16, 18 s left",
        "training: 12 of 16, 8 s left",
        "training: 16 in 72.0 s",
    ]


def test_a_stage_that_becomes_slow_says_so() -> None:
    log = Log()
    for done in range(0, 1000, 10):
        log.after(1.0, "images", done, 2000)
    for done in range(1000, 1010):
        log.after(20.0, "images", done, 2000)
    assert log.lines[9] == "images: 990 of 2000, 2 min left"
    assert log.lines[-1] == "images: 1009 of 2000, 5.5 h left"


@pytest.mark.parametrize(("step", "left"), [(10.0, "90 s"), (30.0, "4 min"), (1e4, "25.0 h")])
def test_the_unit_of_the_time_left_suits_it(step: float, left: str) -> None:
    log = Log()
    log.after(0.0, "features", 0, 10)
    log.after(step, "features", 1, 10)
    assert log.lines == [f"features: 1 of 10, {left} left"]


def test_nothing_is_promised_before_anything_is_done() -> None:
    log = Log()
    log.after(60.0, "ONNX graph", 0, 1)
    log.after(2.0, "ONNX graph", 1, 1)
    assert log.lines == ["ONNX graph: 0 of 1", "ONNX graph: 62.0 s"]


def test_an_unknown_total_is_not_invented() -> None:
    log = Log()
    log.after(5.0, "images", 1, 0)
    log.after(5.0, "images", 90, 0)
    assert log.lines == ["images: 90 so far"]


def test_a_stage_that_comes_again_is_counted_anew() -> None:
    log = Log()
    log.after(2.0, "check", 5, 5)
    log.after(4.0, "check", 5, 5)
    assert log.lines == ["check: 5 in 2.0 s", "check: 5 in 4.0 s"]


@given(
    st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_a_log_is_neither_flooded_nor_silent(steps: list[float], unknown: int) -> None:
    """While a stage goes on, lines are at least SILENCE apart, and news waits no longer."""
    log, total = Log(), 0 if unknown == 0 else len(steps) + 1
    for done, step in enumerate(steps, 1):
        log.after(step, "training", done, total)
        since = log.now - (log.times[-1] if log.times else 100.0)
        assert since < SILENCE
    times = [100.0, *log.times]
    assert all(later - earlier >= SILENCE for earlier, later in itertools.pairwise(times))


def test_lines_go_to_stderr_without_loading_a_display() -> None:
    code = (
        "import sys; from generalad.cli.console import ProgressLines;"
        "ProgressLines()('check', 2, 2); assert 'rich' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "check: 2 in 0.0 s\n")


def test_without_a_terminal_progress_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(console()) as report:
        report("check", 1, 3)
        report("check", 3, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("check: 3 in ") and captured.err.count("\n") == 1
