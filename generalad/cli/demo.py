"""`gad demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from generalad.cli.options import Category, Option

if TYPE_CHECKING:
    from rich.table import Table

    from generalad.demo import DemoResult


def demo(
    out: Annotated[
        Path, Option("Folder for everything the demo makes.", short="-o", metavar="DIR")
    ] = Path("demo"),
    category: Category = (),
) -> None:
    """Make industrial parts, train on good ones, export, verify, and find the defects.

    Works offline with the backbone that is shipped with the package, and takes about four minutes
    on two cores. The same command goes on where it was interrupted.

    Examples:
        gad demo
        gad demo --category washer --out washer-demo
    """
    from generalad.cli.console import console, plain, progress
    from generalad.errors import require_extra

    require_extra("the demo", "train", "torch", "timm", "onnx", "onnxscript")
    require_extra("the demo", "cpu", "onnxruntime")
    from generalad.demo import run_demo

    screen = console()
    started = time.monotonic()
    with progress(screen) as shown:
        result = run_demo(out, categories=category, progress=shown)
    screen.print(table(result))
    first = result.categories[0]
    belt = result.conveyor
    screen.print(
        f"conveyor: {belt.found} of {belt.defective} defective parts found,"
        f" {belt.false_alarms} of {belt.frames - belt.defective} good ones called anomalous"
    )
    screen.print(
        f"[bold]{plain(result.image)}[/bold]  good parts and defects beside their heat maps"
    )
    screen.print(f"[bold]{plain(first.report.parent)}[/bold]  one page of figures a category")
    screen.print(f"[bold]{plain(belt.video)}[/bold]  the conveyor, inspected")
    screen.print(f"done in {time.monotonic() - started:.0f} s; next, your own images:")
    screen.print("  gad train FOLDER_OF_GOOD_IMAGES")


def table(result: DemoResult) -> Table:
    """One line a category."""
    from rich.box import SIMPLE
    from rich.table import Table

    grid = Table(
        title="Exported artifacts on test images that no training saw",
        title_justify="left",
        caption="Figures with 95 % intervals are in the reports. flips: decisions that differ"
        " between detector and artifact; train s: - where an earlier run did some of it.",
        caption_justify="left",
        box=SIMPLE,
    )
    headings = ("", "image AUROC", "pixel AUROC", "AUPRO", "flips", "MB", "ms", "train s")
    for heading in headings:
        grid.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for item in result.categories:
        found = item.evaluated.evaluation
        grid.add_row(
            item.name,
            f"{found.image_auroc.value:.3f}",
            f"{found.pixel_auroc.value:.3f}",
            f"{found.aupro.value:.3f}",
            str(item.flips),
            f"{item.megabytes:.1f}",
            f"{item.milliseconds:.1f}",
            "-" if item.training_seconds is None else f"{item.training_seconds:.0f}",
        )
    return grid
