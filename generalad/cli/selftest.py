"""`gad selftest`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from generalad.cli.options import Argument, Device, Json, Threads
from generalad.printable import printable


def selftest(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Check that this device computes what the export verified.

    Runs the golden samples that the file carries and compares scores, map peaks and decisions with
    those recorded in it; if one differs, the exit code is 3.
    """
    from generalad.cli.console import print_json
    from generalad.runtime.selftest import selftest as run

    found = run(artifact, threads=threads, device=device)
    print_json(found.to_dict(), wanted=json)
    sys.stdout.flush()
    found.check()
    sys.stderr.write(printable(found.in_words()) + "\n")
