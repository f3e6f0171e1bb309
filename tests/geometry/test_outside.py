"""What lies outside of a frame that was turned into place neither teaches nor counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_alignment import SIZE, laid, part
from training_helpers import TINY, body, save_weights, tiny_config

from generalad.data.dataset import as_dataset
from generalad.errors import ConfigError
from generalad.export.to_onnx import to_onnx
from generalad.geometry.finder import Finder, grey_of, size_of
from generalad.geometry.geometry import Geometry, Template
from generalad.geometry.outside import (
    OUTSIDE,
    changed_inside,
    filled,
    marked,
    outside_of,
    with_defect_inside,
)
from generalad.geometry.placement import prepare
from generalad.geometry.teach import finder_of, teach
from generalad.image_statistics import statistics
from generalad.model.detector import Detector
from generalad.model.weights import load_backbone
from generalad.model.whitening import Whitening
from generalad.synth.drawn_defects import with_defect
from generalad.synth.views import views_of

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def template() -> Template:
    return teach([grey_of(part(seed), size_of(SIZE)) for seed in range(3)]).template


@pytest.fixture(scope="module")
def geometry(template: Template) -> Geometry:
    return Geometry(template=template)


def test_a_turned_frame_says_where_it_ends(geometry: Geometry) -> None:
    image, _ = laid(part(5), 45, (0, 0))
    outside = outside_of(prepare(image, (96, 128), geometry).pixels)
    assert 0.1 < outside.mean() < 0.5
    assert outside[0, 0] and outside[-1, -1] and not outside[48, 64]
    # A part that lies almost in place loses nothing.
    nearly, _ = laid(part(5), 0.3, (0.004, -0.004))
    assert not outside_of(prepare(nearly, (96, 128), geometry).pixels).any()


def test_no_pixel_of_the_frame_is_taken_for_outside(geometry: Geometry) -> None:
    image = part(5)
    image[:20] = OUTSIDE
    assert not outside_of(prepare(image, (96, 128), geometry).pixels).any()
    outside = np.zeros(SIZE, np.bool_)
    outside[30:40, 30:40] = True
    again = outside_of(marked(image, outside))
    assert np.array_equal(again, outside)


def test_views_and_drawn_defects_leave_it_outside(geometry: Geometry) -> None:
    image = prepare(laid(part(5), 45, (0, 0))[0], (96, 128), geometry).pixels
    outside = outside_of(image)
    for view in changed_inside([image] * 8, views_of, geometry):
        assert np.array_equal(outside_of(view), outside)
    for index in range(9):
        drawn, mask = with_defect_inside(image, index, with_defect, geometry)
        assert np.array_equal(outside_of(drawn), outside)
        assert mask.any() and not (mask & outside).any()
    assert changed_inside([image], list, Geometry())[0] is image


def test_it_says_nothing_of_the_light(geometry: Geometry) -> None:
    image = prepare(laid(part(5), 45, (0, 0))[0], (96, 128), geometry).pixels
    inside = image[~outside_of(image)].mean(axis=0)
    assert np.abs(filled(image).mean(axis=(0, 1)) - inside).max() < 1
    upright = statistics(prepare(part(5), (96, 128), geometry).pixels)
    assert abs(statistics(image).red_green - upright.red_green) < 2


# In the network


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory, geometry: Geometry) -> Detector:
    folder = tmp_path_factory.mktemp("outside")
    config = tiny_config(
        method="gaussian", top_k=3, align=True, smoothing_sigma=4.0, image_size=[128, 128]
    )
    weights = save_weights(folder / "tiny.safetensors", body(TINY))
    backbone, _, _ = load_backbone(config, weights=weights)
    torch.manual_seed(0)
    found = Detector(config, backbone, geometry).eval()
    found.head.taught[:5] = 0
    return found


def frame(detector: Detector, seed: int, columns: int) -> Image:
    """Noise with some columns outside."""
    size = detector.image_size
    image = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    image[:, size[1] - columns :] = OUTSIDE
    return image


@torch.inference_mode()
def test_patches_near_it_do_not_count(detector: Detector) -> None:
    width = detector.image_size[1] // detector.head.grid[1]
    images = torch.from_numpy(np.stack([frame(detector, 1, 0), frame(detector, 1, 1)]))
    patches, shown = detector.patches(images)
    assert shown is not None
    placed = shown.reshape(2, *detector.head.grid)
    taught = detector.head.taught.reshape(detector.head.grid)
    assert torch.equal(placed[0], taught)
    assert not placed[1, :, -2:].any() and torch.equal(placed[1, :, :-2], taught[:, :-2])
    scores, maps = detector(images)
    for score, values, those in zip(scores, patches, shown, strict=True):
        assert score == pytest.approx(float(values[those > 0].topk(3).values.mean()))
    assert (maps[1, :, -width // 4 :] == maps[1].min()).all()
    nothing, _ = detector(
        torch.from_numpy(np.full((1, *detector.image_size, 3), OUTSIDE, np.uint8))
    )
    assert torch.isfinite(nothing).all()


def test_in_place_is_as_the_first_image_turns_it_where_most_parts_lie() -> None:
    ways = [(0.0, (0.08, 0.0)), (140.0, (0.0, 0.05)), (-80.0, (-0.02, 0.05)), (35.0, (0.0, 0.05))]
    images = [laid(part(seed), *way)[0] for seed, way in enumerate(ways)]
    for first in (0, 1):
        order = [images[first], *(image for image in images if image is not images[first])]
        taught = teach([grey_of(image, size_of(SIZE)) for image in order])
        assert taught.poses[0].turn == pytest.approx(0, abs=2)
        assert np.abs(np.median([pose.shift for pose in taught.poses], axis=0)).max() < 0.02


def test_an_export_knows_it_too(detector: Detector) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(to_onnx(detector).SerializeToString())
    images = np.stack([frame(detector, seed, 9 * seed) for seed in range(4)])
    with torch.inference_mode():
        expected = detector(torch.from_numpy(images))
    found = session.run(None, {"images": images})
    for values, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, other.numpy(), rtol=1e-4, atol=1e-4)


def test_a_place_is_taught_by_the_images_that_show_it() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (20, 4, 3)).astype(np.float32)
    shown = rng.random((20, 4)) < 0.7
    spoilt = np.where(shown[..., None], features, np.float32(1e3))
    for grid in (None, (2, 2)):
        whole, some = (Whitening(4, 3, grid=grid) for _ in range(2))
        some.fit(features, shown=np.ones((20, 4), np.bool_))
        whole.fit(features)
        torch.testing.assert_close(some.matrix, whole.matrix)
        some.fit(spoilt, shown=shown)
        assert torch.isfinite(some.matrix).all() and some.matrix.abs().max() < 10
        expected = [features[shown[:, place], place].mean(axis=0) for place in range(4)]
        np.testing.assert_allclose(some.mean.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["generalad", "simplenet", "kdad", "patchcore"])
def test_all_methods_learn_from_turned_parts(method: str, tmp_path: Path) -> None:
    from generalad.training.train import train_detector

    rng = np.random.default_rng(1)
    for index in range(8):
        image, _ = laid(part(index), rng.uniform(-180, 180), (0, 0))
        cv2.imwrite(str(tmp_path / f"{index}.png"), image[..., ::-1])
    config = tiny_config(method=method, align=True, group="image", epochs=1, image_size=128)
    weights = save_weights(tmp_path / "tiny.safetensors", body(TINY))
    data = as_dataset(tmp_path, all_good=True)
    trained = train_detector(data, tmp_path / "run", config, weights=weights, cache=tmp_path / "c")
    taught = trained.detector.head.taught.reshape(trained.detector.head.grid)
    middle = taught[tuple(length // 2 for length in taught.shape)]
    assert middle == 1 and taught[0, 0] == 0
    assert np.isfinite(trained.spec.thresholds.image)


# Which pose


def test_a_part_of_which_too_little_is_in_the_frame_is_refused(geometry: Geometry) -> None:
    image, _ = laid(part(9), 0, (0.2, 0.25))
    pose = finder_of(geometry.template).find(image)
    assert 0.7 < pose.inside < 1
    assert "in the frame, expected at least 70%" in pose._replace(match=1, inside=0.5).fault(0.5)
    assert pose._replace(match=1, inside=0.8).fault(0.5) == ""


def plate(seed: int, *, mark: bool = False) -> Image:
    image = np.random.default_rng(seed).normal(45, 3, (*SIZE, 3)).clip(0, 255).astype(np.uint8)
    cv2.rectangle(image, (45, 42), (115, 78), (160, 160, 165), -1)
    if mark:
        cv2.circle(image, (60, 60), 12, (30, 30, 30), -1)
    return image


@pytest.mark.parametrize("turn", [-170, -100, -20, 20, 80, 100, 175])
def test_of_turns_that_look_alike_the_smallest_is_taken(turn: float) -> None:
    plates = teach([grey_of(plate(seed), size_of(SIZE)) for seed in range(3)]).template
    assert plates.symmetric == (180.0,)
    pose = finder_of(plates).find(laid(plate(7), turn, (0, 0))[0])
    expected = (-turn + 90) % 180 - 90
    assert pose.turn == pytest.approx(expected, abs=2)
    marks = teach([grey_of(plate(seed, mark=True), size_of(SIZE)) for seed in range(3)]).template
    pose = finder_of(marks).find(laid(plate(7, mark=True), turn, (0, 0))[0])
    assert abs((pose.turn + turn + 180) % 360 - 180) < 2, "the mark tells the turns apart"


def test_turns_have_a_limit_about_how_most_parts_lie() -> None:
    rng = np.random.default_rng(0)
    turns = [25.0, *rng.uniform(-30, 30, 8)]  # the first one is no example of the others
    greys = [
        grey_of(laid(plate(seed), turn, (0, 0))[0], size_of(SIZE))
        for seed, turn in enumerate(turns)
    ]
    taught = teach(greys, turn=40.0)
    found = [pose.turn + turn for pose, turn in zip(taught.poses, turns, strict=True)]
    assert np.ptp(found) < 4, "all are brought to one pose, none to the other end"
    assert taught.template.turn == 40
    assert min(pose.match for pose in taught.poses) > 0.8
    assert Finder(greys[0], turn=40.0).angles.tolist() == [
        *np.arange(0.0, 41, 5),
        *np.arange(320.0, 360, 5),
    ]
    with pytest.raises(ConfigError, match="turn: expected degrees from 0 to 180"):
        tiny_config(align=True, turn=200.0)
    with pytest.raises(ConfigError, match="turn: expected align with it"):
        tiny_config(turn=20.0)
