"""How far an artifact is from what the machine can do: the counted work over measured ceilings.

    lower bound of the time = max(operations / ceiling, bytes / ceiling);  share = bound / measured

The roofline model (Williams, Waterman and Patterson, 2009). For the ceilings, products and
convolutions run through the libraries that run artifacts, and the fastest run of all counts. Sizes
are small on purpose: a run of a millisecond fits into a time slice of a shared processor.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from generalad.bench.graph_cost import Cost, Precision, count
from generalad.bench.machine import first_line
from generalad.bench.report import Roofline
from generalad.errors import ArtifactError, MissingExtraError, require_extra
from generalad.files import sha256_of_file
from generalad.processor import usable_cores
from generalad.runtime.backends.engine_record import read_record
from generalad.runtime.backends.ov import HINTS

if TYPE_CHECKING:
    import onnx

Device = Literal["cpu", "cuda"]
Run = Callable[[], None]

_SIDES = (256, 512, 1024, 2048, 4096, 8192)
_CHANNELS, _PLANE = (64, 128, 256, 512, 1024), 28
_LONGEST = 0.004  # seconds of a run after which no larger size is tried
_SECONDS, _FEWEST = 0.1, 5  # of the runs of one kernel
_ROWS = (256, 16384)  # sides of the smallest and largest matrix that is read, which has 1 GB
_TOO_FAST = 1.05  # a share above this was measured while the machine was busier than before


class Ceiling(NamedTuple):
    """The best rate found, a second, and what reached it."""

    rate: float
    kernel: str


class _Kernel(NamedTuple):
    """A graph of one operation: its input array and what a run does, in operations or bytes."""

    name: str
    model: onnx.ModelProto
    images: NDArray[Any]
    work: float
    hint: str = "f32"  # in what OpenVINO computes it, as artifacts run, see `OvSession`


def roofline_of(
    artifact: Path,
    measured: float,
    threads: int | None = None,
    *,
    batch: int = 1,
    device: Device = "cpu",
    precision: str = "fp32",
    computed: str = "fp32",
    image_size: tuple[int, int] = (0, 0),
) -> tuple[Roofline | None, str]:
    """Compare the milliseconds an image of `infer` with their lower bound here.

    Takes some seconds, in which nothing else must be measured. An .xml or .engine is counted from
    the ONNX file of the same network beside it; precision and size are those of its spec,
    `computed` is the precision of what is not in eight bits, see `Session.precision`.

    Returns:
        The roofline and a line on what it was counted and measured with; or None and the reason.
    """
    threads = threads or usable_cores()
    try:
        cost = _cost(artifact, batch, precision, computed, image_size)
        flops_ceiling, words = _arithmetic(cost, threads, device)
        memory = bandwidth(round(cost.bytes * batch), threads, device)
    except (ArtifactError, MissingExtraError) as error:
        return None, f"limit: {error}"
    except Exception as error:  # a library that refuses a kernel, or a file that is not there
        return None, f"limit: cannot be measured ({first_line(error)})"
    times = cost.total / flops_ceiling, cost.bytes / memory.rate
    least, share = max(times), max(times) / (measured / 1e3)
    if not math.isfinite(share) or share > _TOO_FAST:
        return None, (
            f"limit: measured {measured:.3g} ms, less than the {least * 1e3:.3g} ms"
            " that the ceilings allow; the machine was busy while they were measured"
        )
    bound: Literal["arithmetic", "memory"] = "arithmetic" if times[0] == least else "memory"
    rates = (flops_ceiling, memory.rate)
    found = Roofline(cost.total, cost.bytes, *rates, bound=bound, share=min(share, 1.0))
    return found, f"ceilings: {words}; {memory.rate / 1e9:.3g} GB/s, {memory.kernel}"


def _arithmetic(cost: Cost, threads: int, device: Device) -> tuple[float, str]:
    """Operations a second of the graph's mix of precisions, each at its own ceiling."""
    seconds, words = 0.0, []
    for precision, flops in cost.flops.items():
        ceiling = arithmetic(precision, threads, device)
        if ceiling is None:
            raise ArtifactError(f"there is no kernel to measure {precision} on {device} with")
        seconds += flops / ceiling.rate
        words.append(f"{ceiling.rate / 1e9:.4g} GFLOP/s, {ceiling.kernel}")
    if not seconds:
        raise ArtifactError("the graph holds no product")
    return cost.total / seconds, "; ".join(words)


def _cost(
    artifact: Path, batch: int, precision: str, computed: str, image_size: tuple[int, int]
) -> Cost:
    """Counted from the ONNX file; an artifact of another format says what it does in which bits."""
    suffix, source = artifact.suffix.lower(), artifact.with_suffix(".onnx")
    missing = suffix == ".xml" and not source.is_file()
    if suffix == ".engine":
        record = read_record(artifact)
        source = artifact.with_name(record.onnx)
        missing = not source.is_file() or sha256_of_file(source) != record.onnx_sha256
    if missing:
        why = "is not beside it" + (" or was changed" if suffix == ".engine" else "")
        raise ArtifactError(f"{artifact.name} is counted from {source.name}, which {why}")
    cost = count(source, batch=batch)
    if suffix != ".xml":
        return cost
    # Half-size weights may be computed in float32 (see `OvSession`). Which products are in eight
    # bits is not recorded: all of them is the bound that holds in any case.
    kind = cast("Precision", "int8" if "int8" in precision else computed)
    weights = artifact.with_suffix(".bin").stat().st_size
    return Cost({kind: cost.total}, weights / batch + 3 * math.prod(image_size))


