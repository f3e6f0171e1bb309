"""OpenVINO: the ONNX graph as an IR, in float32, with half-size weights, or quantised by NNCF."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from generalad.errors import MissingExtraError
from generalad.export.onnx_file import write_onnx
from generalad.export.precision import Keep
from generalad.files import atomic_write, make_folder, sha256_of_file, storage_error
from generalad.runtime import ov
from generalad.spec import Spec

MOST_PICTURES = 128
"""Calibration pictures that ranges are taken from."""

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


def fix_batch(model: Any, batch: int) -> None:
    """Fix the batch axis of an OpenVINO model in place."""
    (images,) = model.inputs
    model.reshape({images: [batch, *images.get_partial_shape()[1:]]})


def write_ir(model: Any, path: Path, spec: Spec, *, half: bool) -> None:
    """Write `path` (.xml) and its weights (.bin) beside it; the XML comes last and has their hash.

    Args:
        model: of OpenVINO.
        path: ends in .xml.
        spec: to travel in the XML.
        half: store float weights in 16 bits.

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
            for suffix in (".bin", ".xml"):
                with atomic_write(path.with_suffix(suffix)) as temporary:
                    os.replace(draft.with_suffix(suffix), temporary)
    except OSError as error:
        raise storage_error(error, path) from error
    except RuntimeError as error:  # OpenVINO's form of a failed write
        raise storage_error(OSError(str(error).strip().splitlines()[-1]), path) from error


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
        images: (n, H, W, 3) uint8 RGB, calibration pictures.
        validation: what to measure, and how much of it may be lost; then NNCF turns the nodes that
            cost most back to float until that holds (slow).

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    nncf = _import_nncf()
    places = np.linspace(0, len(images) - 1, min(len(images), MOST_PICTURES)).astype(int)
    pictures = nncf.Dataset([images[place][None] for place in places])
    attention = any(node.op_type == "Softmax" for node in graph.graph.node)
    options = {
        "model_type": nncf.ModelType.TRANSFORMER if attention else None,
        "subset_size": len(places),
        "ignored_scope": nncf.IgnoredScope(names=_names(model, graph, keep)),
    }
    with _quiet():
        if validation is None:
            return nncf.quantize(model, pictures, **options)
        measure, loss = validation
        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=pictures,
            validation_dataset=nncf.Dataset([0]),  # `measure` has its own pictures
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
    """OpenVINO's names of the operations that came from kept nodes."""
    kept = {node.name for node in graph.graph.node if keep(node)}
    names = [operation.get_friendly_name() for operation in model.get_ops()]
    return [name for name in names if name in kept or name.split("/")[0] in kept]


def _import_nncf() -> Any:
    # It reports its use to a server otherwise, without asking, also from a factory's network.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        with _quiet():
            import nncf
    except ImportError as error:
        raise MissingExtraError("int8 for OpenVINO", "int8") from error
    return nncf


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and advice to developers away from users."""
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
