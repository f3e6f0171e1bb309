"""`gad export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from generalad.cli.options import AllGood, Anomalous, Argument, ClassName, Json, Option
from generalad.errors import UsageError
from generalad.printable import typed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from generalad.export.engine import EngineOptions
    from generalad.export.export import Exported
    from generalad.export.parity import Comparison, Parity


def export(
    detector: Annotated[
        Path,
        Argument("Folder written by gad train; for TensorRT and Triton an exported file."),
    ],
    format: Annotated[
        Literal["onnx", "openvino", "tensorrt", "triton"],
        Option("Kind of artifact; triton is a model repository of an exported file."),
    ] = "onnx",
    fp16: Annotated[bool, Option("Half precision: in the graph, or of the processor.")] = False,
    int8: Annotated[bool, Option("Eight bits, if that is faster and as good.")] = False,
    batch: Annotated[
        str | None,
        Option("Images a run: 1, or a range such as 1..16.", default="any"),
    ] = None,
    verify_on: Annotated[
        str | None,
        Option("Labelled test images to compare on as well: folder, CSV, s3://, …", metavar="PATH"),
    ] = None,
    class_name: ClassName = None,
    anomalous: Anomalous = None,
    all_good: AllGood = False,
    out: Annotated[
        Path | None,
        Option(
            "File to write.",
            short="-o",
            metavar="FILE",
            default="in DETECTOR, such as model-fp16.onnx",
        ),
    ] = None,
    version_compatible: Annotated[bool, Option("Engine for other TensorRT versions too.")] = False,
    hardware_compatible: Annotated[
        str | None,
        Option(
            "Engine for other GPUs too: ampere_plus, same_compute_capability.",
            metavar="WHICH",
            default="this GPU",
        ),
    ] = None,
    weights: Annotated[
        Path | None, Option("Backbone weights, if they moved since training.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn a detector into one file that is proven to decide as it does.

    The artifact is compared with the detector on its calibration images, on the same images with
    defects drawn into them, and on labelled ones if you name some. If it differs, a safer graph is
    tried; if none is left, nothing is written and the exit code is 3.

    Examples:
        gad export runs/parts
        gad export runs/parts --fp16
        gad export runs/parts --format openvino --int8
        gad export runs/parts --verify-on parts/
    """
    from generalad.cli.console import console, print_json, progress

    if fp16 and int8:
        raise UsageError("--fp16 and --int8 exclude each other", remedy="give one of them")
    sizes = batch_sizes(batch)
    if format == "triton":
        write_for_triton(detector, out, sizes)
        return
    if detector.suffix.lower() == ".onnx":
        labelled = verify_on or class_name or anomalous or all_good
        if format != "tensorrt" or fp16 or int8 or labelled:
            raise UsageError(
                f"{detector} is exported already; it can only become a TensorRT engine of the same"
                " precision",
                remedy=f"gad export {typed(detector)} --format tensorrt",
            )
        from generalad.verbs import engine_options

        options = engine_options(sizes, version_compatible, hardware_compatible)
        build_from_onnx(detector, out, options)
        return
    from generalad.verbs import export as run

    screen = console()
    with progress(screen) as shown:
        done = run(
            detector,
            out,
            format=format,
            precision="fp16" if fp16 else "int8" if int8 else "fp32",
            batch=sizes,
            verify_on=verify_on,
            class_name=class_name,
            anomalous=anomalous,
            all_good=all_good,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
            weights=weights,
            progress=shown,
        )
    show(screen, done)
    print_json(
        {
            "artifact": str(done.path),
            "precision": done.spec.precision,
            **done.spec.parity,
            "half_precisions": done.spec.to_dict()["half_precisions"],
        },
        wanted=json,
    )


