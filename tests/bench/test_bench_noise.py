"""What `gad bench` says of the machine's unrest: a sentence for each kind, none of a quiet one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from generalad.bench.comparison import compare
from generalad.bench.interleaved import Opening, Recording
from generalad.bench.summary import Ticks, noise, notes, ticks, waiting
from generalad.bench.worker_process import Block, Facts, Subject

FACTS = Facts("onnxruntime 1, CPU", "fp32", (64, 64), None, 1.0, 1.0)


def side(*, noise: float = 0.01, wait: float | None = 0.0, seed: int = 0) -> Recording:
    """Ten openings of ten blocks of about 10 ms a run; `wait` is the share of it without a core."""
    random = np.random.default_rng(seed)
    subject = Subject("model.onnx", Path("model.onnx"))
    found = Recording(subject, FACTS, [Opening(1.0, 1.0) for _ in range(10)])
    for turn, value in enumerate(10 * np.exp(random.normal(0, noise, 100))):
        times = {stage: [float(value)] * 4 for stage in ("infer", "total")}
        waits = None if wait is None else {s: [wait * t for t in ts] for s, ts in times.items()}
        found.openings[turn // 10].blocks.append(Block(times, waits))
    return found


def test_a_quiet_machine_has_no_notes() -> None:
    assert notes([side(), side(seed=1)], Ticks(100, 5), Ticks(200, 6)) == []


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (side(noise=0.3), "this machine is noisy"),
        (side(wait=0.4), "other programs had the cores for 40% of the time"),
        (side(wait=None), "this system does not tell how long a program waits for a core"),
    ],
)
def test_each_unrest_has_one_line(recording: Recording, words: str) -> None:
    (line,) = notes([recording], None, None)
    assert line.startswith(words)
    assert "\n" not in line


def test_a_host_that_takes_time_is_named() -> None:
    (line,) = notes([side()], Ticks(100, 0), Ticks(200, 10))
    assert line == "the host took 10% of this virtual machine's processor time"


def test_without_proc_a_comparison_is_by_the_clock(tmp_path: Path) -> None:
    """macOS and Windows."""
    assert ticks(tmp_path / "stat") is None
    new, old = side(wait=None, seed=1), side(wait=None)
    assert waiting(new.blocks) is None
    found = compare(new, old)
    assert found.verdict == "same"
    assert not found.waiting_counts
    assert noise([new, old]) is not None
