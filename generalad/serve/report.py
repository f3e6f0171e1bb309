"""The report of a shift as one HTML file, without scripts; a browser prints it as PDF."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from generalad.metrics.page import header, page
from generalad.serve.audit import Audit
from generalad.serve.models import Model
from generalad.serve.review import Review
from generalad.serve.tally import Tally

_SAID = ("by", "what", "subject", "before", "after")
_COUNTED = ("images", "anomalous", "events", "not scored", "faults", "drifts")


def shift_report(
    tally: Tally, review: Review, audit: Audit, models: Sequence[Model], now: float, hours: int
) -> str:
    """What happened in the last hours.

    Args:
        tally: counts of each stream, by whole hours.
        review: verdicts; those on images of these hours count.
        audit: decisions of these hours.
        models: that serve now.
        now: seconds since 1970.
        hours: how many.
    """
    began = (now // 3600 - hours + 1) * 3600
    counts, judged = tally.since(began), [e for e in review.entries() if e["time"] >= began]
    streams = sorted({stream for stream, _ in counts} | {entry["stream"] for entry in judged})
    facts = {
        "from": _clock(began),
        "to": _clock(now),
        "images": str(sum(counts.get((stream, "images"), 0) for stream in streams)),
        "false alarms": str(sum(map(_is_false_alarm, judged))),
        "misses found": str(sum(map(_is_miss, judged))),
    }
    rows = [
        [
            stream,
            *(str(counts.get((stream, what), 0)) for what in _COUNTED),
            *_verdicts([entry for entry in judged if entry["stream"] == stream]),
        ]
        for stream in streams
    ]
    heads = ("stream", *_COUNTED, "reviewed", "to review", "false alarms", "misses")
    body = (
        header("Shift report", f"The last {hours} h", facts)
        + "<h2>Streams</h2>"
        + _table(heads, rows)
        + "<p>False alarms were stopped and then called good; misses passed and were called"
        " defective. Both are of the images that somebody reviewed.</p>"
        + "<h2>Models</h2>"
        + _table(
            ("model", "version", "threshold", "self-test"),
            [
                [
                    model.name,
                    model.current.name,
                    f"{model.current.predictor.spec.thresholds.image:.4g}",
                    model.current.selftest.in_words(),
                ]
                for model in models
            ],
        )
        + "<h2>Decisions</h2>"
        + _table(
            ("time", *_SAID),
            [
                [_clock(entry["time"]), *(_text(entry[n]) for n in _SAID)]
                for entry in audit.since(began)
            ],
        )
    )
    return page("Shift report", body, ("generalad.serve", "report.css"))


def _is_false_alarm(entry: dict[str, Any]) -> bool:
    return bool(entry["anomalous"]) and entry["verdict"] == "good"


def _is_miss(entry: dict[str, Any]) -> bool:
    return not entry["anomalous"] and entry["verdict"] == "defective"


def _verdicts(entries: Sequence[dict[str, Any]]) -> list[str]:
    waiting = sum(entry["verdict"] is None for entry in entries)
    found = (len(entries) - waiting, waiting, sum(map(_is_false_alarm, entries)))
    return [*map(str, found), str(sum(map(_is_miss, entries)))]


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """All texts are escaped."""

    def row(cells: Sequence[str], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells)

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<table><thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"
