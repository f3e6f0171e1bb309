"""`gad bench` from end to end, on tiny artifacts."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import gad, one_line
from conftest import MakeArtifact, MakeImage, WriteImage
from import_helpers import BLOCKED, import_all
from tiny_artifacts import planted_artifact

from generalad.bench import comparison, interleaved, measure
from generalad.bench.machine import Sensors, describe_machine
from generalad.bench.worker_process import OWN_ROOT

Capture = pytest.CaptureFixture[str]
QUICK = ("--budget", "60s", "--threads", "1")


@pytest.fixture(autouse=True)
def few_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench ends after the fewest openings that have an interval, however wide it is."""
    monkeypatch.setattr(interleaved, "BLOCK", 10.0)
    monkeypatch.setattr(interleaved, "WARM_UP", 0.1)
    monkeypatch.setattr(interleaved, "LEAST_TURNS", 3)
    monkeypatch.setattr(interleaved, "FEWEST_OPENINGS", 10_000)
    monkeypatch.setattr(comparison, "LOOKS", (6,))
    for name in ("NARROW", "NARROW_MEDIAN", "NARROW_P95"):
        monkeypatch.setattr(comparison, name, math.inf)


@pytest.fixture
def source(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        write_image(folder / f"{number}.png", make_image(60 + number))
    return folder


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    return make_artifact(tmp_path, name="new.onnx")


def report(out: str) -> dict[str, Any]:
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_one_artifact(capsys: Capture, artifact: Path, source: Path) -> None:
    code, out, err = gad(capsys, "bench", artifact, "--source", source, "--batch", "1,2", *QUICK)
    assert code == 0
    found = report(out)
    assert found["new"]["name"] == "new.onnx"
    assert found["old"] is None and found["verdict"] is None
    stages = found["new"]["stages"]
    assert list(stages) == ["decode", "preprocess", "infer", "postprocess", "total"]
    total = stages["total"]
    assert total["median"]["low"] <= total["median"]["value"] <= total["median"]["high"]
    assert total["median"]["value"] >= stages["infer"]["median"]["value"]
    rates = {(rate["batch"], rate["concurrency"]) for rate in found["new"]["throughput"]}
    assert rates == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert found["settings"]["source"] == "images"
    assert str(source.parent) not in out
    assert "total" in err and re.search(r"^measuring: ", err, re.M)


def test_a_heavier_artifact_is_stopped_and_its_stage_named(
    capsys: Capture, tmp_path: Path, artifact: Path, source: Path
) -> None:
    heavy = planted_artifact(artifact, tmp_path / "heavy.onnx", rows=20000)
    words = ("bench", heavy, "--against", artifact, "--source", source, *QUICK)
    code, out, err = gad(capsys, *words, "--max-slowdown", "5%")
    found = report(out)
    assert code == 3
    assert found["verdict"] == "slower"
    assert found["gates"][0]["passed"] is False
    last = err.splitlines()[-1]
    assert last.startswith("gad: slowdown: +")
    assert "infer takes" in last
    # Without the option nothing is refused, and the other way round it is faster.
    assert gad(capsys, *words)[0] == 0
    code, out, _ = gad(
        capsys, "bench", artifact, "--against", heavy, "--source", source, *QUICK,
        "--max-slowdown", "5%",
    )  # fmt: skip
    assert (code, report(out)["verdict"]) == (0, "faster")


def test_an_artifact_with_another_input_is_2(
    capsys: Capture, tmp_path: Path, make_artifact: MakeArtifact, artifact: Path, source: Path
) -> None:
    other = make_artifact(tmp_path, name="big.onnx", image_size=(128, 128), map_size=(32, 32))
    code, out, err = gad(capsys, "bench", artifact, "--against", other, "--source", source)
    assert (code, out) == (2, "")
    assert "big.onnx takes 128 x 128 pixels" in one_line(err)


def test_limits_on_p95_and_memory(capsys: Capture, artifact: Path, source: Path) -> None:
    words = ("bench", artifact, "--source", source, "--budget", "15s", "--threads", "1")
    code, out, err = gad(capsys, *words, "--max-p95", "100000", "--max-memory", "1")
    assert code == 3
    assert [gate["passed"] for gate in report(out)["gates"]] == [True, False]
    assert "above the limit of 1 MB" in err.splitlines()[-1]
    assert "p95" not in err.splitlines()[-1]


def test_a_soak_has_slopes(capsys: Capture, artifact: Path, source: Path) -> None:
    code, out, _ = gad(capsys, "bench", artifact, "--source", source, "--soak", "8s")
    soak = report(out)["soak"]
    assert code == 0
    assert soak["seconds"] >= 8
    assert soak["latency"]["low"] <= soak["latency"]["value"] <= soak["latency"]["high"]
    assert sys.platform != "linux" or soak["memory"] is not None


def test_every_output(capsys: Capture, tmp_path: Path, artifact: Path, source: Path) -> None:
    out = tmp_path / "out"
    code, stdout, _ = gad(
        capsys, "bench", artifact, "--against", artifact, "--source", source, *QUICK,
        "--json", out / "r.json", "--markdown", out / "r.md", "--github", out / "g.json",
        "--history", out / "history",
    )  # fmt: skip
    assert (code, stdout) == (0, "")
    assert report((out / "r.json").read_text())["old"]["name"] == "new.onnx"
    assert "new.onnx" in (out / "r.md").read_text()
    assert json.loads((out / "g.json").read_text())
    assert len(list((out / "history").glob("*.json"))) == 1
    assert "<svg" in (out / "history" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--max-slowdown", "5%"), "something to compare with"),
        (("--against", "a.onnx", "--against-rev", "HEAD"), "one thing only"),
        (("--against", "a.onnx", "--soak", "1m"), "a soak watches one artifact"),
        (("--against", "a.onnx", "--batch", "1,2"), "one batch size"),
        (("--budget", "10"), "such as 60s"),
        (("--budget", "1ms"), "a budget of 0.001 s is too short: starting and warming up took"),
        (("--max-slowdown", "5", "--against", "a.onnx"), "such as 5%"),
        (("--source", "rtsp://camera"), "record a video"),
        (("--against-rev", "no-such-revision"), "no revision 'no-such-revision'"),
    ],
)
def test_wrong_usage_is_2(
    capsys: Capture, artifact: Path, words: tuple[str, ...], expected: str
) -> None:
    if "--against-rev" in words and not (OWN_ROOT / ".git").exists():
        pytest.skip("the tests run outside a git checkout")
    code, out, err = gad(capsys, "bench", artifact, *words)
    assert (code, out) == (2, "")
    assert expected in one_line(err)


