"""The procedural dataset on disk, in the layout of MVTec AD."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError, UsageError
from generalad.files import atomic_write, read_json, write_json
from generalad.parallel import map_threads
from generalad.progress import Progress
from generalad.synth.parts import CATEGORIES, render_part

MARKER = "synth.json"  # there when the dataset is complete
_UNFINISHED = "synth.unfinished.json"
VERSION = 1  # of the images: raised when the same seed gives other ones


@dataclass(frozen=True)
class _Item:
    """One image to be made."""

    category: str
    split: str
    kind: str
    index: int

    @property
    def image(self) -> str:
        return f"{self.category}/{self.split}/{self.kind}/{self.index:03d}.png"

    @property
    def mask(self) -> str:
        return f"{self.category}/ground_truth/{self.kind}/{self.index:03d}_mask.png"


def image_generator(seed: int, category: str, split: str, index: int) -> np.random.Generator:
    """The generator of one image; it depends on nothing but these four.

    `split` is any name: "train/good", "test/scratch", "conveyor".
    """
    # crc32 and not hash(): the latter differs from process to process.
    names = (zlib.crc32(name.encode()) for name in (category, split))
    return np.random.default_rng(np.random.SeedSequence([seed, *names, index]))


def write_dataset(
    root: Path,
    *,
    categories: Sequence[str] | None = None,
    train: int = 60,
    test_good: int = 20,
    per_defect: int = 10,
    seed: int = 0,
    size: int = 256,
    progress: Progress | None = None,
) -> Path:
    """Write images and masks below `root` and return it.

    A finished dataset of the same parameters is left alone; an interrupted one is completed. A
    image depends on the seed, its category, split and number alone, never on the counts.

    Args:
        root: A new or empty folder, or one that this function wrote with the same parameters.
        categories: Names from `CATEGORIES`; all if None.
        train: Good images for training, for each category.
        test_good: Good images for testing, for each category.
        per_defect: Images for each defect of each category.
        seed: At least 0.
        size: Side of the images in pixels, at least 32.
        progress: Called with ("drawing", images done, images).

    Raises:
        DataError: `root` holds something else.
        UsageError: A category is unknown, or a number is out of range.
    """
    root = Path(root)
    names = list(CATEGORIES) if categories is None else list(dict.fromkeys(categories))
    _check(names, min(train, test_good, per_defect, seed), size)
    record = {
        "version": VERSION,
        "categories": names,
        "train": train,
        "test_good": test_good,
        "per_defect": per_defect,
        "seed": seed,
        "size": size,
    }
    if _finished(root, record):
        return root
    write_json(root / _UNFINISHED, record)
    for leftover in root.rglob(".*.part.png"):  # of a process that was killed
        leftover.unlink()
    items = list(_items(names, train, test_good, per_defect))
    written = map_threads(lambda item: _write(root, item, seed, size), items)
    for done, _ in enumerate(written, start=1):
        if progress is not None:
            progress("drawing", done, len(items))
    write_json(root / MARKER, record)
    (root / _UNFINISHED).unlink()
    return root


def _check(names: Sequence[str], smallest: int, size: int) -> None:
    """Refuse what cannot be made."""
    for name in names:
        if name not in CATEGORIES:
            raise UsageError(
                f"unknown category {name!r}", remedy=f"choose from {', '.join(CATEGORIES)}"
            )
    if smallest < 0 or size < 32:
        raise UsageError(
            f"counts and seed must be at least 0 and size at least 32, found {smallest} and {size}",
            remedy="raise the number that is too small",
        )


def _items(names: Sequence[str], train: int, test_good: int, per_defect: int) -> Iterator[_Item]:
    """All images of a dataset."""
    for name in names:
        yield from (_Item(name, "train", "good", index) for index in range(train))
        yield from (_Item(name, "test", "good", index) for index in range(test_good))
        for defect in CATEGORIES[name].defects:
            yield from (_Item(name, "test", defect, index) for index in range(per_defect))


def _finished(root: Path, record: dict[str, Any]) -> bool:
    """Whether `root` holds the wanted dataset; raises where it holds anything else."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file", remedy="choose a new folder")
    if not root.exists() or not any(root.iterdir()):
        return False
    marker = next((root / name for name in (MARKER, _UNFINISHED) if (root / name).exists()), None)
    if marker is None:
        raise DataError(
            f"{root} is not empty and was not written by this command",
            remedy="choose a new folder, or empty this one",
        )
    if read_json(marker) != record:
        raise DataError(
            f"{root} holds demo parts made with other parameters",
            remedy="choose a new folder, or delete this one",
        )
    return marker.name == MARKER


def _write(root: Path, item: _Item, seed: int, size: int) -> None:
    """Make one image, and its mask if it has a defect, unless both are there."""
    image_path, mask_path = root / item.image, root / item.mask
    good = item.kind == "good"
    if image_path.exists() and (good or mask_path.exists()):
        return
    rng = image_generator(seed, item.category, f"{item.split}/{item.kind}", item.index)
    image, mask = render_part(item.category, rng, defect=None if good else item.kind, size=size)
    if not good:
        save_png(mask_path, mask)
    save_png(image_path, image)


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB or grey image, atomically."""
    pixels = image[..., ::-1] if image.ndim == 3 else image
    # Low compression: three times faster, and noise does not compress anyway.
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(f"cannot encode {path.name} as PNG")
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
