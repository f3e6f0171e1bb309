"""Export: one file that is the detector, proven on images, or no file at all."""

from __future__ import annotations

import base64
import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from training_helpers import body, save_weights, tiny_config

from generalad.calibration import calibrate
from generalad.errors import ArtifactError, GadError, GateError, StorageError
from generalad.export import export as module
from generalad.export.export import GOLDEN_SAMPLES, Exported, export_detector
from generalad.export.gate import run_all
from generalad.export.precision import OPSET
from generalad.export.to_onnx import check_model, to_onnx
from generalad.model.detector import Detector
from generalad.model.session import TorchSession
from generalad.model.storage import Trained, load_detector
from generalad.model.weights import load_backbone
from generalad.preprocess import decode_image
from generalad.runtime import open_session
from generalad.runtime.backends.onnx_hash import HASH_KEY
from generalad.spec import METADATA_KEY, Spec

pytest_plugins = ["training_fixtures"]


def noise(size: tuple[int, int], count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def silent(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def graph(exported: Exported) -> onnx.ModelProto:
    return onnx.load(exported.path)


def test_the_spec_travels_in_the_file(
    exported: Exported, graph: onnx.ModelProto, trained: Trained
) -> None:
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert list(metadata) == [HASH_KEY, METADATA_KEY]
    spec = Spec.from_json(metadata[METADATA_KEY])
    assert spec == exported.spec
    assert spec.backbone == trained.spec.backbone
    assert spec.training_set == trained.spec.training_set
    assert spec.precision == "fp32"
    assert spec.parity["flips"] == 0
    assert spec.parity["images"] == 2 * spec.calibration.images == 6
    assert [one["name"] for one in spec.parity["sets"]] == ["calibration", "drawn defects"]
    assert spec.parity["candidate"] == "fp32" and not spec.parity["refused"]
    assert spec.parity["score_largest"] <= spec.parity["limits"]["score"]
    assert spec.provenance["export"]["opset"] == OPSET
    assert "onnxruntime" in spec.parity["backend"]


def test_the_graph_is_what_runtimes_expect(graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(graph, full_check=True)
    (images,) = graph.graph.input
    shape = images.type.tensor_type.shape.dim
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shape[0].dim_param
    assert [axis.dim_value for axis in shape[1:]] == [64, 64, 3]
    assert [output.name for output in graph.graph.output] == ["scores", "maps"]
    assert {entry.version for entry in graph.opset_import if not entry.domain} == {OPSET}


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_any_batch_gives_the_scores_of_torch(
    exported: Exported, trained: Trained, batch: int
) -> None:
    images = noise((64, 64), batch)
    expected = TorchSession(trained).run(images)
    with open_session(exported.path) as session:
        assert session.fixed_batch is None
        found = session.run(images)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-4)


def test_golden_samples_reproduce(exported: Exported) -> None:
    golden = exported.spec.golden
    assert len(golden) == GOLDEN_SAMPLES
    assert sorted(sample.score for sample in golden) == [sample.score for sample in golden]
    with open_session(exported.path) as session:
        for sample in golden:
            image = decode_image(base64.b64decode(sample.png))
            found = session.run(image[None])
            assert float(found.scores[0]) == pytest.approx(sample.score, abs=1e-5)
            assert float(found.maps.max()) == pytest.approx(sample.map_peak, abs=1e-5)


def test_thresholds_are_set_through_the_artifact(exported: Exported, trained: Trained) -> None:
    images = trained.calibration_images()
    with open_session(exported.path) as session:
        outputs = run_all(session, images, silent)
    target = trained.spec.calibration.target
    again = calibrate(outputs.scores, outputs.maps.max(axis=(1, 2)), target=target)
    assert again.thresholds == exported.spec.thresholds
    assert again.normalisation == exported.spec.normalisation
    assert not (outputs.scores >= exported.spec.thresholds.image).any()


def _edit(model: onnx.ModelProto, dimensions: int, change: Callable[[Any], Any]) -> None:
    """Change the largest float initializer with that many dimensions."""
    found = [
        tensor
        for tensor in model.graph.initializer
        if len(tensor.dims) == dimensions and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    tensor = max(found, key=lambda item: int(np.prod(item.dims)))
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _scale(model: onnx.ModelProto) -> None:
    _edit(model, 2, lambda values: values * 1.05)


def _swap_colours(model: onnx.ModelProto) -> None:
    _edit(model, 4, lambda values: values[:, ::-1])


def _nan(model: onnx.ModelProto) -> None:
    _edit(model, 2, lambda values: values * np.nan)


@pytest.mark.parametrize("damage", [_scale, _swap_colours, _nan])
def test_a_graph_that_is_not_the_detector_is_refused(
    damage: Callable[[onnx.ModelProto], None],
    graph: onnx.ModelProto,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = copy.deepcopy(graph)
    damage(wrong)
    monkeypatch.setattr(module, "to_onnx", lambda detector: wrong)
    old = tmp_path / "model.onnx"
    old.write_bytes(b"older artifact")
    with pytest.raises(GateError, match="passed the gate") as caught:
        export_detector(trained, old)
    assert caught.value.exit_code == 3
    assert "nothing was written" in caught.value.remedy
    assert old.read_bytes() == b"older artifact"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_place_that_cannot_be_written(
    graph: onnx.ModelProto, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "to_onnx", lambda detector: copy.deepcopy(graph))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        export_detector(trained, tmp_path / "file" / "model.onnx")


def test_a_folder_that_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a trained detector"):
        export_detector(tmp_path)


def _remove_one(folder: Path) -> None:
    next((folder / "calibration").glob("*.png")).unlink()


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder / "calibration")


def _exchange(folder: Path) -> None:
    first, second, *_ = sorted((folder / "calibration").glob("*.png"))
    first.write_bytes(second.read_bytes())


def _cut_off(folder: Path) -> None:
    path = next((folder / "calibration").glob("*.png"))
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [_remove_one, _remove_all, _exchange, _cut_off])
def test_calibration_images_that_were_changed(
    damage: Callable[[Path], None], run_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    damage(folder)
    with pytest.raises(ArtifactError, match="missing or were changed"):
        export_detector(folder)
    assert not (folder / "model.onnx").exists()
    assert len(load_detector(run_folder).calibration_images()) == 3


def check_export(detector: Detector) -> onnx.ModelProto:
    """Export, run three images on both sides, compare."""
    model = to_onnx(detector.eval())
    images = noise(detector.config.image_size, 3)
    with torch.inference_mode():
        scores, maps = detector(torch.from_numpy(images))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(["scores", "maps"], {"images": images})
    np.testing.assert_allclose(found[0], scores.numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[1], maps.numpy(), rtol=1e-3, atol=1e-3)
    assert found[1].shape == (3, *detector.map_size)
    return model


@pytest.mark.parametrize(
    ("name", "layers"), [("vit_small_patch16_dinov3", [1]), ("resnet18", [1, 2])]
)
def test_other_families_and_rectangular_input(name: str, layers: list[int], tmp_path: Path) -> None:
    path = save_weights(tmp_path / "weights.safetensors", body(name))
    config = tiny_config(backbone=name, layers=layers, image_size=[64, 96])
    torch.manual_seed(0)
    check_export(Detector(config, load_backbone(config, weights=path)[0]))


def test_the_position_embedding_is_resampled_at_load_and_not_in_the_graph(tmp_path: Path) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    path = save_weights(tmp_path / "weights.safetensors", body(name))  # at 518 pixels
    config = tiny_config(backbone=name, layers=[1], image_size=[392, 392])
    torch.manual_seed(0)
    model = check_export(Detector(config, load_backbone(config, weights=path)[0]))
    found = {node.op_type for node in model.graph.node}
    assert not {"Resize", "Pad"} & found, "neither for the positions nor for the map"


def test_a_graph_no_runtime_expects_is_refused(graph: onnx.ModelProto, trained: Trained) -> None:
    def fixed(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    def older(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = OPSET - 1

    def cubic(model: onnx.ModelProto) -> None:
        made = onnx.helper.make_node("Resize", ["a", "", "b"], ["c"], mode="cubic")
        model.graph.node.append(made)

    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.vendor"

    check_model(graph, trained.detector)
    for change, message in (
        (fixed, "symbolic batch axis"),
        (older, "opset"),
        (cubic, "linear Resize"),
        (foreign, "standard operators"),
    ):
        wrong = copy.deepcopy(graph)
        change(wrong)
        with pytest.raises(GadError, match=message):
            check_model(wrong, trained.detector)
