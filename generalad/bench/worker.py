"""The process that runs one side of a bench; a program of its own: `python worker.py`.

It imports the generalad that PYTHONPATH names, which may be an older checkout, so nothing of it is
used here but what every version since 0.1.0 has. Commands come on stdin and answers go to stdout,
one JSON object a line; stderr is for what libraries print.

    {"do": "open", "artifact": ..., "images": [...], "videos": [".mp4", ...], "batch": 1,
     "threads": ..., "device": ..., "timed": true}          -> fields of `worker_process.Facts`
    {"do": "run", "runs": 12}                               -> fields of `worker_process.Block`
    {"do": "throughput", "sessions": 2, "seconds": 0.2}     -> images a second
    {"do": "close"}                                         -> nothing

Each opening has a process of its own, a fork of one that has imported the libraries: how fast a
network runs depends on where its memory lies, and that is drawn anew with each process only.
"""

# ruff: noqa: E402 - the path is set before anything else is imported

from __future__ import annotations

import os
import sys

# The folder of this file holds modules of generalad.bench, which must not hide others of that name.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import contextlib
import functools
import importlib
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FORKS = sys.platform == "linux"
"""Libraries of other systems may not be used in a fork; there an opening is a new process."""

Answer = dict[str, Any]
ByStage = dict[str, float]


class Worker:
    """An opened artifact, with one pipeline or several of them side by side."""

    _new_pipeline: Callable[[], Pipeline]

    def answer(self, order: Answer) -> Answer:
        """Do what a command says."""
        commands = {"open": self._open, "run": self._run, "throughput": self._throughput}
        return commands[order["do"]](order)

    def _open(self, order: Answer) -> Answer:
        """Open an artifact as `gad infer` does, run a first image, say what is known of it."""
        import generalad
        from generalad.runtime import open_session

        given = {name: order[name] for name in ("threads", "device") if order[name] is not None}
        given |= {"spinning": False, "timed": order["timed"]}
        images = functools.partial(Images, order["images"], tuple(order["videos"]))
        images()  # read once already, so that the first run finds them in the file cache
        self._batch = order["batch"]
        opened = functools.partial(open_session, order["artifact"], **given)
        began = time.perf_counter()
        session = opened()
        load = (time.perf_counter() - began) * 1000
        self._new_pipeline = lambda: Pipeline(opened(), images(), self._batch)
        self._pipelines = [Pipeline(session, images(), self._batch)]
        return {
            "backend": session.backend,
            "precision": session.spec.precision,
            "image_size": session.spec.image_size,
            "fixed_batch": session.fixed_batch,
            "load": load,
            "cold": self._pipelines[0].run()[0]["total"],
            "timed": bool(getattr(session, "stages", {})),
            "computed": getattr(session, "precision", "fp32"),
            "package": str(Path(generalad.__file__).resolve().parent),
            "pid": os.getpid(),
        }

    def _run(self, order: Answer) -> Answer:
        """Times and waits by stage, one value a run; the memory after them."""
        runs = [self._pipelines[0].run() for _ in range(order["runs"])]
        times, waits = ([run[part] for run in runs] for part in (0, 1))
        return {
            "times": {stage: [run[stage] for run in times] for stage in times[0]},
            "waits": {stage: [run[stage] for run in waits] for stage in waits[0]} or None,
            **memory(),
        }

    def _throughput(self, order: Answer) -> Answer:
        """Images a second of so many sessions, each in a thread of its own, side by side."""
        while len(self._pipelines) < order["sessions"]:
            self._pipelines.append(self._new_pipeline())
            self._pipelines[-1].run()
        began = time.perf_counter()

        def loop(pipeline: Pipeline) -> int:
            done = 0
            while time.perf_counter() < began + order["seconds"]:
                pipeline.run()
                done += self._batch
            return done

        with ThreadPoolExecutor(order["sessions"]) as threads:
            done = sum(threads.map(loop, self._pipelines[: order["sessions"]]))
        return {"images_per_second": done / (time.perf_counter() - began)}


class Images:
    """Encoded images in memory, or a video, in an endless round."""

    def __init__(self, paths: list[str], videos: tuple[str, ...]) -> None:
        from generalad.preprocess import decode_image, read_bytes

        self._decode = decode_image
        self._video = paths[0] if paths[0].lower().endswith(videos) else None
        self._data = itertools.cycle([] if self._video else [read_bytes(p) for p in paths])
        self._frames: Iterator[Any] = iter(())
        self._ahead = 0

    def prepare(self, count: int) -> None:
        """Make sure that `count` images follow without a video being opened in between."""
        if self._video is not None and self._ahead < count:
            from generalad.runtime import open_sources

            source = open_sources([self._video])[0]
            self._ahead, self._frames = source.count() or 1, iter(source)

    def decode(self) -> Any:
        """The next image, (H, W, 3) uint8 RGB."""
        if self._video is None:
            return self._decode(next(self._data))
        self._ahead -= 1
        frame = next(self._frames, None)
        if frame is None or frame.image is None:  # the container had promised more
            self._ahead = 0
            self.prepare(1)
            frame = next(self._frames)
        if frame.image is None:
            raise ValueError(frame.error)
        return frame.image


