"""`gad calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from generalad.cli.options import Argument, Device, Json, Option, Threads

if TYPE_CHECKING:
    from generalad.runtime.recalibrate import Proposal

SHOWN = 10
"""Images with the highest scores that the operator is to look at."""


def calibrate(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    images: Annotated[
        list[str],
        Argument("Recent images of good parts: files, folders, videos, patterns."),
    ],
    out: Annotated[Path, Option("The new artifact; must not exist.", metavar="FILE")],
    target: Annotated[
        float | None,
        Option("Wished false-alarm rate.", default="the artifact's"),
    ] = None,
    yes: Annotated[bool, Option("All images were looked at and show good parts.")] = False,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> int:
    """Set the thresholds of an artifact anew, from recent images of good parts.

    Scores the images, shows what would change and the highest scores, asks whether all show good
    parts, and writes a new artifact. The old one stays as it is.
    """
    from generalad.cli.console import confirm, console, print_json, progress
    from generalad.errors import UsageError
    from generalad.runtime.artifact_copy import check_copy
    from generalad.runtime.recalibrate import recalibrate

    if not yes and not sys.stdin.isatty():
        raise UsageError(
            "somebody must confirm that all images show good parts, and this is no terminal",
            remedy="look at the images, then give --yes",
        )
    if artifact.is_file():  # what else there may be, opening it says
        check_copy(artifact, out)
    screen = console()
    with progress(screen) as shown:
        proposal = recalibrate(
            artifact,
            images,
            target=target,
            threads=threads,
            device=device,
            progress=shown,
        )
    screen.print(in_words(proposal), markup=False)
    if not yes and not confirm("Do all images show good parts?"):
        screen.print("nothing was written")
        return 1
    proposal.write(out)
    print_json({**proposal.to_dict(), "out": str(out)}, wanted=json)
    screen.print(f"[bold]{out}[/bold]: written; {artifact} is as it was")
    return 0


def in_words(proposal: Proposal) -> str:
    """What would change, and what to look at."""
    old, new, count = proposal.old, proposal.new, len(proposal.images)
    copies = f", {proposal.copies} copies left out" if proposal.copies else ""
    before, after = (
        f"{found} ({found / count:.1%})" for found in map(proposal.anomalous, (old, new))
    )
    rows = [
        ("", "old", "new"),
        ("image threshold", f"{old.thresholds.image:.6g}", f"{new.thresholds.image:.6g}"),
        ("pixel threshold", f"{old.thresholds.pixel:.6g}", f"{new.thresholds.pixel:.6g}"),
        ("calibrated on", f"{old.calibration.images}", f"{count}"),
        *([("median score moved by", "", f"{proposal.shift:+.3g}")] * (proposal.shift is not None)),
        ("of these anomalous", before, after),
    ]
    lines = [f"{count} images{copies}, {proposal.backend}"]
    lines += [f"  {name:<20} {left:>14} {right:>14}".rstrip() for name, left, right in rows]
    lines += [promise(proposal), "highest scores (on a scale with the old threshold at 0.5):"]
    lines += [
        f"  {scored.score:>10.6g} ({old.normalised(scored.score):.2f})  {scored.name}"
        for scored in proposal.images[:SHOWN]
    ]
    return "\n".join(lines)


def promise(proposal: Proposal) -> str:
    """What the new thresholds promise, in one sentence."""
    found = proposal.new.calibration
    if found.reached <= found.target + 1e-12:
        return f"false alarms on good parts: at most {found.target:.2%} (conformal)"
    moved = proposal.shift is not None
    return (
        f"false alarms on good parts: {found.images} images can promise {found.reached:.2%} at"
        f" best, not the {found.target:.2%} asked for"
        + ("; the old threshold, moved along with the median, is kept as the lower bound" * moved)
    )
