"""`local_copy`: a dataset in a store of objects, as a folder that training can read many times.

    s3://bucket/parts ─► list ─► what is new or has changed ─► CACHE/remote/HASH/parts/

The copy has the tree of the original. A file appears whole or not at all; a copy that was broken
off is gone on with, and what is no longer in the store leaves the copy too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from generalad.errors import ArtifactError, DataError, StorageError
from generalad.files import (
    atomic_write,
    cache_folder,
    make_folder,
    read_json,
    sha256_of_bytes,
    write_json,
)
from generalad.image_formats.accept import IMAGE_SUFFIXES, limit_bytes
from generalad.parallel import map_threads
from generalad.progress import Progress, no_progress
from generalad.runtime.remote_files import AHEAD, ask, open_store
from generalad.runtime.secrets import redacted
from generalad.runtime.sources import STORES

_SCHEMES = frozenset({*STORES, "http", "https", "file"})
_LISTS = frozenset({".csv", ".json", ".txt", ".xml", ".mat"})
"""Suffixes of files that say something about images; others beside images are not copied."""

_VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5"),
    *("LastModified", "last_modified", "updated", "mtime", "created"),
)
"""How stores call what changes with the content of an object, the best first."""

_FORBIDDEN = frozenset("\0\\:" if os.name == "nt" else "\0")

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG})


class _Object(NamedTuple):
    key: str
    size: int | None
    version: str


def is_elsewhere(address: str) -> bool:
    """Whether a dataset is named by an address that is to be copied first."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.lower() in _SCHEMES


def local_copy(
    address: str, *, class_name: str | None = None, progress: Progress | None = None
) -> Path:
    """Bring the copy of a dataset up to date, and say where it lies.

    Args:
        address: of a folder such as "s3://bucket/parts", or of a table or list in one. Over HTTP
            the server must list its folders.
        class_name: of folders of several classes, the one that is wanted; others are not copied.
        progress: told ("copying", objects done, objects).

    Returns:
        The folder, or the table in it.

    Raises:
        DataError: nothing is there, the store says no, or it does not answer.
        MissingExtraError: fsspec, or the library of the store, is not installed.
        StorageError: there is no room for the copy.
    """
    store, path = open_store(address)
    folder, table = path.rstrip("/"), ""
    if folder.lower().endswith((".csv", ".json")):
        folder, _, table = folder.rpartition("/")
    found = ask(lambda: _listed(store, folder), address)
    chosen = f"{class_name}/" if class_name else ""
    if not chosen or not any(name.startswith(f"{chosen}train/") for name in found):
        chosen = ""
    found = {name: one for name, one in found.items() if name.startswith(chosen)}
    if not any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in found):
        raise DataError(f"{redacted(address)}: no images there", remedy="check the address")
    _check(found, address)
    root = _place(redacted(store.unstrip_protocol(folder)))
    _update(store, found, root, chosen, address, progress or no_progress)
    return root / table if table else root


def _listed(store: Any, folder: str) -> dict[str, _Object]:
    """Objects below a folder, by their paths in it."""
    found = {}
    for key, known in store.find(folder, detail=True).items():
        if not key.startswith(f"{folder}/") or key.endswith("/"):
            continue  # on another host, as a page may link; or the mark of a folder
        name = key[len(folder) + 1 :]
        if "://" in key:
            name = unquote(name)
        parts = name.split("/")
        wanted = Path(name).suffix.lower() in IMAGE_SUFFIXES | _LISTS
        wanted = wanted and known.get("type", "file") == "file"
        if wanted and not any(part.startswith(".") and part != ".." for part in parts):
            version = next((str(known[one]) for one in _VERSIONS if known.get(one)), "")
            size = known.get("size")
            found[name] = _Object(key, None if size is None else int(size), version)
    if not found and not store.exists(folder):
        raise FileNotFoundError
    return found


