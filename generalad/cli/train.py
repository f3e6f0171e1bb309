"""`gad train`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from generalad.cli.options import (
    AllGood,
    Anomalous,
    Argument,
    Cache,
    ClassName,
    Option,
    Ray,
    TrainingDevice,
)
from generalad.errors import UsageError
from generalad.printable import typed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from generalad.all_classes import TrainedClass
    from generalad.spec import Calibration, Spec


def train(
    data: Annotated[
        str,
        Argument("Folder of good images, class folder, folder of classes, CSV, s3://, gs://, …"),
    ],
    out: Annotated[
        Path | None,
        Option("Folder of the detector.", short="-o", metavar="DIR", default="runs/NAME-PRESET"),
    ] = None,
    class_name: ClassName = None,
    anomalous: Anomalous = None,
    all_classes: Annotated[
        bool, Option("A detector for each class below DATA, each in its own folder of --out.")
    ] = False,
    ray: Ray = None,
    preset: Annotated[
        Literal["edge", "small", "base", "large", "simplenet", "kdad", "embedded"] | None,
        Option(
            "Backbone and schedule. edge needs no hub and no GPU, small to large are the paper's.",
            default="the method's own, or edge",
        ),
    ] = None,
    method: Annotated[
        Literal["residual", "generalad", "simplenet", "kdad", "gaussian", "patchcore"] | None,
        Option("How features are judged.", default="the preset's"),
    ] = None,
    config: Annotated[
        Path | None, Option("TOML file with settings over the preset.", metavar="FILE")
    ] = None,
    weights: Annotated[
        Path | None,
        Option("Backbone weights, for machines that reach no model hub.", metavar="FILE"),
    ] = None,
    image_size: Annotated[
        str | None,
        Option(
            "Network input in pixels: 224 or HEIGHTxWIDTH; of a tile, which is enlarged to it.",
            metavar="SIZE",
            default="the preset's, or twice the tile's",
        ),
    ] = None,
    epochs: Annotated[
        int | None, Option("Length of the fixed schedule.", default="the preset's")
    ] = None,
    seed: Annotated[int | None, Option("Of splits, order and noise.", default="0")] = None,
    false_alarm_rate: Annotated[
        float | None,
        Option("Target rate on good parts that sets the threshold.", default="0.01"),
    ] = None,
    crop: Annotated[
        str | None,
        Option(
            "What of each frame is judged: X,Y,WxH or 'X,Y X,Y X,Y', shares of the frame.",
            metavar="AREA",
            default="the whole frame",
        ),
    ] = None,
    ignore: Annotated[
        Sequence[str],
        Option(
            "An area that neither teaches nor counts; may be repeated.",
            metavar="AREA",
            default="none",
        ),
    ] = (),
    align: Annotated[
        bool, Option("Find the part in each frame, and turn and shift it into place.")
    ] = False,
    turn: Annotated[
        float | None,
        Option("By which aligned parts are turned at most.", metavar="DEGREES", default="180"),
    ] = None,
    tiles: Annotated[
        int | None,
        Option(
            "Side of the tiles that frames are cut into, in pixels of the frame.",
            metavar="PIXELS",
            default="frames are resized as a whole",
        ),
    ] = None,
    tile_overlap: Annotated[
        int | None, Option("Of neighbouring tiles.", metavar="PIXELS", default="64")
    ] = None,
    skip_bad: Annotated[bool, Option("Leave out unreadable images and record which.")] = False,
    all_good: AllGood = False,
    device: TrainingDevice = None,
    cache: Cache = None,
    log_to: Annotated[
        Sequence[Literal["tensorboard", "wandb", "mlflow"]],
        Option("A logger, beside the log and plot in the folder; may be repeated.", default="none"),
    ] = (),
) -> int:
    """Learn what good looks like from a folder of good images.

    Only good images are needed. The same command goes on with a run that was interrupted.

    Examples:
        gad train parts/good --out runs/parts
        gad train mvtec --class bottle --preset large
        gad train products/ --all-classes --out runs/products
        gad train s3://bucket/parts/good --out runs/parts
    """
    options: dict[str, Any] = {
        "class_name": class_name,
        "anomalous": anomalous,
        "preset": preset,
        "method": method,
        "config": config,
        "weights": weights,
        "image_size": None if image_size is None else _size(image_size),
        "epochs": epochs,
        "seed": seed,
        "false_alarm_rate": false_alarm_rate,
        "crop": crop,
        "ignore": ignore,
        "align": align or None,
        "turn": turn,
        "tiles": tiles,
        "tile_overlap": tile_overlap,
        "skip_bad": skip_bad,
        "all_good": all_good,
        "device": device,
        "cache": cache,
        "log_to": log_to,
    }
    if all_classes:
        return _all_classes(data, out, ray, options)
    if ray is not None:
        raise UsageError(
            "--ray spreads classes over a cluster, and one is trained here",
            remedy="add --all-classes, or leave --ray out",
        )
    from generalad.cli.console import console, progress
    from generalad.config import preset_of
    from generalad.verbs import train as run

    screen = console()
    screen.quiet = os.environ.get("RANK", "0") != "0"  # of several processes, the first one speaks
    with progress(screen) as shown:
        trained = run(
            data,
            out,
            **options,
            progress=shown,
            log=lambda line: screen.print(line, markup=False),
        )
    chosen = None if config is not None else preset or preset_of(method)
    _say(screen, trained.folder, trained.spec, chosen)
    return 0


def _all_classes(data: str, out: Path | None, ray: str | None, options: dict[str, Any]) -> int:
    """A detector for each class; 1 where one could not be trained."""
    from generalad.all_classes import failures, train_all_classes
    from generalad.cli.console import console, print_json, progress

    screen = console()
    with progress(screen) as shown:
        found = train_all_classes(
            data,
            out,
            ray=ray,
            progress=shown,
            log=lambda line: screen.print(line, markup=False),
            **options,
        )
    screen.print(classes_table(found))
    for one in found:
        if one.error:
            screen.print(f"{one.name}: {one.error}", markup=False)
    if done := next((one for one in found if not one.error), None):
        screen.print(
            f"each in a folder of its own, next: gad export {typed(done.folder)}", markup=False
        )
    print_json([one.to_dict() for one in found], wanted=False)
    return 1 if failures(found) else 0


def classes_table(found: Sequence[TrainedClass]) -> Table:
    """What became of each class, for a terminal."""
    from rich.box import SIMPLE
    from rich.table import Table

    from generalad.cli.console import plain

    grid = Table(
        box=SIMPLE,
        caption="missed: of defects drawn on good images; real ones need not resemble them",
        caption_justify="left",
    )
    for heading in ("class", "images", "calibrated on", "threshold", "false alarms", "missed"):
        grid.add_column(heading, justify="left" if heading == "class" else "right")
    for one in found:
        if one.error:
            grid.add_row(plain(one.name), "[red]failed[/red]", *[""] * 4)
            continue
        grid.add_row(
            plain(one.name),
            str(one.images),
            str(one.calibration_images),
            f"{one.threshold:.4g}",
            f"{one.false_alarm_rate:.2%}",
            "" if one.missed is None else f"{one.missed:.0%}",
        )
    return grid


def _say(screen: Console, folder: Path, spec: Spec, chosen: str | None) -> None:
    """What was learned, what it promises and what is next; `chosen` is the preset, if known."""
    from generalad.calibration import highest_found, outliers_found, promise
    from generalad.cli.console import plain
    from generalad.config import PRESET_USES

    calibration = spec.calibration
    skipped = f", {len(spec.training_set.skipped)} skipped" if spec.training_set.skipped else ""
    screen.print(
        f"[bold]{plain(folder)}[/bold]: trained on {spec.training_set.images} images{skipped},"
        f" threshold {spec.thresholds.image:.4g} from {calibration.images} good images"
    )
    if chosen is not None:
        screen.print(f"preset {chosen}: {PRESET_USES[chosen]}", markup=False)
    if spec.geometry is not None:
        screen.print(f"judged of each frame: {spec.geometry.in_words()}", markup=False)
    if calibration.grouping:
        screen.print(f"groups: {calibration.grouping}; none is on both sides", markup=False)
    screen.print(promise(calibration), markup=False)
    if line := outliers_found(calibration):
        screen.print(f"warning: {line}", markup=False)
    if line := highest_found(calibration):
        screen.print(line, markup=False)
    if calibration.views_rate is not None:
        screen.print(
            "false alarms on the same images in other light, focus or compression: at most"
            f" {calibration.views_rate:.2%}",
            markup=False,
        )
    for line in trade_off(calibration):
        screen.print(line, markup=False)
    screen.print(f"next: gad export {typed(folder)}", markup=False)


def trade_off(calibration: Calibration) -> list[str]:
    """What a lower rate of false alarms costs, as a table."""
    from generalad.calibration import calibration_needed

    rows = calibration.drawn_misses
    if not rows:
        return []
    noun = "groups" if calibration.grouping and calibration.group_of else "good images"
    lines = [
        f"missed of {rows[0].drawn} defects drawn on good images"
        " (real ones need not resemble them):",
        "  false alarms    missed",
    ]
    for row in rows:
        line = f"  {row.rate:>12.1%}    {row.missed:>3} ({row.missed / row.drawn:.0%})"
        if row.reached > row.rate + 1e-9:
            line += (
                f"   cannot be promised with {calibration.groups} {noun}, only {row.reached:.1%};"
                f" it takes {calibration_needed(row.rate)}"
            )
        lines.append(line)
    return lines


def _size(text: str) -> list[int]:
    from generalad.errors import ConfigError

    parts = text.lower().split("x")
    if not all(part.isdecimal() for part in parts) or len(parts) > 2:
        raise ConfigError(f"--image-size: expected 224 or 224x320, found {text!r}")
    return [int(part) for part in parts]