def test_what_is_not_there_is_1(capsys: Capture, tmp_path: Path, artifact: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for words in ((tmp_path / "none.onnx",), (artifact, "--source", empty)):
        code, out, err = gad(capsys, "bench", *words)
        assert (code, out) == (1, "")
        one_line(err)


@pytest.mark.parametrize(
    "option", ["--json", "--markdown", "--github", "--history", "--save-baseline"]
)
def test_an_output_that_cannot_be_written_is_said_before_measuring(
    capsys: Capture, tmp_path: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(
        measure, "measure_interleaved", lambda *arguments: pytest.fail("it measures")
    )
    (tmp_path / "file").touch()
    code, out, err = gad(capsys, "bench", artifact, option, tmp_path / "file" / "report")
    assert (code, out) == (1, "")
    assert "file" in one_line(err)


def test_a_damaged_image_is_named(capsys: Capture, artifact: Path, source: Path) -> None:
    (source / "1.png").write_bytes(b"no image")
    code, _, err = gad(capsys, "bench", artifact, "--source", source)
    assert code == 1
    assert "1.png" in one_line(err)


def test_a_busy_gpu_is_refused_unless_it_is_not_used(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, artifact: Path, source: Path
) -> None:
    busy = Sensors(0.0, gpu="NVIDIA L4", gpu_others=(7,), gpu_used=80.0)
    monkeypatch.setattr("generalad.bench.measure.read_sensors", lambda: busy)
    words = ("bench", artifact, "--source", source, *QUICK)
    code, out, err = gad(capsys, *words, "--device", "cuda")
    assert (code, out) == (1, "")
    assert "NVIDIA L4 is busy: 80 % used (other processes: 7)" in one_line(err)
    code, out, _ = gad(capsys, *words, "--device", "cpu", "--soak", "5s")
    assert (code, report(out)["machine"]["gpu"]) == (0, None)


def test_padding_is_said(
    capsys: Capture, tmp_path: Path, make_artifact: MakeArtifact, source: Path
) -> None:
    fixed = make_artifact(tmp_path, name="fixed.onnx", batch=4)
    code, out, _ = gad(capsys, "bench", fixed, "--source", source, "--soak", "5s")
    assert code == 0
    assert any("batches of 4, others are padded" in note for note in report(out)["notes"])


def test_a_baseline_judges_or_says_why_not(
    capsys: Capture, tmp_path: Path, artifact: Path, source: Path
) -> None:
    file = tmp_path / "baseline.json"
    words = ("bench", artifact, "--source", source, *QUICK)
    code, _, _ = gad(capsys, *words, "--save-baseline", file)
    assert code == 0
    code, out, err = gad(capsys, *words, "--baseline", file, "--max-slowdown", "50%")
    assert code in (0, 1)  # 1 where this machine's state has changed too much in between
    found = report(out)
    assert found["gates"][0]["name"] == "slowdown"
    assert bool(found["comparisons"]) == (code == 0)
    assert ("cannot judge this run" in found["refusal"]) == (code == 1)
    stored = json.loads(file.read_text())
    stored["reference"] = {"copy": {"value": 1e-3, "low": 1e-3, "high": 1e-3}}
    file.write_text(json.dumps(stored))
    code, out, err = gad(capsys, *words, "--baseline", file)
    assert (code, out) == (1, "")
    assert "other reference kernels" in one_line(err)
    file.write_text("{}")
    code, _, err = gad(capsys, *words, "--baseline", file)
    assert code == 1
    assert "not a baseline" in one_line(err)


def a_baseline(path: Path, **conditions: object) -> Path:
    """Of the artifact above on this machine; kernels and times are made up."""
    machine = describe_machine(1)
    held = {
        "architecture": machine.architecture,
        "gpu": None,
        "threads": 1,
        "backend": f"onnxruntime {importlib.metadata.version('onnxruntime')}, CPU",
        "precision": "fp32",
        "input_size": [64, 64],
        "batch": 1,
        "source": "images",
    }
    held["backend"] = re.sub(r"(\d+)\.[\d.]+", r"\1", str(held["backend"]))
    known = {"value": 1.0, "low": 0.99, "high": 1.01}
    # One kernel a million times as fast as here: no single factor describes this machine.
    kernels = {"matmul": known, "copy": dict.fromkeys(known, 1e-6), "convolution": known}
    made = {
        "artifact": "new.onnx",
        "when": "2026-03-01T10:00:00+00:00",
        "version": "0.1.0",
        "cpu": machine.cpu,
        "conditions": {**held, **conditions},
        "reference": kernels,
        "relative": {"infer": known, "total": known},
        "schema": 1,
    }
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"architecture": "z80"}, "architecture is"),
        ({"threads": 64, "source": "other"}, "threads is 1, the baseline's 64; source is images"),
        ({"precision": "int8"}, "precision is fp32, the baseline's int8"),
        ({"backend": "openvino 1, CPU"}, "backend is onnxruntime"),
        ({"input_size": [32, 64]}, "input size is 64 x 64, the baseline's 32 x 64"),
    ],
)
def test_a_baseline_that_can_never_judge_is_refused_before_measuring(
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    artifact: Path,
    source: Path,
    conditions: dict[str, object],
    words: str,
) -> None:
    monkeypatch.setattr(
        "generalad.bench.measure.measure_interleaved", lambda *_: pytest.fail("measured")
    )
    file = a_baseline(tmp_path / "b.json", **conditions)
    code, out, err = gad(capsys, "bench", artifact, "--source", source, *QUICK, "--baseline", file)
    assert (code, out) == (1, "")
    assert words in one_line(err)
    assert "cannot judge this run" in err


