"""OpenVINO: the ONNX graph as an IR, in float32, with half-size weights, or quantised by NNCF.

Where a processor computes in half precision, operations that an IR marks stay in float32.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
from numpy.typing import NDArray

from generalad.errors import MissingExtraError
from generalad.export.onnx_file import write_onnx
from generalad.export.precision import Keep, attention_core
from generalad.export.quantise import representative
from generalad.export.quiet import quiet
from generalad.files import atomic_write, make_folder, sha256_of_file, storage_error
from generalad.runtime.backends import ov
from generalad.spec import Spec

PRECISE = "precise"
"""OpenVINO's mark of an operation that is not to be computed in 16 bits."""

_LOGGERS = ("nncf", "torch.utils.cpp_extension")

Validate = Callable[[Any], float]
"""Image AUROC of a compiled OpenVINO model."""


def convert(model: onnx.ModelProto) -> Any:
    """The OpenVINO model of an ONNX graph.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    openvino = ov.library()
    with tempfile.TemporaryDirectory(prefix="gad-export-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        # A copy, because the weights of what was read are mapped from the file that goes away.
        return openvino.Core().read_model(str(path)).clone()


def write_ir(
    model: Any, path: Path, spec: Spec, *, half: bool = False, kept: Collection[str] = ()
) -> None:
    """Write `path` (.xml) and its weights (.bin) beside it; the XML comes last and has their hash.

    Args:
        model: of OpenVINO.
        path: ends in .xml.
        spec: to travel in the XML.
        half: store float weights in 16 bits.
        kept: names of operations that stay in float32 where the rest is in half precision.

    Raises:
        StorageError: the place cannot be written, or the disk is full.
    """
    openvino = ov.library()
    make_folder(path.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".gad-export-", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            model.set_rt_info(spec.to_json(), [ov.INFO, "spec"])
            openvino.save_model(model, draft, compress_to_fp16=half)
            model.set_rt_info(
                sha256_of_file(draft.with_suffix(".bin")), [ov.INFO, "weights_sha256"]
            )
            openvino.save_model(model, draft, compress_to_fp16=half)
            _mark(draft, kept)
            for suffix in (".bin", ".xml"):
                with atomic_write(path.with_suffix(suffix)) as temporary:
                    os.replace(draft.with_suffix(suffix), temporary)
    except OSError as error:
        raise storage_error(error, path) from error
    except RuntimeError as error:  # OpenVINO's form of a failed write
        raise storage_error(OSError(str(error).strip().splitlines()[-1]), path) from error


def _mark(path: Path, kept: Collection[str]) -> None:
    """Mark operations as ones that lose too much in 16 bits, which Python's API cannot."""
    tree = ElementTree.parse(path)
    for layer in tree.iter("layer"):
        if layer.get("name") in kept:
            notes = layer.find("rt_info")
            if notes is None:
                notes = ElementTree.SubElement(layer, "rt_info")
            ElementTree.SubElement(notes, "attribute", {"name": PRECISE, "version": "0"})
    tree.write(path, encoding="utf-8", xml_declaration=True)


def kept_in_float(model: Any, graph: onnx.ModelProto, keep: Keep) -> frozenset[str]:
    """OpenVINO's names of what stays in float32 where the rest is computed in half precision.

    Around a Softmax that is kept its two products are too: all three are one operation there.
    """
    core = attention_core(graph, keep)
    found = set(_names(model, graph, lambda node: keep(node) or node.name in core))
    known = {name for node in graph.graph.node for name in (node.name, *node.output)}
    # A node that became several operations gave its name to the last of them.
    waiting = [one for one in model.get_ops() if one.get_friendly_name() in found]
    while waiting:
        for value in waiting.pop().input_values():
            before = value.get_node()
            name = before.get_friendly_name()
            named = name.split("/")[0] in known or name in found
            if not named and before.get_type_name() not in ("Constant", "Parameter"):
                found.add(name)
                waiting.append(before)
    return frozenset(found)


def quantise_ir(
    model: Any,
    graph: onnx.ModelProto,
    keep: Keep,
    images: NDArray[np.uint8],
    *,
    validation: tuple[Validate, float] | None = None,
) -> Any:
    """Quantise an OpenVINO model with NNCF.

    Args:
        model: float32, from `convert`.
        graph: the ONNX graph it came from; `keep` is asked about its nodes.
        keep: whether a node is left alone.
        images: (n, H, W, 3) uint8 RGB, calibration images.
        validation: what to measure, and how much of it may be lost; then NNCF turns the nodes that
            cost most back to float until that holds (slow).

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    nncf = _import_nncf()
    chosen = representative(images)
    dataset = nncf.Dataset([image[None] for image in chosen])
    attention = any(node.op_type == "Softmax" for node in graph.graph.node)
    options = {
        "model_type": nncf.ModelType.TRANSFORMER if attention else None,
        "subset_size": len(chosen),
        "ignored_scope": nncf.IgnoredScope(names=_names(model, graph, keep)),
    }
    with quiet(*_LOGGERS, stdout=True):
        if validation is None:
            return nncf.quantize(model, dataset, **options)
        measure, loss = validation
        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=dataset,
            validation_dataset=nncf.Dataset([0]),  # `measure` has its own images
            validation_fn=lambda compiled, _: (measure(compiled), None),
            max_drop=loss,
            # A node that is turned back gets its first weights, without the factors that smoothing
            # had moved into them; measured, one such node took the AUROC from 0.98 to 0.54.
            advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
            ),
            **options,
        )


def _names(model: Any, graph: onnx.ModelProto, keep: Keep) -> list[str]:
    """OpenVINO's names of the operations that came from kept nodes of the ONNX graph.

    They are those of the nodes, but what gives an output of the graph is named as the output.
    """
    kept = {name for node in graph.graph.node if keep(node) for name in (node.name, *node.output)}
    names = [operation.get_friendly_name() for operation in model.get_ops()]
    return [name for name in names if name in kept or name.split("/")[0] in kept]


def _import_nncf() -> Any:
    # It reports its use to a server otherwise, without asking, also from a factory's network.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        with quiet(*_LOGGERS, stdout=True):
            import nncf
    except ImportError as error:
        raise MissingExtraError("int8 for OpenVINO", "int8") from error
    return nncf
