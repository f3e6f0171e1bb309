"""`gad calibrate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from generalad.cli.options import Argument, Device, Json, Option, Threads
from generalad.folder_names import is_defect_name

if TYPE_CHECKING:
    from generalad.runtime.confirmed_images import Scored
    from generalad.runtime.recalibrate import Proposal
    from generalad.runtime.threshold_cost import Misses

SHOWN = 10
"""Images with the highest scores that the operator is to look at."""


def calibrate(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    images: Annotated[
        list[str] | None,
        Argument("Recent images of good parts: files, folders, videos, patterns."),
    ] = None,
    *,
    out: Annotated[Path, Option("The new artifact; must not exist.", metavar="FILE")],
    defects: Annotated[
        list[str] | None,
        Option("Images of known defects, to see what is missed; may be repeated.", metavar="PATH"),
    ] = None,
    back: Annotated[bool, Option("Instead, back to the thresholds of before.")] = False,
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

    Examples:
        gad calibrate model.onnx recent/ --out model-2026-03.onnx
        gad calibrate model.onnx recent/ --defects scratched/ --out new.onnx
        gad calibrate model-2026-03.onnx --back --out model-again.onnx
    """
    from generalad.cli.console import confirm, console, plain, print_json, progress
    from generalad.errors import UsageError
    from generalad.runtime.artifact_copy import check_copy
    from generalad.runtime.recalibrate import recalibrate

    if back:
        return _back(artifact, images, out, json=json)
    if not images:
        raise UsageError("calibrate: IMAGES is missing", remedy="gad calibrate --help")
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
            defects=defects or (),
            target=target,
            threads=threads,
            device=device,
            progress=shown,
        )
    screen.print(in_words(proposal), markup=False)
    for line in _marked(images):
        screen.print(line, markup=False)
    if not yes and not confirm("Do all images show good parts?"):
        screen.print("nothing was written")
        return 1
    proposal.write(out)
    print_json({**proposal.to_dict(), "out": str(out)}, wanted=json)
    screen.print(f"[bold]{plain(out)}[/bold]: written; {plain(artifact)} is as it was")
    return 0


def _back(artifact: Path, images: list[str] | None, out: Path, *, json: bool) -> int:
    """Write a copy with the thresholds of before the last calibration."""
    from generalad.cli.console import console, print_json
    from generalad.errors import UsageError
    from generalad.runtime.earlier_thresholds import write_earlier

    if images:
        raise UsageError("--back takes no images", remedy="give them without --back")
    now, before = (spec.thresholds for spec in write_earlier(artifact, out))
    found = {
        "artifact": str(artifact),
        "out": str(out),
        "old": {"image": now.image, "pixel": now.pixel},
        "new": {"image": before.image, "pixel": before.pixel},
    }
    print_json(found, wanted=json)
    console().print(
        f"{out}: written, image threshold {now.image:.6g} → {before.image:.6g} as before;"
        f" {artifact} is as it was",
        markup=False,
    )
    return 0


def in_words(proposal: Proposal) -> str:
    """What would change, and what to look at."""
    old, new, count = proposal.old, proposal.new, len(proposal.images)
    copies = f", {proposal.copies} copies left out" if proposal.copies else ""
    before, after = (
        f"{found} ({found / count:.1%})" for found in map(proposal.anomalous, (old, new))
    )
    shift = proposal.shift
    rows = [
        ("", "old", "new"),
        ("image threshold", f"{old.thresholds.image:.6g}", f"{new.thresholds.image:.6g}"),
        ("pixel threshold", f"{old.thresholds.pixel:.6g}", f"{new.thresholds.pixel:.6g}"),
        ("calibrated on", f"{old.calibration.images}", f"{count}"),
        *([] if shift is None else [("median score moved by", "", f"{shift:+.3g}")]),
        ("of these anomalous", before, after),
        _missed("drawn", proposal.drawn),
        *([_missed("known", proposal.known)] if proposal.known is not None else []),
    ]
    lines = [f"{count} images{copies}, {proposal.backend}"]
    lines += [f"  {name:<20} {left:>14} {right:>14}".rstrip() for name, left, right in rows]
    lines += [promise(proposal), "highest scores (on a scale with the old threshold at 0.5):"]
    lines += [
        f"  {scored.score:>10.6g} ({old.normalised(scored.score):.2f})  {scored.name}"
        for scored in proposal.images[:SHOWN]
    ]
    return "\n".join([*lines, *warnings(proposal)])


def _missed(kind: str, found: Misses) -> tuple[str, str, str]:
    """A row: how many defects both thresholds call good."""
    of = f"of {found.defects}"
    return f"{kind} defects missed", f"{found.old} {of}", f"{found.new} {of}"


def warnings(proposal: Proposal) -> list[str]:
    """What speaks against these images, a line each; first of all look at them."""
    said = [f"warning: {proposal.noticed}"] if proposal.noticed else []
    if called_so := [one for one in proposal.images if _called_defective(one.name)]:
        said.append(f"warning: {_names(called_so)} called by a word for defects")
    if proposal.apart:
        said.append(
            f"warning: {_names(proposal.apart)} with scores far above the others, as defects"
            " have; without,"
            f" the image threshold would be {proposal.without_apart:.6g}"
        )
    if proposal.learned:
        said.append(
            f"warning: {_names(proposal.learned)} that the detector learned from; such score"
            " lower than others, and the promise does not hold"
        )
    elif proposal.learned is None:
        said.append(
            "whether the detector learned from any of these is not known: its artifact is of an"
            " older version or of very many images"
        )
    for kind, found in (("drawn", proposal.drawn), ("known", proposal.known)):
        if found is not None and found.new > found.old:
            more = found.new - found.old
            said.append(f"warning: {more} more of {found.defects} {kind} defects would be missed")
    return said


def _marked(addresses: Sequence[str]) -> list[str]:
    """A warning where files of labelling tools or masks mark images of the folders given."""
    from generalad.data.marked_beside import marked_in

    marked: dict[Path, Path] = {}
    for folder in map(Path, addresses):
        if folder.is_dir():
            marked |= marked_in(folder)
    if not marked:
        return []
    named = ", ".join(f"{image} in {file}" for image, file in list(marked.items())[:3])
    more = ", ..." if len(marked) > 3 else ""
    return [
        f"warning: {len(marked)} images that are labelled, or in which something is marked:"
        f" {named}{more}"
    ]


def _called_defective(name: str) -> bool:
    """Whether a file, or the folder it lies in, is called by a word for defects."""
    path = Path(name)
    # Samples of a stream say what the old threshold made of them, which is in question.
    stem = path.stem.removesuffix("-anomalous")
    return is_defect_name(path.parent.name) or is_defect_name(stem)


def _names(images: Sequence[Scored]) -> str:
    """How many, and the first of them."""
    names = ", ".join(one.name for one in images[:3]) + (", ..." if len(images) > 3 else "")
    return f"{len(images)} image{'s' * (len(images) > 1)} ({names})"


def promise(proposal: Proposal) -> str:
    """What the new thresholds promise, in one sentence."""
    found = proposal.new.calibration
    if found.reached <= found.target + 1e-12:
        return f"false alarms on good parts: at most {found.target:.2%} (conformal)"
    moved = proposal.shift is not None
    largest = found.reached <= 1 / (found.images + 1) + 1e-12
    can, best = ("can promise", " at best") if largest else ("promise", "")
    return (
        f"false alarms on good parts: {found.images} images {can} {found.reached:.2%}"
        f"{best}, not the {found.target:.2%} asked for"
        + ("; the old threshold, moved along with the median, is kept as the lower bound" * moved)
    )
