"""How far an artifact is from what the machine can do: the counted work over the ceilings.

lower bound of the time = max(operations / ceiling, bytes / ceiling);  share = bound / measured
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from generalad.bench import ceilings
from generalad.bench.ceilings import Ceiling, Device
from generalad.bench.graph_cost import Cost, Precision, count
from generalad.bench.machine import usable_cores
from generalad.bench.record import Limit
from generalad.errors import ArtifactError, MissingExtraError
from generalad.files import sha256_of_file
from generalad.runtime.backends.engine_record import read_record
from generalad.spec import Spec

_TOO_FAST = 1.05
"""A share above this says that the ceilings are wrong: measured while the machine was busier. Below
it, more than 1 is the scatter of the measurement."""


def limit_of(
    artifact: Path,
    measured: float,
    threads: int | None = None,
    *,
    batch: int = 1,
    device: Device = "cpu",
) -> tuple[Limit | None, str]:
    """Compare a measured time with its lower bound here; takes some seconds for the ceilings.

    Measure nothing else at the same time. What cannot be counted or measured is no error.

    Args:
        artifact: .onnx, or .xml or .engine with the ONNX file of the same network beside it.
        measured: milliseconds an image of the stage `infer`.
        threads: of the network; None is one for each core that may be used.
        batch: images in a run.
        device: that the network ran on.

    Returns:
        The limit and one line on what it was counted and measured with; or None and the reason.
    """
    try:
        cost = _cost(artifact, batch)
        reached, words = _arithmetic(cost, threads or usable_cores(), device)
        size = round(cost.bytes * batch)
        memory = ceilings.bandwidth(size, threads or usable_cores(), device)
    except (ArtifactError, MissingExtraError) as error:
        return None, f"limit: {error}"
    except Exception as error:  # a library that refuses a kernel, or a file that is not there
        lines = str(error).splitlines() or [type(error).__name__]
        return None, f"limit: cannot be measured ({lines[0]})"
    return _limit(cost, reached, memory, measured, words)


def _limit(
    cost: Cost, arithmetic: float, memory: Ceiling, measured: float, words: str
) -> tuple[Limit | None, str]:
    times = {"arithmetic": cost.total / arithmetic, "memory": cost.bytes / memory.rate}
    share = max(times.values()) / (measured / 1e3)
    if not math.isfinite(share) or share > _TOO_FAST:
        return None, (
            f"limit: measured {measured:.3g} ms, less than the {max(times.values()) * 1e3:.3g} ms"
            " that the ceilings allow; the machine was busy while they were measured"
        )
    return Limit(
        flops=cost.total,
        bytes=cost.bytes,
        flops_ceiling=arithmetic,
        bytes_ceiling=memory.rate,
        bound="arithmetic" if times["arithmetic"] >= times["memory"] else "memory",
        share=min(share, 1.0),
    ), f"ceilings: {words}; {memory.rate / 1e9:.3g} GB/s, {memory.kernel}"


def _arithmetic(cost: Cost, threads: int, device: Device) -> tuple[float, str]:
    """Operations a second of the graph's mix of precisions, each at its own ceiling."""
    seconds, words = 0.0, []
    for precision, flops in cost.flops.items():
        ceiling = ceilings.arithmetic(precision, threads, device)
        if ceiling is None:
            raise ArtifactError(f"there is no kernel to measure {precision} on {device} with")
        seconds += flops / ceiling.rate
        words.append(f"{ceiling.rate / 1e9:.4g} GFLOP/s, {ceiling.kernel}")
    if not seconds:
        raise ArtifactError("the graph holds no product")
    return cost.total / seconds, "; ".join(words)


def _cost(artifact: Path, batch: int) -> Cost:
    """Counted from the ONNX file; an artifact of another format says what it does in which bits."""
    suffix = artifact.suffix.lower()
    if suffix == ".onnx":
        return count(artifact, batch=batch)
    return {".xml": _openvino, ".engine": _engine}[suffix](artifact, batch)


def _openvino(artifact: Path, batch: int) -> Cost:
    source = artifact.with_suffix(".onnx")
    if not source.is_file():
        raise ArtifactError(
            f"{artifact.name} is counted from {source.name}, which is not beside it"
        )
    cost, spec = count(source, batch=batch), _spec(artifact)
    # Half-size weights are computed in float32 (see `OvSession`). Which products are in eight bits
    # is not recorded: all of them is the bound that holds in any case.
    precision: Precision = "int8" if "int8" in spec.precision else "fp32"
    weights = artifact.with_suffix(".bin").stat().st_size
    return Cost({precision: cost.total}, weights / batch + 3 * math.prod(spec.image_size))


def _engine(artifact: Path, batch: int) -> Cost:
    record = read_record(artifact)
    source = artifact.with_name(record.onnx)
    if not source.is_file() or sha256_of_file(source) != record.onnx_sha256:
        raise ArtifactError(
            f"{artifact.name} is counted from {source.name}, which is not beside it or was changed"
        )
    return count(source, batch=batch)


def _spec(artifact: Path) -> Spec:
    try:
        entry = ElementTree.parse(artifact).find("rt_info/generalad/spec")
    except (ElementTree.ParseError, OSError) as error:
        raise ArtifactError(f"{artifact.name}: not an OpenVINO model ({error})") from error
    if entry is None:
        raise ArtifactError(f"{artifact.name}: holds no generalad spec")
    return Spec.from_json(entry.get("value", ""), name=artifact.name)
