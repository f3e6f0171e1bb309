"""`gad cameras` and `gad cameras test`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from generalad.cli.options import Argument, Json, Option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

    from generalad.runtime.cameras.try_camera import Trial


def cameras(
    producer: Annotated[
        list[Path],
        Option("GenTL producer (.cti) beside those of GENICAM_GENTL64_PATH.", metavar="FILE"),
    ] = (),  # type: ignore[assignment]
    json: Json = False,
) -> None:
    """List the cameras that can be opened, with the address to copy.

    Industrial cameras through GenICam producers, pypylon and Aravis, where these are installed, and
    cameras of this machine. Addresses name a camera by its serial number, its user name or its
    network address, never by its place in a list.

    Examples:
        gad cameras
        gad cameras test basler:40012345
        gad cameras test gige:10.0.0.31 --set ExposureTime=5000 -o picture.png
    """
    from generalad.cli.console import console, plain, print_json
    from generalad.runtime.cameras.industrial.found_cameras import find_cameras

    found = find_cameras(producer)
    screen = console()
    for camera in found.cameras:
        who = camera.identity
        known = [f"{who.vendor} {who.model}".strip()]
        known += [f"serial {who.serial}"] if who.serial else []
        known += [f"name {who.name}"] if who.name else []
        known += who.network
        screen.print(f"[bold]{plain(camera.address)}[/bold]  {plain(', '.join(known))}")
    if not found.cameras:
        screen.print("no camera found")
    for kind, reason in found.not_searched.items():
        screen.print(f"{kind}: not searched: {reason}", style="dim", markup=False)
    record = {
        "cameras": [
            {"address": camera.address, "kind": camera.kind, **camera.identity._asdict()}
            for camera in found.cameras
        ],
        "not_searched": found.not_searched,
    }
    print_json(record, wanted=json)


def test(
    address: Annotated[str, Argument("Address of a camera, as gad cameras lists it.")],
    seconds: Annotated[float, Option("How long frames are counted.", least=0.1)] = 5.0,
    settings: Annotated[
        list[str],
        Option(
            "A setting by its GenICam name; several are made in order.",
            metavar="NAME=VALUE",
            flag="--set",
        ),
    ] = (),  # type: ignore[assignment]
    out: Annotated[
        Path | None,
        Option("Write the last picture there.", short="-o", metavar="FILE", default="terminal"),
    ] = None,
    json: Json = False,
) -> int:
    """Open a camera and show rate, losses, size, format and one picture.

    The exit code is 1 when the camera gives no frame.

    Examples:
        gad cameras test basler:40012345
        gad cameras test gige:10.0.0.31 --set PixelFormat=Mono12 --set Gain=3
    """
    from generalad.cli.console import console, print_json, progress
    from generalad.runtime.cameras.try_camera import try_camera

    screen = console()
    if out is not None:
        _check_place(out)
    with progress(screen) as shown:
        trial = try_camera(address, seconds=seconds, settings=_settings(settings), progress=shown)
    for name, value in rows(trial):
        screen.print(f"  {name:<16} {value}", markup=False)
    if trial.picture is not None and out is not None:
        _write(trial.picture, out)
        screen.print(f"  {'picture':<16} {out}", markup=False)
    elif trial.picture is not None and screen.is_terminal:
        screen.print(as_text(trial.picture, min(screen.width, 80)))
    print_json({**trial.to_dict(), "picture": out and str(out)}, wanted=json)
    return 0 if trial.frames else 1


def rows(trial: Trial) -> list[tuple[str, str]]:
    """What is shown of a trial: name and value."""
    from statistics import median

    height, width = trial.size or (0, 0)
    lost = ", ".join(f"{count} {reason}" for reason, count in trial.dropped.items()) or "none"
    shown = [
        ("camera", trial.address),
        ("rate", f"{trial.rate:.1f} frames a second ({trial.frames} in {trial.seconds:.1f} s)"),
        ("lost frames", lost),
        ("size", f"{width} x {height}" if trial.size else "not known"),
    ]
    if trial.packets is not None:
        shown.append(("lost packets", f"{trial.packets[0]}, {trial.packets[1]} sent again"))
    if trial.pixel_format is not None:
        shown.append(("pixel format", trial.pixel_format))
    if trial.trigger is not None:
        words = {"free": "none, free running", "software": "by software", "line": "by a signal"}
        shown.append(("trigger", words[trial.trigger]))
    if times := trial.trigger_ms:
        shown.append(
            ("trigger to image", f"median {median(times):.1f} ms, at most {max(times):.1f} ms")
        )
    if failed := trial.failed_triggers:
        shown.append(("failed triggers", f"{len(failed)}, the last one: {failed[-1]}"))
    if trial.note:
        shown.append(("note", trial.note))
    return shown


def as_text(image: NDArray[np.uint8], columns: int) -> Text:
    """A picture of coloured half blocks, two rows of pixels a line."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    from generalad.preprocess import resize

    height, width = image.shape[:2]
    lines = max(1, round(columns * height / width / 2))
    small = resize(image, (2 * lines, columns))
    text = Text()
    for line in range(lines):
        for upper, lower in zip(small[2 * line], small[2 * line + 1], strict=True):
            colours = (Color.from_rgb(*map(int, pixel)) for pixel in (upper, lower))
            text.append("▀", Style(color=next(colours), bgcolor=next(colours)))
        text.append("\n")
    return text


def _settings(words: list[str]) -> dict[str, bool | int | float | str]:
    """`NAME=VALUE`, the value as in a line's file; a text needs no quotes."""
    from generalad.errors import UsageError

    found: dict[str, bool | int | float | str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals and text):
            raise UsageError(f"--set: expected NAME=VALUE, found {word!r}", remedy="such as Gain=3")
        found[name] = _value(text)
    return found


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check_place(out: Path) -> None:
    from generalad.errors import UsageError
    from generalad.files import check_writable

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(
            f"{out}: expected a name that ends with .png or .jpg", remedy="give it another name"
        )
    check_writable(out)


def _write(image: NDArray[Any], out: Path) -> None:
    import cv2

    from generalad.files import atomic_write

    encoded = cv2.imencode(out.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with atomic_write(out) as temporary:
        temporary.write_bytes(encoded.tobytes())
