"""`gad train`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from generalad.cli.options import (
    AllGood,
    Anomalous,
    Argument,
    Cache,
    ClassName,
    Option,
    TrainingDevice,
)

if TYPE_CHECKING:
    from generalad.spec import Calibration


def train(
    data: Annotated[
        Path, Argument("Folder of good images, class folder, folder of classes, or CSV.")
    ],
    out: Annotated[
        Path | None,
        Option("Folder of the detector.", short="-o", metavar="DIR", default="runs/NAME-PRESET"),
    ] = None,
    class_name: ClassName = None,
    anomalous: Anomalous = None,
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
        str | None, Option("Network input in pixels: 224 or HEIGHTxWIDTH.", metavar="SIZE")
    ] = None,
    epochs: Annotated[
        int | None, Option("Length of the fixed schedule.", default="the preset's")
    ] = None,
    seed: Annotated[int | None, Option("Of splits, order and noise.")] = None,
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
) -> None:
    """Learn what good looks like from a folder of good images.

    Only good images are needed. The same command goes on with a run that was interrupted.

    Examples:
        gad train parts/good --out runs/parts
        gad train mvtec --class bottle --preset large
    """
    from generalad.calibration import outliers_found, promise
    from generalad.cli.console import console, plain, progress
    from generalad.config import PRESET_USES, preset_of
    from generalad.verbs import train as run

    screen = console()
    screen.quiet = os.environ.get("RANK", "0") != "0"  # of several processes, the first one speaks
    with progress(screen) as shown:
        trained = run(
            data,
            out,
            class_name=class_name,
            anomalous=anomalous,
            preset=preset,
            method=method,
            config=config,
            weights=weights,
            image_size=None if image_size is None else _size(image_size),
            epochs=epochs,
            seed=seed,
            false_alarm_rate=false_alarm_rate,
            crop=crop,
            ignore=ignore,
            align=align or None,
            turn=turn,
            tiles=tiles,
            tile_overlap=tile_overlap,
            skip_bad=skip_bad,
            all_good=all_good,
            device=device,
            cache=cache,
            log_to=log_to,
            progress=shown,
            log=lambda line: screen.print(f"warning: {line}", markup=False),
        )
    folder = trained.folder
    spec = trained.spec
    calibration = spec.calibration
    skipped = f", {len(spec.training_set.skipped)} skipped" if spec.training_set.skipped else ""
    screen.print(
        f"[bold]{plain(folder)}[/bold]: trained on {spec.training_set.images} images{skipped},"
        f" threshold {spec.thresholds.image:.4g} from {calibration.images} good images"
    )
    if config is None:
        chosen = preset or preset_of(method)
        screen.print(f"preset {chosen}: {PRESET_USES[chosen]}", markup=False)
    if spec.geometry is not None:
        screen.print(f"judged of each frame: {spec.geometry.in_words()}", markup=False)
    if calibration.grouping:
        screen.print(f"groups: {calibration.grouping}; none is on both sides", markup=False)
    screen.print(promise(calibration), markup=False)
    if line := outliers_found(calibration):
        screen.print(f"warning: {line}", markup=False)
    if calibration.views_rate is not None:
        screen.print(
            "views of the same images in other light, focus or compression: at most"
            f" {calibration.views_rate:.2%} of them",
            markup=False,
        )
    for line in trade_off(calibration):
        screen.print(line, markup=False)
    screen.print(f"next: gad export {folder}", markup=False)


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
    if not all(part.isdigit() for part in parts) or len(parts) > 2:
        raise ConfigError(f"--image-size: expected 224 or 224x320, found {text!r}")
    return [int(part) for part in parts]
