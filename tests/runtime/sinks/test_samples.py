"""Recent images of every stream, unchanged, whatever the decision was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sink_helpers import LiveSource, close_opened, faulty, names, noise, opened, scored, tree

from generalad.errors import StorageError, UsageError
from generalad.preprocess import read_image
from generalad.runtime.sinks.samples import Samples


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    close_opened()


def test_one_every_so_often_of_each_stream(tmp_path: Path) -> None:
    sink = Samples(tmp_path, every=10)
    opened(sink, LiveSource(), LiveSource("rtsp://***@camera/2"))
    for index in range(25):
        sink.write(*scored(index, anomalous=index == 10, image=noise(index)))
        sink.write(*scored(index, stream="rtsp://***@camera/2"))
    assert names(tmp_path / "line-1") == [
        "20251124T160000.000Z-000000000-normal.png",
        "20251124T160010.000Z-000000010-anomalous.png",
        "20251124T160020.000Z-000000020-normal.png",
    ]
    for index, name in enumerate(names(tmp_path / "line-1")):
        kept = read_image(tmp_path / "line-1" / name)
        np.testing.assert_array_equal(kept, noise(index * 10))
    (other,) = set(names(tmp_path)) - {"line-1"}
    assert other.startswith("rtsp-camera-2-") and len(names(tmp_path / other)) == 3
    assert {stream: status.kept for stream, status in sink.status.items()} == {
        "line-1": 3, "rtsp://***@camera/2": 3,
    }  # fmt: skip


def test_frames_without_a_score_are_left_out_and_take_no_turn(tmp_path: Path) -> None:
    sink = Samples(tmp_path, every=10)
    opened(sink)
    sink.write(*faulty(0))
    sink.write(*scored(1))
    assert [name[:20] for name in names(tmp_path / "line-1")] == ["20251124T160001.000Z"]


def test_the_newest_are_kept_also_over_a_restart(tmp_path: Path) -> None:
    for first in (0, 10):
        sink = Samples(tmp_path, keep=4, every=0)
        opened(sink)
        for index in range(first, first + 10):
            sink.write(*scored(index))
        sink.close(complete=True)
        expected = [f"{index:09d}" for index in range(first + 6, first + 10)]
        assert [name[21:30] for name in names(tmp_path / "line-1")] == expected


def test_a_clock_that_is_set_back_does_not_stop_the_samples(tmp_path: Path) -> None:
    sink = Samples(tmp_path, every=10)
    opened(sink)
    for index, time in enumerate([10_000.0, 50.0, 55.0, 60.0]):
        sink.write(*scored(index, time=time))
    assert sorted(name[21:30] for name in names(tmp_path / "line-1")) == [
        "000000000", "000000001", "000000003",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_had_leaves_the_others_free(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        opened(Samples(tmp_path), LiveSource("a"), LiveSource("b"))
    opened(Samples(tmp_path), LiveSource("a"))
    assert tree(tmp_path) == ["b"]


def test_numbers_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every"):
        Samples(tmp_path, every=-1)
    with pytest.raises(UsageError, match="number"):
        Samples(tmp_path, keep=0)
