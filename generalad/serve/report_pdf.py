"""`to_pdf`: the report of a shift on pages of A4, with matplotlib: text, counts and charts.

Texts are embedded as text, so that they can be searched and copied.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from generalad.errors import require_extra
from generalad.printable import one_line
from generalad.serve.report import EXPLAINED, Shift, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _MARGIN = 8.27, 11.69, 0.6
"""Inches."""

_LINE, _CHART = 0.19, 1.5
_MOST_CHARTS = 20
_STREAMS = (2, 0.9, 1.2, 0.9, 1.2, 0.8, 0.8, 1.1, 1.2, 1.4, 0.9)
"""Widths of the columns of that table, as shares."""

_INK, _DIM, _RULE, _BAR, _ALARM = "#17212b", "#596673", "#d6dde3", "#8fb8c6", "#b3261e"
_ONE_AT_A_TIME = threading.Lock()
"""matplotlib's settings and fonts are shared by all threads."""


def to_pdf(found: Shift) -> bytes:
    """The file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_extra("the shift report as PDF", "pdf", "matplotlib")
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    file = io.BytesIO()
    with _ONE_AT_A_TIME, warnings.catch_warnings(), matplotlib.rc_context({"pdf.fonttype": 42}):
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        with PdfPages(file, metadata={"Title": "Shift report", "Creator": "gad"}) as pages:
            sheet = _Sheet(pages)
            sheet.text("Shift report", size=10, colour=_DIM)
            sheet.text(f"The last {found.hours} h", size=20, weight="bold")
            sheet.facts(found.facts)
            sheet.table(found.streams, _STREAMS)
            for sentence in EXPLAINED:
                sheet.text(sentence, size=7.5, colour=_DIM)
            for stream, counts in list(found.hourly.items())[:_MOST_CHARTS]:
                sheet.chart(stream, counts, found.began)
            sheet.table(found.models, (1.5, 1.8, 1, 6))
            sheet.table(found.decisions, (2.1, 1.3, 1.5, 4, 1.2, 1.2))
            sheet.end()
    return file.getvalue()


class _Sheet:
    """Pages that are written from top to bottom; a new one begins where there is no room."""

    def __init__(self, pages: Any) -> None:
        self._pages, self._number = pages, 0
        self._figure: Figure | None = None
        self._left = 0.0

    def text(self, text: str, *, size: float, colour: str = _INK, weight: str = "normal") -> None:
        """One line."""
        self._room(size / 50)
        self._put(0, text, size=size, colour=colour, weight=weight)
        self._left -= size / 45

    def facts(self, facts: Any) -> None:
        """Names over values, side by side."""
        self._room(3 * _LINE)
        place = 0.0
        for name, value in facts.items():
            self._put(place, name, size=7.5, colour=_DIM)
            self._put(place, value, size=9.5, weight="bold", below=_LINE)
            place += 0.35 + 0.085 * max(len(name), len(value))
        self._left -= 2.6 * _LINE

    def table(self, table: Table, widths: Sequence[float]) -> None:
        """With its heads again on each page."""
        self._room(5 * _LINE)
        self._left -= 0.5 * _LINE
        self.text(table.title, size=12, weight="bold")
        unit = (_WIDTH - 2 * _MARGIN) / sum(widths)
        self._row(table.heads, widths, unit, colour=_DIM)
        for row in table.rows or [["none", *[""] * (len(table.heads) - 1)]]:
            if self._room(1.2 * _LINE):
                self._row(table.heads, widths, unit, colour=_DIM)
            self._row(row, widths, unit)
        self._left -= 0.6 * _LINE

    def chart(self, stream: str, counts: Sequence[tuple[int, int]], began: float) -> None:
        """Images of each hour, and the anomalous ones of them."""
        from matplotlib.ticker import MaxNLocator

        self._room(_CHART + 3 * _LINE)
        self._left -= 0.4 * _LINE
        self.text(f"{stream}: images an hour, anomalous ones in red", size=9, weight="bold")
        assert self._figure is not None
        bottom = self._left - _CHART
        axes = self._figure.add_axes(
            (
                (_MARGIN + 0.45) / _WIDTH,
                bottom / _HEIGHT,
                1 - (2 * _MARGIN + 0.45) / _WIDTH,
                _CHART / _HEIGHT,
            )
        )
        hours = range(len(counts))
        axes.bar(hours, [images for images, _ in counts], color=_BAR, width=0.85, linewidth=0)
        axes.bar(hours, [alarms for _, alarms in counts], color=_ALARM, width=0.85, linewidth=0)
        every = max(1, len(counts) // 8)
        axes.set_xticks(
            list(hours)[::every],
            [_hour(began + 3600 * hour, len(counts)) for hour in list(hours)[::every]],
        )
        axes.set_xlim(-0.6, len(counts) - 0.4)
        axes.set_ylim(0, max(1, *(images for images, _ in counts)) * 1.05)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.tick_params(labelsize=7, colors=_DIM, length=2)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(_RULE)
        self._left = bottom - 2.2 * _LINE

    def end(self) -> None:
        """Keep the last page."""
        if self._figure is not None:
            self._pages.savefig(self._figure)
        self._figure = None

    def _room(self, inches: float) -> bool:
        """Begin a page where so much is not left; whether it did."""
        if self._figure is not None and self._left - inches >= _MARGIN:
            return False
        from matplotlib.figure import Figure

        self.end()
        self._figure, self._left = Figure(figsize=(_WIDTH, _HEIGHT)), _HEIGHT - _MARGIN
        self._number += 1
        self._figure.text(
            1 - _MARGIN / _WIDTH, _MARGIN / 2 / _HEIGHT, str(self._number),
            fontsize=7.5, color=_DIM, ha="right",
        )  # fmt: skip
        return True

    def _row(
        self, cells: Sequence[str], widths: Sequence[float], unit: float, colour: str = _INK
    ) -> None:
        start = 0.0
        for cell, width in zip(cells, widths, strict=True):
            self._put(start, _cut(cell, width * unit), size=7, colour=colour)
            start += width * unit
        assert self._figure is not None
        from matplotlib.lines import Line2D

        height = (self._left - 0.78 * _LINE) / _HEIGHT
        ends = [_MARGIN / _WIDTH, 1 - _MARGIN / _WIDTH]
        self._figure.add_artist(Line2D(ends, [height, height], color=_RULE, linewidth=0.5))
        self._left -= 1.1 * _LINE

    def _put(
        self, right: float, text: str, *, size: float, colour: str = _INK,
        weight: str = "normal", below: float = 0.0,
    ) -> None:  # fmt: skip
        assert self._figure is not None
        self._figure.text(
            (_MARGIN + right) / _WIDTH, (self._left - below) / _HEIGHT, one_line(text),
            fontsize=size, color=colour, fontweight=weight, va="top", parse_math=False,
        )  # fmt: skip


def _cut(text: str, inches: float) -> str:
    """As much of a text as fits, by the usual width of a letter of 7 points."""
    most = max(3, int(inches / 0.057))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _hour(moment: float, hours: int) -> str:
    return datetime.fromtimestamp(moment).strftime("%H:%M" if hours <= 48 else "%d.%m. %Hh")
