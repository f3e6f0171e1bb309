"""Statistics of images, and what is kept of those of the calibration images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import MakeSpec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from image_helpers import Image, blurred, part, pixels, reference_of

from generalad.errors import ArtifactError
from generalad.export.export import Exported
from generalad.export.gate import calibrated
from generalad.image_statistics import QUANTILES, Statistics, quantiles, reference, statistics
from generalad.model.storage import Trained
from generalad.runtime import open_session
from generalad.runtime.backends.session import Outputs
from generalad.spec import STATISTICS, Reference, Spec

pytest_plugins = ["training_fixtures"]

SIDES = st.integers(1, 40)


@given(st.tuples(SIDES, SIDES).flatmap(lambda s: arrays.arrays(np.uint8, (*s, 3))))
def test_any_image_has_finite_statistics(image: Image) -> None:
    found = statistics(image)
    assert np.isfinite(found).all() and min(found) >= 0
    assert found.brightness <= 255 and found.saturated <= 1
    assert found == statistics(image.copy()), "the same image must give the same numbers"


@pytest.mark.parametrize("size", [2, 4, 8, 16, 32, 64])
def test_contrast_is_put_down_to_the_size_of_what_causes_it(size: int) -> None:
    rows, columns = np.mgrid[0:256, 0:256] // size
    board = np.where((rows + columns) % 2, 160, 80)[..., None].repeat(3, axis=2)
    found = statistics(pixels(board))
    assert found.contrast == pytest.approx(40, abs=0.5)
    assert found.detail == pytest.approx(40 if size == 2 else 0, abs=0.5)
    assert found.structure == pytest.approx(40 if size in (8, 16) else 0, abs=0.5)


def test_noise_moves_the_contrast_and_hardly_the_detail() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (256, 256, 1)).repeat(3, axis=2)
    found = statistics(pixels(noise))
    assert found.contrast == pytest.approx(10, rel=0.05)
    assert found.detail < 5 and found.structure < 1.5


def test_blur_takes_detail_and_less_light_does_not_take_sharpness() -> None:
    image = part(np.random.default_rng(0))
    sharp, soft = statistics(image), statistics(blurred(image, 2))
    dim = statistics(pixels(image * 0.6))
    assert soft.detail < sharp.detail / 2 and soft.sharpness < sharp.sharpness / 2
    assert soft.brightness == pytest.approx(sharp.brightness, abs=1)
    assert dim.brightness == pytest.approx(0.6 * sharp.brightness, rel=0.02)
    assert dim.sharpness == pytest.approx(sharp.sharpness, rel=0.05)


def test_saturation_counts_colour_values() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5, :, 0] = 250
    assert statistics(image).saturated == pytest.approx(1 / 6)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=200))
def test_quantiles_rise_from_the_least_to_the_greatest(values: list[float]) -> None:
    found = quantiles(np.array(values))
    assert len(found) == QUANTILES
    assert list(found) == sorted(found)
    assert found[0] == pytest.approx(min(values), rel=1e-5, abs=1e-9)
    assert found[-1] == pytest.approx(max(values), rel=1e-5, abs=1e-9)


def test_a_reference_names_what_was_seen() -> None:
    rng = np.random.default_rng(0)
    looks = [statistics(part(rng)) for _ in range(3)]
    sizes = [(100, 200), (300, 300), (200, 100)]
    found = reference(np.array([3, 1, 2], np.float32), looks, sizes)
    assert found.images == 3
    assert (found.scores[0], found.scores[QUANTILES // 2], found.scores[-1]) == (1, 2, 3)
    assert (found.smallest, found.largest) == ((100, 100), (300, 300))
    assert found.aspect_ratios == (0.5, 2.0)
    assert tuple(found.statistics) == Statistics._fields == STATISTICS
    assert found.statistics["brightness"][0] == pytest.approx(
        min(one.brightness for one in looks), rel=1e-5
    )


def test_training_records_it(trained: Trained) -> None:
    spec, images = trained.spec, trained.calibration_images()
    found = spec.reference
    assert found is not None
    assert found.images == spec.calibration.images == len(images)
    assert found.smallest == found.largest == (72, 80)
    assert found.scores[-1] == pytest.approx(spec.thresholds.image, rel=1e-5)
    bright = [statistics(image).brightness for image in images]
    assert found.statistics["brightness"] == quantiles(np.array(bright))


def test_an_export_records_the_scores_of_its_precision(trained: Trained) -> None:
    spec = trained.spec
    scores = np.linspace(3, 4, 40).astype(np.float32)
    found = calibrated(spec, Outputs(scores, np.ones((40, 2, 2), np.float32)))
    assert spec.reference is not None and found.reference is not None
    assert found.reference == dataclasses.replace(spec.reference, scores=quantiles(scores))
    older = dataclasses.replace(spec, reference=None)
    assert calibrated(older, Outputs(scores, np.ones((40, 2, 2), np.float32))).reference is None


def test_an_artifact_carries_it(trained: Trained, exported: Exported) -> None:
    with open_session(exported.path) as session:
        found = session.spec.reference
    assert found is not None and trained.spec.reference is not None
    assert found.statistics == trained.spec.reference.statistics


def test_the_spec_carries_it_and_older_files_have_none(make_spec: MakeSpec) -> None:
    rng = np.random.default_rng(0)
    known = reference_of([part(rng) for _ in range(5)])
    spec = make_spec(reference=known)
    again = Spec.from_json(spec.to_json())
    assert again == spec
    assert isinstance(again.reference, Reference)
    record = make_spec().to_dict()
    assert Spec.from_dict(record).reference is None
    del record["reference"]
    assert Spec.from_dict(record).reference is None


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [2.0, 1.0]},
        {"scores": [1.0]},
        {"scores": [1.0, "2"]},
        {"statistics": {"brightness": [3.0, 2.0]}},
        {"statistics": {"brightness": 3.0}},
        {"statistics": []},
        {"statistics": {"brightness": [1.0, 2.0]}},
        {"images": 0},
        {"smallest": [0, 5]},
        {"aspect_ratios": [0.0, 1.0]},
        {"aspect_ratios": [1.0, 1.0, 1.0]},
    ],
)
def test_a_damaged_reference_is_refused(make_spec: MakeSpec, change: dict[str, object]) -> None:
    known = reference_of([part(np.random.default_rng(0))])
    record = make_spec().to_dict()
    record["reference"] = {**dataclasses.asdict(known), **change}
    with pytest.raises(ArtifactError, match="damaged"):
        Spec.from_dict(record)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((0, 0, 0), (127.5, 127.5, 0)),
        ((90, 90, 90), (127.5, 127.5, 0)),
        ((255, 0, 0), (255, 191.25, 255)),
        ((0, 255, 0), (0, 191.25, 255)),
        ((0, 0, 255), (127.5, 0, 255)),
        ((200, 100, 50), (177.5, 177.5, 150)),
    ],
)
def test_colour_is_two_opponents_and_saturation(
    colour: tuple[int, int, int], expected: tuple[float, float, float]
) -> None:
    found = statistics(np.full((9, 13, 3), colour, np.uint8))
    assert (found.red_green, found.yellow_blue, found.saturation) == pytest.approx(expected)


def test_a_reference_of_an_older_version_has_no_colour(make_spec: MakeSpec) -> None:
    known = reference_of([part(np.random.default_rng(0))])
    record = make_spec(reference=known).to_dict()
    for name in ("red_green", "yellow_blue", "saturation"):
        del record["reference"]["statistics"][name]
    found = Spec.from_dict(record).reference
    assert found is not None and "saturation" not in found.statistics
