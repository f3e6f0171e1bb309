"""The report as a comment on a pull request: the verdict first, the rest folded."""

from __future__ import annotations

import html
import re

from generalad.bench.outputs import wording
from generalad.bench.record import Estimate, Report, Times, Verdict

_SIGN: dict[Verdict | None, str] = {
    "slower": "🔴",
    "not slower": "⚪",
    "same": "⚪",
    "faster": "🟢",
    "cannot tell": "🟡",
    None: "📏",
}
_GATE_SIGN = {True: "✅", False: "❌", None: "❔"}


def markdown(report: Report) -> str:
    """GitHub's Markdown, with a line feed at the end."""
    parts = [_headline(report), _gates(report), _notes(report), _short_table(report)]
    return "\n\n".join(part for part in [*parts, _details(report)] if part) + "\n"


def _headline(report: Report) -> str:
    head = f"{_SIGN[report.verdict]} {report.verdict or 'measured'}"
    if report.refusal:
        head = "🚫 refused"
    words = [_plain(text) for text in (report.sentence, report.refusal) if text]
    return "\n\n".join([f"### {head}: {_code(wording.title(report))}", *words])


def _gates(report: Report) -> str:
    return "\n".join(
        f"- {_GATE_SIGN[gate.passed]} {_plain(wording.gate_in_words(gate))}"
        for gate in report.gates
    )


def _notes(report: Report) -> str:
    soak = [wording.soak_in_words(report.soak)] if report.soak else []
    return "\n".join(f"- {_plain(note)}" for note in (*soak, *report.notes))


def _short_table(report: Report) -> str:
    """Medians of every stage; of a comparison the change besides, else p95."""
    rows = wording.stage_rows(report)
    if not report.comparisons:
        cells = [[row.stage, _median(row.new), _p95(row.new)] for row in rows]
        return _table(["ms an image", "median", "p95"], cells)
    old = ["old"] if report.old else []
    cells = [
        [row.stage, *([_median(row.old)] if old else []), _median(row.new), *_change(row)]
        for row in rows
    ]
    return _table(["ms an image", *old, "new", "change", "95 % interval", ""], cells)


def _change(row: wording.StageRow) -> list[str]:
    found = row.comparison
    if found is None:
        return ["", "", ""]
    return [wording.change(found.ratio), wording.change_interval(found.ratio), found.verdict]


def _details(report: Report) -> str:
    parts = [_quantiles(report), _facts(report), "\n".join(f"- {line}" for line in _lines(report))]
    inside = "\n\n".join(parts)
    return f"<details>\n<summary>Details</summary>\n\n{inside}\n\n</details>"


def _quantiles(report: Report) -> str:
    rows = []
    for row in wording.stage_rows(report):
        for name, times in (("old", row.old), ("new", row.new)):
            if times is not None:
                cells = [_full(one) for one in (times.median, times.p90, times.p95, times.p99)]
                label = [row.stage, name] if report.old else [row.stage]
                rows.append([*label, *cells, str(times.samples)])
    label = ["stage", "side"] if report.old else ["stage"]
    return _table([*label, "median", "p90", "p95", "p99", "runs"], rows)


def _facts(report: Report) -> str:
    if report.old is None:
        return _table(["", ""], [[fact.name, fact.new] for fact in wording.facts(report)])
    return _table(
        ["", "old", "new"], [[fact.name, fact.old, fact.new] for fact in wording.facts(report)]
    )


def _lines(report: Report) -> list[str]:
    machine = wording.machine_in_words(report.machine)
    lines = [f"machine: {machine}", f"settings: {wording.settings_in_words(report)}"]
    for name, side in (("new", report.new), ("old", report.old)):
        if side is not None:
            ran = f"{side.precision} on {side.backend}, SHA-256 {side.sha256[:12]}"
            lines.append(f"{name}: {wording.side_name(side)}, {ran}")
    lines += wording.small_print(report)
    lines.append(f"generalad {report.version}, {report.when}")
    return [_plain(line) for line in lines]


def _median(times: Times | None) -> str:
    if times is None:
        return ""
    return f"{wording.number(times.median.value)} {wording.spread(times.median)}".rstrip()


def _p95(times: Times | None) -> str:
    return wording.number(times.p95.value) if times and times.p95 else ""


def _full(estimate: Estimate | None) -> str:
    return wording.with_interval(estimate) if estimate else "too few runs"


def _table(names: list[str], rows: list[list[str]]) -> str:
    """First column to the left, numbers to the right; `total` in bold."""
    rule = ["---", *["---:"] * (len(names) - 1)]
    lines = [names, rule]
    for row in rows:
        cells = [_plain(cell) for cell in row]
        bold = row[0] == "total"
        lines.append([f"**{cell}**" if bold and cell else cell for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    """As inline code, whatever is in it."""
    inside = " ".join(text.split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    pad = " " if "`" in inside else ""
    return f"{ticks}{pad}{inside}{pad}{ticks}"


def _plain(text: str) -> str:
    """As text: nothing in it is markup, a mention of somebody or a link to an issue."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    escaped = re.sub(r"([\\`*_\[\]|~])", r"\\\1", escaped)
    return re.sub(r"([@#])(?=\w)", r"\1<!-- -->", escaped)
