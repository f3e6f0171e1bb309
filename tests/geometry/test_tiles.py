"""Frames are cut and stitched in the graph, without seams, and thresholds are those of frames."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from training_helpers import TINY, body, save_weights, tiny_config, write_image

from generalad.config import Config
from generalad.errors import ArtifactError, ConfigError, DataError, UsageError
from generalad.evaluation import evaluate
from generalad.export.export import export_detector
from generalad.geometry.geometry import Geometry, Tiles, polygon_of
from generalad.geometry.placement import prepare
from generalad.geometry.tiling import starts, stitching, tile_starts
from generalad.model.detector import Detector
from generalad.model.frame import Frame
from generalad.model.storage import Trained, load_detector
from generalad.predictor import Predictor, load
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.backends.onnx_graph import check_graph
from generalad.runtime.selftest import selftest
from generalad.spec import Spec
from generalad.training.train import train_detector

Image = NDArray[np.uint8]
FRAME = (160, 224)


def frame(seed: int, *, spot: tuple[int, int] | None = None) -> Image:
    """Stripes that move, with a red square of 12 pixels where `spot`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : FRAME[0], 0 : FRAME[1]]
    image = 110 + 40 * np.sin((rows + columns) / 6 + rng.uniform(0, 6))[..., None]
    image = image + rng.normal(0, 6, (*FRAME, 3))
    if spot is not None:
        image[spot[0] - 6 : spot[0] + 6, spot[1] - 6 : spot[1] + 6] = (250, 30, 30)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


# Where tiles lie


