"""Whether an ONNX artifact is the file that was exported, told without an ONNX library.

The metadata stand at the end of the file, first among them the hash of all bytes before. Weights in
a file of their own are named by their hash.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

from generalad.errors import ArtifactError
from generalad.files import sha256_of_file

HASH_KEY = "generalad.graph_sha256"
"""Key of the hash in an ONNX file's `metadata_props`."""

_ENTRY = b"\x0a" + bytes([len(HASH_KEY)]) + HASH_KEY.encode() + b"\x12\x40"
"""How the entry's content begins in protobuf: the key, then a value of 64 bytes."""

_HEADER = 2
"""Bytes of the entry before that: tag and length, which is below 128."""

_BLOCK = 1 << 22
_APART_END = re.compile(rb"-[0-9a-f]{12}\.data")
_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_LONGEST_NAME = 255
_VALUE = 0x12
"""Tag of an entry's value in protobuf."""


def check_unchanged(path: Path) -> None:
    """Refuse a file whose graph or weights are not those that were exported.

    A file without a hash is let through: it was written by other means, and loading it will tell.

    Raises:
        ArtifactError: something was changed or is cut off.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.rfind(_ENTRY)
        if place < 0:
            return
        first = place + len(_ENTRY)
        recorded = data[first : first + 64].decode("ascii", "replace")
        digest = hashlib.sha256()
        for start in range(0, place - _HEADER, _BLOCK):
            digest.update(data[start : min(start + _BLOCK, place - _HEADER)])
        apart = weights_apart(data)
    changed = [] if digest.hexdigest() == recorded else [path.name]
    changed += [name for name in apart if not _named_by_content(path.with_name(name))]
    if changed:
        raise ArtifactError(
            f"{path}: {' and '.join(changed)} is not what was exported: changed or damaged",
            remedy="copy the files again, or export the detector again with gad export",
        )


def weights_apart(data: mmap.mmap) -> list[str]:
    """Names of the files beside it that an ONNX file has its weights in; mostly none."""
    names = {_name_before(data, match.start(), match.end()) for match in _APART_END.finditer(data)}
    names.discard("")
    return sorted(names)


def _name_before(data: mmap.mmap, dash: int, end: int) -> str:
    """The name that ends there; empty if it is only an ending.

    Backwards: a search for the beginning would begin again at each byte of a long text. Where the
    length of the name stands before it, that may look like a letter of it.
    """
    start, least = dash, max(0, end - _LONGEST_NAME)
    while start > least and data[start - 1] in _NAME:
        start -= 1
        if start >= 2 and data[start - 2] == _VALUE and data[start - 1] == end - start < 128:
            break
    return data[start:end].decode() if start < dash else ""


def _named_by_content(path: Path) -> bool:
    return path.is_file() and path.stem.endswith(sha256_of_file(path)[:12])
