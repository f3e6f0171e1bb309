"""What an ONNX graph would do when it runs, told without an ONNX library and before it does.

Graphs of ours are straight: every run does the same work. One that loops may never end.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from generalad.errors import ArtifactError

_LOOPS = (b"Loop", b"Scan")
_OP_TYPE = 0x22
"""Tag of a node's operator in protobuf: field 4, with a length."""


def refuse_loops(path: Path) -> None:
    """Refuse a graph that loops, which no export does.

    The tags are searched in all bytes, weights too: that is fast, and six given bytes do not come
    up by chance.

    Raises:
        ArtifactError: naming the operator.
    """
    if not path.stat().st_size:
        return  # loading it says so
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in _LOOPS:
            if data.find(bytes([_OP_TYPE, len(name)]) + name) >= 0:
                raise ArtifactError(
                    f"{path}: its graph has a {name.decode()}, which no export has: it might never"
                    " end",
                    remedy="export the detector again with gad export",
                )
