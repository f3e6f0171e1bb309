"""A double of `cuda.bindings.runtime`: fake device memory, one real queue, graphs that replay.

Work runs when its stream is synchronised, so that a forgotten `synchronize` shows. Device addresses
point nowhere, so that a host address used for one, or the reverse, is an error. The device's clock
moves with the work on it only: events tell what lay between them.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Operation = Callable[[], None]
TEXTS = {0: b"no error", 1: b"invalid argument", 2: b"out of memory", 901: b"capture invalidated"}
COPY = {1: 0.25, 2: 0.125}
"""Milliseconds of a copy to the device, and from it."""


class Handle:
    """A stream or a graph: what was put on it, and what is being captured."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.queue: list[Operation] = []
        self.captured: list[Operation] | None = None
        self.invalid = False
        self.events: list[EventDouble] = []
        """Those that happen when the captured graph runs."""

    def __int__(self) -> int:
        return self.number


class EventDouble:
    """Knows the device's time when it happened last, and none while it is still to happen."""

    at: float | None = None


class CudaDouble:
    """State of the device. `fail[name] = code` makes a function return an error."""

    def __init__(self) -> None:
        self.device: dict[int, NDArray[np.uint8]] = {}
        self.host: dict[int, Any] = {}
        self.streams: dict[int, Handle] = {}
        self.graphs: dict[int, Handle] = {}
        self.events: list[EventDouble] = []
        self.time = 0.0
        """The device's clock, milliseconds."""
        self.fail: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.name, self.capability = "NVIDIA L4", (8, 9)
        self._next = 0x7F00_0000_0000

    @property
    def held(self) -> int:
        """How many things on the device are not freed."""
        things = (self.device, self.host, self.streams, self.graphs, self.events)
        return sum(len(kind) for kind in things)

    def module(self) -> ModuleType:
        """What `import cuda.bindings.runtime` is to find."""
        module = ModuleType("cuda.bindings.runtime")
        for name in (name for name in dir(self) if name.startswith("cuda")):
            setattr(module, name, self._counted(name, getattr(self, name)))
        kinds = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        modes = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        vars(module).update(
            cudaMemcpyKind=kinds,
            cudaStreamCaptureMode=modes,
            cudaStreamNonBlocking=1,
            cudaEventRecordDefault=0,
            cudaEventRecordExternal=1,
        )
        return module

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            return (self.fail[name], None) if name in self.fail else function(*arguments)

        call.__name__ = name
        return call

    def _address(self, size: int) -> int:
        self._next += -(-size // 256) * 256 + 256
        return self._next - (-(-size // 256) * 256)

    def memory(self, address: int, size: int) -> NDArray[np.uint8]:
        """A view of device memory; only inside one allocation."""
        for start, block in self.device.items():
            if start <= address and address + size <= start + len(block):
                return block[address - start :][:size]
        raise ValueError(f"{address:#x} is no device memory of {size} bytes")

    def _pinned(self, address: int, size: int) -> bool:
        return any(a <= address and address + size <= a + len(b) for a, b in self.host.items())

    def submit(self, stream: int, operation: Operation) -> bool:
        """Put work on a stream; False if its capture is broken."""
        handle = self.streams[stream]
        if handle.captured is not None:
            handle.captured.append(operation)
            return not handle.invalid
        handle.queue.append(operation)
        return True

    def capturing(self, stream: int) -> bool:
        return self.streams[stream].captured is not None

    def invalidate(self, stream: int) -> None:
        """Do what a call does that is not allowed in a capture."""
        self.streams[stream].invalid = True

    # The functions of the module, with the parameters of the real ones.

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, TEXTS.get(int(error), b"unknown")

    def cudaGetLastError(self) -> tuple[int]:
        return (0,)

    def cudaGetDevice(self) -> tuple[int, int]:
        return 0, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:
        major, minor = self.capability
        return 0, SimpleNamespace(name=self.name.encode(), major=major, minor=minor)

    def cudaDriverGetVersion(self) -> tuple[int, int]:
        return 0, 13000

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        address = self._address(size)
        self.device[address] = np.full(size, 0xCD, np.uint8)
        return 0, address

    def cudaFree(self, devPtr: int) -> tuple[int]:
        del self.device[devPtr]
        return (0,)

    def cudaMallocHost(self, size: int) -> tuple[int, int]:
        block = (ctypes.c_ubyte * size)()
        self.host[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFreeHost(self, ptr: int) -> tuple[int]:
        del self.host[ptr]
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, Handle]:
        assert flags == 1
        stream = Handle(self._address(1))
        self.streams[stream.number] = stream
        return 0, stream

    def cudaStreamSynchronize(self, stream: Handle) -> tuple[int]:
        if stream.captured is not None:
            stream.invalid = True
            return (901,)
        while stream.queue:
            stream.queue.pop(0)()
        return (0,)

    def cudaStreamDestroy(self, stream: Handle) -> tuple[int]:
        del self.streams[stream.number]
        return (0,)

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: int, stream: Handle
    ) -> tuple[int]:
        host, device = (src, dst) if kind == 1 else (dst, src)
        if not self._pinned(host, count):
            return (1,)

        def copy() -> None:
            self.time += COPY[kind]
            memory = self.memory(device, count)
            block = np.ctypeslib.as_array((ctypes.c_ubyte * count).from_address(host))
            if kind == 1:
                memory[:] = block
            else:
                block[:] = memory

        return (0 if self.submit(int(stream), copy) else 901,)

    def cudaStreamBeginCapture(self, stream: Handle, mode: int) -> tuple[int]:
        assert stream.captured is None
        assert mode == 1
        stream.captured, stream.invalid, stream.events = [], False, []
        return (0,)

    def cudaStreamEndCapture(self, stream: Handle) -> tuple[int, Handle | None]:
        assert stream.captured is not None
        graph = Handle(self._address(1))
        graph.queue, stream.captured = stream.captured, None
        graph.events = stream.events
        if stream.invalid:
            return 901, None
        self.graphs[graph.number] = graph
        return 0, graph

    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> tuple[int, Handle]:
        ready = Handle(self._address(1))
        ready.queue, ready.events = list(graph.queue), list(graph.events)
        self.graphs[ready.number] = ready
        return 0, ready

    def cudaGraphLaunch(self, graphExec: Handle, stream: Handle) -> tuple[int]:
        assert graphExec.number in self.graphs
        stream.queue.extend(graphExec.queue)
        for event in graphExec.events:
            event.at = None
        return (0,)

    def cudaGraphExecDestroy(self, graphExec: Handle) -> tuple[int]:
        del self.graphs[graphExec.number]
        return (0,)

    def cudaGraphDestroy(self, graph: Handle) -> tuple[int]:
        del self.graphs[graph.number]
        return (0,)

    def cudaEventCreate(self) -> tuple[int, EventDouble]:
        self.events.append(EventDouble())
        return 0, self.events[-1]

    def cudaEventRecordWithFlags(
        self, event: EventDouble, stream: Handle, flags: int
    ) -> tuple[int]:
        def happen() -> None:
            event.at = self.time

        capturing, external = stream.captured is not None, flags == 1
        if external and not capturing:
            return (1,)
        if not capturing or not external:
            event.at = None
        if capturing and not external:  # only orders the captured work
            return (0,)
        if capturing:
            stream.events.append(event)
        return (0 if self.submit(int(stream), happen) else 901,)

    def cudaEventElapsedTime(self, start: EventDouble, end: EventDouble) -> tuple[int, float]:
        if start.at is None or end.at is None:
            return 600, 0.0
        return 0, end.at - start.at

    def cudaEventDestroy(self, event: EventDouble) -> tuple[int]:
        self.events.remove(event)
        return (0,)
