"""Parts are found however they lie, what is no part is a fault, and results lie in the frame."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from training_helpers import TINY, body, save_weights, tiny_config, write_image

from generalad.data.dataset import as_dataset
from generalad.decision import Result
from generalad.errors import ArtifactError, DataError
from generalad.evaluation import evaluate
from generalad.geometry.finder import Finder, grey_of, size_of
from generalad.geometry.geometry import Geometry, Template, polygon_of
from generalad.geometry.outside import outside_of
from generalad.geometry.placement import PartNotFound, prepare
from generalad.geometry.teach import finder_of, teach
from generalad.image_statistics import reference, statistics
from generalad.model.storage import Trained
from generalad.predictor import Predictor, load
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.backends.session import check_spec
from generalad.runtime.inference import infer
from generalad.runtime.line.faults import FaultDetector
from generalad.spec import Spec
from generalad.training.alignment import learned_geometry
from generalad.training.split import split_dataset
from generalad.training.train import train_detector

SIZE = (120, 160)
Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]
CORNERS = np.array([[50, 35], [110, 35], [110, 85], [50, 85]], np.float64)


def part(seed: int = 0, *, spot: bool = False, size: tuple[int, int] = SIZE) -> Image:
    """A plate with a slot and a hole, which looks like itself at no turn, on a dark belt."""
    rng = np.random.default_rng(seed)
    scale = size[1] / SIZE[1]
    image = rng.normal(45, 3, (*size, 3))

    def corners(*values: float) -> NDArray[np.int32]:
        return np.array(values).reshape(-1, 2).__mul__(scale).astype(np.int32)

    cv2.fillPoly(image, [corners(48, 32, 108, 32, 108, 60, 84, 88, 48, 88)], (150, 155, 165))
    cv2.fillPoly(image, [corners(56, 40, 84, 40, 84, 48, 56, 48)], (60, 60, 70))
    cv2.circle(image, (int(62 * scale), int(74 * scale)), int(7 * scale), (40, 40, 40), -1)
    if spot:
        cv2.circle(image, (int(96 * scale), int(48 * scale)), int(5 * scale), (250, 40, 30), -1)
    return np.asarray(np.clip(image + rng.normal(0, 2, image.shape), 0, 255), np.uint8)


def laid(image: Image, turn: float, shift: tuple[float, float]) -> tuple[Image, Matrix]:
    """The part turned about the frame's middle, and shifted by shares of the frame; and how."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0)
    how = np.asarray(matrix, np.float64)
    how[:, 2] += np.array(shift) * (width, height)
    found = cv2.warpAffine(image, how, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(found, np.uint8), how


def at(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


TURNS = st.floats(-180, 180)
SHIFTS = st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))


@pytest.fixture(scope="module")
def template() -> Template:
    greys = [grey_of(part(seed), size_of(SIZE)) for seed in range(4)]
    return teach(greys).template


@property_settings(max_examples=12)
@given(turn=TURNS, shift=SHIFTS, scale=st.sampled_from([1, 2]))
def test_a_part_is_found_however_it_lies(
    template: Template, turn: float, shift: tuple[float, float], scale: int
) -> None:
    size = (SIZE[0] * scale, SIZE[1] * scale)
    image, how = laid(part(9, size=size), turn, shift)
    pose = finder_of(template).find(image)
    assert pose.match > template.least
    corners = CORNERS * scale
    off = np.abs(at(pose.matrix, at(how, corners)) - corners).max()
    assert off < 0.012 * size[1]  # 2 pixels of the template
    assert abs((pose.turn + turn + 180) % 360 - 180) < 2


@property_settings(max_examples=6)
@given(turn=TURNS, shift=SHIFTS)
def test_a_map_lies_on_the_part_again(
    template: Template, turn: float, shift: tuple[float, float]
) -> None:
    geometry = Geometry(crop=polygon_of("0.2,0.1,0.7x0.8", "crop"), template=template)
    image, how = laid(part(11), turn, shift)
    pixels, placement = prepare(image, (96, 96), geometry)
    upright, _ = prepare(part(11), (96, 96), geometry)
    seen = ~outside_of(pixels)
    assert seen.mean() > 0.5
    assert np.abs(pixels.astype(int) - upright)[seen].mean() < 8
    assert placement is not None
    lit = np.zeros((96, 96), np.float32)
    lit[46:50, 46:50] = 1  # the middle of the crop: (0.55, 0.5) of the frame
    whole = placement.to_frame(lit, low=-1)
    assert whole.shape == geometry.frame_size((96, 96))
    rows, columns = np.nonzero(whole > 0.5)
    found = (np.array([columns.mean(), rows.mean()]) + 0.5) / whole.shape[::-1]
    expected = at(how, np.array([[0.55 * 160, 0.5 * 120]]) - 0.5)[0]
    assert np.abs(found * (160, 120) - 0.5 - expected).max() < 4


