"""Names of weights apart in an ONNX file, found in time that grows with its size and no faster."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from tiny_artifacts import tiny_artifact

from generalad.errors import ArtifactError
from generalad.runtime.backends.onnx_hash import HASH_KEY, weights_apart
from generalad.runtime.backends.open import open_session
from generalad.spec import METADATA_KEY


def model_with(*names: str, doc: str = "") -> bytes:
    """An ONNX file with weights in files of these names."""
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [], doc_string=doc)
    for name in names:
        tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), f"w{len(graph.initializer)}")
        onnx.external_data_helper.set_external_data(tensor, location=name, offset=0, length=16)
        tensor.ClearField("raw_data")
        graph.initializer.append(tensor)
    return bytes(onnx.helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize("length", [20, 45, 46, 48, 57, 65, 95, 100, 122, 300])
def test_names_of_any_length(length: int) -> None:
    name = "m" * (length - 18) + "-0123456789ab.data"
    assert weights_apart(model_with(name, "b.data", name)) == sorted(["b.data", name])


def test_what_only_looks_like_a_name() -> None:
    assert weights_apart(model_with(doc="m-0123456789ab.data")) == []


@pytest.mark.parametrize("text", ["A" * 2_000_000, "m-0123456789ab.data" * 100_000])
def test_a_long_text_takes_no_square_of_its_length(text: str) -> None:
    """With an expression over the whole file, the first of these would take hours."""
    assert weights_apart(model_with(doc=text)) == []


def test_what_is_no_onnx_file() -> None:
    with pytest.raises(ArtifactError, match="not an ONNX file"):
        weights_apart(b"\x3a\xff\xff")


def test_a_graph_that_is_not_what_was_exported_is_not_run(tmp_path: Path) -> None:
    import onnx

    path = tiny_artifact(tmp_path / "model.onnx")
    model = onnx.load(path)
    text = model.metadata_props[0].value
    del model.metadata_props[:]
    digest = hashlib.sha256(model.SerializeToString()).hexdigest()
    onnx.helper.set_model_props(model, {HASH_KEY: digest, METADATA_KEY: text})
    path.write_bytes(model.SerializeToString())
    open_session(path, threads=1).close()
    data = path.read_bytes()
    white = np.float32(255).tobytes()
    assert data.count(white) == 1
    path.write_bytes(data.replace(white, np.float32(254).tobytes()))
    with pytest.raises(ArtifactError, match="is not what was exported: changed or damaged"):
        open_session(path, threads=1)


@pytest.mark.parametrize("where", ["in the file", "in the spec"])
def test_two_values_of_one_name_are_none(where: str, tmp_path: Path) -> None:
    import onnx

    path = tiny_artifact(tmp_path / "model.onnx")
    model = onnx.load(path)
    entry = model.metadata_props[0]
    if where == "in the file":
        model.metadata_props.add(key=entry.key, value=entry.value)
    else:
        entry.value = entry.value.replace('"thresholds"', '"thresholds": {}, "thresholds"', 1)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="twice"):
        open_session(path, threads=1)
