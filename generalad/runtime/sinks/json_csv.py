"""`JsonLines` and `Csv`: one line a result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from generalad.decision import Result
from generalad.progress import Log
from generalad.runtime.notification import KILLED, Notification
from generalad.runtime.sinks.sink import Map
from generalad.runtime.sinks.text_files import Lines, LogFile, PartFile, StandardOutput, text_path
from generalad.runtime.sources import Frame, LiveSource, Source
from generalad.spec import Spec

CSV_COLUMNS = (
    "source", "index", "time", "path", "score", "normalised", "anomalous", "regions", "error",
    "fault", "match",
)  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these is a formula in a spreadsheet."""


class _TextFile:
    """What sinks that write lines share."""

    needs_image = False

    def __init__(self, target: str | Path, *, log: Log | None = None) -> None:
        """`log` is told of trouble with the file of live sources, see `LogFile`."""
        self._target = str(target)
        self._log = log
        self._lines: Lines = StandardOutput()

    @property
    def lost(self) -> int:
        """Lines that could not be written to the file of live sources."""
        return self._lines.lost

    def close(self, *, complete: bool) -> None:
        """Give the file its name."""
        self._lines.close(complete=complete)


class JsonLines(_TextFile):
    """One JSON object a line, to a file or, for "-", to standard output.

    Results come as `Result.to_dict`, notifications as `Notification.to_dict`, whose first key is
    "notice".
    """

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the file's part, or go on with the file of live sources."""
        if self._target == "-":
            self._lines = StandardOutput()
        else:
            killed = list(_ends_of_killed(text_path(self._target)))
            self._lines = _open(self._target, sources, None, self._log)
            if isinstance(self._lines, LogFile):
                for end in killed:
                    self._lines.append(_json_line(end))

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one line, visible at once."""
        self._lines.append(_json_line(result.to_dict()))

    def notification(self, notification: Notification) -> None:
        """Append one line, visible at once."""
        self._lines.append(_json_line(notification.to_dict()))


class Csv(_TextFile):
    """One line a frame with a header; `regions` are their boxes as WIDTHxHEIGHT+X+Y.

    A text in every spreadsheet: numbers with blanks between them would be one number in some.
    """

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the file's part, or go on with the file of live sources, and see to the header."""
        self._lines = _open(self._target, sources, ",".join(CSV_COLUMNS), self._log)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one line, visible at once."""
        values = [getattr(result, name) for name in CSV_COLUMNS]
        boxes = (region.box for region in result.regions)
        values[CSV_COLUMNS.index("regions")] = "; ".join(f"{w}x{h}+{x}+{y}" for x, y, w, h in boxes)
        self._lines.append(_csv_line(values))


VERDICT_COLUMNS = (
    "time", "station", "verdict", "part", "outcome", "reason", "counts_as", "score",
    "milliseconds", "recipe", "detail",
)  # fmt: skip


class VerdictCsv(_TextFile):
    """One line a part of a station."""

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the file, or go on with it, and see to the header."""
        self._lines = _open(self._target, sources, ",".join(VERDICT_COLUMNS), self._log)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Single pictures have no line."""

    def notification(self, notification: Notification) -> None:
        """Append a verdict, visible at once."""
        if notification.kind == "verdict":
            known = {"time": notification.time, "station": notification.stream}
            values = {**known, **notification.data}
            self._lines.append(_csv_line([values[name] for name in VERDICT_COLUMNS]))


def _open(target: str, sources: Sequence[Source], header: str | None, log: Log | None) -> Lines:
    if any(isinstance(source, LiveSource) for source in sources):
        return LogFile(target, header, log=log)
    return PartFile(target, header)


def _json_line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _ends_of_killed(path: Path) -> Iterator[dict[str, Any]]:
    """Ends of the events that a killed process left open in a file, as receivers are told them."""
    open_events: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, ValueError, KeyError), path.open("rb") as file:
        for line in file:
            if line.startswith(b'{"notice": "event"') and line.endswith(b"}\n"):
                found = json.loads(line)
                open_events[found["event"]] = found
                if found["phase"] == "end":
                    del open_events[found["event"]]
    for event, begin in open_events.items():
        # The last frame that is known of is the one that made it an event.
        last = {"phase": "end", "end": begin["time"], "ended_by": KILLED}
        yield {**begin, "id": f"{event}-end", **last}


def _csv_line(values: Sequence[object]) -> str:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(map(_cell, values))  # quotes both in names
    return text.getvalue().removesuffix("\r\n")


def _cell(value: object) -> object:
    """What a spreadsheet takes for what it is: a text, however it begins, and no formula."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
