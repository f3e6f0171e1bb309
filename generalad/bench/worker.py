"""The process that runs one side of a bench; a program of its own: `python worker.py`.

It imports the generalad that PYTHONPATH names, which may be an older checkout, so nothing of
generalad is used here but what every checkout has. Commands come on stdin and answers go to stdout,
one JSON object a line; stderr is for what libraries print.

    {"do": "open", "artifact": ..., "images": [...], "videos": [...], "threads": ..., "device": ...,
     "batch": 1, "timed": true}
    {"do": "run", "runs": 12}       -> times of each stage in each run, milliseconds an image
    {"do": "throughput", "sessions": 2, "seconds": 0.2}                  -> images a second
    {"do": "memory"}                                                     -> peak, megabytes
"""

# ruff: noqa: E402 - the path is set before anything else is imported

from __future__ import annotations

import os
import sys

# The folder of this file holds modules of generalad.bench, which must not hide others of that name.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import functools
import importlib
import inspect
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

Answer = dict[str, Any]
ByStage = dict[str, float]


class TooOld(Exception):
    """The checkout lacks something that is needed here."""


class Images:
    """Encoded images in memory, or a video, in an endless round."""

    def __init__(self, paths: list[str], videos: tuple[str, ...]) -> None:
        from generalad.preprocess import decode_image

        self._decode = decode_image
        self._video = paths[0] if paths[0].lower().endswith(videos) else None
        self._data: list[bytes] = []
        for path in [] if self._video else paths:
            with open(path, "rb") as file:
                self._data.append(file.read())
        self._frames: Iterator[Any] = iter(())
        self._next = self._ahead = 0

    def prepare(self, count: int) -> None:
        """Make sure that `count` images follow without a video being opened in between."""
        if self._video is None or self._ahead >= count:
            return
        from generalad.runtime import open_sources

        source = open_sources([self._video])[0]
        self._ahead = source.count() or 1
        self._frames = iter(source)

    def decode(self) -> Any:
        """The next image, (H, W, 3) uint8 RGB."""
        if self._video is None:
            self._next = (self._next + 1) % len(self._data)
            return self._decode(self._data[self._next])
        self._ahead -= 1
        frame = next(self._frames, None)
        if frame is None or frame.image is None:  # the container had promised more
            self._ahead = 0
            self.prepare(1)
            frame = next(self._frames)
        if frame.image is None:
            raise ValueError(frame.error)
        return frame.image


class Side:
    """An opened artifact, with one pipeline or several of them side by side."""

    def __init__(self, order: Answer) -> None:
        from generalad.runtime import open_session

        options = _known_options(open_session, order)
        self._open = functools.partial(open_session, order["artifact"], **options)
        self._images = functools.partial(Images, order["images"], tuple(order["videos"]))
        self._images()  # read once already, so that the first run finds them in the file cache
        began = time.perf_counter()
        session = self._open()
        self._load = (time.perf_counter() - began) * 1000
        self._batch = order["batch"]
        self._pipelines = [Pipeline(session, self._images(), self._batch)]
        self._cold = self._pipelines[0].run()[0]["total"]

    def facts(self) -> Answer:
        """What is known of it once it has run."""
        import generalad

        session = self._pipelines[0].session
        return {
            "backend": session.backend,
            "fixed_batch": session.fixed_batch,
            "timed": bool(stages_of(session)),
            "image_size": list(session.spec.image_size),
            "precision": session.spec.precision,
            "load": self._load,
            "cold": self._cold,
            "package": os.path.dirname(os.path.abspath(generalad.__file__)),
        }

    def run(self, runs: int) -> Answer:
        """Times and waits by stage, one value a run."""
        times, waits = zip(*(self._pipelines[0].run() for _ in range(runs)))  # noqa: B905
        return {
            "times": {stage: [run[stage] for run in times] for stage in times[0]},
            "waits": waits[0] and {stage: [run[stage] for run in waits] for stage in waits[0]},
        }

    def throughput(self, count: int, seconds: float) -> Answer:
        """Images a second of `count` sessions, each in a thread of its own, side by side."""
        while len(self._pipelines) < count:
            self._pipelines.append(Pipeline(self._open(), self._images(), self._batch))
            self._pipelines[-1].run()
        done, begin, stop = [0] * count, threading.Barrier(count + 1), threading.Event()

        def loop(number: int) -> None:
            begin.wait()
            while not stop.is_set():
                self._pipelines[number].run()
                done[number] += self._batch

        threads = [threading.Thread(target=loop, args=(i,), daemon=True) for i in range(count)]
        for thread in threads:
            thread.start()
        begin.wait()
        began = time.perf_counter()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        return {"images_per_second": sum(done) / (time.perf_counter() - began)}


