"""TensorRT engines from an exported ONNX file, built and proven on the device that will run them.

Needs TensorRT and onnx, no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from generalad.errors import ArtifactError, GateError, UsageError, require_extra
from generalad.export.engine import Engine, EngineOptions, build
from generalad.files import (
    check_writable,
    make_folder,
    sha256_of_bytes,
    sha256_of_file,
    storage_error,
)
from generalad.progress import Progress
from generalad.runtime.backends.engine_record import EngineRecord, read_record, record_path
from generalad.runtime.backends.onnx_hash import check_unchanged
from generalad.runtime.backends.trt_library import library, machine
from generalad.runtime.selftest import selftest
from generalad.spec import METADATA_KEY, Spec

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Engine",
    "EngineOptions",
    "EngineWriter",
    "build",
    "build_engine",
    "is_stale",
    "read_spec",
    "rebuild",
    "write_engine",
]


def write_engine(engine: Engine, path: Path, spec: Spec) -> None:
    """Write an engine and its record; both appear whole, the record last.

    Raises:
        StorageError: they cannot be written; the files that stood there before still do.
    """
    with _draft(path) as draft:
        _write_pair(engine, draft, spec)


class EngineWriter:
    """Writes a graph as an engine, its record, and the ONNX file it was built from beside them.

    The engine is built once, however often it is written.
    """

    def __init__(
        self, graph: onnx.ModelProto, options: EngineOptions, progress: Progress | None
    ) -> None:
        self._graph, self._options, self._progress = graph, options, progress
        self._built: Engine | None = None

    def __call__(self, path: Path, spec: Spec) -> None:
        """Write to `path`, which ends in .engine; the ONNX file comes last."""
        from generalad.export.to_onnx import write_model

        onnx = path.with_suffix(".onnx")
        make_folder(path.parent)
        try:
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
                draft = Path(folder) / onnx.name
                write_model(self._graph, draft, spec)
                if self._built is None:
                    self._built = build(draft, self._options, progress=self._progress)
                digest = sha256_of_file(draft)
                engine = dataclasses.replace(self._built, onnx=onnx, onnx_sha256=digest)
                write_engine(engine, path, spec)
                for file in sorted(draft.parent.iterdir()):  # weights, where they lie apart, first
                    os.replace(file, path.parent / file.name)
        except OSError as error:
            raise storage_error(error, path) from error


def build_engine(
    onnx: str | Path,
    out: str | Path | None = None,
    *,
    options: EngineOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Build an engine for this device, compare it with the verified export, and write it.

    Args:
        onnx: a file made by `gad export`, in any precision.
        out: the engine; default beside the ONNX file, with the suffix .engine.
        options: default `EngineOptions()`.
        progress: told about TensorRT's phases.

    Returns:
        The engine's path; its record lies beside it.

    Raises:
        ArtifactError: not an exported file, or one without golden samples.
        GateError: the engine computes something else; nothing was written.
        GadError: see `build`.
        StorageError: it cannot be written; an older engine is still there.
    """
    onnx = Path(onnx)
    path = Path(out) if out is not None else onnx.with_suffix(".engine")
    if path.suffix != ".engine":
        raise UsageError(f"{path}: expected a name that ends in .engine")
    spec = read_spec(onnx)
    check_unchanged(onnx)
    if not spec.golden:
        raise ArtifactError(
            f"{onnx}: carries no golden samples, so the engine could not be verified",
            remedy="export the detector again with gad export",
        )
    check_writable(path)
    engine = build(onnx, options or EngineOptions(), progress=progress)
    with _draft(path) as draft:
        _write_pair(engine, draft, spec)
        _verify(draft, path)
    return path


