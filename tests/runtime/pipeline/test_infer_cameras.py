"""Runs with cameras: side by side, fairly, nothing lost, nothing invented, faults not scored."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_helpers import PATIENCE, Script, Step
from conftest import MakeImage, WriteImage, WriteVideo
from stream_helpers import BLACK, Gated, Looking, Recorder, camera, endless, parts, stream

from generalad.errors import StorageError, UsageError
from generalad.runtime import Interrupted, Result, infer
from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.cameras.open import open_live
from generalad.runtime.line.events import EventRule
from generalad.runtime.line.stream import Stream


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + PATIENCE
    while not set(threading.enumerate()) <= before:
        assert time.monotonic() < end, set(threading.enumerate()) - before
        time.sleep(0.01)


def all_of(name: str, pattern: str) -> Stream:
    """A watched camera whose frames all come through: each waits until the last was judged."""
    return stream(name, [*parts(pattern), None])


class Stepwise:
    """Cameras whose next frame comes when the last one has been judged, so that none is dropped."""

    def __init__(self) -> None:
        self.judged = threading.Semaphore(0)

    def script(self, pattern: str, end: Step = None) -> list[Step]:
        return [*parts(pattern), end]

    def camera(self, name: str, pattern: str) -> Stream:
        made, judged = Script(self.script(pattern)), self.judged

        def make() -> object:
            inner = made()
            read = inner.read

            def slowly() -> object:
                if len(inner._steps) <= len(pattern):  # after the first frame
                    assert judged.acquire(timeout=PATIENCE)
                return read()

            inner.read = slowly  # type: ignore[method-assign, assignment]
            return inner

        source = CameraSource(make, name=name)  # type: ignore[arg-type]
        return Stream(source, events=EventRule(), camera_faults=True, frozen_after=1e9)

    def done(self, result: Result) -> None:
        self.judged.release()


def run_stepwise(pattern: str) -> Recorder:
    steps = Stepwise()
    sink = Recorder(steps.done)
    infer(FakeSession(), [steps.camera("line", pattern)], sinks=[sink])
    return sink


def story(sink: Recorder) -> list[str]:
    """What happened, in order, without the camera's own states."""
    words = []
    for thing in sink.things:
        if isinstance(thing, Result):
            words.append("fault" if thing.fault else "anomalous" if thing.anomalous else "normal")
        elif thing.kind == "event":
            words.append(f"event {thing.data['phase']}")
        elif thing.kind == "fault":
            words.append(f"fault {thing.data['state']}")
    return words


def test_every_frame_of_a_camera_is_judged_in_order() -> None:
    sink = run_stepwise("gagga")
    assert [(r.index, r.anomalous) for r in sink.results] == [
        (0, False), (1, True), (2, False), (3, False), (4, True),
    ]  # fmt: skip
    assert sink.closed == [True]
    assert all(result.source == "line" and result.time > 1e9 for result in sink.results)


def test_events_begin_and_end_with_the_frames() -> None:
    assert story(run_stepwise("gaag")) == [
        "normal", "anomalous", "event begin", "anomalous", "normal", "event end",
    ]  # fmt: skip


def test_an_event_ends_with_the_camera() -> None:
    sink = run_stepwise("ga")
    ends = [n.data["ended_by"] for n in sink.notifications if n.kind == "event" and "end" in n.id]
    assert ends == ["camera ended"]
    kinds = [notification.kind for notification in sink.notifications]
    assert kinds[-2:] == ["event", "camera"], "the event ends before the camera is said to be gone"


def test_black_images_are_faults_and_not_anomalies() -> None:
    sink = run_stepwise("gakkkkgggggg")
    assert story(sink) == [
        "normal", "anomalous", "event begin",
        "fault refused", "fault", "fault refused", "fault",
        "event end", "fault raised", "fault", "fault",
        *["normal"] * 4, "fault cleared", "normal", "normal",
    ]  # fmt: skip
    faulty = [result for result in sink.results if result.fault]
    assert all(r.score is None and r.anomalous is None and r.error is None for r in faulty)
    assert all("black" in str(result.fault) for result in faulty)


