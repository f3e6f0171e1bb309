"""The fused graph as ONNX: opset 20, symbolic batch axis, no operator outside the standard."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from generalad.errors import GadError
from generalad.export.onnx_file import write_onnx
from generalad.export.precision import OPSET
from generalad.export.quiet import quiet
from generalad.export.tiled_graph import FrameScores, TileScores, join
from generalad.model.detector import Detector
from generalad.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, Spec


def to_onnx(detector: Detector) -> onnx.ModelProto:
    """Translate a detector; the result is checked to be what every runtime can read.

    Args:
        detector: on the CPU.

    Raises:
        GadError: the exporter produced something else than was asked for.
    """
    module = _exportable(detector)
    tiles = None if module.frame is None else module.frame.tiles
    height, width = detector.config.image_size if tiles is None else (tiles.side, tiles.side)
    # A batch of two, because a batch of one would be taken for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    if module.frame is None:
        model = _translated(module, example, OUTPUT_NAMES)
        check_model(model, detector)
        return model
    tile = _translated(TileScores(module), example, ("patches",))
    check_model(tile, detector)
    found = torch.zeros(len(module.frame.starts), 2, module.head.patches)
    after = _translated(FrameScores(module), found, OUTPUT_NAMES, batch=1)
    return join(tile, after, module.frame)


def _translated(
    module: nn.Module, example: torch.Tensor, outputs: Sequence[str], *, batch: int = 0
) -> onnx.ModelProto:
    """As ONNX, with the axis `batch` of its input free."""
    with torch.inference_mode(), quiet("torch.onnx", "onnxscript", "torch.export"):
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(outputs),
            dynamic_shapes=({batch: "batch"},),
            verbose=False,
        )
    if program is None:
        raise GadError("the ONNX exporter returned nothing", remedy="please report this")
    return program.model_proto


def check_model(model: onnx.ModelProto, detector: Detector) -> None:
    """Assert on the real graph what runtimes depend on.

    Raises:
        GadError: naming the first property that does not hold.
    """
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    used = Counter(node.op_type for node in model.graph.node)
    domains = {node.domain or "ai.onnx" for node in model.graph.node}
    axis = model.graph.input[0].type.tensor_type.shape.dim[0]
    norms = sum(isinstance(module, nn.LayerNorm) for module in detector.modules())
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    foreign_resize = [
        node.name
        for node in resizes
        for attribute in node.attribute
        if (attribute.name == "mode" and attribute.s != b"linear")
        or (attribute.name == "antialias" and attribute.i)
    ]
    checks = {
        f"opset {OPSET}, found {opsets.get('ai.onnx')}": opsets.get("ai.onnx") == OPSET,
        f"standard operators only, found {sorted(domains)}": domains == {"ai.onnx"},
        "a symbolic batch axis": bool(axis.dim_param),
        f"linear Resize only, found {foreign_resize}": not foreign_resize,
        f"{norms} LayerNormalization nodes or more, found {used['LayerNormalization']}": used[
            "LayerNormalization"
        ]
        >= norms,
    }
    for expected, holds in checks.items():
        if not holds:
            raise GadError(f"the exported graph is not as it must be: expected {expected}")


def fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Give the batch axis of a graph's inputs and outputs a size, in place."""
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    name = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    make_dim_param_fixed(model.graph, name, batch)


def write_model(model: onnx.ModelProto, path: Path, spec: Spec) -> None:
    """Write an ONNX file with `spec` in its metadata, whole or not at all."""
    del model.metadata_props[:]
    model.producer_name = "generalad"
    model.doc_string = ""
    with _without_origins(model):
        write_onnx(model, path, {METADATA_KEY: spec.to_json()})


@contextlib.contextmanager
def _without_origins(model: onnx.ModelProto) -> Iterator[None]:
    """Take off the exporter's notes on where each node came from: they name files of this machine.

    They are put back, because precision is chosen by the module that a node belongs to.
    """
    parts = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    notes = [(part, list(part.metadata_props)) for part in parts if part.metadata_props]
    for part, _ in notes:
        del part.metadata_props[:]
    try:
        yield
    finally:
        for part, entries in notes:
            part.metadata_props.extend(entries)


def _exportable(detector: Detector) -> Detector:
    """A copy on the CPU whose attention is written out as products and a softmax."""
    module = copy.deepcopy(detector).cpu().eval()
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False  # type: ignore[assignment]
    return module
