"""A repository for Triton: complete, true to the artifact, and what Triton's own schema takes."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import gad, one_line
from serve_helpers import golden_artifact
from tiny_artifacts import tiny_artifact

from generalad.errors import ArtifactError, GateError, UsageError
from generalad.export.to_triton import write_repository
from generalad.preprocess import resize
from generalad.runtime.backends.open import open_session

EXAMPLE = Path(__file__).parents[2] / "examples" / "triton_client.py"


def load(name: str, path: Path) -> Any:
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def schema() -> Any:
    """Triton's `model_config.proto`; its package would also want a library for gRPC."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    pytest.importorskip("google.protobuf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the version that it was made with
        return load(
            "model_config_pb2",
            Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py",
        )


def parsed(schema: Any, folder: Path) -> Any:
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


def test_the_config_is_what_the_graph_takes(tmp_path: Path, schema: Any) -> None:
    artifact = golden_artifact(tmp_path / "washer v2.onnx", class_name='a "part"\n')
    folder = write_repository(artifact, tmp_path / "out", batch=4, instances=2, max_delay=0.01)
    config = parsed(schema, folder)
    assert (config.name, folder.name) == ("washer-v2", "washer-v2")
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 4)
    assert (folder / "1" / "model.onnx").read_bytes() == artifact.read_bytes()
    with open_session(folder / "1" / "model.onnx") as session:
        spec = session.spec
    (given,), (scores, maps) = config.input, config.output
    assert (given.name, list(given.dims)) == (spec.input_name, [*spec.image_size, 3])
    assert given.data_type == schema.TYPE_UINT8
    assert (scores.name, list(scores.dims), list(scores.reshape.shape)) == ("scores", [1], [])
    assert scores.HasField("reshape")
    assert (maps.name, list(maps.dims)) == ("maps", list(spec.map_size))
    assert {scores.data_type, maps.data_type} == {schema.TYPE_FP32}
    assert config.dynamic_batching.max_queue_delay_microseconds == 10_000
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, schema.ModelInstanceGroup.KIND_AUTO)
    said = {key: value.string_value for key, value in config.parameters.items()}
    assert float(said["generalad.threshold"]) == spec.thresholds.image
    assert said["generalad.class"] == spec.class_name


def test_the_warm_up_is_the_golden_samples(tmp_path: Path, schema: Any) -> None:
    folder = write_repository(golden_artifact(tmp_path / "model.onnx"), tmp_path / "out")
    config = parsed(schema, folder)
    with open_session(folder / "1" / "model.onnx") as session:
        for warm_up, golden in zip(config.model_warmup, session.spec.golden, strict=True):
            value = warm_up.inputs["images"]
            data = (folder / "warmup" / value.input_data_file).read_bytes()
            image = np.frombuffer(data, np.uint8).reshape(warm_up.batch_size, *value.dims)
            assert session.run(image.copy()).scores[0] == pytest.approx(golden.score, abs=1e-6)


@pytest.mark.parametrize("fixed", [1, 3])
def test_a_fixed_batch_is_left_as_it_is(tmp_path: Path, schema: Any, fixed: int) -> None:
    spec_of = golden_artifact(tmp_path / "any.onnx")
    with open_session(spec_of) as session:
        artifact = tiny_artifact(tmp_path / "model.onnx", session.spec, batch=fixed)
    config = parsed(schema, write_repository(artifact, tmp_path / "out"))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [fixed, 64, 64, 3]
    assert list(config.output[0].dims) == [fixed]
    assert not config.HasField("dynamic_batching")
    assert len(config.model_warmup) == (3 if fixed == 1 else 0)


def test_the_request_of_the_example_is_what_the_config_asks(tmp_path: Path, schema: Any) -> None:
    pytest.importorskip("geventhttpclient", reason="tritonclient[http] is not installed")
    http = importlib.import_module("tritonclient.http")
    folder = write_repository(golden_artifact(tmp_path / "model.onnx"), tmp_path / "out")
    config = parsed(schema, folder)
    image = np.arange(30 * 40 * 3, dtype=np.uint32).astype(np.uint8).reshape(30, 40, 3)
    (asked,) = load("triton_client", EXAMPLE).inputs(image, (64, 64))
    assert isinstance(asked, http.InferInput)
    assert (asked.name(), asked.datatype()) == (config.input[0].name, "UINT8")
    assert asked.shape() == [1, *config.input[0].dims]
    sent = np.frombuffer(asked._get_binary_data(), np.uint8).reshape(1, 64, 64, 3)
    assert np.array_equal(sent[0], resize(image, (64, 64)))


def test_what_cannot_be_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"expected \.onnx or \.engine"):
        write_repository(tmp_path / "model.xml", out)
    with pytest.raises(ArtifactError, match="no such file"):
        write_repository(tmp_path / "none.onnx", out)
    with pytest.raises(GateError, match="differs"):
        write_repository(golden_artifact(tmp_path / "wrong.onnx", wrong=True), out)
    with pytest.raises(UsageError, match="at least 1"):
        write_repository(golden_artifact(tmp_path / "model.onnx"), out, batch=0)
    assert not out.exists()
    code, _, err = gad(capsys, "export", tmp_path, "--format", "triton")
    assert code == 2
    assert "detector's folder" in one_line(err)


def test_the_command_writes_a_repository_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = golden_artifact(tmp_path / "model.onnx")
    words = ("export", artifact, "--format", "triton", "--out", tmp_path / "out", "--batch", "2")
    code, _, _ = gad(capsys, *words)
    assert code == 0
    text = (tmp_path / "out" / "model" / "config.pbtxt").read_text()
    assert re.search(r"^max_batch_size: 2$", text, re.MULTILINE)
    code, _, err = gad(capsys, *words)
    assert code == 2
    assert "exists already" in one_line(err)