def test_what_is_no_part_is_not_found(template: Template) -> None:
    rng = np.random.default_rng(0)
    stripes = np.broadcast_to(90 + 60 * np.sin(np.arange(160) / 4)[None, :, None], (*SIZE, 3))
    empty = np.asarray(rng.normal(45, 3, (*SIZE, 3)).clip(0, 255), np.uint8)
    black = np.zeros((*SIZE, 3), np.uint8)
    for image in (empty, black, np.asarray(stripes, np.uint8)):
        with pytest.raises(PartNotFound, match=r"the part matches its template by -?0\.[0-5]"):
            prepare(image, (64, 64), Geometry(template=template))


# How it is taught


def test_turned_parts_teach_the_same_as_upright_ones(template: Template) -> None:
    rng = np.random.default_rng(3)
    greys = []
    for seed in range(5):
        shift = (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1))
        image, _ = laid(part(seed), rng.uniform(-180, 180), shift)
        greys.append(grey_of(image, size_of(SIZE)))
    taught = teach(greys)
    assert not taught.odd
    assert taught.template.turn == 180 and not taught.template.symmetric
    assert taught.template.usual == pytest.approx(template.usual, abs=0.08)


def test_without_edges_there_is_no_template() -> None:
    rng = np.random.default_rng(0)
    greys = [rng.normal(90, 3, (144, 192)).astype(np.uint8) for _ in range(3)]
    with pytest.raises(DataError, match="no template can be made: good images match it by"):
        teach(greys)


def disc(seed: int) -> Image:
    image = np.random.default_rng(seed).normal(45, 3, (*SIZE, 3)).clip(0, 255).astype(np.uint8)
    cv2.circle(image, (80, 60), 40, (160, 160, 165), -1)
    cv2.circle(image, (80, 60), 15, (40, 40, 40), -1)
    return image


def plate(seed: int) -> Image:
    image = np.random.default_rng(seed).normal(45, 3, (*SIZE, 3)).clip(0, 255).astype(np.uint8)
    cv2.rectangle(image, (45, 42), (115, 78), (160, 160, 165), -1)
    return image


def test_symmetric_parts_are_said_and_round_ones_are_not_turned() -> None:
    plates = teach([grey_of(plate(seed), size_of(SIZE)) for seed in range(3)]).template
    assert plates.symmetric == (180.0,)
    assert "alike after 180 degrees" in plates.in_words()
    discs = teach([grey_of(disc(seed), size_of(SIZE)) for seed in range(3)]).template
    assert discs.turn == 0
    image, _ = laid(disc(7), 77.0, (0.06, -0.08))
    pose = finder_of(discs).find(image)
    assert (pose.turn, pose.match > discs.least) == (0, True)
    assert pose.shift == pytest.approx((-0.06, 0.08), abs=0.01)


# The whole way


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, rng = tmp_path_factory.mktemp("align"), np.random.default_rng(1)
    for index in range(12):
        turn = rng.uniform(-180, 180) if index else 0.0  # the crop is drawn for the first one
        image, _ = laid(part(index), turn, (rng.uniform(-0.05, 0.05), 0.02))
        write_image(folder / "good" / f"{index:02d}.png", image)
    config = tiny_config(
        method="gaussian",
        top_k=1,
        align=True,
        group="image",
        smoothing_sigma=4.0,
        crop="0.25,0.2,0.5x0.6",
        false_alarm_rate=0.1,
    )
    weights = save_weights(folder / "tiny.safetensors", body(TINY))
    return train_detector(
        folder / "good", folder / "run", config, weights=weights, cache=folder / "cache"
    )


@pytest.fixture(scope="module")
def model(trained: Trained) -> Predictor:
    return load(trained.folder)


def test_a_defect_of_a_turned_part_stands_out_where_it_lies(model: Predictor) -> None:
    for seed, turn in enumerate((0, 45, 100, -170)):
        good, _ = laid(part(30 + seed), turn, (-0.05, 0.04))
        bad, how = laid(part(30 + seed, spot=True), turn, (-0.05, 0.04))
        found = model.predict(bad)
        assert found.score > 1.3 * model.predict(good).score
        assert found.match is not None and found.match > 0.7
        x, y = at(how, np.array([[96.0, 48.0]]))[0]
        row, column = np.unravel_index(found.anomaly_map.argmax(), SIZE)
        # 4 x 4 patches see half of the frame's width and 0.6 of its height: 20 x 18 pixels each.
        assert abs(column - x) < 20
        assert abs(row - y) < 18