class Pipeline:
    """From an encoded image to its decision, timed stage by stage."""

    def __init__(self, session: Any, images: Images, batch: int) -> None:
        from generalad import preprocess

        self.session, self._images, self._batch = session, images, batch
        self._stages, self._watch = stages_of(session), Stopwatch()
        self._resize, self._decide = preprocess.resize, _decision(session.spec)

    def run(self) -> tuple[ByStage, ByStage | None]:
        """One batch: milliseconds an image, see `Stopwatch.stop`."""
        import numpy as np

        watch, size = self._watch, self.session.spec.image_size
        self._images.prepare(self._batch)
        ready, sizes = [], []
        watch.start()
        for _ in range(self._batch):
            image = self._images.decode()
            watch.stage("decode")
            ready.append(self._resize(image, size))
            sizes.append(image.shape[:2])
            watch.stage("preprocess")
        batch = np.ascontiguousarray(ready[0][None] if len(ready) == 1 else np.stack(ready))
        watch.stage("preprocess")
        before = dict(self._stages)
        scores, maps = self.session.run(batch)
        watch.stage("infer", {name: self._stages[name] - before[name] for name in before})
        for score, values, original in zip(scores, maps, sizes):  # noqa: B905
            self._decide(float(score), values, original)
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

    def stop(self, batch: int) -> tuple[ByStage, ByStage | None]:
        """Milliseconds an image by stage, and the waiting in them; None where nobody knows."""
        looked = self._looked - (self._mark - self._ended)  # the last look lies behind the end
        self._times["total"] = (self._ended - self._began - looked) * 1000
        self._waits["total"] = (self._wait - self._first_wait) * 1000
        times = {name: value / batch for name, value in self._times.items()}
        waits = {name: value / batch for name, value in self._waits.items()}
        return times, None if self._file is None else waits

    def _waited(self) -> float:
        if self._file is None:
            return 0.0
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9


def _decision(spec: Any) -> Callable[[float, Any, tuple[int, int]], Any]:
    """`decide` where the checkout has it, in the form that it has there."""
    try:
        module: Any = importlib.import_module("generalad.decision")
    except ImportError:  # before 0.2
        module = importlib.import_module("generalad.runtime.decision")
    names = inspect.signature(module.decide).parameters
    if "rule" in names:
        fixed: Answer = {"rule": module.Rule()}
    elif "threshold" in names:
        fixed = {"threshold": spec.thresholds.image}
    else:
        raise TooOld("its decide() takes neither a rule nor a threshold")
    return lambda score, values, size: module.decide(score, values, spec, image_size=size, **fixed)


def _known_options(function: Callable[..., Any], order: Answer) -> Answer:
    """The options that were given, and those of `gad infer`; an older function may lack some."""
    known = inspect.signature(function).parameters.keys()
    given = {name: order[name] for name in ("threads", "device") if order[name] is not None}
    if missing := given.keys() - known:
        raise TooOld(f"its open_session() has no {' and no '.join(sorted(missing))}")
    ours = {"spinning": False, "timed": order["timed"]}
    return {**given, **{name: value for name, value in ours.items() if name in known}}


def stages_of(session: Any) -> ByStage:
    """Milliseconds so far of upload, network and download; empty where they are one stage."""
    return getattr(session, "stages", {})


def peak_rss() -> float | None:
    """The largest memory of this process so far, megabytes (10^6 bytes)."""
    try:
        # What getrusage says on Linux includes the parent's memory before the program was loaded.
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(s.split()[1]) for s in file if s.startswith("VmHWM:")) * 1024 / 1e6
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def answer(order: Answer, side: Side | None) -> tuple[Answer, Side | None]:
    """Do what a command says."""
    if order["do"] == "open":
        side = Side(order)
        return side.facts(), side
    if side is None:
        raise ValueError("open comes first")
    if order["do"] == "run":
        return side.run(order["runs"]), side
    if order["do"] == "throughput":
        return side.throughput(order["sessions"], order["seconds"]), side
    return {"peak_rss": peak_rss()}, side


def failure(error: Exception) -> Answer:
    """An error as an answer; that of generalad with its remedy and exit code."""
    if isinstance(error, (ImportError, TooOld)):
        return {"too_old": str(error)}
    text = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
    more = {"remedy": getattr(error, "remedy", ""), "exit_code": getattr(error, "exit_code", 1)}
    return {"error": text, **more}


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print must not get between the answers
    side: Side | None = None
    for line in sys.stdin:
        try:
            found, side = answer(json.loads(line), side)
        except Exception as error:
            found = failure(error)
        answers.write(json.dumps(found) + "\n")
        answers.flush()
    os._exit(0)  # the libraries' own shutdown can take long, and nothing is left to be saved


if __name__ == "__main__":
    main()
