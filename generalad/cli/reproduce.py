"""`gad reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from generalad.cli.options import Argument, Cache, Json, Option, Ray, TrainingDevice
from generalad.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from generalad.reproduction.table import Reproduction


def reproduce(
    data_set: Annotated[
        Literal[
            "mvtec-ad",
            "mvtec-loco",
            "visa",
            "mpdd",
            "mvtec-ad-2",
            "real-iad",
            "cifar-10",
            "cifar-100",
            "fashion-mnist",
            "view",
            "fgvc-aircraft",
            "stanford-cars",
            "dogs-vs-cats",
        ],
        Argument("The data set of the table."),
    ],
    data: Annotated[str, Option("Its folder, of all classes; or s3://, gs://, …", metavar="DIR")],
    out: Annotated[
        Path | None,
        Option(
            "Folder of the results; the same one goes on.",
            short="-o",
            metavar="DIR",
            default="runs/reproduce-…",
        ),
    ] = None,
    method: Annotated[
        Literal["generalad", "simplenet", "kdad"], Option("The paper's, or one of its baselines.")
    ] = "generalad",
    backbone: Annotated[
        Literal["small", "base", "large"] | None,
        Option("DINOv2's size.", default="large, base for kinds of things"),
    ] = None,
    classes: Annotated[
        str | None, Option("Some of them, with commas between.", metavar="NAMES", default="all")
    ] = None,
    seeds: Annotated[str, Option("With commas between.", metavar="NUMBERS")] = "0",
    shots: Annotated[
        int, Option("Train on so many images, from the seed on.", least=0, default="all")
    ] = 0,
    one_anomalous: Annotated[
        bool, Option("Each class in turn is anomalous and all others are normal.")
    ] = False,
    protocol: Annotated[
        Literal["last", "paper"],
        Option("The last epoch, or as published the best one on the test set."),
    ] = "last",
    config: Annotated[
        Path | None,
        Option("TOML file with settings over the recipe; the table names them.", metavar="FILE"),
    ] = None,
    weights: Annotated[
        Path | None,
        Option("Backbone weights, for machines that reach no model hub.", metavar="FILE"),
    ] = None,
    ray: Ray = None,
    device: TrainingDevice = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Train and measure all classes of a data set as the paper did, beside its numbers.

    The same command goes on where it was stopped. Table as HTML, Markdown and JSON in the folder.

    Examples:
        gad reproduce mvtec-ad --data mvtec --backbone base
        gad reproduce cifar-10 --data cifar10 --seeds 0,10,20 --protocol paper
    """
    from generalad.cli.console import console, print_json, progress
    from generalad.errors import require_extra

    require_extra("training", "train", "torch", "timm", "safetensors")
    from generalad.reproduction.reproduce import reproduce as run
    from generalad.reproduction.table import to_json

    screen = console()
    with progress(screen) as shown:
        done = run(
            data_set,
            data,
            out,
            method=method,
            backbone=backbone,
            classes=_parts(classes or ""),
            seeds=_numbers(seeds),
            shots=shots,
            one_anomalous=one_anomalous,
            protocol=protocol,
            config=config,
            weights=weights,
            ray=ray,
            device=device,
            cache=cache,
            progress=shown,
            log=lambda line: screen.print(line, markup=False),
        )
    for grid in tables(done):
        screen.print(grid)
    for name in ("report.html", "table.md", "table.json"):
        screen.print(f"[bold]{done.folder / name}[/bold]")
    print_json(to_json(done), wanted=json)


def tables(done: Reproduction) -> list[Table]:
    """What was measured and what is published, for a terminal."""
    from rich.box import SIMPLE
    from rich.table import Table

    from generalad.reproduction.table import METRICS, cells, notes, published_cells, rows_of

    grid = Table(title=done.title, title_justify="left", box=SIMPLE)
    for heading in ("class", *METRICS.values(), "epoch"):
        grid.add_column(heading, justify="left" if heading == "class" else "right", no_wrap=True)
    *rows, mean = rows_of(done)
    for row in rows:
        grid.add_row(*cells(row))
    grid.add_section()
    grid.add_row(*cells(mean))
    others = Table(caption="\n".join(notes(done)), caption_justify="left", box=SIMPLE, min_width=60)
    for heading in ("published", *list(METRICS.values())[:2]):
        left = heading == "published"
        others.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for entry in done.published:
        others.add_row(*published_cells(entry))
    return [grid, others]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[int]:
    parts = _parts(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"--seeds: expected whole numbers with commas between, found {text!r}",
            remedy="such as --seeds 0,10,20",
        )
    return list(map(int, parts))
