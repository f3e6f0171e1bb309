"""The table layout: a .csv file that names every image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from generalad.data.masks import marks_something
from generalad.data.plainly_good import CONFIRM, refuse_label_images
from generalad.data.samples import GOOD, Dataset, Sample, clean_label
from generalad.data.splits import hold_out
from generalad.errors import DataError
from generalad.folder_names import is_good_name
from generalad.listing import printable

COLUMNS = ("path", "label", "split", "mask", "group")
SPLITS = ("train", "calibration", "test")

_REMEDY = f"columns: path,label[,split][,mask][,group]; splits: {', '.join(SPLITS)}"


@dataclass(frozen=True)
class _Row:
    sample: Sample
    split: str


def open_table(path: Path, *, all_good: bool = False) -> Dataset:
    """Read a .csv table with the columns path,label[,split][,mask][,group], relative to its folder.

    Args:
        path: the table.
        all_good: all images to train on show good parts, even those that look like label images.

    Raises:
        DataError: the table, or one of its lines, is not as expected, or a file is missing.
    """
    rows = list(_rows(path))
    if any(row.split for row in rows):
        parts = {name: [row.sample for row in rows if row.split == name] for name in SPLITS}
    else:
        good = [row.sample for row in rows if not row.sample.defective]
        defective = [row.sample for row in rows if row.sample.defective]
        train, held_out = hold_out(good) if defective else (tuple(good), ())
        parts = {"train": list(train), "calibration": [], "test": [*held_out, *defective]}
    if not parts["train"]:
        raise DataError(
            f"{path}: no image to train on", remedy=f'good images have the label "{GOOD}"'
        )
    _check_labels(path, parts["test"])
    if not all_good:
        good = [*parts["train"], *parts["calibration"]]
        shown = [Path(os.path.relpath(sample.path, path.parent)) for sample in good]
        refuse_label_images(path.parent, shown, remedy="name masks in the column mask")
        _refuse_marked(path, good)
    train, calibration, test = (
        tuple(sorted(parts[name], key=lambda sample: sample.path.as_posix())) for name in SPLITS
    )
    return Dataset(printable(path.stem), path.parent, "table", train, calibration, test)


def _refuse_marked(path: Path, good: Sequence[Sample]) -> None:
    """Refuse to learn from images whose masks mark something."""
    found = [sample for sample in good if any(map(marks_something, sample.masks))]
    if found:
        raise DataError(
            f"{path}: {len(found)} of {len(good)} images to learn from have masks that mark"
            f" something, first {found[0].path.name}",
            remedy="correct the labels or the masks; or, if all show good parts, confirm it with"
            f" {CONFIRM}",
        )


def _check_labels(path: Path, test: Sequence[Sample]) -> None:
    """Refuse a type of defect that is called by a word for good."""
    odd = [sample for sample in test if sample.defective and is_good_name(sample.label)]
    if odd:
        raise DataError(
            f"{path}: {len(odd)} images have the label {odd[0].label!r}, no type of defect",
            remedy=f'good images have the label "{GOOD}"',
        )


def _rows(path: Path) -> Iterator[_Row]:
    text = _text(path)
    header = text.split("\n", 1)[0]
    # Semicolons: a spreadsheet set to a language with decimal commas. Tabs: copied out of one.
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    seen: dict[str, int] = {}
    try:
        columns = _columns(next(reader, []), path)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            where = f"{path} line {reader.line_num}"
            if len(values) != len(columns):
                raise DataError(
                    f"{where}: {len(values)} values, expected {len(columns)}", remedy=_REMEDY
                )
            cells = dict(zip(columns, (value.strip() for value in values), strict=True))
            row = _row(cells, path.parent, where)
            file = os.path.realpath(row.sample.path)  # it may be written in several ways
            if file in seen:
                raise DataError(
                    f"{where}: {cells['path']} stands in line {seen[file]}, too",
                    remedy="name every image once",
                )
            seen[file] = reader.line_num
            yield row
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}", remedy=_REMEDY) from error


def _columns(header: list[str], path: Path) -> list[str]:
    columns = [name.strip().lower() for name in header]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or not {"path", "label"} <= set(columns) or len(set(columns)) < len(columns):
        found = ", ".join(columns) or "nothing"
        raise DataError(f"{path}: the first line holds {found}", remedy=_REMEDY)
    return columns


def _row(cells: dict[str, str], folder: Path, where: str) -> _Row:
    for name in ("path", "label", "split", "group"):
        if cells.get(name) == "":
            raise DataError(f"{where}: the {name} is empty", remedy=_REMEDY)
    split, mask = cells.get("split", "").lower(), cells.get("mask")
    if "split" in cells and split not in SPLITS:
        raise DataError(f"{where}: unknown split {split!r}", remedy=_REMEDY)
    masks = (_below(folder, mask),) if mask else ()
    group = cells.get("group", "")
    sample = Sample(_below(folder, cells["path"]), clean_label(cells["label"]), masks, group)
    if sample.defective and split in ("train", "calibration"):
        raise DataError(
            f"{where}: an image labelled {sample.label!r} in {split}",
            remedy="train and calibrate on good images only",
        )
    for file in (sample.path, *masks):
        if not os.path.isfile(file):
            raise DataError(f"{where}: {file}: no such file", remedy="paths start at the table")
    return _Row(sample, split)


def _below(folder: Path, text: str) -> Path:
    """The path of a file as written, or with the separators of Windows where only that exists."""
    written, turned = folder / text, folder / text.replace("\\", "/")
    return turned if not os.path.isfile(written) and os.path.isfile(turned) else written


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", remedy="save it as CSV in UTF-8") from error
