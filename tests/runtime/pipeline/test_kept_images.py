"""Images that are kept until they were drawn: how many at a time, and who may draw on them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeImage, WriteImage
from numpy.typing import NDArray

from generalad.decision import Rule
from generalad.errors import UsageError
from generalad.preprocess import read_image
from generalad.runtime import Overlays, infer
from generalad.runtime.backends.fake import FakeSession, fake_spec
from generalad.runtime.line.events import EventRule
from generalad.runtime.line.stream import Stream
from generalad.runtime.pipeline import kept_images
from generalad.runtime.pipeline.kept_images import KeptImages
from generalad.runtime.pipeline.tracker import Item, SourceTracker
from generalad.runtime.sources import Frame, ImageFiles


class Counted(ImageFiles):
    """Counts the images that were read and not yet written."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read = 0

    def __iter__(self) -> Any:
        for frame in super().__iter__():
            self.read += 1
            yield frame


class Counting(Overlays):
    """Knows how many images had been read when each was drawn."""

    def __init__(self, folder: Path, source: Counted) -> None:
        super().__init__(folder)
        self.ahead: list[int] = []
        self.drawn_on: list[bool] = []
        self._source = source

    def write(self, frame: Frame, *given: Any) -> None:
        self.ahead.append(self._source.read - len(self.ahead))
        assert frame.image is not None
        before = frame.image.copy()
        super().write(frame, *given)
        self.drawn_on.append(not np.array_equal(before, frame.image))


@pytest.fixture
def counted(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> Counted:
    paths = [write_image(tmp_path / f"in/{n}.png", make_image(30, spot=255)) for n in range(5)]
    return Counted(str(tmp_path / "in"), paths, tmp_path / "in")


def test_large_images_are_read_one_at_a_time(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_images, "_MOST", 0)  # as if each image were large
    sink = Counting(tmp_path / "out", counted)
    infer(FakeSession(), counted, sinks=[sink])
    assert sink.ahead == [1] * 5
    assert sink.drawn_on == [True] * 5  # by nobody else, and not needed any more
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_a_batch_does_not_wait_for_an_image_that_waits_for_it(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_images, "_MOST", 0)
    summary = infer(FakeSession(), counted, sinks=[Overlays(tmp_path / "out")], batch_size=3)
    assert summary.processed == 5


def test_images_are_the_same_whoever_else_needs_them(counted: Counted, tmp_path: Path) -> None:
    alone, first, second = (Counting(tmp_path / name, counted) for name in ("a", "b", "c"))
    infer(FakeSession(), counted, sinks=[alone])
    infer(FakeSession(), counted, sinks=[first, second])
    infer(
        FakeSession(),
        Stream(counted, Rule(), EventRule()),
        sinks=[watched := Counting(tmp_path / "d", counted)],
    )
    assert [sink.drawn_on for sink in (alone, first, second, watched)] == [
        [True] * 5,
        *[[False] * 5] * 3,
    ]
    pictures = [read_image(tmp_path / name / "3.png") for name in "abcd"]
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


def test_an_array_that_was_given_is_not_drawn_on(make_image: MakeImage, tmp_path: Path) -> None:
    image: NDArray[np.uint8] = make_image(30, spot=255)
    before = image.copy()
    infer(FakeSession(), [image], sinks=[Overlays(tmp_path / "out")])
    assert np.array_equal(image, before) and len(list((tmp_path / "out").iterdir())) == 1


def test_two_runs_do_not_write_into_one_folder(counted: Counted, tmp_path: Path) -> None:
    first = Overlays(tmp_path / "out")
    first.open([counted], fake_spec())
    with pytest.raises(UsageError, match=r"out is written by another process .*another folder"):
        Overlays(tmp_path / "out").open([counted], fake_spec())
    first.close(complete=True)
    assert list((tmp_path / "out").iterdir()) == []
    infer(FakeSession(), counted, sinks=[Overlays(tmp_path / "out")])


def test_waiting_for_room_ends_when_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_images, "_MOST", 10)
    kept, image = KeptImages(), np.zeros((4, 4, 3), np.uint8)
    tracker = SourceTracker(ImageFiles("a", [], Path()), Rule(), fake_spec())
    item = Item(tracker, Frame("a", 0, 0.0, "", "a", image), 0.0, 0.0)
    kept.keep(item)
    stopped = threading.Event()
    threading.Timer(0.01, stopped.set).start()
    kept.wait(stopped.is_set)
    kept.let_go(item)
    assert item.frame.image is None
    kept.wait(lambda: False)
