"""What the readers of split files share: every file that one names must be there."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generalad.errors import DataError


def check_present(listed_in: Path, files: Sequence[Path], remedy: str) -> None:
    """Refuse a data set of which files are missing.

    Raises:
        DataError: with the number of them and the first one.
    """
    missing = [path for path in files if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"{listed_in}: names {len(files)} files, {len(missing)} of them missing, first"
            f" {missing[0]}",
            remedy=remedy,
        )


def read_text(path: Path, remedy: str) -> str:
    """The text of a file of a data set; DataError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}", remedy=remedy) from error


def read_json_file(path: Path, remedy: str) -> Any:
    """The values of a JSON file of a data set; DataError where it is none."""
    try:
        return json.loads(read_text(path, remedy))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: no JSON: {error}", remedy=remedy) from error
