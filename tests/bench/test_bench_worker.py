"""The process of a side: real ones, that answer, die, hang, or are of another checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import MakeArtifact, MakeImage, WriteImage, WriteVideo

from generalad.bench import worker, worker_process
from generalad.bench.worker_process import Block, RunOptions, Subject, WorkerProcess
from generalad.errors import GadError, UsageError
from generalad.runtime.backends import open as opening
from generalad.runtime.backends import ort_providers
from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.backends.session import STAGES as STAGES_OF_A_GPU
from generalad.runtime.backends.session import Outputs

STAGES = {"decode", "preprocess", "infer", "postprocess", "total"}


@pytest.fixture
def options(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> RunOptions:
    return RunOptions([str(write_image(tmp_path / f"{i}.png", make_image(90))) for i in range(2)])


@pytest.fixture
def subject(tmp_path: Path, make_artifact: MakeArtifact) -> Subject:
    return Subject("model.onnx", make_artifact(tmp_path))


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put a program of our own in the worker's place."""
    path = tmp_path / "program.py"
    path.write_text(code)
    monkeypatch.setattr(worker_process, "PROGRAM", path)


def test_it_times_every_stage(subject: Subject, options: RunOptions) -> None:
    with WorkerProcess(subject, options) as side:
        block = side.run(5)
        assert set(block.times) == STAGES
        assert all(len(values) == 5 and min(values) > 0 for values in block.times.values())
        parts = [sum(block.times[stage][run] for stage in STAGES - {"total"}) for run in range(5)]
        # The total is measured by itself, and nothing but the stages lies in it.
        for whole, part in zip(block.times["total"], parts, strict=True):
            assert part <= whole < part + 0.5
        assert side.facts.image_size == (64, 64)
        assert side.facts.backend.startswith("onnxruntime")
        assert side.facts.load > 0
        assert block.peak_rss is None or 20 < block.peak_rss < 2000
        assert block.rss is None or 20 < block.rss <= (block.peak_rss or 0)
        assert side.throughput(2, 0.05) > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="schedstat is Linux's")
def test_waiting_for_a_core_is_told(subject: Subject, options: RunOptions) -> None:
    if not Path("/proc/thread-self/schedstat").exists():
        pytest.skip("this kernel has no schedstat")
    with WorkerProcess(subject, options) as side:
        block = side.run(20)
    assert block.waits is not None
    assert set(block.waits) == STAGES
    for time_, wait, own in zip(
        block.times["total"], block.waits["total"], block.own("total"), strict=True
    ):
        assert wait >= 0
        assert own == pytest.approx(max(time_ - wait, 1e-6))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="needs schedstat")