def is_stale(engine: Path) -> str | None:
    """Why an engine must be built again, None if it is what would be built here now.

    Looks at its record, at the ONNX file beside it, if there is one, and at this machine.

    Raises:
        MissingExtraError: TensorRT or the CUDA bindings are not installed.
    """
    try:
        record = read_record(engine)
        found = sha256_of_file(engine)
    except (ArtifactError, OSError) as error:
        return error.message if isinstance(error, ArtifactError) else f"{engine}: {error.strerror}"
    here, onnx = machine(library()), engine.with_name(record.onnx)
    problems = record.machine_problems(here)
    if not problems and record.hardware_compatibility == "none" and record.machine.gpu != here.gpu:
        problems.append(f"it was built for {record.machine.gpu}, this is {here.gpu}")
    if found != record.engine_sha256:
        problems.append(f"it is not the file that {record_path(engine).name} describes")
    if onnx.exists() and sha256_of_file(onnx) != record.onnx_sha256:
        problems.append(f"{onnx.name} has changed since it was built")
    return f"{engine}: {'; '.join(problems)}" if problems else None


def rebuild(
    engine: str | Path, *, timing_cache: Path | None = None, progress: Progress | None = None
) -> str | None:
    """Build an engine again, with the options it was built with, if it is stale.

    Returns:
        Why it was built again, None if it was not.

    Raises:
        ArtifactError: its ONNX file does not lie beside it.
        GadError: see `build_engine`.
    """
    path = Path(engine)
    why = is_stale(path)
    if why is None:
        return None
    onnx, options = path.with_suffix(".onnx"), EngineOptions()
    with contextlib.suppress(ArtifactError):
        record = read_record(path)
        onnx = path.with_name(record.onnx)
        options = EngineOptions(
            batch=record.batch,
            workspace=record.workspace,
            version_compatible=record.version_compatible,
            hardware_compatibility=record.hardware_compatibility,
            tf32=record.tf32,
        )
    options = dataclasses.replace(options, timing_cache=timing_cache)
    build_engine(onnx, path, options=options, progress=progress)
    return why


def read_spec(path: Path) -> Spec:
    """The spec in an exported ONNX file.

    Raises:
        ArtifactError: no such file, not ONNX, or not exported by this project.
        MissingExtraError: onnx is not installed.
    """
    require_extra("building TensorRT engines", "trt10", "onnx")
    import onnx

    if not path.is_file():
        raise ArtifactError(f"{path}: no such file", remedy="check the path")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # the parser's errors share no other base class
        raise ArtifactError(
            f"{path}: cannot be read, not an ONNX file or damaged",
            remedy="copy the file again, or export the detector again with gad export",
        ) from error
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return Spec.from_json(entry.value, name=str(path))
    raise ArtifactError(
        f"{path}: an ONNX file, but not one made by generalad (no {METADATA_KEY} in it)",
        remedy="make one with gad export",
    )


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Yield a place for an engine and its record, which move to `path` when the block succeeds.

    After a kill between the two moves the old record lies beside the new engine; their hashes
    differ then, which every session refuses.
    """
    make_folder(path.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            yield draft
            os.replace(draft, path)
            os.replace(record_path(draft), record_path(path))
    except OSError as error:
        raise storage_error(error, path) from error


def _write_pair(engine: Engine, path: Path, spec: Spec) -> None:
    options = engine.options
    record = EngineRecord(
        spec=spec,
        machine=engine.machine,
        batch=options.batch,
        version_compatible=options.version_compatible,
        hardware_compatibility=options.hardware_compatibility,
        tf32=options.tf32,
        workspace=options.workspace,
        onnx=engine.onnx.name,
        onnx_sha256=engine.onnx_sha256,
        engine_sha256=sha256_of_bytes(engine.data),
    )
    for file, data in ((path, engine.data), (record_path(path), record.to_json().encode())):
        with file.open("wb") as writer:
            writer.write(data)
            writer.flush()
            os.fsync(writer.fileno())


def _verify(draft: Path, path: Path) -> None:
    """Run the golden samples on a fresh engine, in the way every session does."""
    result = selftest(draft)
    if found := result.problems():
        raise GateError(
            f"{path}: the engine differs from the verified export on {result.backend}:"
            f" {'; '.join(found)}",
            remedy="nothing was written; build from the fp32 export, or report this with the output"
            " of gad doctor",
        )
