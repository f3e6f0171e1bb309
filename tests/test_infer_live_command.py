"""`gad infer` on live sources, as a process: outputs, signals, lists on stdin, a line's file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeArtifact, MakePicture, WriteImage
from live_helpers import PATIENCE

from generalad.cli import main

CAMERA = "test://washer?size=64&rate=50&defects=0"


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> str:
    """One that finds nothing in the pictures of `CAMERA`."""
    from generalad.spec import Thresholds

    return str(make_artifact(tmp_path, thresholds=Thresholds(image=2.0, pixel=2.0)))


def gad(*arguments: str) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_camera_that_ends(artifact: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gad("infer", artifact, f"{CAMERA}&frames=12&rate=20") == 0
    out, err = capsys.readouterr()
    notices = [row["state"] for row in rows(out) if row.get("notice") == "camera"]
    assert notices == ["connecting", "live", "ended"]
    results = [row for row in rows(out) if "notice" not in row]
    assert results and all(row["anomalous"] is False for row in results)
    assert "live: 64 x 64" in err and "pictures: 0 anomalous" in err


def test_a_camera_that_cannot_work_fails_the_command(
    artifact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert gad("infer", artifact, "--real-time", str(broken)) == 1
    assert f"given up: {broken}" in capsys.readouterr().err


def test_a_line_file(artifact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = tmp_path / "line.toml"
    line.write_text(
        f'artifact = "{Path(artifact).name}"\n'
        f'[[stream]]\nname = "line-1"\nsource = "{CAMERA}&frames=5"\n'
        '[[sink]]\ntype = "json"\nfile = "out.jsonl"\n'
    )
    assert gad("infer", "--config", str(line)) == 0
    out, _ = capsys.readouterr()
    assert out == ""
    found = rows((tmp_path / "out.jsonl").read_text())
    assert {row.get("stream", row.get("source")) for row in found} == {"line-1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no artifact given"),
        (["model.onnx"], "no sources given"),
        (["model.onnx", "test://spoon"], "unknown category"),
        (["model.onnx", "ftp://host/x"], "not the address of a live source"),
        (["model.onnx", CAMERA, "--metrics", "x"], "expected PORT or HOST:PORT"),
        (["model.onnx", CAMERA, "--send", "ftp://x"], "mqtt://"),
        (["--config", "none.toml"], "none.toml"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, artifact: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(Path(artifact).parent)
    assert gad("infer", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


Start = Callable[..., subprocess.Popen[str]]


def start(*arguments: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "generalad", "infer", *arguments],
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_drain_and_finish(
    artifact: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    target = tmp_path / "out.jsonl"
    run = start(artifact, CAMERA, "--json", str(target))
    end = time.monotonic() + PATIENCE
    while not (target.exists() and target.read_text().count("\n") > 5):
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.kill(run.pid, number)
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == code
    assert err.splitlines()[-1] == "gad: interrupted" and "pictures: " in err
    found = rows(target.read_text())
    assert found[-1]["state"] == "ended" and found[-1]["reason"] == "closed"


def test_kill_leaves_whole_lines(artifact: str, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    run = start(artifact, CAMERA, "--json", str(target))
    end = time.monotonic() + PATIENCE
    while not (target.exists() and target.read_text().count("\n") > 5):
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    run.kill()
    run.communicate()
    assert rows(target.read_text().rpartition("\n")[0])


def test_a_list_on_stdin_is_read_as_it_comes(
    artifact: str, tmp_path: Path, picture: MakePicture, write_image: WriteImage
) -> None:
    first = write_image(tmp_path / "a.png", picture(50))
    run = start(artifact, "-", stdin=subprocess.PIPE)
    assert run.stdin is not None and run.stdout is not None
    run.stdin.write(f"{first}\n")
    run.stdin.flush()
    assert json.loads(run.stdout.readline())["path"] == str(first), "before the list has ended"
    out, err = run.communicate(f"{tmp_path / 'none.png'}\n", timeout=PATIENCE)
    (row,) = rows(out)
    assert "no such file" in row["error"] and run.returncode == 1
    assert "1 failed" in err


def test_events_reach_a_folder(
    tmp_path: Path, make_artifact: MakeArtifact, capsys: pytest.CaptureFixture[str]
) -> None:
    from generalad.spec import Thresholds

    all_is_anomalous = make_artifact(tmp_path, thresholds=Thresholds(image=0.0, pixel=0.9))
    events = tmp_path / "events"
    assert gad("infer", str(all_is_anomalous), f"{CAMERA}&frames=5", "--events", str(events)) == 0
    (folder,) = events.iterdir() if len(list(events.iterdir())) == 1 else [
        entry for entry in events.iterdir() if entry.is_dir()
    ]  # fmt: skip
    event = json.loads((folder / "event.json").read_text())
    assert event["ended_by"] == "camera ended" and event["phase"] == "end"
    assert (folder / "peak.png").stat().st_size > 0