def test_the_watch_sees_a_rival_on_the_same_core() -> None:
    """Two busy processes on one core: about half of the time is waiting."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import worker\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "rival = os.fork()\n"
        "if rival == 0:\n"
        "    while True: pass\n"
        "watch = worker.Stopwatch(); watch.start(); n = 0\n"
        "while n < 20_000_000: n += 1\n"
        "watch.stage('count')\n"
        "times, waits = watch.stop(1)\n"
        "os.kill(rival, 9)\n"
        "print(waits['total'] / times['total'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(worker.__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.2 < float(done.stdout) < 1


def test_batches_are_given_an_image(subject: Subject, options: RunOptions) -> None:
    with WorkerProcess(subject, RunOptions(options.images, batch=4)) as side:
        block = side.run(3)
    assert len(block.times["total"]) == 3


def test_a_video_goes_round(
    tmp_path: Path, subject: Subject, make_image: MakeImage, write_video: WriteVideo
) -> None:
    path = write_video(tmp_path / "clip.avi", [make_image(90) for _ in range(5)])
    with WorkerProcess(subject, RunOptions([str(path)], batch=2)) as side:
        assert len(side.run(9).times["decode"]) == 9


def test_an_artifact_that_cannot_be_opened(tmp_path: Path, options: RunOptions) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(GadError, match="cannot be loaded") as caught:
        WorkerProcess(Subject("bad.onnx", tmp_path / "bad.onnx"), options)
    assert caught.value.exit_code == 1
    assert caught.value.remedy


def test_wrong_usage_stays_wrong_usage(subject: Subject, options: RunOptions) -> None:
    with pytest.raises(UsageError, match="cannot run on 'abacus'") as caught:
        WorkerProcess(subject, RunOptions(options.images, device="abacus"))
    assert caught.value.exit_code == 2


def test_a_worker_that_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject, options: RunOptions
) -> None:
    program(tmp_path, monkeypatch, "import sys; sys.exit('no memory left')")
    with pytest.raises(GadError, match=r"process died \(exit code 1: no memory left\)"):
        WorkerProcess(subject, options)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_its_heap_is_steady_unless_the_user_says_otherwise(
    subject: Subject, options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, own, _ = worker_process.MALLOC
    monkeypatch.delenv(kept, raising=False)
    monkeypatch.setenv(own, "123456")
    with WorkerProcess(subject, options) as side:
        entries = Path(f"/proc/{side.facts.pid}/environ").read_bytes().decode().split("\0")
    assert f"{kept}={worker_process.MALLOC[kept]}" in entries and f"{own}=123456" in entries


def test_a_worker_that_is_killed_between_commands(subject: Subject, options: RunOptions) -> None:
    with WorkerProcess(subject, options) as side:
        os.kill(side.facts.pid, 9)
        with pytest.raises(GadError, match="process died"):
            side.run(1)


def test_each_opening_has_memory_of_its_own(subject: Subject, options: RunOptions) -> None:
    with WorkerProcess(subject) as side:
        pids = []
        for batch in (1, 2):
            side.open(RunOptions(options.images, batch=batch))
            pids.append(side.facts.pid)
            assert len(side.run(3).times["total"]) == 3
            side.close_artifact()
    assert pids[0] != pids[1]
    # What was told to close ends a moment after its answer.
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_nothing_is_left_of_a_side_that_is_closed_at_work(
    subject: Subject, options: RunOptions
) -> None:
    with WorkerProcess(subject, options) as side:
        pid = side.facts.pid
    deadline = time.monotonic() + 20  # who adopts it takes a moment to see its end
    while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}/cmdline").exists()


def test_a_worker_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject, options: RunOptions
) -> None:
    program(tmp_path, monkeypatch, "import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(GadError, match="has not answered"):
        WorkerProcess(subject, options, patience=0.3)
    assert time.monotonic() - began < 60


def test_a_library_that_prints_does_not_disturb(subject: Subject, options: RunOptions) -> None:
    """What goes to file descriptor 1 lands on stderr; the answers have their own."""
    done = subprocess.run(
        [sys.executable, str(worker_process.PROGRAM)],
        input='{"do": "memory"}\n{"do": "nonsense"}\nno json\n',
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith('{"error"') for line in lines)


def test_a_checkout_that_is_too_old(tmp_path: Path, subject: Subject, options: RunOptions) -> None:
    package = tmp_path / "old" / "generalad"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    old = Subject("model.onnx", subject.artifact, package.parent, "abc")
    with pytest.raises(UsageError, match=r"model\.onnx at abc: this revision is too old"):
        WorkerProcess(old, options)


def test_another_checkout_is_really_the_one_that_runs(
    tmp_path: Path, subject: Subject, options: RunOptions
) -> None:
    link = tmp_path / "other"
    link.mkdir()
    (link / "generalad").symlink_to(worker_process.OWN_ROOT / "generalad", target_is_directory=True)
    with WorkerProcess(Subject("m", subject.artifact, link), options) as side:
        assert side.run(1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(GadError, match="expected its own generalad"):
        WorkerProcess(Subject("m", subject.artifact, empty), options)


def test_own_times_are_positive() -> None:
    block = Block({"total": [2.0, 1.0]}, {"total": [0.5, 1.5]})
    assert block.own("total") == [1.5, 1e-6]
    assert Block({"total": [2.0]}).own("total") == [2.0]


def test_the_program_needs_nothing_of_the_present_checkout() -> None:
    """Older revisions have no generalad.bench; importing it would fail there."""
    text = worker_process.PROGRAM.read_text()
    assert "generalad.bench import" not in text
    assert "from generalad.bench" not in text


class OnGpu(FakeSession):
    """Says that each run spends 1 ms, 20 ms and 3 ms in its stages."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self.stages = dict.fromkeys(STAGES_OF_A_GPU, 0.0) if timed else {}

    def run(self, images: np.typing.NDArray[np.uint8]) -> Outputs:
        for stage, milliseconds in zip(self.stages, (1.0, 20.0, 3.0), strict=False):
            self.stages[stage] += milliseconds
        return super().run(images)


