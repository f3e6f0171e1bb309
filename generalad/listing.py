"""Which files lie in a folder. Paths only: no file is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from generalad.errors import DataError
from generalad.image_formats.accept import IMAGE_SUFFIXES

_OF_SYSTEMS = frozenset(
    {
        *("__macosx", "lost+found", "$recycle.bin", "system volume information"),
        *("@eadir", "#recycle", "@recycle", "#snapshot", "~snapshot", "@tmp"),
    }
)
"""Folders that systems and network storage put among others: thumbnails, and what was deleted."""


_MOST_WAYS = 100
"""Links by which one folder may be reached: folders that link to each other have no end."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant for people, by its name."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


@dataclass(frozen=True)
class Listing:
    """The files below a folder, relative to it and sorted by name; hidden ones are left out."""

    images: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def named_images(self) -> tuple[Path, ...]:
        """Whatever has the name of an image, even a pipe: whoever reads it says what it is."""
        named = (path for path in self.others if path.suffix.lower() in IMAGE_SUFFIXES)
        return tuple(sorted((*self.images, *named)))


def list_files(root: Path) -> Listing:
    """List a folder and everything below it.

    Linked folders are entered unless they lead back to a folder they lie in. A dangling link with
    the name of an image counts as an image, so that somebody hears of it.

    Raises:
        DataError: a folder cannot be opened, or is linked to in circles.
    """
    images: list[str] = []
    others: list[str] = []
    # Each entry: a folder, its path relative to the root, the identities of the folders above it.
    todo: list[tuple[Path, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
    ways: Counter[tuple[int, int]] = Counter()
    while todo:
        folder, prefix, above = todo.pop()
        try:
            status = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            if prefix and isinstance(error, FileNotFoundError):
                continue  # removed since it was listed
            raise DataError(
                f"{folder}: {error.strerror}", remedy="check the folder's permissions"
            ) from error
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue
        ways[identity] += 1
        if ways[identity] > _MOST_WAYS:
            raise DataError(
                f"{folder}: more than {_MOST_WAYS} links lead to this folder",
                remedy="remove links between folders",
            )
        for entry in entries:
            if is_hidden(entry.name):
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


_STARTS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"qoif"),
    *(
        b"\0\0\0\x0cjP  ",
        b"\xff\x4f\xff\x51",
        b"8BPS",
        b"v/1\x01",
        b"DDS ",
        b"BPG\xfb",
        b"\xff\x0a",
    ),
)
_OF_HEIF = (b"heic", b"heix", b"mif1", b"avif", b"avis")
_NO_IMAGES = (".json", ".jsonl", ".xml", ".txt", ".csv", ".md", ".yaml", ".yml", ".toml", ".html")


def unnamed_images(root: Path, others: Iterable[Path]) -> tuple[Path, ...]:
    """Of files that are no images by their names, those that begin as images do.

    Args:
        root: a folder.
        others: files below it, relative to it.
    """
    return tuple(
        path
        for path in others
        if path.suffix.lower() not in _NO_IMAGES and _begins_as_image(root / path)
    )


_MAY_HOLD_IMAGES = frozenset(
    {
        *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".zarr", ".parquet", ".tfrecord", ".lmdb"),
        *(".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".pdf"),
        *(".y4m", ".yuv", ".nv12", ".h264", ".264", ".h265", ".265", ".hevc", ".seq", ".rosbag"),
    }
)
"""Names of arrays, archives and streams without a container."""


def may_hold_images(others: Iterable[Path]) -> tuple[Path, ...]:
    """Of files that are no images by their names, those in which there may be some."""
    return tuple(path for path in others if path.suffix.lower() in _MAY_HOLD_IMAGES)


def _begins_as_image(path: Path) -> bool:
    try:
        if not path.is_file():
            return False  # a pipe would block
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    if start[4:8] == b"ftyp":
        return start[8:12] in _OF_HEIF
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def list_folders(root: Path) -> list[str]:
    """Names of the folders directly below `root`, sorted; hidden ones are left out."""
    try:
        entries = list(os.scandir(root))
    except OSError as error:
        raise DataError(
            f"{root}: {error.strerror}", remedy="check the folder's permissions"
        ) from error
    return sorted(
        entry.name for entry in entries if not is_hidden(entry.name) and _is_folder(entry)
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
