"""Open a dataset: find out its layout and list its images.

Only names are looked at, except where good images have to be held out for the test: the rule for
that is a hash of each file's content. The layouts are described in docs/data.md.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from generalad.data.cars import find_cars
from generalad.data.classes import Classes, open_class
from generalad.data.csv_table import open_table
from generalad.data.layouts import (
    EXPECTED,
    find_class_folders,
    is_class_folder,
    open_class_folder,
    open_plain_folder,
)
from generalad.data.local_copy import is_elsewhere, local_copy
from generalad.data.public_sets import named_like, recognise, recognise_class_folder
from generalad.data.real_iad import find_real_iad, open_split_file
from generalad.data.samples import GOOD, Dataset, Sample, load_masks, without
from generalad.data.semantic import find_aircraft, find_class_tree, find_dogs_and_cats
from generalad.data.visa import find_visa, open_visa
from generalad.errors import DataError, UsageError
from generalad.folder_names import is_good_name
from generalad.listing import as_written, list_folders
from generalad.progress import Progress
from generalad.runtime.secrets import redacted

__all__ = ["GOOD", "Dataset", "Sample", "as_dataset", "load_masks", "open_dataset", "without"]

_SETS_OF_CLASSES = (
    find_visa,
    find_real_iad,
    find_aircraft,
    find_cars,
    find_class_tree,
    find_dogs_and_cats,
)


def as_dataset(
    data: str | Path | Dataset,
    class_name: str | None = None,
    *,
    anomalous: str | None = None,
    all_good: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """A dataset that was opened already, or is to be opened here as by `open_dataset`."""
    if isinstance(data, Dataset):
        return data
    return open_dataset(data, class_name, anomalous=anomalous, all_good=all_good, progress=progress)


def open_dataset(
    path: str | Path,
    class_name: str | None = None,
    *,
    anomalous: str | None = None,
    all_good: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Find out the layout of a folder or a .csv table and list its images.

    Args:
        path: a folder of good images, of one class or of several, a .csv table, or a split file of
            Real-IAD; or the address of one elsewhere, "s3://bucket/parts", which is copied into
            the cache folder.
        class_name: which of several classes.
        anomalous: of data sets whose classes are kinds of things, the one that is anomalous, where
            all others are normal; in place of `class_name`.
        all_good: somebody says that all training images show good parts, whatever their folders
            are called and even if some look like label images.
        progress: told ("copying", objects done, objects) of a dataset elsewhere.

    Raises:
        DataError: no known layout, no good images, images that are not plainly good ones, no such
            class, missing files, or a folder, table or store that cannot be read.
        MissingExtraError: fsspec is not installed, which reads stores.
        StorageError: there is no room for a copy.
        UsageError: a class is named where there is none to choose.
    """
    if is_elsewhere(str(path)):
        copy = local_copy(str(path), class_name=class_name, progress=progress)
        found = open_dataset(copy, class_name, anomalous=anomalous, all_good=all_good)
        return dataclasses.replace(found, origin=redacted(str(path)))
    path = Path(path)
    if class_name is not None and anomalous is not None:
        raise UsageError(
            f"--class {class_name} and --anomalous {anomalous}, expected one of them",
            remedy="--class names the normal class, --anomalous the one that all others are not",
        )
    # os.path.isdir() and the like answer False where Path.is_dir() raises for lack of permission.
    classes = _find_classes(path, all_good) if os.path.isdir(path) else None
    if classes is not None:
        return _as_published(open_class(classes, class_name, anomalous), classes, anomalous)
    dataset = _open_single(path, all_good)
    if anomalous is not None or class_name not in (None, dataset.name):
        raise UsageError(
            f"{path}: holds one class, {dataset.name!r}; found --class or --anomalous"
            f" {class_name or anomalous}",
            remedy="leave the option out, or give the folder of all classes",
        )
    return dataset


def class_names(root: Path, *, all_good: bool = False) -> tuple[str, ...]:
    """The classes below a folder, in the order of the data set; none where it is one class itself.

    Raises:
        DataError: it is no folder, or cannot be read.
    """
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder, or no permission", remedy="check the path")
    found = _find_classes(root, all_good)
    return () if found is None else found.names


def subfolders_as_classes(root: Path) -> tuple[str, ...]:
    """Folders below one, each to be opened as a dataset of its own.

    Raises:
        DataError: there are none, or they are the parts of a single class.
    """
    names = [name for name in list_folders(root) if not name.startswith(".")]
    parts = sorted({"good", "bad", "masks", "train", "test"} & {name.lower() for name in names})
    if parts or not names:
        found = f"the folders {', '.join(parts)} of one class" if parts else "no folders"
        raise DataError(
            f"{root}: expected a folder for each class, found {found}",
            remedy="give the folder that holds them, or leave --all-classes out",
        )
    return tuple(names)


def _find_classes(path: Path, all_good: bool) -> Classes | None:
    """The classes below a folder; None where it is one class itself."""
    if is_class_folder(path) or os.path.isdir(path / "Data" / "Images" / "Normal"):
        return None
    of_classes = find_class_folders(path, all_good=all_good)
    return of_classes or next((found for find in _SETS_OF_CLASSES if (found := find(path))), None)


def _open_single(path: Path, all_good: bool) -> Dataset:
    if os.path.isfile(path):
        suffix = path.suffix.lower()
        if suffix == ".json":
            return open_split_file(path)
        if suffix != ".csv":
            raise DataError(f"{path}: a file that is no .csv table", remedy=EXPECTED)
        return open_table(path, all_good=all_good)
    if not os.path.isdir(path):
        raise DataError(
            f"{path}: no such folder or file, or no permission", remedy="check the path"
        )
    public = recognise_class_folder(path)
    if is_class_folder(path):
        dataset = open_class_folder(path, all_good=all_good)
    elif os.path.isdir(path / "Data" / "Images" / "Normal"):
        dataset = open_visa(path.resolve().parent, path.resolve().name)
    else:
        return _open_plain(path, all_good)
    if public is not None:
        dataset = dataclasses.replace(dataset, published=public.published(dataset.name))
    return dataset


def _open_plain(path: Path, all_good: bool) -> Dataset:
    """A folder of good images, unless it looks like something else."""
    try:
        if {"train", "test"} & {name.lower() for name in list_folders(path)}:
            train = as_written(path, "train")
            named = list_folders(path / train) if os.path.isdir(path / train) else []
            good = next((name for name in named if is_good_name(name)), None)
            raise DataError(
                f"{path}: has train/ or test/, but no train/good",
                remedy=f"call {train / good} {train / GOOD}" if good else EXPECTED,
            )
        return open_plain_folder(path, all_good=all_good)
    except DataError as error:
        public = named_like(path)
        if public is None:
            raise
        raise DataError(
            f"{path}: is named like {public.title}, but is not as it is published",
            remedy=public.where(),
        ) from error


def _as_published(dataset: Dataset, classes: Classes, anomalous: str | None) -> Dataset:
    """With the numbers that a public data set should have."""
    public = recognise(classes.root, classes.names)
    if public is None:
        return dataset
    name = dataset.name if anomalous is None else anomalous
    published = public.published(name, anomalous=anomalous is not None)
    return dataclasses.replace(dataset, published=published)
