"""Options are read from a command's annotations; wrong words are one line with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import pytest
from cli_helpers import Capture, gad, one_line
from hypothesis import given
from hypothesis import strategies as st

from generalad.cli.commands import COMMANDS, load
from generalad.cli.options import Argument, Category, Option, parameters
from generalad.cli.parser import parse, run
from generalad.cli.train import train
from generalad.config import PRESETS
from generalad.errors import UsageError
from generalad.synth import CATEGORIES


def command(
    first: Annotated[Path, Argument("A file.")],
    rest: Annotated[Sequence[str], Argument("Others.")] = (),
    out: Annotated[Path | None, Option("Where to.", short="-o")] = None,
    count: Annotated[int, Option("How many.", least=1, most=9)] = 2,
    share: Annotated[float | None, Option("How much.")] = None,
    kind: Annotated[Literal["one", "two"], Option("Which.")] = "one",
    send: Annotated[Sequence[str], Option("Receivers.")] = (),
    dry_run: Annotated[bool, Option("Do nothing.")] = False,
) -> None:
    """Do something."""


def parsed(*words: str) -> dict[str, Any]:
    found = parse("do", parameters(command), words)
    assert found is not None
    return found


def test_defaults() -> None:
    assert parsed("a") == {
        "first": Path("a"), "rest": (), "out": None, "count": 2, "share": None, "kind": "one",
        "send": (), "dry_run": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("a", "--out", "b"), "out", Path("b")),
        (("--out=b", "a"), "out", Path("b")),
        (("a", "-o", "b"), "out", Path("b")),
        (("-ob", "a"), "out", Path("b")),
        (("a", "--out", "b", "--out", "c"), "out", Path("c")),
        (("a", "--out", "--count"), "out", Path("--count")),
        (("a", "--count", "9"), "count", 9),
        (("a", "--share", "-1.5e3"), "share", -1500.0),
        (("a", "--kind=two"), "kind", "two"),
        (("a", "--send", "x", "--send=y=z"), "send", ["x", "y=z"]),
        (("--dry-run", "a"), "dry_run", True),
        (("a", "b", "--dry-run", "c"), "rest", ["b", "c"]),
        (("a", "-", "--", "--dry-run"), "rest", ["-", "--dry-run"]),
        (("--", "-a"), "first", Path("-a")),
    ],
)
def test_values(words: tuple[str, ...], name: str, value: object) -> None:
    assert parsed(*words)[name] == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "do: FIRST is missing → gad do --help"),
        (("a", "--cuont", "3"), "do: no option '--cuont' → did you mean --count?"),
        (("a", "--coun=3"), "do: no option '--coun' → did you mean --count?"),
        (("a", "--out="), "do: --out is empty → is a variable of the shell unset?"),
        (("a", ""), "do: REST is empty → "),
        (("a", "-x"), "do: no option '-x' → "),
        (("a", "--out"), "do: --out needs a value, PATH → gad do --help"),
        (("a", "--dry-run=yes"), "do: --dry-run takes no value, found 'yes' → "),
        (
            ("a", "--count", "many"),
            "do: --count: expected a whole number from 1 to 9, found 'many",
        ),
        (("a", "--count", "0"), "do: --count: expected a whole number from 1 to 9, found '0'"),
        (("a", "--count", "10"), "do: --count: expected a whole number from 1 to 9, found '10'"),
        (("a", "--share", ""), "do: --share: expected a number, found ''"),
        (("a", "--kind", "tow"), "do: --kind: expected one or two, found 'tow' → did you mean two"),
    ],
)
def test_wrong_usage_says_what_was_expected(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    assert message in str(caught.value)
    assert caught.value.remedy


def test_a_word_too_many() -> None:
    def single(only: Annotated[str, Argument("One.")]) -> None: ...

    with pytest.raises(UsageError, match="one word too many, 'b'"):
        parse("do", parameters(single), ["a", "b"])


@given(
    st.lists(st.text(min_size=1).filter(lambda word: not word.startswith("-")), min_size=1),
    st.lists(st.text(), max_size=3),
    st.booleans(),
)
def test_any_words_come_through(places: list[str], sent: list[str], equals: bool) -> None:
    options = [w for s in sent for w in ([f"--send={s}"] if equals else ["--send", s])]
    for words in (places + options, options + places, places[:1] + options + places[1:]):
        found = parsed(*words)
        assert [found["first"], *found["rest"]] == [Path(places[0]), *places[1:]]
        assert list(found["send"]) == sent


class Settings(NamedTuple):
    """Many options."""

    path: Annotated[Path | None, Argument("A file.")] = None
    size: Annotated[int, Option("Pixels.")] = 3


def test_options_may_be_a_record() -> None:
    seen: list[Settings] = []

    def use(settings: Settings) -> int:
        """Use it."""
        seen.append(settings)
        return 3

    use.__annotations__ = {"settings": Settings, "return": int}  # a module would resolve its name
    assert run("use", use, ["a", "--size", "4"]) == 3
    assert seen == [Settings(Path("a"), 4)]


def functions() -> dict[str, Callable[..., Any]]:
    """All commands and subcommands."""
    names = [
        (name, sub)
        for name, one in COMMANDS.items()
        for sub in (*one.subcommands, *([""] if one.stands_alone([]) else []))
    ]
    return {f"{name} {sub}".strip(): load(name, sub) for name, sub in names}


@pytest.mark.parametrize("name", functions())
def test_every_command_declares_what_the_parser_knows(name: str) -> None:
    for one in parameters(functions()[name]):
        assert one.type in (str, int, float, Path, bool)
        assert one.declared.help[-1] in ".…", "a sentence, like the others"


@pytest.mark.parametrize("name", functions())
def test_a_mistyped_option_is_answered_alike_by_every_command(name: str, capsys: Capture) -> None:
    code, out, err = gad(capsys, *name.split(), "--hepl")
    assert (code, out) == (2, "")
    assert one_line(err).startswith(f"gad: {name}: no option '--hepl' → ")


def test_choices_are_those_of_the_package() -> None:
    (preset,) = (one for one in parameters(train) if one.name == "preset")
    assert set(preset.choices) == set(PRESETS)
    (categories, _) = get_args(Category)
    assert set(get_args(get_args(categories)[0])) == set(CATEGORIES)
