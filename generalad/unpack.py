"""Data sets that are no folders of images, written out as folders of PNG files once.

CIFAR-10, CIFAR-100 and Fashion-MNIST come as arrays. Everything here works on files: an image has a
path, a hash and a place in the check's report. So they are unpacked into train/CLASS and
test/CLASS, without loss; CIFAR-100 into its 20 coarse classes. torchvision reads the original files
and compares the MD5 sums of CIFAR, whose pickles it then opens. Nothing is ever downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.data.public_sets import public_set
from generalad.errors import DataError, UsageError, key_hint, require_extra
from generalad.files import make_folder, sha256_of_bytes, storage_error, write_json
from generalad.progress import Progress

UNPACKED = ("cifar-10", "cifar-100", "fashion-mnist")
"""The data sets that `unpack` knows."""

RECORD_FILE = "unpacked.json"
"""Written at the end: the set, its numbers of images, and a hash over all of them."""


class Unpacked(NamedTuple):
    """What `unpack` did.

    Attributes:
        folder: that holds train/ and test/.
        images: in it.
        written: of them by this call; the others were there already.
        classes: their names.
    """

    folder: Path
    images: int
    written: int
    classes: tuple[str, ...]


class _Picture(NamedTuple):
    name: str  # relative to the folder
    image: NDArray[np.uint8]  # (H, W, 3) RGB or (H, W)


def unpack(
    data_set: str, root: str | Path, out: str | Path, *, progress: Progress | None = None
) -> Unpacked:
    """Write a data set of arrays as PNG files; goes on where it was interrupted.

    The same data set gives the same files. A file that is there already is kept if it has the
    length that it should have; each appears whole or not at all.

    Args:
        data_set: one of `UNPACKED`.
        root: the folder with the original files, as torchvision expects it, or one of them.
        out: folder for train/CLASS/NUMBER.png and test/CLASS/NUMBER.png.
        progress: called with ("unpacking", images done, images).

    Raises:
        DataError: the original files are missing, incomplete or changed.
        MissingExtraError: torchvision is not installed.
        StorageError: the folder cannot be written.
        UsageError: another data set, or `out` holds one.
    """
    if data_set not in UNPACKED:
        raise UsageError(f"no data set {data_set!r} to unpack", remedy=key_hint(data_set, UNPACKED))
    require_extra("unpacking a data set", "train", "torchvision")
    out = Path(out)
    parts = [_read(data_set, Path(root), train) for train in (True, False)]
    total = sum(len(part.targets) for part in parts)
    hashes, written = [], 0
    for number, picture in enumerate(_pictures(data_set, parts), start=1):
        encoded = _encode(picture.image)
        hashes.append(f"{sha256_of_bytes(encoded)} {picture.name}")
        written += _put(out / picture.name, encoded)
        if progress is not None:
            progress("unpacking", number, total)
    _check_nothing_else(out, {line.split(" ", 1)[1] for line in hashes})
    content = sha256_of_bytes("\n".join(hashes).encode())
    write_json(out / RECORD_FILE, {"data_set": data_set, "images": total, "sha256": content})
    return Unpacked(out, total, written, tuple(public_set(data_set).images))


def _read(data_set: str, root: Path, train: bool) -> Any:
    """The reader of torchvision for one part."""
    from torchvision import datasets

    kind = {
        "cifar-10": datasets.CIFAR10,
        "cifar-100": datasets.CIFAR100,
        "fashion-mnist": datasets.FashionMNIST,
    }[data_set]
    where = public_set(data_set).where()
    for above in (root, *root.resolve().parents[:2]):  # one may give an inner folder
        try:
            return kind(str(above), train=train, download=False)
        except RuntimeError:  # not found or corrupted
            continue
        except Exception as error:  # a broken file fails in many ways
            raise DataError(f"{above}: cannot be read: {error}", remedy=where) from error
    raise DataError(
        f"{root}: no {public_set(data_set).title}, or files of it are missing or changed",
        remedy=where,
    )


def _pictures(data_set: str, parts: list[Any]) -> Iterator[_Picture]:
    """Every image in the order of the set, numbered in it."""
    for name, part in zip(("train", "test"), parts, strict=True):
        folders = _folders(data_set, list(part.classes))
        images, labels = np.asarray(part.data), np.asarray(part.targets)
        if len(images) != len(labels) or not len(images) or labels.max() >= len(folders):
            raise DataError(
                f"{name}: {len(images)} images and {len(labels)} labels of {len(folders)} classes",
                remedy=public_set(data_set).where(),
            )
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield _Picture(f"{name}/{folders[int(label)]}/{number:05d}.png", image)


def _folders(data_set: str, classes: list[str]) -> list[str]:
    """The folder of each class, as torchvision counts them."""
    coarse = {fine: name for name, many in public_set(data_set).groups.items() for fine in many}
    folders = [coarse[name] if coarse else _folder_name(name) for name in classes]
    if set(folders) != set(public_set(data_set).images):
        raise DataError(
            f"{public_set(data_set).title}: classes {', '.join(classes[:5])}, …",
            remedy=f"expected {', '.join(public_set(data_set).images)}",
        )
    return folders


def _folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _encode(image: NDArray[np.uint8]) -> bytes:
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", stored)
    if not done:
        raise DataError("OpenCV could not encode an image as PNG")
    return encoded.tobytes()


def _put(path: Path, data: bytes) -> bool:
    """Write a file unless it is there; whether it was written.

    It is not synced: tens of thousands of small files would take minutes, and the next call sees by
    its length what a power failure has cut off.
    """
    try:
        if path.is_file() and path.stat().st_size == len(data):
            return False
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(error, path) from error
    return True


def _check_nothing_else(out: Path, names: set[str]) -> None:
    found = {
        path.relative_to(out).as_posix()
        for part in ("train", "test")
        for path in (out / part).rglob("*.png")
    }
    if others := sorted(found - names):
        raise UsageError(
            f"{out}: holds {len(others)} images that are not of this data set, first {others[0]}",
            remedy="unpack into a folder of its own",
        )
