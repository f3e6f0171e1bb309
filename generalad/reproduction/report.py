"""A reproduction as one self-contained HTML page, in the style of the evaluation's."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from generalad.files import atomic_write
from generalad.metrics.page import header, page
from generalad.metrics.plots import interval_bar
from generalad.reproduction.runs import PROTOCOLS
from generalad.reproduction.table import (
    METRICS,
    Figure,
    Reproduction,
    Row,
    cells,
    notes,
    published_cells,
    rows_of,
)


def write_report(path: Path, done: Reproduction) -> None:
    """Write the page; raises StorageError."""
    facts = {
        "Protocol": f"{done.protocol}: {PROTOCOLS[done.protocol]}",
        "Backbone": f"{done.config.backbone}, layers {', '.join(map(str, done.config.layers))}",
        "Input": " x ".join(map(str, done.config.image_size)),
        "Schedule": f"{done.config.epochs} epochs",
    }
    body = "".join(
        [
            header("generalad reproduction", done.title, facts),
            "<h2>Measured</h2>",
            _table(["class", *METRICS.values(), "epoch"], _measured(rows_of(done))),
            _published(done),
            "<h2>What these numbers are</h2>",
            "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes(done)),
        ]
    )
    whole = page(done.title, body, ("generalad.metrics", "report.css"))
    with atomic_write(path) as temporary:
        temporary.write_text(whole, encoding="utf-8", errors="replace")


def _measured(rows: Sequence[Row]) -> list[list[str]]:
    """Cells as HTML, each figure over a line from 0 to 1."""
    found = []
    for row in rows:
        name, *figures, epochs = map(html.escape, cells(row))
        bars = [_bar(row.figures[key]) for key in METRICS]
        shown = [text + bar for text, bar in zip(figures, bars, strict=True)]
        found.append([f"<b>{name}</b>" if row is rows[-1] else name, *shown, epochs])
    return found


def _bar(figure: Figure | None) -> str:
    if figure is None:
        return ""
    spread = figure.spread or 0.0
    return interval_bar(figure.mean, max(0.0, figure.mean - spread), min(1.0, figure.mean + spread))


def _published(done: Reproduction) -> str:
    if not done.published:
        return '<h2>Published</h2><p class="note">Nothing is published for this set.</p>'
    heading = ["method", *list(METRICS.values())[:2]]
    rows = [list(map(html.escape, published_cells(row))) for row in done.published]
    return "<h2>Published</h2>" + _table(heading, rows)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heading)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )
