"""What the head of an image file says."""

from __future__ import annotations

import math
from typing import NamedTuple

AS_PNG = "save it as PNG of 8 or 16 bits"

BYTES_A_PIXEL = 3
"""Of an image of three colours and 8 bits, decoded: what the limit of megapixels is meant for."""


class Header(NamedTuple):
    """What the head of an image file says.

    Attributes:
        kind: of file, such as "PNG".
        width: in pixels.
        height: in pixels.
        bits: of a sample, as it is decoded: 8 or 16.
        memory: bytes that decoding takes for each pixel.
        packing: most pixels that a byte of the file can stand for; infinity where not known.
        lossy: whether pixels may differ from those that were saved.
        alpha: whether a pixel may be transparent.
        blended: whether the decoder changes the colours of pixels that are transparent.
        smaller: whether the file holds smaller images beside it, such as a preview.
        layered: whether several scans make the image, each of all of it.
        described: whether it holds texts that may say an orientation: XMP, or those of PNG.
        refused: why it is not read, or empty.
        remedy: what to do about that.
    """

    kind: str
    width: int
    height: int
    bits: int = 8
    memory: float = BYTES_A_PIXEL
    packing: float = math.inf
    lossy: bool = False
    alpha: bool = False
    blended: bool = False
    smaller: bool = False
    layered: bool = False
    described: bool = False
    refused: str = ""
    remedy: str = AS_PNG


def refused(kind: str, reason: str, remedy: str = AS_PNG) -> Header:
    """Of a file that is not read."""
    return Header(kind, 0, 0, refused=reason, remedy=remedy)


def several(kind: str, count: int | str, what: str = "images") -> Header:
    """Of a file that holds more than one image."""
    return refused(
        kind,
        f"{kind} that holds {count} {what}, expected one",
        "split it into files of one image each",
    )
