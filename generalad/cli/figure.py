"""`gad figure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from generalad.cli.options import AllGood, Anomalous, Argument, ClassName, Option


def figure(
    data: Annotated[str, Argument("Dataset with test images: folder, CSV, s3://, gs://, …")],
    artifacts: Annotated[
        Sequence[Path], Argument("Exported files, or folders of detectors, side by side.")
    ],
    out: Annotated[
        Path, Option("NAME for NAME.png and NAME.pdf, or one file.", short="-o", metavar="FILE")
    ] = Path("figure"),
    class_name: ClassName = None,
    anomalous: Anomalous = None,
    all_good: AllGood = False,
    rows: Annotated[int, Option("Examples, one a row.", least=1)] = 6,
    name: Annotated[
        Sequence[str],
        Option("Heading of a detector; once for each.", metavar="TEXT", default="its method"),
    ] = (),
    device: Annotated[
        str | None,
        Option("cpu, cuda …", default="the best there is", suggestions=("cpu", "cuda", "tensorrt")),
    ] = None,
) -> None:
    """Draw examples of a test set: image, ground truth, and the map of each detector.

    The examples are chosen by the names of their files, before anything is scored.

    Examples:
        gad figure mvtec model.onnx --class bottle
        gad figure parts old.onnx new.onnx --name before --name after -o change.pdf
    """
    from generalad.cli.console import console, plain, progress
    from generalad.errors import require_extra

    if any(path.is_dir() for path in artifacts):
        require_extra("scoring with a detector", "train", "torch", "timm")
    from generalad.data.dataset import open_dataset
    from generalad.data.masks import doubtful_masks
    from generalad.localisation_figure import figure as draw

    screen = console()
    with progress(screen) as shown:
        dataset = open_dataset(
            data, class_name, anomalous=anomalous, all_good=all_good, progress=shown
        )
        if doubts := doubtful_masks(dataset):
            screen.print(f"warning: {doubts}; gad data check names them", markup=False)
        written = draw(
            dataset,
            artifacts,
            out,
            rows=rows,
            name=name,
            device=device,
            progress=shown,
        )
    for path in written:
        screen.print(f"[bold]{plain(path)}[/bold]")
