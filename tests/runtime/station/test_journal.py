"""Ids are used once and nobody is forgotten, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generalad.errors import StorageError, UsageError
from generalad.runtime.station import journal as module
from generalad.runtime.station.journal import Journal
from generalad.runtime.station.verdict import MAX_ID, Verdict


def verdict(id: int) -> Verdict:
    return Verdict(id, f"A-{id}", "reject", None, "", "reject", 0.75, 10.0, 10.2, "washer")


def killed(journal: Journal) -> None:
    """What the system does at a kill: the files are closed, and nothing is written."""
    journal._file.close()
    journal._claim.close()


def test_ids_go_on_after_a_proper_end(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    assert [first.next_id() for _ in range(3)] == [1, 2, 3]
    first.chose("bracket")
    first.close()
    second = Journal(tmp_path)
    assert (second.next_id(), second.started, second.started_anew) == (4, 2, False)
    assert second.recipe == "bracket"
    second.close()


def test_after_a_kill_no_id_comes_again_and_everybody_is_answered(tmp_path: Path) -> None:
    first = Journal(tmp_path, block=10)
    for part in ("A-1", None, "A-3", "A-4"):
        first.triggered(first.next_id(), part)
    first.decided(verdict(1))
    first.decided(verdict(2))
    first.delivered(1)
    killed(first)
    second = Journal(tmp_path, block=10)
    assert second.started_anew and second.next_id() == 11
    assert second.unanswered == [(3, "A-3"), (4, "A-4")]
    (told,) = second.answered
    assert (told.id, told.part, told.outcome) == (2, "A-2", "reject")
    assert told.milliseconds == pytest.approx(200)
    second.close()


@settings(max_examples=10)
@given(kills=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=4))
def test_however_often_it_is_killed_ids_grow(
    kills: list[tuple[int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("state")
    seen: list[int] = []
    for count, proper in kills:
        journal = Journal(folder, block=5)
        for _ in range(count):
            seen.append(journal.next_id())
            journal.triggered(seen[-1], None)
            journal.keep_ahead()
        journal.close() if proper else killed(journal)
    assert seen == sorted(set(seen))
    owed = Journal(folder, block=5)
    assert [id for id, _ in owed.unanswered] == seen
    owed.close()


def test_a_line_that_was_cut_off_loses_only_itself(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    for _ in range(3):
        first.triggered(first.next_id(), None)
    killed(first)
    file = tmp_path / "station.journal"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(
        lines[0] + b'{"t": 2, "pa\n\xff\x00[[[\n' + b'{"v": {"id": "x"}}\n' + lines[2][:-4]
    )
    second = Journal(tmp_path)
    assert second.unanswered == [(1, None)]
    second.close()


def test_a_full_disk_is_said_and_what_is_written_after_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Journal(tmp_path)

    class Full:
        def write(self, line: bytes) -> int:
            file.write(line[:5])
            raise OSError(errno.ENOSPC, "")

    file, first._file = first._file, Full()  # type: ignore[assignment]
    first.triggered(first.next_id(), None)
    assert "the disk is full" in first.problem and first.lost == 1
    first._file = file
    first.triggered(first.next_id(), "A-2")
    assert first.problem == ""
    killed(first)
    second = Journal(tmp_path)
    assert second.unanswered == [(2, "A-2")]
    second.close()


def test_without_room_for_a_block_the_ids_that_are_left_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, block=4)

    def full(path: Path, value: Any) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", full)
        for expected in (1, 2, 3, 4):
            assert journal.next_id() == expected
        for ask in (journal.next_id, journal.keep_ahead):
            with pytest.raises(StorageError, match="full"):
                ask()
    assert journal.next_id() == 5
    journal.close()


def test_the_journal_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 1000)
    journal = Journal(tmp_path)
    for _ in range(50):
        id = journal.next_id()
        journal.triggered(id, None)
        if id != 7:
            journal.decided(verdict(id))
            journal.delivered(id)
    assert (tmp_path / "station.journal").stat().st_size < 2000
    killed(journal)
    second = Journal(tmp_path)
    assert second.unanswered == [(7, None)]
    second.close()


def test_two_stations_in_one_folder_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(UsageError, match="another process"):
        Journal(tmp_path)
    journal.close()


@pytest.mark.parametrize("content", [b"", b"{", b'{"reserved": "x"}', None])
def test_without_knowing_the_ids_nothing_begins(tmp_path: Path, content: bytes | None) -> None:
    Journal(tmp_path).close()
    head = tmp_path / "station.json"
    head.unlink() if content is None else head.write_bytes(content)
    with pytest.raises(StorageError, match=r"station\.json"):
        Journal(tmp_path)


@pytest.mark.parametrize("reserved", [-5, MAX_ID + 1])
def test_ids_that_cannot_be_are_not_counted_from(tmp_path: Path, reserved: int) -> None:
    Journal(tmp_path).close()
    (tmp_path / "station.json").write_text(f'{{"reserved": {reserved}, "started": 1}}')
    with pytest.raises(StorageError, match=f"reserved: expected 0 to {MAX_ID}"):
        Journal(tmp_path)


def test_lines_of_a_newer_version_are_answered_all_the_same(tmp_path: Path) -> None:
    first = Journal(tmp_path, block=10)
    first.triggered(first.next_id(), "A-1")
    first.decided(verdict(2))
    killed(first)
    with (tmp_path / "station.journal").open("ab") as file:
        file.write(b'{"t": 3, "part": {"lot": 5}, "lane": 2}\n{"x": 1}\n')
        file.write(b'{"v": {"id": 4, "part": "A-4", "outcome": "rework"}}\n')
        file.write(b'{"t": 99999999999, "part": null}\n{"t": true, "part": null}\n')
        file.write(b'{"v": {"id": 5, "part": "A-\\ud800"}}\n')
    second = Journal(tmp_path, block=10)
    assert second.unanswered == [(1, "A-1"), (3, None), (4, "A-4"), (5, None)]
    assert [owed.id for owed in second.answered] == [2]
    assert second.next_id() == 11
    second.close()


def test_ids_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path, block=MAX_ID)
    journal._next = MAX_ID
    assert journal.next_id() == MAX_ID
    with pytest.raises(StorageError, match="all ids"):
        journal.next_id()
    journal.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        Journal(tmp_path / "state")
