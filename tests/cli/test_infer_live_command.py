"""`gad infer` on live sources, as a process: outputs, signals, lists on stdin, a line's file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from camera_helpers import PATIENCE
from conftest import MakeArtifact, MakeImage, WriteImage
from delivery_helpers import Broker, needs, subscribed
from ports import free_port

from generalad.cli import main

CAMERA = "test://washer?size=64&rate=50&defects=0"


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> str:
    """One that finds nothing in the images of `CAMERA`."""
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
    notifications = [row["state"] for row in rows(out) if row.get("notice") == "camera"]
    assert notifications == ["connecting", "live", "ended"]
    results = [row for row in rows(out) if "notice" not in row]
    assert results and all(row["anomalous"] is False for row in results)
    assert "live: 64 x 64" in err and "images: 0 anomalous" in err


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


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(*arguments, stdin=...)`: a process of `gad infer`, which does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def run(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "generalad", "infer", *arguments],
                stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_drain_and_finish(
    artifact: str, tmp_path: Path, start: Start, number: signal.Signals, code: int
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
    assert err.splitlines()[-1] == "gad: interrupted" and "images: " in err
    found = rows(target.read_text())
    assert found[-1]["state"] == "ended" and found[-1]["reason"] == "closed"


def test_kill_leaves_whole_lines(artifact: str, tmp_path: Path, start: Start) -> None:
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
    artifact: str, tmp_path: Path, start: Start, make_image: MakeImage, write_image: WriteImage
) -> None:
    first = write_image(tmp_path / "a.png", make_image(50))
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


def test_a_killed_run_loses_no_event(
    tmp_path: Path, make_artifact: MakeArtifact, start: Start
) -> None:
    """The broker is away, the process is killed; the next run delivers what the first promised."""
    needs("mosquitto")
    from generalad.spec import Thresholds

    artifact = str(make_artifact(tmp_path, thresholds=Thresholds(image=0.0, pixel=0.9)))
    camera = f"{CAMERA}&fault=disconnect@1+0.1"
    broker, target = Broker(tmp_path), tmp_path / "out.jsonl"
    send = f"mqtt://127.0.0.1:{broker.port}/hall"
    run = start(artifact, camera, "--json", str(target), "--send", send, "--state", str(tmp_path))

    def told() -> set[str]:
        text = target.read_text().rpartition("\n")[0] if target.exists() else ""
        return {row["id"] for row in rows(text) if "notice" in row}

    end = time.monotonic() + PATIENCE
    while len(told()) < 7:  # an event has ended with the connection, and another has begun
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    run.kill()
    run.communicate()
    promised = told()
    broker.start()
    try:
        with subscribed(broker.port) as subscriber:
            again = start(artifact, f"{camera}&frames=3", "--send", send, "--state", str(tmp_path))
            again.communicate(timeout=PATIENCE)
            received = {content.get("id") for _, content, _ in subscriber.received}
            while not promised <= received:
                assert time.monotonic() < end + PATIENCE, promised - received
                time.sleep(0.05)
                received = {content.get("id") for _, content, _ in subscriber.received}
            assert [s for s in subscriber.states if s == "online"], "said when it was there"
    finally:
        broker.kill()


def test_passwords_are_nowhere_to_be_seen(artifact: str, tmp_path: Path, start: Start) -> None:
    pytest.importorskip("av")
    target, port = tmp_path / "out.jsonl", free_port()
    camera = f"rtsp://gad:s3cretword@127.0.0.1:{port}/cam"
    run = start(
        artifact, camera, "--json", str(target), "--send", f"http://u:s3cretword@127.0.0.1:{port}/",
        "--state", str(tmp_path / "state"),
    )  # fmt: skip
    end = time.monotonic() + PATIENCE
    while not (target.exists() and "reconnecting" in target.read_text()):
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGTERM)
    out, err = run.communicate(timeout=PATIENCE)
    stored = b"".join(f.read_bytes() for f in (tmp_path / "state").rglob("*") if f.is_file())
    for text in (out, err, target.read_text(), stored.decode(errors="replace")):
        assert "s3cretword" not in text
    assert "***@127.0.0.1" in err
