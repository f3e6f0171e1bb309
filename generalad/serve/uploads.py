"""What a client sends: a body within its bounds, and the images in it. Nothing reaches a disk.

Images come as the body itself, or several as multipart/form-data (RFC 7578). A part's file name is
a text that the answer repeats; no part of a request is ever opened as a file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from email.message import Message
from email.parser import HeaderParser
from typing import NamedTuple

LONGEST_NAME = 200
"""Characters of a name that an answer repeats."""

_LONGEST_HEADER = 4096

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class Refused(Exception):
    """A request that is not worked on, with the status and the sentence of its answer."""

    def __init__(
        self, status: int, message: str, *, remedy: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.remedy = status, message, remedy
        self.retry_after = retry_after


class Upload(NamedTuple):
    """An image as it was sent; `name` is text, for the answer alone."""

    name: str
    data: bytes


class Buffers:
    """The bytes of all bodies that are in memory, bounded; used in the loop's thread alone."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def take(self, number: int) -> None:
        """Raises Refused where there is no room for so many bytes more."""
        if self._held + number > self._most:
            raise Refused(
                429, "other requests fill the memory", remedy="send it again", retry_after=1
            )
        self._held += number

    def give_back(self, number: int) -> None:
        """So many bytes are no longer held."""
        self._held -= number


async def read_body(
    chunks: AsyncIterator[bytes],
    declared: str | None,
    buffers: Buffers,
    *,
    most: int,
    seconds: float,
) -> bytes:
    """A whole body, whose bytes the caller gives back to `buffers`.

    Args:
        chunks: as they come.
        declared: the header Content-Length, which saves reading what is too large.
        buffers: bounds all bodies together.
        most: bytes of this one.
        seconds: that it may take.

    Raises:
        Refused: too large, too slow, or the client went away.
    """
    too_large = Refused(
        413, f"a body of more than {most} bytes", remedy="send fewer or smaller images"
    )
    if declared is not None and declared.isdecimal() and int(declared) > most:
        raise too_large
    body = bytearray()

    async def fill() -> None:
        async for chunk in chunks:
            if len(body) + len(chunk) > most:
                raise too_large
            buffers.take(len(chunk))
            body.extend(chunk)

    try:
        await asyncio.wait_for(fill(), seconds)
        return bytes(body)
    except BaseException as error:
        buffers.give_back(len(body))
        if isinstance(error, asyncio.TimeoutError):
            raise Refused(
                408, f"the body was not sent within {seconds:g} s", remedy="send it faster"
            ) from None
        raise


def images_in(body: bytes, content_type: str, *, most: int) -> list[Upload]:
    """The images of a body, `most` of them at most.

    Raises:
        Refused: none, too many, or a form that is damaged.
    """
    if not body:
        raise Refused(400, "the body is empty", remedy="send an image as the body")
    header = Message()
    header["content-type"] = content_type or "application/octet-stream"
    kind = header.get_content_type()
    if kind == "multipart/form-data":
        boundary = header.get_boundary() or ""
        if not _BOUNDARY.fullmatch(boundary):
            raise Refused(400, "multipart/form-data without a valid boundary")
        return _files(body, boundary.encode(), most)
    # The last one is what `curl --data-binary` says where nothing is said.
    if kind.startswith("image/") or kind in (
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ):
        return [Upload("", body)]
    raise Refused(
        415,
        f"a body of type {kind[:80]!r}",
        remedy="send an image (image/* or application/octet-stream) or multipart/form-data",
    )


def _files(body: bytes, boundary: bytes, most: int) -> list[Upload]:
    """The parts of a form that are files, in order."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, most + 2)
    if len(pieces) > most + 2:
        raise Refused(
            413, f"a form of more than {most} parts", remedy="send fewer images at a time"
        )
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise Refused(400, "the form is cut off or damaged")
    found = []
    for piece in pieces[1:-1]:
        head, separator, data = piece.partition(b"\r\n\r\n")
        if not separator or not head.startswith(b"\r\n") or len(head) > _LONGEST_HEADER:
            raise Refused(400, "a part of the form is damaged")
        name = _file_name(head[2:].decode(errors="replace"))
        if name is not None:
            found.append(Upload(name[:LONGEST_NAME], data))
    if not found:
        raise Refused(400, "the form holds no file", remedy="curl -F image=@part.png …")
    return found


def _file_name(head: str) -> str | None:
    """The name that a part gives its file; None for a part that is no file."""
    try:
        name = HeaderParser().parsestr(head).get_filename()
    except (ValueError, LookupError):
        raise Refused(400, "a part of the form is damaged") from None
    # Percent-encoded names may hold half of a character.
    return None if name is None else name.encode(errors="replace").decode()
