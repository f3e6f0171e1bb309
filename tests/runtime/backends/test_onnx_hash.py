"""Names of weights apart in an ONNX file, found in time that grows with its size and no faster."""

from __future__ import annotations

import numpy as np
import pytest

from generalad.errors import ArtifactError
from generalad.runtime.backends.onnx_hash import weights_apart


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
