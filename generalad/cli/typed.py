"""Calls a command through Typer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import typer

from generalad.cli.run import INTERRUPTED, WRONG_USAGE


def paragraphs(text: str) -> str:
    """A docstring with each paragraph on one line, for the terminal's own width to break."""
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)


def call(name: str, command: typer.Typer | Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run a command function, or an application of several; returns the exit code.

    Errors of ours and Ctrl-C pass through.
    """
    if isinstance(command, typer.Typer):
        app = command
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(context_settings={"help_option_names": ["--help", "-h"]})(command)
    for known in app.registered_commands:
        known.help = paragraphs(known.callback.__doc__ or "")
    try:
        # Standalone mode would turn Ctrl-C into exit code 1.
        result = typer.main.get_command(app).main(
            list(arguments), prog_name=f"gad {name}", standalone_mode=False
        )
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # wrong usage, found by Typer
        return WRONG_USAGE
    if result == INTERRUPTED:  # newer versions of Typer report Ctrl-C so
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0
