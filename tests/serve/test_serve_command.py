"""`gad serve`: a process that says where it serves, ends when asked to, and tells what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import gad, one_line

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import Client, golden_artifact, png


def test_it_serves_until_it_is_asked_to_end(tmp_path: Path) -> None:
    artifact, token = golden_artifact(tmp_path / "part.onnx"), "a-token-of-enough-letters"
    command = ("-m", "generalad", "serve")
    process = subprocess.Popen(
        [sys.executable, *command, str(artifact), "--port", "0", "--token", "${GAD_TOKEN}"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GAD_TOKEN": token},
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("gad: serves at http://127.0.0.1:")
        client = Client(line.split()[3].rstrip(","), token)
        answer = client.predict(png(np.full((10, 10, 3), 255, np.uint8)), model="part")
        assert answer.json["predictions"][0]["anomalous"] is True
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert process.stderr.read() == "gad: interrupted\n"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_taken_port_is_told_before_a_network_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = gad(capsys, "serve", tmp_path / "none.onnx", "--port", port)
    assert code == 2
    assert "choose another port" in one_line(err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no artifact given"),
        (["none.onnx"], "no such file"),
        (["none.onnx", "--host", "0.0.0.0"], "needs a token"),
        (["none.onnx", "--host", "127.0.0.1", "--client-timeout", "0"], "from 0.001"),
        (["none.onnx", "--batch", "0"], "from 1"),
    ],
)
def test_what_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, _, err = gad(capsys, "serve", *words, "--port", "0")
    assert code in (1, 2)
    assert said in one_line(err).lower() or said in err
