"""Records from JSON and TOML: what is accepted, and that each message names the key."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from generalad.errors import ConfigError, UsageError
from generalad.records import (
    RecordError,
    convert,
    from_json,
    from_toml,
    parse_json,
    read_toml,
    to_json,
)


@dataclasses.dataclass(frozen=True)
class Part:
    width: float
    sizes: tuple[int, int] = (1, 1)
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError("width must be positive")
        if self.width == 99:
            raise UsageError("no part is that wide")


@dataclasses.dataclass(frozen=True)
class Box:
    count: int
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    spare: tuple[Part, ...] = ()
    label: str | None = None
    sealed: bool = False
    colour: Literal["red", "blue"] = "red"
    free: dict[str, Any] = dataclasses.field(default_factory=dict)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class File(Table, frozen=True, tag_field="type", tag="file"):
    path: str
    keep: int = 1


class Mail(Table, frozen=True, tag_field="type", tag="mail"):
    address: str
    urgent: bool = False


class Limits(Table, frozen=True):
    low: float | None = None


class Config(Table, frozen=True):
    output: tuple[File | Mail, ...] = ()
    limits: Limits | None = None
    words: tuple[str, ...] = ()
    lasting: bool = msgspec.field(name="keep", default=False)


def test_what_is_declared_comes_back_as_its_types() -> None:
    box = Box(3, {"a": Part(1.5, (2, 3))}, (Part(2.0),), label="x", free={"n": [1, None]})
    for indent in (None, 2):
        assert from_json(to_json(box, indent=indent), Box) == box
    assert from_json('{"count": 3, "later": 1, "parts": {"a": {"width": 2, "new": []}}}', Box) == (
        Box(3, {"a": Part(2.0)})
    )
    width = from_json(b'{"width": 2}', Part).width
    assert type(width) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": "3"}, "count: expected a whole number, found '3'"),
        ({"count": 3.0}, "count: expected a whole number, found 3.0"),
        ({"count": True}, "count: expected a whole number, found True"),
        ({"label": 3}, "label: expected a text, found 3"),
        ({"sealed": 1}, "sealed: expected true or false, found 1"),
        ({"colour": "green"}, "colour: expected one of blue, red, found 'green'"),
        ({"colour": None}, "colour: expected one of blue, red, found None"),
        ({"parts": []}, "parts: expected a table of keys and values, found []"),
        ({"parts": {"a": {"width": 1}, "b": {}}}, "parts.b: width is missing"),
        ({"parts": {"a": {"width": 1}, "b": 3}}, "parts.b: expected a table of keys and values"),
        ({"parts": {"a": {"width": "1"}}}, "parts.a.width: expected a number, found '1'"),
        ({"parts": {"a": {"width": 10**400}}}, "parts.a.width: expected a number, found 1000"),
        ({"parts": {"a": {"width": math.nan}}}, "parts.a.width: expected a number, found nan"),
        ({"parts": {"a": {"width": -1}}}, "parts.a: width must be positive"),
        ({"spare": {}}, "spare: expected a list, found {}"),
        ({"spare": [{"width": 1}, {"width": False}]}, "spare[1].width: expected a number"),
        ({"spare": [{"width": 1, "sizes": [1]}]}, "spare[0].sizes: expected a list of 2 values"),
        ({"spare": [{"width": 1, "layers": [1, "b"]}]}, "spare[0].layers[1]: expected a whole"),
        ({"free": {"a": [1, math.inf]}}, "free.a[1]: expected a number, found inf"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as caught:
        convert({"count": 1, **change}, Box)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 100


def test_the_whole_can_be_wrong() -> None:
    with pytest.raises(RecordError, match=r"^expected a table of keys and values, found 3$"):
        convert(3, Box)
    with pytest.raises(RecordError, match=r"^count is missing$"):
        convert({}, Box)


def test_an_error_of_ours_comes_through() -> None:
    with pytest.raises(UsageError, match="no part is that wide"):
        convert({"width": 99}, Part)


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": Infinity}', "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_is_told(text: str | bytes) -> None:
    with pytest.raises(RecordError, match="no JSON") as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_a_deep_nest_is_told() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecordError, match="nested"):
        convert({"count": 1, "free": {"a": deep}}, Box)


def test_two_point_nought_is_whole_where_json_schema_rules() -> None:
    assert from_json('{"count": 2.0}', Box, whole_floats=True) == Box(2)
    with pytest.raises(RecordError, match=r"found 2\.0"):
        from_json('{"count": 2.0}', Box)
    with pytest.raises(RecordError, match=r"found 2\.5"):
        from_json('{"count": 2.5}', Box, whole_floats=True)
    assert parse_json("[2.0, 2.5]", whole_floats=True) == [2, 2.5]
    with pytest.raises(RecordError, match="expected a number, found inf"):
        from_json('{"width": 1e400}', Part, whole_floats=True)


def test_a_name_that_is_no_utf8_survives() -> None:
    box = Box(1, label="caf\udce9.png")
    assert from_json(to_json(box), Box) == box


def test_a_float_of_numpy_is_written_and_what_is_no_record_is_not() -> None:
    assert to_json([Part(np.float64(1.5))]) == '[{"width": 1.5, "sizes": [1, 1], "layers": []}]'
    with pytest.raises(TypeError, match="set is no record"):
        to_json({"a": {1}})


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Part(math.nan))


def written(folder: Path, text: str) -> Path:
    file = folder / "line.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_toml_file_becomes_its_record(tmp_path: Path) -> None:
    text = (
        'words = ["a"]\nkeep = true\n[[output]]\ntype = "mail"\naddress = "b"\n[limits]\nlow = 1\n'
    )
    found = from_toml(written(tmp_path, text), Config)
    assert found == Config(
        output=(Mail(address="b"),), limits=Limits(low=1.0), words=("a",), lasting=True
    )
    assert json.loads(to_json(found)) == {
        "output": [{"type": "mail", "address": "b", "urgent": False}],
        "limits": {"low": 1.0},
        "words": ["a"],
        "keep": True,
    }


FILE = "[[output]]\ntype = 'file'\npath = 'a'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrods = []", "line.toml: unknown key 'wrods' → did you mean words?"),
        ("lasting = true", "line.toml: unknown key 'lasting' → known keys: output, limits, words"),
        ("words = 3", "words: expected a list, found 3"),
        ("words = ['a', 3]", "[[words]] number 2: expected a text, found 3"),
        ("words = [2020-01-01]", "[[words]] number 1: expected a text, found datetime.date"),
        ("output = [3]", "[[output]] number 1: expected a table of keys and values, found 3"),
        ("[limits]\nlow = nan", "limits: low: expected a number, found nan"),
        ("[limits]\nlow = '1'", "limits: low: expected a number, found '1'"),
        ("[limits]\nlo = 1", "limits: unknown key 'lo' → did you mean low?"),
        (FILE + "keeep = 3", "[[output]] number 1: unknown key 'keeep' → did you mean keep?"),
        (FILE + "kep = 3\n" + FILE, "[[output]] number 1: unknown key 'kep' → did you mean keep?"),
        (FILE + FILE + "keep = 'x'", "[[output]] number 2: keep: expected a whole number"),
        (FILE + "[[output]]\npath = 'a'", "[[output]] number 2: type is missing → write type = …"),
        ("[[output]]\ntype = 'file'\npaht = 'a'", "[[output]] number 1: path is missing"),
        (
            "[[output]]\ntype = 'flie'",
            "[[output]] number 1: unknown type 'flie' → choose from file",
        ),
        ("[[output]]\ntype = 3", "[[output]] number 1: unknown type 3 → choose from file, mail"),
        ("[[output]]\ntype = 'mail'\naddress = 3", "[[output]] number 1: address: expected a text"),
    ],
)
def test_mistakes_in_toml_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(written(tmp_path, text), Config)
    assert str(caught.value).startswith(message)


def test_files_that_are_no_toml_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file .*→ check the path"):
        from_toml(tmp_path / "none.toml", Config)
    with pytest.raises(ConfigError, match=r"line\.toml: no TOML"):
        from_toml(written(tmp_path, "= 3"), Config)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml: no TOML"):
        from_toml(tmp_path / "binary.toml", Config)


def test_toml_that_is_nested_deeply(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError):
        read_toml(file)


@pytest.mark.parametrize(
    "text",
    ["a" + ".a" * 60_000 + " = 1", "a = " + "9" * 5000, "a = " + "[" * 50_000, "# x\n" * 3_000_000],
)
def test_settings_that_are_made_to_hang_are_refused_at_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "line.toml"
    file.write_text(text)
    # A key of so many dots would take minutes.
    with pytest.raises(ConfigError, match=r"line\.toml: (too large|no TOML|nested too deeply)"):
        read_toml(file)
