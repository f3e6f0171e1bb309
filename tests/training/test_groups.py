"""Groups from the split to the artifact, and what drawn defects show of a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from training_helpers import part_image, tiny_config, write_image

from generalad.errors import ConfigError, DataError
from generalad.export.export import export_detector
from generalad.spec import Spec
from generalad.synth.dataset import image_generator
from generalad.synth.parts import render_part
from generalad.training.drawn_misses import LEAST, MOST, RATES, drawn_misses
from generalad.training.split import split_dataset
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]

LAST_DIGIT = r"(\d)\.png"


def test_groups_go_with_the_detector_and_its_export(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    config = tiny_config(group=LAST_DIGIT, false_alarm_rate=0.4)
    trained = train_detector(parts, tmp_path / "run", config, weights=tiny_weights, cache=cache)
    found = trained.spec.calibration
    assert found.grouping == f"group = '{LAST_DIGIT}': 10 groups of 16 images"
    assert (found.groups, found.reached) == (2, 0.4)
    assert len(found.group_of) == found.images == len(trained.calibration_images()) > 2
    assert set(found.group_of) == {0, 1}
    assert [row.rate for row in found.drawn_misses] == list(RATES)
    assert Spec.from_json(trained.spec.to_json()) == trained.spec
    exported = export_detector(trained, tmp_path / "model.onnx").spec.calibration
    assert exported.group_of == found.group_of
    assert (exported.groups, exported.reached) == (found.groups, found.reached)
    assert exported.drawn_misses == found.drawn_misses


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shots", [0, 4])
def test_no_group_is_on_both_sides(parts: Path, seed: int, shots: int) -> None:
    config = tiny_config(group=LAST_DIGIT, seed=seed, shots=shots)
    split = split_dataset(parts, config, skip_bad=False)
    sides = [{s.path.stem[-1] for s in side} for side in (split.train, split.calibration)]
    assert not sides[0] & sides[1]
    numbers = split.grouping.numbers(split.calibration)
    assert len(set(numbers)) == len(sides[1])
    assert len(numbers) == len(split.calibration)


def test_one_group_cannot_be_split(parts: Path) -> None:
    for rule in ("folder", "good"):
        with pytest.raises(DataError, match="1 different good images or groups of them"):
            split_dataset(parts, tiny_config(group=rule), skip_bad=False)


def test_a_rule_that_is_no_expression_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"group: expected .* regular expression .*'\(lot'"):
        tiny_config(group="(lot")


def board(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A good one, and its mask."""
    return render_part("board", image_generator(3, "board", "copies", index), size=128)


def test_near_copies_of_training_images_do_not_calibrate(tmp_path: Path) -> None:
    data = tmp_path / "parts"
    validation = data / "validation" / "good"
    for index in range(12):
        image, _ = board(index)
        write_image(data / "train" / "good" / f"{index:03d}.png", image)
        if index in (3, 7):
            write_image(validation / f"{index}.jpg", image)
    with pytest.raises(DataError, match="all 2 calibration images are near-copies of training"):
        split_dataset(data, tiny_config(), skip_bad=False)
    assert len(split_dataset(data, tiny_config(group="image"), skip_bad=False).calibration) == 2
    write_image(validation / "new.png", board(99)[0])
    split = split_dataset(data, tiny_config(), skip_bad=False)
    assert [s.path.name for s in split.calibration] == ["new.png"]
    assert "near-copies of others" in split.grouping.what


@pytest.mark.parametrize("images", [3, 50, 400])
def test_drawn_defects_show_what_a_lower_rate_costs(images: int) -> None:
    rng = np.random.default_rng(0)
    good = [part_image(rng) for _ in range(images)]
    calibration = rng.normal(size=images).astype(np.float32)
    seen: list[NDArray[np.uint8]] = []

    def score(drawn: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        seen.extend(drawn)
        return np.linspace(-1, 4, len(drawn)).astype(np.float32)

    rows = drawn_misses(score, good, calibration, range(images))
    assert len(seen) == rows[0].drawn == min(max(images, LEAST), MOST)
    assert not any(np.array_equal(one, image) for one in seen[:5] for image in good)
    assert [row.missed for row in rows] == sorted((row.missed for row in rows), reverse=True)
    assert 0 < rows[-1].missed <= rows[0].missed < rows[0].drawn
    assert [row.reached <= row.rate + 1e-9 for row in rows] == [
        images + 1 >= 1 / rate for rate in RATES
    ]
