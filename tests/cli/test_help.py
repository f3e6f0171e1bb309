"""One look for every `--help`: widths, colours, and that nothing declared is missing."""

from __future__ import annotations

import re
import sys

import pytest
from cli_helpers import Capture, gad
from test_parser import functions

from generalad.cli.commands import COMMANDS
from generalad.cli.help import Style, command_help, group_help, overview, show
from generalad.cli.options import parameters

NAMES = list(functions())


def pages(style: Style) -> list[str]:
    """All there are."""
    return [
        overview(style),
        *(group_help(name, style) for name, one in COMMANDS.items() if one.subcommands),
        *(command_help(name, function, style) for name, function in functions().items()),
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = [line for page in pages(Style(width, colour=False)) for line in page.splitlines()]
    assert 0.8 * width < max(map(len, lines)) <= width


def test_colours_change_no_word() -> None:
    plain, coloured = pages(Style(80, colour=False)), pages(Style(80, colour=True))
    assert all("\033[1mUsage\033[0m" in page for page in coloured)
    assert [re.sub(r"\033\[\d*m", "", page) for page in coloured] == plain


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_explained(name: str, capsys: Capture) -> None:
    code, out, err = gad(capsys, *name.split(), "--help")
    assert (code, err) == (0, "")
    assert out.split("Usage  ")[1].startswith(f"gad {name} [OPTIONS]")
    assert "\033" not in out and "  -h, --help" in out
    words = " ".join(out.split())
    for one in parameters(functions()[name]):
        assert all(flag in words for flag in one.flags) and one.declared.help in words
        assert all(choice in words for choice in one.choices)


def test_help_is_shown_wherever_it_stands(capsys: Capture) -> None:
    _, expected, _ = gad(capsys, "train", "--help")
    for words in (["-h"], ["parts", "--epochs", "3", "-h"], ["--help", "--no-such-option"]):
        assert gad(capsys, "train", *words) == (0, expected, "")


def test_a_command_with_subcommands_alone_is_wrong_usage(capsys: Capture) -> None:
    code, out, _ = gad(capsys, "data")
    assert code == 2 and "  synth " in out
    assert gad(capsys, "data", "--help") == (0, out, "")


@pytest.mark.parametrize(
    ("terminal", "variables", "coloured"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    styles: list[Style] = []
    show(lambda style: styles.append(style) or "")  # type: ignore[func-returns-value]
    assert [style.colour for style in styles] == [coloured]
