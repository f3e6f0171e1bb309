"""What a recording becomes in the record: stages, memory, energy, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from generalad.bench import summary
from generalad.bench.interleaved import Opening, Recording
from generalad.bench.machine import Counter, Sensors
from generalad.bench.summary import Saturated, saturate, side_of
from generalad.bench.worker_process import Block, Facts, RunOptions, Subject

MISSING = ("energy of the GPU: cannot be read", "use of the GPU: cannot be read")


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    artifact = tmp_path / "model.engine"
    artifact.write_bytes(b"engine")
    facts = Facts("tensorrt 11, NVIDIA L4", "fp16", (64, 64), None, 1.0, 1.0, timed=True)
    times = {"upload": [0.1, 0.3], "infer": [2.0, 2.0], "download": [0.2, 0.2], "total": [3, 3.2]}
    seen = Sensors(0.0, gpu_memory=250.0, temperature=61.0, missing=MISSING)
    subject = Subject("model.engine", artifact)
    opening = Opening(1.0, 1.0, [Block(times, peak_rss=90.0)])
    return Recording(subject, facts, [opening], [0.0], seen)


def test_a_side_that_took_turns_has_memory_and_temperature(recording: Recording) -> None:
    found = side_of(recording)
    assert (found.gpu_memory, found.temperature, found.energy) == (250.0, 61.0, None)
    assert found.missing == MISSING[1:], "energy is not looked for"
    assert list(found.stages) == ["upload", "infer", "download", "total"]
    assert found.stages["upload"].median.value == pytest.approx(0.2)


def test_a_side_alone_has_energy_too(recording: Recording) -> None:
    found = side_of(recording, Saturated((), energy=0.5))
    assert (found.gpu_memory, found.energy, found.missing) == (250.0, 0.5, MISSING)


def test_a_side_without_any_sensors(recording: Recording) -> None:
    recording.sensors = None
    found = side_of(recording, Saturated((), energy=None))
    assert (found.gpu_memory, found.temperature, found.missing) == (None, None, ())


@pytest.mark.parametrize("backend", ["tensorrt 11, NVIDIA L4", "onnxruntime 1, CPU"])
def test_energy_a_image(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Of the first rate alone, from the device that computes."""
    joules, rate = [100.0], 40.0

    class Flowing:
        """Spends half a joule an image."""

        facts = Facts(backend, "fp16", (64, 64), None, 1.0, 1.0)

        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Flowing:
            return self

        def __exit__(self, *_: object) -> None: ...

        def throughput(self, sessions: int, seconds: float) -> float:
            joules[0] += 0.5 * rate * sessions * seconds
            return rate * sessions

    def sensors(*, gpu: bool) -> Sensors:
        assert gpu == (backend != "onnxruntime 1, CPU")
        return Sensors(0.0, energy={"gpu" if gpu else "package-0": Counter(joules[0])})

    monkeypatch.setattr(summary, "WorkerProcess", Flowing)
    monkeypatch.setattr(summary, "warm_up", lambda worker: 1.0)
    monkeypatch.setattr(summary, "read_sensors", sensors)
    done: list[int] = []
    subject, options = Subject("m", Path("m")), RunOptions([])
    found = saturate(subject, options, [1, 8], progress=lambda _, step, __: done.append(step))
    assert found.energy == pytest.approx(0.5)
    assert [(one.batch, one.concurrency) for one in found.rates] == [(1, 1), (1, 2), (8, 1), (8, 2)]
    assert done == [1, 2, 3, 4]
