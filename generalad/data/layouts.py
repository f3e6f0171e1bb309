"""The two folder layouts: the class folder of MVTec AD, LOCO and AD 2, and the plain folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from generalad.data.classes import Classes
from generalad.data.marked_beside import refuse_marked_beside
from generalad.data.masks import match_masks
from generalad.data.plainly_good import (
    beside_good,
    check_folders,
    check_names,
    check_plainly_good,
    refuse_label_images,
    refuse_marked,
    refuse_masked,
    taken_as_good,
)
from generalad.data.samples import GOOD, Dataset, Sample, label_of_folder
from generalad.data.saturation import SATURATION_FILE, read_saturation
from generalad.data.splits import hold_out
from generalad.errors import DataError
from generalad.folder_names import is_defect_name, is_good_name
from generalad.image_formats.accept import READ_SUFFIXES
from generalad.label_images import label_images
from generalad.listing import Listing, as_written, list_files, list_folders, printable

EXPECTED = (
    "give a folder of good images (optionally good/, bad/ and masks/), "
    "a class folder with train/good, a public data set with --class, or a .csv table with the "
    "columns path,label[,split][,mask][,group]"
)

_PUBLIC_TEST = "test_public"
_PRIVATE_TESTS = ("test_private", "test_private_mixed")

_KEEP_LABELS_OUT = "move masks out of the folder, those of defective images into the one for masks"

_SUFFIXES = ", ".join(sorted(READ_SUFFIXES))


def find_class_folders(root: Path, *, all_good: bool = False) -> Classes | None:
    """The folders below `root` that have train/good, or None."""
    names = [name for name in list_folders(root) if is_class_folder(root / name)]
    if not names:
        return None
    return Classes(
        root, tuple(names), lambda name: open_class_folder(root / name, all_good=all_good)
    )


def is_class_folder(root: Path) -> bool:
    """Whether a folder has train/good, in upper or lower case."""
    return os.path.isdir(root / as_written(root, "train", GOOD))


def open_class_folder(root: Path, *, all_good: bool = False) -> Dataset:
    """Read train/good, test/<type>, ground_truth/<type> and validation/good below `root`.

    In MVTec AD 2, test/ is called test_public/ and has ground_truth/ in it.

    Args:
        root: the class folder.
        all_good: all training images show good parts, even those that look like label images.
    """
    listing = list_files(root)
    public = os.path.isdir(root / _PUBLIC_TEST)
    test_folder = as_written(root, _PUBLIC_TEST if public else "test")
    mask_folder = as_written(root, *(test_folder.parts if public else ()), "ground_truth")
    good = [as_written(root, part, GOOD) for part in ("train", "validation")]
    train, calibration = (_below(listing.images, *folder.parts) for folder in good)
    masks = [path for path in _below(listing.images, *mask_folder.parts) if len(path.parts) > 1]
    tests = [path for path in _below(listing.images, *test_folder.parts) if len(path.parts) > 1]
    tests = [path for path in tests if not (public and path.parts[0] == mask_folder.name)]
    if not train:
        raise DataError(f"{root / good[0]}: no images", remedy=f"put in files of {_SUFFIXES}")
    if not all_good:
        learned = [*map(good[0].joinpath, train), *map(good[1].joinpath, calibration)]
        elsewhere = sorted(set(listing.images) - set(learned))
        refuse_marked(root, learned, elsewhere, listing.others)
        for folder, images in zip(good, (train, calibration), strict=True):
            check_folders(root / folder, images)
            refuse_label_images(root / folder, images, remedy=_KEEP_LABELS_OUT)
            check_names(root / folder, images, (), _below(listing.others, *folder.parts))
    for path in tests:
        _check_among(root / test_folder, [path], good=is_good_name(path.parts[0]), first=1)
    tested, matched, stray = _with_masks(root, test_folder, tests, mask_folder, masks)
    known = {
        *(good[0] / path for path in train),
        *(good[1] / path for path in calibration),
        *(test_folder / path for path in tests),
        *(mask_folder / path for path in masks),
    }
    unlabelled = {path for path in listing.images if public and path.parts[0] in _PRIVATE_TESTS}
    return Dataset(
        name=_name_of(root),
        root=root,
        layout="class folder",
        train=tuple(Sample(root / good[0] / path, GOOD) for path in train),
        calibration=tuple(Sample(root / good[1] / path, GOOD) for path in calibration),
        test=tuple(
            Sample(
                root / test_folder / path, label_of_folder(printable(path.parts[0])), matched[path]
            )
            for path in tested
        ),
        stray_masks=stray,
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


def open_plain_folder(root: Path, *, all_good: bool = False) -> Dataset:
    """Read a folder of good images, or good/, with bad/ and masks/ where they exist.

    Args:
        root: the folder.
        all_good: somebody says that all images outside bad/ and masks/ show good parts.
    """
    listing = list_files(root)
    # The reserved folders as they are written here: Windows users also have Good/ and BAD/.
    written = {name.lower(): name for name in list_folders(root)}
    bad_root, mask_root = (root / written.get(name, name) for name in ("bad", "masks"))
    bad, masks = _below(listing.images, bad_root.name), _below(listing.images, mask_root.name)
    reserved = {bad_root.name, mask_root.name}
    rest = [path for path in listing.images if path.parts[0] not in reserved]
    if not rest:
        raise DataError(f"{root}: no good images found", remedy=f"{EXPECTED}; files of {_SUFFIXES}")
    if not all_good:
        _check_only_good(root, rest, listing, written.get(GOOD))
    _check_among(bad_root, bad, good=False)
    good = [Sample(root / path, GOOD) for path in rest]
    shown, matched, stray = _with_masks(root, Path(bad_root.name), bad, Path(mask_root.name), masks)
    if not all_good:
        refuse_masked(root, rest, stray)
        refuse_marked_beside(root, rest)
    train, held_out = hold_out(good) if bad else (tuple(good), ())
    defective = [Sample(bad_root / path, _type_of_defect(path), matched[path]) for path in shown]
    return Dataset(
        name=_name_of(root),
        root=root,
        layout="plain folder",
        train=train,
        test=tuple(sorted([*held_out, *defective], key=lambda sample: sample.path.as_posix())),
        stray_masks=stray,
        ignored=_ignored(root, listing, set(listing.images)),
        taken_as_good=taken_as_good(rest) if GOOD not in written else "",
    )


def _check_only_good(
    root: Path, paths: Sequence[Path], listing: Listing, good_folder: str | None
) -> None:
    """Make sure that images outside bad/ and masks/ are meant as good ones."""
    beside = sorted({path.parts[0] for path in paths if path.parts[0] != good_folder})
    if good_folder is None:
        check_plainly_good(root, paths)
    elif beside:
        raise beside_good(root, good_folder, beside)
    else:
        check_folders(root / good_folder, _below(paths, good_folder))
    refuse_label_images(root, paths, remedy=_KEEP_LABELS_OUT)
    elsewhere = sorted(set(listing.images) - set(paths))
    refuse_marked(root, paths, elsewhere, listing.others)
    check_names(root, paths, elsewhere, listing.others)


def _check_among(folder: Path, paths: Iterable[Path], *, good: bool, first: int = 0) -> None:
    """Refuse good or defective images that lie in a folder that says the opposite.

    Args:
        folder: of a test.
        paths: of images, relative to it.
        good: what they are meant to be.
        first: of their folders from which names are looked at.
    """
    says_opposite = is_defect_name if good else is_good_name
    among, word = ("good", "defects") if good else ("defective", "good ones")
    for path in paths:
        for depth in range(first, len(path.parts) - 1):
            if says_opposite(path.parts[depth]):
                raise DataError(
                    f"{folder.joinpath(*path.parts[: depth + 1])}: lies among the {among} images"
                    f" and is called by a word for {word}",
                    remedy="move it out of there, or call it by the type of the defect",
                )


def _type_of_defect(path: Path) -> str:
    """Of an image, relative to the folder of defective ones."""
    return "bad" if len(path.parts) == 1 else printable(path.parts[0])


def _with_masks(
    root: Path, folder: Path, images: Sequence[Path], mask_folder: Path, masks: Sequence[Path]
) -> tuple[list[Path], dict[Path, tuple[Path, ...]], tuple[Path, ...]]:
    """Find the masks of test images, in the folder for them and beside the images themselves.

    Args:
        root: of the dataset.
        folder: of the images, relative to the root.
        images: relative to `folder`.
        mask_folder: relative to the root.
        masks: relative to `mask_folder`.

    Returns:
        The images that are no masks; the masks of each, and those that belong to none, by their
        whole paths.
    """
    beside = label_images(root / folder, images)
    shown = [path for path in images if path not in beside]
    matched, stray = match_masks(shown, masks)
    found = {
        path: tuple(root / mask_folder / mask for mask in matched.get(path, ())) for path in shown
    }
    for mask, image in beside.items():
        found[image] = (*found[image], root / folder / mask)
    return shown, found, tuple(root / mask_folder / mask for mask in stray)


def _below(paths: Sequence[Path], *folders: str) -> tuple[Path, ...]:
    """Those in the folder `folders`, relative to it."""
    depth = len(folders)
    return tuple(Path(*path.parts[depth:]) for path in paths if path.parts[:depth] == folders)


def _ignored(root: Path, listing: Listing, known: Collection[Path]) -> tuple[Path, ...]:
    return tuple(root / path for path in (*listing.images, *listing.others) if path not in known)


def _name_of(root: Path) -> str:
    return printable(os.path.basename(os.path.abspath(root))) or "dataset"
