"""`gad completion SHELL`, and what the script that it prints asks for at every press of Tab.

The scripts know nothing of the commands. They call `gad _complete WORD...` with the words so far,
the last one being typed, and offer the lines of its answer: a word, a tab and what it means, or
`:files` or `:folders` for names of those.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from generalad.cli.commands import COMMANDS, find
from generalad.cli.options import Argument, Option, Parameter, parameters
from generalad.cli.parser import HELP, is_option, split
from generalad.errors import UsageError

FILES, FOLDERS = ":files", ":folders"


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Argument("The shell that you use.")],
) -> None:
    """Print what completes commands, options and values in your shell.

    Put the line for your shell where it starts: ~/.bashrc, ~/.zshrc (after compinit) or
    ~/.config/fish/config.fish.

    Examples:
        eval "$(gad completion bash)"
        eval "$(gad completion zsh)"
        gad completion fish | source
    """
    from importlib import resources

    script = resources.files("generalad.cli").joinpath("completion_scripts", f"gad.{shell}")
    sys.stdout.write(script.read_text(encoding="utf-8"))


def complete(words: Sequence[str]) -> int:
    """Print what the last of `words`, the words after `gad`, can become."""
    for line in candidates(words):
        sys.stdout.write(f"{line}\n")
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """Lines for the scripts; only those that begin like the last word."""
    *before, current = _without_equals(words)
    if before[:1] == ["--debug"]:
        del before[0]
    if before[:1] == ["help"]:
        return []
    flag, value = split(current) if current.startswith("--") else ("", None)
    if value is not None:  # --device=c
        before, current = [*before, flag], value
    return [
        line
        for line in _after(before, current)
        if line in (FILES, FOLDERS) or line.startswith(current)
    ]


def _without_equals(words: Sequence[str]) -> list[str]:
    """Bash makes three words of `--device=cpu`."""
    *before, current = words
    return [*(word for word in before if word != "="), "" if current == "=" else current]


def _after(before: list[str], current: str) -> Iterator[str]:
    """What may follow the words before."""
    if not before:
        yield from (f"{name}\t{command.help}" for name, command in COMMANDS.items())
        if current.startswith("-"):
            yield from ("--debug\tShow tracebacks", "--version\tShow the version")
            yield "--help\tShow all commands"
        return
    if len(before) == 1 and before[0] in COMMANDS and not current.startswith("-"):
        yield from COMMANDS[before[0]].subcommands
    try:
        _, command, words = find(before)
    except UsageError:
        return
    declared = parameters(command)
    options = {flag: one for one in declared for flag in one.flags}
    places, waiting, only_places = _read(words, options)
    if waiting is not None:
        yield from _values(waiting)
    elif current.startswith("-"):
        if not only_places:
            yield from _flags(declared, words)
    else:
        arguments = [one for one in declared if not one.flags]
        argument = arguments[min(places, len(arguments) - 1)] if arguments else None
        if argument is not None and (places < len(arguments) or argument.many):
            yield from _values(argument)
        elif not only_places:
            yield from _flags(declared, words)


def _read(
    words: Sequence[str], options: dict[str, Parameter]
) -> tuple[int, Parameter | None, bool]:
    """How many arguments there are, the option that waits for its value, and whether `--` was."""
    places = 0
    waiting: Parameter | None = None
    for index, word in enumerate(words):
        if waiting is not None:
            waiting = None
        elif word == "--":
            return places + len(words) - index - 1, None, True
        elif is_option(word):
            flag, value = split(word)
            option = options.get(flag)
            waiting = option if option and option.takes_value and value is None else None
        else:
            places += 1
    return places, waiting, False


def _flags(declared: Sequence[Parameter], words: Sequence[str]) -> Iterator[str]:
    """The options that may still be given."""
    used = {split(word)[0] for word in words if is_option(word)}
    for one in declared:
        if one.flags and (one.many or not used & set(one.flags)):
            yield f"{one.flags[-1]}\t{one.declared.help}"
    yield f"{HELP[-1]}\tShow what the command takes"


def _values(one: Parameter) -> Iterator[str]:
    """What a parameter may be."""
    option = one.declared if isinstance(one.declared, Option) else None
    if one.choices:
        yield from one.choices
    elif option is None or one.metavar in ("FILE", "PATH"):
        yield FILES
    elif one.metavar == "DIR":
        yield FOLDERS
    else:
        yield from option.suggestions
