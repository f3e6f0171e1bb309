"""`gad import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from generalad.cli.options import AllGood, Argument, Option
from generalad.printable import typed


def import_checkpoint(
    checkpoint: Annotated[
        Path, Argument("Lightning file (.ckpt) of GeneralAD, SimpleNet or KDAD.")
    ],
    data: Annotated[
        Path,
        Option(
            "Good images to set the thresholds with, which it did not learn from.", metavar="PATH"
        ),
    ],
    out: Annotated[
        Path | None,
        Option("Folder of the detector.", short="-o", metavar="DIR", default="runs/CHECKPOINT"),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        Option("Target rate on good parts that sets the threshold.", default="0.01"),
    ] = None,
    skip_bad: Annotated[bool, Option("Leave out unreadable images and record which.")] = False,
    all_good: AllGood = False,
) -> None:
    """Turn a checkpoint of somebody else into a detector.

    Reads what the authors' code of GeneralAD writes for its three methods, and anomalib's
    GeneralAD. Tensors and plain settings are read; nothing in the file is run. Thresholds are set
    on the images that you give.

    Examples:
        gad import bottle.ckpt --data bottle/more-good --out runs/bottle
    """
    from generalad.calibration import outliers_found, promise
    from generalad.cli.console import console, plain, progress
    from generalad.verbs import import_checkpoint as run

    screen = console()
    with progress(screen) as shown:
        trained = run(
            checkpoint,
            data,
            out,
            false_alarm_rate=false_alarm_rate,
            skip_bad=skip_bad,
            all_good=all_good,
            progress=shown,
        )
    spec = trained.spec
    screen.print(
        f"[bold]{plain(trained.folder)}[/bold]: {spec.provenance['imported']['kind']} on"
        f" {spec.backbone.name}, threshold {spec.thresholds.image:.4g} from"
        f" {spec.calibration.images} good images"
    )
    screen.print(promise(spec.calibration))
    if line := outliers_found(spec.calibration):
        screen.print(f"warning: {line}", markup=False)
    screen.print("the promise holds if the checkpoint did not learn from these images")
    screen.print(f"next: gad export {typed(trained.folder)}", markup=False)
