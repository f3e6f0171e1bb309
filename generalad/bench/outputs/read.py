"""A report from its JSON. What the record's dataclasses declare is what is accepted.

Every value is held against the type of its field. A field that is unknown here is passed over, and
one with a default may be absent, because only what an older reader would misunderstand raises the
schema's number.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from generalad.bench.record import SCHEMA, Report
from generalad.errors import ArtifactError, DataError

T = TypeVar("T")

LARGEST = 16_000_000
"""Bytes; a report has some thousands, and a folder of results may hold anything."""


def read_report(path: Path) -> Report:
    """Read the file that `gad bench --json` wrote.

    Raises:
        DataError: there is no such file, or it cannot be read.
        ArtifactError: it is no report, or one of another schema.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ArtifactError(f"{path.name} is no bench report: it has more than 16 MB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"there is no report at {path}", remedy="write one with gad bench --json"
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ArtifactError(f"{path.name} is no bench report: it is not UTF-8 text") from None
    return parse(text, path.name)


def parse(text: str, name: str = "the text") -> Report:
    """The report in `text`; `name` is what messages call it.

    Raises:
        ArtifactError: it is no report, or one of another schema.
    """
    remedy = "give a file that gad bench --json wrote"
    try:
        data = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is no bench report: {error}", remedy=remedy) from None
    if not isinstance(data, dict) or "schema" not in data:
        raise ArtifactError(
            f"{name} is no bench report: expected an object with a schema number", remedy=remedy
        )
    _check_schema(data["schema"], name)
    try:
        return _record(Report, data, "")
    except _Mismatch as mismatch:
        raise ArtifactError(f"{name} is no bench report: {mismatch}", remedy=remedy) from None


def _check_schema(found: object, name: str) -> None:
    if _is_whole(found) and found == SCHEMA:
        return
    newer = isinstance(found, (int, float)) and found > SCHEMA
    raise ArtifactError(
        f"{name} has schema {json.dumps(found)[:40]}, this version reads schema {SCHEMA}",
        remedy="upgrade generalad" if newer else "run gad bench again",
    )


class _Mismatch(Exception):
    """A value is not what its field declares."""

    def __init__(self, place: str, expected: str, found: object) -> None:
        shown = json.dumps(found, ensure_ascii=False)
        shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
        super().__init__(f"{place.lstrip('.') or 'the whole'} must be {expected}, found {shown}")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _record(kind: type[T], value: object, place: str) -> T:
    """`value` as the dataclass `kind`."""
    if not isinstance(value, dict):
        raise _Mismatch(place, "an object", value)
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        if field.name in value:
            where = f"{place}.{field.name}"
            given[field.name] = _value(hints[field.name], value[field.name], where)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise _Mismatch(place, f"an object with {field.name!r}", sorted(value))
    return kind(**given)


def _value(hint: Any, value: object, place: str) -> Any:
    """`value` as a field's type: one of those that the record uses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast(type[Any], hint), value, place)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return None if value is None else _value(inner, value, place)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise _Mismatch(place, f"one of {', '.join(arguments)}", value)
    if origin is tuple:
        if not isinstance(value, list):
            raise _Mismatch(place, "a list", value)
        return tuple(_value(arguments[0], v, f"{place}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _Mismatch(place, "an object", value)
        return {key: _value(arguments[1], v, f"{place}.{key}") for key, v in value.items()}
    if hint is Any:
        return value
    return _plain(hint, value, place)


def _plain(hint: Any, value: object, place: str) -> Any:
    """A text, a number or a truth value; true is no number, and 2.0 is a whole one, as in JSON."""
    expected, fits = _PLAIN[hint]
    if not fits(value):
        raise _Mismatch(place, expected, value)
    return hint(value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_whole(value: object) -> bool:
    return type(value) is int or (isinstance(value, float) and value.is_integer())


_PLAIN: dict[Any, tuple[str, Callable[[object], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", _is_whole),
    float: ("a finite number", _is_number),
}