def test_a_frame_without_the_part_is_refused_and_never_scored(
    model: Predictor, tmp_path: Path
) -> None:
    empty = np.full((*SIZE, 3), 45, np.uint8)
    found = model.predict(empty)
    assert found.fault is not None and found.fault.startswith("not found: the part matches")
    with pytest.raises(DataError, match="camera fault: not found"):
        _ = found.score
    both = list(model.predict([part(40), empty, part(41)]))
    assert [one.fault is None for one in both] == [True, False, True]
    results: list[Result] = []
    write_image(tmp_path / "a.png", part(40))
    write_image(tmp_path / "b.png", empty)
    summary = infer(model._session, [str(tmp_path)], on_result=results.append)
    assert (summary.processed, summary.faulty, summary.failed) == (1, 1, 0)
    assert results[0].match is not None and results[0].fault is None
    assert results[1].score is None and "not found" in str(results[1].fault)
    json.dumps(results[1].to_dict())


def test_an_evaluation_names_what_was_not_found(trained: Trained, tmp_path: Path) -> None:
    for index in range(2):
        write_image(tmp_path / "train" / "good" / f"{index}.png", part(index))
        write_image(tmp_path / "test" / "good" / f"{index}.png", laid(part(50), 70, (0, 0))[0])
        write_image(tmp_path / "test" / "spot" / f"{index}.png", part(60, spot=True))
        mask = np.zeros((*SIZE, 3), np.uint8)
        cv2.circle(mask, (96, 48), 5, (255, 255, 255), -1)
        write_image(tmp_path / "ground_truth" / "spot" / f"{index}_mask.png", mask)
    write_image(tmp_path / "test" / "good" / "empty.png", np.full((*SIZE, 3), 45, np.uint8))
    found = evaluate(trained.folder, tmp_path)
    assert [Path(path).name for path in found.not_found] == ["empty.png"]
    assert (found.evaluation.good, found.evaluation.defective) == (2, 2)
    assert found.evaluation.pixel_auroc.value > 0.9


def test_a_good_image_without_the_part_stops_training_or_is_left_out(tmp_path: Path) -> None:
    for index in range(5):
        write_image(tmp_path / f"{index}.png", part(index))
    write_image(tmp_path / "empty.png", np.full((*SIZE, 3), 45, np.uint8))
    config = tiny_config(method="gaussian", align=True, group="image")
    split = split_dataset(as_dataset(tmp_path, all_good=True), config, skip_bad=False)
    with pytest.raises(DataError, match=r"1 of 6 good images do not show the part.*empty.png"):
        learned_geometry(config, split, skip_bad=False)
    geometry, left = learned_geometry(config, split, skip_bad=True)
    assert geometry is not None and geometry.template is not None
    assert left.skipped == ("empty.png",)
    assert len(left.train) == len(left.calibration) == 5


def test_a_stream_tells_that_parts_are_not_found() -> None:
    image = part(0)[:64, :64]
    found = FaultDetector(reference(np.zeros(1, np.float32), [statistics(image)], [(64, 64)]))
    states = []
    for number in range(4):
        checked = found.check(image + number, (64, 64), float(number), not_found="a match of 0.1")
        assert checked.refused
        assert str(checked.fault) == "not found: a match of 0.1"
        states.append(checked.change and checked.change["state"])
    assert states == ["refused", "refused", "raised", None]


# What is recorded


def changed(template: Template, **changes: Any) -> dict[str, Any]:
    record = dataclasses.asdict(dataclasses.replace(template)) | changes
    return fake_spec().to_dict() | {"geometry": {"template": record}}


def test_a_template_comes_back(template: Template) -> None:
    spec = dataclasses.replace(fake_spec(), geometry=Geometry(template=template))
    again = Spec.from_json(spec.to_json())
    assert again.geometry == spec.geometry
    assert isinstance(finder_of(template), Finder)


@pytest.mark.parametrize(
    "changes",
    [
        {"png": "A" * 300_000},
        {"least": 2.0},
        {"least": float("nan")},
        {"turn": 200.0},
        {"turn": float("nan")},
        {"symmetric": [1.0] * 100},
        {"png": 3},
    ],
)
def test_a_hostile_template_is_refused_when_it_is_read(
    template: Template, changes: dict[str, Any]
) -> None:
    with pytest.raises(ArtifactError, match="the spec is damaged"):
        Spec.from_dict(changed(template, **changes))


def test_a_picture_that_is_no_template_is_refused_in_one_line(template: Template) -> None:
    _, png = cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))
    for text in ("no base64!", "AAAA", base64.b64encode(png.tobytes()).decode()):
        geometry = Geometry(template=dataclasses.replace(template, png=text))
        with pytest.raises(ArtifactError, match="model: the template") as error:
            check_spec(dataclasses.replace(fake_spec(), geometry=geometry), name="model")
        assert "\n" not in str(error.value)
