"""What is cropped away or ignored neither teaches nor counts, and results lie in the frame."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from training_helpers import TINY, body, save_weights, tiny_config, write_image

from generalad.areas import Areas
from generalad.config import Config
from generalad.decision import Rule, decide, framed
from generalad.errors import ArtifactError, ConfigError, UsageError
from generalad.evaluation import evaluate
from generalad.export.export import Exported, export_detector
from generalad.geometry.counted import counted, counted_patches, covered
from generalad.geometry.geometry import Geometry, polygon_of
from generalad.geometry.placement import prepare
from generalad.model.storage import Trained, load_detector
from generalad.predictor import Predictor, load
from generalad.preprocess import resize
from generalad.runtime.backends.fake import fake_spec
from generalad.spec import Spec
from generalad.training.train import train_detector

FRAME = (120, 160)
CROP, IGNORE = "0.25,0.2,0.5x0.6", "0.3,0.25,0.15x0.2"
SHARES = st.integers(0, 19).map(lambda n: n / 20)


def box(left: float, top: float, width: float, height: float) -> Any:
    return polygon_of(f"{left},{top},{width}x{height}", "crop")


def frame(seed: int) -> NDArray[np.uint8]:
    """Stripes that move, a ruler outside of the crop, a clock in the ignored area."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : FRAME[0], 0 : FRAME[1]]
    image = 110 + 40 * np.sin((rows + columns) / 7 + rng.uniform(0, 6))
    image = image[..., None] + rng.normal(0, 5, (*FRAME, 3))
    image[30:54, 48:72] = rng.uniform(0, 255, (24, 24, 3))
    image[:20] = rng.uniform(0, 255)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def with_spot(image: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    changed = image.copy()
    changed[row - 6 : row + 6, column - 6 : column + 6] = (250, 20, 20)
    return changed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("crop")
    for index in range(12):
        write_image(folder / "good" / f"{index:02d}.png", frame(index))
    config = tiny_config(method="gaussian", top_k=1, crop=CROP, ignore=[IGNORE], group="image")
    weights = save_weights(folder / "tiny.safetensors", body(TINY))
    return train_detector(
        folder / "good", folder / "run", config, weights=weights, cache=folder / "cache"
    )


@pytest.fixture(scope="module")
def exported(trained: Trained) -> Exported:
    return export_detector(trained, trained.folder.parent / "model.onnx")


@pytest.fixture(scope="module")
def model(exported: Exported) -> Predictor:
    return load(exported.path)


# How it is written


def test_a_box_and_corners_say_the_same() -> None:
    corners = [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9], [0.1, 0.9]]
    assert polygon_of("0.1,0.2,0.5x0.7", "crop") == polygon_of(corners, "crop")
    assert polygon_of("0.1,0.2 0.6,0.2 0.6,0.9 0.1,0.9", "crop") == polygon_of(corners, "crop")
    assert Config(crop=polygon_of(corners, "crop")) == Config().replaced({"crop": corners})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5,0.5,0.6x0.2", r"crop: expected corners \(x, y\) between 0 and 1, found \[1.1"),
        ("100,100,300x200", "crop: expected corners"),
        ("0.1,0.1,0x0.5", "crop: expected an area"),
        ("0.1,0.1 0.2,0.2", "crop: expected an area"),
        ("0.1;0.1", "crop: expected an area"),
        ("0.1,0.1,0.01x0.5", "crop: expected at least 5% of each side"),
        ("nan,0.1,0.5x0.5", "crop: expected an area"),
    ],
)
def test_what_is_no_area_of_the_frame_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Config().replaced({"crop": text})
    assert "\n" not in str(error.value)


def test_ignoring_everything_or_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave nothing to inspect"):
        counted(Geometry(ignore=(box(0, 0, 1, 1),)), (32, 32))
    with pytest.raises(ConfigError, match="ignore polygon 1 holds no pixel"):
        counted(Geometry(ignore=(box(0.5, 0.5, 0.01, 0.01),)), (32, 32))
    with pytest.raises(ConfigError, match="less than half of each of 2 x 2 patches"):
        counted_patches(np.eye(32, dtype=np.bool_), (2, 2))


# Where it is


@given(SHARES, SHARES, st.integers(1, 20), st.integers(1, 20), st.integers(20, 90))
def test_what_the_map_marks_is_there_in_the_frame(
    left: float, top: float, width: int, height: int, side: int
) -> None:
    size = (min(width / 20, 1 - left), min(height / 20, 1 - top))
    geometry = Geometry(crop=box(left, top, *size))
    spec = dataclasses.replace(fake_spec(), geometry=geometry)
    image = np.zeros((side, 2 * side, 3), np.uint8)
    _, placement = prepare(image, spec.image_size, geometry)
    seen = np.zeros(spec.map_size, np.float32)
    seen[5, 9] = 1  # of 16 x 16
    whole = framed(seen, placement, spec)
    assert whole.shape == spec.frame_map_size
    row, column = np.unravel_index(whole.argmax(), whole.shape)
    for at, length, first, share, place in (
        (row, whole.shape[0], top, size[1], 5.5 / 16),
        (column, whole.shape[1], left, size[0], 9.5 / 16),
    ):
        assert abs((at + 0.5) / length - (first + share * place)) <= 1.01 / length


