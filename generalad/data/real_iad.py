"""Real-IAD as it is published: images of five views in OK/ and NG/, and a split file a class.

The images lie in realiad_1024/CLASS (or _512, _256, _raw), the split files in
realiad_jsons/realiad_jsons/CLASS.json (all views) and realiad_jsons_sv (one view).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from generalad.data.classes import Classes
from generalad.data.named_files import check_present, read_json_file
from generalad.data.public_sets import public_set
from generalad.data.samples import GOOD, Dataset, Sample
from generalad.errors import DataError
from generalad.listing import printable

_SIZES = ("raw", "1024", "512", "256")  # the first one that is there is taken
_SPLITS = ("realiad_jsons/realiad_jsons", "realiad_jsons/realiad_jsons_sv", "realiad_jsons")
_NORMAL = "OK"


def find_real_iad(root: Path) -> Classes | None:
    """The classes of Real-IAD below `root`, or None where it is no Real-IAD.

    `root` may also be the folder of one size of images, whose split files lie beside it.
    """
    if root.resolve().name in {f"realiad_{size}" for size in _SIZES}:
        images, above = root, root.resolve().parent
    else:
        sizes = [root / f"realiad_{size}" for size in _SIZES]
        present = [folder for folder in sizes if os.path.isdir(folder)]
        if not present:
            return None
        images, above = present[0], root
    folders = [above / folder for folder in _SPLITS]
    splits = next((folder for folder in folders if any(folder.glob("*.json"))), None)
    if splits is None:
        raise DataError(
            f"{above}: Real-IAD without its split files, realiad_jsons/realiad_jsons/CLASS.json",
            remedy=public_set("real-iad").where(),
        )
    names = sorted(path.stem for path in splits.glob("*.json"))
    return Classes(root, tuple(names), lambda name: _open(splits / f"{name}.json", images / name))


def open_split_file(path: Path) -> Dataset:
    """Read the class that a split file is of, such as realiad_jsons_sv/audiojack.json.

    Raises:
        DataError: the images are not to be found beside it, or are incomplete.
    """
    for above in path.resolve().parents[1:4]:
        for size in _SIZES:
            folder = above / f"realiad_{size}" / path.stem
            if os.path.isdir(folder):
                return _open(path, folder)
    raise DataError(
        f"{path}: no folder realiad_1024/{path.stem} with its images near it",
        remedy=public_set("real-iad").where(),
    )


def _open(path: Path, folder: Path) -> Dataset:
    where = public_set("real-iad").where()
    content = read_json_file(path, where)
    parts = [_samples(content, part, path, folder) for part in ("train", "test")]
    train, test = parts
    if not train or any(sample.defective for sample in train):
        raise DataError(
            f"{path}: {'defective' if train else 'no'} images to train on",
            remedy="take the split files of realiad_jsons or realiad_jsons_sv",
        )
    files = [file for part in parts for sample in part for file in (sample.path, *sample.masks)]
    check_present(path, files, f"the set was downloaded in part; {where}")
    return Dataset(printable(path.stem), folder, "Real-IAD", train, test=test)


def _samples(content: Any, part: str, path: Path, folder: Path) -> tuple[Sample, ...]:
    """The images of one part; those of one object, seen from several sides, are a group."""
    samples = []
    try:
        for entry in content[part]:
            label = GOOD if entry["anomaly_class"] == _NORMAL else str(entry["anomaly_class"])
            image, mask = entry["image_path"], entry.get("mask_path")
            masks = (folder / mask,) if mask and label != GOOD else ()
            group = Path(image).parent.as_posix()
            samples.append(Sample(folder / image, label, masks, group))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no list {part!r} of image_path, mask_path and anomaly_class",
            remedy=f"it is a split file of another version; {public_set('real-iad').where()}",
        ) from error
    return tuple(sorted(samples, key=lambda sample: sample.path.as_posix()))