def command(options: RunOptions, timed: bool = True) -> dict[str, Any]:
    """As `WorkerProcess` gives it."""
    given = {"batch": options.batch, "threads": 2, "device": None, "timed": timed}
    images = {"images": list(options.images), "videos": []}
    return {"do": "open", "artifact": "model.engine", **images, **given}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("timed", [True, False])
def test_stages_of_a_gpu_are_told_apart(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, batch: int, timed: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def opened(
        path: str, *, threads: int, spinning: bool = True, timed: bool = False
    ) -> FakeSession:
        asked.append({"threads": threads, "spinning": spinning, "timed": timed})
        return OnGpu(timed=timed)

    monkeypatch.setattr(opening, "open_session", opened)
    side = worker.Worker()
    facts = side.answer(command(RunOptions(options.images, batch=batch), timed))
    found = side.answer({"do": "run", "runs": 3})
    # As `gad infer` opens it.
    assert asked == [{"threads": 2, "spinning": False, "timed": timed}]
    assert facts["timed"] == timed
    if not timed:
        assert set(found["times"]) == STAGES
        return
    assert set(found["times"]) == STAGES | {"upload", "download"}
    for stage, milliseconds in zip(STAGES_OF_A_GPU, (1.0, 20.0, 3.0), strict=True):
        assert found["times"][stage] == pytest.approx([milliseconds / batch] * 3)
        assert found["waits"] is None or found["waits"][stage] == [0.0] * 3
    # The total is by the clock, which knows nothing of what the device says.
    assert all(total < 20 * 60 for total in found["times"]["total"])
    assert set(found["waits"] or found["times"]) == set(found["times"])


def test_a_session_without_stages_and_an_option_that_a_checkout_lacks(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        opening, "open_session", lambda path, threads, spinning, timed: FakeSession()
    )
    side = worker.Worker()
    facts = side.answer(command(options))
    found = side.answer({"do": "run", "runs": 1})
    assert (facts["timed"], set(found["times"])) == (False, STAGES)
    with pytest.raises(TypeError, match="unexpected keyword argument 'device'") as caught:
        side.answer({**command(options), "device": "cpu"})
    assert worker.failure(caught.value)["lacks"]
    assert not worker.failure(ValueError())["lacks"]


@pytest.mark.parametrize(
    ("name", "device", "offered", "expected"),
    [
        ("model.onnx", "cpu", [ort_providers.CUDA], False),
        ("model.onnx", "cuda", [], True),
        ("model.onnx", None, [ort_providers.CUDA, ort_providers.CPU], True),
        ("model.onnx", None, [ort_providers.CPU], False),
        ("model.xml", None, [ort_providers.CUDA], False),
        ("model.engine", None, [], True),
    ],
)
def test_what_may_use_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    device: str | None,
    offered: list[str],
    expected: bool,
) -> None:
    library = SimpleNamespace(get_available_providers=lambda: offered)
    monkeypatch.setattr("generalad.runtime.backends.ort.library", lambda: library)
    subject = Subject(name, Path(name))
    assert worker_process.may_use_gpu(subject, RunOptions([], device=device)) == expected
