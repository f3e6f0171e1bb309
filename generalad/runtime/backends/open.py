"""Opens the session of an artifact, alone or while the rest of the program is still loading."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from generalad.errors import ArtifactError, UsageError
from generalad.half_precision import PRECISIONS
from generalad.parallel import in_background
from generalad.printable import typed
from generalad.processor import usable_cores
from generalad.runtime.backends import ort
from generalad.runtime.backends.session import Session
from generalad.spec import DETECTOR_FILE

KINDS = {".onnx": ("cpu", "cuda", "tensorrt"), ".xml": ("cpu",), ".engine": ("cuda",)}
"""Suffixes of artifacts, and the devices that can run them."""


MANY = 8
"""Images from which on several runs go on side by side."""

MOST_THREADS = 1024
"""More than processors have cores; a hundred thousand would hold up the machine."""

MOST_SIDE_BY_SIDE = 4
"""Runs at a time: each takes the memory of a batch."""


def open_session(
    path: str | Path,
    *,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    spinning: bool = True,
    timed: bool = False,
    side_by_side: int = 1,
) -> Session:
    """Open an artifact for inference.

    Args:
        path: made by `gad export`: an .onnx file, the .xml of an OpenVINO model, or the .engine of
            TensorRT.
        threads: CPU threads for one run; None leaves the choice to the backend.
        device: "cpu", "cuda", or "tensorrt" for ONNX Runtime's TensorRT provider; None for the best
            that is there. One that was named is used or refused.
        precision: in which a processor computes what is not quantised: "fp32", or "bf16" or "fp16",
            verified or not, where the device has units for it; None for what the artifact was
            verified in on such units, else float32. An engine has its precision in its graph.
        spinning: whether ONNX Runtime's threads keep their cores busy while they wait. It makes
            one run after another faster, and takes the cores from whatever else there is to do.
        timed: whether a session on a GPU has `stages`: a dict with the milliseconds that its runs
            spent in each of `STAGES` so far. What they are made of stands with each backend. It
            costs a little, so only a bench asks for it; on a CPU there is one stage, the run.

        side_by_side: runs that may go on at a time, from as many threads, on a processor; they
            share the `threads`, which are to be given then. More images a second than by one run on
            all of them, whose threads wait for each other, and each image takes longer.

    Raises:
        ArtifactError: missing, not an artifact, cut off, of a newer format, made for another
            machine, or not signed as `GAD_VERIFY_KEY` asks, see `signature`.
        MissingExtraError: the backend's library is not installed.
        UsageError: the device cannot run this kind of artifact, or not in this precision.
    """
    path = Path(path)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"threads: expected 1 to {MOST_THREADS}, found {threads}")
    suffix = _kind(path)
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"unknown precision {precision!r}, expected {', '.join(PRECISIONS)}")
    if device is not None and device not in KINDS[suffix]:
        raise UsageError(
            f"{path.name} cannot run on {device!r}", remedy=f"choose {' or '.join(KINDS[suffix])}"
        )
    if os.environ.get("GAD_VERIFY_KEY"):
        from generalad.runtime.backends.signature import check_as_asked

        check_as_asked(path)
    if suffix == ".xml":
        from generalad.runtime.backends.ov import OvSession

        return OvSession(path, threads=threads, precision=precision, side_by_side=side_by_side)
    if suffix == ".engine":
        if precision is not None:
            raise UsageError(f"{path.name} is computed in the precision it was built in")
        from generalad.runtime.backends.trt import TrtSession

        return TrtSession(path, threads=threads, timed=timed)
    return ort.OrtSession(
        path,
        threads=threads,
        device=device,
        precision=precision,
        spinning=spinning,
        timed=timed,
        side_by_side=side_by_side,
    )


def _kind(path: Path) -> str:
    if path.is_dir():
        raise ArtifactError(
            f"{path} is a folder, expected an artifact such as model.onnx",
            remedy=_instead_of(path),
        )
    if not path.exists():
        raise ArtifactError(f"{path}: no such file", remedy="check the path")
    if not path.is_file():  # loading would wait at a pipe for ever
        raise ArtifactError(f"{path}: a pipe or a device, expected a file")
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise ArtifactError(
            f"{path}: {path.suffix or 'a file without suffix'} is not a known kind of artifact, "
            f"expected {', '.join(KINDS)}",
            remedy="make one with gad export",
        )
    return suffix


def _instead_of(folder: Path) -> str:
    """What to name in place of a folder: an artifact in it, or what a detector is exported to."""
    if found := sorted(path for path in folder.glob("*.*") if path.suffix.lower() in KINDS):
        return f"did you mean {found[0]}?"
    if (folder / DETECTOR_FILE).is_file():
        return f"export the detector first: gad export {typed(folder)}"
    return "name an exported file"


def open_for_pipeline(
    artifact: str | Path,
    *,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    throughput: bool = False,
) -> Session:
    """A session that shares its cores with decoding and drawing; see `open_session`.

    `throughput` lets as many runs go on side by side as there are threads, up to
    `MOST_SIDE_BY_SIDE`: for many images that wait already.
    """
    side_by_side = 1
    if throughput and device in (None, "cpu"):
        threads = threads or usable_cores()
        side_by_side = min(threads, MOST_SIDE_BY_SIDE)
    # Spinning threads would take the cores from decoding: a third of a video's speed.
    return open_session(
        artifact,
        threads=threads,
        device=device,
        precision=precision,
        spinning=False,
        side_by_side=side_by_side,
    )


def open_in_background(
    artifact: Path, *, threads: int | None, device: str | None, throughput: bool = False
) -> Callable[[], Session]:
    """Start to open a session in a thread, which leaves the interpreter to others meanwhile.

    Returns:
        What waits for the session and returns it, or raises what `open_session` raised.
    """
    if artifact.suffix.lower() == ".onnx":
        # Importing the library needs the interpreter, as all else that is loaded now; only what
        # follows does not. So the sooner it is through, the more goes on side by side.
        ort.library()
    return in_background(
        partial(open_for_pipeline, artifact, threads=threads, device=device, throughput=throughput),
        name="gad-open",
    )
