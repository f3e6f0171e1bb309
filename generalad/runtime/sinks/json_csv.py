"""`JsonLines` and `Csv`: one line a result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from generalad.decision import Result
from generalad.progress import Log
from generalad.runtime.notification import Notification
from generalad.runtime.sinks.sink import Map
from generalad.runtime.sinks.text_files import Lines, LogFile, PartFile, StandardOutput
from generalad.runtime.sources import Frame, LiveSource, Source
from generalad.spec import Spec

CSV_COLUMNS = (
    "source", "index", "time", "path", "score", "normalised", "anomalous", "regions", "error",
    "fault",
)  # fmt: skip


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
            self._lines = _open(self._target, sources, None, self._log)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one line, visible at once."""
        self._lines.append(json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False))

    def notification(self, notification: Notification) -> None:
        """Append one line, visible at once."""
        self._lines.append(json.dumps(notification.to_dict(), ensure_ascii=False, allow_nan=False))


class Csv(_TextFile):
    """One line a frame with a header; `regions` is their number."""

    def open(self, sources: Sequence[Source], spec: Spec) -> None:
        """Create the file's part, or go on with the file of live sources, and see to the header."""
        self._lines = _open(self._target, sources, ",".join(CSV_COLUMNS), self._log)

    def write(self, frame: Frame, result: Result, anomaly_map: Map | None) -> None:
        """Append one line, visible at once."""
        values = [getattr(result, name) for name in CSV_COLUMNS]
        values[CSV_COLUMNS.index("regions")] = len(result.regions)
        self._lines.append(_csv_line(values))


def _open(target: str, sources: Sequence[Source], header: str | None, log: Log | None) -> Lines:
    if any(isinstance(source, LiveSource) for source in sources):
        return LogFile(target, header, log=log)
    return PartFile(target, header)


def _csv_line(values: Sequence[object]) -> str:
    import csv
    import io

    text = io.StringIO()
    words = [str(value).lower() if isinstance(value, bool) else value for value in values]
    csv.writer(text, lineterminator="").writerow(words)
    return text.getvalue()
