"""OpenVINO artifacts: an IR of two files whose XML carries the spec and the hash of its weights."""

from __future__ import annotations

import math
import queue
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import ArtifactError, GadError, MissingExtraError
from generalad.files import sha256_of_file
from generalad.half_precision import FULL, choose, units_of
from generalad.processor import read_processor
from generalad.runtime.backends.onnx_graph import MOST_TILES, most_values
from generalad.runtime.backends.session import EXPORT_AGAIN, LibrarySession, Outputs, check_spec
from generalad.spec import Spec

INFO = "generalad"
"""Key of our part of the IR's `rt_info`; below it "spec" and "weights_sha256"."""

HINTS = {FULL: "f32", "bf16": "bf16", "fp16": "f16"}
"""OpenVINO's names of precisions."""


class OvSession(LibrarySession):
    """A `Session` on OpenVINO's CPU plugin. Output arrays belong to the caller.

    What is not quantised is computed in float32, half-size weights too, or in half precision where
    that was verified: left to itself, the plugin takes bfloat16 on processors that have it, and
    scores would not be those that were verified.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        precision: str | None = None,
        side_by_side: int = 1,
    ) -> None:
        openvino = library()
        core = openvino.Core()
        model = _read(core, path)
        self._spec = Spec.from_json(_info(model, "spec", path), name=str(path))
        check_spec(self._spec, name=str(path))
        if sha256_of_file(path.with_suffix(".bin")) != _info(model, "weights_sha256", path):
            raise ArtifactError(
                f"{path.with_suffix('.bin')} does not belong to {path.name}, or is damaged",
                remedy=f"copy both files again, or {EXPORT_AGAIN}",
            )
        self._fixed_batch = _check_graph(model, self._spec, path)
        _check_sizes(model, self._spec, self._fixed_batch or 1, path)
        stored = self._spec
        choice = choose(
            stored.half_precisions,
            half_units(core) if precision != FULL else {},
            expected=stored.precision == "fp16",
            wanted=precision,
        )
        self._take(choice)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[choice.precision],
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if side_by_side > 1:
            settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": side_by_side}
        compiled = core.compile_model(model, "CPU", settings)
        self.side_by_side = side_by_side
        self._requests: Any = queue.SimpleQueue()
        for _ in range(side_by_side):
            self._requests.put(compiled.create_infer_request())
        version = openvino.__version__.split("-")[0]
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != HINTS[choice.precision]:
            raise GadError(
                f"openvino {version} computes in {used} where {choice.in_words()} was asked for",
                remedy="pip install --upgrade openvino",
            )
        self._backend = f"openvino {version}, CPU, {choice.in_words()}"

    def _run(self, images: NDArray[np.uint8]) -> Outputs:
        request = self._requests.get()
        try:
            request.infer({self._spec.input_name: images})
            # The tensors are used again by the next run.
            found = [request.get_tensor(name).data.copy() for name in self._spec.output_names]
        finally:
            self._requests.put(request)
        return Outputs(*found)

    def _free(self) -> None:
        self._requests = None

    @staticmethod
    def _reason(error: Exception) -> str:
        return _reason(error)


def half_units(core: Any) -> dict[str, str]:
    """The half precisions that OpenVINO computes in on this processor, with their units.

    The faster one comes first. Asked for another, it would emulate it or take the other one.

    Args:
        core: of OpenVINO.
    """
    offered, found = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"), {}
    processor = read_processor()
    for precision in ("bf16", "fp16"):
        if precision.upper() in offered:
            units = units_of(processor, precision)
            if units is not None or not processor.flags:
                found[precision] = units or precision
    return found


def library() -> Any:
    """OpenVINO.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("running OpenVINO artifacts", "openvino") from error
    return openvino


def _read(core: Any, path: Path) -> Any:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtifactError(
            f"{weights} is missing; an OpenVINO artifact is two files", remedy="copy both"
        )
    try:
        return core.read_model(str(path), str(weights))
    except Exception as error:  # the library's errors share no other base class
        raise ArtifactError(
            f"{path}: cannot be loaded, not an OpenVINO model or damaged ({_reason(error)})",
            remedy=f"copy both files again, or {EXPORT_AGAIN}",
        ) from error


def _reason(error: Exception) -> str:
    """The last line that says something; the first ones name the library's source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _info(model: Any, key: str, path: Path) -> str:
    if not model.has_rt_info([INFO, key]):
        raise ArtifactError(
            f"{path}: an OpenVINO model, but not one made by generalad (no {INFO} in it)",
            remedy="make one with gad export --format openvino",
        )
    return str(model.get_rt_info([INFO, key]).astype(str))


def _check_graph(model: Any, spec: Spec, path: Path) -> int | None:
    """Compare inputs and outputs with the spec; returns the fixed batch size."""
    expected = {
        spec.input_name: (*spec.image_size, 3),
        spec.output_names[0]: (),
        spec.output_names[1]: spec.map_size,
    }
    ports = {name: port for port in (*model.inputs, *model.outputs) for name in port.get_names()}
    for name, shape in expected.items():
        port = ports.get(name)
        found = [] if port is None else [str(length) for length in port.get_partial_shape()]
        if found[1:] != [str(length) for length in shape] or not found:
            wanted = ", ".join(map(str, ("B", *shape)))
            raise ArtifactError(
                f"{path}: {name} has shape {found}, its spec says ({wanted})", remedy=EXPORT_AGAIN
            )
    batch = ports[spec.input_name].get_partial_shape()[0]
    return batch.get_length() if batch.is_static else None


def _check_sizes(model: Any, spec: Spec, batch: int, path: Path) -> None:
    """Refuse what `onnx_graph` refuses of other files, by the shapes that OpenVINO infers."""
    height, width = spec.image_size
    most = most_values(batch * height * width)
    single = model.clone()
    try:
        single.reshape({spec.input_name: [batch, height, width, 3]})
    except Exception as error:  # the library's errors share no other base class
        raise ArtifactError(
            f"{path}: its graph does not fit its input ({_reason(error)})", remedy=EXPORT_AGAIN
        ) from error
    tiled = spec.geometry is not None and spec.geometry.tiles is not None
    _check_operators(single, most, path, loops=tiled)


def _check_operators(model: Any, most: int, path: Path, *, loops: bool) -> None:
    """Those of a graph, or of the body of a loop over tiles, which has none itself."""
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        shapes = [output.get_partial_shape() for output in operator.outputs()]
        looped = loops and kind == "TensorIterator" and _ends(operator)
        if (kind in _ENDLESS and not looped) or any(shape.is_dynamic for shape in shapes):
            raise ArtifactError(
                f"{path}: its graph has {kind} whose size or end is not decided by the graph"
                " alone, which no export has",
                remedy=EXPORT_AGAIN,
            )
        largest = max((math.prod(shape.to_shape()) for shape in shapes), default=0)
        if largest > most and kind != "Constant":  # those are in the file
            raise ArtifactError(
                f"{path}: its graph has {kind} of {largest} values, expected at most {most}",
                remedy=EXPORT_AGAIN,
            )
        if looped:
            _check_operators(operator.get_function(), most, path, loops=False)


def _ends(operator: Any) -> bool:
    """Whether a loop goes over slices of its one input and carries nothing along."""
    kinds = [type(one).__name__ for one in operator.get_input_descriptions()]
    return kinds == ["SliceInputDescription"] and 1 <= operator.get_num_iterations() <= MOST_TILES


_ENDLESS = ("Loop", "TensorIterator", "If")
