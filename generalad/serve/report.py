"""What happened in a shift, and its HTML file without scripts; `report_pdf` makes the PDF."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from generalad.metrics.page import header, page
from generalad.serve.audit import Audit
from generalad.serve.models import Model
from generalad.serve.review import Review
from generalad.serve.tally import Tally

_SAID = ("by", "what", "subject", "before", "after")
_COUNTED = ("images", "anomalous", "events", "not scored", "faults", "drifts")

EXPLAINED = (
    "False alarms were stopped and then called good; misses passed and were called defective.",
    "Both are of the images that somebody reviewed.",
)

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Table:
    """A table of texts under a heading; nothing in it is markup."""

    title: str
    heads: Sequence[str]
    rows: Rows


@dataclass(frozen=True)
class Shift:
    """What happened in some hours.

    Attributes:
        hours: how many.
        began: seconds since 1970, at a full hour.
        facts: what counts most, by name.
        streams: counts of each.
        models: that serve.
        decisions: of people and the fleet, oldest first.
        hourly: images and anomalous ones of each stream and hour, from `began` on.
    """

    hours: int
    began: float
    facts: Mapping[str, str]
    streams: Table
    models: Table
    decisions: Table
    hourly: Mapping[str, Sequence[tuple[int, int]]]


def shift(
    tally: Tally, review: Review, audit: Audit, models: Sequence[Model], now: float, hours: int
) -> Shift:
    """What happened in the last hours.

    Args:
        tally: counts of each stream, by whole hours.
        review: verdicts; those on images of these hours count.
        audit: decisions of these hours.
        models: that serve now.
        now: seconds since 1970.
        hours: how many.
    """
    last = int(now // 3600)
    first = last - hours + 1
    began = first * 3600.0
    # Hours to come are there where the clock was set back.
    by_hour = {key: count for key, count in tally.since(began).items() if key[0] <= last}
    judged = [entry for entry in review.entries() if began <= entry["time"] < (last + 1) * 3600]
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for (_, stream, what), count in by_hour.items():
        counts[stream, what] += count
    streams = sorted({stream for stream, _ in counts} | {entry["stream"] for entry in judged})
    return Shift(
        hours=hours,
        began=began,
        facts={
            "from": _clock(began),
            "to": _clock(now),
            "images": str(sum(counts[stream, "images"] for stream in streams)),
            "false alarms": str(sum(map(_is_false_alarm, judged))),
            "misses found": str(sum(map(_is_miss, judged))),
        },
        streams=Table(
            "Streams",
            ("stream", *_COUNTED, "reviewed", "to review", "false alarms", "misses"),
            [
                [
                    stream,
                    *(str(counts[stream, what]) for what in _COUNTED),
                    *_verdicts([entry for entry in judged if entry["stream"] == stream]),
                ]
                for stream in streams
            ],
        ),
        models=_models(models),
        decisions=Table(
            "Decisions",
            ("time", *_SAID),
            [[_clock(entry["time"]), *_decision(entry)] for entry in audit.since(began)],
        ),
        hourly={
            stream: [
                (
                    by_hour.get((hour, stream, "images"), 0),
                    by_hour.get((hour, stream, "anomalous"), 0),
                )
                for hour in range(first, first + hours)
            ]
            for stream in streams
        },
    )


def to_html(found: Shift) -> str:
    """One file, which a browser prints too."""
    body = (
        header("Shift report", f"The last {found.hours} h", found.facts)
        + _table(found.streams)
        + f"<p>{' '.join(EXPLAINED)}</p>"
        + _table(found.models)
        + _table(found.decisions)
    )
    return page("Shift report", body, ("generalad.serve", "report.css"))


def _models(models: Sequence[Model]) -> Table:
    return Table(
        "Models",
        ("model", "version", "threshold", "self-test"),
        [
            [
                model.name,
                model.current.name,
                f"{model.current.predictor.spec.thresholds.image:.4g}",
                model.current.selftest.in_words().removeprefix(f"{model.current.name}: "),
            ]
            for model in models
        ],
    )


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


def _decision(entry: dict[str, Any]) -> list[str]:
    what = entry["what"] if entry["undoes"] is None else f"undo of {entry['what']}"
    return [_text({**entry, "what": what}[name]) for name in _SAID]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _table(table: Table) -> str:
    """All texts are escaped."""

    def row(cells: Iterable[str], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells)

    rows = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    if not table.rows:
        rows = f'<tr><td colspan="{len(table.heads)}">none</td></tr>'
    return (
        f"<h2>{table.title}</h2><table><thead><tr>{row(table.heads, 'th')}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