def batch_sizes(text: str | None) -> tuple[int, int] | None:
    """Read "4" as (4, 4) and "1..16" as (1, 16)."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text.strip())
    sizes = found and (int(found[1]), int(found[2] or found[1]))
    if not sizes or not 1 <= sizes[0] <= sizes[1]:
        raise UsageError(f"--batch: expected a size or a range such as 1..16, found {text!r}")
    return sizes


def write_for_triton(artifact: Path, out: Path | None, sizes: tuple[int, int] | None) -> None:
    """Write the model repository of an exported file."""
    from generalad.cli.console import console, plain
    from generalad.export.to_triton import write_repository

    if artifact.is_dir():
        raise UsageError(
            f"{artifact} is a detector's folder, expected an exported file",
            remedy=f"gad export {typed(artifact)}, then name the file that it writes",
        )
    batch = None if sizes is None else sizes[1]
    folder = write_repository(artifact, out or artifact.parent / "triton", batch=batch)
    console().print(
        f"[bold]{plain(folder)}[/bold]: golden samples of {plain(artifact.name)} reproduced, they"
        " are Triton's warm-up"
    )


def build_from_onnx(onnx: Path, out: Path | None, options: EngineOptions) -> None:
    """Build an engine on the device that will run it, which has no torch."""
    from generalad.cli.console import console, plain, progress
    from generalad.export.to_tensorrt import build_engine

    screen = console()
    with progress(screen) as shown:
        path = build_engine(onnx, out, options=options, progress=shown)
    size = path.stat().st_size / 1e6
    screen.print(
        f"[bold]{plain(path)}[/bold]: {size:.1f} MB, golden samples of {plain(onnx.name)}"
        " reproduced"
    )


def show(screen: Console, done: Exported) -> None:
    """The artifact, what was refused before it, and how far it is from the detector."""
    from generalad.cli.console import plain

    files = (
        [done.path, done.path.with_suffix(".bin")] if done.path.suffix == ".xml" else [done.path]
    )
    size = sum(file.stat().st_size for file in files) / 1e6
    for refused in done.refused:
        screen.print(
            f"[yellow]refused[/yellow] {refused.name}: {plain('; '.join(refused.reasons))}"
        )
    screen.print(
        f"[bold]{plain(done.path)}[/bold]: {done.name}, {size:.1f} MB, {done.parity.backend}"
    )
    if done.speed_up is not None:
        screen.print(f"{done.speed_up:.2f} times as fast as fp32 on one image")
    if done.half is not None:
        taken = "" if done.half.faster else ": not surely faster, so not taken"
        screen.print(f"{done.half.in_words()}{taken}")
    if done.not_verified:
        screen.print(
            "[yellow]half precision is not verified[/yellow], it is computed in float32:"
            f" {done.not_verified}"
        )
    screen.print(parity_table(done.parity))
    screen.print(f"[dim]{explanation(done.parity)}[/dim]")


def parity_table(parity: Parity) -> Table:
    """One row a set of images, and the limits under them."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    names = ("", "score", "map", "rank", "flips", "far", "AUROC", "AUPRO")
    for name in names:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for item in parity.sets:
        table.add_row(*_row(item))
    limits = parity.limits
    table.add_section()
    table.add_row(
        "allowed", _limit(limits.score), _limit(limits.map), _limit(limits.rank), "", "0",
        f"{limits.auroc:g}", f"{limits.aupro:g}",
    )  # fmt: skip
    return table


def explanation(parity: Parity) -> str:
    """What the columns of the table mean."""
    margin = parity.limits.flip_margin
    far = f", {margin:.0%} of the score range or more from the threshold" if margin else ""
    return (
        "score: largest, map: mean difference, in units of the range of the detector's own on"
        f" calibration images; rank: Spearman's correlation; far: decisions that differ{far};"
        " AUROC, AUPRO: lost"
    )


def _limit(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _row(item: Comparison) -> tuple[str, ...]:
    def lost(pair: tuple[float, float]) -> str:
        return "" if pair[0] != pair[0] else f"{pair[0] - pair[1]:.4f}"

    return (
        f"{item.name} ({item.images})", f"{item.score_largest:.2g}", f"{item.map_mean:.2g}",
        f"{item.rank:.4f}", str(item.flips), str(item.flips_far), lost(item.auroc),
        lost(item.aupro),
    )  # fmt: skip
