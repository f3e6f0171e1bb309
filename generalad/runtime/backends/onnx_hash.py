"""Whether an ONNX artifact is the file that was exported, told without an ONNX library.

The metadata stand at the end of the file, first among them the hash of all bytes before. Weights in
a file of their own are named by their hash.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from generalad.errors import ArtifactError
from generalad.files import sha256_of_file
from generalad.runtime.backends.onnx_reader import read_model
from generalad.runtime.backends.protobuf import Bytes

HASH_KEY = "generalad.graph_sha256"
"""Key of the hash in an ONNX file's `metadata_props`."""

_ENTRY = b"\x0a" + bytes([len(HASH_KEY)]) + HASH_KEY.encode() + b"\x12\x40"
"""How the entry's content begins in protobuf: the key, then a value of 64 bytes."""

_HEADER = 2
"""Bytes of the entry before that: tag and length, which is below 128."""

_BLOCK = 1 << 22


def check_unchanged(path: Path) -> None:
    """Refuse a file whose graph or weights are not those that were exported.

    A file without a hash is let through: it was written by other means, and loading it will tell.

    Raises:
        ArtifactError: something was changed or is cut off.
    """
    import hashlib  # in the thread beside loading, not before it

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


def weights_apart(data: Bytes) -> list[str]:
    """Names of the files beside it that an ONNX file has its weights in; mostly none.

    Raises:
        ArtifactError: it is damaged.
    """
    try:
        tensors = read_model(data).constants.values()
        return sorted({tensor.apart.decode() for tensor in tensors} - {""})
    except (LookupError, ValueError) as error:
        raise ArtifactError("not an ONNX file, or damaged", remedy="copy the file again") from error


def _named_by_content(path: Path) -> bool:
    return path.is_file() and path.stem.endswith(sha256_of_file(path)[:12])
