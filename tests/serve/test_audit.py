"""The audit trail: grows, tells what was changed in it, and survives a power failure."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from generalad.errors import ArtifactError, UsageError
from generalad.serve.audit import COLUMNS, Audit


def filled(path: Path, count: int = 3) -> None:
    audit = Audit(path, clock=lambda: 1000.0)
    for number in range(count):
        audit.add("verdict", f"part-{number}", after="good", by="Shift A")
    audit.close()


def test_entries_are_there_again_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "trail" / "audit.jsonl"
    filled(path)
    audit = Audit(path)
    audit.add("threshold", "line-1", before=1.5, after=None)
    assert [entry["number"] for entry in audit.entries()] == [4, 3, 2, 1]
    assert [entry["subject"] for entry in audit.since(1001.0)] == ["line-1"]
    audit.close()
    Audit(path).close()


@pytest.mark.parametrize("harm", ["changed", "removed", "exchanged", "no JSON"])
def test_what_was_changed_in_it_is_told(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[:] = {
        "changed": [lines[0].replace(b"good", b"fine"), *lines[1:]],
        "removed": [lines[0], lines[2]],
        "exchanged": [lines[1], lines[0], lines[2]],
        "no JSON": [lines[0], b"nothing\n", lines[2]],
    }[harm]
    path.write_bytes(b"".join(lines))
    with pytest.raises(ArtifactError, match="is not what was written"):
        Audit(path)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 4, "ti')
    audit = Audit(path)
    audit.add("verdict", "next", after="good")
    audit.close()
    assert path.read_bytes().startswith(whole)
    assert json.loads(path.read_bytes().splitlines()[3])["number"] == 4


def test_only_one_process_writes(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    with pytest.raises(UsageError, match="another process"):
        Audit(tmp_path / "audit.jsonl")
    audit.close()


def test_csv_holds_all_and_no_formula(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.add("verdict", "=SUM(A1)", after="good", by='@"Shift A"\n')
    audit.add("threshold", "line-1", before=-1.5, after=2.0)
    rows = list(csv.reader(io.StringIO(audit.to_csv())))
    audit.close()
    assert rows[0] == list(COLUMNS)
    assert rows[1][2:6] == ['\'@"Shift A" ', "verdict", "'=SUM(A1)", ""]
    assert rows[2][5:7] == ["-1.5", "2.0"]


def test_only_the_last_word_on_something_is_undone(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.add("verdict", "part", after="good")
    audit.add("verdict", "other", after="good")
    audit.add("verdict", "part", before="good", after="defective")
    assert audit.undoable(3)["before"] == "good"
    assert audit.undoable(2)["subject"] == "other"
    with pytest.raises(UsageError, match="undo entry 3 first"):
        audit.undoable(1)
    with pytest.raises(UsageError, match="no recent entry 9"):
        audit.undoable(9)
    audit.close()
