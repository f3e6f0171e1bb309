"""TensorRT engines: loading those that fit this machine, running them with CUDA graphs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generalad.errors import ArtifactError, GadError, UsageError
from generalad.runtime.backends import cuda
from generalad.runtime.backends.engine_record import load_checked, rebuild_command
from generalad.runtime.backends.session import (
    EXPORT_AGAIN,
    STAGES,
    Closing,
    Outputs,
    check_images,
    check_outputs,
    check_spec,
    in_batches,
)
from generalad.runtime.backends.trt_library import create, library, logger, machine
from generalad.spec import Spec

__all__ = ["TrtSession", "library"]


class TrtSession(Closing):
    """A `Session` on TensorRT. Output arrays are fresh at every run and belong to the caller.

    Nothing of an engine is given to TensorRT before its record allows it (see `engine_record`).
    Requests above the engine's largest batch are cut, those below its smallest are padded.
    """

    def __init__(self, path: Path, *, threads: int | None = None, timed: bool = False) -> None:
        """Open an engine.

        Args:
            path: `model.engine`, with `model.engine.json` beside it.
            threads: of no meaning on a graphics card; accepted as by every session.
            timed: fill `stages`, see `open_session` and `_TimedRunner`.

        Raises:
            ArtifactError: the engine or its record is missing, damaged, or not of this machine.
            MissingExtraError: TensorRT or the CUDA bindings are not installed.
            GadError: no graphics card, or its memory is too small.
        """
        trt = library()
        here = machine(trt)
        record, data = load_checked(path, here)
        check_spec(record.spec, name=str(path))
        self._spec = record.spec
        self._name = f"tensorrt {here.tensorrt}, {here.gpu}"
        runtime, engine = _load(trt, data, path, version_compatible=record.version_compatible)
        self._low, self._high = _check_engine(trt, engine, self._spec, path)
        kind = _TimedRunner if timed else _Runner
        self._runner: _Runner | None = kind(trt, runtime, engine, self._spec, self._high)
        self.stages = self._runner.stages
        self._graphs_failed = False

    @property
    def spec(self) -> Spec:
        """The spec in the record beside the engine."""
        return self._spec

    @property
    def backend(self) -> str:
        """Such as "tensorrt 11.4.0.106, NVIDIA L4"; says so if CUDA graphs could not be used."""
        return f"{self._name}, without CUDA graphs" if self._graphs_failed else self._name

    @property
    def precision(self) -> str:
        """That of the graph; where it is quantised, the rest is in float16."""
        return "fp16" if self._spec.precision == "int8" else self._spec.precision

    @property
    def fixed_batch(self) -> int | None:
        """The batch size of an engine that knows only one."""
        return self._high if self._low == self._high else None

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `Session.run`."""
        runner = self._runner
        if runner is None:
            raise UsageError("the session is closed")
        check_images(images, self._spec)
        groups = [images[i : i + self._high] for i in range(0, len(images), self._high)]
        parts = [
            runner.run(group)
            if len(group) >= self._low
            else in_batches(group, self._low, runner.run)
            for group in groups
        ]
        self._graphs_failed = runner.graphs_failed
        scores, maps = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return check_outputs(Outputs(scores, maps), len(images), self._spec)

    def close(self) -> None:
        """Free the network and its memory; a second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


class _Runner:
    """An engine with its memory: buffers for the largest batch, a context and graph a batch size.

    A graph refers to the inside of its context, so each batch size gets a context of its own. All
    share one scratch memory, which is safe because they run one after the other.
    """

    def __init__(self, trt: Any, runtime: Any, engine: Any, spec: Spec, largest: int) -> None:
        self._trt, self._runtime, self._engine, self._spec = trt, runtime, engine, spec
        self._log = logger(trt)
        self.graphs_failed = False
        self.stages: dict[str, float] = {}
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, cuda.Graph] = {}
        self._stream = cuda.Stream()
        try:
            self._allocate(largest)
        except BaseException:
            self.close()
            raise

    def _allocate(self, largest: int) -> None:
        stream, (scores, maps) = self._stream, self._spec.output_names
        shape = (largest, *self._spec.image_size, 3)
        self._host: dict[str, NDArray[Any]] = {
            self._spec.input_name: stream.host_array(shape, np.uint8),
            scores: stream.host_array((largest,), np.float32),
            maps: stream.host_array((largest, *self._spec.map_size), np.float32),
        }
        self._device = {name: stream.allocate(host.nbytes) for name, host in self._host.items()}
        self._scratch_size = int(self._engine.device_memory_size_v2)
        self._scratch = stream.allocate(self._scratch_size)

    def close(self) -> None:
        with contextlib.suppress(GadError):  # after a fatal error the memory is still to be freed
            self._stream.synchronize()
        # In this order, because each part uses the ones that follow.
        self._graphs.clear()
        self._contexts.clear()
        self._engine = self._runtime = None
        self._host = {}
        self._stream.close()

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Run a batch that the engine takes as it is."""
        batch = len(images)
        self._copy_in(images)
        if batch in self._graphs:
            self._stream.launch(self._graphs[batch])
            self._wait()
        elif batch in self._contexts:
            self._queue(self._contexts[batch], batch)
            self._wait()
        else:
            self._run_first(batch)
        return self._copy_out(batch)

    def _run_first(self, batch: int) -> None:
        context = self._context(batch)
        self._queue(context, batch)
        self._wait()
        self._contexts[batch] = context
        # After the first run, because TensorRT puts off work that a capture must not hold.
        self._capture(context, batch)

    def _context(self, batch: int) -> Any:
        self._log.clear()
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise self._failed(batch)
        context.set_device_memory(self._scratch, self._scratch_size)
        shape = (batch, *self._spec.image_size, 3)
        ready = context.set_input_shape(self._spec.input_name, shape)
        for name, address in self._device.items():
            ready = context.set_tensor_address(name, address) and ready
        if not ready:
            raise self._failed(batch)
        return context

    def _queue(self, context: Any, batch: int) -> None:
        """Put copies and inference of one batch on the stream."""
        inputs = self._spec.input_name
        self._log.clear()
        self._mark(0)
        self._stream.upload(self._device[inputs], self._host[inputs][:batch])
        self._mark(1)
        if not context.execute_async_v3(self._stream.handle):
            raise self._failed(batch)
        self._mark(2)
        for name in self._spec.output_names:
            self._stream.download(self._host[name][:batch], self._device[name])
        self._mark(3)

    def _mark(self, number: int) -> None:
        """Begin of the upload, end of it, of the network, of the download; for those who time."""

    def _wait(self) -> None:
        self._stream.synchronize()

    def _copy_in(self, images: NDArray[np.uint8]) -> None:
        self._host[self._spec.input_name][: len(images)] = images

    def _copy_out(self, batch: int) -> Outputs:
        scores, maps = (self._host[name][:batch].copy() for name in self._spec.output_names)
        return Outputs(scores, maps)

    def _capture(self, context: Any, batch: int) -> None:
        if self.graphs_failed:
            return
        try:
            self._graphs[batch] = self._stream.capture(lambda: self._queue(context, batch))
        except GadError:
            # Some engines cannot be captured; they run all the same, only with more overhead.
            self.graphs_failed = True

    def _failed(self, batch: int) -> GadError:
        return GadError(
            f"TensorRT {self._trt.__version__} could not run {batch} images ({self._log.reason()})",
            remedy="when memory is short, build the engine with a smaller batch",
        )


