"""Building one TensorRT engine from ONNX: options, parser, profile, timing cache, progress.

The precision is that of the ONNX file: the network is built strongly typed, which is the one way
that TensorRT 10 and 11 share.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generalad.errors import GadError, StorageError, UsageError
from generalad.files import atomic_write, sha256_of_file
from generalad.printable import typed
from generalad.progress import Progress
from generalad.runtime.backends.engine_record import HARDWARE_COMPATIBILITY, Machine
from generalad.runtime.backends.trt_library import create, library, logger, machine
from generalad.runtime.interrupt import on_interrupt

OLDEST = (10, 12)
"""Older versions do not build strongly typed networks fully."""


@dataclass(frozen=True)
class EngineOptions:
    """How to build an engine.

    Attributes:
        batch: smallest, best and largest number of images in one run. An ONNX file with a fixed
            batch decides itself.
        workspace: limit of the scratch memory in bytes; None for all that is free.
        version_compatible: let other TensorRT versions run it, at some cost in speed.
        hardware_compatibility: "none", "ampere_plus" or "same_compute_capability".
        timing_cache: a file of kernel timings, read and updated; makes the next build faster.
        tf32: let float32 products be rounded to TF32, which is faster and moves scores.

    Raises:
        UsageError: a value out of range.
    """

    batch: tuple[int, int, int] = (1, 1, 8)
    workspace: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    timing_cache: Path | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        low, best, high = self.batch
        if not 1 <= low <= best <= high:
            raise UsageError(f"expected batch sizes 1 <= min <= opt <= max, found {self.batch}")
        if self.workspace is not None and self.workspace < 1:
            raise UsageError(f"workspace must be positive, found {self.workspace}")
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            raise UsageError(
                f"hardware compatibility {self.hardware_compatibility!r} is not known, expected one"
                f" of {', '.join(HARDWARE_COMPATIBILITY)}"
            )


@dataclass(frozen=True)
class Engine:
    """A built engine and what its record needs.

    Attributes:
        data: the engine as TensorRT made it.
        machine: where it was built.
        options: those asked for, with the batch that was built.
        onnx: the file it was built from.
        onnx_sha256: its hash.
    """

    data: bytes
    machine: Machine
    options: EngineOptions
    onnx: Path
    onnx_sha256: str


def build(onnx: Path, options: EngineOptions, *, progress: Progress | None = None) -> Engine:
    """Build an engine for this device.

    Args:
        onnx: an exported file, in any precision.
        options: see there.
        progress: told about TensorRT's phases.

    Raises:
        GadError: TensorRT is too old, does not take the file, or cannot build it.
        KeyboardInterrupt: Ctrl-C, at the end of TensorRT's current step.
        MissingExtraError: TensorRT or the CUDA bindings are not installed.
    """
    trt = library()
    _check_version(trt, onnx)
    here, digest, log = machine(trt), sha256_of_file(onnx), logger(trt)
    log.clear()
    builder = create(trt, trt.Builder)
    # Ignored by 11, where it is the only kind.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    _parse(trt, network, onnx)
    options = dataclasses.replace(options, batch=_batch(network, options))
    config = builder.create_builder_config()
    _configure(trt, builder, network, config, options)
    cache = _attach_timing_cache(config, options.timing_cache)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    with on_interrupt(lambda number: monitor.cancel()):
        plan = builder.build_serialized_network(network, config)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise GadError(
            f"{onnx}: TensorRT {trt.__version__} could not build an engine ({log.reason()})",
            remedy="when memory is short, close other programs or build with a smaller batch",
        )
    _save_timing_cache(cache, options.timing_cache)
    return Engine(bytes(plan), here, options, onnx, digest)


def _check_version(trt: Any, onnx: Path) -> None:
    numbers = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if numbers < OLDEST:
        raise GadError(
            f"TensorRT {trt.__version__} cannot build an engine of {onnx}, expected"
            f" {'.'.join(map(str, OLDEST))} or newer (JetPack 6 has 10.3)",
            remedy=f"update to JetPack 7, or run the ONNX file itself with ONNX Runtime for CUDA:"
            f" gad infer {typed(onnx)}",
        )


def _parse(trt: Any, network: Any, onnx: Path) -> None:
    parser = trt.OnnxParser(network, logger(trt))
    if parser.parse_from_file(str(onnx)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    found = [f"{error.desc()} (node {error.node_name() or 'unknown'})" for error in errors]
    raise GadError(
        f"{onnx}: TensorRT {trt.__version__} does not take it:"
        f" {'; '.join(found) or logger(trt).reason()}",
        remedy="export the detector again with gad export, or update TensorRT",
    )


def _batch(network: Any, options: EngineOptions) -> tuple[int, int, int]:
    images = network.get_input(0)
    size = int(images.shape[0])
    return (size, size, size) if size > 0 else options.batch


def _configure(trt: Any, builder: Any, network: Any, config: Any, options: EngineOptions) -> None:
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    # TensorRT's default is to allow it.
    (config.set_flag if options.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    levels = trt.HardwareCompatibilityLevel
    config.hardware_compatibility_level = {
        "none": levels.NONE,
        "ampere_plus": levels.AMPERE_PLUS,
        "same_compute_capability": levels.SAME_COMPUTE_CAPABILITY,
    }[options.hardware_compatibility]
    images = network.get_input(0)
    if images.shape[0] > 0:
        return
    profile = builder.create_optimization_profile()
    low, best, high = ((size, *tuple(images.shape)[1:]) for size in options.batch)
    profile.set_shape(images.name, low, best, high)
    if config.add_optimization_profile(profile) < 0:
        raise GadError(f"TensorRT refused the batch sizes {options.batch}", remedy="try others")


def _attach_timing_cache(config: Any, path: Path | None) -> Any:
    """The cache that the build fills; a damaged one, or another device's, is left unused."""
    if path is None:
        return None
    old = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(old)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _save_timing_cache(cache: Any, path: Path | None) -> None:
    # Without it the next build is slower; no reason to lose this one.
    if cache is not None and path is not None:
        with contextlib.suppress(StorageError), atomic_write(path) as temporary:
            temporary.write_bytes(bytes(cache.serialize()))


def _monitor(trt: Any, progress: Progress | None) -> Any:
    """Passes TensorRT's progress on, and stops the build after Ctrl-C or an error in `progress`.

    Nothing may be raised through TensorRT, so what is raised is kept in `error`.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.error: BaseException | None = None
            self.totals: dict[str, int] = {}
            self.outer: set[str] = set()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            # Two levels; the many short phases below them would only flicker.
            if parent_phase is None or parent_phase in self.outer:
                self.totals[phase_name] = num_steps
                self.tell(phase_name, 0)
            if parent_phase is None:
                self.outer.add(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.tell(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            self.tell(phase_name, self.totals.get(phase_name, 0))
            self.totals.pop(phase_name, None)

        def cancel(self) -> None:
            self.error = self.error or KeyboardInterrupt()

        def tell(self, phase: str, done: int) -> None:
            try:
                if progress is not None and phase in self.totals and self.error is None:
                    progress(phase, done, self.totals[phase])
            except BaseException as error:
                self.error = error

    return Monitor()
