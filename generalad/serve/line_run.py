"""`LineRun`: the streams of a line's file, run in a thread beside the service.

The run uses the network of the version that its model serves. When that is exchanged, the run ends
as after Ctrl-C and begins again with the new one: cameras are opened anew, which takes a second.
A threshold of a stream is changed while it runs, and kept for the next start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from generalad.errors import ArtifactError, GadError, StorageError, UsageError
from generalad.files import atomic_write, read_json
from generalad.progress import Log
from generalad.runtime.inference import infer
from generalad.runtime.line.line import Line
from generalad.runtime.line.open_sinks import open_outputs
from generalad.runtime.line.stream import Stream, StreamMonitor
from generalad.runtime.pipeline.pipeline import MAX_WAIT
from generalad.runtime.view import Look, View
from generalad.serve.audit import Audit
from generalad.serve.latest import Latest
from generalad.serve.models import Model
from generalad.serve.review import Review
from generalad.spec import Spec

_TRY_AGAIN = 5.0
"""Seconds after a run that broke off."""


class Threshold(NamedTuple):
    """The threshold of a stream, raw.

    Attributes:
        value: in force.
        usual: what holds where nothing was changed.
        on_map: whether it is on the scale of the map's values, as it is with areas.
    """

    value: float
    usual: float
    on_map: bool


@dataclasses.dataclass(frozen=True)
class _WatchedStream(Stream):
    """A stream that hands out its monitor when a run begins."""

    begun: Callable[[StreamMonitor], None] = lambda monitor: None

    def tracker(self, spec: Spec) -> StreamMonitor:
        """See `Stream`."""
        monitor = super().tracker(spec)
        self.begun(monitor)
        return monitor


class LineRun:
    """Runs until `close`; used by the service's threads.

    Attributes:
        model: whose network the streams are scored with.
        latest: what the page shows.
        problem: why there is no run at the moment, or empty.
    """

    def __init__(
        self,
        read: Callable[[], Line],
        model: Model,
        state: Path,
        *,
        audit: Audit,
        review: Review,
        log: Log,
    ) -> None:
        """Start it.

        Args:
            read: reads the line's file; cameras are made anew for each run.
            model: see there.
            state: folder for thresholds that were changed.
            audit: told of them.
            review: a sink.
            log: told what goes wrong, in one line.

        Raises:
            GadError: the line's file cannot be, or names something that is not there.
        """
        self.model, self.latest, self.problem = model, Latest(), ""
        self._read, self._audit, self._review, self._log = read, audit, review, log
        self._file = state / "thresholds.json"
        self._lock = threading.Lock()
        self._version, self._thresholds = _kept(self._file)
        self._monitors: dict[str, StreamMonitor] = {}
        self._rules: dict[str, Stream] = {}
        self._look: Look | None = None
        self._closed = threading.Event()
        self._stop = threading.Event()
        self._check(read())
        with self._lock:
            self._drop_of_others()
        self._thread = threading.Thread(target=self._work, name="gad-line", daemon=True)
        self._thread.start()

    # An observer of the run

    def begin(self, look: Look) -> None:
        """A run begins."""
        self._look = look

    def end(self) -> None:
        """A run ends; what it was is still shown."""

    # What the service asks

    def view(self) -> View | None:
        """The run at this moment; None before the first one."""
        look = self._look
        return None if look is None else look()

    def thresholds(self) -> dict[str, Threshold]:
        """Of each stream, in the order of the file."""
        spec = self.model.current.predictor.spec
        with self._lock:
            found = {}
            for name, stream in self._rules.items():
                usual = stream.rule.level(spec)
                in_force = self._thresholds.get(name, usual)
                found[name] = Threshold(in_force, usual, stream.rule.areas is not None)
            return found

    def set_threshold(
        self, stream: str, value: float | None, *, by: str, undoes: int | None = None
    ) -> None:
        """Change the threshold of a stream from its next frame on.

        Args:
            stream: its name.
            value: raw; None for the one of the line's file or artifact.
            by: who says so.
            undoes: see `Audit.add`.

        Raises:
            UsageError: no such stream, or no number.
            StorageError: it cannot be written down; then nothing is changed.
        """
        if value is not None and not math.isfinite(value):
            raise UsageError("the threshold is no number")
        with self._lock:
            self._drop_of_others()  # the run may not have noticed an exchange yet
            if stream not in self._rules:
                raise UsageError(f"there is no stream {stream[:80]!r}")
            before = self._thresholds.get(stream)
            if before == value:
                return
            changed = {**self._thresholds, stream: value}
            kept = {name: number for name, number in changed.items() if number is not None}
            with self._keeping(kept):  # neither without the other
                self._audit.add(
                    "threshold", stream, before=before, after=value, by=by, undoes=undoes
                )
            self._thresholds = kept
            self._apply(stream)

    @contextlib.contextmanager
    def _keeping(self, thresholds: Mapping[str, float]) -> Iterator[None]:
        """Write thresholds down for the next start; not where what is done meanwhile fails."""
        with atomic_write(self._file) as temporary:
            found = {"version": self._version, "thresholds": thresholds}
            temporary.write_text(json.dumps(found), encoding="utf-8")
            yield

    def _drop_of_others(self) -> None:
        """A raw threshold is one of the version that it was set for: another has its own scores.

        The lock is held.
        """
        if self._version == self.model.current.sha256:
            return
        dropped, self._thresholds = self._thresholds, {}
        self._version = self.model.current.sha256
        if not dropped:
            return
        with contextlib.suppress(StorageError), self._keeping({}):
            for stream, value in dropped.items():
                self._log(f"{stream}: the threshold {value:.4g} was set for another version")
                self._audit.add("threshold", stream, before=value, by="exchange")

    def restart(self) -> None:
        """Run again, with the version that serves now."""
        self._stop.set()

    def close(self) -> None:
        """End the run; what is in flight is finished."""
        self._closed.set()
        self._stop.set()
        self._thread.join()

    # The run

    def _work(self) -> None:
        while not self._closed.is_set():
            stop = self._stop = threading.Event()
            if self._closed.is_set():
                stop.set()  # closed in between
            try:
                self._run(stop)
                over = not stop.is_set()
                self.problem = "every source has ended" if over else ""
            except GadError as error:
                self.problem = error.message
                self._log(f"the line broke off: {error}; it is begun again")
                stop.wait(_TRY_AGAIN)
                continue
            if over:
                stop.wait()

    def _run(self, stop: threading.Event) -> None:
        line = self._read()
        self.problem = ""
        with self._lock:
            self._drop_of_others()
        infer(
            self.model.current.predictor.session,
            [self._watched(stream) for stream in line.streams],
            sinks=[
                *open_outputs(line.sinks, state=line.state, log=self._log),
                self.latest,
                self._review,
            ],
            batch_size=line.batch or 1,
            max_wait=MAX_WAIT if line.max_wait is None else line.max_wait,
            stop=stop,
            observers=[self],
            on_problem=self._log,
        )

    def _watched(self, stream: Stream) -> Stream:
        values = {field.name: getattr(stream, field.name) for field in dataclasses.fields(stream)}
        with self._lock:
            self._rules[stream.name] = stream
        return _WatchedStream(**values, begun=lambda monitor: self._begun(stream.name, monitor))

    def _begun(self, name: str, monitor: StreamMonitor) -> None:
        with self._lock:
            self._monitors[name] = monitor
            self._apply(name)

    def _apply(self, name: str) -> None:
        """Give a stream's monitor the threshold in force; the lock is held."""
        rule = self._rules[name].rule
        threshold = self._thresholds.get(name, rule.threshold)
        self._monitors[name].set_rule(dataclasses.replace(rule, threshold=threshold))

    def _check(self, line: Line) -> None:
        """Find at the start what could not be run."""
        for stream in line.streams:
            stream.rule.check(self.model.current.predictor.spec)
            self._rules[stream.name] = stream


def _kept(file: Path) -> tuple[str, dict[str, float]]:
    """The version of a file and its thresholds; none where it is not there."""
    if not file.exists():
        return "", {}
    found = read_json(file)
    numbers = found.get("thresholds") if isinstance(found, dict) else None
    if not isinstance(numbers, dict) or not all(
        type(value) in (int, float) and math.isfinite(value) for value in numbers.values()
    ):
        raise ArtifactError(f"{file}: expected thresholds by stream", remedy="remove the file")
    kept = {str(name): float(value) for name, value in numbers.items()}
    return str(found.get("version")), kept
