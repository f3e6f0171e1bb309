"""What docs/python.md shows runs, block by block, as a reader would type it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeArtifact
from training_helpers import part_image, write_toml

pytest_plugins = ["training_fixtures"]

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.fixture
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_artifact: MakeArtifact,
    parts: Path,
    tiny_weights: Path,
    cache: Path,
) -> Path:
    """The files that the page speaks of, in the folder where it is read."""
    rng = np.random.default_rng(0)
    make_artifact(tmp_path)
    cv2.imwrite(str(tmp_path / "part.png"), part_image(rng))
    for name, count in (("incoming", 10), ("recent", 20)):
        (tmp_path / name).mkdir()
        for index in range(count):
            cv2.imwrite(str(tmp_path / name / f"{index:02d}.png"), part_image(rng))
    (tmp_path / "incoming" / "05.png").write_bytes(b"no image")
    (tmp_path / "parts").symlink_to(parts)
    (tmp_path / "weights.safetensors").symlink_to(tiny_weights)
    write_toml(tmp_path / "tiny.toml", epochs=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAD_CACHE", str(cache))
    return tmp_path


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_five_tasks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score, many, camera, train, calibrate = blocks()
    assert max(len(block.splitlines()) for block in blocks()) <= 7
    names: dict[str, Any] = {}

    exec(score, names)
    found = names["found"]
    assert (found.anomaly_map.shape, found.overlay().shape) == ((72, 80), (72, 80, 3))
    assert str(found.score) in capsys.readouterr().out

    exec(many, names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("1/10 incoming/00.png: ")
    assert "not an image" in lines[5]

    exec(camera, names)
    assert "frame 0: " in capsys.readouterr().out or names["found"].is_anomalous

    folders = '"parts", "runs/parts"'
    assert train.count(folders) == 1
    tiny = f'{folders}, config="tiny.toml", weights="weights.safetensors"'  # in seconds
    exec(train.replace(folders, tiny), names)
    assert (folder / "runs" / "parts" / "model.onnx").is_file()
    assert "model.onnx" in capsys.readouterr().out

    exec(calibrate.replace('selftest("recalibrated.onnx")', "selftest(exported.path)"), names)
    assert (folder / "recalibrated.onnx").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 3
