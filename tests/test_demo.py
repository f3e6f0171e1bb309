"""The demo, small: everything it promises appears, and a second run goes on from the first."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from generalad import demo
from generalad.cli.demo import table
from generalad.config import EMBEDDED, PRESETS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "GOOD_IMAGES", 8)
    monkeypatch.setattr(demo, "TEST_GOOD", 3)
    monkeypatch.setattr(demo, "TEST_PER_DEFECT", 2)
    monkeypatch.setattr(demo, "CONVEYOR_FRAMES", 6)
    monkeypatch.setitem(PRESETS, EMBEDDED, PRESETS[EMBEDDED].replaced({"epochs": 2}))


@pytest.mark.usefixtures("small")
def test_demo_makes_what_it_promises(tmp_path: Path) -> None:
    stages: list[str] = []
    result = demo.run_demo(
        tmp_path, categories=["washer"], progress=lambda stage, done, total: stages.append(stage)
    )

    (washer,) = result.categories
    assert washer.flips == 0
    assert washer.evaluated.evaluation.good == 3
    assert washer.evaluated.evaluation.defective == 6
    assert washer.artifact.stat().st_size == pytest.approx(washer.megabytes * 1e6)
    assert "<html" in washer.report.read_text(encoding="utf-8")
    assert {"washer: training", "washer: features"} <= set(stages)
    assert table(result).row_count == 1

    image = cv2.imread(str(result.image))
    assert image is not None
    assert image.shape == (256, 256 * 2 * 4, 3)  # image and map of good and three defects
    belt = result.conveyor
    lines = [json.loads(line) for line in (tmp_path / "conveyor.jsonl").read_text().splitlines()]
    assert (belt.frames, belt.defective) == (6, 1)
    assert belt.found + belt.false_alarms == sum(line["anomalous"] for line in lines)
    assert cv2.VideoCapture(str(belt.video)).read()[0]
    assert len((tmp_path / "conveyor.jsonl").read_text().splitlines()) == 6

    stages.clear()
    again = demo.run_demo(
        tmp_path, categories=["washer"], progress=lambda stage, done, total: stages.append(stage)
    )
    assert "washer: training" not in stages
    # Loading what is trained already takes no time that anybody should compare.
    assert (washer.training_seconds or 0) > 0
    assert again.categories[0].training_seconds is None
    assert [r.score for r in again.categories[0].evaluated.results] == [
        r.score for r in washer.evaluated.results
    ]
