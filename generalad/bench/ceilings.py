"""What a machine can do at best: arithmetic and memory traffic a second, measured.

Products and convolutions of several sizes run through the libraries that run artifacts: ONNX
Runtime, and OpenVINO where it is installed. The fastest run of all is the ceiling. The sizes are
small on purpose: a run of a millisecond fits into a time slice of a shared processor, whereas long
ones are interrupted, slowed by heat or served from memory, and show less than what cores do.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from generalad.bench.graph_cost import Precision
from generalad.errors import require_extra

if TYPE_CHECKING:
    import onnx

Device = Literal["cpu", "cuda"]

_SIDES = (256, 512, 1024, 2048, 4096, 8192)
_CHANNELS = (64, 128, 256, 512, 1024)
_PLANE = 28
_LONGEST = 0.004
"""Seconds of a run after which no larger size is tried."""
_SECONDS = 0.1
_FEWEST = 5
_LARGEST_ROWS = 16384
"""Side of the largest matrix read for the memory's ceiling: 1 GB."""

Run = Callable[[], None]


@dataclass(frozen=True)
class Ceiling:
    """The best rate found, a second, and what reached it."""

    rate: float
    kernel: str


@dataclass(frozen=True)
class _Kernel:
    """A graph of one operation: its input array and what a run does, in operations or bytes."""

    name: str
    model: onnx.ModelProto
    images: NDArray[Any]
    work: float


@functools.lru_cache
def arithmetic(precision: Precision, threads: int, device: Device) -> Ceiling | None:
    """Floating-point operations a second; about one second for each library, then remembered.

    A precision that a processor has no instructions for is computed in float32 by the libraries, so
    that a lower one is never credited with less than float32.

    Returns:
        None for int8 on a GPU, where ONNX Runtime has no kernels to measure with.

    Raises:
        MissingExtraError: `onnx` or ONNX Runtime is not installed.
    """
    if precision == "int8" and device == "cuda":
        return None
    best = arithmetic("fp32", threads, device) if precision != "fp32" else None
    for library, start in _libraries(device):
        for kernels in (_products(precision), _convolutions(precision)):
            for kernel in kernels:
                seconds = _fastest(start(kernel, threads))
                rate = kernel.work / seconds
                if best is None or rate > best.rate:
                    best = Ceiling(rate, f"{precision} {kernel.name} in {library}")
                if seconds > _LONGEST:
                    break
    return best


@functools.lru_cache
def bandwidth(size: int, threads: int, device: Device) -> Ceiling:
    """Bytes a second of reading `size` bytes again and again: from a cache where they fit into one.

    Weights are read that way, run after run, so a graph that fits into a cache is not held to the
    speed of the memory behind it.

    Raises:
        MissingExtraError: `onnx` or ONNX Runtime is not installed.
    """
    kernel = _read(min(max(int((size / 4) ** 0.5), 256), _LARGEST_ROWS))
    rates = [
        Ceiling(kernel.work / _fastest(start(kernel, threads)), f"{kernel.name} in {library}")
        for library, start in _libraries(device)
    ]
    return max(rates, key=lambda ceiling: ceiling.rate)


def _fastest(run: Run) -> float:
    """Seconds of the fastest run."""
    run()
    runs, best, end = 0, float("inf"), time.perf_counter() + _SECONDS
    while runs < _FEWEST or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
        runs += 1
    return best


# Kernels


def _products(precision: Precision) -> Iterator[_Kernel]:
    for n in _SIDES:
        yield _kernel("MatMul", precision, (n, n), (n, n), 2.0 * n**3, f"product of {n}")


def _convolutions(precision: Precision) -> Iterator[_Kernel]:
    for c in _CHANNELS:
        shape, weights = (1, c, _PLANE, _PLANE), (c, c, 3, 3)
        work = 2.0 * 9 * (c * _PLANE) ** 2
        yield _kernel("Conv", precision, shape, weights, work, f"convolution of {c} channels")


def _read(n: int) -> _Kernel:
    """One row times a matrix: every weight is read once."""
    return _kernel("MatMul", "fp32", (1, n), (n, n), 4.0 * n * n, f"reading {n} x {n} weights")


def _kernel(
    operation: str,
    precision: Precision,
    shape: tuple[int, ...],
    weights: tuple[int, ...],
    work: float,
    name: str,
) -> _Kernel:
    """A graph of an operation, with its weights stored."""
    require_extra("measuring what the machine can do", "bench", "onnx")
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    values: NDArray[Any] = random.standard_normal(weights, dtype=np.float32)
    images: NDArray[Any] = random.random(shape, dtype=np.float32)
    node = helper.make_node(operation, ["x", "w"], ["y"])
    if operation == "Conv":
        node.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    nodes, stored = [node], {"w": values}
    if precision == "fp16":
        images, stored = images.astype(np.float16), {"w": values.astype(np.float16)}
    elif precision == "int8":
        images = (images * 255).astype(np.uint8)
        nodes, stored = _in_eight_bits(node, values)
    result = (*shape[:-1], weights[-1]) if operation == "MatMul" else shape
    kind = helper.np_dtype_to_tensor_dtype(images.dtype)
    graph = helper.make_graph(
        nodes,
        "ceiling",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, result)],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return _Kernel(name, model, images, work)


def _in_eight_bits(
    node: onnx.NodeProto, values: NDArray[Any]
) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """The operation between Q/DQ nodes as the exports have them, which libraries merge into one."""
    from onnx import helper

    stored = {
        "w8": np.clip(values * 40, -127, 127).astype(np.int8),
        "scale": np.float32(0.02),
        "coarse": np.float32(1.0),
        "zero": np.uint8(128),
        "zero_w": np.int8(0),
    }
    node.input[0], node.output[0] = "a", "b"
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero_w"], ["w"]),
        node,
        helper.make_node("QuantizeLinear", ["b", "coarse", "zero"], ["y"]),
    ]
    return nodes, stored


# Libraries


_Start = Callable[[_Kernel, int], Run]


def _libraries(device: Device) -> Iterable[tuple[str, _Start]]:
    """Those that run artifacts on a device here."""
    if device == "cuda":
        yield "ONNX Runtime, CUDA", _onnxruntime_cuda
        return
    yield "ONNX Runtime", _onnxruntime
    if importlib.util.find_spec("openvino") is not None:
        yield "OpenVINO", _openvino


def _onnxruntime(kernel: _Kernel, threads: int, device: Device = "cpu") -> Run:
    from generalad.runtime.backends.ort import library

    ort = library()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    session = ort.InferenceSession(kernel.model.SerializeToString(), options, providers=[provider])
    binding = session.io_binding()
    # Bound to the device, or a copy from the host would be part of every run.
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(kernel.images, device, 0))
    binding.bind_output("y", device)
    return lambda: session.run_with_iobinding(binding)


def _onnxruntime_cuda(kernel: _Kernel, threads: int) -> Run:
    return _onnxruntime(kernel, threads, "cuda")


def _openvino(kernel: _Kernel, threads: int) -> Run:
    from generalad.runtime.backends.ov import library

    openvino = library()
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # as artifacts run, see `OvSession`
        "INFERENCE_NUM_THREADS": threads,
    }
    model = core.read_model(kernel.model.SerializeToString())
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(kernel.images))
    return lambda: request.infer()