def test_counts_add_up_at_every_moment() -> None:
    looking = Looking()

    def wait_for_a_look() -> None:
        seen, end = len(looking.views), time.monotonic() + PATIENCE
        while len(looking.views) < seen + 2:
            assert time.monotonic() < end
            time.sleep(0.001)

    streams = [stream(f"line-{n}", [*parts("gakg" * 60), None]) for n in range(3)]
    infer(Gated(wait_for_a_look), streams, observers=[looking])
    assert any(line.in_flight for view in looking.views for line in view.streams)
    for view in looking.views:
        for line in view.streams:
            dropped = sum(line.dropped.values())
            assert line.captured == line.processed + dropped + line.in_flight
    for line in looking.views[-1].streams:
        assert (line.captured, line.in_flight, line.state) == (240, 0, "ended")
        assert set(line.dropped) <= {"newer frame", "camera fault: black"}


def test_files_and_cameras_run_side_by_side(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    for number in range(5):
        write_image(tmp_path / f"{number}.png", make_image(60 + number))
    sink = Recorder()
    looking = Looking()
    summary = infer(
        FakeSession(), [str(tmp_path), all_of("line", "g")], sinks=[sink], observers=[looking]
    )
    assert [Path(r.path).name for r in sink.of(str(tmp_path))] == [f"{n}.png" for n in range(5)]
    assert len(sink.of("line")) == 1
    assert summary.frames == summary.processed == 6
    assert [(s.live, s.state) for s in looking.views[-1].streams] == [
        (False, "ended"), (True, "ended"),
    ]  # fmt: skip


def test_a_hanging_camera_holds_nobody_up() -> None:
    hang = threading.Event()
    sink, stop = Recorder(), threading.Event()
    hanging = CameraSource(Script([hang, None]), name="hangs", stall_after=1.0)

    def at(result: Result) -> None:
        if result.source == "works":
            stop.set()

    sink = Recorder(at)
    infer(FakeSession(), [hanging, endless("works")], sinks=[sink], stop=stop)
    assert sink.of("works") and not sink.of("hangs")
    hang.set()


def test_busy_cameras_get_the_same_share() -> None:
    stop = threading.Event()
    names = [f"line-{n}" for n in range(4)]
    awaited = set(names)  # those that are opened first have a start

    def at(result: Result) -> None:
        awaited.discard(result.source)
        if not awaited:
            since.append(result.source)
        if len(since) == 80:
            stop.set()

    since: list[str] = []
    sink = Recorder(at)
    session = Gated(lambda: time.sleep(0.002))
    infer(session, [endless(name) for name in names], sinks=[sink], stop=stop)
    shares = [since[:80].count(name) for name in names]
    # Each a quarter, where the processor lets each camera's thread run in time.
    assert max(shares) <= 2 * min(shares), shares


def test_cameras_share_batches() -> None:
    stop = threading.Event()
    sink = Recorder(lambda result: stop.set() if len(sink.results) >= 60 else None)
    session = Gated(lambda: time.sleep(0.005))
    streams = [endless(f"line-{n}") for n in range(4)]
    infer(session, streams, sinks=[sink], batch_size=4, max_wait=0.05, stop=stop)
    assert max(session.sizes) == 4
    assert all(r.milliseconds.total < 1000 * PATIENCE for r in sink.results)


def test_a_lone_frame_does_not_wait_for_a_full_batch() -> None:
    session = Gated()
    infer(session, [all_of("line", "g")], batch_size=8, max_wait=0.01)
    assert session.sizes == [1]


def test_stopping_finishes_what_was_read() -> None:
    stop, sink = threading.Event(), Recorder(lambda result: stop.set())
    looking = Looking()
    summary = infer(
        FakeSession(), [endless("line")], sinks=[sink], stop=stop,
        observers=[looking],
    )  # fmt: skip
    (line,) = looking.views[-1].streams
    assert line.in_flight == 0 and line.processed == len(sink.results) == summary.processed
    assert sink.notifications[-1].data == {"state": "ended", "reason": "closed"}
    assert sink.closed == [True]


@pytest.mark.usefixtures("signals")
def test_sigterm_finishes_like_ctrl_c() -> None:
    def at(result: Result) -> None:
        if not sink.results:
            os.kill(os.getpid(), signal.SIGTERM)

    sink = Recorder(at)
    with pytest.raises(Interrupted) as caught:
        infer(FakeSession(), [endless("line")], sinks=[sink])
    assert caught.value.signal_number == signal.SIGTERM
    assert sink.closed == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Moody(Recorder):
    """A sink whose disk is full for the results of some frames."""

    def __init__(self, full: range) -> None:
        super().__init__()
        self._full = full

    def write(self, frame: object, result: Result, anomaly_map: object) -> None:
        if result.index in self._full:
            raise StorageError("the disk is full", remedy="free some space")
        self.things.append(result)


def test_a_run_with_cameras_survives_a_failing_sink() -> None:
    steps, problems = Stepwise(), list[str]()
    moody, looking = Moody(range(3)), Looking()
    infer(
        FakeSession(),
        [steps.camera("line", "ggggg")],
        sinks=[moody, Recorder(steps.done)],
        on_problem=problems.append,
        observers=[looking],
    )
    assert [result.index for result in moody.results] == [3, 4]
    assert len(problems) == 2, "said once, and once that it is over"
    assert "disk is full" in problems[0] and "results are written again; 3 were not" in problems[1]
    assert looking.views[-1].not_written == {"Moody": 3}


def test_two_cameras_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two streams are called 'line'"):
        infer(FakeSession(), [camera("line"), camera("line")])


def test_a_camera_that_cannot_work_is_given_up() -> None:
    broken = CameraSource(Script([UsageError("no such format")]), name="broken")
    summary = infer(FakeSession(), [broken, all_of("works", "g")])
    assert summary.given_up == ("broken",)
    assert summary.processed == 1


def test_a_video_in_real_time_drops_what_is_late(
    tmp_path: Path, make_image: MakeImage, write_video: WriteVideo
) -> None:
    path = write_video(tmp_path / "clip.avi", [make_image(40 + n) for n in range(10)])
    looking = Looking()
    began = time.monotonic()
    infer(Gated(lambda: time.sleep(0.25)), [open_live(str(path))], observers=[looking])
    (line,) = looking.views[-1].streams
    assert time.monotonic() - began >= 0.9, "ten frames at ten a second"
    assert line.captured == 10 and line.state == "ended"
    assert line.dropped["newer frame"] >= 3


def test_a_watched_folder_is_remembered(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    folder, state = tmp_path / "in", tmp_path / "state"
    write_image(folder / "a.png", make_image(50))
    seen = []
    for _ in range(2):
        stop = threading.Event()
        sink = Recorder(lambda result, stop=stop: stop.set())  # type: ignore[misc]
        infer(FakeSession(), [open_live(f"watch:{folder}", state=state)], sinks=[sink], stop=stop)
        seen.append([Path(result.path).name for result in sink.results])
        write_image(folder / "b.png", make_image(51))
    assert seen == [["a.png"], ["b.png"]]


def test_a_watched_folder_goes_on_where_nothing_can_be_remembered(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    folder, state = tmp_path / "in", tmp_path / "state"
    state.write_text("a file where a folder should be")
    for number in range(3):
        write_image(folder / f"{number}.png", make_image(50 + number))
    stop, problems = threading.Event(), list[str]()
    sink = Recorder(lambda result: stop.set() if result.index == 2 else None)
    source = open_live(f"watch:{folder}", state=state)
    infer(FakeSession(), [source], sinks=[sink], stop=stop, on_problem=problems.append)
    assert len(sink.results) == 3
    assert len(problems) == 1 and "the run goes on without it" in problems[0]


def test_a_black_camera_at_the_start_is_a_fault() -> None:
    sink = Recorder()
    infer(FakeSession(), [stream("line", [None, BLACK, None])], sinks=[sink])
    assert [bool(result.fault) for result in sink.results] == [True]


def test_stopping_in_an_event_says_so() -> None:
    def at(result: Result) -> None:
        if result.index >= 1:
            stop.set()

    stop, hang, sink = threading.Event(), threading.Event(), Recorder(at)
    line = Stream(camera("line", [*parts("a" * 200), hang, None]), events=EventRule())
    infer(FakeSession(), [line], sinks=[sink], stop=stop)
    hang.set()
    (end,) = [n.data for n in sink.notifications if n.data.get("phase") == "end"]
    assert end["ended_by"] == "shut down"


def test_what_is_not_inspected_can_be_rejected() -> None:
    steps = Stepwise()
    sink = Recorder(steps.done)
    line = dataclasses.replace(steps.camera("line", "gkgag"), refused="reject")
    summary = infer(FakeSession(), [line], sinks=[sink])
    assert [(r.anomalous, r.score is None) for r in sink.results] == [
        (False, False), (True, True), (False, False), (True, False), (False, False),
    ]  # fmt: skip
    assert (summary.processed, summary.faulty) == (4, 1)
    assert [n.data["state"] for n in sink.notifications if n.kind == "fault"] == ["refused"]
