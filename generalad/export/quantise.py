"""Eight bits: which nodes are quantised, and the Q/DQ graphs for ONNX Runtime and TensorRT.

Only products with weights are quantised, never attention's products of two activations, the patch
embedding, or the score head. The two targets want different graphs: a CPU takes unsigned
activations with a zero point, TensorRT takes signed ones without.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from generalad.export.onnx_file import write_onnx
from generalad.export.precision import Keep, is_head, last_block, scope_of
from generalad.export.quiet import quiet
from generalad.progress import Progress
from generalad.spec import INPUT_NAME

QUANTISED = ("MatMul", "Gemm", "Conv")
MOST_IMAGES = 128
"""Calibration images that ranges are taken from; more change them hardly and cost memory."""


@dataclass(frozen=True)
class Coverage:
    """One step of the int8 ladder: which nodes keep their precision."""

    name: str
    keep: Keep


def coverages(model: onnx.ModelProto) -> tuple[Coverage, ...]:
    """From all products of the network to all but the last ones."""
    last = last_block(model)
    return (
        Coverage("int8", is_end),
        Coverage(
            "int8, discriminator in fp32", lambda node: is_end(node) or not _in_backbone(node)
        ),
        Coverage(
            "int8, discriminator and last block in fp32",
            lambda node: (
                is_end(node) or not _in_backbone(node) or f"{scope_of(node)}.".startswith(last)
            ),
        ),
    )


def is_end(node: onnx.NodeProto) -> bool:
    """Whether a node belongs to the score head or to the patch embedding, which see raw values."""
    return is_head(node) or "patch_embed" in scope_of(node)


def _in_backbone(node: onnx.NodeProto) -> bool:
    return scope_of(node).startswith("backbone")


def representative(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most `MOST_IMAGES` of the calibration images, evenly chosen."""
    places = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).astype(int)
    return np.asarray(images[places], dtype=np.uint8)


def quantise(
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    keep: Keep,
    *,
    symmetric: bool,
    progress: Progress | None = None,
) -> onnx.ModelProto:
    """A copy with Q/DQ pairs around products with weights, one scale for each output channel.

    Args:
        model: float32, as made by `to_onnx`.
        images: (n, H, W, 3) uint8 RGB, calibration images.
        keep: whether a node is left alone.
        symmetric: zero points of 0, as TensorRT asks for.
        progress: called with ("ranges", images done, images).
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    chosen = representative(images)
    kept = [node.name for node in model.graph.node if keep(node)]
    with tempfile.TemporaryDirectory(prefix="gad-export-") as folder, quiet(""):
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        write_onnx(model, before)
        quantize_static(
            str(before),
            str(after),
            _Reader(chosen, progress),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                "MatMulConstBOnly": True,
            },
        )
        return onnx.load(after)


class _Reader:
    """Feeds images to ONNX Runtime's calibration."""

    def __init__(self, images: NDArray[np.uint8], progress: Progress | None) -> None:
        self._images, self._progress, self._done = images, progress, 0

    def get_next(self) -> dict[str, Any] | None:
        """The next input, None at the end."""
        if self._done == len(self._images):
            return None
        self._done += 1
        if self._progress is not None:
            self._progress("ranges", self._done, len(self._images))
        return {INPUT_NAME: self._images[self._done - 1 : self._done]}
