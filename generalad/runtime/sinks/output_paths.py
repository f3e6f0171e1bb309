"""Where images may be written, and in which folders, so that nothing is overwritten or read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from generalad.errors import UsageError
from generalad.runtime.sources import LiveSource, Source


def refuse_sources(place: Path, sources: Sequence[Source]) -> None:
    """Refuse a folder for images if it lies where images are read.

    They would overwrite some, or be read by the next run, or by this one, which would never end.

    Raises:
        UsageError: naming the folder.
    """
    place = place.resolve()
    for source in sources:
        if source.folder is None:
            continue
        folder = source.folder.resolve()
        with_subfolders = os.path.isdir(source.address) or isinstance(source, LiveSource)
        if place == folder or (folder in place.parents and with_subfolders):
            raise UsageError(
                f"images would be written to {place}, where images are read",
                remedy="choose another folder for them",
            )


def places_of(sources: Sequence[Source]) -> dict[str, str]:
    """A folder for each address, so that no two names are the same; "" is the common one."""
    places: dict[str, str] = {}
    taken: set[str] = set()
    for source in sources:
        path = Path(source.address)
        if path.is_file():
            wanted, own = "", path.name
        else:
            wanted, own = (source.folder or path).resolve().name, ""
        place, number = wanted, 1
        while f"{place}/{own}" in taken:
            number += 1
            place = f"{wanted}-{number}".lstrip("-")
        taken.add(f"{place}/{own}")
        places.setdefault(source.address, place)
    return places
