"""The reader against cameras that follow a script, on a clock that is set by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from camera_helpers import (
    FakeClock,
    Script,
    Step,
    balanced,
    image,
    make_reader,
    states,
    until,
)

from generalad.errors import UsageError
from generalad.runtime.cameras import Backoff, Change, DamagedFrame, Reader, State
from generalad.runtime.sources import Frame

CONNECTING, LIVE, STALLED = State.CONNECTING, State.LIVE, State.STALLED
RECONNECTING, FAILED, ENDED = State.RECONNECTING, State.FAILED, State.ENDED


def value_of(frame: Frame) -> int:
    """What `image` was given."""
    assert frame.image is not None
    return int(frame.image[0, 0, 0])


def wait_for(reader: Reader, captured: int) -> None:
    until(lambda: reader.status.captured == captured)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gad-")])


def test_frames_until_the_end(clock: FakeClock) -> None:
    script = Script([None, image(1), image(2), image(3), None], waits=True)
    with make_reader(script, clock, name="dock 1") as reader:
        frames = []
        for frame in reader.frames():
            frames.append(frame)
            assert reader.done(frame) and not reader.done(frame)
            script.go_on()
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.name for frame in frames] == [f"00000000{n}.jpg" for n in range(3)]
    assert [value_of(frame) for frame in frames] == [1, 2, 3]
    assert {(frame.source, frame.path, frame.error) for frame in frames} == {("dock 1", "", None)}
    assert reader.status.attempts == 1 and reader.status.dropped == {}
    assert reader.finished and states(reader) == [CONNECTING, LIVE, ENDED]
    status = reader.status
    assert (status.captured, status.processed, status.in_flight) == (3, 3, 0)
    assert status.reason == "the source came to its end" and script.made[0].closed == 1


def test_hang_in_read(clock: FakeClock) -> None:
    hang = threading.Event()
    script = Script([None, image(1), hang, image(2)], [None, image(3)])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.captured == 1)
        began = clock.now()
        assert reader.status.state is LIVE
        until(lambda: reader.status.state is STALLED, clock)
        assert reader.status.reason == "no frame for 5 s"
        assert 5 <= reader.status.since - began < 6
        assert len(reader.stuck) == 1 and "gad-camera" in reader.stuck[0]
        until(lambda: reader.status.state is LIVE, clock)
        assert reader.status.reconnects == 1 and reader.status.attempts == 2
        frame = reader.next()
        assert frame is not None and value_of(frame) == 3, "that of the second camera"
        reader.done(frame)

        hang.set()  # the first camera comes back with a frame that is too late
        until(lambda: not reader.stuck)
        assert script.made[0].closed == 1
        assert reader.next(timeout=0) is None
        assert reader.status.dropped == {"newer frame": 1, "late": 1} and balanced(reader)
        script.release()
    assert states(reader) == [CONNECTING, LIVE, STALLED, RECONNECTING, LIVE, ENDED]


def test_hang_in_open(clock: FakeClock) -> None:
    hang = threading.Event()
    script = Script([hang, None, image(1)], [None, image(2)])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.state is STALLED, clock)
        assert reader.status.reason == "opening takes 7 s"
        until(lambda: reader.status.state is LIVE, clock)
        hang.set()
        until(lambda: not reader.stuck)
        assert script.made[0].closed == 1 and reader.status.captured == 1
        assert reader.status.reconnects == 0, "it was never live before"
        script.release()


def test_exception_in_read(clock: FakeClock) -> None:
    script = Script([None, image(1), OSError("cable\n  pulled")], [None, image(2)])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.state is RECONNECTING)
        assert reader.status.reason == "cable pulled" and script.made[0].closed == 1
        until(lambda: len(script.made) == 2, clock)
        until(lambda: reader.status.state is LIVE)
        script.release()


def test_refused_at_the_start(clock: FakeClock) -> None:
    """Down at the start is the same as down later."""
    refused = [ConnectionRefusedError("refused")]
    script = Script(refused, refused, refused, [None, image(1)])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.state is LIVE, clock)
        assert len(script.made) == 4 and all(camera.closed for camera in script.made[:3])
        assert states(reader) == [CONNECTING, RECONNECTING, LIVE]
        assert len(reader.changes) == 3, "the same reason again is no change"
        script.release()


def test_waiting_times_grow_and_start_anew_after_a_good_period(clock: FakeClock) -> None:
    opened: list[float] = []
    script = Script([ConnectionError("down")])

    def make() -> object:
        opened.append(clock.now())
        return script()

    with make_reader(make, clock) as reader:
        until(lambda: len(opened) == 6, clock)
    waits = np.diff(opened)
    assert np.all(waits >= [1, 2, 4, 8, 8]) and np.all(waits < np.array([1, 2, 4, 8, 8]) + 0.5)

    opened.clear()
    short = [None, image(1), ConnectionError("down")]
    good = threading.Event()
    script = Script(short, short, short, [None, image(1), good, image(2), OSError()], short)
    with make_reader(make, clock, stall_after=100.0) as reader:
        until(lambda: len(opened) == 4, clock)
        assert np.all(np.diff(opened) >= [1, 2, 4]), "a first frame alone does not make it good"
        until(lambda: reader.status.captured == 4)
        clock.advance(10)
        good.set()
        until(lambda: reader.status.captured == 5 and reader.status.state is RECONNECTING)
        lost = clock.now()
        until(lambda: len(opened) == 5, clock)
        assert 1 <= opened[4] - lost < 1.5


def test_chance_shortens_the_waiting_time(clock: FakeClock) -> None:
    opened: list[float] = []
    script = Script([ConnectionError("down")])

    def make() -> object:
        opened.append(clock.now())
        return script()

    backoff = Backoff(first=10.0, cap=80.0, jitter=0.5)
    with make_reader(make, clock, backoff=backoff, random=lambda: 1.0):
        until(lambda: len(opened) == 3, clock, step=0.1)
    waits = np.diff(opened)
    assert np.all(waits >= [5, 10]) and np.all(waits < np.array([5, 10]) + 1)


def test_only_so_many_may_hang(clock: FakeClock) -> None:
    hangs = [threading.Event() for _ in range(3)]
    scripts: list[list[Step]] = [[hang, ConnectionError("back")] for hang in hangs]
    script = Script(*scripts, [None, image(1)])
    with make_reader(script, clock, max_stuck=2) as reader:
        until(lambda: reader.status.reason == "2 attempts hang in the driver", clock)
        clock.advance(1000)
        assert reader.status.state is STALLED and len(script.made) == 2
        hangs[0].set()
        until(lambda: len(script.made) == 3)
        for hang in hangs:
            hang.set()
        until(lambda: reader.status.state is LIVE, clock)
        script.release()


def test_wrong_usage_is_not_tried_again(clock: FakeClock) -> None:
    script = Script([UsageError("no such thing", remedy="another one")])
    with make_reader(script, clock) as reader:
        assert reader.next() is None
        assert reader.finished and reader.status.state is FAILED
        assert reader.status.reason == "no such thing → another one" and len(script.made) == 1


def test_another_resolution_after_a_reconnect(clock: FakeClock) -> None:
    large = image(1, (8, 10))
    large[..., 0] = 200
    script = Script([None, image(1), OSError("lost")], [None, large, image(1), None], waits=True)
    with make_reader(script, clock) as reader:
        found = []
        while not reader.finished:
            if (frame := reader.next(timeout=0)) is not None:
                assert frame.image is not None
                found.append(frame.image.shape[:2])
                reader.done(frame)
                script.go_on()
            elif reader.status.state is RECONNECTING:
                clock.step(0.1)
    assert found == [(4, 6), (8, 10), (4, 6)]
    assert [c.reason for c in reader.changes if c.state is LIVE] == ["6 x 4", "10 x 8", "6 x 4"]
    assert reader.status.resolution == (4, 6)


def test_a_newer_frame_takes_the_place_of_an_older_one(clock: FakeClock) -> None:
    script = Script([None, *(image(i) for i in range(5))])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.captured == 5)
        frame = reader.next()
        assert frame is not None and frame.index == 4
        assert reader.status.dropped == {"newer frame": 4} and reader.status.in_flight == 1
        reader.done(frame, dropped="black")
        assert reader.status.dropped == {"newer frame": 4, "black": 1} and balanced(reader)
        script.release()


def test_a_consumer_that_takes_nothing_is_no_stall(clock: FakeClock) -> None:
    ticks = [threading.Event() for _ in range(25)]
    steps = [item for i, tick in enumerate(ticks) for item in (tick, image(i))]
    script = Script([None, *steps, None])
    with make_reader(script, clock) as reader:
        for number, tick in enumerate(ticks):
            clock.step(4)  # 100 s in all, but for each frame less than the 5 s of a stall
            tick.set()
            wait_for(reader, number + 1)
        until(lambda: reader.status.state is ENDED)
        frames = list(reader.frames())
        assert [(frame.index, value_of(frame)) for frame in frames] == [(24, 24)]
        reader.done(frames[0])
    assert states(reader) == [CONNECTING, LIVE, ENDED] and reader.status.attempts == 1
    assert reader.status.dropped == {"newer frame": 24} and reader.status.processed == 1


def test_damaged_frames_are_counted_and_do_not_keep_the_watchdog_quiet(clock: FakeClock) -> None:
    more = threading.Event()
    damaged = DamagedFrame("half")
    script = Script([None, damaged, image(1), more, *[damaged] * 3], [None, image(2)])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.captured == 2)
        clock.advance(4)
        more.set()
        until(lambda: reader.status.dropped["damaged"] == 4)
        assert reader.status.state is LIVE
        clock.advance(1.5)
        until(lambda: reader.status.state is STALLED)
        assert reader.status.reason == "only damaged frames for 5 s"
        script.release()
    assert balanced(reader)


def test_no_image_at_all(clock: FakeClock) -> None:
    grey = np.zeros((4, 6), np.uint8)
    script = Script([None, grey], [None, image(1)])
    with make_reader(script, clock) as reader:
        until(lambda: reader.status.state is RECONNECTING)
        assert "expected (H, W, 3) uint8" in reader.status.reason
        script.release()


def test_close_while_hung(clock: FakeClock) -> None:
    hang = threading.Event()
    script = Script([None, image(1), hang, image(2)])
    reader = make_reader(script, clock, name="dock 1")
    reader.start()
    until(lambda: reader.status.captured == 1)
    assert reader.close(timeout=0.05) == ("gad-camera dock 1 #1",)
    assert reader.finished and reader.next() is None and reader.status.state is ENDED
    hang.set()
    until(lambda: script.made[0].closed)
    assert reader.close() == ()
    assert reader.status.dropped == {"closed": 2} and balanced(reader)


def test_close_with_drain_leaves_what_waits(clock: FakeClock) -> None:
    script = Script([None, *(image(i) for i in range(9))])
    reader = make_reader(script, clock)
    reader.start()
    until(lambda: reader.status.captured == 9)
    reader.close(drain=True, timeout=0)
    assert [reader.finished, *(frame.index for frame in reader.frames())] == [False, 8]
    assert reader.finished and reader.status.in_flight == 1
    assert reader.status.dropped == {"newer frame": 8}
    script.release()
    until(lambda: script.made[0].closed)
    assert balanced(reader)


def test_close_before_start(clock: FakeClock) -> None:
    reader = make_reader(Script([None]), clock)
    assert reader.close() == ()
    reader.start()
    assert reader.next() is None and reader.status.state is ENDED


def test_one_reader_never_delays_another(clock: FakeClock) -> None:
    hang = threading.Event()
    stuck = make_reader(Script([hang, ConnectionError()]), clock)
    script = Script([None, *(image(i) for i in range(50)), None], waits=True)
    fine = make_reader(script, clock)
    with stuck, fine:
        taken = 0
        for frame in fine.frames():
            fine.done(frame)
            script.go_on()
            taken += 1
        assert taken == 50 and stuck.status.state is CONNECTING
        hang.set()


def test_changes_are_reported_in_order_and_a_failing_report_harms_nothing(
    clock: FakeClock,
) -> None:
    heard: list[Change] = []

    def hear(change: Change) -> None:
        heard.append(change)
        raise ValueError

    script = Script([None, image(1), OSError("lost")], [None, image(1), None])
    with make_reader(script, clock, on_change=hear) as reader:
        until(lambda: reader.status.state is ENDED, clock)
        until(lambda: len(heard) == len(reader.changes))
    assert tuple(heard) == reader.changes


def test_a_report_may_close_the_reader(clock: FakeClock) -> None:
    script = Script([OSError("lost")])

    def hear(change: Change) -> None:
        if change.state is RECONNECTING:
            reader.close()

    reader = make_reader(script, clock, on_change=hear)
    with reader:
        assert reader.next() is None


def test_fps_and_times(clock: FakeClock) -> None:
    ticks = [threading.Event() for _ in range(4)]
    steps = [item for i, tick in enumerate(ticks) for item in (tick, image(i))]
    script = Script([None, *steps])
    with make_reader(script, clock) as reader:
        times = []
        for tick in ticks:
            clock.advance(0.25)
            tick.set()
            frame = reader.next()
            assert frame is not None and frame.captured_at is not None
            assert frame.time == pytest.approx(frame.captured_at + 1e9)
            times.append(frame.captured_at)
        assert np.diff(times) == pytest.approx([0.25] * 3)
        assert reader.status.fps == pytest.approx(4.0)
        script.release()
    assert reader.status.fps == 0


def test_next_with_a_timeout(clock: FakeClock) -> None:
    script = Script([None])
    with make_reader(script, clock) as reader:
        assert reader.next(timeout=0) is None and not reader.finished
        script.release()


@pytest.mark.parametrize(
    "wrong",
    [{"open_timeout": 0}, {"max_stuck": 0}, {"stall_after": 0}],
)
def test_wrong_settings(clock: FakeClock, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        make_reader(Script([None]), clock, **wrong)


def test_no_password_in_name_state_or_threads() -> None:
    reader = Reader("rtsp://me:s3cr3t@127.0.0.1:1/x", backoff=Backoff(first=60, cap=60))
    with reader:
        until(lambda: reader.status.state is RECONNECTING)
        names = [thread.name for thread in threading.enumerate()]
        shown = f"{reader!r} {reader.name} {reader.status} {reader.changes} {names}"
    assert "s3cr3t" not in shown and "rtsp://***@127.0.0.1" in shown
