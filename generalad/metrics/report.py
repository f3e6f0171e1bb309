"""One self-contained HTML page about an evaluation: no script, no network, safe to mail."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from generalad.files import atomic_write
from generalad.metrics.evaluate import Evaluation, ImageResult
from generalad.metrics.gallery import ReadImage, card, choose, usual_level
from generalad.metrics.page import header, legend, page
from generalad.metrics.pixel import FPR_LIMIT
from generalad.metrics.plots import curve, interval_bar, score_histogram
from generalad.metrics.ranking import Counts, count_by_threshold, thinned
from generalad.statistics import Estimate, Rate


def write_report(
    path: Path,
    evaluation: Evaluation,
    results: Sequence[ImageResult],
    *,
    title: str,
    read_image: ReadImage,
    pixel_threshold: float,
    facts: Mapping[str, str],
) -> None:
    """Write the page; `results` are those that were evaluated.

    `read_image` loads an RGB image (H, W, 3) uint8 by its result's path, for the few that are
    shown; one that cannot be read any more is replaced by a note. Raises StorageError.
    """
    images = f"{evaluation.good} good, {evaluation.defective} defective"
    body = "".join(
        [
            header("generalad evaluation", title, {"Test images": images, **facts}),
            _headline(evaluation),
            _scores(evaluation, results),
            _curves(evaluation, results),
            _defect_types(evaluation),
            _gallery(results, read_image, pixel_threshold),
            _definitions(evaluation),
        ]
    )
    whole = page(title, body, (__package__, "report.css"))
    with atomic_write(path) as temporary:
        temporary.write_text(whole, encoding="utf-8", errors="replace")


def _headline(evaluation: Evaluation) -> str:
    figures = [
        _rate_figure("Missed defects", evaluation.misses, "no defective images"),
        _rate_figure("False alarms", evaluation.false_alarms, "no good images"),
        _estimate_figure("Image AUROC", evaluation.image_auroc, _why_no_image_metric(evaluation)),
        _estimate_figure("AUPRO", evaluation.aupro, _why_no_pixel_metric(evaluation)),
    ]
    return f'<section class="headline">{"".join(figures)}</section>'


def _rate_figure(name: str, rate: Rate, why_not: str) -> str:
    if math.isnan(rate.value):
        return _figure(name, "n/a", "", why_not)
    interval = f"{rate.count} of {rate.total} · 95 %: {_percent(rate.low)} to {_percent(rate.high)}"
    bar = interval_bar(rate.value, rate.low, rate.high)
    return _figure(name, _percent(rate.value), bar, interval)


def _estimate_figure(name: str, estimate: Estimate, why_not: str) -> str:
    if math.isnan(estimate.value):
        return _figure(name, "n/a", "", why_not)
    if estimate.low is None or estimate.high is None:
        return _figure(name, _number(estimate.value), "", _interval(estimate))
    bar = interval_bar(estimate.value, estimate.low, estimate.high)
    return _figure(name, _number(estimate.value), bar, f"95 %: {_interval(estimate)}")


def _figure(name: str, value: str, bar: str, below: str) -> str:
    return (
        f'<div class="sheet figure"><div class="name">{name}</div><div class="big">{value}</div>'
        f'{bar}<div class="interval">{below}</div></div>'
    )


def _scores(evaluation: Evaluation, results: Sequence[ImageResult]) -> str:
    good = np.array([r.score for r in results if not r.defective], dtype=np.float64)
    defective = np.array([r.score for r in results if r.defective], dtype=np.float64)
    pairs = np.array([(r.score, r.normalised) for r in results], dtype=np.float64)
    plot = score_histogram(good, defective, evaluation.image_threshold, pairs)
    alarms, misses = evaluation.false_alarms, evaluation.misses
    cells = [
        ("Good", alarms.total - alarms.count, "right", alarms.count, "wrong", alarms.total),
        ("Defective", misses.count, "wrong", misses.total - misses.count, "right", misses.total),
    ]
    rows = "".join(
        f"<tr><th>{name}</th>{_cell(passed, first, total)}{_cell(stopped, second, total)}</tr>"
        for name, passed, first, stopped, second, total in cells
    )
    return (
        "<h2>Scores and decisions</h2>"
        '<p class="note">An image is stopped when its score reaches the threshold, which was set '
        'before these images were seen.</p><div class="side"><div class="sheet">'
        f"{legend('', good='good', defective='defective')}{plot}</div>"
        '<div class="sheet"><h3>At the threshold</h3><table class="confusion"><thead><tr><th></th>'
        f"<th>passed</th><th>stopped</th></tr></thead><tbody>{rows}</tbody></table>"
        f"{_best_f1(evaluation)}</div></div>"
    )


def _cell(count: int, kind: str, total: int) -> str:
    share = _percent(count / total) if total else "n/a"
    return f'<td class="{kind if count else ""}">{count}<small>{share}</small></td>'


def _best_f1(evaluation: Evaluation) -> str:
    best = evaluation.best_f1
    if math.isnan(best.value):
        return ""
    return (
        f'<p class="note">Best F1 {_number(best.value)} at '
        f"{evaluation.best_f1_threshold:.4g}, a threshold chosen on these test images.</p>"
    )


def _curves(evaluation: Evaluation, results: Sequence[ImageResult]) -> str:
    sheets = []
    if not math.isnan(evaluation.image_auroc.value):
        counts = count_by_threshold([r.defective for r in results], [r.score for r in results])
        sheets += [_roc(evaluation, counts), _precision_recall(evaluation, counts)]
    if evaluation.pro_curve:
        plot = curve(
            np.array(evaluation.pro_curve),
            ("false-positive rate of pixels", "per-region overlap"),
            x_limit=FPR_LIMIT,
            filled=True,
        )
        sheets.append(_plot_sheet("Per-region overlap", "AUPRO", evaluation.aupro, plot))
    if not sheets:
        return ""
    return f'<h2>Curves</h2><div class="three">{"".join(sheets)}</div>'


def _roc(evaluation: Evaluation, counts: Counts) -> str:
    alarms, misses = evaluation.false_alarms, evaluation.misses
    plot = curve(
        thinned(counts.false / counts.false[-1], counts.true / counts.true[-1]),
        ("false-alarm rate", "defects found"),
        mark=(alarms.value, 1 - misses.value),
    )
    return _plot_sheet("ROC of images", "AUROC", evaluation.image_auroc, plot)


def _precision_recall(evaluation: Evaluation, counts: Counts) -> str:
    precision = counts.true / (counts.true + counts.false)
    # Recall is gained at the precision of its own threshold, hence steps.
    recall = np.repeat(counts.true / counts.true[-1], 2)[:-1]
    points = thinned(np.append(0.0, recall), np.repeat(precision, 2))[1:]
    found = evaluation.misses.total - evaluation.misses.count
    stopped = found + evaluation.false_alarms.count
    mark = (1 - evaluation.misses.value, found / stopped) if stopped else None
    plot = curve(points, ("recall", "precision"), mark=mark)
    return _plot_sheet("Precision and recall", "AP", evaluation.image_average_precision, plot)


def _plot_sheet(heading: str, name: str, estimate: Estimate, plot: str) -> str:
    return (
        f'<div class="sheet"><h3>{heading}</h3><p class="note">{name} {_number(estimate.value)} '
        f"({_interval(estimate)})</p>{plot}</div>"
    )


def _defect_types(evaluation: Evaluation) -> str:
    if not evaluation.defective:
        return ""
    worst_first = sorted(evaluation.defect_types, key=lambda t: (-t.missed.value, t.name))
    rows = [
        f"<tr><td>{html.escape(t.name)}</td><td>{t.images}</td>{_missed(t.missed)}"
        + "".join(
            _estimate_cell(estimate)
            for estimate in (t.image_auroc, t.image_average_precision, t.pixel_auroc, t.aupro)
        )
        + "</tr>"
        for t in worst_first
    ]
    overall = "".join(
        _estimate_cell(estimate)
        for estimate in (
            evaluation.image_auroc,
            evaluation.image_average_precision,
            evaluation.pixel_auroc,
            evaluation.aupro,
        )
    )
    rows.append(
        f"<tr><td><strong>all</strong></td><td>{evaluation.defective}</td>"
        f"{_missed(evaluation.misses)}{overall}</tr>"
    )
    return (
        '<h2>Defect types</h2><p class="note">Each against all good images, most often missed '
        'first; 95 % intervals below the figures.</p><div class="sheet scroll"><table><thead><tr>'
        "<th>type</th><th>images</th><th>missed</th><th>image AUROC</th><th>image AP</th>"
        f"<th>pixel AUROC</th><th>AUPRO</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"</div>{_more_about_pixels(evaluation)}"
    )


def _more_about_pixels(evaluation: Evaluation) -> str:
    """One line of metrics that have no column; empty without masks."""
    known = [
        f"{html.escape(name)} {_number(one.value)} ({_interval(one)})"
        for name, one in evaluation.further_pixel_metrics().items()
    ]
    return f'<p class="note">All types: {"; ".join(known)}.</p>' if known else ""


def _missed(rate: Rate) -> str:
    return f"<td>{rate.count}<small>{_percent(rate.low)} to {_percent(rate.high)}</small></td>"


def _estimate_cell(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "<td>n/a</td>"
    return f"<td>{_number(estimate.value)}<small>{_interval(estimate)}</small></td>"


def _gallery(results: Sequence[ImageResult], read_image: ReadImage, pixel_threshold: float) -> str:
    low = usual_level(results)
    parts = [
        "<h2>Images</h2>",
        legend(
            "raw score · normalised",
            heat="anomaly map, clear where normal",
            contour="map at the pixel threshold",
            truth="marked defect",
        ),
    ]
    for group in choose(results):
        cards = "".join(
            card(result, read_image, threshold=pixel_threshold, low=low) for result in group.results
        )
        parts.append(
            f'<h3>{group.heading}</h3><p class="note">{group.note}</p>'
            f'<div class="gallery">{cards}</div>'
        )
    return "".join(parts)


def _definitions(evaluation: Evaluation) -> str:
    items = "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt><dd>{html.escape(text)}</dd>"
        for name, text in evaluation.definition().items()
    )
    return f'<h2>How these numbers were obtained</h2><dl class="definitions">{items}</dl>'


def _why_no_image_metric(evaluation: Evaluation) -> str:
    return "no good images" if evaluation.defective else "no defective images"


def _why_no_pixel_metric(evaluation: Evaluation) -> str:
    return "no ground-truth masks" if evaluation.defective else "no defective images"


def _number(value: float) -> str:
    """Three decimals; never rounded up to a perfect 1."""
    text = f"{value:.3f}"
    return "&gt; 0.999" if text == "1.000" and value < 1 - 1e-9 else text


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{_number(estimate.low)} to {_number(estimate.high)}"
