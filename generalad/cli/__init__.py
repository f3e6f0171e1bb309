"""The command line: `gad COMMAND …`.

    main ─► commands.py: find the function ─► parser.py: its parameters from the words ─► call it

Only the module of the command that was called is imported, and `gad --help` imports none, so that
help appears at once. Each command calls one function of the package and prints: results for
machines on stdout, words for people on stderr. `process.py` turns errors into exit codes.
"""

from __future__ import annotations

# Nothing else: until `main` is called, Ctrl-C would show a traceback.
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["main"]

HELP = ("--help", "-h", "help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `gad`; ends the process with the documented exit code.

    With `arguments` given, from within a program, by SystemExit.
    """
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # a service may be started with them closed
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8"):
            from generalad.cli.process import escape_what_cannot_be_written

            escape_what_cannot_be_written(sys.stdout)
        if arguments is None:
            sys.unraisablehook = _unraisable
        _main(arguments)
    except KeyboardInterrupt:  # while even this is being loaded
        sys.stderr.write("gad: interrupted\n")
        sys.exit(130)


def _unraisable(found: Any) -> None:
    """Ctrl-C within what may raise nothing, such as a lock of a module that is being loaded."""
    if found.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(found)
        return
    os.write(2, b"gad: interrupted\n")
    os._exit(130)


def _main(arguments: Sequence[str] | None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words[:1] or bool(os.environ.get("GAD_DEBUG"))
    if words[:1] == ["--debug"]:
        del words[0]
    from generalad.cli.process import exit_at_once, exit_code_of, own_process, start_fast

    fast = words[:1] == ["infer"] and arguments is None
    if arguments is None:
        own_process()
    if fast:
        start_fast()
    code = exit_code_of(lambda: _run(words), debug=debug)
    if fast:
        exit_at_once(code)
    sys.exit(code)


def _run(words: list[str]) -> int:
    """Do what the words say; returns the exit code."""
    first = words[0] if words else "--help"
    if first in HELP:
        from generalad.cli.help import overview, show

        show(overview)
        return 0
    if first == "--version":
        from generalad.version import __version__

        sys.stdout.write(f"gad {__version__}\n")
        return 0
    if first == "_complete":
        from generalad.cli.completion import complete

        return complete(words[1:])
    from generalad.cli.commands import COMMANDS, find

    asked = words[1:2] in (["-h"], ["--help"])
    if (
        first in COMMANDS
        and COMMANDS[first].subcommands
        and (asked or (not words[1:] and not COMMANDS[first].alone))
    ):
        from generalad.cli.help import group_help, show

        show(lambda style: group_help(first, style))
        return 0 if words[1:] else 2
    from generalad.cli.parser import run

    return run(*find(words))
