"""The few CUDA calls a session needs: the device, its memory, one stream, its graphs and events."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import GadError, MissingExtraError

Graph = Any
"""A captured graph, ready to be launched."""

Event = Any
"""A point on a stream that knows when the device came to it."""


@dataclass(frozen=True)
class Device:
    """The graphics card that CUDA uses, such as ("NVIDIA L4", "8.9", "13.0").

    Attributes:
        name: as CUDA reports it.
        compute_capability: "major.minor".
        cuda: the CUDA version that the driver supports.
    """

    name: str
    compute_capability: str
    cuda: str


def library() -> Any:
    """The CUDA runtime's bindings.

    Raises:
        MissingExtraError: they are not installed.
        GadError: they are installed but cannot be loaded.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise MissingExtraError("running TensorRT engines", "trt10") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise GadError(
            f"the CUDA bindings are installed but cannot be loaded ({error})",
            remedy="install an NVIDIA driver and CUDA libraries that fit each other",
        ) from error


def device() -> Device:
    """The current device.

    Raises:
        GadError: there is none, or the driver does not fit.
    """
    cuda = library()
    number = _call(cuda, cuda.cudaGetDevice)
    properties = _call(cuda, cuda.cudaGetDeviceProperties, number)
    driver = int(_call(cuda, cuda.cudaDriverGetVersion))
    return Device(
        name=properties.name.split(b"\0")[0].decode("utf-8", "replace"),
        compute_capability=f"{properties.major}.{properties.minor}",
        cuda=f"{driver // 1000}.{driver % 1000 // 10}",
    )


class Stream:
    """One CUDA stream with the memory, graphs and events that belong to it; all freed on `close`.

    Raises:
        GadError: from every method, when CUDA reports an error.
    """

    def __init__(self) -> None:
        self._cuda = library()
        self._device_memory: list[int] = []
        self._host_memory: list[int] = []
        self._graphs: list[Graph] = []
        self._events: list[Event] = []
        self._capturing = False
        # Work on the default stream would wait for that of every other library in the process.
        self._stream = self._do("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)

    def _do(self, name: str, *arguments: Any) -> Any:
        return _call(self._cuda, getattr(self._cuda, name), *arguments)

    @property
    def handle(self) -> int:
        """The stream as other libraries take it."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        address = int(self._do("cudaMalloc", max(size, 1)))
        self._device_memory.append(address)
        return address

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array in pinned memory, which copies need to be asynchronous; dies with the stream."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._do("cudaMallocHost", size))
        self._host_memory.append(address)
        memory = (ctypes.c_ubyte * size).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Queue the copy of a contiguous array in pinned memory to the device."""
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")

    def download(self, array: NDArray[Any], address: int) -> None:
        """Queue the copy from the device into a contiguous array in pinned memory."""
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost")

    def _copy(self, to: int, source: int, size: int, kind: str) -> None:
        direction = getattr(self._cuda.cudaMemcpyKind, kind)
        self._do("cudaMemcpyAsync", to, source, size, direction, self._stream)

    def event(self) -> Event:
        """For `record`."""
        event = self._do("cudaEventCreate")
        self._events.append(event)
        return event

    def record(self, event: Event) -> None:
        """Queue an event; one that is captured happens at every launch of the graph."""
        # Without the flag, an event in a graph orders its work and knows no time; outside of a
        # capture the flag is an error.
        external, plain = self._cuda.cudaEventRecordExternal, self._cuda.cudaEventRecordDefault
        flag = external if self._capturing else plain
        self._do("cudaEventRecordWithFlags", event, self._stream, flag)

    def milliseconds(self, start: Event, end: Event) -> float:
        """From one event to another, to half a microsecond, after `synchronize`."""
        return float(self._do("cudaEventElapsedTime", start, end))

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        self._do("cudaStreamSynchronize", self._stream)

    def capture(self, queue: Callable[[], None]) -> Graph:
        """Record what `queue` puts on the stream, without running it.

        Whatever `queue` raises is raised; the stream can be used again then.
        """
        # Other threads may use the device during the capture, unlike with the global mode.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do("cudaStreamBeginCapture", self._stream, mode)
        self._capturing = True
        try:
            queue()
        except BaseException:
            # Ends the capture; that it failed is known.
            self._destroy_graph(self._cuda.cudaStreamEndCapture(self._stream)[1])
            self._cuda.cudaGetLastError()
            raise
        finally:
            self._capturing = False
        recorded = self._do("cudaStreamEndCapture", self._stream)
        try:
            graph = self._do("cudaGraphInstantiate", recorded, 0)
        finally:
            self._destroy_graph(recorded)
        self._graphs.append(graph)
        return graph

    def _destroy_graph(self, recorded: Any) -> None:
        if recorded is not None and int(recorded):
            self._cuda.cudaGraphDestroy(recorded)

    def launch(self, graph: Graph) -> None:
        """Queue a captured graph."""
        self._do("cudaGraphLaunch", graph, self._stream)

    def close(self) -> None:
        """Free everything; a second call does nothing. Arrays of `host_array` must not be used."""
        if self._stream is None:
            return
        # Errors are not raised here: after a fatal one, freeing reports it again every time.
        self._cuda.cudaStreamSynchronize(self._stream)
        for graph in self._graphs:
            self._cuda.cudaGraphExecDestroy(graph)
        for event in self._events:
            self._cuda.cudaEventDestroy(event)
        for address in self._device_memory:
            self._cuda.cudaFree(address)
        for address in self._host_memory:
            self._cuda.cudaFreeHost(address)
        self._cuda.cudaStreamDestroy(self._stream)
        self._graphs, self._events = [], []
        self._device_memory, self._host_memory = [], []
        self._stream = None


def _call(cuda: Any, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a CUDA function and return its value, if it has one.

    Raises:
        GadError: CUDA returned an error.
    """
    error, *values = function(*arguments)
    if int(error) == 0:
        return values[0] if values else None
    _, text = cuda.cudaGetErrorString(error)
    # A failed launch stays behind as the last error and would be blamed on a later call.
    cuda.cudaGetLastError()
    words = text.decode() if isinstance(text, bytes) else str(text)
    raise GadError(
        f"CUDA failed in {getattr(function, '__name__', function)}: {words} (error {int(error)})",
        remedy=_REMEDIES.get(int(error), "check the graphics card and its driver with nvidia-smi"),
    )


_REMEDIES = {
    2: "free memory on the graphics card or use a smaller batch",
    35: "update the NVIDIA driver",
    100: "run this on a computer with an NVIDIA graphics card",
}
"""By the number of the error: out of memory, driver too old, no device."""
