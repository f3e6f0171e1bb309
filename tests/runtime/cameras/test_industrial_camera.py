"""Industrial cameras through a reader: unplugged and back, losses, triggers; without hardware."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from camera_helpers import FakeClock, balanced, make_reader, states, until
from fake_device import FakeCamera, FakeDevice, buffer

from generalad.runtime.cameras import Backoff, Reader, State
from generalad.runtime.cameras.camera import Settings, TriggerFailed
from generalad.runtime.cameras.industrial import industrial_camera
from generalad.runtime.cameras.industrial.device import Feature
from generalad.runtime.cameras.industrial.industrial_camera import IndustrialCamera, trigger_of

STATUSES = ("X", "FrameTriggerWait")
QUICK = Backoff(first=0.005, cap=0.01, jitter=0.0, good_after=1.0)


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(industrial_camera, "_SLICE", 0.01)


@contextmanager
def reading(camera: FakeCamera, settings: Settings | None = None, **more: Any) -> Iterator[Reader]:
    def make() -> IndustrialCamera:
        return IndustrialCamera(FakeDevice(camera), settings)

    with Reader(make, name="cam", backoff=QUICK, **more) as reader:
        yield reader
    assert camera.closed >= camera.opened, "every connection is closed"
    assert balanced(reader)


def next_value(reader: Reader) -> int:
    """The grey value of the next frame."""
    frame = reader.next(timeout=30)
    assert frame is not None and frame.image is not None
    reader.done(frame)
    assert (frame.image == frame.image[0, 0, 0]).all()
    return int(frame.image[0, 0, 0])


def live(reader: Reader) -> None:
    until(lambda: reader.status.state is State.LIVE)


# --- Free running


def test_frames_are_rgb_and_say_their_size() -> None:
    camera = FakeCamera()
    with reading(camera) as reader:
        camera.send(buffer(7))
        assert next_value(reader) == 7
        assert reader.status.resolution == (4, 6) and reader.status.reason == "6 x 4"


def test_an_incomplete_buffer_is_a_damaged_frame_and_never_handed_out() -> None:
    camera = FakeCamera()
    with reading(camera) as reader:
        camera.send(buffer(1, problem="3 packets are missing"), buffer(2))
        assert next_value(reader) == 2
        assert reader.status.dropped == {"damaged": 1} and reader.status.captured == 2


def test_frames_that_never_arrived_are_counted_by_the_camera_s_numbers() -> None:
    camera = FakeCamera()
    with reading(camera) as reader:
        for number, value in ((10, 1), (11, 2), (14, 3), (3, 4), (4, 5)):  # 3: it began anew
            camera.send(buffer(value, number=number))
            assert next_value(reader) == value
        assert reader.status.dropped == {"lost": 2} and reader.status.captured == 7


def test_a_format_that_is_not_read_is_a_state_with_its_name() -> None:
    camera = FakeCamera(PixelFormat=Feature("choice", "YUV422_8"))
    with reading(camera) as reader:
        camera.send(buffer(pixel_format=0x02100032))
        until(lambda: "YUV422_8 (0x02100032) is not read" in reader.status.reason)
        assert reader.status.state is State.RECONNECTING


def test_unplugged_and_back_its_settings_are_made_again() -> None:
    camera = FakeCamera(Gain=Feature("float", 0.0, least=0.0, most=24.0))
    with reading(camera, {"Gain": 3.0}) as reader:
        camera.send(buffer(1))
        assert next_value(reader) == 1
        camera.unplug()
        until(lambda: reader.status.state is State.RECONNECTING)
        assert reader.status.reason == "the camera does not answer"
        camera.plug()
        until(lambda: camera.running and camera.starts == 2)
        camera.send(buffer(2))
        assert next_value(reader) == 2
        assert reader.status.reconnects == 1
        assert camera.made == [("Gain", 3.0)] * 2 and camera.features["Gain"].value == 3.0


def test_a_refused_setting_gives_no_frames_until_it_is_taken() -> None:
    camera = FakeCamera(ExposureTime=Feature("float", 10.0, least=10.0, most=1e6, unit="us"))
    camera.refuses["ExposureTime"] = "not now"
    with reading(camera, {"ExposureTime": 5000}) as reader:
        camera.send(buffer(1))
        until(lambda: reader.status.attempts >= 2)
        assert reader.status.reason == "ExposureTime = 5000 was refused: not now"
        assert State.LIVE not in states(reader) and camera.starts == 0
        del camera.refuses["ExposureTime"]
        assert next_value(reader) == 1


def test_a_difference_stands_in_the_state() -> None:
    camera = FakeCamera(Gain=Feature("float", 0.0, least=0.0, most=24.0))
    camera.rounds["Gain"] = 2.5
    with reading(camera, {"Gain": 3}) as reader:
        camera.send(buffer(1))
        next_value(reader)
        assert reader.status.reason == "6 x 4; Gain is 2.5, not 3"


def test_a_free_running_camera_without_frames_is_stalled() -> None:
    clock, camera = FakeClock(), FakeCamera()
    with make_reader(camera, clock, stall_after=5.0) as reader:
        until(lambda: camera.running)
        until(lambda: State.STALLED in states(reader), clock, step=0.5)
    assert "no frame for 5 s" in {change.reason for change in reader.changes}


def test_closing_frees_a_camera_that_gives_nothing() -> None:
    camera = FakeCamera()
    with reading(camera) as reader:
        until(lambda: camera.running)
        assert reader.close() == ()
    assert camera.closed == 1 and not camera.running


# --- Triggers


def test_one_trigger_gives_exactly_one_frame() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        assert reader.status.reason == "waits for triggers"
        for value in (5, 6):
            camera.answer(buffer(value))
            frame = reader.trigger()
            assert frame.image is not None and frame.image[0, 0, 0] == value
            assert reader.status.in_flight == 1
            reader.done(frame)
        assert camera.made == [("TriggerSoftware", True)] * 2
        assert reader.next(timeout=0) is None and reader.status.captured == 2


def test_waiting_for_triggers_is_no_stall() -> None:
    clock, camera = FakeClock(), FakeCamera.triggered("Line1")
    with make_reader(camera, clock, stall_after=5.0) as reader:
        live(reader)
        for _ in range(12):
            clock.step(1.0)
            until(lambda: clock.now() - attempt_waits_since(reader) < 1.0)
        assert states(reader) == [State.CONNECTING, State.LIVE]


def attempt_waits_since(reader: Reader) -> float:
    attempt = reader._supervisor._attempt
    return attempt.waiting_since if attempt is not None else 0.0


def test_a_trigger_without_picture_fails_and_a_late_picture_is_not_the_next_one_s() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        with pytest.raises(TriggerFailed, match=r"^no picture within 0\.01 s of the trigger$"):
            reader.trigger(timeout=0.01)
        camera.send(buffer(66))  # the picture of the trigger before
        camera.answer(buffer(5))
        frame = reader.trigger()
        assert frame.image is not None and frame.image[0, 0, 0] == 5
        reader.done(frame)
        assert camera.starts == 2, "starting anew forgets what was on its way"


def test_a_picture_without_trigger_is_counted_and_not_handed_out() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        camera.send(buffer(66))
        until(lambda: reader.status.dropped == {"without trigger": 1})
        camera.answer(buffer(5), buffer(67))  # two for one trigger
        frame = reader.trigger()
        assert frame.image is not None and frame.image[0, 0, 0] == 5
        reader.done(frame)
        until(lambda: reader.status.dropped == {"without trigger": 2})
        assert reader.next(timeout=0) is None


def test_a_picture_that_lost_packets_fails_its_trigger_at_once() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        camera.answer(buffer(1, problem="3 packets are missing"))
        with pytest.raises(TriggerFailed, match=r"^3 packets are missing$"):
            reader.trigger(timeout=30)
        assert reader.status.dropped == {"damaged": 1}


def test_frames_lost_between_triggers_do_not_fail_the_next_one() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        for number, value in ((1, 5), (4, 6)):
            camera.answer(buffer(value, number=number))
            frame = reader.trigger()
            assert frame.image is not None and frame.image[0, 0, 0] == value
            reader.done(frame)
        assert reader.status.dropped == {"lost": 2}


def test_unplugged_while_a_trigger_waits() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        threading.Timer(0.02, camera.unplug).start()
        with pytest.raises(TriggerFailed, match="the camera was lost: the camera does not answer"):
            reader.trigger(timeout=30)
        until(lambda: reader.status.state is not State.LIVE)
        with pytest.raises(TriggerFailed, match="the camera is reconnecting: the camera does not"):
            reader.trigger()
        camera.plug()
        live(reader)
        camera.answer(buffer(5))
        reader.done(reader.trigger())


def test_a_trigger_waits_until_the_camera_is_ready_for_it() -> None:
    camera = FakeCamera.triggered()
    camera.features["AcquisitionStatusSelector"] = Feature("choice", "X", choices=STATUSES)
    camera.features["AcquisitionStatus"] = Feature("boolean", False)
    with reading(camera) as reader:
        live(reader)
        with pytest.raises(TriggerFailed, match=r"not ready for a trigger within 0\.01 s"):
            reader.trigger(timeout=0.01)
        assert camera.made == [("AcquisitionStatusSelector", "FrameTriggerWait")]
        camera.features["AcquisitionStatus"] = Feature("boolean", True)
        camera.answer(buffer(5))
        reader.done(reader.trigger())


def test_a_picture_that_came_while_the_camera_was_not_ready_is_nobody_s() -> None:
    camera = FakeCamera.triggered()
    camera.features["AcquisitionStatusSelector"] = Feature("choice", "X", choices=STATUSES)
    camera.features["AcquisitionStatus"] = Feature("boolean", False)

    def becomes_ready() -> None:
        camera.send(buffer(66))
        camera.features["AcquisitionStatus"] = Feature("boolean", True)

    with reading(camera) as reader:
        live(reader)
        camera.answer(buffer(5))
        threading.Timer(0.03, becomes_ready).start()
        frame = reader.trigger(timeout=30)
        assert frame.image is not None and frame.image[0, 0, 0] == 5
        reader.done(frame)
        assert reader.status.dropped == {"without trigger": 1}


def test_a_trigger_may_take_longer_than_a_stall() -> None:
    clock, camera = FakeClock(), FakeCamera.triggered()
    with make_reader(camera, clock, stall_after=5.0) as reader:
        live(reader)
        frames: list[Any] = []
        thread = threading.Thread(target=lambda: frames.append(reader.trigger(timeout=100)))
        thread.start()
        until(lambda: camera.made)
        for _ in range(10):
            clock.step(5.0)
        camera.send(buffer(5))
        thread.join(30)
        assert len(frames) == 1 and states(reader) == [State.CONNECTING, State.LIVE]
        reader.done(frames[0])


def test_a_trigger_while_another_one_waits_is_an_overrun() -> None:
    camera = FakeCamera.triggered()
    with reading(camera) as reader:
        live(reader)
        frames: list[Any] = []
        waiting = threading.Thread(target=lambda: frames.append(reader.trigger(timeout=30)))
        waiting.start()
        until(lambda: camera.made)
        with pytest.raises(TriggerFailed, match=r"^overrun: "):
            reader.trigger()
        camera.send(buffer(5))
        waiting.join(30)
        reader.done(frames[0])


def test_a_driver_that_hangs_in_a_trigger_is_left_behind() -> None:
    camera, goes_on, clock = FakeCamera.triggered(), threading.Event(), FakeClock()

    class Hangs(FakeDevice):
        def execute(self, name: str) -> None:
            goes_on.wait()
            camera.send(buffer(66))

    first = [True]

    def make() -> IndustrialCamera:
        return IndustrialCamera(Hangs(camera) if first and first.pop() else FakeDevice(camera))

    with make_reader(make, clock) as reader:
        live(reader)
        failures: list[str] = []

        def trigger() -> None:
            with pytest.raises(TriggerFailed) as failed:
                reader.trigger(timeout=1.0)
            failures.append(str(failed.value))

        thread = threading.Thread(target=trigger)
        thread.start()
        until(lambda: failures, clock, step=0.5)
        thread.join()
        assert failures == ["the camera was lost: no answer to a trigger"]
        goes_on.set()
        until(lambda: reader.status.attempts == 2, clock)
        until(lambda: reader.stuck == (), clock)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        (FakeCamera(), "the camera is not triggered by software"),
        (FakeCamera.triggered("Line1"), "the camera is not triggered by software"),
    ],
)
def test_only_a_camera_that_is_set_to_it_is_triggered(camera: FakeCamera, words: str) -> None:
    with reading(camera) as reader:
        camera.send(buffer(1))
        assert next_value(reader) == 1
        with pytest.raises(TriggerFailed, match=words):
            reader.trigger()


def test_other_cameras_have_no_trigger() -> None:
    with Reader("test://washer?size=32&rate=100") as reader:
        until(lambda: reader.status.state is State.LIVE)
        with pytest.raises(TriggerFailed, match="is not triggered by software"):
            reader.trigger()


def test_pictures_of_a_line_s_signal_are_frames_like_others() -> None:
    camera = FakeCamera.triggered("Line1")
    with reading(camera) as reader:
        live(reader)
        camera.send(buffer(5))
        assert next_value(reader) == 5


def test_the_trigger_of_frames_counts_where_another_one_is_selected() -> None:
    selector = Feature("choice", "AcquisitionStart", choices=("AcquisitionStart", "FrameStart"))
    camera = FakeCamera(TriggerSelector=selector, TriggerMode=Feature("choice", "Off"))
    device = FakeDevice(camera)
    assert trigger_of(device) == "free"
    assert camera.features["TriggerSelector"].value == "AcquisitionStart"

    class Selects(FakeDevice):
        def feature(self, name: str) -> Feature | None:
            found = super().feature(name)
            on = camera.features["TriggerSelector"].value == "FrameStart"
            return found._replace(value="On") if found and on and name == "TriggerMode" else found

    camera.features["TriggerSource"] = Feature("choice", "Software")
    assert trigger_of(Selects(camera)) == "software"
    assert camera.features["TriggerSelector"].value == "FrameStart"


def test_an_image_is_whole_while_the_driver_writes_the_next_one() -> None:
    camera = FakeCamera()
    first = buffer(1)
    with reading(camera) as reader:
        camera.send(first)
        frame = reader.next(timeout=30)
        assert frame is not None and frame.image is not None
        first.data[:] = 200
        np.testing.assert_array_equal(frame.image, 1)
        reader.done(frame)
