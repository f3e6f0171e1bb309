"""What an export tries, in order: for each format and precision, graphs from fast to safe.

`candidates` yields them one by one and makes each only when it is asked for, because the first one
mostly passes the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from generalad.errors import UsageError, require_extra
from generalad.export.activation_ranges import activation_ranges
from generalad.export.engine import EngineOptions
from generalad.export.parity import LIMITS
from generalad.export.precision import ladder, lower, processor_ladder, too_large
from generalad.export.quantise import Coverage, coverages, quantise
from generalad.export.to_onnx import write_model
from generalad.progress import Progress
from generalad.runtime.backends import ov, trt_library
from generalad.spec import Spec

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine"}
"""Format and the suffix of its artifacts."""

PRECISIONS = ("fp32", "fp16", "int8")
WATCHED = 16
"""Images on which overflow is looked for."""


Write = Callable[[Path, Spec], None]
"""Writes a whole artifact to a path, with a spec."""


@dataclass(frozen=True)
class Candidate:
    """An artifact that may be written if it passes the gate.

    Attributes:
        precision: whose limits hold.
        name: what was done to the graph, as printed and recorded.
        write: writes it; called for the draft and for the artifact.
        reference: writes what it must be faster than; None where speed is not asked for.
        overflow: tensors that do not fit its type, so that it is not even tried.
        half: the same with other nodes kept in float32 where a processor computes in half
            precision, from none of the network to most; a name such as ", LayerNorm in fp32" and
            what writes it.
    """

    precision: str
    name: str
    write: Write
    reference: Write | None = None
    overflow: tuple[str, ...] = ()
    half: tuple[tuple[str, Write], ...] = ()


@dataclass(frozen=True)
class Material:
    """What candidates are made of.

    Attributes:
        graph: float32 ONNX, with the batch axis asked for.
        images: (n, H, W, 3) uint8 RGB, calibration images.
        engine: how to build TensorRT engines.
        validate: image AUROC of any function (B, H, W, 3) uint8 -> scores (B,), for NNCF.
        progress: told how far each stage is.
    """

    graph: onnx.ModelProto
    images: NDArray[np.uint8]
    engine: EngineOptions
    validate: Callable[[Callable[[NDArray[np.uint8]], Any]], float]
    progress: Progress


def check(format: str, precision: str) -> None:
    """Refuse at once what is not known, or cannot be made here.

    Raises:
        GadError: TensorRT cannot be loaded, or there is no graphics card for it.
        MissingExtraError: the library of the format is not installed.
        UsageError: no such format or precision.
    """
    for kind, value, known in (
        ("format", format, tuple(FORMATS)),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise UsageError(f"unknown {kind} {value!r}", remedy=f"choose {' or '.join(known)}")
    if format == "openvino":
        ov.library()
        if precision == "int8":
            require_extra("int8 for OpenVINO", "int8", "nncf")
    elif format == "tensorrt":
        trt_library.machine(trt_library.library())


def candidates(format: str, precision: str, material: Material) -> Iterator[Candidate]:
    """Everything to try for a format and precision that passed `check`, in order."""
    return {"onnx": _onnx, "openvino": _openvino, "tensorrt": _tensorrt}[format](
        precision, material
    )


def _onnx(precision: str, material: Material) -> Iterator[Candidate]:
    graph = material.graph
    if precision == "fp32":
        yield Candidate("fp32", "fp32", _writer(graph))
    elif precision == "fp16":
        for candidate, _ in lowered(material):
            yield candidate
    else:
        for coverage in coverages(graph):
            quantised = quantise(
                graph,
                material.images,
                coverage.keep,
                symmetric=False,
                progress=material.progress,
            )
            yield Candidate("int8", coverage.name, _writer(quantised), _writer(graph))


def lowered(material: Material) -> Iterator[tuple[Candidate, onnx.ModelProto]]:
    """The rungs of half precision as ONNX files, each with its graph."""
    material.progress("overflow", 0, 1)
    sizes = activation_ranges(material.graph, material.images[:WATCHED])
    material.progress("overflow", 1, 1)
    for rung in ladder(material.graph):
        graph = material.graph
        overflow = tuple(too_large(sizes, graph, rung))
        if rung.precision != "fp32" and not overflow:
            graph = lower(graph, rung.precision, rung.keep, rung.bfloat16)
        yield Candidate(rung.precision, rung.name, _writer(graph), overflow=overflow), graph


def _writer(graph: onnx.ModelProto) -> Write:
    return lambda path, spec: write_model(graph, path, spec)


def _openvino(precision: str, material: Material) -> Iterator[Candidate]:
    from generalad.export.to_openvino import Validate, convert, quantise_ir

    graph = material.graph

    def converted() -> Any:
        return convert(graph)

    if precision == "fp32":
        yield Candidate("fp32", "fp32", _ir_writer(converted()))
        return
    if precision == "fp16":
        yield _with_half("fp16", "fp16 weights", converted(), graph, half=True)
        yield _with_half("fp32", "fp32", converted(), graph)
        return
    reference = _ir_writer(converted())
    validation = (
        lambda model: material.validate(lambda images: model(images)["scores"]),
        LIMITS["int8"].auroc,
    )
    first, *_ = found = coverages(graph)
    steps: list[tuple[Coverage, tuple[Validate, float] | None]] = [(step, None) for step in found]
    steps.append((replace(first, name="int8 with accuracy control"), validation))
    for step, measured in steps:
        material.progress(f"quantising: {step.name}", 0, 1)
        model = quantise_ir(converted(), graph, step.keep, material.images, validation=measured)
        material.progress(f"quantising: {step.name}", 1, 1)
        yield _with_half("int8", step.name, model, graph, reference=reference)


def _with_half(
    precision: str,
    name: str,
    model: Any,
    graph: onnx.ModelProto,
    *,
    half: bool = False,
    reference: Write | None = None,
) -> Candidate:
    """A candidate of OpenVINO that processors may compute in half precision, with its rungs."""
    from generalad.export.to_openvino import kept_in_float

    rungs = tuple(
        (
            kept,
            _ir_writer(model, half=half, kept=kept_in_float(model, graph, keep)),
        )
        for kept, keep in processor_ladder(graph)
    )
    # With the marks of the first, another device can verify it.
    return Candidate(precision, name, rungs[0][1], reference, half=rungs)


def _tensorrt(precision: str, material: Material) -> Iterator[Candidate]:
    from generalad.export.to_tensorrt import EngineWriter

    def writer(graph: onnx.ModelProto) -> Write:
        return EngineWriter(graph, material.engine, material.progress)

    if precision == "fp32":
        yield Candidate("fp32", "fp32", writer(material.graph))
        return
    half = None
    for candidate, graph in lowered(material):
        if precision == "fp16":
            yield replace(candidate, write=writer(graph))
        elif not candidate.overflow:
            half = graph
            break
    if half is None:
        return
    reference = writer(half)
    for coverage in coverages(half):
        quantised = quantise(half, material.images, coverage.keep, symmetric=True)
        yield Candidate("int8", coverage.name, writer(quantised), reference)


def _ir_writer(model: Any, *, half: bool = False, kept: Collection[str] = ()) -> Write:
    from generalad.export.to_openvino import write_ir

    return lambda path, spec: write_ir(model, path, spec, half=half, kept=kept)
