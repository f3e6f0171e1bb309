"""The table of a reproduction: a row a class, their mean, and the published numbers below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generalad.config import Config
from generalad.reproduction.recipes import PublishedRow
from generalad.reproduction.runs import PROTOCOLS, Protocol, RunResult

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


@dataclass(frozen=True)
class Reproduction:
    """A table with all that it was made of.

    Attributes:
        data_set: key of the data set.
        title: of the table.
        method: see `Config`.
        backbone: "small", "base" or "large"; empty for a method with one backbone.
        protocol: how the epoch was chosen.
        one_anomalous: whether one class is anomalous, not normal.
        source: of the settings.
        config: of the first seed.
        changes: settings that are not the recipe's.
        all_classes: of the recipe.
        results: one for each class and seed.
        published: what others measured, our method and backbone first.
        folder: that holds report.html, table.md, table.json and the runs.
    """

    data_set: str
    title: str
    method: str
    backbone: str
    protocol: Protocol
    one_anomalous: bool
    source: str
    config: Config
    changes: dict[str, Any]
    all_classes: tuple[str, ...]
    results: tuple[RunResult, ...]
    published: tuple[PublishedRow, ...]
    folder: Path


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, 0...1, and its standard deviation; None for one seed."""

    mean: float
    spread: float | None

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {100 * self.spread:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


@dataclass(frozen=True)
class Row:
    """A class, or all of them: figures by the keys of `METRICS`, and the epochs that were taken."""

    name: str
    figures: dict[str, Figure | None]
    epochs: str


def rows_of(done: Reproduction) -> list[Row]:
    """One for each class in the order of the results, and at the end their mean."""
    results = done.results
    names = list(dict.fromkeys(result.class_name for result in results))
    rows = []
    for name in names:
        own = [result for result in results if result.class_name == name]
        figures = {key: _figure([_value(one, key) for one in own]) for key in METRICS}
        epochs = dict.fromkeys(str(one.epoch) for one in own)
        rows.append(Row(name, figures, f"{', '.join(epochs)} of {own[0].epochs}"))
    seeds = list(dict.fromkeys(result.seed for result in results))
    means = {
        key: _figure([_mean(_value(one, key) for one in results if one.seed == s) for s in seeds])
        for key in METRICS
    }
    return [*rows, Row("mean", means, "")]


def notes(done: Reproduction) -> list[str]:
    """What a reader must know of the figures, a line each; the protocol comes first."""
    results = done.results
    classes = list(dict.fromkeys(result.class_name for result in results))
    seeds = list(dict.fromkeys(result.seed for result in results))
    several = ": mean ± standard deviation over seeds" if len(seeds) > 1 else ""
    lines = [
        f"Protocol {done.protocol}: {PROTOCOLS[done.protocol]}.",
        f"{_plural(len(seeds), 'seed')} ({', '.join(map(str, seeds))}){several}; in percent.",
        f"Settings of {done.source}; for the threshold, which the paper does without,"
        f" {_held_out(done.config)} held out.",
    ]
    if done.one_anomalous:
        lines.append("Each class in turn is the anomalous one, all others are normal.")
    if done.changes:
        changed = ", ".join(f"{key} = {value}" for key, value in done.changes.items())
        lines.append(f"Not the published settings: {changed}.")
    if len(classes) < len(done.all_classes):
        lines.append(
            f"{len(classes)} of {len(done.all_classes)} classes; published means are over all."
        )
    lines += dict.fromkeys(f"Not whole: {one.incomplete}." for one in results if one.incomplete)
    other = [
        *(["on all training images"] if done.config.shots else []),
        *(["with one normal class at a time"] if done.one_anomalous else []),
    ]
    if done.published and other:
        lines.append(f"Published means are {' and '.join(other)}: not the same measurement.")
    lines += dict.fromkeys(
        f"Published: {row.source}; those of GeneralAD are of the best epoch on the test set."
        for row in done.published
    )
    return lines


def markdown(done: Reproduction) -> str:
    """The table as Markdown."""
    lines = [f"# {done.title}", ""]
    lines += _markdown_table(["class", *METRICS.values(), "epoch"], list(map(cells, rows_of(done))))
    if done.published:
        heading = ["published", *list(METRICS.values())[:2]]
        lines += [
            "",
            *_markdown_table(heading, [published_cells(row) for row in done.published]),
        ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(done))]) + "\n"


def cells(row: Row) -> list[str]:
    """A row as text."""
    return [row.name, *(_shown(row.figures[key]) for key in METRICS), row.epochs]


def published_cells(row: PublishedRow) -> list[str]:
    """A published row as text: title, image and pixel AUROC."""
    shown = [
        "-" if value is None else f"{value:.1f}" for value in (row.image_auroc, row.pixel_auroc)
    ]
    return [row.title + (" (this method)" if row.same else ""), *shown]


def to_json(done: Reproduction) -> dict[str, Any]:
    """Everything as plain values; AUROC and AUPRO 0...1, but published numbers in percent."""
    return {
        "data_set": done.data_set,
        "method": done.method,
        "backbone": done.backbone or None,
        "protocol": done.protocol,
        "protocol_rule": PROTOCOLS[done.protocol],
        "one_anomalous": done.one_anomalous,
        "settings": done.config.to_dict(),
        "changed_settings": done.changes,
        "rows": [
            {"class": row.name, **{k: f and asdict(f) for k, f in row.figures.items()}}
            for row in rows_of(done)
        ],
        "runs": [asdict(result) for result in done.results],
        "published_percent": [asdict(row) for row in done.published],
        "notes": notes(done),
    }


def _figure(values: Sequence[float | None]) -> Figure | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Figure(float(np.mean(known)), spread)


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _value(result: RunResult, key: str) -> float | None:
    value: float | None = getattr(result, key)
    return value


def _shown(figure: Figure | None) -> str:
    return "-" if figure is None else str(figure)


def _held_out(config: Config) -> str:
    if config.shots:
        return "the good images beside the shots are"
    return f"{config.calibration_fraction:.0%} of the good images, or the set's own, are"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


def _markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    line: Callable[[Sequence[str]], str] = lambda parts: f"| {' | '.join(parts)} |"  # noqa: E731
    return [line(heading), line(["---", *["---:"] * (len(heading) - 1)]), *map(line, rows)]