SIDES = st.integers(2, 8).flatmap(
    lambda side: st.tuples(st.just(32 * side), st.integers(0, side // 2).map(lambda n: 32 * n))
)


@property_settings(max_examples=15)
@given(SIDES, st.integers(0, 30), st.integers(0, 30))
def test_every_patch_of_a_frame_is_of_one_tile_and_far_from_its_border(
    sides: tuple[int, int], more_rows: int, more_columns: int
) -> None:
    side, overlap = sides
    size = (side + 32 * more_rows, side + 32 * more_columns)
    tiles = Tiles(side, overlap, size)
    grid = (side // 16, side // 16)
    found = stitching(tiles, size, grid)
    assert found.shape == (size[0] // 16, size[1] // 16)
    places = tile_starts(tiles, size)
    tile, inside = np.divmod(found, grid[0] * grid[1])
    row, column = np.divmod(inside, grid[1])
    top, left = (np.array(places)[tile, axis] // 16 for axis in (0, 1))
    np.testing.assert_array_equal(top + row, np.arange(found.shape[0])[:, None] + 0 * top)
    np.testing.assert_array_equal(left + column, np.arange(found.shape[1])[None] + 0 * left)
    # Of a border within the frame, half the overlap lies between.
    far = overlap // 32
    for at, first, length in ((row, top, size[0]), (column, left, size[1])):
        assert (at[first > 0] >= far).all()
        assert (grid[0] - at[first * 16 + side < length] >= far).all()


@given(st.integers(0, 40))
def test_tiles_reach_both_ends(more: int) -> None:
    tiles = Tiles(128, 64, (1000, 1000))
    found = starts(128 + 32 * more, tiles)
    assert (found[0], found[-1]) == (0, 32 * more)
    assert all(0 < b - a <= 64 for a, b in itertools.pairwise(found))


@property_settings(max_examples=8)
@given(SIDES.filter(lambda one: one[1] >= 32), st.integers(0, 5), st.integers(0, 5), st.integers())
def test_what_looks_no_farther_than_half_the_overlap_sees_no_seam(
    sides: tuple[int, int], more_rows: int, more_columns: int, seed: int
) -> None:
    side, overlap = sides
    size = (side + 32 * more_rows, side + 32 * more_columns)
    tiles = Frame(Geometry(tiles=Tiles(side, overlap, size)), (side // 16, side // 16))
    random = torch.Generator().manual_seed(seed % 2**32)
    image = torch.randint(0, 256, (1, *size, 3), generator=random, dtype=torch.uint8)
    reach = overlap // 2

    def patches(seen: torch.Tensor) -> torch.Tensor:
        """Of the mean brightness of each patch and what is around it; zeros beyond the border."""
        grey = F.pad(seen.double().mean(dim=-1), (reach,) * 4)
        return F.avg_pool2d(grey, 16 + 2 * reach, stride=16).flatten(1)

    parts = [patches(tiles.cut(image, number)) for number in range(len(tiles.starts))]
    found = tiles.stitch(torch.stack(parts, dim=1))
    torch.testing.assert_close(found, patches(image))


# Trained and exported


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("tiles")
    for index in range(6):
        write_image(folder / "good" / f"{index:02d}.png", frame(index))
    config = tiny_config(
        method="patchcore", tiles=64, tile_overlap=32, image_size=[128, 128], top_k=1,
        group="image", memory_size=200, false_alarm_rate=0.1, smoothing_sigma=4.0,
        ignore=["0.7,0,0.3x0.3"],
    )  # fmt: skip
    weights = save_weights(folder / "tiny.safetensors", body(TINY))
    return train_detector(
        folder / "good", folder / "run", config, weights=weights, cache=folder / "cache"
    )


@pytest.fixture(scope="module")
def model(trained: Trained) -> Predictor:
    return load(export_detector(trained, trained.folder.parent / "model.onnx").path)


def test_thresholds_are_those_of_whole_frames(trained: Trained) -> None:
    spec = trained.spec
    # Tiles of 64 are enlarged to 128, so a patch of 16 is 8 of the frame.
    assert (spec.image_size, spec.map_size) == (FRAME, (80, 112))
    assert spec.geometry is not None
    assert "overlap by 32, of frames of 224 x 160, enlarged 2 times" in spec.geometry.in_words()
    assert (spec.calibration.images, spec.calibration.folds) == (6, 5)
    assert spec.reference is not None
    assert spec.reference.largest == FRAME
    with torch.inference_mode():
        images = torch.from_numpy(np.stack([frame(20), frame(21)]))
        scores, _ = trained.detector(images)
        assert trained.detector.frame is not None
        tiles = [
            trained.detector.patches(trained.detector.frame.cut(images, number))[0].amax(dim=1)
            for number in range(len(trained.detector.frame.starts))
        ]
    assert (scores <= torch.stack(tiles).amax(dim=0) + 1e-6).all()


def test_one_tile_scores_as_an_image_that_was_enlarged(trained: Trained) -> None:
    config = trained.detector.config.replaced({"ignore": [], "tiles": 0})
    whole = Detector(config, trained.detector.backbone)
    geometry = Geometry(tiles=Tiles(64, 32, (64, 64), 2))
    cut = Detector(trained.detector.config, trained.detector.backbone, geometry)
    for one in (whole, cut):
        one.load_trained_state(trained.detector.trained_state())
    images = torch.from_numpy(np.stack([frame(seed)[:64, :64] // 16 * 16 for seed in range(3)]))
    pixels = F.interpolate(images.permute(0, 3, 1, 2).float(), scale_factor=2, mode="bilinear")
    assert torch.equal(pixels, pixels.round())  # of sixteenths nothing is rounded
    with torch.inference_mode():
        outputs = (whole(pixels.permute(0, 2, 3, 1).byte()), cut(images))
    torch.testing.assert_close(outputs[1][0], outputs[0][0], rtol=1e-4, atol=0)
    assert outputs[0][0].std() > 0.01
    # A Gaussian of half the pixels is another sum.
    torch.testing.assert_close(outputs[1][1], outputs[0][1], rtol=1e-2, atol=0)


def test_a_small_defect_is_found_where_it_lies(model: Predictor) -> None:
    for row, column in ((100, 60), (62, 130), (150, 215), (80, 96)):
        found = model.predict(frame(30, spot=(row, column)))
        assert found.is_anomalous
        x, y, width, height = found.regions[0].box
        assert x - 8 <= column <= x + width + 8
        assert y - 8 <= row <= y + height + 8
    assert not model.predict(frame(30)).is_anomalous


def test_what_is_ignored_reaches_no_score(model: Predictor) -> None:
    changed = frame(31)
    changed[:46, 160:] = np.random.default_rng(0).integers(0, 256, (46, 64, 3))
    assert model.predict(changed).score == model.predict(frame(31)).score
    assert not model.predict(frame(31, spot=(20, 200))).regions


def test_a_frame_of_another_size_is_an_error_and_no_score(model: Predictor) -> None:
    with pytest.raises(DataError, match="the frame is 112 x 80, expected 224 x 160"):
        model.predict(frame(0)[::2, ::2])
    good, bad = model.predict([frame(0), frame(0)[:100]])
    assert good.error is None
    assert "its tiles everything would be of another size" in str(bad.error)


def test_the_proof_and_the_self_test_are_small(trained: Trained, model: Predictor) -> None:
    assert trained.calibration_images().shape == (4, 64, 64, 3)
    path = trained.folder.parent / "model.onnx"
    assert selftest(path).equal
    assert path.stat().st_size < 20 << 20
    again = load_detector(trained.folder)
    with torch.inference_mode():
        score, _ = again.detector(torch.from_numpy(prepared(frame(40), model.spec))[None])
    assert model.predict(frame(40)).score == pytest.approx(score.item(), rel=1e-4)


def prepared(image: Image, spec: Spec) -> Image:
    return prepare(image, spec.image_size, spec.geometry).pixels


def test_openvino_runs_it_too(trained: Trained, model: Predictor) -> None:
    pytest.importorskip("openvino")
    path = export_detector(trained, trained.folder.parent / "model.xml", format="openvino").path
    with load(path) as other:
        image = frame(41, spot=(90, 90))
        assert other.predict(image).score == pytest.approx(model.predict(image).score, rel=1e-2)


def test_an_evaluation_measures_at_the_size_of_the_maps(trained: Trained, tmp_path: Path) -> None:
    for index in range(2):
        write_image(tmp_path / "train" / "good" / f"{index}.png", frame(index))
        write_image(tmp_path / "test" / "good" / f"{index}.png", frame(50 + index))
        write_image(tmp_path / "test" / "spot" / f"{index}.png", frame(60, spot=(100, 60)))
        mask = np.zeros((*FRAME, 3), np.uint8)
        mask[94:106, 54:66] = 255
        write_image(tmp_path / "ground_truth" / "spot" / f"{index}_mask.png", mask)
    found = evaluate(trained.folder, tmp_path).evaluation
    assert found.image_size == (80, 112)
    assert found.image_auroc.value == 1
    assert found.pixel_auroc.value > 0.9


# What is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tiles": 500}, "tiles: expected a multiple of 32 from 32 to 4096, found 500"),
        ({"tiles": 64, "tile_overlap": 48}, "tile_overlap: expected a multiple of 32 up to half"),
        (
            {"tiles": 64, "tile_overlap": 32, "image_size": [96, 96]},
            "image_size: expected that of a tile, 64, or a multiple of it",
        ),
        ({"tiles": 64, "tile_overlap": 32, "image_size": [512, 512]}, "or up to 4 times that"),
        ({"tiles": 128, "method": "generalad"}, "tiles: expected the method residual, gaussian"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(method="patchcore", layers=(1,)).replaced(changes)


def test_tiles_are_enlarged_where_the_network_takes_it() -> None:
    config = Config(method="patchcore", layers=(1,))
    sizes = {128: 256, 2048: 4096, 4096: 4096}
    found = {side: config.replaced({"tiles": side}).image_size[0] for side in sizes}
    assert found == sizes


def test_frames_that_cannot_be_cut_are_refused(trained: Trained, tmp_path: Path) -> None:
    weights, config = trained.folder.parent / "tiny.safetensors", trained.detector.config
    for index in range(3):
        write_image(tmp_path / "small" / f"{index}.png", frame(index)[:40])
        write_image(tmp_path / "mixed" / f"{index}.png", frame(index)[: 100 + index])
    small = config.replaced({"ignore": []})
    with pytest.raises(UsageError, match="tiles of 64 pixels are larger than what is judged"):
        train_detector(tmp_path / "small", tmp_path / "a", small, weights=weights)
    with pytest.raises(DataError, match="tiles are cut from frames of one size, found 3"):
        train_detector(tmp_path / "mixed", tmp_path / "b", small, weights=weights)


def test_another_precision_is_refused(trained: Trained) -> None:
    with pytest.raises(
        UsageError, match="frames in tiles are exported as ONNX or OpenVINO in fp32"
    ):
        export_detector(trained, trained.folder.parent / "model-int8.onnx", precision="int8")


@pytest.mark.parametrize(
    "changes",
    [
        {"tiles": {"side": 64, "overlap": 32, "frame": [1 << 20, 1 << 20]}},
        {"tiles": {"side": 1 << 20, "overlap": 0, "frame": [64, 64]}},
        {"tiles": {"side": 64, "overlap": 32, "frame": [640, 640]}},  # image_size is 64 x 64
        {"tiles": {"side": 96, "overlap": 32, "frame": [64, 64]}},
        {"tiles": {"side": 64, "overlap": 32, "frame": [64, 64], "scale": 100}},
    ],
)
def test_hostile_tiles_are_refused_when_they_are_read(changes: Any) -> None:
    with pytest.raises(ArtifactError, match="the spec is damaged"):
        Spec.from_dict(fake_spec().to_dict() | {"geometry": changes})


def looped(path: Path, **changes: Any) -> Path:
    """A graph with a loop over `rounds` tiles, or one that no export has."""
    from onnx import TensorProto, helper, save

    rounds, given = changes.get("rounds", 4), changes.get("inputs", 1)
    product = changes.get("product", False)
    value = helper.make_tensor_value_info
    names = [f"tile{number}" for number in range(given)]
    nodes = [helper.make_node("Cast", [names[-1]], ["found"], to=TensorProto.FLOAT)]
    if changes.get("endless"):
        nodes.append(
            helper.make_node("Loop", ["", ""], ["more"], body=helper.make_graph([], "x", [], []))
        )
    if side := changes.get("large"):
        shape = helper.make_tensor("shape", TensorProto.INT64, [2], [side, side])
        nodes = [
            helper.make_node("Constant", [], ["shape"], value=shape),
            helper.make_node("ConstantOfShape", ["shape"], ["square" if product else "found"]),
        ]
    if product:
        nodes.append(helper.make_node("MatMul", ["square", "square"], ["product"]))
        nodes.append(helper.make_node("ReduceMax", ["product"], ["found"], keepdims=0))
    inputs = [value(name, TensorProto.UINT8, [1, 64, 64, 3]) for name in names]
    outputs = [value("found", TensorProto.FLOAT, None)]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [5], [rounds, 1, 64, 64, 3])
    graph = helper.make_graph(
        [
            helper.make_node("Expand", ["images", "sizes"], ["tiles"]),
            helper.make_node(
                "Scan", ["tiles"] * given, ["scores"], body=body,
                num_scan_inputs=changes.get("scanned", given),
            ),
        ],
        "graph",
        [value("images", TensorProto.UINT8, [1, 64, 64, 3])],
        [value("scores", TensorProto.FLOAT, None)],
        [sizes],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), str(path))
    return path


def test_a_loop_over_tiles_is_bounded_before_it_runs(tmp_path: Path) -> None:
    check_graph(looped(tmp_path / "good.onnx"))
    check_graph(looped(tmp_path / "enlarged.onnx", large=2000, product=True, rounds=40))
    for changes in (
        {"large": 2000, "product": True, "rounds": 60},
        {"rounds": 1 << 20},
        {"inputs": 2},
        {"scanned": 0},
        {"endless": True},
        {"large": 1 << 14},
        {"large": 2000, "rounds": 10_000},
    ):
        with pytest.raises(ArtifactError, match="which no export has"):
            check_graph(looped(tmp_path / "bad.onnx", **changes))


def test_areas_and_tiles_go_together() -> None:
    geometry = Geometry(crop=polygon_of("0.25,0.5,0.5x0.5", "crop"), tiles=Tiles(64, 0, FRAME))
    assert geometry.tiled_size() == (64, 128)  # 80 and 112, to the nearest step
    spec = dataclasses.replace(fake_spec(), geometry=geometry, image_size=(64, 128))
    assert Spec.from_json(spec.to_json()).geometry == geometry
    assert prepare(frame(0), spec.image_size, geometry).pixels.shape == (64, 128, 3)
