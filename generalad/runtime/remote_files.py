"""Image files in a store of objects: `s3://`, `gs://`, `az://` and their like, through fsspec.

Who may read them is told by the environment, as the library of each store has it. What fails on
the way is asked for again; what the store says no to is not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from generalad.errors import DataError, GadError, require_extra
from generalad.image_formats.accept import IMAGE_SUFFIXES, limit_bytes
from generalad.listing import is_hidden
from generalad.parallel import map_threads
from generalad.preprocess import Depths, decode_image
from generalad.runtime.backoff import Backoff
from generalad.runtime.secrets import clean, redacted
from generalad.runtime.sources import Frame

AHEAD = 8
"""Objects that are asked for at a time: each takes its time to arrive."""

ATTEMPTS = 4
"""At a request; between them are some seconds."""

_FINAL = (
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(ImportError, NotImplementedError, TypeError, ValueError, GadError),
)
"""Errors that asking again does not mend."""

Answer = TypeVar("Answer")


def open_store(address: str) -> tuple[Any, str]:
    """A store of objects, and the place in it that an address names.

    Raises:
        DataError: the store is not known, or its library is not installed.
        MissingExtraError: fsspec is not installed.
    """
    require_extra(redacted(address), "remote", "fsspec")
    import fsspec.core

    try:
        store, path = fsspec.core.url_to_fs(address)
    except Exception as error:  # each store's library has errors of its own
        raise store_error(error, address) from error
    return store, path


def ask(
    request: Callable[[], Answer], address: str, *, wait: Callable[[float], None] = time.sleep
) -> Answer:
    """What a store answers to a request, which is made again where it fails on the way.

    Raises:
        DataError: it says no, or does not answer; without passwords of the address.
        StorageError: what a request raises, as other errors of this project.
    """
    pauses = Backoff()
    for failures in range(1, ATTEMPTS + 1):
        try:
            return request()
        except GadError:
            raise
        except Exception as error:
            if failures == ATTEMPTS or isinstance(error, _FINAL):
                raise store_error(error, address) from error
        wait(pauses.delay(failures, random.random()))
    raise AssertionError("not reached")


def store_error(error: Exception, address: str) -> DataError:
    """The one-line form of an error of a store's library."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        text = "there is nothing"
    elif isinstance(error, TimeoutError):
        text = "the store does not answer"
    return DataError(
        f"{redacted(address)}: {clean(text, address)}",
        remedy="check address, access, network and the library of the store",
    )


class RemoteFiles:
    """The images of an address, sorted by their keys; read some ahead, handed out in order."""

    folder: Path | None = None

    def __init__(self, address: str) -> None:
        """List them.

        Args:
            address: an object, a folder with its subfolders, or a pattern such as
                "s3://bucket/line1/*.png". Label images are not told apart.

        Raises:
            DataError: it does not exist, cannot be asked, or holds no images.
            MissingExtraError: fsspec is not installed.
        """
        self.address = redacted(address)
        self._store, path = open_store(address)
        self._keys = ask(lambda: _keys(self._store, path), address)
        if not self._keys:
            raise DataError(f"{self.address}: no images there", remedy="check the address")
        parents = [PurePosixPath(key).parent.parts for key in self._keys]
        self._common = len(_common(parents))
        self.doubts = Depths()

    def count(self) -> int | None:
        """Number of objects."""
        return len(self._keys)

    def __iter__(self) -> Iterator[Frame]:
        return map_threads(self._frame, enumerate(self._keys), workers=AHEAD, ahead=AHEAD)

    def _frame(self, place: tuple[int, str]) -> Frame:
        index, key = place
        whole = self._store.unstrip_protocol(key)
        path = redacted(whole)
        name = "/".join(PurePosixPath(key).parts[self._common :])
        image, error, moment = None, None, 0.0
        try:
            known = ask(lambda: self._store.info(key), whole)
            size, limit = int(known.get("size") or 0), limit_bytes()
            if size > limit:
                raise DataError(f"{path}: {size / 1e6:.0f} MB, expected at most {limit / 1e6:.0f}")
            modified = known.get("LastModified") or known.get("created") or known.get("mtime")
            moment = (
                modified.timestamp() if hasattr(modified, "timestamp") else float(modified or 0)
            )
            data = ask(lambda: self._store.cat_file(key), whole)
            image = decode_image(data, name=path, depths=self.doubts)
        except DataError as failure:
            error = failure.message
        return Frame(self.address, index, moment, path, name, image, error)


def _keys(store: Any, path: str) -> list[str]:
    if any(letter in path for letter in "*?["):
        found = store.glob(path)
    elif store.isfile(path):
        return [path]
    elif store.exists(path):
        found = store.find(path)
    else:
        raise FileNotFoundError
    return sorted(key for key in found if _is_image(key))


def _is_image(key: str) -> bool:
    path = PurePosixPath(key)
    hidden = any(map(is_hidden, path.parts))
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _common(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What all begin with."""
    least, greatest = min(parts), max(parts)
    same = next((n for n, (a, b) in enumerate(zip(least, greatest)) if a != b), len(least))  # noqa: B905
    return least[:same]
