"""Which image files are read: told by a look at their headers, before anything is decoded.

A decoder reads more than it reads right, so only what the tests have values for is accepted
(docs/data.md has the table); all else is refused in one line. The size stands in every header, so
an image that would fill the memory is refused, too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from generalad.errors import ConfigError, DataError
from generalad.image_formats.ends import another_begins, image_end
from generalad.image_formats.header import BYTES_A_PIXEL, Header, refused, several
from generalad.image_formats.headers import avif, bmp, gif, jpeg, jpeg2000, png, webp

READ_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".gif"),
    }
)
"""Names of files that are read, if their content is one of the accepted."""

IMAGE_SUFFIXES = READ_SUFFIXES | {
    *(".heic", ".heif", ".hif", ".tga", ".jxl", ".jpx", ".j2c", ".jxr", ".psd", ".exr", ".hdr"),
    *(".pam", ".pfm", ".pcx", ".ras", ".dcm", ".apng", ".mpo", ".dng", ".nef", ".cr2", ".cr3"),
    *(".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr", ".iiq", ".x3f", ".rwl", ".sr2"),
    *(".kdc", ".mrw", ".erf", ".gpr", ".qoi", ".dds", ".bpg", ".jls", ".jpf", ".jpm", ".jph"),
    *(".heics", ".avifs", ".sgi", ".raw", ".bay", ".y16", ".fits", ".fit", ".fts", ".czi", ".nd2"),
    *(".lif", ".svs", ".ndpi", ".mha", ".nrrd", ".jpc", ".wdp", ".xcf"),
}
"""Names of files that are images. Those that are not read are refused, not passed over."""

LIMIT_SETTING = "GAD_MAX_MEGAPIXELS"
"""Environment variable: the most megapixels of an image of 8 bits; of 16 bits it is the half."""

DAMAGED = "replace or remove the file"

# OpenCV holds a decoded image twice for a moment: 390 MB at 65 megapixels.
_DEFAULT_MEGAPIXELS, _MOST_MEGAPIXELS = 65.0, 1000.0


def _netpbm(data: bytes) -> Header:
    from generalad.image_formats.netpbm import netpbm  # most runs see none of these two

    return netpbm(data)


def _tiff(data: bytes) -> Header:
    from generalad.image_formats.tiff import tiff

    return tiff(data)


_READERS: tuple[tuple[bytes, Callable[[bytes], Header | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", png),
    (b"\xff\xd8", jpeg),
    (b"BM", bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
    *((b"P%d" % number, _netpbm) for number in range(1, 7)),
    (b"GIF87a", gif),
    (b"GIF89a", gif),
    (b"\0\0\0\x0cjP  \r\n\x87\n", jpeg2000),
    (b"\xff\x4f\xff\x51", jpeg2000),
)

_NOT_READ = (
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"II\xbc", "JPEG XR"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"P7", "PAM"),
    (b"PF", "PFM"),
    (b"Pf", "PFM"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"IIRO", "camera raw"),
    (b"IIU\0", "camera raw"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
)


def check_header(data: bytes, name: str) -> Header:
    """The header of an image that is accepted.

    Args:
        data: the file.
        name: used in errors.

    Raises:
        DataError: cut off, too large, or of a kind that is not read.
    """
    if not data:
        raise DataError(f"{name}: the file is empty", remedy=DAMAGED)
    end = image_end(data)
    if end > len(data):
        raise DataError(f"{name}: the file is cut off", remedy=DAMAGED)
    try:
        header = read_header(data)
    except (struct.error, LookupError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: damaged or cut off", remedy=DAMAGED) from error
    if header is None:
        kind = _by_name(name)
        if kind:
            header = refused(kind, f"{kind}, a format that is not read")
        else:
            reason = "not an image in a known 8- or 16-bit format"
            raise DataError(f"{name}: {reason}", remedy=DAMAGED)
    if not header.refused and another_begins(data, end):
        header = several(header.kind, "several")
    if header.refused:
        raise DataError(f"{name}: {header.refused}", remedy=header.remedy)
    check_size(header, name)
    if header.width * header.height > header.packing * len(data):
        size = f"{header.width} x {header.height}"
        reason = f"{len(data)} bytes cannot hold {size} pixels, it is damaged or cut off"
        raise DataError(f"{name}: {reason}", remedy=DAMAGED)
    return header


def read_header(data: bytes) -> Header | None:
    """The header of an image; None where it is none.

    Raises:
        ValueError, LookupError, struct.error: it is damaged.
    """
    for start, reader in _READERS:
        if data.startswith(start):
            return reader(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return webp(data)
    if data[4:8] == b"ftyp":
        return avif(data)
    kinds = [kind for start, kind in _NOT_READ if data.startswith(start)]
    if data[128:132] == b"DICM":
        kinds.append("DICOM")
    return refused(kinds[0], f"{kinds[0]}, a format that is not read") if kinds else None


def _by_name(name: str) -> str:
    """TGA and PCX have no beginning of their own, so the name decides."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix[1:].upper() if suffix in IMAGE_SUFFIXES - READ_SUFFIXES else ""


def check_size(header: Header, name: str) -> None:
    """Refuse an image of no pixels, or of more than memory is meant for.

    Raises:
        DataError: naming the limit.
    """
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise DataError(f"{name}: the header says {width} x {height} pixels", remedy=DAMAGED)
    limit, megapixels = limit_megapixels(), width * height / 1e6
    most = limit * BYTES_A_PIXEL / max(header.memory, BYTES_A_PIXEL)
    if megapixels <= most:
        return
    needed, remedy = megapixels * limit / most, "make it smaller"
    if needed < _MOST_MEGAPIXELS:
        remedy += f", or set {LIMIT_SETTING}={needed + 1:.0f} in the environment"
    raise DataError(
        f"{name}: {width} x {height} pixels are {megapixels:.0f} megapixels, expected at most"
        f" {most:.0f} for {header.kind} of {header.bits} bits",
        remedy=remedy,
    )


def limit_megapixels() -> float:
    """The limit that is set, for 8 bits; raises ConfigError where it is no number."""
    text = os.environ.get(LIMIT_SETTING, "")
    try:
        limit = float(text) if text else _DEFAULT_MEGAPIXELS
    except ValueError:
        limit = 0.0
    if not 0 < limit <= _MOST_MEGAPIXELS:
        raise ConfigError(
            f"{LIMIT_SETTING}: expected a number up to {_MOST_MEGAPIXELS:.0f}, found {text!r}"
        )
    return limit


def limit_bytes() -> int:
    """Most bytes of an image file: those of an uncompressed one at the limit, with some room."""
    return int(limit_megapixels() * 4e6) + (1 << 20)
