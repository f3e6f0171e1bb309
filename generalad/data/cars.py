"""Stanford Cars as it is published: two folders of images and lists in MATLAB's format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from generalad.data.classes import Classes
from generalad.data.named_files import check_present
from generalad.data.public_sets import public_set
from generalad.data.samples import Dataset
from generalad.data.semantic import Labelled, LabelledImages
from generalad.errors import DataError, require_extra

_TRAIN_LIST = Path("devkit", "cars_train_annos.mat")
_TEST_LIST = "cars_test_annos_withlabels.mat"
_NAMES = Path("devkit", "cars_meta.mat")


def find_cars(root: Path) -> Classes | None:
    """The classes of Stanford Cars, whose numbers count from 1, or None."""
    above = next(
        (place for place in (root, root / "stanford_cars") if os.path.isdir(place / "cars_train")),
        None,
    )
    if above is None:
        return None
    names = [str(name) for name in _read(above / _NAMES, "class_names")]

    def images() -> LabelledImages:
        # The labels of the test images were published later, and lie beside or in devkit/.
        lists = (above / _TEST_LIST, above / "devkit" / _TEST_LIST)
        test_list = next((path for path in lists if os.path.isfile(path)), lists[0])
        train = _listed(above / _TRAIN_LIST, above / "cars_train", names)
        test = _listed(test_list, above / "cars_test", names)
        return LabelledImages(above, "Stanford Cars", train, test, other="other car")

    def one_class(name: str) -> Dataset:
        return images().one_class(name)

    def all_but(name: str) -> Dataset:
        return images().all_but(name)

    numbers = {str(number): name for number, name in enumerate(names, start=1)}
    return Classes(root, tuple(names), one_class, all_but, numbers)


def _listed(path: Path, folder: Path, names: list[str]) -> list[Labelled]:
    where = public_set("stanford-cars").where()
    try:
        found = [
            (folder / str(entry["fname"]), names[int(entry["class"]) - 1])
            for entry in _read(path, "annotations")
        ]
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: no list of fname and class, of {len(names)} classes",
            remedy=f"it is of another version; {where}",
        ) from error
    check_present(path, [image for image, _ in found], f"downloaded in part; {where}")
    return found


def _read(path: Path, key: str) -> Any:
    require_extra("reading the lists of Stanford Cars", "paper", "scipy")
    from scipy.io import loadmat

    where = public_set("stanford-cars").where()
    if not os.path.isfile(path):
        raise DataError(f"{path}: missing", remedy=f"the set was downloaded in part; {where}")
    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[key])
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", remedy=where) from error
    except Exception as error:  # of any kind for a broken file
        raise DataError(f"{path}: no MATLAB file with {key}: {error}", remedy=where) from error
