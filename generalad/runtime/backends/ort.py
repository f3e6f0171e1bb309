"""ONNX artifacts on ONNX Runtime: CPU, CUDA, or its TensorRT provider."""

from __future__ import annotations

import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import ArtifactError, MissingExtraError
from generalad.half_precision import Choice, choose, units_of
from generalad.parallel import in_background
from generalad.processor import read_processor
from generalad.runtime.backends import ort_providers
from generalad.runtime.backends.onnx_graph import check_graph
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.backends.session import (
    EXPORT_AGAIN,
    STAGES,
    LibrarySession,
    Outputs,
    check_spec,
    runs_at_a_time,
)
from generalad.spec import METADATA_KEY, Spec

BFLOAT16 = "mlas.enable_gemm_fastmath_arm64_bf16"
"""ONNX Runtime's switch of its bfloat16 products on ARM; off unless it is set."""

Tensor = tuple[str, str, list[Any]]
"""Name, ONNX Runtime's name of the type, shape; a size that is no int is free."""


class OrtSession(LibrarySession):
    """A `Session` on ONNX Runtime. Output arrays are fresh at every run and belong to the caller.

    Args:
        path: of the artifact.
        threads: CPU threads; None leaves the choice to ONNX Runtime.
        device: see `ort_providers.wanted`.
        precision: see `open_session`.
        spinning: see `open_session`.
        timed: fill `stages`, see `open_session` and `_TimedBound`.
        side_by_side: see `open_session`; on a GPU one.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        device: str | None = None,
        precision: str | None = None,
        spinning: bool = True,
        timed: bool = False,
        side_by_side: int = 1,
    ) -> None:
        ort = library()
        # All runs share the pool of threads, and bring one of their own each.
        pool = None if threads is None else max(1, threads - side_by_side + 1)
        options = _options(ort, pool, spinning)
        self._session: Any = _load(ort, path, options, device)
        self._spec = _read_spec(self._session, path)
        check_spec(self._spec, name=str(path))
        self._fixed_batch = _check_graph(self._session, self._spec, path)
        provider = ort_providers.in_use(self._session, device)
        self._take(self._choose(provider, precision))
        # Both are known only now, because they stand in the file.
        runs = runs_at_a_time(self._spec, side_by_side)
        if runs != side_by_side:
            options = _options(ort, threads, spinning)
        if self.choice.units:
            options.add_session_config_entry(BFLOAT16, "1")
        if self.choice.units or runs != side_by_side:
            self._session = _load(ort, path, options, device)
        computed = f", {self.choice.in_words()}" if self.choice != Choice() else ""
        self._backend = f"onnxruntime {ort.__version__}, {provider}{computed}"
        kind = _TimedBound if timed else _Bound
        self._bound = None if provider == "CPU" else kind(ort, self._session, self._spec)
        self.stages = {} if self._bound is None else self._bound.stages
        self.side_by_side = runs if self._bound is None else 1

    def _choose(self, provider: str, wanted: str | None) -> Choice:
        offered = half_units() if provider == "CPU" else {}
        return choose(self._spec.half_precisions, offered, wanted=wanted)

    @property
    def precision(self) -> str:
        """That of the graph, if it is half; else see `Session.precision`."""
        in_graph = self._spec.precision
        return in_graph if in_graph in ("fp16", "bf16") else self.choice.precision

    def _run(self, images: NDArray[np.uint8]) -> Outputs:
        if self._bound is not None:
            return Outputs(*self._bound.run(images))
        feed = {self._spec.input_name: images}
        return Outputs(*self._session.run(list(self._spec.output_names), feed))

    def _free(self) -> None:
        self._session = self._bound = None

    @staticmethod
    def _reason(error: Exception) -> str:
        return _reason(error)


class _Bound:
    """Runs on a device with the input kept there: one buffer for each batch size, filled in place.

    Without binding, ONNX Runtime allocates and copies through a staging buffer at every run.
    """

    def __init__(self, ort: Any, session: Any, spec: Spec, *, device: str = "cuda") -> None:
        self._ort, self._session, self._spec, self._device = ort, session, spec, device
        self.stages: dict[str, float] = {}
        self._bindings: dict[int, tuple[Any, Any]] = {}

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Scores and maps, copied to the CPU."""
        binding = self._upload(images)
        self._infer(binding)
        return self._download(binding)

    def _upload(self, images: NDArray[np.uint8]) -> Any:
        if len(images) not in self._bindings:
            self._bindings[len(images)] = self._bind(images)
        binding, value = self._bindings[len(images)]
        value.update_inplace(images)
        return binding

    def _infer(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)

    def _download(self, binding: Any) -> list[NDArray[np.float32]]:
        return [np.array(output) for output in binding.copy_outputs_to_cpu()]

    def _bind(self, images: NDArray[np.uint8]) -> tuple[Any, Any]:
        value = self._ort.OrtValue.ortvalue_from_numpy(images, self._device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._spec.input_name, value)
        for name in self._spec.output_names:
            binding.bind_output(name, self._device)
        return binding, value


