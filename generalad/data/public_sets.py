"""Public data sets: what each is called, where it is to be had, and how many images it has.

The numbers stand in public_sets.toml with their sources. A data set that is opened is recognised by
the name of its folder or by its classes, so that a half-downloaded one is noticed.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generalad.data.samples import Dataset, Published
from generalad.errors import DataError
from generalad.listing import list_folders
from generalad.records import read_toml

_LEAST_SHARE = 1 / 2
"""Share of a set's classes that must lie in a folder of any name for it to be taken for the set."""


@dataclass(frozen=True)
class PublicSet:
    """A published data set.

    Attributes:
        key: short name, such as "mvtec-ad".
        title: as its authors write it.
        page: where it is to be had.
        tree: its folders, in one line.
        names: of folders that hold it, lower case, letters and digits only.
        classes: for each class the images to train, to calibrate, good and defective ones to test
            with; empty where the classes are those of `images`.
        images: for each class the images in training and test part, of sets whose classes are not
            good or defective by themselves.
        unnumbered: further classes, whose numbers are not known or depend on a split file.
        groups: classes that are made of several others, such as CIFAR-100's coarse ones.
    """

    key: str
    title: str
    page: str
    tree: str
    names: tuple[str, ...]
    classes: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unnumbered: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of all its classes."""
        return (*self.classes, *self.images, *self.unnumbered)

    def where(self) -> str:
        """Its tree and its page, for a remedy."""
        return f"expected {self.tree}; {self.title} is to be had from {self.page}"

    def published(self, name: str, *, anomalous: bool = False) -> Published | None:
        """What a class should hold; None for one whose numbers are not known.

        Args:
            name: of the class.
            anomalous: whether it is the anomalous class, and all others are normal.
        """
        if name in self.classes:
            return Published(self.title, self.page, *self.classes[name], masks=True)
        if name not in self.images:
            return None
        train, test = self.images[name]
        all_train = sum(numbers[0] for numbers in self.images.values())
        all_test = sum(numbers[1] for numbers in self.images.values())
        if anomalous:
            train, good, defective = all_train - train, all_test - test, test
        else:
            good, defective = test, all_test - test
        return Published(self.title, self.page, train, 0, good, defective)


@functools.cache
def public_sets() -> tuple[PublicSet, ...]:
    """All of them, in the order of the file."""
    file = importlib.resources.files("generalad.data") / "public_sets.toml"
    with importlib.resources.as_file(file) as path:
        tables: dict[str, Any] = read_toml(path)
    return tuple(
        PublicSet(
            key=key,
            title=table["title"],
            page=table["page"],
            tree=table["tree"],
            names=tuple(table["names"]),
            classes={name: tuple(row) for name, row in table.get("classes", {}).items()},
            images={name: tuple(row) for name, row in table.get("images", {}).items()},
            unnumbered=tuple(table.get("unnumbered", ())),
            groups={name: tuple(row) for name, row in table.get("groups", {}).items()},
        )
        for key, table in tables.items()
    )


def public_set(key: str) -> PublicSet:
    """The set of that key; KeyError where there is none."""
    return {one.key: one for one in public_sets()}[key]


def named_like(root: Path) -> PublicSet | None:
    """The public set that a folder's name says it holds."""
    name = re.sub(r"[^a-z0-9]", "", root.resolve().name.lower())
    return next((one for one in public_sets() if name in one.names), None)


def recognise(root: Path, classes: Collection[str]) -> PublicSet | None:
    """The public set that lies in a folder with these classes.

    The folder's name decides if one of its classes is there, else whether at least half of the
    classes of a set are.
    """
    named = named_like(root)
    if named is not None and set(named.class_names) & set(classes):
        return named
    for one in public_sets():
        known = set(one.class_names)
        if len(known) > 1 and len(known & set(classes)) >= max(2, _LEAST_SHARE * len(known)):
            return one
    return None


def recognise_class_folder(root: Path) -> PublicSet | None:
    """The public set of a class folder, told by its neighbours."""
    folder = root.resolve()
    try:
        found = recognise(folder.parent, list_folders(folder.parent))
    except DataError:  # the folder above is not ours to read
        return None
    return found if found is not None and folder.name in found.class_names else None


def differences(dataset: Dataset) -> str:
    """In how far a public set is not as it was published, in one line; empty where it is."""
    published = dataset.published
    if published is None:
        return ""
    defective = sum(sample.defective for sample in dataset.test)
    without_mask = sum(sample.defective and not sample.masks for sample in dataset.test)
    found = {
        "training images": (len(dataset.train), published.train),
        "calibration images": (len(dataset.calibration), published.calibration),
        "good test images": (len(dataset.test) - defective, published.good),
        "defective test images": (defective, published.defective),
    }
    wrong = [
        f"{number} {what}, published {expected}"
        for what, (number, expected) in found.items()
        if number != expected
    ]
    if published.masks and without_mask:
        wrong.append(f"{without_mask} defective images without a mask, published 0")
    return f"{published.title}, {dataset.name}: {'; '.join(wrong)}" if wrong else ""
