"""`gad eval`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from generalad.cli.options import AllGood, Anomalous, Argument, ClassName, Json, Option

if TYPE_CHECKING:
    from rich.table import Table

    from generalad.evaluation import Evaluated
    from generalad.statistics import Estimate, Rate


def evaluate(
    artifact: Annotated[Path, Argument("Exported file, or folder of a detector.")],
    data: Annotated[str, Argument("Dataset with test images: folder, CSV, s3://, gs://, …")],
    class_name: ClassName = None,
    anomalous: Anomalous = None,
    all_good: AllGood = False,
    html: Annotated[
        Path | None, Option("Write a self-contained HTML report here.", metavar="FILE")
    ] = None,
    weights: Annotated[
        Path | None, Option("A detector's backbone weights, if they moved.", metavar="FILE")
    ] = None,
    references: Annotated[
        bool, Option("Plain methods beside it, learned from DATA with the same backbone.")
    ] = False,
    min_image_auroc: Annotated[
        float | None,
        Option("Exit 3 if the image AUROC lies below.", least=0, most=1, metavar="0.95"),
    ] = None,
    device: Annotated[
        str | None,
        Option("cpu, cuda …", default="the best there is", suggestions=("cpu", "cuda", "tensorrt")),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a detector or artifact on test images.

    Image and pixel metrics with 95 % intervals, overall and for each type of defect.
    JSON goes to stdout, the table to stderr.

    Examples:
        gad eval runs/parts/model.onnx parts/ --html report.html
        gad eval model.onnx mvtec --class bottle --min-image-auroc 0.95
    """
    from generalad.cli.console import console, plain, print_json, progress
    from generalad.errors import require_extra

    if artifact.is_dir():
        require_extra("evaluating a detector", "train", "torch", "timm")
    from generalad.data.dataset import as_dataset
    from generalad.evaluation import evaluate as measure

    screen, beside = console(), {}
    with progress(screen) as shown:
        dataset = as_dataset(
            data, class_name, anomalous=anomalous, all_good=all_good, progress=shown
        )
        done = measure(artifact, dataset, weights=weights, device=device, html=html, progress=shown)
        if references:
            require_extra("--references", "train", "torch", "timm")
            from generalad.references import evaluate_references

            beside = evaluate_references(
                artifact, dataset, weights=weights, device=device, progress=shown
            )
    if done.incomplete:
        screen.print(f"warning: {done.incomplete}", markup=False)
    if done.not_found:
        screen.print(
            f"warning: the part was not found in {len(done.not_found)} images, which are in no"
            f" figure: {', '.join(Path(one).name for one in done.not_found[:5])}",
            markup=False,
        )
    if done.learned_from:
        screen.print(
            f"warning: {len(done.learned_from)} test images are ones that were learned from, or"
            " copies of training images: figures are too good:"
            f" {', '.join(Path(one).name for one in done.learned_from[:5])}",
            markup=False,
        )
    if done.contradictions:
        screen.print(
            f"warning: {len(done.contradictions)} test images are labelled both good and defective:"
            f" {', '.join(Path(one).name for one in done.contradictions[:4])}",
            markup=False,
        )
    if done.other_format:
        screen.print(f"warning: {done.other_format}; scores say little", markup=False)
    if done.other_look:
        screen.print(f"warning: {done.other_look}; scores say little", markup=False)
    if done.untested:
        screen.print(
            f"warning: {done.untested} good images are not tested: a plain folder keeps them for"
            " training, and this detector learned from others; lay test images out as test/good"
            " and test/TYPE",
            markup=False,
        )
    if done.doubtful_masks:
        screen.print(
            f"warning: {done.doubtful_masks}; pixel figures may be wrong,"
            " gad data check names them",
            markup=False,
        )
    screen.print(table(done, beside))
    if html is not None:
        screen.print(f"report: [bold]{plain(html)}[/bold]")
    print_json(
        {
            "artifact": str(artifact),
            "data": dataset.origin or data,
            "class": class_name,
            "anomalous_class": anomalous,
            "backend": done.backend,
            "precision": done.spec.precision,
            "selection_rule": done.spec.metrics.get("selection_rule"),
            "doubtful_masks": done.doubtful_masks or None,
            **({"contradictions": list(done.contradictions)} if done.contradictions else {}),
            **({"other_format": done.other_format} if done.other_format else {}),
            **({"other_look": done.other_look} if done.other_look else {}),
            **({"untested": done.untested} if done.untested else {}),
            **({"learned_from": list(done.learned_from)} if done.learned_from else {}),
            **({"not_found": list(done.not_found)} if done.not_found else {}),
            **done.evaluation.to_json(),
            **(
                {"references": {name: one.evaluation.to_json() for name, one in beside.items()}}
                if references
                else {}
            ),
        },
        wanted=json,
    )
    if min_image_auroc is not None:
        check_image_auroc(done, min_image_auroc)


