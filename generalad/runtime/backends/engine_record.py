"""The JSON beside a TensorRT engine: what it is, what it was built for, whether it may run here.

An engine holds machine code for one TensorRT version and one kind of graphics card, and reading it
means trusting it. So the record is checked first, and a foreign engine is never given to TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from generalad import records
from generalad.errors import ArtifactError
from generalad.files import read_file, sha256_of_bytes
from generalad.printable import typed
from generalad.spec import Spec

FORMAT_VERSION = 1
"""Raised by one when an older reader would misunderstand a newer record."""

HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class Machine:
    """What an engine depends on.

    Attributes:
        tensorrt: version, all four numbers.
        gpu: name of the graphics card.
        compute_capability: its "major.minor".
        system: operating system and processor, such as "Linux aarch64".
        cuda: the CUDA version that the driver supports; recorded, not compared.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    system: str
    cuda: str


@dataclass(frozen=True)
class EngineRecord:
    """What lies beside an engine.

    Attributes:
        spec: of the ONNX file that the engine was built from.
        machine: where it was built.
        batch: smallest, best and largest number of images in one run.
        version_compatible: other TensorRT versions may run it.
        hardware_compatibility: one of `HARDWARE_COMPATIBILITY`.
        tf32: whether float32 products may be rounded to TF32.
        workspace: limit of the scratch memory in bytes, None for all that is free.
        onnx: name of the ONNX file, without folder.
        onnx_sha256: its hash.
        engine_sha256: hash of the engine.
    """

    spec: Spec
    machine: Machine
    batch: tuple[int, int, int]
    version_compatible: bool
    hardware_compatibility: str
    tf32: bool
    workspace: int | None
    onnx: str
    onnx_sha256: str
    engine_sha256: str
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            raise ValueError(f"hardware_compatibility is {self.hardware_compatibility!r}")
        if Path(self.onnx).name != self.onnx:
            raise ValueError(f"onnx is {self.onnx!r}, expected a name without folder")

    def to_json(self) -> str:
        """The record as indented JSON."""
        return records.to_json(self, indent=2) + "\n"

    def machine_problems(self, found: Machine) -> list[str]:
        """Why the engine cannot run on `found`, in words; empty if it can."""
        built, problems = self.machine, []
        if not _version_runs(built.tensorrt, found.tensorrt, self.version_compatible):
            problems.append(
                f"it was built with TensorRT {built.tensorrt}, this is {found.tensorrt}"
            )
        if not self._gpu_runs(found.compute_capability):
            problems.append(
                f"it was built for {built.gpu} (compute capability {built.compute_capability}),"
                f" this is {found.gpu} ({found.compute_capability})"
            )
        if built.system != found.system:
            problems.append(f"it was built on {built.system}, this is {found.system}")
        return problems

    def _gpu_runs(self, found: str) -> bool:
        if self.hardware_compatibility == "ampere_plus":
            return _numbers(found) >= (8, 0)
        return self.machine.compute_capability == found


def record_path(engine: Path) -> Path:
    """`model.engine.json` for `model.engine`."""
    return engine.with_name(f"{engine.name}.json")


def read_record(engine: Path) -> EngineRecord:
    """Read the record of an engine.

    Raises:
        ArtifactError: missing, damaged, cut off or of a newer format.
    """
    path = record_path(engine)
    try:
        raw = records.parse_json(read_file(path))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{engine}: {path.name} is missing beside it, which says what the engine was built for",
            remedy=f"copy both files, or {rebuild_command(engine)}",
        ) from error
    except (OSError, records.RecordError) as error:
        raise _damaged(engine, "it is no JSON, or cut off") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: format {version} is newer than the {FORMAT_VERSION} this version reads",
            remedy="pip install --upgrade generalad",
        )
    if isinstance(raw, dict) and "spec" in raw:
        Spec.from_dict(raw["spec"], name=str(path))  # says so where it is of a newer format
    try:
        return records.convert(raw, EngineRecord)
    except records.RecordError as error:
        raise _damaged(engine, str(error)) from error


def load_checked(engine: Path, machine: Machine) -> tuple[EngineRecord, bytes]:
    """Read an engine and its record, and refuse what cannot run here.

    Args:
        engine: the file; its record lies beside it.
        machine: where it is to run.

    Raises:
        ArtifactError: naming all that does not fit, with the command that builds the engine anew.
    """
    record = read_record(engine)
    try:
        data = engine.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{engine}: cannot be read ({error.strerror})",
            remedy=rebuild_command(engine, record.onnx),
        ) from error
    problems = record.machine_problems(machine)
    if sha256_of_bytes(data) != record.engine_sha256:
        problems.append(
            f"it is not the file that {record_path(engine).name} describes: damaged, changed, or"
            " its writing was interrupted"
        )
    if problems:
        raise ArtifactError(
            f"{engine}: {'; '.join(problems)}", remedy=rebuild_command(engine, record.onnx)
        )
    return record, data


def rebuild_command(engine: Path, onnx: str | None = None) -> str:
    """How to build `engine` anew; without a readable record its ONNX is taken to be named alike."""
    source = engine.with_name(onnx or f"{engine.stem}.onnx")
    return (
        f"build it again on this device: gad export {typed(source)} --format tensorrt, or let gad"
        " infer do so with --rebuild"
    )


def _version_runs(built: str, found: str, compatible: bool) -> bool:
    """Whether the TensorRT `found` runs an engine of the TensorRT `built`."""
    if built == found or not compatible:
        return built == found
    (old, *_), (new, *_) = _numbers(built), _numbers(found)
    # Across majors, NVIDIA promises this one step and no other.
    return (old == new and _numbers(built) <= _numbers(found)) or (old, new) == (10, 11)


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of "10.16.1.11"; (0,) if it holds something else."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else (0,)


def _damaged(engine: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{record_path(engine)}: the record is damaged ({why})", remedy=rebuild_command(engine)
    )
