"""Image files in a store of objects: `s3://`, `gs://`, `az://` and their like, through fsspec.

Who may read them is told by the environment, as the library of each store has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from generalad.errors import DataError, require_extra
from generalad.image_formats.accept import IMAGE_SUFFIXES, limit_bytes
from generalad.listing import is_hidden
from generalad.parallel import map_threads
from generalad.preprocess import Depths, decode_image
from generalad.runtime.secrets import redacted
from generalad.runtime.sources import Frame

_AHEAD = 8
"""Objects that are asked for at a time: each takes its time to arrive."""


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
        require_extra(redacted(address), "remote", "fsspec")
        import fsspec.core

        self.address = redacted(address)
        try:
            self._store, path = fsspec.core.url_to_fs(address)
            self._keys = _keys(self._store, path)
        except Exception as error:  # each store's library has errors of its own
            raise DataError(
                f"{self.address}: {_reason(error)}", remedy="check address, access and library"
            ) from error
        if not self._keys:
            raise DataError(f"{self.address}: no images there", remedy="check the address")
        parents = [PurePosixPath(key).parent.parts for key in self._keys]
        self._common = len(_common(parents))
        self.depths = Depths()

    def count(self) -> int | None:
        """Number of objects."""
        return len(self._keys)

    def __iter__(self) -> Iterator[Frame]:
        return map_threads(self._frame, enumerate(self._keys), workers=_AHEAD, ahead=_AHEAD)

    def _frame(self, place: tuple[int, str]) -> Frame:
        index, key = place
        path = redacted(self._store.unstrip_protocol(key))
        name = "/".join(PurePosixPath(key).parts[self._common :])
        image, error, time = None, None, 0.0
        try:
            known = self._store.info(key)
            size, limit = int(known.get("size") or 0), limit_bytes()
            if size > limit:
                raise DataError(f"{path}: {size / 1e6:.0f} MB, expected at most {limit / 1e6:.0f}")
            modified = known.get("LastModified") or known.get("created") or known.get("mtime")
            time = modified.timestamp() if hasattr(modified, "timestamp") else float(modified or 0)
            image = decode_image(self._store.cat_file(key), name=path, depths=self.depths)
        except DataError as failure:
            error = failure.message
        except Exception as failure:  # as above
            error = f"{path}: {_reason(failure)}"
        return Frame(self.address, index, time, path, name, image, error)


def _keys(store: Any, path: str) -> list[str]:
    if any(letter in path for letter in "*?["):
        found = store.glob(path)
    elif store.isfile(path):
        return [path]
    elif store.exists(path):
        found = store.find(path)
    else:
        raise DataError("there is nothing")
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


def _reason(error: Exception) -> str:
    text = error.message if isinstance(error, DataError) else str(error)
    return " ".join(text.split())[:300] or type(error).__name__
