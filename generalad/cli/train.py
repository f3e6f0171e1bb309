"""`gad train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from generalad.cli.options import Argument, Option


def train(
    data: Annotated[Path, Argument("Folder of good images, MVTec class folder, or CSV.")],
    out: Annotated[
        Path | None,
        Option("Folder of the detector.", short="-o", metavar="DIR", default="runs/NAME-PRESET"),
    ] = None,
    preset: Annotated[
        Literal["small", "base", "large", "embedded"],
        Option("Backbone and schedule; the first three are the paper's."),
    ] = "small",
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
    skip_bad: Annotated[bool, Option("Leave out unreadable images and record which.")] = False,
    device: Annotated[
        str | None,
        Option("cpu, cuda, …", default="a GPU if there is one", suggestions=("cpu", "cuda")),
    ] = None,
    cache: Annotated[
        Path | None,
        Option("Folder of the feature cache.", metavar="DIR", default="the user's cache"),
    ] = None,
) -> None:
    """Learn what good looks like from a folder of good images.

    Only good images are needed. The same command goes on with a run that was interrupted.

    Examples:
        gad train parts/good --out runs/parts
        gad train mvtec/bottle --preset large
    """
    from generalad.cli.console import console, progress
    from generalad.verbs import train as run

    screen = console()
    with progress(screen) as shown:
        trained = run(
            data,
            out,
            preset=preset,
            config=config,
            weights=weights,
            image_size=None if image_size is None else _size(image_size),
            epochs=epochs,
            seed=seed,
            false_alarm_rate=false_alarm_rate,
            skip_bad=skip_bad,
            device=device,
            cache=cache,
            progress=shown,
            log=lambda line: screen.print(f"warning: {line}", markup=False),
        )
    folder = trained.folder
    spec = trained.spec
    calibration = spec.calibration
    skipped = f", {len(spec.training_set.skipped)} skipped" if spec.training_set.skipped else ""
    screen.print(
        f"[bold]{folder}[/bold]: trained on {spec.training_set.images} images{skipped}, threshold"
        f" {spec.thresholds.image:.4g} from {calibration.images} held-out good images"
    )
    screen.print(promise(calibration.reached, calibration.target, calibration.images))
    screen.print(f"next: gad export {folder}")


def promise(reached: float, target: float, images: int) -> str:
    """What the calibration promises, in one sentence."""
    if reached <= target + 1e-12:
        return f"false alarms on good parts: at most {target:.2%} (conformal, {images} images)"
    return (
        f"false alarms on good parts: {images} calibration images can promise {reached:.2%} at"
        f" best, not the {target:.2%} asked for → hold out {round(1 / target) - 1} good images"
    )


def _size(text: str) -> list[int]:
    from generalad.errors import ConfigError

    parts = text.lower().split("x")
    if not all(part.isdigit() for part in parts) or len(parts) > 2:
        raise ConfigError(f"--image-size: expected 224 or 224x320, found {text!r}")
    return [int(part) for part in parts]
