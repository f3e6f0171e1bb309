"""Which files lie in a folder, and which mask belongs to which image. Paths only, no records."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from generalad.errors import DataError
from generalad.image_formats.accept import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Listing:
    """The files below a folder, relative to it and sorted by name; hidden ones are left out."""

    images: tuple[Path, ...]
    others: tuple[Path, ...]


def list_files(root: Path) -> Listing:
    """List a folder and everything below it.

    Linked folders are entered unless they lead back to a folder they lie in. A dangling link with
    the name of an image counts as an image, so that somebody hears of it.

    Raises:
        DataError: a folder cannot be opened.
    """
    images: list[str] = []
    others: list[str] = []
    # Each entry: a folder, its path relative to the root, the identities of the folders above it.
    todo: list[tuple[Path, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    while todo:
        folder, prefix, above = todo.pop()
        try:
            status = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            raise DataError(
                f"{folder}: {error.strerror}", remedy="check the folder's permissions"
            ) from error
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                todo.append((Path(entry.path), f"{prefix}{entry.name}/", above | {identity}))
            elif _is_image(entry):
                images.append(prefix + entry.name)
            else:
                others.append(prefix + entry.name)
    return Listing(
        images=tuple(Path(name) for name in sorted(images)),
        others=tuple(Path(name) for name in sorted(others)),
    )


def list_folders(root: Path) -> list[str]:
    """Names of the folders directly below `root`, sorted; hidden ones are left out."""
    try:
        entries = list(os.scandir(root))
    except OSError as error:
        raise DataError(
            f"{root}: {error.strerror}", remedy="check the folder's permissions"
        ) from error
    return sorted(
        entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)
    )


def as_written(root: Path, *names: str) -> Path:
    """The path of reserved folders below `root`, relative to it, as it is written there.

    Windows users also have Train/Good. Where nothing fits, or the very name is there, it is that.
    """
    path = Path()
    for name in names:
        if not os.path.isdir(root / path / name) and os.path.isdir(root / path):
            folders = {folder.lower(): folder for folder in list_folders(root / path)}
            name = folders.get(name.lower(), name)
        path /= name
    return path


def match_masks(
    images: Sequence[Path], masks: Sequence[Path]
) -> tuple[Mapping[Path, tuple[Path, ...]], tuple[Path, ...]]:
    """Find the masks of images by their names.

    The masks of `a/x.png` are `a/x_mask.*` (or `_gt`, `_label`, …), else `a/x.*`, else everything
    in the folder `a/x/`. Names that differ in their Unicode form only are the same; where nothing
    has the very name, nor does upper and lower case count.

    Args:
        images: relative to the folder of the images.
        masks: relative to the folder of the masks.

    Returns:
        The masks of each image that has some, and the masks that belong to no image.
    """
    matched = _match(images, masks, lambda name: unicodedata.normalize("NFC", name))
    used = {mask for found in matched.values() for mask in found}
    rest = [mask for mask in masks if mask not in used]
    if rest:
        others = [image for image in images if image not in matched]
        fold = _match(others, rest, lambda name: unicodedata.normalize("NFC", name).casefold())
        matched |= fold
        used |= {mask for found in fold.values() for mask in found}
    return matched, tuple(mask for mask in masks if mask not in used)


_MASK_WORD = re.compile(
    r"(.*/|)(.+?)[_\-. ](?:masks?|gt|labels?|seg|segmentation|annotations?|ground[_\-. ]?truth)$",
    re.IGNORECASE,
)
"""The stem of a mask's path: its folder, the name of its image, and a word."""


def _match(
    images: Sequence[Path], masks: Sequence[Path], plain: Callable[[str], str]
) -> dict[Path, tuple[Path, ...]]:
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_word: dict[str, list[Path]] = defaultdict(list)
    by_folder: dict[str, list[Path]] = defaultdict(list)
    for mask in masks:
        stem = plain(mask.with_suffix("").as_posix())
        by_stem[stem].append(mask)
        by_folder[plain(mask.parent.as_posix())].append(mask)
        if found := _MASK_WORD.match(stem):
            by_word[f"{found[1]}{found[2]}"].append(mask)
    matched = {}
    for image in images:
        stem = plain(image.with_suffix("").as_posix())
        if masks_of := by_word.get(stem) or by_stem.get(stem) or by_folder.get(stem):
            matched[image] = tuple(masks_of)
    return matched


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(entry: os.DirEntry[str]) -> bool:
    if os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
        return False
    try:
        # A pipe or a device with the name of an image would block whoever reads it.
        return entry.is_file() or not os.path.exists(entry.path)
    except OSError:
        return True


def printable(name: str) -> str:
    """A file's name as text; one that is no UTF-8 can be opened, but not printed or recorded."""
    return os.fsencode(name).decode("utf-8", "replace")
