"""An orientation is applied where all programs do so; where they differ the image is refused."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from encoders import chunk, pillow, png, tiff
from image_samples import PALETTE
from PIL import Image, ImageOps

from generalad.errors import DataError
from generalad.preprocess import decode_image, decode_mask

BLOCKS = np.kron(PALETTE[:6].reshape(2, 3, 3), np.ones((8, 8, 1), np.uint8))


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def xmp(orientation: int, *, attribute: bool = True, prefix: str = "tiff") -> bytes:
    """A packet as Adobe's programs write it."""
    space, name = f'xmlns:{prefix}="http://ns.adobe.com/tiff/1.0/"', f"{prefix}:Orientation"
    said = (
        f'<rdf:Description {space} {name}="{orientation}"/>'
        if attribute
        else f"<rdf:Description {space}><{name}>{orientation}</{name}></rdf:Description>"
    )
    inner = f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{said}</rdf:RDF>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{inner}</x:xmpmeta>'.encode()


def with_xmp(kind: str, packet: bytes, **options: Any) -> bytes:
    if kind == "PNG":
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        return png(BLOCKS, 8, 2, extra=text + options.get("extra", b""))
    if kind == "TIFF":
        tags = [(700, "B", len(packet), packet, True), *options.get("tags", ())]
        return tiff(BLOCKS, photometric="rgb", extratags=tags)
    exact: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 100, "subsampling": 0},
    }
    return pillow(BLOCKS, kind, xmp=packet, **exact[kind], **options)


def profile(orientation: int, kind: bytes = b"zTXt") -> bytes:
    """EXIF in a text, as ImageMagick writes it."""
    digits = exif(orientation).tobytes().hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\nexif\n%8d\n%b\n" % (len(digits) // 2, lines)
    head = {b"zTXt": b"\0", b"tEXt": b"", b"iTXt": b"\1\0\0\0"}[kind]
    text = text if kind == b"tEXt" else zlib.compress(text)
    return chunk(kind, b"Raw profile type exif\0" + head + text)


def behind(data: bytes, extra: bytes) -> bytes:
    """A PNG with further chunks behind its pixels."""
    end = data.rindex(b"IEND") - 4
    return data[:end] + extra + data[end:]


PLAIN = png(BLOCKS, 8, 2)
DOUBTFUL: dict[str, Callable[[int], bytes]] = {
    "XMP in JPEG": lambda to: with_xmp("JPEG", xmp(to)),
    "XMP in WebP": lambda to: with_xmp("WEBP", xmp(to, attribute=False)),
    "XMP in PNG": lambda to: with_xmp("PNG", xmp(to)),
    "XMP in TIFF": lambda to: with_xmp("TIFF", xmp(to)),
    "packed XMP in PNG": lambda to: png(
        *(BLOCKS, 8, 2),
        extra=chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(to))),
    ),
    "XMP behind the pixels of PNG": lambda to: behind(
        PLAIN, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(to))
    ),
    **{
        f"{kind.decode()} of PNG": lambda to, kind=kind: png(  # type: ignore[misc]
            BLOCKS, 8, 2, extra=profile(to, kind)
        )
        for kind in (b"tEXt", b"zTXt", b"iTXt")
    },
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_what_some_programs_turn_is_refused(kind: str) -> None:
    data = DOUBTFUL[kind](6)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert turned.size == (16, 24), "Pillow turns it, browsers and OpenCV do not"
    for decode in (decode_image, decode_mask):
        with pytest.raises(DataError, match="belt: to be turned for display as only"):
            decode(data, name="belt")
    upright = decode_image(DOUBTFUL[kind](1)).astype(int)
    assert np.abs(upright - BLOCKS).max() <= 5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_exif_counts_whatever_xmp_says(kind: str, orientation: int) -> None:
    options: dict[str, dict[str, Any]] = {
        "PNG": {"extra": chunk(b"eXIf", exif(orientation).tobytes()[6:])},
        "TIFF": {"tags": [(274, "H", 1, orientation, True)]},
    }
    said = options.get(kind, {"exif": exif(orientation)})
    data = with_xmp(kind, xmp(6 if orientation == 1 else 1), **said)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.abs(decode_image(data).astype(int) - upright).max() <= 5


def test_texts_that_are_damaged_or_say_nothing_are_nothing() -> None:
    odd = (
        chunk(b"zTXt", b"Raw profile type exif\0\0no zlib"),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nzz"),
        chunk(b"tEXt", b"Raw profile type iptc\0\niptc\n 4\n00000000"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6).replace(b":Orient", b":Disorient")),
        chunk(b"tEXt", b"Comment\0tiff:Orientation=6"),
    )
    for extra in odd:
        np.testing.assert_array_equal(decode_image(png(BLOCKS, 8, 2, extra=extra)), BLOCKS)


def test_the_name_of_the_namespace_does_not_matter() -> None:
    with pytest.raises(DataError, match="as only XMP says"):
        decode_image(with_xmp("TIFF", xmp(8, prefix="t")))