def check_image_auroc(done: Evaluated, least: float) -> None:
    """Refuse an artifact that tells defects worse than was asked for.

    The value is judged, not its interval: the same images give the same value again.

    Raises:
        GateError: it lies below `least`.
        DataError: there is none.
    """
    from generalad.errors import DataError, GateError

    found = done.evaluation.image_auroc
    if math.isnan(found.value):
        raise DataError(
            "an image AUROC needs good and defective test images",
            remedy="leave --min-image-auroc out, or add what is missing",
        )
    if found.value < least:
        raise GateError(
            f"image AUROC: {found.value:.4f} (95 %: {found.low:.3f} to {found.high:.3f}), below the"
            f" limit of {least:g}",
            remedy="train or export again, or look at the report of --html",
        )


def table(done: Evaluated, references: Mapping[str, Evaluated] | None = None) -> Table:
    """The figures for a terminal; those of references in rows of their own below."""
    from rich.box import SIMPLE
    from rich.table import Table

    from generalad.cli.console import plain

    found = done.evaluation
    title = f"{found.good} good and {found.defective} defective test images, {done.backend}"
    grid = Table(
        title=title,
        title_justify="left",
        caption=_caption(done),
        caption_justify="left",
        box=SIMPLE,
    )
    for heading in ("", "image AUROC", "image AP", "pixel AUROC", "AUPRO", "missed"):
        grid.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for kind in found.defect_types:
        grid.add_row(
            plain(kind.name),
            number(kind.image_auroc),
            number(kind.image_average_precision),
            number(kind.pixel_auroc),
            number(kind.aupro),
            rate(kind.missed),
        )
    for name, one in {"all": done, **(references or {})}.items():
        grid.add_section()
        grid.add_row(
            name if name == "all" else f"all, by {name}",
            number(one.evaluation.image_auroc),
            number(one.evaluation.image_average_precision),
            number(one.evaluation.pixel_auroc),
            number(one.evaluation.aupro),
            rate(one.evaluation.misses),
        )
    return grid


def number(estimate: Estimate) -> str:
    """A figure over its 95 % interval."""
    if math.isnan(estimate.value):
        return "n/a"
    if estimate.low is None or estimate.high is None:
        return f"[bold]{estimate.value:.3f}[/bold]\n[dim]no interval[/dim]"
    low, high = (f"{bound:.3f}".removeprefix("0") for bound in (estimate.low, estimate.high))
    return f"[bold]{estimate.value:.3f}[/bold]\n[dim]{low}-{high}[/dim]"


def rate(value: Rate) -> str:
    """A count of a total, such as "2/60"."""
    return f"{value.count}/{value.total}"


def _caption(done: Evaluated) -> str:
    found = done.evaluation
    alarms, best = found.false_alarms, found.best_f1
    share = ""
    if not math.isnan(alarms.value):
        share = f" ({alarms.value:.1%}, 95 %: {alarms.low:.1%} to {alarms.high:.1%})"
    lines = [
        f"False alarms: {alarms.count} of {alarms.total}{share}, at the artifact's own threshold.",
        *(
            []
            if math.isnan(best.value)
            else [f"Best F1 {best.value:.3f}, its threshold chosen on these test images."]
        ),
        *_more_about_pixels(done),
        "Below each figure: 95 % interval over images.",
    ]
    if rule := done.spec.metrics.get("selection_rule"):
        lines.append(f"Selection: {rule}.")
    return "\n".join(lines)


def _more_about_pixels(done: Evaluated) -> list[str]:
    """The metrics that have no column, a line each; none without masks."""
    return [
        f"{name[:1].upper()}{name[1:]} {one.value:.3f}"
        + ("" if one.low is None else f" (95 %: {one.low:.3f} to {one.high:.3f})")
        + "."
        for name, one in done.evaluation.further_pixel_metrics().items()
    ]
