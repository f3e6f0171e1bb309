"""Options that several commands have, written once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

# Optional, because Typer evaluates these when the module is loaded.
Threads = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="CPU threads of the network.", show_default="all cores"),
]
Device = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="cpu, cuda or tensorrt.", show_default="the best there is"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON even when stdout is a terminal.")]
