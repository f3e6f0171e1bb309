"""`Table`: reads a table of a TOML file strictly, so that a mistyped key is told, not ignored."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, TypeVar, overload

from generalad.errors import ConfigError, key_hint

T = TypeVar("T")

_WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class Table:
    """Keys are taken one by one; `finish` refuses those that nobody took."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        """`where` is how messages name it, such as "[[stream]] number 2"."""
        self._values = dict(values)
        self._known: list[str] = []
        self.where = where

    @overload
    def take(self, key: str, kind: type[T]) -> T | None: ...

    @overload
    def take(self, key: str, kind: type[T], default: T) -> T: ...

    def take(self, key: str, kind: type[T], default: T | None = None) -> T | None:
        """The value of a key, or `default`; a whole number is a number too.

        Raises:
            ConfigError: a value of another type, or a number that is not finite.
        """
        self._known.append(key)
        if key not in self._values:
            return default
        value: Any = self._values.pop(key)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(f"{self.where}: {key}: expected {_WORDS[kind]}, found {value!r}")
        taken: T = value
        return taken

    def is_(self, key: str, value: object) -> bool:
        """Whether a key has this value, without taking it."""
        return self._values.get(key) == value

    def need(self, key: str, kind: type[T]) -> T:
        """The value of a key that must be there; raises ConfigError."""
        value = self.take(key, kind)
        if value is None:
            raise ConfigError(f"{self.where}: {key} is missing", remedy=f'write {key} = "..."')
        return value

    def tables(self, key: str) -> list[Table]:
        """The tables written as [[key]]; raises ConfigError."""
        found: list[Any] = self.take(key, list) or []
        if not all(isinstance(item, dict) for item in found):
            raise ConfigError(f"{self.where}: {key}: expected tables", remedy=f"write [[{key}]]")
        return [Table(item, f"[[{key}]] number {n}") for n, item in enumerate(found, start=1)]

    def finish(self) -> None:
        """Refuse what was not taken; raises ConfigError with the nearest known key."""
        for key in self._values:
            raise ConfigError(
                f"{self.where}: unknown key {key!r}", remedy=key_hint(key, self._known)
            )


def load_table(file: Path) -> Table:
    """Read a TOML file; raises ConfigError where it is missing or no TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return Table(tomllib.loads(file.read_text(encoding="utf-8")), file.name)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", remedy="check the path") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: no TOML: {error}", remedy="correct the file") from error