def test_what_only_measuring_shows_is_refused_with_a_report(
    capsys: Capture, tmp_path: Path, artifact: Path, source: Path
) -> None:
    file, saved = a_baseline(tmp_path / "b.json"), tmp_path / "b.md"
    words = ("bench", artifact, "--source", source, *QUICK, "--baseline", file)
    code, out, err = gad(capsys, *words, "--max-slowdown", "5%", "--markdown", saved)
    found = report(out)
    assert code == 1
    assert found["verdict"] is None and found["comparisons"] == []
    assert "no single factor describes this machine" in found["refusal"]
    assert found["gates"] == [
        {"name": "slowdown", "passed": None, "sentence": "not judged (limit 5 %)"}
    ]
    assert err.splitlines()[-1] == f"gad: {found['refusal']}"
    assert saved.read_text(encoding="utf-8").startswith("### 🚫 refused")
    # A limit that is surely exceeded weighs more.
    code, _, err = gad(capsys, *words, "--max-memory", "1")
    assert code == 3
    assert "above the limit of 1 MB; the baseline of 2026-03-01" in err.splitlines()[-1]


def test_against_a_revision(capsys: Capture, artifact: Path, source: Path) -> None:
    if not (OWN_ROOT / ".git").exists():
        pytest.skip("the tests run outside a git checkout")
    code, out, _ = gad(
        capsys, "bench", artifact, "--against-rev", "HEAD", "--source", source, *QUICK
    )
    found = report(out)
    assert code == 0
    assert found["new"]["revision"].startswith(found["old"]["revision"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_nothing_behind(
    tmp_path: Path, artifact: Path, number: signal.Signals
) -> None:
    """With drawn parts, so that there is a temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = f"-m generalad bench {artifact} --against {artifact} --budget 10m"
    process = subprocess.Popen(
        [sys.executable, *command.split()],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        workers: list[int] = []
        deadline = time.monotonic() + 60
        while len(workers) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
            workers = children(process.pid)
        assert len(workers) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert number != signal.SIGINT or err.splitlines()[-1] == "gad: interrupted"
    assert "Traceback" not in err
    assert list(temporary.glob("gad-bench-*")) == []
    # A worker ends when its pipe does, which may be a moment after its parent.
    deadline = time.monotonic() + 20
    while running(workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(workers)


def running(workers: list[int]) -> list[int]:
    """Those that have not ended."""
    return [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists()]


def children(pid: int) -> list[int]:
    """Ids of the workers of a process."""
    done = subprocess.run(("ps", "-o", "pid=", "--ppid", str(pid)), capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


def test_it_needs_no_training_side() -> None:
    loaded = import_all(["generalad.bench"], BLOCKED)
    assert "generalad.bench.measure" in loaded
    assert not [name for name in loaded if name.startswith(("generalad.model", "generalad.train"))]