class _TimedBound(_Bound):
    """Adds the milliseconds of every run to `stages`, by the processor's clock.

    Each of the three calls returns when the device is done: ONNX Runtime copies from and to NumPy
    arrays synchronously, and waits for its stream at the end of a run. So infer includes launching
    the kernels, upload and download the staging of memory that is not pinned.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.stages = dict.fromkeys(STAGES, 0.0)

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """See `_Bound.run`."""
        moments = [time.perf_counter()]
        binding = self._upload(images)
        moments.append(time.perf_counter())
        self._infer(binding)
        moments.append(time.perf_counter())
        outputs = self._download(binding)
        moments.append(time.perf_counter())
        for stage, began, ended in zip(STAGES, moments, moments[1:], strict=False):
            self.stages[stage] += 1e3 * (ended - began)
        return outputs


def library() -> Any:
    """ONNX Runtime.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("running ONNX artifacts", "cpu") from error
    return onnxruntime


def half_units() -> dict[str, str]:
    """The half precision that ONNX Runtime computes float32 products in here, with its units.

    Its bfloat16 kernels for ARM; on other processors it has none.
    """
    if platform.machine().lower() not in ("aarch64", "arm64"):
        return {}
    units = units_of(read_processor(), "bf16")
    return {} if units is None else {"bf16": units}


def _options(ort: Any, threads: int | None, spinning: bool) -> Any:
    options = ort.SessionOptions()
    # What goes wrong arrives as an exception; the library's own log would repeat it.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _load(ort: Any, path: Path, options: Any, device: str | None) -> Any:
    providers = ort_providers.wanted(ort, path, device)
    check_graph(path)
    check = in_background(partial(check_unchanged, path), name="gad-hash")  # beside loading
    try:
        session = ort.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # the library's errors share no other base class
        raise ArtifactError(
            f"{path}: cannot be loaded, not an ONNX file or damaged ({_reason(error)})",
            remedy=f"copy the file again, or {EXPORT_AGAIN}",
        ) from error
    check()
    return session


def _reason(error: Exception) -> str:
    """The last part of "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model ... failed:...."."""
    lines = str(error).split(" : ")[-1].strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _read_spec(session: Any, path: Path) -> Spec:
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        # Names that are no UTF-8 would come up whenever they are used.
        _ = [tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())]
    except UnicodeDecodeError as error:
        raise ArtifactError(
            f"{path}: damaged, its metadata are no UTF-8", remedy="copy the file again"
        ) from error
    if text is None:
        raise ArtifactError(
            f"{path}: an ONNX file, but not one made by generalad (no {METADATA_KEY} in it)",
            remedy="make one with gad export",
        )
    return Spec.from_json(text, name=str(path))


def _check_graph(session: Any, spec: Spec, path: Path) -> int | None:
    """Compare the graph's inputs and outputs with the spec; returns the fixed batch size."""
    inputs: list[Tensor] = [(i.name, i.type, i.shape) for i in session.get_inputs()]
    outputs: list[Tensor] = [(o.name, o.type, o.shape) for o in session.get_outputs()]
    images: Tensor = (spec.input_name, "tensor(uint8)", ["B", *spec.image_size, 3])
    scores: Tensor = (spec.output_names[0], "tensor(float)", ["B"])
    maps: Tensor = (spec.output_names[1], "tensor(float)", ["B", *spec.map_size])
    for found, expected in ((inputs, [images]), (outputs, [scores, maps])):
        if len(found) != len(expected) or not all(
            name == name_ and kind == kind_ and _fits(shape, shape_)
            for (name, kind, shape), (name_, kind_, shape_) in zip(found, expected, strict=True)
        ):
            raise ArtifactError(
                f"{path}: the graph has {_text(found)}, its spec says {_text(expected)}",
                remedy=EXPORT_AGAIN,
            )
    batch = inputs[0][2][0]
    return batch if isinstance(batch, int) else None


def _fits(shape: list[Any], expected: list[Any]) -> bool:
    """Whether every size that the graph fixes is the expected one; names stand for any size."""
    return len(shape) == len(expected) and all(
        size == wanted
        for size, wanted in zip(shape, expected, strict=True)
        if isinstance(size, int) and isinstance(wanted, int)
    )


def _text(tensors: list[Tensor]) -> str:
    return " and ".join(f"{name} {kind} {shape}" for name, kind, shape in tensors)
