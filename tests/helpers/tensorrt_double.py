"""A double of `tensorrt` 10 and 11 that builds "engines" of the ONNX file and runs them on the CPU.

Public names exist only if the listing of that major has them (tests/data/tensorrt-api-*.json).
It is as strict as the real library where a mistake of ours would show: shapes outside the profile,
missing addresses, scratch memory too small, captures before a first run, replaying a graph whose
context has moved on.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cuda_double import CudaDouble

VERSIONS = {10: "10.16.1.11", 11: "11.4.0.106"}
SCRATCH = 4096
NETWORK = 4.0
"""Milliseconds of the device that an engine takes for a batch of any size."""
MAGIC = b"plan\n"


def listing(major: int) -> dict[str, Any]:
    """What the real bindings have: class -> {"enum": ...} or {"members": ...}."""
    path = Path(__file__).parent / f"tensorrt-api-{major}.json"
    classes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["classes"]
    return classes


class World:
    """What the double's objects share, and what a test wants to go wrong."""

    def __init__(self, major: int, cuda: CudaDouble, version: str | None = None) -> None:
        self.api, self.cuda = listing(major), cuda
        self.version = version or VERSIONS[major]
        self.logger: Any = None
        self.loaded = 0
        """How many engines were given to TensorRT to read."""
        self.timings: list[bool] = []
        """For each build whether the timing cache knew the network."""
        self.parser_errors: list[str] = []
        self.build_fails = self.no_runtime = self.no_capture = False
        self.bias = 0.0
        """Added to all scores, as a broken device would."""
        self.config: Any = None
        """Configuration of the last build."""
        self.between_steps: Callable[[], None] = lambda: None
        """Called inside the build, outside of every callback."""
        self.steps = 0
        """How many steps all builds went through."""

    def module(self) -> ModuleType:
        """What `import tensorrt` is to find."""
        module = ModuleType("tensorrt")
        vars(module)["__version__"] = self.version
        for name, entry in self.api.items():
            if "enum" in entry:
                setattr(module, name, enum.IntEnum(name, entry["enum"]))
        severity = enum.IntEnum("severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)
        self.severity = severity
        logger = {"Severity": severity, **severity.__members__}
        vars(module).update(
            ILogger=type("ILogger", (), logger),
            IProgressMonitor=type("IProgressMonitor", (), {}),
            Builder=lambda logger: self._started(Builder, logger),
            Runtime=lambda logger: self._started(Runtime, logger),
            OnnxParser=lambda network, logger: OnnxParser(self, network),
        )
        self.trt: Any = module
        return module

    def _started(self, kind: Any, logger: Any) -> Any:
        assert isinstance(logger, self.trt.ILogger)
        self.logger = self.logger or logger
        assert self.logger is logger, "TensorRT goes on using its first logger"
        if self.no_runtime:
            self.error("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return kind(self)

    def error(self, text: str) -> None:
        self.logger.log(self.severity["ERROR"], f"{text}\n")


class Listed:
    """An object whose public attributes are those that the listing names."""

    _name = ""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "_check")(name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        object.__setattr__(self, name, value)

    def _check(self, name: str) -> None:
        if not name.startswith("_"):
            world = object.__getattribute__(self, "_world")
            kind = type(self)._name or type(self).__name__
            if name not in world.api[kind]["members"]:
                raise AttributeError(f"TensorRT {world.version}: {kind} has no {name}")


class HostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class Builder(Listed):
    def create_network(self, flags: int = 0) -> Network:
        strong = self._world.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        assert flags == 1 << int(strong)
        return Network(self._world)

    def create_builder_config(self) -> Config:
        return Config(self._world)

    def create_optimization_profile(self) -> Profile:
        return Profile(self._world)

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
        world = self._world
        world.config = config
        shape = network._inputs[0].shape
        if shape[0] < 0 and not config._profiles:
            world.error("Network has dynamic or shape inputs, but no optimization profile")
            return None
        try:
            going = config._build(network)
        except BaseException as error:
            raise AssertionError("nothing may be raised through TensorRT") from error
        if not going or world.build_fails:
            world.error("Could not find any implementation for node /blocks.0/attn/MatMul")
            return None
        profile = config._profiles[0]._shapes["images"] if config._profiles else [shape] * 3
        head = {
            "version": world.version,
            "compatible": world.trt.BuilderFlag.VERSION_COMPATIBLE in config._flags,
            "capability": world.cuda.capability,
            "hardware": int(config.hardware_compatibility_level),
            "profile": [list(dims) for dims in profile],
            "sha256": hashlib.sha256(network._onnx).hexdigest(),
        }
        return HostMemory(MAGIC + json.dumps(head).encode() + b"\n" + network._onnx)


class Tensor(Listed):
    _name = "ITensor"

    def __init__(self, world: World, name: str, shape: tuple[int, ...]) -> None:
        super().__init__(world)
        self.name, self.shape = name, shape


class Network(Listed):
    _name = "INetworkDefinition"
    _onnx = b""
    _inputs: list[Tensor]

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]


class ParserError(Listed):
    def __init__(self, world: World, text: str) -> None:
        super().__init__(world)
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return "/head/Resize"


class OnnxParser(Listed):
    def __init__(self, world: World, network: Network) -> None:
        super().__init__(world)
        self._network = network

    @property
    def num_errors(self) -> int:
        return len(self._world.parser_errors)

    def get_error(self, index: int) -> ParserError:
        return ParserError(self._world, self._world.parser_errors[index])

    def parse_from_file(self, model: str) -> bool:
        assert isinstance(model, str)
        self._network._onnx = Path(model).read_bytes()
        inputs = onnx.load_from_string(self._network._onnx).graph.input
        self._network._inputs = [Tensor(self._world, i.name, _sizes(i)) for i in inputs]
        return not self._world.parser_errors


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)


