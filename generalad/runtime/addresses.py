"""From what a user writes to sources: files, folders, patterns, lists on stdin, live addresses."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from generalad.errors import DataError
from generalad.image_formats.accept import IMAGE_SUFFIXES, READ_SUFFIXES
from generalad.preprocess import Depths
from generalad.runtime.sources import (
    STORES,
    VIDEO_SUFFIXES,
    WATCH,
    Frame,
    ImageFiles,
    Source,
)

STDIN = "-"
"""The address of a list of images and videos on standard input."""


def open_sources(addresses: Sequence[str]) -> list[Source]:
    """Resolve addresses in the given order.

    An address is an image, a video, a folder or a pattern such as "line1/*.png" ("**" matches any
    number of folders). A folder gives its images with those of its subfolders, sorted by path;
    hidden files are left out, and videos, which the source names (`ImageFiles.videos`). A pattern
    gives its images as one source, sorted, and then each of its videos as a source of its own.
    Label images beside the images that they belong to (`x.png`, `x_mask.png`) are left out of
    folders and patterns, and named by the source (`ImageFiles.left_out`); a file that is named
    itself is read whatever it is.

    Raises:
        DataError: an address does not exist, matches nothing, or is of an unknown kind.
    """
    if not addresses:
        raise DataError("no images or videos given", remedy="name files, folders or patterns")
    return [source for address in addresses for source in _open(address)]


def is_remote_address(address: str) -> bool:
    """Whether an address is that of an object, or of a folder of objects."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.lower() in STORES


DEVICES = ("usb:", "/dev/video", "/dev/v4l/", "genicam:", "basler:", "gige:")
"""What addresses of cameras begin with that are open once."""


def is_live_address(address: str) -> bool:
    """Whether an address is that of a camera or a watched folder."""
    if is_remote_address(address):
        return False
    return "://" in address or address.startswith((WATCH, *DEVICES))


class _OfListed(Depths):
    """What is odd about the images of a list, and about its videos."""

    def __init__(self) -> None:
        super().__init__()
        self.videos: list[str] = []

    def in_words(self) -> str:
        """See `Depths`."""
        return "; ".join(filter(None, (super().in_words(), *self.videos)))


class Listed:
    """Images and videos whose paths are listed, one a line, read as the lines come."""

    address = STDIN
    folder: Path | None = None
    waits = True
    """For whoever writes the list, however long that takes."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.doubts = _OfListed()

    def count(self) -> int | None:
        """Not known before the list ends."""
        return None

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for number, line in enumerate(self._lines):
            text = line.rstrip("\r\n")
            text = text.removeprefix("\ufeff") if number == 0 else text
            if not text:
                continue
            for frame in self._frames(text):
                yield replace(
                    frame, source=self.address, index=index, name=_listed(frame.name, text)
                )
                index += 1

    def _frames(self, text: str) -> Iterator[Frame]:
        path = Path(text)
        try:
            if not path.exists():
                raise DataError(f"{text}: no such file")
            source = _open_file(path, text)
            if isinstance(source, ImageFiles):
                source.doubts = self.doubts
            yield from source
            if not isinstance(source, ImageFiles):
                self.doubts.videos.append(getattr(source, "doubts", Depths()).in_words())
        except DataError as failure:
            yield Frame(self.address, 0, 0.0, text, path.name, None, failure.message)
        except (OSError, ValueError) as failure:  # a name that no system takes
            why = getattr(failure, "strerror", None) or str(failure)
            yield Frame(self.address, 0, 0.0, text, path.name, None, f"{text}: {why}")


def _listed(name: str, text: str) -> str:
    """A name that no other path has: the path itself, without what leads out of a folder."""
    parts = Path(os.path.abspath(text)).parts[1:-1]
    return "/".join([*parts, name])


def _open(address: str) -> list[Source]:
    if address == STDIN:
        return [Listed(_lines_of_stdin())]
    if is_live_address(address):
        # Loaded for live sources only: a run over files starts without it.
        from generalad.runtime.cameras.open import open_live

        return [open_live(address)]
    if is_remote_address(address):
        from generalad.runtime.remote_files import RemoteFiles

        return [RemoteFiles(address)]
    path = Path(address)
    if path.is_dir():
        return [_open_folder(path, address)]
    if path.exists():
        return [_open_file(path, address)]
    if not glob.has_magic(address):
        raise DataError(f"{address}: no such file or folder", remedy="check the path")
    return _open_pattern(address)


def _lines_of_stdin() -> Iterator[str]:
    """Lines of any encoding that a file name may have; PowerShell's UTF-16 is told by its mark."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:  # a test, or a program that put something else in its place
        yield from sys.stdin
        return
    for number, line in enumerate(stream):
        if number == 0 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(
                "the list on stdin is in UTF-16, expected UTF-8",
                remedy="in PowerShell: | Out-File -Encoding utf8, or pass the folder itself",
            )
        yield os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line)


def _open_file(path: Path, address: str) -> Source:
    suffix = path.suffix.lower()
    if not path.is_file():  # a reader of videos would wait at a pipe for ever
        raise DataError(
            f"{address}: a folder, a pipe or a device, expected a file", remedy="check the path"
        )
    if suffix in VIDEO_SUFFIXES:
        return _video(path)
    if suffix in IMAGE_SUFFIXES:
        return ImageFiles(address, [path], path.parent)
    known = ", ".join(sorted(READ_SUFFIXES | VIDEO_SUFFIXES))
    raise DataError(f"{address}: not an image or video by its suffix", remedy=f"known: {known}")


