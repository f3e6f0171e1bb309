"""Headers of PNG, JPEG, BMP, WebP, GIF, JPEG 2000 and AVIF.

Each function takes the bytes of a file, and raises ValueError, LookupError or struct.error where
they are no whole header.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from generalad.image_formats.ends import another_begins, jpeg_behind
from generalad.image_formats.header import Header, refused, several

_AS_RGB = "convert it to RGB"
_DEFLATE = 1100  # of zlib: 1032 bytes out of one
_A_BIT_A_BLOCK = 1100  # of JPEG: a block has 64 pixels, and up to four in a unit of thin colours
_TEXTS = (b"Raw profile type ", b"XML:com.adobe.xmp\0")  # of PNG, that may say an orientation
_LAST_TEXTS = 1 << 16  # bytes at the end in which texts behind the pixels are looked for
_MOST_SCANS = 100  # encoders make about ten; thousands only keep a decoder busy


def png(data: bytes) -> Header:
    """Of PNG: https://www.w3.org/TR/png-3/."""
    if data[12:16] != b"IHDR":
        raise ValueError("no IHDR")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    transparent, described, position, animated = colour in (4, 6), False, 8, 0
    while (kind := data[position + 4 : position + 8]) not in (b"IDAT", b""):
        size = int.from_bytes(data[position : position + 4], "big")
        if kind == b"acTL":
            # One that is shown where nothing moves, unless the animation begins before it.
            animated = 1 + struct.unpack_from(">I", data, position + 8)[0]
        animated -= kind == b"fcTL" and animated > 0
        transparent |= kind == b"tRNS"
        described |= data.startswith(_TEXTS, position + 8)
        position += size + 12
    if animated > 1:
        return several("animated PNG", animated)
    memory, packing = 6 if bits > 8 else 3, 8 / max(bits, 1) * _DEFLATE
    behind = max(position, len(data) - _LAST_TEXTS)
    described = described or any(data.find(text, behind) >= 0 for text in _TEXTS)
    return Header(
        *("PNG", width, height, max(bits, 8), memory, packing),
        alpha=transparent,
        described=described,
    )


def without_profile(data: bytes) -> bytes:
    """PNG without its colour profile, which is not used: libpng prints what it thinks of it."""
    position = 8
    while (kind := data[position + 4 : position + 8]) not in (b"IDAT", b""):
        end = position + int.from_bytes(data[position : position + 4], "big") + 12
        if kind == b"iCCP":
            return data[:position] + data[end:]
        position = end
    return data


_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\x01\xd0-\xd8])")
_JPEG_2000 = b"\xff\x4f\xff\x51"  # in no scan of JPEG
_FRAMES = (0, 1, 2)  # baseline, extended and progressive, all with Huffman's code


class _JpegHead(NamedTuple):
    """What stands before the first scan of a JPEG.

    Attributes:
        kind: of the frame: 0 baseline, 1 extended, 2 progressive, else not read.
        frame: where it begins.
        scan: where the first scan begins.
        interval: units between two markers of a scan; 0 without such.
        adobe: whether Adobe's segment says how inks are stored, 0 or 255 for none.
        xmp: whether there is a packet of XMP.
    """

    kind: int
    frame: int
    scan: int
    interval: int
    adobe: bool
    xmp: bool


def _jpeg_head(data: bytes) -> _JpegHead:
    position, frame, kind, interval, adobe, xmp = 2, 0, 0, 0, False, False
    while True:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise ValueError("no scan")
        marker, start = found[1][0], found.end()
        if marker == 0xDA:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, kind = start, marker - 0xC0
        if marker == 0xDD:
            interval = int.from_bytes(data[start + 2 : start + 4], "big")
        adobe |= marker == 0xEE and data[start + 2 : start + 7] == b"Adobe"
        xmp |= marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/", start + 2)
        position = start + int.from_bytes(data[start : start + 2], "big")
    if not frame:
        raise ValueError("no frame")
    return _JpegHead(kind, frame, start, interval, adobe, xmp)


