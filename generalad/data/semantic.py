"""Data sets whose classes are kinds of things: any one is the normal class, or the anomalous one.

CIFAR and Fashion-MNIST, unpacked, and View have a folder a class in train/ and test/; FGVC-Aircraft
and Stanford Cars have lists; Dogs vs Cats has two folders and no split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from generalad.data.classes import Classes
from generalad.data.named_files import check_present, read_text
from generalad.data.public_sets import public_set
from generalad.data.samples import GOOD, Dataset, Sample
from generalad.errors import DataError
from generalad.listing import list_files, list_folders, printable

Labelled = tuple[Path, str]
"""An image and the name of its class."""

AIRCRAFT_VARIANTS = (91, 96, 59, 19, 37, 45, 90, 68, 74, 89)
"""Those of the paper, by their line in variants.txt from 0; they are tested against each other."""

ONE_IN = 5
"""Of the images of Dogs vs Cats in the order of their names, one in so many is tested with."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with their classes, in two parts."""

    root: Path
    layout: str
    train: Sequence[Labelled]
    test: Sequence[Labelled]
    other: str = ""  # label of images that are not of the normal class; empty for their own

    def one_class(self, name: str) -> Dataset:
        """The class `name` is normal, all others are anomalous."""
        return self._dataset(name, lambda label: label == name, self.other)

    def all_but(self, name: str) -> Dataset:
        """The class `name` is anomalous, all others are normal."""
        return self._dataset(f"all but {name}", lambda label: label != name, "")

    def _dataset(self, name: str, normal: Callable[[str], bool], other: str) -> Dataset:
        train = _samples([(path, GOOD) for path, label in self.train if normal(label)])
        test = _samples(
            (path, GOOD if normal(label) else other or printable(label))
            for path, label in self.test
        )
        if not train:
            raise DataError(
                f"{self.root}: no training images of {name}", remedy="choose another class"
            )
        return Dataset(printable(name), self.root, self.layout, train, test=test)


def find_class_tree(root: Path) -> Classes | None:
    """The classes that lie in train/CLASS and test/CLASS, or None."""
    for parts in (("train", "test"), ("seg_train/seg_train", "seg_test/seg_test")):
        folders = [root / part for part in parts]
        if not all(os.path.isdir(folder) for folder in folders):
            continue
        train, test = (list_folders(folder) for folder in folders)
        if len(train) < 2 or GOOD in map(str.lower, (*train, *test)):
            continue
        if train != test:
            odd = sorted(set(train) ^ set(test))
            raise DataError(
                f"{root}: the class {odd[0]!r} is in one of {' and '.join(parts)} only",
                remedy="expected the same classes in both; download the set again",
            )
        return _classes(root, train, partial(_class_tree, root, parts))
    return None


def _class_tree(root: Path, parts: Sequence[str]) -> LabelledImages:
    train, test = (
        [
            (root / part / path, path.parts[0])
            for path in list_files(root / part).images
            if len(path.parts) > 1
        ]
        for part in parts
    )
    return LabelledImages(root, "class tree", train, test)


def find_aircraft(root: Path) -> Classes | None:
    """The ten variants of FGVC-Aircraft that the paper takes, or None."""
    places = (root, root / "data", root / "fgvc-aircraft-2013b" / "data")
    data = next((place for place in places if os.path.isfile(place / "variants.txt")), None)
    if data is None:
        return None
    where = public_set("fgvc-aircraft").where()
    variants = read_text(data / "variants.txt", where).splitlines()
    if len(variants) <= max(AIRCRAFT_VARIANTS):
        raise DataError(
            f"{data / 'variants.txt'}: {len(variants)} variants, expected 100",
            remedy=f"it is of another version; {where}",
        )
    numbers = {str(number): variants[number] for number in AIRCRAFT_VARIANTS}
    chosen = list(numbers.values())

    def images() -> LabelledImages:
        train, test = (
            _listed(data / f"images_variant_{part}.txt", data / "images", chosen, where)
            for part in ("train", "test")
        )
        return LabelledImages(data, "FGVC-Aircraft", train, test)

    return _classes(root, chosen, images, numbers)


def _listed(path: Path, folder: Path, chosen: Sequence[str], where: str) -> list[Labelled]:
    """Lines "0034309 A300B4": the name of an image and its variant."""
    found = []
    for number, line in enumerate(read_text(path, where).splitlines(), start=1):
        image, _, variant = line.partition(" ")
        if not variant:
            raise DataError(
                f"{path} line {number}: expected a name and a variant, found {line!r}", remedy=where
            )
        if variant in chosen:
            found.append((folder / f"{image}.jpg", variant))
    check_present(path, [image for image, _ in found], f"downloaded in part; {where}")
    return found


def find_dogs_and_cats(root: Path) -> Classes | None:
    """The folders Cat/ and Dog/, or None; one in five images is tested with."""
    names = list_folders(root)
    if sorted(name.lower() for name in names) != ["cat", "dog"]:
        return None

    def images() -> LabelledImages:
        parts: tuple[list[Labelled], list[Labelled]] = ([], [])
        for name in names:
            for number, path in enumerate(list_files(root / name).images):
                parts[number % ONE_IN == ONE_IN - 1].append((root / name / path, name))
        return LabelledImages(root, "Dogs vs Cats", *parts)

    return _classes(root, names, images)


def _classes(
    root: Path,
    names: Sequence[str],
    images: Callable[[], LabelledImages],
    numbers: Mapping[str, str] | None = None,
) -> Classes:
    return Classes(
        root,
        tuple(names),
        lambda name: images().one_class(name),
        lambda name: images().all_but(name),
        numbers or {},
    )


def _samples(images: Iterable[Labelled]) -> tuple[Sample, ...]:
    samples = (Sample(path, label) for path, label in images)
    return tuple(sorted(samples, key=lambda sample: sample.path.as_posix()))
