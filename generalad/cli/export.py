"""`gad export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    detector: Annotated[Path, typer.Argument(help="Folder written by gad train.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write.", show_default="DETECTOR/model.onnx"),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Backbone weights, if they moved since training.")
    ] = None,
) -> None:
    """Turn a detector into one ONNX file that is proven equal to it.

    The file is compared with the detector on its calibration images (scores, maps, decisions); if
    it differs, nothing is written and the exit code is 3.
    """
    from generalad.cli.console import console, progress
    from generalad.errors import require_extra

    require_extra("export", "train", "torch", "timm", "onnx", "onnxscript")
    require_extra("verifying the export", "cpu", "onnxruntime")
    from generalad.export.export import export_detector

    screen = console()
    with progress(screen) as report:
        done = export_detector(detector, out, weights=weights, report=report)
    parity = done.parity
    screen.print(
        f"[bold]{done.path}[/bold]: {done.path.stat().st_size / 1e6:.1f} MB, {done.spec.precision}"
    )
    screen.print(
        f"equal to the detector on {parity.images} calibration images ({parity.backend}): scores"
        f" within {parity.score_largest:.1e} of their spread, maps within"
        f" {parity.map_largest:.1e}, {parity.flips} decisions differ"
    )