class Pipeline:
    """From an encoded image to its decision, timed stage by stage."""

    def __init__(self, session: Any, images: Images, batch: int) -> None:
        from generalad.decision import framed
        from generalad.geometry.placement import PartNotFound, prepare, without_template
        from generalad.runtime import Rule, decide

        self._session, self._images, self._batch = session, images, batch
        self._prepare, self._framed, self._not_found = prepare, framed, PartNotFound
        self._plain = without_template(session.spec.geometry)
        self._decide = functools.partial(decide, spec=session.spec, rule=Rule())
        # Milliseconds so far of upload, network and download; empty where they are one stage.
        self._stages: ByStage = getattr(session, "stages", {})
        self._watch = Stopwatch()

    def run(self) -> tuple[ByStage, ByStage]:
        """One batch: milliseconds an image, see `Stopwatch.stop`."""
        import numpy as np

        watch, spec = self._watch, self._session.spec
        self._images.prepare(self._batch)
        ready, placements, sizes = [], [], []
        watch.start()
        for _ in range(self._batch):
            image = self._images.decode()
            watch.stage("decode")
            try:
                pixels, placement = self._prepare(image, spec.image_size, spec.geometry)
            except self._not_found:  # a drawn part has been looked for as long as another
                pixels, placement = self._prepare(image, spec.image_size, self._plain)
            ready.append(pixels)
            placements.append(placement)
            sizes.append(image.shape[:2])
            watch.stage("preprocess")
        batch = np.ascontiguousarray(ready[0][None] if len(ready) == 1 else np.stack(ready))
        watch.stage("preprocess")
        before = dict(self._stages)
        scores, maps = self._session.run(batch)
        watch.stage("infer", {name: self._stages[name] - before[name] for name in before})
        for score, values, placement, original in zip(scores, maps, placements, sizes):  # noqa: B905
            self._decide(float(score), self._framed(values, placement, spec), image_size=original)
        watch.stage("postprocess")
        return watch.stop(self._batch)


class Stopwatch:
    """Times of stages, and how long the calling thread stood ready in them without a core.

    The kernel knows the latter (Linux: run-queue delay). It is no work of the artifact's: whoever
    else uses the machine caused it.
    """

    def __init__(self) -> None:
        try:
            self._file: int | None = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
            self._waited()
        except (OSError, IndexError, ValueError):
            self._file = None

    def start(self) -> None:
        """Begin a run."""
        self._times: ByStage = defaultdict(float)
        self._waits: ByStage = defaultdict(float)
        self._looked = 0.0
        self._wait = self._first_wait = self._waited()
        self._began = self._mark = time.perf_counter()

    def stage(self, name: str, parts: ByStage | None = None) -> None:
        """What passed since the last call belongs to a stage.

        `parts`, if there are any, stand in its place: milliseconds that somebody else measured, on
        a GPU. How they waited for a core is not known, so only the total has the waiting.
        """
        now, wait = time.perf_counter(), self._waited()
        for part, milliseconds in (parts or {name: (now - self._mark) * 1000}).items():
            self._times[part] += milliseconds
            self._waits[part] += 0.0 if parts else (wait - self._wait) * 1000
        self._ended, self._wait = now, wait
        self._mark = time.perf_counter()
        self._looked += self._mark - now

    def stop(self, batch: int) -> tuple[ByStage, ByStage]:
        """Milliseconds an image by stage, and the waiting in them; empty where nobody knows."""
        looked = self._looked - (self._mark - self._ended)  # the last look lies behind the end
        self._times["total"] = (self._ended - self._began - looked) * 1000
        self._waits["total"] = (self._wait - self._first_wait) * 1000
        waits = {} if self._file is None else self._waits
        times, waits = (
            {name: value / batch for name, value in found.items()} for found in (self._times, waits)
        )
        return times, waits

    def _waited(self) -> float:
        if self._file is None:
            return 0.0
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9


def memory() -> Answer:
    """Memory of this process, now and at most so far, in 10^6 bytes; None where nobody tells."""
    try:
        # What getrusage says on Linux includes the parent's memory before the program was loaded.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kib = {line.split()[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
        return {"rss": kib["VmRSS:"] * 1024 / 1e6, "peak_rss": kib["VmHWM:"] * 1024 / 1e6}
    except (OSError, KeyError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}


def failure(error: Exception) -> Answer:
    """An error as an answer; that of generalad with its remedy and exit code."""
    return {
        "error": getattr(error, "message", None) or f"{type(error).__name__}: {error}",
        "remedy": getattr(error, "remedy", ""),
        "exit_code": getattr(error, "exit_code", 1),
        "lacks": isinstance(error, (ImportError, TypeError)),  # something that is needed here
    }


def import_libraries(artifact: str) -> None:
    """What an opening would import first; what cannot be imported is said when it is opened."""
    library = {".onnx": "onnxruntime", ".xml": "openvino"}.get(Path(artifact).suffix.lower())
    for name in (library, "generalad.preprocess", "generalad.runtime"):
        with contextlib.suppress(Exception):
            importlib.import_module(name or "numpy")


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print must not get between the answers
    if len(sys.argv) > 1:
        import_libraries(sys.argv[1])
    worker = Worker()
    for line in sys.stdin:
        try:
            order = json.loads(line)
            if order["do"] == "open" and FORKS and (child := os.fork()):
                _, status = os.waitpid(child, 0)  # it answers until it is told to close
                if status:
                    os._exit(os.waitstatus_to_exitcode(status) % 256)
                continue
            found = {} if order["do"] == "close" else worker.answer(order)
        except Exception as error:
            found = failure(error)
        answers.write(json.dumps(found) + "\n")
        answers.flush()
        if not found:
            break
    os._exit(0)  # the libraries' own shutdown can take long, and nothing is left to be saved


if __name__ == "__main__":
    main()
