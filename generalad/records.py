"""Records from JSON and TOML: what a type declares is what is accepted.

A record is a frozen dataclass, or a `msgspec.Struct` where a key is not the name of its field, keys
that nobody knows are refused, or one key chooses between types. msgspec checks and builds it:
strictly, so that true is no number and "3" is none, but a whole number is a number too. Here its
errors become ours, which name the key, what was found there, and the nearest known key.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from generalad.errors import ConfigError, key_hint
from generalad.files import read_file

if TYPE_CHECKING:
    import msgspec

T = TypeVar("T")
Place = tuple[str | int, ...]
"""The keys, and the numbers within lists from 0, that lead to a value."""

NO_UNICODE = "a text that is no Unicode"
"""Half of a pair of surrogates, where another value belongs."""

SHOWN = 40
"""Characters of a wrong value in a message."""


class RecordError(ValueError):
    """A value is not what its type declares. Its text is one line that begins with the key.

    Attributes:
        place: where the value is; empty for the whole.
        message: what was expected and what was found.
        remedy: what to do, or empty.
    """

    def __init__(self, place: Place, message: str, *, remedy: str = "") -> None:
        self.place, self.message, self.remedy = place, message, remedy
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
        super().__init__(f"{name.lstrip('.')}: {message}" if place else message)


def from_json(text: str | bytes, type_: type[T], *, whole_floats: bool = False) -> T:
    """Read a record from JSON; arguments and errors are those of `parse_json` and `convert`."""
    return convert(parse_json(text, whole_floats=whole_floats), type_)


def parse_json(text: str | bytes, *, whole_floats: bool = False) -> Any:
    """The plain value of a JSON text.

    Args:
        text: UTF-8 where it is bytes.
        whole_floats: 2.0 is the whole number 2, as JSON Schema has it.

    Raises:
        RecordError: no JSON; NaN and infinity are none, nor is an object with a key twice.
    """
    # Not msgspec's parser: it refuses a lone surrogate, which is how Python writes the name of a
    # file that is no UTF-8.
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_whole if whole_floats else None,
            object_pairs_hook=_refuse_twice,
        )
    except (ValueError, RecursionError) as error:
        raise RecordError((), f"no JSON: {error}") from error


def convert(value: Any, type_: type[T]) -> T:
    """Build a record from plain values, such as `parse_json` gives.

    Keys that a dataclass does not know are ignored. A ValueError of `__post_init__` becomes a
    RecordError with its text; a `GadError` comes through.

    Raises:
        RecordError: a value of another type, a number that is not finite, or a missing key.
    """
    import msgspec  # 20 ms, which what reads no record need not pay

    try:
        _refuse_infinite(value, ())
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        try:
            raise _explained(error, value, type_) from error
        except UnicodeEncodeError:
            raise RecordError((), NO_UNICODE) from error
    except UnicodeEncodeError as error:
        raise RecordError((), NO_UNICODE) from error
    except RecursionError as error:
        raise RecordError((), "nested too deeply") from error


def to_json(value: Any, *, indent: int | None = None) -> str:
    """A record, or plain values with records in them, as JSON.

    Args:
        value: dataclasses and Structs at any depth.
        indent: blanks a level; None is one line, in ASCII.

    Raises:
        ValueError: a number is not finite.
    """
    # Not msgspec's writer: it makes null of NaN, and refuses a float of NumPy.
    return json.dumps(
        value, indent=indent, ensure_ascii=indent is None, allow_nan=False, default=_plain
    )


def from_toml(file: Path, type_: type[T]) -> T:
    """Read a record from a TOML file.

    Raises:
        ConfigError: as `read_toml` and `convert`; it names the table, as in "[[stream]] number 2:
            min_area: expected a number, found 'x'".
    """
    try:
        return convert(read_toml(file), type_)
    except RecordError as error:
        where, remedy = _in_toml(error.place) or file.name, error.remedy
        raise ConfigError(f"{where}: {error.message}", remedy=remedy) from error


def read_toml(file: Path) -> dict[str, Any]:
    """The plain values of a TOML file; raises ConfigError where it is missing or no TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(_text_of_settings(file))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", remedy="check the path") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply", remedy="correct the file") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise ConfigError(f"{file}: no TOML: {error}", remedy="correct the file") from error


def _text_of_settings(file: Path) -> str:
    """What a file says; ConfigError where reading it as TOML would take for ever."""
    data = read_file(file, _MOST_OF_TOML)
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    dots = sum(line.count(".") ** 2 for line in text.split("\n"))
    if len(data) > _MOST_OF_TOML or dots > _MOST_DOTS:
        raise ConfigError(f"{file}: too large for settings", remedy="correct the file")
    return text


_MOST_OF_TOML = 10_000_000
"""Bytes."""

_MOST_DOTS = 100_000_000
"""Sum of squares of the dots in a line: for a key of n dots, tomllib takes a time of n squared."""