def jpeg(data: bytes) -> Header:
    """Of JPEG: ITU-T T.81, appendix B."""
    head = _jpeg_head(data)
    if head.kind not in _FRAMES:
        return refused("JPEG", "lossless, hierarchical or arithmetic JPEG")
    bits, height, width, colours = struct.unpack_from(">BHHB", data, head.frame + 2)
    if bits != 8:
        return refused("JPEG", f"JPEG of {bits} bits")
    if colours not in (1, 3) and not (colours == 4 and head.adobe):
        return refused("JPEG", f"JPEG of {colours} colours that do not say which", _AS_RGB)
    components = data[head.frame + 8 : head.frame + 8 + 3 * colours]
    memory = 3.0
    layered = head.kind == 2 or data[head.scan + 2] < colours
    if layered:  # all coefficients are kept, of 16 bits
        memory += 2 * _share_of_samples(components)
        if data.count(b"\xff\xda") > _MOST_SCANS:
            return refused("JPEG", f"JPEG of more than {_MOST_SCANS} scans", "save it again")
    elif head.interval:
        from generalad.image_formats.jpeg_scan import restarts_miss  # most images have none

        if restarts_miss(data, head.scan, (_units(width, height, components) - 1) // head.interval):
            raise ValueError("pieces of the scan are missing")
    if data.endswith(b"\xff\xd9") and data.find(_JPEG_2000, head.scan) > 0:  # both end alike
        return several("JPEG", "several")
    behind = jpeg_behind(data, head.scan)
    if behind is not None and behind[0] * behind[1] >= width * height:
        return several("JPEG", "several")  # of two eyes, of a burst, or put together
    return Header(
        *("JPEG", width, height, 8, memory, _A_BIT_A_BLOCK),
        lossy=True,
        smaller=behind is not None,
        layered=layered,
        described=head.xmp,
    )


def _units(width: int, height: int, components: bytes) -> int:
    """Into how many units the only scan is divided, by the sampling factors of the components."""
    alone = len(components) == 3
    across = 1 if alone else max(x >> 4 for x in components[1::3])
    down = 1 if alone else max(x & 15 for x in components[1::3])
    return -(-width // (8 * max(across, 1))) * -(-height // (8 * max(down, 1)))


def _share_of_samples(components: bytes) -> float:
    """Samples for each pixel, by the sampling factors of the components."""
    across, down = [x >> 4 for x in components[1::3]], [x & 15 for x in components[1::3]]
    most = max(across) * max(down)
    return sum(x * y for x, y in zip(across, down, strict=True)) / max(most, 1)


_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_BGR = (0xFF0000, 0xFF00, 0xFF)


def bmp(data: bytes) -> Header:
    """Of BMP, also that of OS/2 and upside down."""
    [size] = struct.unpack_from("<I", data, 14)
    if size not in _BMP_HEADERS:
        raise ValueError("unknown header")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return Header("BMP", width, height) if bits in (1, 4, 8, 24) else _odd_bmp(bits)
    width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    if packed == 3 and bits == 32 and struct.unpack_from("<III", data, 54) == _BGR:
        packed = 0
    if packed or bits not in (1, 4, 8, 24, 32):
        return _odd_bmp(bits)
    return Header("BMP", width, abs(height))


def _odd_bmp(bits: int) -> Header:
    return refused("BMP", f"BMP of {bits} bits, compressed or with its own order of colours")


def webp(data: bytes) -> Header:
    """Of WebP: https://developers.google.com/speed/webp/docs/riff_container."""
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        if flags & 0x02:
            return several("animated WebP", "several")
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Header(
            *("WebP", width, height),
            memory=7,
            lossy=b"VP8 " in data,
            alpha=flags & 16 > 0,
            described=flags & 4 > 0,
        )
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return Header("WebP", width, height, memory=5, lossy=True)
    if kind != b"VP8L" or data[20] != 0x2F:
        raise ValueError("no WebP")
    packed = int.from_bytes(data[21:25], "little")
    width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    return Header("WebP", width, height, memory=7, alpha=packed >> 28 & 1 > 0)


def gif(data: bytes) -> Header:
    """Of GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, images, transparent = 13 + _colour_table(flags), [], False
    while (kind := data[position]) != 0x3B:
        if kind == 0x2C:
            images.append(struct.unpack_from("<HHHH", data, position + 1))
            position += 11 + _colour_table(data[position + 9])
        elif kind == 0x21:
            if data[position + 1] == 0xF9:
                transparent |= bool(data[position + 3] & 1)
            position += 2
        else:
            raise ValueError("unknown block")
        while size := data[position]:
            position += size + 1
        position += 1
    if len(images) != 1 or another_begins(data, position + 1):
        return several("GIF", max(len(images), 2))
    if images[0] != (0, 0, width, height):
        return refused("GIF", "GIF whose image does not fill it")
    return Header("GIF", width, height, memory=8, alpha=transparent, blended=transparent)


def _colour_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


_SRGB = (b"\0\0\0\x10", b"\0\0\0\x11")  # numbers of sRGB and of grey; YCC is decoded wrongly
_LONGEST = 32767  # longer rows take many times the memory of their pixels


def jpeg2000(data: bytes) -> Header:
    """Of JPEG 2000: ITU-T T.800, appendices A and I."""
    start, end, odd = 0, len(data), False
    if not data.startswith(b"\xff\x4f"):
        listed = list(_boxes(data, 0, len(data)))
        if sum(kind == b"jp2c" for kind, _, _ in listed) > 1:
            return several("JPEG 2000", "several")
        boxes = {kind: (first, last) for kind, first, last in listed}
        start, end = boxes.get(b"jp2c", (0, 0))
        first, last = boxes.get(b"jp2h", (0, 0))
        odd = any(
            kind == b"pclr"
            or (kind == b"colr" and data[at] == 1 and data[at + 3 : at + 7] not in _SRGB)
            for kind, at, _ in _boxes(data, first, last)
        )
    if data[start : start + 4] != b"\xff\x4f\xff\x51" or data[end - 2 : end] != b"\xff\xd9":
        raise ValueError("no codestream, or one without an end")
    if data.find(b"\xff\xd9\xff\x4f\xff\x51", start, end) >= 0:  # none but at the end has FF D9
        return several("JPEG 2000", "several")
    right, lower, left, upper = struct.unpack_from(">IIII", data, start + 8)
    [colours] = struct.unpack_from(">H", data, start + 40)
    depths = data[start + 42 : start + 42 + 3 * colours : 3]
    steps = {data[start + 42 + at] for at in range(3 * colours) if at % 3}
    if colours not in (1, 3) or steps != {1} or odd or len(set(depths)) != 1:
        return refused(
            "JPEG 2000", "JPEG 2000 that is neither grey nor RGB of equal parts", _AS_RGB
        )
    if depths[0] not in (7, 15):
        return refused("JPEG 2000", f"JPEG 2000 of {(depths[0] & 127) + 1} bits or with a sign")
    if max(right - left, lower - upper) > _LONGEST:
        return refused("JPEG 2000", f"JPEG 2000 with a side of more than {_LONGEST} pixels")
    memory = (6 if depths[0] == 15 else 3) + 4 * colours
    return Header(
        "JPEG 2000", right - left, lower - upper, depths[0] + 1, memory=memory, lossy=True
    )


_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def avif(data: bytes) -> Header | None:
    """Of AVIF, ISO/IEC 23000-22; None where it is another file of boxes, such as a video."""
    boxes = list(_boxes(data, 0, len(data)))
    _, first, last = boxes[0]
    brands = {data[at : at + 4] for at in (first, *range(first + 8, last, 4))}
    if data[first : first + 4] == b"crx ":
        return refused("camera raw", "camera raw, a format that is not read")
    if b"avis" in brands or sum(kind == b"ftyp" for kind, _, _ in boxes) > 1:
        return several("AVIF", "several")
    if b"avif" not in brands:
        heif = brands & set(_HEIF_BRANDS)
        return refused("HEIC", "HEIC, a format that is not read") if heif else None
    found: dict[bytes, list[bytes]] = {}
    for kind, begin, end in _properties(data, boxes):
        found.setdefault(kind, []).append(data[begin:end])
    width, height = max(struct.unpack(">II", size[4:12]) for size in found[b"ispe"])
    depths = {depth for entry in found.get(b"pixi", []) for depth in entry[5:]}
    if depths - {8} or not depths:
        return refused("AVIF", "AVIF of 10 or 12 bits, or of unknown depth")
    if b"irot" in found or b"imir" in found:
        return refused("AVIF", "AVIF that is to be turned for display", "save it upright")
    if b"clap" in found:
        return refused("AVIF", "AVIF that is to be cropped for display", "save it cropped")
    return Header("AVIF", width, height, memory=9, lossy=True, alpha=b"auxC" in found)


def _properties(
    data: bytes, boxes: list[tuple[bytes, int, int]]
) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of meta/iprp/ipco."""
    for names in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        start, end = {kind: (begin, end) for kind, begin, end in reversed(boxes)}[names[0]]
        boxes = list(_boxes(data, start + names[1], end))
    yield from boxes


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box; ValueError where one is cut off."""
    while position < end:
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", data, position + 8)
            head = 16
        size = size or end - position
        if size < head or position + size > end:
            raise ValueError("a box is cut off")
        yield kind, position + head, position + size
        position += size
