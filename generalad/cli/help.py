"""What `--help` prints, in one look for all commands: text, usage, and two columns under headings.

Plain text, in colours only on a terminal (`NO_COLOR` turns them off), as wide as the terminal is.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from generalad.cli.commands import COMMANDS, load

if TYPE_CHECKING:
    from generalad.cli.options import Parameter

WIDEST = 100
"""Columns; longer lines are hard to read."""

_LEFT = 26
"""Columns for the names of options; the text of longer ones begins on the next line."""

EXIT_CODES = "0 done  1 failed  2 wrong usage  3 a gate said no  130, 143 interrupted"

Row = tuple[str, str]
"""Left and right column."""


class Style(NamedTuple):
    """How wide lines are, and whether escape sequences of a terminal are written."""

    width: int
    colour: bool

    def heading(self, text: str) -> str:
        """In bold."""
        return f"\033[1m{text}\033[0m" if self.colour else text

    def name(self, text: str) -> str:
        """What is typed, in cyan."""
        return f"\033[36m{text}\033[0m" if self.colour else text


def show(page: Callable[[Style], str]) -> None:
    """Print a page of help to stdout."""
    colour = (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
    sys.stdout.write(page(Style(min(_columns(), WIDEST), colour)))


def _columns() -> int:
    """As shutil tells them, which takes longer to load than to print the help."""
    if (given := os.environ.get("COLUMNS", "")).isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal
        return 80


def overview(style: Style) -> str:
    """`gad --help`: all commands."""
    sections: dict[str, list[Row]] = {}
    for name, command in COMMANDS.items():
        sections.setdefault(command.group, []).append((name, command.help))
    sections["Options"] = [
        ("--debug", "Show tracebacks; before the command."),
        ("--version", "Show the version."),
        ("-h, --help", "Show this, or after a command what it takes."),
    ]
    last = ["", style.heading("Exit codes"), f"  {EXIT_CODES}"]
    title = ["gad: visual anomaly detection from good images to a production line"]
    return _page(style, title, "gad [--debug] COMMAND [OPTIONS]", sections, last)


def group_help(name: str, style: Style) -> str:
    """`gad data --help`: the commands below another."""
    command = COMMANDS[name]
    rows = [(sub, _paragraphs(load(name, sub))[0]) for sub in command.subcommands]
    sections = {"Commands": rows, "Options": [("-h, --help", "Show this.")]}
    if command.alone:
        return command_help(name, load(name), style, {"Commands": rows})
    return _page(style, [command.help], f"gad {name} COMMAND [OPTIONS]", sections)


def command_help(
    name: str,
    command: Callable[..., Any],
    style: Style,
    before: Mapping[str, list[Row]] = MappingProxyType({}),
) -> str:
    """`gad COMMAND --help`: its docstring, and what its parameters declare after `before`."""
    from generalad.cli.options import Option, parameters  # not for `gad --help`, which is quick

    declared = parameters(command)
    sections: dict[str, list[Row]] = {**before, "Arguments": [], "Options": []}
    usage = [f"gad {name} [OPTIONS]"]
    for one in declared:
        if isinstance(one.declared, Option):
            short = f"{one.declared.short}, " if one.declared.short else "    "
            value = f" {one.metavar}" if one.takes_value else ""
            row = (f"{short}{one.flags[-1]}{value}", one.declared.help + _notes(one))
            sections.setdefault(one.declared.group, []).append(row)
        else:
            shown = f"{one.metavar}…" if one.many else one.metavar
            usage.append(shown if one.required else f"[{shown}]")
            sections["Arguments"].append((shown, one.declared.help + _notes(one)))
    sections["Options"].append(("-h, --help", "Show this."))
    examples = _examples(command)
    last = ["", style.heading("Examples"), *(f"  {line}" for line in examples)] if examples else []
    text = _paragraphs(command)
    return _page(style, text, " ".join(usage), {k: v for k, v in sections.items() if v}, last)


def _notes(one: Parameter) -> str:
    """What is allowed, and what happens without it, in brackets."""
    default = getattr(one.declared, "default", "")
    if not default and one.takes_value and one.default not in (None, ()):
        default = str(one.default)
    notes = [", ".join(one.choices)] if one.choices else []
    notes += [f"default: {default}"] if default else []
    notes += ["required"] if one.required and one.flags else []
    return f" [{'; '.join(notes)}]" if notes else ""


def _page(
    style: Style,
    text: Sequence[str],
    usage: str,
    sections: dict[str, list[Row]],
    last: Sequence[str] = (),
) -> str:
    lines: list[str] = []
    for paragraph in text:
        lines += [*_wrapped(paragraph, style.width), ""]
    lines.append(f"{style.heading('Usage')}  {usage}")
    longest = max(len(left) for rows in sections.values() for left, _ in rows)
    left_width = min(longest, _LEFT, style.width // 3)
    for heading, rows in sections.items():
        lines += ["", style.heading(heading)]
        for row in rows:
            lines += _row(*row, left_width, style)
    return "\n".join([*lines, *last, ""])


def _row(left: str, right: str, left_width: int, style: Style) -> Iterator[str]:
    indent = " " * (left_width + 4)
    first, *more = _wrapped(right, style.width - len(indent))
    if len(left) > left_width:
        yield f"  {style.name(left)}"
        yield indent + first
    else:
        yield f"  {style.name(left)}{' ' * (left_width - len(left) + 2)}{first}"
    yield from (indent + line for line in more)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 10), break_on_hyphens=False, break_long_words=False)


def _paragraphs(command: Callable[..., Any]) -> list[str]:
    """The docstring without its examples, each paragraph one line."""
    text = _docstring(command).partition("\n\nExamples:")[0]
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _examples(command: Callable[..., Any]) -> list[str]:
    text = _docstring(command).partition("\n\nExamples:\n")[2]
    return [re.sub(r"^ +", "", line) for line in text.splitlines() if line.strip()]


def _docstring(command: Callable[..., Any]) -> str:
    import inspect

    return inspect.getdoc(command) or ""
