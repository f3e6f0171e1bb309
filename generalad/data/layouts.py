"""The two folder layouts: the class folder of MVTec AD, LOCO and AD 2, and the plain folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from generalad.data.classes import Classes
from generalad.data.listing import Listing, list_files, list_folders, match_masks, printable
from generalad.data.samples import GOOD, Dataset, Sample, clean_label
from generalad.data.saturation import SATURATION_FILE, read_saturation
from generalad.data.splits import hold_out
from generalad.errors import DataError
from generalad.preprocess import IMAGE_SUFFIXES

EXPECTED = (
    "give a folder of good images (optionally good/, bad/ and masks/), "
    "a class folder with train/good, a public data set with --class, or a .csv table with the "
    "columns path,label[,split][,mask][,group]"
)

_PUBLIC_TEST = "test_public"
_PRIVATE_TESTS = ("test_private", "test_private_mixed")

_SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))

# Found among good images, a folder of such a name means that the layout was misunderstood.
_DEFECT_WORDS = ("bad", "faulty", "ng", "nok", "reject", "rejects", "abnormal")
_ANOMALY_WORDS = ("anomaly", "anomalies", "anomalous", "defect", "defects", "defective")
_NOT_GOOD = {*_DEFECT_WORDS, *_ANOMALY_WORDS, "mask", "masks", "ground_truth", "test"}


def find_class_folders(root: Path) -> Classes | None:
    """The folders below `root` that have train/good, or None."""
    names = [name for name in list_folders(root) if os.path.isdir(root / name / "train" / GOOD)]
    return (
        Classes(root, tuple(names), lambda name: open_class_folder(root / name)) if names else None
    )


def open_class_folder(root: Path) -> Dataset:
    """Read train/good, test/<type>, ground_truth/<type> and validation/good below `root`.

    In MVTec AD 2, test/ is called test_public/ and has ground_truth/ in it.
    """
    listing = list_files(root)
    public = os.path.isdir(root / _PUBLIC_TEST)
    test_folder = Path(_PUBLIC_TEST if public else "test")
    mask_folder = test_folder / "ground_truth" if public else Path("ground_truth")
    train = _below(listing, "train", GOOD)
    calibration = _below(listing, "validation", GOOD)
    masks = [path for path in _below(listing, *mask_folder.parts) if len(path.parts) > 1]
    tests = [path for path in _below(listing, *test_folder.parts) if len(path.parts) > 1]
    tested = [path for path in tests if not (public and path.parts[0] == mask_folder.name)]
    matched, stray = match_masks(tested, masks)
    known = {
        *(Path("train", GOOD, path) for path in train),
        *(Path("validation", GOOD, path) for path in calibration),
        *(test_folder / path for path in tested),
        *(mask_folder / path for path in masks),
    }
    unlabelled = {path for path in listing.images if public and path.parts[0] in _PRIVATE_TESTS}
    if not train:
        raise DataError(
            f"{root / 'train' / GOOD}: no images", remedy=f"put in files of {_SUFFIXES}"
        )
    return Dataset(
        name=_name_of(root),
        root=root,
        layout="class folder",
        train=tuple(Sample(root / "train" / GOOD / path, GOOD) for path in train),
        calibration=tuple(Sample(root / "validation" / GOOD / path, GOOD) for path in calibration),
        test=tuple(
            Sample(
                root / test_folder / path,
                clean_label(printable(path.parts[0])),
                tuple(root / mask_folder / mask for mask in matched.get(path, ())),
            )
            for path in tested
        ),
        stray_masks=tuple(root / mask_folder / path for path in stray),
        ignored=_ignored(root, listing, {*known, *unlabelled, Path(SATURATION_FILE)}),
        notes=_notes(len(unlabelled)),
        saturation=read_saturation(root),
    )


def _notes(unlabelled: int) -> tuple[str, ...]:
    if not unlabelled:
        return ()
    return (
        f"{unlabelled} images of {' and '.join(_PRIVATE_TESTS)} have no labels here and are not"
        " used; https://benchmark.mvtec.com measures on them",
    )


def open_plain_folder(root: Path) -> Dataset:
    """Read a folder of good images, or good/, with bad/ and masks/ where they exist."""
    listing = list_files(root)
    # The reserved folders as they are written here: Windows users also have Good/ and BAD/.
    written = {name.lower(): name for name in list_folders(root)}
    bad_root, mask_root = (root / written.get(name, name) for name in ("bad", "masks"))
    bad, masks = _below(listing, bad_root.name), _below(listing, mask_root.name)
    reserved = {bad_root.name, mask_root.name}
    rest = [path for path in listing.images if path.parts[0] not in reserved]
    good = [Sample(root / path, GOOD) for path in _only_good(root, rest, written.get(GOOD))]
    matched, stray = match_masks(bad, masks)
    train, held_out = hold_out(good) if bad else (tuple(good), ())
    defective = [
        Sample(
            bad_root / path,
            printable(path.parts[0]) if len(path.parts) > 1 else "bad",
            tuple(mask_root / mask for mask in matched.get(path, ())),
        )
        for path in bad
    ]
    return Dataset(
        name=_name_of(root),
        root=root,
        layout="plain folder",
        train=train,
        test=tuple(sorted([*held_out, *defective], key=lambda sample: sample.path.as_posix())),
        stray_masks=tuple(mask_root / path for path in stray),
        ignored=_ignored(root, listing, set(listing.images)),
    )


def _only_good(root: Path, paths: Sequence[Path], good_folder: str | None) -> Sequence[Path]:
    """Make sure that images outside bad/ and masks/ are meant as good ones."""
    if not paths:
        raise DataError(f"{root}: no good images found", remedy=f"{EXPECTED}; files of {_SUFFIXES}")
    beside = sorted({path.parts[0] for path in paths if path.parts[0] != good_folder})
    if good_folder is not None and beside:
        raise DataError(
            f"{root}: images beside {good_folder}/, in {', '.join(beside[:5])}",
            remedy=f"move good ones into {good_folder}/ and defective ones into bad/<type>/",
        )
    for path in paths:
        if any(part.lower() in _NOT_GOOD for part in path.parent.parts):
            raise DataError(
                f"{root / path.parent}: looks like no folder of good images",
                remedy=f"rename it, or move defective images into {root / 'bad'}",
            )
    return paths


def _below(listing: Listing, *folders: str) -> tuple[Path, ...]:
    """Images in the folder `folders`, relative to it."""
    depth = len(folders)
    return tuple(
        Path(*path.parts[depth:]) for path in listing.images if path.parts[:depth] == folders
    )


def _ignored(root: Path, listing: Listing, known: Collection[Path]) -> tuple[Path, ...]:
    return tuple(root / path for path in (*listing.images, *listing.others) if path not in known)


def _name_of(root: Path) -> str:
    return printable(os.path.basename(os.path.abspath(root))) or "dataset"
