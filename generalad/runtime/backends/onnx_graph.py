"""What an ONNX graph would do when it runs, told without an ONNX library and before it does.

Graphs of ours are straight: every run does the same work. One that loops may never end.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from generalad.errors import ArtifactError

_LOOPS = re.compile(rb"\x22\x04(Loop|Scan)")
"""A node's operator in protobuf: the tag of field 4, the length and the name."""


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
        # In one pass: the weights of a large network are a gigabyte.
        if found := _LOOPS.search(data):
            raise ArtifactError(
                f"{path}: its graph has a {found[1].decode()}, which no export has: it might never"
                " end",
                remedy="export the detector again with gad export",
            )
