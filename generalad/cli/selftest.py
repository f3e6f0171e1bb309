"""`gad selftest`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def selftest(
    artifact: Annotated[Path, typer.Argument(help="Exported file, such as model.onnx.")],
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads of the network.", show_default="all cores"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or tensorrt.", show_default="the best there is")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON even when stdout is a terminal.")
    ] = False,
) -> None:
    """Check that this device computes what the export verified.

    Runs the golden samples that the file carries and compares scores, map peaks and decisions with
    those recorded in it; if one differs, the exit code is 3.
    """
    from generalad.cli.console import print_json
    from generalad.runtime.golden import selftest as run

    found = run(artifact, threads=threads, device=device)
    print_json(found.to_dict(), wanted=json)
    sys.stdout.flush()
    found.check()
    sys.stderr.write(found.in_words() + "\n")
