"""The text file of an endless run: whole lines, bounded, and never a reason to end the run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sink_helpers import (
    LiveSource,
    Moment,
    close_opened,
    event_end,
    faulty,
    names,
    opened,
    scored,
    small_disk,
)

from generalad.errors import StorageError, UsageError
from generalad.runtime.sinks import text_files
from generalad.runtime.sinks.json_csv import Csv, JsonLines
from generalad.runtime.sinks.text_files import LogFile
from generalad.runtime.sources import ImageFiles


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    close_opened()


def test_json_lines_of_live_sources_with_faults_and_notifications(tmp_path: Path) -> None:
    for first in (0, 2):
        sink = JsonLines(tmp_path / "out.jsonl")
        opened(sink)
        sink.write(*scored(first))
        sink.write(*faulty(first + 1))
        sink.notification(event_end(first))
        assert names(tmp_path) == ["out.jsonl"], "it has its name from the start"
        sink.close(complete=False)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line.get("index") for line in lines] == [0, 1, None, 2, 3, None]
    assert (lines[1]["fault"], lines[1]["score"], lines[1]["path"]) == ("black", None, "")
    assert (lines[2]["notice"], lines[2]["stream"]) == ("event", "line-1")


def test_one_live_source_makes_the_run_endless(tmp_path: Path) -> None:
    finite = ImageFiles("parts", [], tmp_path)
    opened(JsonLines(tmp_path / "a.jsonl"), finite, LiveSource())
    opened(JsonLines(tmp_path / "b.jsonl"), finite)
    assert names(tmp_path) == ["a.jsonl", "b.part.jsonl"]


def test_csv_has_one_header_and_goes_on(tmp_path: Path) -> None:
    for first in (0, 2):
        sink = Csv(tmp_path / "out.csv")
        opened(sink)
        sink.write(*scored(first, anomalous=True))
        sink.write(*faulty(first + 1))
        sink.close(complete=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["index"], row["anomalous"], row["fault"]) for row in rows] == [
        ("0", "true", ""), ("1", "", "black"), ("2", "true", ""), ("3", "", "black"),
    ]  # fmt: skip


def test_a_file_with_other_columns_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("source,index\nline,1\n")
    sink = Csv(tmp_path / "out.csv")
    opened(sink)
    aside, kept = names(tmp_path)
    assert kept == "out.csv" and (tmp_path / aside).read_text() == "source,index\nline,1\n"
    assert (tmp_path / "out.csv").read_text().startswith("source,index,time")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(["\udc80", "\ud800"])
@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=30), max_size=40))
def test_what_is_put_aside_and_what_is_there_are_the_newest_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    clock, folder = Moment(), tmp_path_factory.mktemp("log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "LOG_BYTES", 50)
        patch.setattr(text_files, "LOGS_KEPT", 3)
        log = LogFile(str(folder / "a.log"), "header", clock=clock)
        for number, line in enumerate(lines):
            clock.now += 1
            if number % 7 == 3:
                log.close(complete=True)
                log = LogFile(str(folder / "a.log"), "header", clock=clock)
            log.append(line)
        log.close(complete=True)
    files = [*sorted(folder.glob("a-*.log")), folder / "a.log"]
    assert len(files) <= 4 and log.lost == 0
    texts = [path.read_bytes().decode() for path in files]
    assert all(text.startswith("header\n") for text in texts)
    found = "".join(text.removeprefix("header\n") for text in texts)
    written = "".join(line + "\n" for line in lines).encode(errors="backslashreplace").decode()
    assert written.endswith(found) and (len(files) == 4 or written == found)


def test_foreign_files_beside_it_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LOG_BYTES", 1)
    monkeypatch.setattr(text_files, "LOGS_KEPT", 1)
    (tmp_path / "a-Test-Z.log").write_text("mine")
    (tmp_path / "a-b-20251124T160000.000Z.log").write_text("of another log")
    clock = Moment()
    log = LogFile(str(tmp_path / "a.log"), clock=clock)
    for number in range(4):
        clock.now += 1
        log.append(str(number))
    log.close(complete=True)
    assert names(tmp_path) == [
        "a-20251124T160004.000Z.log", "a-Test-Z.log", "a-b-20251124T160000.000Z.log", "a.log",
    ]  # fmt: skip


@pytest.mark.parametrize("begun", [b"", b"whole\n", b"whole\nhal", b"hal"])
def test_a_line_that_was_cut_off_is_no_part_of_the_next(tmp_path: Path, begun: bytes) -> None:
    (tmp_path / "a.log").write_bytes(begun)
    log = LogFile(str(tmp_path / "a.log"))
    log.append("new")
    log.close(complete=True)
    *aside, there = [(tmp_path / name).read_bytes() for name in names(tmp_path)]
    assert aside == ([] if begun.endswith(b"\n") or not begun else [begun])
    assert there == (b"new\n" if aside else begun + b"new\n")


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be renamed there")
@pytest.mark.parametrize("removed", [False, True])
def test_a_file_that_somebody_moves_is_begun_anew(tmp_path: Path, removed: bool) -> None:
    log = LogFile(str(tmp_path / "a.log"), "header")
    log.append("1")
    if removed:
        (tmp_path / "a.log").unlink()
    else:
        (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    log.append("2")
    log.close(complete=True)
    assert (tmp_path / "a.log").read_text() == "header\n2\n"


def test_a_full_disk_loses_lines_but_says_so_and_recovers(tmp_path: Path) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk") as disk:
        log = LogFile(str(disk / "a.log"), log=said.append)
        log.append("first")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1024 * 1024 - 3 * 4096))
        count = 1000
        for number in range(count):
            log.append(f"{number:099d}")
        assert 0 < log.lost < count and len(said) == 1 and "the disk is full" in said[0]
        ballast.unlink()
        log.append("last")
        log.close(complete=True)
        lines = (disk / "a.log").read_text().splitlines()
    assert lines[0] == "first" and lines[-1] == "last"
    assert len(lines) == 2 + count - log.lost
    assert lines[1:-1] == [f"{number:099d}" for number in range(len(lines) - 2)]
    assert len(said) == 2 and f"{log.lost} lines were lost" in said[1]


def test_a_folder_that_is_away_for_a_while(tmp_path: Path) -> None:
    said: list[str] = []
    log = LogFile(str(tmp_path / "in/a.log"), log=said.append)
    (tmp_path / "in").rename(tmp_path / "away")
    log.append("lost")
    log.append("lost")
    (tmp_path / "away").rename(tmp_path / "in")
    log.append("kept")
    log.close(complete=True)
    assert (tmp_path / "in/a.log").read_text() == "kept\n"
    assert log.lost == 2 and len(said) == 2


def test_sinks_tell_how_much_they_lost(tmp_path: Path) -> None:
    for sink in (JsonLines(tmp_path / "in/a.jsonl"), Csv(tmp_path / "in/a.csv")):
        assert sink.lost == 0
        opened(sink)
        (tmp_path / "in").rename(tmp_path / "away")
        sink.write(*scored(1))
        (tmp_path / "away").rename(tmp_path / "in")
        assert sink.lost == 1


def test_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    for name in ("a.png", "a.onnx", "."):
        with pytest.raises(UsageError, match="text file"):
            LogFile(str(tmp_path / name))
    with small_disk(tmp_path / "disk", "1m,ro") as disk, pytest.raises(StorageError, match="only"):
        LogFile(str(disk / "a.log"))
