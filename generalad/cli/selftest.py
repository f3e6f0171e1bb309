"""`gad selftest`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from generalad.cli.options import Argument, Device, Json, Option, Threads
from generalad.printable import printable


def selftest(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    threads: Threads = None,
    device: Device = None,
    verify_precision: Annotated[
        Path | None,
        Option("First verify half precision of this processor on good images.", metavar="IMAGES"),
    ] = None,
    json: Json = False,
) -> None:
    """Check that this device computes what the export verified.

    Runs the golden samples that the file carries and compares scores, map peaks and decisions with
    those recorded in it; if one differs, the exit code is 3.

    With --verify-precision the file is first compared with itself in the half precision of this
    processor, by the limits of an export. What passes is recorded in it, and taken from then on
    where it was faster.

    Examples:
        gad selftest model.onnx
        gad selftest model-fp16.xml --verify-precision good/
    """
    from generalad.cli.console import print_json
    from generalad.runtime.selftest import selftest as run

    if verify_precision is not None:
        _verify(artifact, verify_precision)
    found = run(artifact, threads=threads, device=device)
    print_json(found.to_dict(), wanted=json)
    sys.stdout.flush()
    found.check()
    sys.stderr.write(printable(found.in_words()) + "\n")


def _verify(artifact: Path, images: Path) -> None:
    from generalad.cli.console import console, plain, progress
    from generalad.export.half_precision import verify_here

    screen = console()
    with progress(screen) as shown:
        found = verify_here(artifact, images, progress=shown)
    taken = "taken from now on" if found.faster else "not surely faster, so not taken"
    screen.print(f"[bold]{plain(artifact)}[/bold]: {found.in_words()}, {taken}")
