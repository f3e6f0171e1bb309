"""Open a dataset: find out its layout and list its images.

Only names are looked at, except where good images have to be held out for the test: the rule for
that is a hash of each file's content. The layouts are described in docs/data.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from generalad.data.csv_table import open_table
from generalad.data.layouts import EXPECTED, open_class_folder, open_plain_folder
from generalad.data.listing import list_folders
from generalad.data.samples import GOOD, Dataset, Sample, load_masks, without
from generalad.errors import DataError

__all__ = ["GOOD", "Dataset", "Sample", "load_masks", "open_dataset", "without"]


def open_dataset(path: str | Path) -> Dataset:
    """Find out the layout of a folder or a .csv table and list its images.

    Raises:
        DataError: no known layout, no good images, or a folder or table that cannot be read.
    """
    path = Path(path)
    # os.path.isdir() and the like answer False where Path.is_dir() raises for lack of permission.
    if os.path.isfile(path):
        if path.suffix.lower() != ".csv":
            raise DataError(f"{path}: a file that is no .csv table", remedy=EXPECTED)
        return open_table(path)
    if not os.path.isdir(path):
        raise DataError(f"{path}: no such folder or file, or no permission", remedy=EXPECTED)
    if os.path.isdir(path / "train" / GOOD):
        return open_class_folder(path)
    folders = list_folders(path)
    classes = [name for name in folders if os.path.isdir(path / name / "train" / GOOD)]
    if classes:
        raise DataError(
            f"{path}: holds several classes, expected one",
            remedy=f"choose one of {', '.join(str(path / name) for name in classes)}",
        )
    if {"train", "test"} & {name.lower() for name in folders}:
        raise DataError(f"{path}: has train/ or test/, but no train/good", remedy=EXPECTED)
    return open_plain_folder(path)
