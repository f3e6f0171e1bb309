"""`expand`: passwords and tokens come from the environment or a file, never from a command line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote as percent_quote

from generalad.errors import UsageError

_REFERENCE = re.compile(r"\$\{(?P<file>file:)?(?P<name>[^{}]*)\}")


class Secret:
    """A text that printing does not show; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "***"


def expand(text: str, *, quote: bool = False) -> Secret:
    """Replace `${NAME}` by an environment variable and `${file:PATH}` by what a file says.

    Args:
        text: as in a configuration.
        quote: percent-quote the values, for addresses; a text that is one reference as a whole is
            an address itself and is not quoted.

    Raises:
        UsageError: a variable or file that is not there or is empty.
    """
    whole = _REFERENCE.fullmatch(text)
    if whole:
        return Secret(_value(whole))

    def replacement(reference: re.Match[str]) -> str:
        value = _value(reference)
        return percent_quote(value, safe="") if quote else value

    return Secret(_REFERENCE.sub(replacement, text))


def _value(reference: re.Match[str]) -> str:
    name = reference["name"]
    value = _from_file(Path(name)) if reference["file"] else os.environ.get(name, "")
    if not value:
        kind = "file" if reference["file"] else "environment variable"
        raise UsageError(
            f"{reference[0]}: the {kind} {name} is not there or is empty",
            remedy="set it, or correct the name",
        )
    return value


def _from_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        # From None: an error in decoding carries the content.
        raise UsageError(
            f"${{file:{path}}} cannot be read: {reason}", remedy="check the file"
        ) from None
