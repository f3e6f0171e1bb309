"""How commands declare their options, and the options that several have.

A command is a function; the annotations of its parameters are all that there is to say:

    def train(
        data: Annotated[Path, Argument("Folder of good images.")],
        out: Annotated[Path | None, Option("Folder of the detector.", short="-o")] = None,
        preset: Annotated[Literal["small", "base"], Option("The backbone.")] = "small",
    ) -> None:

What is parsed (`parser.py`), what `--help` shows (`help.py`) and what a shell completes
(`completion.py`) is read from there. The docstring is the text of `--help`, and its section
"Examples:" the examples. A parameter that is False without its option takes no value.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple


class Argument(NamedTuple):
    """A parameter that is given by its place."""

    help: str


class Option(NamedTuple):
    """A parameter that is given by its name, `--like-this` for `like_this`.

    Attributes:
        help: what it is for.
        short: another name, such as "-o".
        metavar: stands for the value in `--help`. Shells complete files for FILE and PATH, and
            folders for DIR.
        default: what happens without it, where the default itself does not tell.
        group: heading in `--help`.
        least: smallest number that is allowed.
        most: largest.
        suggestions: values that shells offer; others are allowed too. Of a number: words that may
            stand for one.
        flag: the name, where it is not that of the parameter: "--class" cannot be one in Python.
    """

    help: str
    short: str = ""
    metavar: str = ""
    default: str = ""
    group: str = "Options"
    least: float | None = None
    most: float | None = None
    suggestions: tuple[str, ...] = ()
    flag: str = ""


class Parameter(NamedTuple):
    """A declared parameter, read from the annotations of a command.

    Attributes:
        name: of the function's parameter.
        declared: as it was written down.
        type: of one value: str, int, float, Path or bool.
        choices: the only values that are allowed; empty where all are.
        many: whether several values may be given.
        required: whether there is no default.
        default: the value without it.
    """

    name: str
    declared: Argument | Option
    type: type
    choices: tuple[str, ...]
    many: bool
    required: bool
    default: Any

    @property
    def flags(self) -> tuple[str, ...]:
        """The names on the command line, the long one last; none for an argument."""
        if isinstance(self.declared, Argument):
            return ()
        long = self.declared.flag or f"--{self.name.replace('_', '-')}"
        return (self.declared.short, long) if self.declared.short else (long,)

    @property
    def title(self) -> str:
        """How messages call it."""
        return self.flags[-1] if self.flags else self.metavar

    @property
    def metavar(self) -> str:
        """What stands for a value in `--help`."""
        if isinstance(self.declared, Option) and self.declared.metavar:
            return self.declared.metavar
        shown = {Path: "PATH", int: "N", float: "X"} if self.flags else {}
        return shown.get(self.type, self.name.upper())

    @property
    def takes_value(self) -> bool:
        """False for a switch."""
        return self.type is not bool


def parameters(command: Callable[..., Any]) -> list[Parameter]:
    """What a command declares, in order."""
    source = record_of(command) or command
    hints = typing.get_type_hints(source, include_extras=True)
    return [
        _parameter(name, hints[name], found.default)
        for name, found in inspect.signature(source).parameters.items()
    ]


def record_of(command: Callable[..., Any]) -> type | None:
    """The NamedTuple that is the only parameter of a command, in place of many parameters."""
    hints = [hint for name, hint in typing.get_type_hints(command).items() if name != "return"]
    return hints[0] if hints and hasattr(hints[0], "_fields") else None


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    declared, choices, many = None, (), False
    while origin := typing.get_origin(hint):
        inner = typing.get_args(hint)
        if origin is Literal:
            hint, choices = str, inner
            continue
        if origin is Annotated:
            declared = inner[1]
        elif origin not in (typing.Union, types.UnionType):
            many = True
        hint = inner[0]  # of a union: X | None
    if not isinstance(declared, Argument | Option):
        raise TypeError(f"{name} is neither Argument nor Option")
    required = default is inspect.Parameter.empty
    return Parameter(name, declared, hint, choices, many, required, None if required else default)


Threads = Annotated[int | None, Option("CPU threads of the network.", least=1, default="all cores")]
Device = Annotated[
    Literal["cpu", "cuda", "tensorrt"] | None,
    Option("Used or refused.", default="the best there is"),
]
TrainingDevice = Annotated[
    str | None,
    Option("cpu, cuda, …", default="a GPU if there is one", suggestions=("cpu", "cuda")),
]
Cache = Annotated[
    Path | None,
    Option("Folder of the feature cache.", metavar="DIR", default="the user's cache"),
]
ClassName = Annotated[
    str | None,
    Option(
        "Which of several classes; its good images are the normal ones.",
        flag="--class",
        metavar="NAME",
    ),
]
Anomalous = Annotated[
    str | None,
    Option(
        "Instead, of classes that are kinds of things: this one is anomalous, all others normal.",
        metavar="NAME",
    ),
]
AllGood = Annotated[
    bool,
    Option("All training images show good parts, whatever their folders are called."),
]
Ray = Annotated[
    str | None,
    Option(
        "Spread it over a Ray cluster: its address, auto or local.",
        metavar="ADDRESS",
        suggestions=("auto", "local"),
    ),
]
Json = Annotated[bool, Option("Print JSON even when stdout is a terminal.")]
Category = Annotated[
    Sequence[Literal["washer", "fabric", "board"]],
    Option("Kind of parts; may be repeated.", default="all"),
]
