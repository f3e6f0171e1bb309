"""Which mask belongs to which image, and whether masks say what they seem to."""

from __future__ import annotations

import re
import struct
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.data.samples import Dataset, Sample
from generalad.errors import DataError
from generalad.files import sha256_of_bytes
from generalad.image_formats.accept import read_header
from generalad.image_formats.tiff import orientation_of
from generalad.parallel import map_threads
from generalad.preprocess import decode_mask_values, read_bytes, read_mask

INVERTED, LOSSY, SHARED = "inverted mask", "lossy mask", "shared mask"
VOID, TURNED, OF_GOOD, EQUAL = "void in mask", "turned mask", "marked good", "equal masks"
"""Kinds of doubts about a mask."""

REMEDIES = {
    INVERTED: "draw defects white on black; if they do fill the images, this may stay",
    LOSSY: "save masks as PNG in black and white, best from the originals",
    SHARED: "give images of one name different ones, and each a mask of its own",
    VOID: "make 255 black if it means 'ignore'",
    TURNED: "look at them, and save such images upright, without EXIF orientation",
    OF_GOOD: "correct the label or the mask",
    EQUAL: "draw each for its own image, unless defects do lie in the same pixels",
}

_WORDS = {
    INVERTED: "marked along the edge and over more than half of the image, as if inverted",
    LOSSY: "with grey noise, as JPEG leaves it, which counts as more defects",
    SHARED: "used for several images",
    VOID: "with numbers of classes and 255, for others 'ignore' and here a defect",
    TURNED: "of images that EXIF data turns, which fit them turned or not",
    OF_GOOD: "that mark something in images that are called good",
    EQUAL: "that are one and the same file, as if written over",
}

_VOID, _LARGEST_CLASS = 255, 40

_MOST_LABELS = 16
"""Different values in a mask whose values are meant, such as numbers of defects."""


def match_masks(
    images: Sequence[Path], masks: Sequence[Path]
) -> tuple[Mapping[Path, tuple[Path, ...]], tuple[Path, ...]]:
    """Find the masks of images by their names.

    The masks of `a/x.png` are `a/x_mask.*` and `a/x_mask_1.*` (or `_gt`, `_label`, …), else
    `a/x.*`, else everything in the folder `a/x/`. Names that differ in their Unicode form only are
    the same; where nothing has the very name, nor does upper and lower case count.

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
    r"(.*/|)(.+?)[_\-. ](?:masks?|gt|labels?|seg|segmentation|annotations?|ground[_\-. ]?truth)"
    r"(?:[_\-. ]?\d{1,3})?$",
    re.IGNORECASE,
)
"""The stem of a mask's path: its folder, the name of its image, a word, and a number of several."""


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


def doubt_about(values: NDArray[Any], *, lossy: bool) -> str:
    """What is odd about a mask; empty for nothing.

    Args:
        values: (H, W) uint8 or uint16, as in the file; 0 is not defective.
        lossy: whether its format may have changed them.
    """
    largest = int(values.max())
    if not largest:
        return ""
    strong = values > largest / 2 if len(np.unique(values)) > _MOST_LABELS else values > 0
    marked = values > 0
    noise = marked & (values < largest / 8)
    if _fills(strong) or _fills(marked & ~noise):
        return INVERTED
    different = set(np.unique(values[marked]).tolist()) if values.dtype == np.uint8 else set()
    if _VOID in different and different != {_VOID} and max(different - {_VOID}) <= _LARGEST_CLASS:
        return VOID
    if lossy and noise.any():
        return LOSSY
    near = cv2.dilate(strong.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # soft edges
    return LOSSY if (marked & ~near).any() else ""


def _fills(marked: NDArray[np.bool_]) -> bool:
    """Whether most of an image and of its edge is marked."""
    edge = np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]])
    return bool(marked.mean() > 0.5 and edge.mean() > 0.6)


def is_turned_in_doubt(data: bytes) -> bool:
    """Whether EXIF data turns an image so that its size stays the same."""
    try:
        orientation, header = orientation_of(data), read_header(data)
    except (ValueError, LookupError, struct.error):
        return False
    if orientation == 1 or header is None:
        return False
    return orientation in (2, 3, 4) or header.width == header.height


def shared_masks(samples: Iterable[Sample]) -> list[Path]:
    """Masks that belong to more than one image."""
    count = Counter(mask for sample in samples for mask in set(sample.masks))
    return sorted(mask for mask, images in count.items() if images > 1)


def equal_masks(digests: Mapping[Path, str]) -> list[Path]:
    """Masks of one content, where they are three or more and over a quarter of all.

    Args:
        digests: a hash of each mask that marks something.
    """
    [(digest, count)] = Counter(digests.values()).most_common(1) or [("", 0)]
    if count < 3 or 4 * count <= len(digests):
        return []
    return sorted(mask for mask, found in digests.items() if found == digest)


def in_words(kind: str, number: int, total: int) -> str:
    """A sentence about doubtful masks."""
    return f"{number} of {total} masks {_WORDS[kind]}"


def doubtful_masks(dataset: Dataset, turned: Mapping[Path, bool] | None = None) -> str:
    """What is odd about the masks of a test, in one line; empty for nothing.

    Masks that cannot be read are not spoken of: who uses them hears of it.

    Args:
        dataset: its test images have the masks.
        turned: of those that were read, whether EXIF data turns them in doubt; the others are read.
    """
    known = turned or {}
    masks = sorted({mask for sample in dataset.test for mask in sample.masks})
    kinds: dict[str, int] = defaultdict(int)
    of_good = {mask for sample in dataset.test if not sample.defective for mask in sample.masks}
    digests: dict[Path, str] = {}
    for mask, (doubt, digest) in zip(masks, map_threads(_doubt, masks), strict=True):
        kinds[doubt] += 1
        if digest and mask not in of_good:
            digests[mask] = digest
    kinds[EQUAL] = len(equal_masks(digests))
    kinds[SHARED] = len(shared_masks(dataset.test))
    shown = [sample for sample in dataset.test if sample.masks]
    unknown = [sample.path for sample in shown if sample.path not in known]
    known = {**known, **dict(zip(unknown, map_threads(_is_turned, unknown), strict=True))}
    kinds[TURNED] = sum(len(sample.masks) for sample in shown if known[sample.path])
    kinds[OF_GOOD] = sum(map_threads(marks_something, sorted(of_good)))
    found = [in_words(kind, kinds[kind], len(masks)) for kind in REMEDIES if kinds[kind]]
    return "; ".join(found)


def marks_something(path: Path) -> bool:
    """Whether a mask can be read and is not all black."""
    try:
        return bool(read_mask(path).any())
    except DataError:
        return False


def _doubt(path: Path) -> tuple[str, str]:
    """A kind of doubt, and a hash of the content of a mask that marks something; else empty."""
    try:
        data = read_bytes(path)
        values = decode_mask_values(data, name=str(path))
    except DataError:
        return "", ""
    digest = sha256_of_bytes(data) if values.any() else ""
    return doubt_about(values, lossy=is_lossy(data)), digest


def _is_turned(path: Path) -> bool:
    try:
        return is_turned_in_doubt(read_bytes(path))
    except DataError:
        return False


def is_lossy(data: bytes) -> bool:
    """Whether the format of a file that was accepted may have changed its pixels."""
    header = read_header(data)
    return header is not None and header.lossy
