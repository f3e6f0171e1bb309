"""The command line: `gad COMMAND …`.

`COMMANDS` is all there is to know here. Only the module of the command that was called is imported,
and `gad --help` imports none, so that help appears at once. Each command parses its options, calls
one function and prints: results for machines on stdout, words for people on stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """A command: its group in the overview, the module that holds it, and what it does."""

    group: str
    module: str
    help: str


COMMANDS = {
    "demo": Command("Start", "demo", "Make parts, train, export, verify and find their defects."),
    "data": Command("Start", "data", "Check a dataset (data check) or make one (data synth)."),
    "train": Command("Train", "train", "Learn what good looks like from a folder of good images."),
    "eval": Command(
        "Train", "evaluate", "Measure a detector or artifact on test images; HTML report."
    ),
    "export": Command(
        "Deploy", "export", "Turn a detector into one ONNX file that is proven equal."
    ),
    "infer": Command("Deploy", "infer", "Run an artifact on images, videos and cameras."),
    "selftest": Command(
        "Deploy", "selftest", "Check that this device computes what the export verified."
    ),
    "bench": Command("Deploy", "bench", "Measure latency, alone or in pairs against another one."),
    "calibrate": Command(
        "Deploy", "calibrate", "Set an artifact's thresholds anew from recent good images."
    ),
    "info": Command("Look", "info", "Show what is inside a detector or artifact."),
    "doctor": Command("Look", "doctor", "Show what this machine can run, and why not."),
}

USAGE = "gad [--debug] COMMAND [OPTIONS]"
EXIT_CODES = """\
  0 done   1 the work failed   2 wrong usage   3 a gate said no   130, 143 interrupted"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `gad`; ends the process with the documented exit code.

    With `arguments` given, from within a program, by SystemExit.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # a service may be started with them closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words[:1] or bool(os.environ.get("GAD_DEBUG"))
    if words[:1] == ["--debug"]:
        del words[0]
    if not words or words[0] in ("--help", "-h", "help"):
        sys.stdout.write(overview(colour=sys.stdout.isatty()))
        sys.exit(0)
    if words[0] == "--version":
        from generalad import __version__

        sys.stdout.write(f"gad {__version__}\n")
        sys.exit(0)
    if words[0] not in COMMANDS:
        _unknown(words[0])
    from generalad.cli.run import begin_process, end_process, guarded

    quick = words[0] == "infer" and arguments is None
    if quick:
        begin_process()
    code = guarded(lambda: _call(words[0], words[1:]), debug=debug)
    if quick:
        end_process(code)
    sys.exit(code)


def _call(name: str, arguments: list[str]) -> int:
    """Run one command: by its own `main`, or by Typer."""
    command = COMMANDS[name]
    module = importlib.import_module(f"generalad.cli.{command.module}")
    if hasattr(module, "main"):
        return int(module.main(arguments))
    from generalad.cli.typed import call

    return call(name, getattr(module, "app", None) or getattr(module, command.module), arguments)


def overview(*, colour: bool) -> str:
    """What `gad --help` prints."""
    bold, dim, off = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")
    lines = [
        f"{bold}gad{off}: visual anomaly detection from good images to a production line",
        "",
        f"{bold}Usage{off}  {USAGE}",
    ]
    group = ""
    for name, command in COMMANDS.items():
        if command.group != group:
            group = command.group
            lines += ["", f"{bold}{group}{off}"]
        lines.append(f"  {name:<9} {command.help}")
    lines += [
        "",
        f"{dim}gad COMMAND --help explains a command. --debug shows tracebacks. Exit codes:{off}",
        f"{dim}{EXIT_CODES}{off}",
        "",
    ]
    return "\n".join(lines)


def _unknown(word: str) -> None:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "gad --help lists the commands"
    what = "option" if word.startswith("-") else "command"
    sys.stderr.write(f"gad: no {what} {word!r} → {hint}\n")
    sys.exit(2)