def _check(found: Mapping[str, _Object], address: str) -> None:
    """Refuse what cannot be a file below a folder, or would fill the disk."""
    limit = limit_bytes()
    for name, one in found.items():
        if any(part in ("", "..") for part in name.split("/")) or _FORBIDDEN & set(name):
            raise DataError(
                f"{redacted(address)}: the object {name!r} cannot be a file", remedy="rename it"
            )
        if one.size is not None and one.size > limit:
            raise DataError(
                f"{redacted(address)}: {name} has {one.size / 1e6:.0f} MB, expected at most"
                f" {limit / 1e6:.0f}",
                remedy="remove it, or allow more by GAD_MAX_MEGAPIXELS",
            )


def _place(address: str) -> Path:
    """The folder of the copy, with the name of the original."""
    name = address.rpartition("/")[2]
    name = "".join(x if x.isalnum() or x in "-_." else "-" for x in unquote(name)).strip(".-")
    digest = sha256_of_bytes(address.encode())[:12]
    return cache_folder() / "remote" / digest / (name or "data")


def _update(
    store: Any,
    found: Mapping[str, _Object],
    root: Path,
    chosen: str,
    address: str,
    progress: Progress,
) -> None:
    """Make the copy of the objects below `chosen` what the store has."""
    make_folder(root)
    record = root.parent / f"copied{sha256_of_bytes(chosen.encode())[:8] if chosen else ''}.json"
    known = _known(record)
    current = {
        name: known[name]
        for name, one in found.items()
        if one.version and known.get(name) == [one.size, one.version] and _there(root / name, one)
    }
    wanted = {name: one for name, one in found.items() if name not in current}
    _check_room(root, wanted)
    for old in sorted(root.joinpath(chosen).rglob("*")):
        if old.name.startswith("."):
            continue  # another process may be writing it
        if old.is_file() and old.relative_to(root).as_posix() not in found:
            old.unlink(missing_ok=True)
    progress("copying", len(current), len(found))
    try:
        for name in map_threads(_fetcher(store, root, address), wanted.items(), workers=AHEAD):
            current[name] = [wanted[name].size, wanted[name].version]
            progress("copying", len(current), len(found))
    finally:
        write_json(record, current)


def _known(record: Path) -> dict[str, Any]:
    with contextlib.suppress(ArtifactError):
        found = read_json(record)
        if isinstance(found, dict):
            return found
    return {}


def _there(path: Path, one: _Object) -> bool:
    with contextlib.suppress(OSError):
        return one.size is None or path.stat().st_size == one.size
    return False


def _check_room(root: Path, wanted: Mapping[str, _Object]) -> None:
    needed, free = sum(one.size or 0 for one in wanted.values()), shutil.disk_usage(root).free
    if needed > free:
        raise StorageError(
            f"{root}: the copy needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            remedy="free some space, or choose another folder by GAD_CACHE",
        )


def _fetcher(store: Any, root: Path, address: str) -> Callable[[tuple[str, _Object]], str]:
    """Fetches one object, whole, and says its name."""

    def fetch(item: tuple[str, _Object]) -> str:
        name, one = item
        ask(lambda: _fetch(store, one, root / name), f"{address.rstrip('/')}/{name}")
        return name

    return fetch


class _StoreError(Exception):
    """Has an error of the store as its cause; `atomic_write` would take it for one of the disk."""


def _fetch(store: Any, one: _Object, target: Path) -> None:
    try:
        with atomic_write(target) as temporary:
            try:
                store.get_file(one.key, str(temporary))
            except OSError as error:
                if error.errno in _OF_THE_DISK:
                    raise
                raise _StoreError from error
            arrived = temporary.stat().st_size
            if one.size not in (None, arrived):
                raise _StoreError from ConnectionError(f"{arrived} of {one.size} bytes arrived")
    except _StoreError as failure:
        assert isinstance(failure.__cause__, OSError)
        raise failure.__cause__ from None
