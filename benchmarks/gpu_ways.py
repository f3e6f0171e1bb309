"""What `gpu.py` times: each way as a session, how equal it is, or why it is not to be had."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export import parity
from generalad.errors import GadError, GateError, UsageError
from generalad.export.engine import EngineOptions
from generalad.export.export import Exported, export_detector
from generalad.export.gate import calibrated, run_sets
from generalad.export.parity import Parity, compare, refuse_infinite
from generalad.export.verification_images import ImageSet, image_sets
from generalad.model.session import TorchSession
from generalad.model.storage import Trained
from generalad.runtime import Outputs, Session, open_session
from generalad.runtime.backends import ort, ort_providers, trt_library
from generalad.runtime.backends.session import STAGES
from generalad.spec import Spec

DEVICE = torch.device("cuda")
WORDS = 100
"""Letters of a reason that fit the table."""
Images = NDArray[np.uint8]


class Events:
    """A pair of CUDA events around whatever a function puts on a stream (None: the current one)."""

    def __init__(self, stream: Any = None) -> None:
        self.stream, self.recorded = stream, False
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function between the two events."""

        def call(*arguments: Any) -> Any:
            self.start.record(self.stream)
            result = function(*arguments)
            self.end.record(self.stream)
            self.recorded = True
            return result

        return call

    def milliseconds(self) -> float:
        """Between the events, once the device is synchronised."""
        return float(self.start.elapsed_time(self.end))


class Sample(NamedTuple):
    """One run: milliseconds by its own clock, by the processor's, and which its own is."""

    ms: float
    wall: float
    clock: str


@dataclass
class Row:
    """One way to run the model, or (no session) why there is none.

    `opened` opens the same artifact once more; None where the way is no artifact.
    """

    name: str
    session: Session | None
    note: str
    events: Events | None = None
    done: Exported | None = None
    opened: Callable[..., Session] | None = None
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


class Graphics(TorchSession):
    """The detector on the GPU, with pinned input; float16 by autocast where `half`."""

    def __init__(self, trained: Trained, *, half: bool) -> None:
        # A copy, because exporting moves the detector to the CPU.
        detector = copy.deepcopy(trained.detector).to(DEVICE)
        super().__init__(dataclasses.replace(trained, detector=detector))
        self.events, self._half, self._pinned = Events(), half, dict[int, Tensor]()
        self._timed = self.events.around(self._network)

    @torch.inference_mode()
    def run(self, images: Images) -> Outputs:
        """See `Session.run`."""
        if len(images) not in self._pinned:
            pin = DEVICE.type == "cuda"
            pinned = torch.empty(images.shape, dtype=torch.uint8, pin_memory=pin)
            self._pinned[len(images)] = pinned
        pinned = self._pinned[len(images)].copy_(torch.from_numpy(images))
        scores, maps = self._timed(pinned)
        torch.cuda.synchronize()
        return Outputs(scores.numpy(), maps.numpy())

    def _network(self, pinned: Tensor) -> list[Tensor]:
        with torch.autocast(DEVICE.type, torch.float16, enabled=self._half):
            outputs = self._detector(pinned.to(DEVICE, non_blocking=True))
        return [output.float().to("cpu", non_blocking=True) for output in outputs]


@dataclass(frozen=True)
class Judge:
    """The images of the gate, and what the float32 detector says of them on this GPU."""

    trained: Trained
    sets: Sequence[ImageSet]
    original: Sequence[Outputs]

    def compare(self, session: Session, precision: str, spec: Spec | None) -> Parity:
        """As the gate does; without a spec the thresholds are set through the session itself."""
        outputs = run_sets(session, self.sets, "", lambda *_: None)
        for part in outputs:
            refuse_infinite(part)
        spec = spec or calibrated(self.trained.spec, outputs[0])
        thresholds = self.trained.spec.thresholds.image, spec.thresholds.image
        return compare(
            self.sets,
            self.original,
            outputs,
            thresholds=thresholds,
            precision=precision,
            backend=session.backend,
        )


def ways(trained: Trained, options: argparse.Namespace, folder: Path) -> list[Row]:
    """Every row of the table."""
    sets = image_sets(trained.calibration_images(), options.data)
    plain, half = (Graphics(trained, half=half) for half in (False, True))
    judge = Judge(trained, sets, run_sets(plain, sets, "", lambda *_: None))
    rows = [Row("torch eager fp32", plain, "the reference", plain.events)]
    rows.append(Row("torch autocast fp16", half, "", half.events))
    try:
        found = judge.compare(half, "fp16", None)
        rows[-1].done = Exported(trained.folder, trained.spec, found, "autocast")
        rows[-1].note = parity(rows[-1].done)
    except Exception as error:  # such as values that overflow; its speed is of interest still
        rows[-1].note = phrase(error)
    for kind in ("fp32", "fp16"):
        rows += onnx_rows(judge, kind, options, folder)
    return rows + [engine_row(trained, kind, options, folder) for kind in ("fp32", "fp16", "int8")]


