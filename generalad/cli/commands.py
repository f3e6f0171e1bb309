"""All commands: their place in `gad --help`, the module of each, and how to load one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from generalad.errors import UsageError, word_hint


class Command(NamedTuple):
    """A line of `gad --help`; `module` holds a function for the command, or one a subcommand.

    With `alone`, a command that has subcommands does something without one too.
    """

    group: str
    module: str
    help: str
    subcommands: tuple[str, ...] = ()
    alone: bool = False

    def stands_alone(self, rest: Sequence[str]) -> bool:
        """Whether the words after the command call itself, not a subcommand."""
        return not self.subcommands or (self.alone and (not rest or rest[0].startswith("-")))


COMMANDS = {
    "demo": Command("Start", "demo", "Make parts, train, export, verify and find their defects."),
    "data": Command(
        "Start",
        "data",
        "Check a dataset, make one (synth), or unpack CIFAR (unpack).",
        ("check", "synth", "unpack"),
    ),
    "train": Command("Train", "train", "Learn what good looks like from a folder of good images."),
    "import": Command(
        "Train",
        "import_checkpoint",
        "Turn a checkpoint of the paper's code or of anomalib into a detector.",
    ),
    "eval": Command(
        "Train", "evaluate", "Measure a detector or artifact on test images; HTML report."
    ),
    "reproduce": Command(
        "Train", "reproduce", "Train and measure a table of the paper, beside its numbers."
    ),
    "figure": Command("Train", "figure", "Draw images, ground truth and maps side by side."),
    "export": Command(
        "Deploy", "export", "Turn a detector into one ONNX file that is proven equal."
    ),
    "infer": Command("Deploy", "infer", "Run an artifact on images, videos and cameras."),
    "serve": Command("Deploy", "serve", "Serve artifacts over HTTP, with a page for a line."),
    "cameras": Command(
        "Deploy",
        "cameras",
        "List the cameras that can be opened; try one (test).",
        ("test",),
        alone=True,
    ),
    "station": Command(
        "Deploy",
        "station",
        "Inspect parts for a PLC (run); try all of it (check); print its registers (map).",
        ("run", "check", "map"),
    ),
    "selftest": Command(
        "Deploy", "selftest", "Check that this device computes what the export verified."
    ),
    "sign": Command("Deploy", "sign", "Sign an artifact, so that devices know who made it."),
    "verify": Command("Deploy", "verify", "Check the signature of an artifact."),
    "bench": Command("Deploy", "bench", "Measure latency, alone or in pairs against another one."),
    "calibrate": Command(
        "Deploy", "calibrate", "Set an artifact's thresholds anew from recent good images."
    ),
    "info": Command("Look", "info", "Show what is inside a detector or artifact."),
    "doctor": Command("Look", "doctor", "Show what this machine can run, and why not."),
    "completion": Command("Look", "completion", "Print what completes commands in your shell."),
}


def find(words: Sequence[str]) -> tuple[str, Callable[..., Any], list[str]]:
    """The command that `words` begin with: its name, its function, and the words after it.

    Raises:
        UsageError: there is none.
    """
    first, *rest = words
    if first not in COMMANDS:
        kind = "option" if first.startswith("-") else "command"
        raise UsageError(f"no {kind} {first!r}", remedy=word_hint(first, COMMANDS, "gad"))
    command = COMMANDS[first]
    if command.stands_alone(rest):
        return first, load(first), rest
    if not rest or rest[0] not in command.subcommands:
        found = repr(rest[0]) if rest else "nothing"
        raise UsageError(
            f"{first}: expected {' or '.join(command.subcommands)}, found {found}",
            remedy=word_hint(rest[0] if rest else "", command.subcommands, f"gad {first}"),
        )
    return f"{first} {rest[0]}", load(first, rest[0]), rest[1:]


def load(name: str, subcommand: str = "") -> Callable[..., Any]:
    """The function of a command; imports its module, and no other command's."""
    module = COMMANDS[name].module
    function = getattr(importlib.import_module(f"generalad.cli.{module}"), subcommand or module)
    return function  # type: ignore[no-any-return]
