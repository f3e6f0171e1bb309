"""The test bed of a station, for seconds: three cameras, a Modbus PLC, faults."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

if not (BENCHMARKS / "station.py").exists():
    pytest.skip("runs from a checkout only", allow_module_level=True)
pytest.importorskip("pymodbus")


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import station

    return station


FAULTS = (
    "camera unplugged and back",
    "buffers lost, one in three",
    "picture after the next trigger",
    "burst of 20 triggers",
    "PLC gone in mid-handshake",
    "artifact swap",
    "process killed",
)


def test_every_trigger_has_one_right_verdict_in_order() -> None:
    words = ["--parts", "0", "--rate", "8", "--calm", "0.1", "--pace", "0.15", "--deadline", "5"]
    run = subprocess.run(
        [
            *(sys.executable, str(BENCHMARKS / "station.py"), *words),
            *("--without-opcua", "--only", "|".join(FAULTS)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    out = run.stdout
    assert run.returncode == 0, out + run.stderr
    rows = {
        cells[0]: cells[1:]
        for line in out.splitlines()
        if line.startswith("| ") and len(cells := re.findall(r"\| ([^|]*?) (?=\|)", line)) == 11
    }
    assert set(FAULTS) < set(rows), out
    for name in FAULTS:
        lost, doubled, wrong = rows[name][6:9]
        assert (lost, doubled, wrong) == ("0", "0", "0"), out
    assert "Out of order: 0." in out


def test_what_is_wrong_is_counted(station: ModuleType) -> None:
    result = {"Outcome": 1, "Reason": 0, "ResultId": 7, "seen": 1.0}
    record = station.Record
    conveyor = type("Conveyor", (), {})()
    conveyor.records = {
        "lost": record("lost", False, "none", 0.0, id=6),
        "doubled": record("doubled", False, "none", 0.0, id=7, results=[result, result]),
        "wrong": record("wrong", True, "none", 0.0, id=7, results=[result]),
        "another's": record("another's", False, "none", 0.0, id=8, results=[result]),
        "refused": record("refused", False, "none", 0.0, refused=True),
    }
    found = station.judge(conveyor, [])["none"]
    assert (found.parts, found.lost, found.doubled, found.wrong, found.refused) == (5, 1, 1, 2, 1)
