"""VisA as it is published: Data/Images and Data/Masks of each class, and the official split.

The split stands in split_csv/1cls.csv: object,split,label,image,mask. The authors of GeneralAD
split it otherwise (the first 80 % of the good images as the file system lists them), which cannot
be repeated elsewhere.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from pathlib import Path

from generalad.data.classes import Classes
from generalad.data.named_files import check_present, read_text
from generalad.data.public_sets import public_set
from generalad.data.samples import GOOD, Dataset, Sample
from generalad.errors import DataError
from generalad.listing import list_folders

SPLIT_FILE = Path("split_csv", "1cls.csv")
_COLUMNS = ("object", "split", "label", "image", "mask")
_ANOMALY = "anomaly"


def find_visa(root: Path) -> Classes | None:
    """The classes of VisA below `root`, or None where it is no VisA."""
    with_images = [
        name
        for name in list_folders(root)
        if os.path.isdir(root / name / "Data" / "Images" / "Normal")
    ]
    if not with_images:
        return None
    return Classes(root, tuple(with_images), lambda name: open_visa(root, name))


def open_visa(root: Path, name: str) -> Dataset:
    """Read one class of VisA by its official split.

    Raises:
        DataError: no split file, one of another version, or a file that it names is missing.
    """
    path = root / SPLIT_FILE
    where = public_set("visa").where()
    if not os.path.isfile(path):
        raise DataError(
            f"{root}: VisA without {SPLIT_FILE.as_posix()}, the official split",
            remedy=f"put it there; {where}",
        )
    parts: dict[str, list[Sample]] = {"train": [], "test": []}
    for cells in _rows(path, where):
        if cells["object"] != name:
            continue
        defective = cells["label"] == _ANOMALY
        masks = (root / cells["mask"],) if defective and cells["mask"] else ()
        sample = Sample(root / cells["image"], _ANOMALY if defective else GOOD, masks)
        parts[cells["split"]].append(sample)
    samples = [*parts["train"], *parts["test"]]
    if not parts["train"]:
        raise DataError(f"{path}: no training images of {name}", remedy=where)
    twice = [path for path, count in Counter(s.path for s in samples).items() if count > 1]
    if twice or any(sample.defective for sample in parts["train"]):
        raise DataError(
            f"{path}: {'images named twice' if twice else 'anomalies to train on'}, unlike the"
            " one-class split",
            remedy=where,
        )
    files = [file for sample in samples for file in (sample.path, *sample.masks)]
    check_present(path, files, f"the set was downloaded in part; {where}")
    train, test = (sorted(parts[part], key=lambda s: s.path.as_posix()) for part in parts)
    return Dataset(name, root / name, "VisA", tuple(train), test=tuple(test))


def _rows(path: Path, where: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(read_text(path, where), newline=""))
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise DataError(
            f"{path}: the first line holds {', '.join(reader.fieldnames or ['nothing'])}, expected"
            f" {', '.join(_COLUMNS)}",
            remedy=f"it is a split file of another version; {where}",
        )
    rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", _ANOMALY):
            raise DataError(
                f"{path} line {number}: split {row['split']!r} and label {row['label']!r}, expected"
                " train or test and normal or anomaly",
                remedy=f"it is a split file of another version; {where}",
            )
    return rows
