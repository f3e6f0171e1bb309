"""`iterate` and `Predictor.stream`: one frame at a time, new ones, and everything freed after."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from camera_helpers import PATIENCE, Script, until
from conftest import MakeImage, WriteImage, WriteVideo
from numpy.typing import NDArray
from stream_helpers import BLACK, Endless, Gated, camera, part, parts

from generalad.areas import Areas
from generalad.errors import DataError, GadError, UsageError
from generalad.predictor import Predictor
from generalad.runtime import Frame, Outputs, Rule, Stream
from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.iterate import iterate


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + PATIENCE
    while not set(threading.enumerate()) <= before:
        assert time.monotonic() < end, set(threading.enumerate()) - before
        time.sleep(0.01)


@pytest.fixture
def model() -> Predictor:
    return Predictor(FakeSession())


class Counting(Endless):
    """An endless camera that knows whether it is open and how many images it gave."""

    opened = closed = given = 0

    def open(self) -> None:
        type(self).opened += 1

    def read(self) -> NDArray[np.uint8]:
        type(self).given += 1
        return super().read()

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def counting() -> type[Counting]:
    return type("Counting", (Counting,), {})


# --- files ---


def test_files_come_in_order_with_images_maps_and_errors(
    model: Predictor, tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    for name, spot in (("a", None), ("c", 255)):
        write_image(tmp_path / f"{name}.png", make_image(40, spot=spot))
    (tmp_path / "b.png").write_bytes(b"")
    found = list(model.stream(tmp_path))
    assert [Path(one.path).name for one in found] == ["a.png", "b.png", "c.png"]
    assert [one.index for one in found] == [0, 1, 2]
    assert [one.error for one in found] == [None, f"{tmp_path / 'b.png'}: the file is empty", None]
    assert [found[0].is_anomalous, found[2].is_anomalous] == [False, True]
    assert found[2].anomaly_map.shape == found[2].image.shape[:2] == (48, 64)
    assert found[2].overlay().shape == (48, 64, 3)
    with pytest.raises(DataError, match="the file is empty"):
        _ = found[1].score
    with pytest.raises(DataError, match="the file is empty"):
        _ = found[1].image


def test_the_same_as_predict(
    model: Predictor, tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    paths = [write_image(tmp_path / f"{i}.png", make_image(9 * i, spot=255)) for i in range(5)]
    for size in (1, 3):
        found = list(model.stream(tmp_path, batch_size=size))
        assert [one.score for one in found] == [model.predict(path).score for path in paths]


def test_frames_of_a_video(
    model: Predictor, tmp_path: Path, make_image: MakeImage, write_video: WriteVideo
) -> None:
    path = write_video(tmp_path / "clip.avi", [make_image(40 + n) for n in range(6)])
    found = list(model.stream(path, str(path)))
    assert [one.index for one in found] == [*range(6), *range(6)]
    assert found[3].time == pytest.approx(0.3)


class Unending:
    """A source of files without end that knows how far it was read and whether it was closed."""

    address, folder = "unending", None
    read, closed = 0, False

    def count(self) -> int | None:
        return None

    def __iter__(self) -> Iterator[Frame]:
        try:
            while True:
                self.read += 1
                yield Frame("unending", self.read, 0.0, "", "x", part(self.read))
        finally:
            self.closed = True


def test_files_wait_for_the_program(model: Predictor) -> None:
    source = Unending()
    found = model.stream(source)
    assert source.read == 0
    for count, _ in enumerate(found, start=1):
        time.sleep(0.005)
        assert source.read <= count + 10
        if count == 40:
            break
    assert source.closed is False  # until the loop variable goes
    del found
    gc.collect()
    assert source.closed


def test_sources_are_resolved_at_once(model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        model.stream(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no images or videos given"):
        model.stream()
    with pytest.raises(UsageError, match="found int"):
        model.stream(3)  # type: ignore[call-overload, arg-type, unused-ignore]


# --- cameras ---


def leave_by_break(found: Iterator[Any]) -> None:
    for _ in found:
        break


def leave_by_exception(found: Iterator[Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in found:
            raise KeyboardInterrupt


def leave_by_close(found: Any) -> None:
    next(found)
    found.close()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_exception, leave_by_close])
def test_leaving_the_loop_frees_the_camera(
    model: Predictor, counting: type[Counting], leave: Any
) -> None:
    found = model.stream(CameraSource(counting, name="line"))
    assert counting.opened == 0
    leave(found)
    del found
    assert (counting.opened, counting.closed) == (1, 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gad")]


def test_a_slow_program_gets_new_frames(model: Predictor, counting: type[Counting]) -> None:
    source = CameraSource(counting, name="line")
    late = []
    for count, found in enumerate(model.stream(source)):
        late.append(counting.given - found.index)
        before = counting.given
        until(lambda: counting.given >= before + 20)  # noqa: B023
        status = source.status()
        assert status.in_flight <= 2, "one with the program, one that waits to be taken"
        assert status.captured == status.processed + sum(status.dropped.values()) + status.in_flight
        if count == 8:
            break
    assert sorted(late)[len(late) // 2] < 20, "it would be more if a frame had waited"
    status = source.status()
    assert status.dropped["newer frame"] >= 8 * 15
    assert status.in_flight == 0
    assert status.captured == status.processed + sum(status.dropped.values())


def test_an_image_that_shows_a_fault_of_the_camera(model: Predictor) -> None:
    source = CameraSource(Script([None, part(1), part(2), BLACK, None]), name="line")
    found = list(model.stream(source))
    faults = [one for one in found if one.fault]
    assert faults, "the last image always comes"
    for one in faults:
        assert one.fault is not None and one.fault.startswith("black")
        assert (one.error, one.raw_map) == (None, None)
        np.testing.assert_array_equal(one.image, BLACK)
        with pytest.raises(DataError, match="camera fault: black"):
            _ = one.is_anomalous
        assert "camera fault: black" in repr(one)


def test_cameras_side_by_side(model: Predictor) -> None:
    seen: set[str] = set()
    sources = [CameraSource(Endless, name=name) for name in ("left", "right")]
    for found in model.stream(sources):
        seen.add(found.source)
        if seen == {"left", "right"}:
            break
    assert [source.status().in_flight for source in sources] == [0, 0]


def test_a_camera_that_cannot_work_is_an_error_after_the_others(model: Predictor) -> None:
    broken = CameraSource(Script([UsageError("no such format")]), name="broken")
    found = model.stream(broken, camera("works", [*parts("g"), None]))
    assert next(found).source == "works"
    with pytest.raises(DataError, match=r"broken: given up \(no such format\)"):
        next(found)


def test_states_of_the_camera_are_told(model: Predictor) -> None:
    states = []
    source = camera("line", [*parts("g"), None])
    for _ in model.stream(source, on_notification=lambda n: states.append(n.data["state"])):
        pass
    assert states == ["connecting", "live", "ended"]


def test_a_stream_keeps_its_own_rule(model: Predictor, make_image: MakeImage) -> None:
    left = ((0.0, 0.0), (0.1, 0.0), (0.1, 1.0), (0.0, 1.0))
    image = make_image(30, spot=255)
    (everywhere,) = model.stream(image)
    source = CameraSource(Script([None, image, None]), name="line")
    (inside,) = model.stream(Stream(source, Rule(areas=Areas(inspect=(left,)))))
    assert everywhere.is_anomalous
    assert not inside.is_anomalous
    assert inside.score < everywhere.score


# --- what goes wrong ---


def test_an_error_of_the_network_is_raised_in_the_loop(tmp_path: Path) -> None:
    class Broken(FakeSession):
        def run(self, images: NDArray[np.uint8]) -> Outputs:
            raise GadError("out of memory")

    with pytest.raises(GadError, match="out of memory"):
        list(Predictor(Broken()).stream(part()))


def test_closing_the_model_ends_its_streams(model: Predictor) -> None:
    found = model.stream(Unending())
    next(found)
    model.close()
    with pytest.raises(UsageError, match="model is closed"):
        for _ in found:
            pass


def test_predict_goes_on_beside_a_stream(model: Predictor) -> None:
    for count, found in enumerate(model.stream(Unending())):
        assert model.predict(found.image).score == found.score
        if count == 20:
            break


def test_iterate_gives_what_sinks_are_given() -> None:
    session = Gated()
    found = list(iterate(session, [part(), part(1, defect=True)], batch_size=2))
    assert session.sizes == [2]
    assert [one.result.anomalous for one in found] == [False, True]
    assert found[1].map is not None and found[1].map.shape == (16, 16)
    assert found[1].frame.image is not None