class Profile(Listed):
    _name = "IOptimizationProfile"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(
        self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]
    ) -> None:
        self._shapes[input] = [min, opt, max]


class TimingCache(Listed):
    _name = "ITimingCache"

    def __init__(self, world: World, data: bytes) -> None:
        super().__init__(world)
        text = data.removeprefix(b"timing") or b"{}"
        self._content: dict[str, list[str]] = json.loads(text)

    def serialize(self) -> HostMemory:
        return HostMemory(b"timing" + json.dumps(self._content).encode())


class Config(Listed):
    _name = "IBuilderConfig"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._flags = {world.trt.BuilderFlag.TF32}
        self._profiles: list[Profile] = []
        self._pools: dict[Any, int] = {}
        self._cache: TimingCache | None = None
        self.hardware_compatibility_level = world.trt.HardwareCompatibilityLevel.NONE
        self.progress_monitor: Any = None

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def add_optimization_profile(self, profile: Profile) -> int:
        self._profiles.append(profile)
        low, best, high = profile._shapes["images"]
        return 0 if low <= best <= high else -1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache | None:
        if serialized_timing_cache and not serialized_timing_cache.startswith(b"timing"):
            self._world.error("Deserialize the timing cache failed")
            return None
        return TimingCache(self._world, serialized_timing_cache)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        fits = set(cache._content) <= {self._world.cuda.name}
        self._cache = cache if fits or ignore_mismatch else self._cache
        return fits or ignore_mismatch

    def _build(self, network: Network) -> bool:
        """Go through the phases; False if the monitor wants to stop."""
        monitor, name = self.progress_monitor, self._world.cuda.name
        digest = hashlib.sha256(network._onnx).hexdigest()
        if self._cache is not None:
            known = self._cache._content.setdefault(name, [])
            self._world.timings.append(digest in known)
            known.append(digest)
        monitor.phase_start("Building", None, 2)
        monitor.phase_start("Timing", "Building", 3)
        monitor.phase_start("One kernel", "Timing", 1)
        going = monitor.step_complete("One kernel", 0)
        monitor.phase_finish("One kernel")
        for step in range(3):
            self._world.between_steps()
            self._world.steps += going
            going = going and monitor.step_complete("Timing", step)
        monitor.phase_finish("Timing")
        monitor.phase_finish("Building")
        return bool(going)


class Runtime(Listed):
    engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        world = self._world
        world.loaded += 1
        head, _, data = serialized_engine.removeprefix(MAGIC).partition(b"\n")
        facts = json.loads(head)
        allowed = facts["compatible"] and self.engine_host_code_allowed
        if facts["version"] != world.version and not allowed:
            world.error(f"The engine plan file is not compatible with TensorRT {world.version}")
            return None
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            world.error("Magic tag does not match")
            return None
        return Engine(world, data, facts["profile"])


class Engine(Listed):
    _name = "ICudaEngine"
    device_memory_size_v2 = SCRATCH

    def __init__(self, world: World, data: bytes, profile: list[list[int]]) -> None:
        super().__init__(world)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(data, options)
        self._inputs = self._session.get_inputs()
        self._tensors: dict[str, Any] = {
            t.name: t for t in [*self._inputs, *self._session.get_outputs()]
        }
        self._profile = profile

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._world.trt.TensorIOMode
        return modes.INPUT if name in [i.name for i in self._inputs] else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        kinds = self._world.trt.DataType
        return {"tensor(uint8)": kinds.UINT8, "tensor(float)": kinds.FLOAT}.get(
            self._tensors[name].type, kinds.HALF
        )

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else -1 for d in self._tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return [tuple(dims) for dims in self._profile]

    def create_execution_context(self, strategy: Any = 0) -> Context:
        return Context(self._world, self, strategy)


class Context(Listed):
    _name = "IExecutionContext"

    def __init__(self, world: World, engine: Engine, strategy: Any) -> None:
        super().__init__(world)
        managed = world.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._engine, self._scratch = engine, None if strategy == managed else 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._state = self._warm = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= SCRATCH
        self._world.cuda.memory(memory, size)
        self._scratch = memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert isinstance(shape, tuple)
        low, _, high = self._engine._profile
        self._shapes[name] = shape
        self._state += 1
        return low[0] <= shape[0] <= high[0] and list(shape[1:]) == list(low[1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        self._state += 1
        return name in self._engine._tensors

    def execute_async_v3(self, stream_handle: int) -> bool:
        world, cuda = self._world, self._world.cuda
        if self._scratch is None or set(self._addresses) != set(self._engine._tensors):
            world.error("No scratch memory, or not all addresses are set")
            return False
        if cuda.capturing(stream_handle) and (self._warm != self._state or world.no_capture):
            cuda.invalidate(stream_handle)
            world.error("operation not permitted when stream is capturing")
            return False
        self._warm = state = self._state
        shape, addresses = self._shapes["images"], dict(self._addresses)
        return cuda.submit(stream_handle, lambda: self._execute(state, shape, addresses))

    def _execute(self, state: int, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        world, cuda = self._world, self._world.cuda
        cuda.time += NETWORK
        images = cuda.memory(addresses["images"], int(np.prod(shape))).reshape(shape)
        cuda.memory(self._scratch or 0, SCRATCH)[:] = 0
        outputs = self._engine._session.run(None, {"images": images})
        for tensor, values in zip(self._engine._session.get_outputs(), outputs, strict=True):
            # A graph of a context that was changed since computes something, just not this.
            found = values + world.bias if state == self._state else np.full_like(values, np.nan)
            raw = np.frombuffer(found.astype(np.float32).tobytes(), np.uint8)
            cuda.memory(addresses[tensor.name], raw.size)[:] = raw