@functools.lru_cache
def arithmetic(precision: Precision, threads: int, device: Device) -> Ceiling | None:
    """Floating-point operations a second; about one second for each library, then remembered.

    A precision that a processor has no instructions for is computed in float32 by the libraries, so
    that a lower one is never credited with less than float32. None for int8 on a GPU, where ONNX
    Runtime has no kernels to measure with.
    """
    if precision == "int8" and device == "cuda":
        return None
    best = arithmetic("fp32", threads, device) if precision != "fp32" else None
    for library, start in _libraries(device):
        for kernels in (_products(precision), _convolutions(precision)):
            for kernel in kernels:
                seconds = _fastest(start(kernel, threads))
                found = Ceiling(kernel.work / seconds, f"{precision} {kernel.name} in {library}")
                best = max(best or found, found)
                if seconds > _LONGEST:
                    break
    return best


@functools.lru_cache
def bandwidth(size: int, threads: int, device: Device) -> Ceiling:
    """Bytes a second of reading `size` bytes again and again: from a cache where they fit into one.

    Weights are read that way, run after run, so a graph that fits into a cache is not held to the
    speed of the memory behind it.
    """
    kernel = _read(min(max(int((size / 4) ** 0.5), _ROWS[0]), _ROWS[1]))
    return max(
        Ceiling(kernel.work / _fastest(start(kernel, threads)), f"{kernel.name} in {library}")
        for library, start in _libraries(device)
    )


def _fastest(run: Run) -> float:
    """Seconds of the fastest run; the first is not timed."""
    run()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _FEWEST or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def _products(precision: Precision) -> Iterator[_Kernel]:
    for n in _SIDES:
        yield _kernel("MatMul", precision, (n, n), (n, n), f"product of {n}")


def _convolutions(precision: Precision) -> Iterator[_Kernel]:
    for c in _CHANNELS:
        shape, name = (1, c, _PLANE, _PLANE), f"convolution of {c} channels"
        yield _kernel("Conv <pads = [1, 1, 1, 1]>", precision, shape, (c, c, 3, 3), name)


def _read(n: int) -> _Kernel:
    """One row times a matrix: every weight is read once; the work is bytes."""
    kernel = _kernel("MatMul", "fp32", (1, n), (n, n), f"reading {n} x {n} weights")
    return kernel._replace(work=4.0 * n * n)


def _kernel(
    call: str, precision: Precision, shape: tuple[int, ...], weights: tuple[int, ...], name: str
) -> _Kernel:
    """A graph of an operation, with its weights stored."""
    require_extra("measuring what the machine can do", "bench", "onnx")
    import onnx

    random = np.random.default_rng(0)
    stored: dict[str, Any] = {"w": random.standard_normal(weights, dtype=np.float32)}
    images: NDArray[Any] = random.random(shape, dtype=np.float32)
    kind, nodes = "float", f"y = {call} (x, w)"
    if precision == "fp16":
        kind, stored, images = "float16", {"w": stored["w"].astype("f2")}, images.astype("f2")
    elif precision == "int8":  # between Q/DQ nodes as in the exports, which libraries merge
        kind, images = "uint8", (images * 255).astype(np.uint8)
        stored = {"w": np.clip(stored["w"] * 40, -127, 127).astype(np.int8), "zero_w": np.int8(0)}
        stored |= {"scale": np.float32(0.02), "coarse": np.float32(1), "zero": np.uint8(128)}
        nodes = f"""a = DequantizeLinear (x, scale, zero)
            b = DequantizeLinear (w, scale, zero_w)
            c = {call} (a, b)
            y = QuantizeLinear (c, coarse, zero)"""
    # A convolution keeps the shape; `axis` is that of the output's channels.
    result, axis = (shape, 1) if len(shape) == 4 else ((*shape[:-1], weights[-1]), -1)
    ends = (f"{kind}[{', '.join(map(str, dims))}]" for dims in (shape, result))
    graph = "ceiling ({} x) => ({} y)".format(*ends)
    head = '<ir_version: 8, opset_import: ["": 17]>'
    model = onnx.parser.parse_model(f"{head} {graph} {{ {nodes} }}")
    for key, array in stored.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), key))
    work = 2.0 * math.prod((*result, *weights)) / result[axis]
    return _Kernel(name, model, images, work, HINTS.get(precision, "f32"))


_Start = Callable[[_Kernel, int], Run]


def _libraries(device: Device) -> Iterator[tuple[str, _Start]]:
    """Those that run artifacts on a device here."""
    if device == "cuda":
        yield "ONNX Runtime, CUDA", functools.partial(_onnxruntime, device="cuda")
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


def _openvino(kernel: _Kernel, threads: int) -> Run:
    from generalad.runtime.backends.ov import library

    openvino = library()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": kernel.hint,
        "INFERENCE_NUM_THREADS": threads,
    }
    core = openvino.Core()
    model = core.read_model(kernel.model.SerializeToString())
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(kernel.images))
    return lambda: request.infer()
