"""`Review`: images that a person should judge, their verdicts, and what these are good for.

    events, borderline images ──► review/ ─┬ good ─────► reviewed/CLASS/train/good/
                                           └ defective ► reviewed/CLASS/test/defective/

Good ones are for `gad calibrate`. Defective ones are a test set, with which a new version is also
checked before it serves.

An entry of review/ is a folder: entry.json, image.png (as the camera gave it), overlay.jpg. The
folder reviewed/ has the layout of MVTec AD and is never shortened.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.decision import Result
from generalad.errors import GadError, GateError, StorageError, UsageError
from generalad.files import atomic_write, write_json
from generalad.overlay import draw
from generalad.predictor import Predictor
from generalad.progress import Log
from generalad.runtime.names import safe_name, utc_stamp
from generalad.runtime.notification import Notification
from generalad.runtime.sinks.bounded_folder import BoundedFolder, Bounds
from generalad.runtime.sinks.overlays import encode
from generalad.runtime.sources import Frame, Source
from generalad.serve.audit import Audit
from generalad.spec import Spec

Verdict = Literal["good", "defective"]

BORDERLINE = 0.15
"""Distance of a normalised score from the threshold, 0.5, up to which an image is borderline."""

EVERY = 10.0
"""Seconds between two borderline images of a stream."""

KEPT = 500
"""Entries; the oldest go first, whether they were judged or not."""

_MOST_CHECKED = 200
"""Confirmed defects, the newest, that a new version is checked with."""

_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("kind", "stream", "class"), str),
    **dict.fromkeys(("time", "score", "normalised"), (int, float)),
    **dict.fromkeys(("anomalous", "acknowledged"), bool),
}
"""What the page and the report need of an entry."""

_NAMES = r"\d{8}T\d{6}\.\d{3}Z-(event|borderline)-.*"
_PLACES: dict[Verdict, tuple[str, str]] = {
    "good": ("train", "good"),
    "defective": ("test", "defective"),
}


class Review:
    """The entries and verdicts; a sink of the line, and asked by the service in other threads."""

    needs_image = True

    def __init__(
        self,
        folder: Path,
        audit: Audit,
        *,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the folders over; raises StorageError or UsageError where that fails."""
        self._kept = BoundedFolder(
            folder / "review", _NAMES, Bounds(number=KEPT), log=log, clock=clock
        )
        self._kept.open()
        self._reviewed, self._audit = folder / "reviewed", audit
        self._lock, self._deciding = threading.Lock(), threading.Lock()
        self._last: dict[str, float] = {}
        self._spec: Spec | None = None
        self._entries: dict[str, dict[str, Any]] = {}
        for path in sorted((folder / "review").glob("*/entry.json")):
            if (entry := _entry_of(path)) is not None:
                self._entries[path.parent.name] = entry

    # A sink

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """A run begins."""
        self._spec = spec

    def write(self, frame: Frame, result: Result, anomaly_map: NDArray[np.float32] | None) -> None:
        """Keep an image near the threshold, if one is due."""
        if frame.image is None or anomaly_map is None or result.normalised is None:
            return
        if abs(result.normalised - 0.5) > BORDERLINE or result.fault is not None:
            return
        now, last = time.monotonic(), self._last.get(frame.source)
        if last is not None and now - last < EVERY:
            return
        self._last[frame.source] = now
        said = {
            "index": frame.index,
            "score": result.score,
            "normalised": result.normalised,
            "anomalous": result.anomalous,
        }
        self._add("borderline", frame.source, frame.time, frame.image, anomaly_map, said)

    def notification(self, notification: Notification) -> None:
        """Keep the peak of an event when it ends."""
        if notification.kind != "event" or notification.evidence is None:
            return
        peak, data = notification.data["peak"], notification.data
        said = {
            "index": peak["index"],
            "score": peak["score"],
            "normalised": peak["normalised"],
            "anomalous": True,
            "event": data["event"],
            "begin": data["begin"],
            "end": data["end"],
            "frames": data["frames"],
        }
        evidence = notification.evidence
        self._add(
            "event", notification.stream, peak["time"], evidence.image, evidence.anomaly_map, said
        )

    def close(self, *, complete: bool) -> None:
        """A run ends; entries can still be judged."""

    def end(self) -> None:
        """Leave the folder to others."""
        self._kept.close()

    # What people ask and say

    def entries(self) -> list[dict[str, Any]]:
        """All, newest first."""
        with self._lock:
            return [dict(entry) for entry in reversed(list(self._entries.values()))]

    def entry(self, name: str) -> dict[str, Any] | None:
        """One, by its name among those there are."""
        with self._lock:
            found = self._entries.get(name)
            return None if found is None else dict(found)

    def picture(self, name: str, kind: Literal["image.png", "overlay.jpg"]) -> bytes | None:
        """The file of an entry; None where there is none of that name, or it has gone."""
        with self._lock:
            if name not in self._entries:
                return None
        return _content(self._kept.path / name / kind)

    def judge(
        self, name: str, verdict: Verdict | None, *, by: str, undoes: int | None = None
    ) -> dict[str, Any]:
        """Say whether an image shows a good or a defective part; None takes that back.

        Raises:
            UsageError: no entry of that name.
            StorageError: it cannot be written; then the old verdict holds.
        """
        with self._deciding:  # of two that judge it at once the second one sees the first
            entry = self._known(name)
            if entry["verdict"] == verdict:
                return entry
            before: Verdict | None = entry["verdict"]

            def write_down() -> None:
                self._audit.add("verdict", name, before=before, after=verdict, by=by, undoes=undoes)

            if verdict is None:
                write_down()
            else:
                self._put(name, entry, verdict, write_down)
            if before is not None:
                self._place(name, entry, before).unlink(missing_ok=True)
            return self._change(entry, verdict=verdict)

    def acknowledge(
        self, name: str, seen: bool, *, by: str, undoes: int | None = None
    ) -> dict[str, Any]:
        """Say that an event was seen; errors as in `judge`."""
        with self._deciding:
            entry = self._known(name)
            if entry["acknowledged"] == seen:
                return entry
            self._audit.add(
                "acknowledge", name, before=entry["acknowledged"], after=seen, by=by, undoes=undoes
            )
            return self._change(entry, acknowledged=seen)

    def check(self, old: Predictor, new: Predictor) -> None:
        """Refuse a version that misses confirmed defects which the old one finds.

        Raises:
            GateError: naming how many, and the first.
        """
        folder = self._reviewed / old.spec.class_name
        paths = sorted(folder.joinpath(*_PLACES["defective"]).glob("*.png"))[-_MOST_CHECKED:]
        missed = [path.name for path in paths if _found(old, path) and not _found(new, path)]
        if missed:
            raise GateError(
                f"{len(missed)} of {len(paths)} confirmed defects would be missed that are found"
                f" now, such as {missed[0]}",
                remedy="calibrate or train again, with what was reviewed",
            )

    def _add(
        self,
        kind: str,
        stream: str,
        moment: float,
        image: NDArray[np.uint8],
        anomaly_map: NDArray[np.float32],
        said: dict[str, Any],
    ) -> None:
        assert self._spec is not None
        spec = self._spec
        name = f"{utc_stamp(moment)}-{kind}-{said['index']:09d}-{safe_name(stream)}"
        entry = {
            "name": name,
            "kind": kind,
            "stream": stream,
            "time": moment,
            "class": spec.class_name,
            "threshold": spec.thresholds.image,
            "verdict": None,
            "acknowledged": False,
            **said,
        }

        def write(place: Path) -> None:
            place.mkdir()
            write_json(place / "entry.json", entry)
            (place / "image.png").write_bytes(encode(image, ".png"))
            marked = encode(draw(image, anomaly_map, spec), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90])
            (place / "overlay.jpg").write_bytes(marked)

        if self._kept.add(name, write):
            with self._lock:
                self._entries[name] = entry
                for gone in list(self._entries)[: max(0, len(self._entries) - KEPT)]:
                    del self._entries[gone]

    def _known(self, name: str) -> dict[str, Any]:
        entry = self.entry(name)
        if entry is None:
            raise UsageError(f"there is nothing to review of the name {name[:80]!r}")
        return entry

    def _change(self, before: dict[str, Any], **changes: Any) -> dict[str, Any]:
        entry, name = {**before, **changes}, before["name"]
        with self._lock:
            if name in self._entries:  # newer ones may have taken its place meanwhile
                self._entries[name] = entry
        with contextlib.suppress(GadError):  # the trail has it
            if (self._kept.path / name).is_dir():
                write_json(self._kept.path / name / "entry.json", entry)
        return dict(entry)

    def _place(self, name: str, entry: dict[str, Any], verdict: Verdict) -> Path:
        part, label = _PLACES[verdict]
        return self._reviewed / safe_name(entry["class"]) / part / label / f"{name}.png"

    def _put(
        self, name: str, entry: dict[str, Any], verdict: Verdict, write_down: Callable[[], None]
    ) -> None:
        """Copy the image to where images of a verdict lie, unless it cannot be written down."""
        place = self._place(name, entry, verdict)
        data = _content(self._kept.path / name / "image.png")
        if data is None:
            raise StorageError(f"the image of {name} has gone")
        with atomic_write(place) as temporary:
            temporary.write_bytes(data)
            write_down()


def _content(path: Path) -> bytes | None:
    """Of a file that this class wrote; a link or pipe that somebody put in its place is none."""
    try:
        opened = os.open(path, os.O_RDONLY | _PLAIN)
    except OSError:
        return None
    with open(opened, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(opened).st_mode) else None


def _entry_of(path: Path) -> dict[str, Any] | None:
    """An entry.json that was written here; None for anything else."""
    data = _content(path)
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(data or b"")
        if (
            isinstance(found, dict)
            and found.get("name") == path.parent.name
            and found.get("verdict") in (None, *_PLACES)
            and all(isinstance(found.get(name), kind) for name, kind in _FIELDS.items())
        ):
            return found
    return None


def _found(predictor: Predictor, path: Path) -> bool:
    found = predictor.predict(path)
    if found.raw_map is None:  # where the part is not found it is refused, so nothing passes
        return found.error is None
    return found.is_anomalous