def _plain(record: Any) -> dict[str, Any]:
    """A record as keys and values, in the order of its fields."""
    if dataclasses.is_dataclass(record):
        return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    kind = type(record)
    if not hasattr(kind, "__struct_fields__"):
        raise TypeError(f"{kind.__name__} is no record")
    tag = kind.__struct_config__
    values = {} if tag.tag is None else {tag.tag_field: tag.tag}
    for key, name in zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True):
        values[key] = getattr(record, name)
    return values


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values that one key has, another reader may take the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _whole(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse_infinite(value: Any, place: Place) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(place, f"expected a number, found {value}")
    if isinstance(value, dict | list | tuple):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _refuse_infinite(inner, (*place, step))


def _in_toml(place: Place) -> str:
    """A place in a TOML file, whose lists at the top are tables."""
    words: list[str] = []
    for step in place:
        if isinstance(step, str):
            words.append(step)
        elif len(words) == 1:
            words = [f"[[{words[0]}]] number {step + 1}"]
        else:
            words.append(f"number {step + 1}")
    return ": ".join(words)


def _explained(error: msgspec.ValidationError, value: Any, type_: Any) -> RecordError:
    """What msgspec refused, with the key, what was found there and what to do."""
    from msgspec import inspect

    text, _, path = str(error).partition(" - at `$")
    place: Place = ()
    declared, found = inspect.type_info(type_), value
    for key, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path):
        kind = _chosen(declared, found)
        if key and key == getattr(kind, "tag_field", None):
            return _unknown_tag(declared, key, found[key], place)
        step = key or (int(index) if index != "..." else _wrong_key(error, value, type_, place))
        declared, found, place = _inner(kind, step), found[step], (*place, step)
    if error.__cause__ is not None:  # the text is that of a record's own check
        return RecordError(place, text)
    kind = _chosen(declared, found)
    if isinstance(kind, inspect.StructType | inspect.DataclassType) and isinstance(found, dict):
        return _wrong_keys(kind, found, place)
    is_row = isinstance(kind, inspect.StructType) and place and isinstance(place[-1], int)
    return RecordError(
        place,
        f"expected {_in_words(kind)}, found {_shown(found)}",
        remedy=f"write [[{place[-2]}]]" if is_row else "",
    )


def _chosen(declared: Any, found: Any) -> Any:
    """What `found` should be: of several record types the one it is tagged as, or the first."""
    kinds = [kind for kind in getattr(declared, "types", [declared]) if not _is_none(kind)]
    for kind in kinds:
        tag = getattr(kind, "tag", None)
        if tag is not None and isinstance(found, dict) and found.get(kind.tag_field) == tag:
            return kind
    return kinds[0]


def _is_none(kind: Any) -> bool:
    return type(kind).__name__ == "NoneType"


def _inner(kind: Any, step: str | int) -> Any:
    """The type of what lies within `kind` under a key or number."""
    if hasattr(kind, "item_types"):
        return kind.item_types[step]
    if hasattr(kind, "item_type"):
        return kind.item_type
    if hasattr(kind, "value_type"):
        return kind.value_type
    return next(field.type for field in kind.fields if field.encode_name == step)


def _wrong_key(error: Exception, value: Any, type_: Any, place: Place) -> str:
    """Under which key of the mapping at `place` the error is; msgspec does not tell."""
    import msgspec

    mapping = value
    for step in place:
        mapping = mapping[step]
    for key, inner in mapping.items():
        try:
            msgspec.convert(_with(value, place, {key: inner}), type_)
        except msgspec.ValidationError as again:
            if str(again) == str(error):
                return str(key)
    raise AssertionError(f"no key of {place} alone leads to {error}")


def _with(value: Any, place: Place, new: Any) -> Any:
    """A copy of `value` with `new` at `place`."""
    if not place:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _with(value[place[0]], place[1:], new)
    return copy


def _wrong_keys(kind: Any, found: dict[str, Any], place: Place) -> RecordError:
    """The first key that is missing, or else the first that is unknown."""
    tag = [kind.tag_field] if getattr(kind, "tag", None) is not None else []
    known = tag + [field.encode_name for field in kind.fields]
    needed = tag + [field.encode_name for field in kind.fields if field.required]
    for key in needed:
        if key not in found:
            return RecordError(place, f"{key} is missing", remedy=f"write {key} = …")
    key = next(key for key in found if key not in known)
    return RecordError(place, f"unknown key {key!r}", remedy=key_hint(key, known))


def _unknown_tag(declared: Any, key: str, found: Any, place: Place) -> RecordError:
    kinds = getattr(declared, "types", [declared])
    tags = [str(kind.tag) for kind in kinds if not _is_none(kind)]
    return RecordError(
        place, f"unknown {key} {_shown(found)}", remedy=f"choose from {', '.join(tags)}"
    )


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _in_words(kind: Any) -> str:
    """What a value should be."""
    from msgspec import inspect

    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)} values"
    return _WORDS[type(kind).__name__]


_WORDS = {
    "StrType": "a text",
    "IntType": "a whole number",
    "FloatType": "a number",
    "BoolType": "true or false",
    "ListType": "a list",
    "VarTupleType": "a list",
    "DictType": "a table of keys and values",
    "StructType": "a table of keys and values",
    "DataclassType": "a table of keys and values",
}
