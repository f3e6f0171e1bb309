"""Parses the words after a command into the values of its parameters.

By hand, because `gad infer` is called again and again on small machines: libraries for command
lines take up to as long to load as a whole run of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from generalad.cli.options import Option, Parameter, parameters, record_of
from generalad.errors import UsageError, word_hint

HELP = ("-h", "--help")


def run(name: str, command: Callable[..., Any], words: Sequence[str]) -> int:
    """Parse `words` and call the command, or print its help; returns the exit code.

    Raises:
        UsageError: the words do not fit the command.
        GadError: from the command.
    """
    values = parse(name, parameters(command), words)
    if values is None:
        from generalad.cli.help import command_help, show

        show(lambda style: command_help(name, command, style))
        return 0
    record = record_of(command)
    code = command(**values) if record is None else command(record(**values))
    return int(code or 0)


def parse(name: str, declared: Sequence[Parameter], words: Sequence[str]) -> dict[str, Any] | None:
    """Values by the names of the parameters; None if help is asked for.

    Options and arguments may be mixed; after `--` come arguments only. Options with a value are
    `--name value`, `--name=value`, `-n value` or `-nvalue`; the last one counts, unless the
    parameter takes many.
    """
    options = {flag: one for one in declared for flag in one.flags}
    given: dict[str, list[Any]] = {}
    places: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            places += rest
            break
        if not is_option(word):
            places.append(word)
            continue
        flag, value = split(word)
        if flag in HELP:
            return None
        if flag not in options:
            raise UsageError(
                f"{name}: no option {flag!r}", remedy=word_hint(flag, options, f"gad {name}")
            )
        option = options[flag]
        if not option.takes_value:
            if value is not None:
                raise UsageError(
                    f"{name}: {flag} takes no value, found {value!r}", remedy=f"gad {name} --help"
                )
            given[option.name] = [True]
            continue
        if value is None:
            if not rest:
                raise UsageError(
                    f"{name}: {flag} needs a value, {option.metavar}", remedy=f"gad {name} --help"
                )
            value = rest.pop(0)
        given.setdefault(option.name, []).append(convert(name, option, value))
    _place(name, [one for one in declared if not one.flags], places, given)
    for one in declared:
        if one.required and one.name not in given:
            raise UsageError(f"{name}: {one.title} is missing", remedy=f"gad {name} --help")
    return {
        one.name: (given[one.name] if one.many else given[one.name][-1])
        if one.name in given
        else one.default
        for one in declared
    }


def is_option(word: str) -> bool:
    """Whether a word is the name of an option; `-` alone is stdin or stdout."""
    return word.startswith("-") and word not in ("-", "--")


def split(word: str) -> tuple[str, str | None]:
    """Name and value of `--name=value` or `-nvalue`."""
    if word.startswith("--"):
        flag, equals, value = word.partition("=")
        return flag, value if equals else None
    return word[:2], word[2:] or None


def _place(
    name: str, arguments: Sequence[Parameter], places: list[str], given: dict[str, list[Any]]
) -> None:
    """Give the arguments what they take of the words that are no options."""
    for one in arguments:
        taken = places if one.many else places[:1]
        places = places[len(taken) :]
        if taken:
            given[one.name] = [convert(name, one, text) for text in taken]
    if places:
        raise UsageError(f"{name}: one word too many, {places[0]!r}", remedy=f"gad {name} --help")


def convert(name: str, one: Parameter, text: str) -> Any:
    """The value that a word stands for.

    Raises:
        UsageError: it stands for none, or for one that is not allowed.
    """
    if one.choices:
        if text in one.choices:
            return text
        expected = " or ".join((", ".join(one.choices[:-1]), one.choices[-1]))
        remedy = word_hint(text, one.choices, f"gad {name}")
        raise UsageError(f"{name}: {one.title}: expected {expected}, found {text!r}", remedy=remedy)
    if not text and (one.type is Path or not one.flags):
        # Path("") is the working directory, and all of it would be read.
        raise UsageError(
            f"{name}: {one.title} is empty", remedy="is a variable of the shell unset?"
        )
    if one.type is str or one.type is Path:
        return one.type(text)
    option = one.declared if isinstance(one.declared, Option) else Option("")
    if text in option.suggestions:
        return text
    try:
        value = one.type(text)
    except ValueError:
        value = None
    if value is None or not _within(value, option.least, option.most):
        raise UsageError(
            f"{name}: {one.title}: expected {_kind(one.type, option)}, found {text!r}",
            remedy=f"gad {name} --help",
        )
    return value


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _kind(kind: type, option: Option) -> str:
    words = "".join(f"{word} or " for word in option.suggestions)
    words += "a whole number" if kind is int else "a number"
    words += "" if option.least is None else f" from {option.least:g}"
    return words if option.most is None else f"{words} to {option.most:g}"
