"""The log of a training run in its own folder: a table of epochs, and a page that plots it."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import numpy as np

from generalad.files import atomic_write
from generalad.metrics.page import header, page, sheet
from generalad.metrics.plots import series
from generalad.training.loop import EpochEnd

LOG_FILE, PLOT_FILE = "training.csv", "training.html"
COLUMNS = ("loss", "learning_rate", "separation")
"""After the number of the epoch, or of the step of a method without epochs."""
REDRAWN_S = 10.0
"""Seconds after which the page is drawn anew while training goes on."""

_PLOTS = {
    "loss": "Mean loss",
    "learning_rate": "Learning rate",
    "separation": "Mean logit of distorted patches minus that of clean ones",
}


class RunLog:
    """Writes both files; a run that goes on after a kill goes on in them.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.table, self.plot = folder / LOG_FILE, folder / PLOT_FILE
        self.title = folder.resolve().name
        self.rows = _read(self.table)
        self._drawn = time.monotonic()
        self._unit, self._of = "epoch", 0

    def epoch(self, end: EpochEnd) -> None:
        """Add a row, in place of one of an epoch that is heard of again."""
        self._unit, self._of = end.unit, end.epochs
        kept = [row for row in self.rows if row[0] < end.number]
        separation = float("nan") if end.separation is None else end.separation
        self.rows = [*kept, (end.number, end.loss, end.lr, separation)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([end.unit, *COLUMNS])
        writer.writerows(
            [int(number), *("" if np.isnan(value) else f"{value:.6g}" for value in values)]
            for number, *values in self.rows
        )
        with atomic_write(self.table) as path:
            path.write_text(text.getvalue(), encoding="utf-8")
        if time.monotonic() - self._drawn >= REDRAWN_S:
            self._draw()

    def close(self) -> None:
        """Draw the page."""
        if self.rows:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        values = np.array(self.rows, dtype=np.float64)
        sheets = []
        for column, (name, title) in enumerate(_PLOTS.items(), start=1):
            points = values[~np.isnan(values[:, column])][:, [0, column]]
            if len(points):
                drawn = series(points, (self._unit, name.replace("_", " ")))
                sheets.append(sheet(title, drawn))
        facts = {f"{self._unit}s".capitalize(): f"{int(self.rows[-1][0])} of {self._of}"}
        body = header("generalad training", self.title, facts) + "".join(sheets)
        with atomic_write(self.plot) as path:
            path.write_text(
                page(self.title, body, ("generalad.metrics", "report.css")),
                encoding="utf-8",
                errors="replace",
            )


def _read(path: Path) -> list[tuple[float, ...]]:
    """Rows of an earlier attempt; none of a file that is not there or damaged."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        if not lines or tuple(lines[0][1:]) != COLUMNS:
            return []
        rows = [tuple(float(cell) if cell else float("nan") for cell in line) for line in lines[1:]]
    except (OSError, ValueError):
        return []
    return [row for row in rows if len(row) == 1 + len(COLUMNS)]