@given(SHARES, SHARES, st.integers(0, 3))
def test_a_frame_without_geometry_is_only_resized(x: float, y: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(prepare(image, (32, 32), None).pixels, resize(image, (32, 32)))
    whole = prepare(image, (32, 32), Geometry(ignore=(box(x, y, 0.05, 0.05),))).pixels
    np.testing.assert_array_equal(whole, resize(image, (32, 32)))


def test_a_polygon_leaves_out_the_corners_of_its_box() -> None:
    geometry = Geometry(crop=((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)))
    inside = covered(geometry, (40, 40))
    assert inside is not None
    assert inside.mean() == pytest.approx(0.5, abs=0.05)
    assert not inside[0, 0]
    assert inside[20, 20]


# What counts


@property_settings(max_examples=8)
@given(seed=st.integers(0, 2**31))
def test_nothing_that_is_left_out_reaches_score_or_map(trained: Trained, seed: int) -> None:
    image, rng = frame(20), np.random.default_rng(seed)
    changed = image.copy()
    changed[30:54, 48:72] = rng.integers(0, 256, (24, 24, 3))  # ignored
    changed[:24] = rng.integers(0, 256, (24, 160, 3))  # outside of the crop
    changed[:, :40] = rng.integers(0, 256, (120, 40, 3))
    spec = trained.spec
    pixels = np.stack([prepare(i, spec.image_size, spec.geometry).pixels for i in (image, changed)])
    with torch.inference_mode():
        scores, maps = trained.detector(torch.from_numpy(pixels))
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(maps[0], maps[1])


def test_a_defect_is_marked_where_it_lies_in_the_frame(model: Predictor) -> None:
    good, bad = model.predict(frame(30)), model.predict(with_spot(frame(30), 80, 100))
    assert not good.is_anomalous
    assert bad.is_anomalous
    x, y, width, height = bad.regions[0].box
    assert x <= 100 <= x + width
    assert y <= 80 <= y + height
    assert bad.anomaly_map.shape == FRAME
    row, column = np.unravel_index(bad.anomaly_map.argmax(), FRAME)
    assert abs(row - 80) < 16
    assert abs(column - 100) < 16
    assert bad.overlay().shape == (*FRAME, 3)


@pytest.mark.parametrize(("row", "column"), [(42, 60), (108, 80), (60, 20)])
def test_a_defect_that_is_left_out_is_none(model: Predictor, row: int, column: int) -> None:
    found = model.predict(with_spot(frame(31), row, column))
    assert found.score == model.predict(frame(31)).score
    assert not found.regions


def test_areas_of_a_stream_are_those_of_the_frame_too(model: Predictor) -> None:
    prepared = prepare(with_spot(frame(32), 80, 100), model.spec.image_size, model.spec.geometry)
    maps = model._session.run(prepared.pixels[None]).maps
    whole = framed(maps[0], prepared.placement, model.spec)
    for x, expected in ((0.55, True), (0.26, False)):  # the spot is at 0.625
        rule = Rule(areas=Areas(inspect=(box(x, 0.55, 0.15 if expected else 0.1, 0.25),)))
        rule.check(model.spec)
        found = decide(0.0, whole, model.spec, rule=rule, image_size=FRAME)
        assert found is not None
        assert found.anomalous is expected


def test_the_export_decides_as_the_detector(trained: Trained, exported: Exported) -> None:
    assert exported.parity.flips == 0
    assert exported.spec.geometry == trained.spec.geometry
    again = load_detector(trained.folder)
    assert again.detector.config.geometry == trained.spec.geometry


def test_pixels_that_are_ignored_are_in_no_metric(trained: Trained, tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / "test" / "good" / f"{index}.png", frame(40 + index))
        write_image(tmp_path / "train" / "good" / f"{index}.png", frame(70 + index))
        image = with_spot(with_spot(frame(50 + index), 80, 100), 42, 60)
        write_image(tmp_path / "test" / "spot" / f"{index}.png", image)
        mask = np.zeros((*FRAME, 3), np.uint8)
        mask[74:86, 94:106] = mask[36:48, 54:66] = 255
        write_image(tmp_path / "ground_truth" / "spot" / f"{index}_mask.png", mask)
    found = evaluate(trained.folder, tmp_path)
    assert found.evaluation.image_auroc.value == 1
    assert found.evaluation.regions == 3  # the other three are ignored
    assert found.evaluation.pixel_auroc.value > 0.95


# What is recorded


def test_a_spec_without_geometry_is_as_it_was() -> None:
    record = json.loads(fake_spec().to_json())
    assert "geometry" not in record
    assert record["format_version"] == 1
    assert not {"crop", "ignore"} & Config().to_dict().keys()


def test_a_spec_with_geometry_comes_back_and_older_readers_refuse_it(trained: Trained) -> None:
    text = trained.spec.to_json()
    assert Spec.from_json(text).geometry == Geometry(
        polygon_of(CROP, "crop"), (polygon_of(IGNORE, "ignore"),)
    )
    assert json.loads(text)["format_version"] == 2


@pytest.mark.parametrize(
    "geometry",
    [
        {"crop": [[0, 0], [2, 0], [0, 1]]},
        {"crop": [[0, 0], [0.01, 0], [0, 0.01]]},
        {"crop": [["a", 0]]},
        {"ignore": [[[0.1, 0.1], [0.2, 0.1], [0.1, 0.2]]] * 100},
        [],
    ],
)
def test_a_hostile_geometry_is_refused_in_one_line(geometry: Any) -> None:
    with pytest.raises(ArtifactError, match="the spec is damaged") as error:
        Spec.from_dict(fake_spec().to_dict() | {"geometry": geometry})
    assert "\n" not in str(error.value)


def test_an_area_is_no_setting_of_another_kind() -> None:
    with pytest.raises(UsageError, match="ignore: expected a list of areas"):
        Config().replaced({"ignore": 3})
