"""A folder that holds several classes: which ones, and how one of them is opened."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generalad.data.public_sets import named_like
from generalad.data.samples import Dataset
from generalad.errors import DataError, UsageError

_MOST_NAMED = 6


class NoSuchClassError(DataError):
    """A class is not among those below a folder.

    Attributes:
        names: of the classes that are there.
    """

    def __init__(self, message: str, *, remedy: str, names: Sequence[str]) -> None:
        super().__init__(message, remedy=remedy)
        self.names = tuple(names)


@dataclass(frozen=True)
class Classes:
    """The classes below a folder.

    Attributes:
        root: the folder.
        names: of the classes, in the order of the data set.
        open: opens the class of that name: its good images are the normal ones.
        open_anomalous: opens all others as normal ones and that class as the anomalous one; None
            where classes hold defective images of their own.
        numbers: numbers that a publication calls classes by, and their names.
    """

    root: Path
    names: tuple[str, ...]
    open: Callable[[str], Dataset]
    open_anomalous: Callable[[str], Dataset] | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)


def open_class(found: Classes, class_name: str | None, anomalous: str | None) -> Dataset:
    """Open one of several classes.

    Args:
        found: the classes.
        class_name: the normal class.
        anomalous: the anomalous class, all others being normal.

    Raises:
        DataError: there is no such class, or none is named.
        UsageError: `anomalous` for a data set whose classes have defects of their own.
    """
    if anomalous is not None and found.open_anomalous is None:
        raise UsageError(
            f"{found.root}: every class has defective images of its own, found --anomalous"
            f" {anomalous}",
            remedy=f"take --class {anomalous}",
        )
    wanted = class_name if class_name is not None else anomalous
    if wanted is None:
        if len(found.names) == 1:
            raise DataError(
                f"{found.root}: is not a class but holds one, {found.names[0]}",
                remedy=f"add --class {found.names[0]}, or give {found.root / found.names[0]}",
            )
        raise DataError(
            f"{found.root}: holds several classes, expected one",
            remedy=f"choose one by --class {found.names[0]}; there are {_some(found.names)}",
        )
    wanted = found.numbers.get(wanted, wanted)
    if wanted not in found.names:
        raise _no_such_class(found, wanted)
    if anomalous is not None and found.open_anomalous is not None:
        return found.open_anomalous(wanted)
    return found.open(wanted)


def _no_such_class(found: Classes, wanted: str) -> NoSuchClassError:
    public = named_like(found.root)
    title = f"{found.root}: no class {wanted!r}"
    if public is not None and wanted in public.class_names:
        title = f"{found.root}: {public.title} has the class {wanted!r}, but it is not here"
        remedy = f"the set was downloaded in part; {public.where()}"
    elif os.path.isdir(found.root / wanted):
        title = f"{found.root / wanted}: a class without good images to train on"
        remedy = f"add them, or choose of {_some(found.names)}"
    else:
        lower = {name.lower(): name for name in found.names}
        near = difflib.get_close_matches(wanted.lower(), lower, n=1, cutoff=0.5)
        hint = f"did you mean {lower[near[0]]}? " if near else ""
        remedy = f"{hint}there are {', '.join(found.names)}"
    return NoSuchClassError(title, remedy=remedy, names=found.names)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
