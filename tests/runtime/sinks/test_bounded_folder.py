"""Entries appear whole, the oldest go first, and what is not kept is counted and said once."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_helpers import START, Moment, names, small_disk

from generalad.errors import StorageError, UsageError
from generalad.runtime.names import safe_name, utc_stamp
from generalad.runtime.sinks.bounded_folder import BoundedFolder, Bounds

PATTERN = r"e\d+"


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while BENCHES:
        BENCHES.pop().folder.close()


BENCHES: list[Bench] = []


class Bench:
    """A folder with a clock, and what it said."""

    def __init__(self, path: Path, bounds: Bounds | None = None) -> None:
        self.clock = Moment()
        self.said: list[str] = []
        BENCHES.append(self)
        self.folder = BoundedFolder(
            path, PATTERN, bounds or Bounds(), log=self.said.append, clock=self.clock
        )

    def add(self, number: int, size: int = 10) -> bool:
        self.clock.now += 1
        return self.folder.add(f"e{number:03d}", lambda place: _write(place, size, self.clock.now))


def _write(place: Path, size: int, time: float) -> None:
    place.write_bytes(bytes(size))
    os.utime(place, (time, time))


@given(
    st.lists(st.integers(1, 60), max_size=25),
    st.none() | st.integers(1, 6),
    st.none() | st.integers(1, 200),
    st.integers(0, 25),
)
def test_the_newest_that_fit_are_kept(
    sizes: list[int], number: int | None, most: int | None, restart: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), Bounds(number=number, bytes=most))
        bench.folder.open()
        expected: list[tuple[str, int]] = []
        removed = not_kept = 0
        for at, size in enumerate(sizes):
            if at == restart:
                bench.folder.close()
                now = bench.clock.now
                bench = Bench(Path(place), Bounds(number=number, bytes=most))
                bench.clock.now = now
                bench.folder.open()
                removed = not_kept = 0
            fits = most is None or size <= most
            assert bench.add(at, size) == fits
            not_kept += not fits
            if fits:
                expected.append((f"e{at:03d}", size))
            while (number is not None and len(expected) > number) or (
                most is not None and sum(size for _, size in expected) > most
            ):
                expected.pop(0)
                removed += 1
            assert names(Path(place)) == [name for name, _ in expected]
            status = bench.folder.status
            assert (status.kept, status.removed, status.not_kept) == (
                len(expected), removed, not_kept,
            )  # fmt: skip
            assert status.bytes == sum(size for _, size in expected)
        bench.folder.close()


def test_entries_become_too_old_also_without_new_ones(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Bounds(age=100))
    bench.folder.open()
    for number in range(3):
        bench.add(number)
    bench.clock.now += 98.5
    bench.folder.expire()
    assert names(tmp_path) == ["e001", "e002"]
    bench.clock.now += 30
    bench.folder.expire()
    assert len(names(tmp_path)) == 2, "looks once a minute"
    bench.clock.now += 31
    bench.folder.expire()
    assert names(tmp_path) == [] and bench.folder.status.removed == 3
    assert len(bench.said) == 1 and "the oldest entries are removed" in bench.said[0]


def test_bounds_apply_to_what_an_earlier_run_left(tmp_path: Path) -> None:
    for number in range(5):
        _write(tmp_path / f"e{number}", 10, START - 10 + number)
    bench = Bench(tmp_path, Bounds(number=2))
    bench.folder.open()
    assert names(tmp_path) == ["e3", "e4"]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "e1.bak").write_text("mine")
    bench = Bench(tmp_path, Bounds(number=1))
    bench.folder.open()
    for number in range(3):
        bench.add(number)
    assert names(tmp_path) == ["e002", "e1.bak", "notes.txt"]


def test_leftovers_go_when_a_folder_is_opened(tmp_path: Path) -> None:
    (tmp_path / ".e007.part").mkdir()
    (tmp_path / ".e007.part/half").write_bytes(b"x")
    (tmp_path / ".e008.part").write_bytes(b"x")
    bench = Bench(tmp_path)
    bench.folder.open()
    assert names(tmp_path) == [] and bench.folder.status.kept == 0


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = Bench(tmp_path), Bench(tmp_path)
    first.folder.open()
    with pytest.raises(UsageError, match="another process"):
        second.folder.open()
    first.folder.close()
    second.folder.open()


def test_trouble_is_counted_said_once_and_passes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.folder.open()

    def full(place: Path) -> None:
        place.mkdir()
        (place / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert not bench.folder.add("e1", full) and not bench.folder.add("e2", full)
    status = bench.folder.status
    assert (status.kept, status.not_kept) == (0, 2)
    assert status.problem is not None and "the disk is full" in status.problem
    assert names(tmp_path) == [], "nothing half-written"
    assert bench.add(3) and bench.folder.status.problem is None
    assert ["the disk is full" in bench.said[0], "again" in bench.said[1]] == [True, True]
    assert len(bench.said) == 2


def test_a_folder_that_goes_and_comes_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "in")
    bench.folder.open()
    (tmp_path / "in").rename(tmp_path / "away")
    assert not bench.add(1)
    (tmp_path / "away").rename(tmp_path / "in")
    assert bench.add(2) and bench.folder.status.not_kept == 1


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        bench = Bench(disk / "in")
        bench.folder.open()
        assert bench.add(0, 400_000)
        (disk / "ballast").write_bytes(bytes(500_000))
        assert not bench.add(1, 400_000) and not bench.add(2, 400_000)
        assert names(disk / "in") == ["e000"]
        (disk / "ballast").unlink()
        assert bench.add(3, 400_000)
        assert names(disk / "in") == ["e000", "e003"]
        assert len(bench.said) == 2 and "the disk is full" in bench.said[0]
        bench.folder.close()


def test_an_entry_removed_by_hand_is_no_obstacle(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Bounds(bytes=25))
    bench.folder.open()
    bench.add(0)
    (tmp_path / "e000").unlink()
    assert bench.add(1) and bench.add(2) and bench.add(3)
    assert names(tmp_path) == ["e002", "e003"] and bench.folder.status.removed == 1


def test_an_entry_that_cannot_be_removed_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, Bounds(number=2))
    bench.folder.open()
    bench.add(0)
    bench.add(1)
    replace = os.replace

    def held(source: Path, target: Path) -> None:
        if source == tmp_path / "e000":
            raise PermissionError(errno.EACCES, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    assert bench.add(2)
    assert names(tmp_path) == ["e000", "e002"]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_is_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        Bench(tmp_path / place).folder.open()


@pytest.mark.parametrize("name", ["number", "bytes", "age"])
def test_bounds_are_above_0(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Bounds(**{name: 0})


@given(st.text(max_size=80), st.text(max_size=80))
def test_safe_names_are_one_part_of_a_path_and_differ(one: str, other: str) -> None:
    for text in (one, other):
        name = safe_name(text)
        assert name and name[0] not in ".-" and len(name) <= 47
        assert not set(name) & set('/\\:*?"<>|.\0\n ')
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("stream", "name"), [("line-1", "line-1"), ("Halle_2", "Halle_2"), ("con", "con-"),
    ("rtsp://***@cam/1", "rtsp-cam-1-"), ("..", "")],
)  # fmt: skip
def test_safe_names_stay_readable(stream: str, name: str) -> None:
    assert safe_name(stream).startswith(name)
    assert (safe_name(stream) == stream) == (name == stream)


def test_stamps_are_utc() -> None:
    assert utc_stamp(START + 0.0125) == "20251124T160000.012Z"