class _TimedRunner(_Runner):
    """A runner that adds the milliseconds of every run to `stages`.

    infer: the network, between CUDA events on the stream, which are part of the graph.
    upload, download: the same around the copies over the bus, and by the processor's clock the
    copies into pinned memory and out of it.
    Launching, and waking up when the device is done, are in none of them.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.stages = dict.fromkeys(STAGES, 0.0)
        try:
            self._marks: Sequence[cuda.Event] = [self._stream.event() for _ in range(4)]
        except BaseException:
            self.close()
            raise

    def _mark(self, number: int) -> None:
        self._stream.record(self._marks[number])

    def _wait(self) -> None:
        super()._wait()
        for stage, start, end in zip(STAGES, self._marks, self._marks[1:], strict=False):
            self.stages[stage] += self._stream.milliseconds(start, end)

    def _copy_in(self, images: NDArray[np.uint8]) -> None:
        began = time.perf_counter()
        super()._copy_in(images)
        self.stages["upload"] += 1e3 * (time.perf_counter() - began)

    def _copy_out(self, batch: int) -> Outputs:
        began = time.perf_counter()
        outputs = super()._copy_out(batch)
        self.stages["download"] += 1e3 * (time.perf_counter() - began)
        return outputs


def _load(trt: Any, data: bytes, path: Path, *, version_compatible: bool) -> tuple[Any, Any]:
    log = logger(trt)
    log.clear()
    runtime = create(trt, trt.Runtime)
    # Such an engine carries a small runtime of its own, which is code.
    runtime.engine_host_code_allowed = version_compatible
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise ArtifactError(
            f"{path}: TensorRT {trt.__version__} cannot load it ({log.reason()})",
            remedy=rebuild_command(path),
        )
    return runtime, engine


def _check_engine(trt: Any, engine: Any, spec: Spec, path: Path) -> tuple[int, int]:
    """Compare an engine's tensors with the spec; returns its smallest and largest batch."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {
        name: (
            engine.get_tensor_mode(name),
            engine.get_tensor_dtype(name),
            tuple(engine.get_tensor_shape(name))[1:],
        )
        for name in names
    }
    output, real = trt.TensorIOMode.OUTPUT, trt.DataType.FLOAT
    expected = {
        spec.input_name: (trt.TensorIOMode.INPUT, trt.DataType.UINT8, (*spec.image_size, 3)),
        spec.output_names[0]: (output, real, ()),
        spec.output_names[1]: (output, real, spec.map_size),
    }
    if found != expected:
        raise ArtifactError(
            f"{path}: the engine has {found}, its spec says {expected}", remedy=EXPORT_AGAIN
        )
    batch, *_ = engine.get_tensor_shape(spec.input_name)
    if batch > 0:
        return batch, batch
    low, _, high = engine.get_tensor_profile_shape(spec.input_name, 0)
    return low[0], high[0]
