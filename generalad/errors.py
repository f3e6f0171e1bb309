"""The errors a user can cause or meet.

Every error says what was expected and what was found (`message`) and what to do (`remedy`). The
command line prints both on one line each and exits with `exit_code`; a traceback appears only with
`--debug`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection


class GadError(Exception):
    """Base of all expected failures; exit code 1, the work failed."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} → {self.remedy}" if self.remedy else self.message


class UsageError(GadError):
    """The command or call was put together wrongly; exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is unknown or out of range; exit code 2."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; exit code 2."""

    def __init__(self, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs packages that are not installed",
            remedy=f"pip install 'generalad[{extra}]'",
        )


class DataError(GadError):
    """Images, masks, folders or videos are missing, unreadable or inconsistent."""


class WeightsError(GadError):
    """Backbone weights cannot be had, or are not the ones that were recorded."""


class ArtifactError(GadError):
    """A file is not a usable detector or artifact: foreign, newer, truncated or changed."""


class StorageError(GadError):
    """A file cannot be written: disk full, no permission, read-only."""


class GateError(GadError):
    """A gate (parity, latency, accuracy) said no; exit code 3."""

    exit_code = 3


def require_extra(needed_for: str, extra: str, *modules: str) -> None:
    """Refuse work whose packages are not installed.

    Raises:
        MissingExtraError: naming the pip command.
    """
    if not all(importlib.util.find_spec(module) for module in modules):
        raise MissingExtraError(needed_for, extra)


def key_hint(key: str, known: Collection[str]) -> str:
    """A remedy for an unknown key: the nearest known one, or all of them."""
    import difflib  # only where something went wrong

    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"


def word_hint(word: str, known: Collection[str], command: str) -> str:
    """A remedy for an unknown word of a command line: the nearest known one, or where they are."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {found[0]}?" if found else f"{command} --help lists what there is"
