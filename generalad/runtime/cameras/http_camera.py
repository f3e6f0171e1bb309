"""HTTP cameras: Motion JPEG is read here, everything else by FFmpeg.

FFmpeg makes up the missing half of a JPEG and hands it out as an image; here every frame passes
`preprocess.decode_image`, which refuses it. Here a refused password also has a reason.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from email.message import Message
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError, require_extra
from generalad.preprocess import decode_image
from generalad.runtime.cameras.address import Address
from generalad.runtime.cameras.camera import CameraLost, DamagedFrame
from generalad.runtime.cameras.redirects import SameHost, target_of
from generalad.runtime.secrets import split_user

if TYPE_CHECKING:
    from generalad.runtime.cameras.av_camera import AvCamera

_LARGEST = 64 << 20  # bytes of one frame; more is not a frame
_CHUNK = 1 << 16
_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"II*\0", b"MM\0*")

SNAPSHOT_EVERY = 1.0
"""Seconds between requests to an address that gives one image each."""


class Stream(Protocol):
    """What `MultipartReader` reads from."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, as soon as there are some; empty at the end."""


class HttpCamera:
    """An HTTP or HTTPS address: multipart Motion JPEG, or any stream that FFmpeg knows."""

    def __init__(self, address: Address, *, open_timeout: float, read_timeout: float) -> None:
        """`read_timeout` limits the time for one whole frame, in seconds."""
        self._address = address
        self._open_timeout = open_timeout
        self._read_timeout = read_timeout
        self._response: http.client.HTTPResponse | None = None
        self._parts: MultipartReader | None = None
        self._other: AvCamera | None = None
        self._snapshots = False
        self._head = b""  # what was read to know whether it is an image
        self._due = 0.0

    def open(self) -> None:
        """Connect; raises CameraLost with the server's reason, MissingExtraError without FFmpeg."""
        response = self._request()
        self._response = response
        if response.headers.get_content_maintype() == "multipart":
            self._parts = MultipartReader(response, boundary_of(response.headers))
            return
        if self._is_image(response):
            self._snapshots = True
            return
        response.close()
        require_extra("an HTTP stream other than Motion JPEG", "streams", "av")
        from generalad.runtime.cameras.av_camera import AvCamera

        # As redirects on the same host have left it, so that FFmpeg need not follow any.
        final = Address(target_of(self._address.text, response.url), self._address.kind)
        self._other = AvCamera(
            final, open_timeout=self._open_timeout, read_timeout=self._read_timeout
        )
        self._other.open()

    def _is_image(self, response: http.client.HTTPResponse) -> bool:
        """Whether it is one image; many servers call such something else, or nothing."""
        kind = response.headers.get_content_maintype()
        if kind in ("video", "audio"):  # images one after another begin as one does
            return False
        try:
            self._head = response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise CameraLost(f"cannot be opened: {_reason(error)}") from None
        return kind == "image" or self._head.startswith(_HEADS)

    def _request(self) -> http.client.HTTPResponse:
        url, user, password = split_user(self._address.text)
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if user:
            passwords.add_password(None, url, user, password)
        opener = urllib.request.build_opener(
            # A proxy that the environment names would be given the password.
            urllib.request.ProxyHandler({}),
            SameHost(),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
        )
        # From None everywhere: the chain would carry the address with its password.
        try:
            timeout = min(self._open_timeout, self._read_timeout)
            response: http.client.HTTPResponse = opener.open(url, timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()
            refused = error.code in (401, 403)
            reason = "user or password refused" if refused else error.reason
            raise CameraLost(f"cannot be opened: HTTP {error.code}, {reason}") from None
        except urllib.error.URLError as error:
            raise CameraLost(f"cannot be opened: {_reason(error.reason)}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraLost(f"cannot be opened: {_reason(error)}") from None
        return response

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (H, W, 3) uint8 RGB; raises CameraLost or DamagedFrame."""
        if self._other is not None:
            return self._other.read()
        if self._snapshots:
            return self._snapshot()
        assert self._parts is not None, "not open"
        try:
            data = self._parts.next_part(time.monotonic() + self._read_timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraLost(f"the connection was lost: {_reason(error)}") from None
        try:
            return decode_image(data, name="frame")
        except DataError as error:
            raise DamagedFrame(error.message) from None

    def _snapshot(self) -> NDArray[np.uint8]:
        """The image of an address that gives one at each request, asked for once a second."""
        wait = self._due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._due = time.monotonic() + SNAPSHOT_EVERY
        response = self._response or self._request()
        self._response = None
        try:
            with response:
                data = _all_of(response, time.monotonic() + self._read_timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CameraLost(f"the connection was lost: {_reason(error)}") from None
        try:
            return decode_image(self._head + data, name="frame")
        except DataError as error:
            raise DamagedFrame(error.message) from None
        finally:
            self._head = b""

    @property
    def note(self) -> str:
        """See `AvCamera.note`."""
        return "" if self._other is None else self._other.note

    def close(self) -> None:
        """Disconnect."""
        if self._other is not None:
            self._other.close()
        if self._response is not None:
            self._response.close()


def _all_of(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The content of one image."""
    found = bytearray()
    while data := response.read1(_CHUNK):
        found += data
        if len(found) > _LARGEST:
            raise ConnectionError("not a frame: it is too large")
        if time.monotonic() > deadline:
            raise TimeoutError("a frame took too long")
    return bytes(found)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def boundary_of(headers: Message) -> bytes:
    """What separates the parts; some servers announce it with the dashes that belong before it."""
    boundary = headers.get_boundary() or ""
    return b"--" + boundary.strip().lstrip("-").encode("latin-1", "replace")


class MultipartReader:
    """Splits a multipart response into its parts, with or without their lengths given."""

    def __init__(self, stream: Stream, boundary: bytes) -> None:
        self._stream = stream
        self._boundary = boundary
        self._buffer = bytearray()
        self._deadline = 0.0

    def next_part(self, deadline: float) -> bytes:
        """Content of the next part.

        Args:
            deadline: on the clock of `time.monotonic`; a stream that trickles never times out.

        Raises:
            OSError: the stream ended, timed out, or holds something else.
        """
        self._deadline = deadline
        self._take(self._find(self._boundary) + len(self._boundary))
        if self._peek(2) == b"--":
            raise ConnectionError("the server ended the stream")
        # The part's first line break ends the boundary, so that a part without headers is known.
        headers = self._take(self._find(b"\n\r\n", b"\n\n"))
        self._take(self._buffer.index(b"\n", 1) + 1)
        length = re.search(rb"(?im)^content-length:\s*(\d+)", headers)
        if length is None:
            return self._take(self._find(b"\r\n" + self._boundary, b"\n" + self._boundary))
        size = int(length[1])
        if size > _LARGEST:
            raise ConnectionError("not a frame: it is too large")
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def _find(self, *wanted: bytes) -> int:
        """Position of the first of `wanted`, reading on until there is one."""
        start = 0
        while True:
            found = [at for text in wanted if (at := self._buffer.find(text, start)) >= 0]
            if found:
                return min(found)
            start = max(0, len(self._buffer) - max(map(len, wanted)))
            self._more()

    def _peek(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        return bytes(self._buffer[:size])

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _more(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("a frame took too long")
        if len(self._buffer) > _LARGEST:
            raise ConnectionError("no frame found in it")
        data = self._stream.read1(_CHUNK)
        if not data:
            raise ConnectionError("the server closed it")
        self._buffer += data