def _open_pattern(address: str) -> list[Source]:
    # Single images start without it.
    from generalad.listing import is_hidden, may_hold_images, unnamed_images

    matches = sorted(
        path
        for path in map(Path, glob.glob(address, recursive=True))
        if not any(is_hidden(part) and part not in address for part in path.parts)
    )
    images = [path for path in matches if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [path for path in matches if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if not images and not videos:
        raise DataError(f"{address}: no image or video matches", remedy="check the pattern")
    sources: list[Source] = []
    if images:
        folder = Path(os.path.commonpath([path.parent for path in images]))
        taken = {*images, *videos}
        others = [path for path in matches if path not in taken and path.is_file()]
        unnamed, unread = unnamed_images(Path(), others), may_hold_images(others)
        sources.append(_without_labels(address, images, folder, (), unnamed, unread))
    return [*sources, *map(_video, videos)]


def _without_labels(
    address: str,
    paths: list[Path],
    folder: Path,
    videos: Sequence[Path] = (),
    unnamed: Sequence[Path] = (),
    unread: Sequence[Path] = (),
) -> ImageFiles:
    """The images of a folder or pattern without the label images among them."""
    if len(paths) < 2:
        return ImageFiles(address, paths, folder, {}, videos, unnamed, unread)
    from generalad.label_images import label_images

    pairs = label_images(folder, [path.relative_to(folder) for path in paths], named=True)
    left_out = {folder / label: folder / image for label, image in pairs.items()}
    shown = [path for path in paths if path not in left_out]
    return ImageFiles(address, shown, folder, left_out, videos, unnamed, unread)


def doubts_in_words(sources: Iterable[Source]) -> str:
    """What may not be meant of images and videos that were read, a warning of all; else empty."""
    said = (getattr(source, "doubts", Depths()).in_words() for source in sources)
    return "; ".join(filter(None, said))


def given_twice_in_words(sources: Iterable[Source]) -> str:
    """Images that several of the sources give, each of which is read and counted; else empty."""
    folders: dict[Path, str] = {}
    seen: set[str] = set()
    twice: list[Path] = []
    for path in (path for source in sources for path in getattr(source, "paths", ())):
        folder = folders.get(path.parent)
        if folder is None:
            folder = folders[path.parent] = os.path.realpath(path.parent)
        file = os.path.join(folder, path.name)
        if file in seen:
            twice.append(path)
        seen.add(file)
    if not twice:
        return ""
    some = f"{twice[0]} and {len(twice) - 1} more" if len(twice) > 1 else str(twice[0])
    return (
        f"given more than once, and read and counted as often: {some} → name each file or folder"
        " once"
    )


def left_out_in_words(source: Source) -> str:
    """What a source leaves out, and how to read it all the same; else empty."""
    others = (_others_in_words(source, kind, *words) for kind, words in _OTHERS.items())
    return "; ".join(filter(None, (_labels_in_words(source), _videos_in_words(source), *others)))


_OTHERS = {
    "unnamed": (
        "images by their content, not by their names, and are left out",
        "give them the suffix of their format",
    ),
    "unread": (
        "arrays, archives or streams, which may hold images and are left out",
        "save their images as PNG if they are meant",
    ),
}
"""What files are that an attribute of a source names, and what to do about them."""


def _others_in_words(source: Source, kind: str, what: str, remedy: str) -> str:
    paths = getattr(source, kind, ())
    if not paths:
        return ""
    named = ", ".join(path.name for path in paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{source.address}: {len(paths)} files are {what}: {named}{more} → {remedy}"


def _videos_in_words(source: Source) -> str:
    videos = getattr(source, "videos", ())
    if not videos:
        return ""
    more = f" and {len(videos) - 1} more" if len(videos) > 1 else ""
    return (
        f"{source.address}: of a folder only images are read, not its videos:"
        f" {videos[0].name}{more} → name them, or give a pattern such as folder/*.mp4"
    )


def _labels_in_words(source: Source) -> str:
    pairs = getattr(source, "left_out", None)
    if not pairs:
        return ""
    from generalad.label_images import some_pairs

    total = len(pairs) + (source.count() or 0)
    return (
        f"{source.address}: {len(pairs)} of {total} images look like label images of others and are"
        f" left out: {some_pairs(pairs)} → to read them too, name the files themselves, or list"
        " them on stdin (-)"
    )


def _open_folder(folder: Path, address: str) -> ImageFiles:
    """Its images and those of all subfolders."""
    from generalad.listing import list_files, may_hold_images, unnamed_images

    found = list_files(folder)
    images = [folder / path for path in found.named_images]
    videos = [folder / path for path in found.others if path.suffix.lower() in VIDEO_SUFFIXES]
    others = [path for path in found.others if path.suffix.lower() not in VIDEO_SUFFIXES]
    unnamed, unread = unnamed_images(folder, others), may_hold_images(others)
    if not images:
        remedy = "check the path"
        if videos:
            remedy = "name videos one by one or by a pattern such as folder/*.mp4"
        elif unnamed:
            remedy = f"give images the suffix of their format, such as {unnamed[0].name}"
        elif unread:
            remedy = f"save what is in arrays and archives as PNG, such as {unread[0].name}"
        raise DataError(f"{folder}: no images in this folder or below", remedy=remedy)
    return _without_labels(address, sorted(images), folder, sorted(videos), unnamed, unread)


def _video(path: Path) -> Source:
    from generalad.runtime.videos.video_file import VideoFile  # images start without it

    return VideoFile(path)