def onnx_rows(judge: Judge, kind: str, options: argparse.Namespace, folder: Path) -> list[Row]:
    """One file on ONNX Runtime's two providers."""
    rows = []
    done: Exported | Exception
    try:
        if ort_providers.CUDA not in ort.library().get_available_providers():
            raise UsageError("the installed onnxruntime offers no CUDA")
        path = folder / f"model-{kind}.onnx"
        done = export_detector(judge.trained, path, precision=kind, verify_on=options.data)
    except Exception as error:  # whatever is missing must not take the other rows along
        done = error
    for device, label in (("cuda", "CUDA"), ("tensorrt", "TensorRT")):
        name = f"onnx {kind}, ORT {label}"
        try:
            if isinstance(done, Exception):
                raise done
            opened = functools.partial(open_session, done.path, device=device)
            session, judged = opened(), done
            if device == "tensorrt":  # which may change types; the gate ran on CUDA
                found = judge.compare(session, done.spec.precision, done.spec)
                judged = dataclasses.replace(done, parity=found)
            rows.append(Row(name, session, parity(judged), done=judged, opened=opened))
        except Exception as error:
            rows.append(Row(name, None, phrase(error)))
    return rows


def engine_row(trained: Trained, kind: str, options: argparse.Namespace, folder: Path) -> Row:
    """One native engine."""
    name = f"TensorRT native {kind}"
    try:
        trt_library.machine(trt_library.library())  # before the work that would be in vain
        engine = EngineOptions(batch=(1, 1, options.batches[-1]), timing_cache=folder / "timing")
        done = export_detector(
            trained,
            folder / f"model-{kind}.engine",
            format="tensorrt",
            precision=kind,
            verify_on=options.data,
            engine=engine,
        )
        opened = functools.partial(open_session, done.path)
        session = opened()
        return Row(name, session, parity(done), launches(session), done, opened)
    except Exception as error:
        return Row(name, None, phrase(error))


def launches(session: Any) -> Events:
    """Events around every CUDA graph that a TensorRT session launches on its stream."""
    stream = session._runner._stream
    events = Events(torch.cuda.ExternalStream(stream.handle))  # type: ignore[no-untyped-call]
    stream.launch = events.around(stream.launch)
    return events


def phrase(error: Exception) -> str:
    """Why there is no number, in short."""
    known = isinstance(error, GadError)
    lines = (str(error.args[0]) if known else f"{type(error).__name__}: {error}").splitlines()
    if isinstance(error, GateError):
        # The first line says that there is none, the others what was tried.
        lines = [f"gate refused {'; '.join(line.strip() for line in lines[1:] or lines)}"]
    return lines[0].replace("|", "/")[:WORDS]


# Where a run on the GPU spends its time, as `gad bench` tells it, and what the telling costs.

WARM_UP = 5
COLUMNS = (*STAGES, "timed", "plain")


def stages(
    rows: Sequence[Row], size: tuple[int, int], batches: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Of every way that is an artifact and runs, at every batch size that it took."""
    found: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for row in rows:
        if row.session is None or row.opened is None:
            continue
        try:
            with row.opened() as plain, row.opened(timed=True) as timed:
                for batch in batches:
                    if batch not in row.failed:
                        images = rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)
                        times = medians(plain, timed, images, rounds)
                        found.append({"way": row.name, "batch": batch, **times})
        except Exception as error:  # such as too little memory for two sessions more
            found.append({"way": row.name, "why": phrase(error)})
    return found


def medians(plain: Any, timed: Any, images: Images, rounds: int) -> dict[str, float]:
    """Milliseconds by column; the first rounds warm up."""
    samples: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for _ in range(WARM_UP + rounds):
        samples["plain"].append(wall(plain, images))
        before = dict(timed.stages)
        samples["timed"].append(wall(timed, images))
        for stage in STAGES:
            samples[stage].append(timed.stages[stage] - before[stage])
    return {name: statistics.median(values[WARM_UP:]) for name, values in samples.items()}


def wall(session: Any, images: Images) -> float:
    """Milliseconds of one run, which returns when the device is done."""
    began = time.perf_counter()
    session.run(images)
    return 1e3 * (time.perf_counter() - began)


def print_stages(found: Sequence[dict[str, Any]]) -> None:
    """Print all of them."""
    print(f"| stages of a run, ms | batch | {' | '.join(COLUMNS)} |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for one in found:
        if "why" in one:
            print(f"| {one['way']:<23} |{' |' * len(COLUMNS)} {one['why']} |")
            continue
        times = " | ".join(f"{one[name]:.3f}" for name in COLUMNS)
        print(f"| {one['way']:<23} | {one['batch']} | {times} |")
    print(flush=True)
