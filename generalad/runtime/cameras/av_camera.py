"""Network streams through FFmpeg: RTSP, and over HTTP everything but Motion JPEG.

FFmpeg conceals damage and hands the result out as images. Here a frame that cannot be whole is
`DamagedFrame`, and so are all that build on it: those up to the next key frame. Damage is known

* from the decoder, which flags what it concealed (H.264) or refuses it (H.265),
* from the numbers of the frames, where one never arrived (`h264.MissingFrames`; H.265 refuses).

Not every damage is noticed by a decoder: see the limits in docs/streams.md.
"""

from __future__ import annotations

import errno
import re
from collections import deque
from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.runtime.cameras.address import Address
from generalad.runtime.cameras.camera import CameraLost, DamagedFrame
from generalad.runtime.cameras.redirects import rtsp_address
from generalad.runtime.cameras.rtsp_relay import RtspRelay
from generalad.runtime.cameras.video_camera import Pace
from generalad.runtime.secrets import hint_of, split_user
from generalad.runtime.videos.av_reader import (
    can_be_decoded,
    check_frame_size,
    unclear,
    upright_rgb,
)
from generalad.runtime.videos.colours import high_range
from generalad.runtime.videos.h264 import MissingFrames
from generalad.runtime.videos.presentation import FrameTimes

# TCP first, because it loses nothing; UDP where the camera offers nothing else. What an RTSP
# server announces is enough to begin: looking into the stream before would cost two seconds.
_RTSP = {
    "rtsp_flags": "prefer_tcp",
    "allowed_media_types": "video",
    "analyzeduration": "0",
    "probesize": "32",
}
# Redirects were followed before, see `redirects`. FFmpeg takes what is no address of a proxy for
# none; else it would take that of the environment, and give it the password.
_HTTP = {"max_redirects": "0", "http_proxy": "none"}
_ASK = 5.0  # seconds in which a camera must say whether it redirects
_STATUS = re.compile(r"Server returned (\d\w\w) ([^,(]+)")


class AvCamera:
    """One attempt at a network stream."""

    def __init__(self, address: Address, *, open_timeout: float, read_timeout: float) -> None:
        """Timeouts in seconds; a read that hangs ends after at most twice its timeout."""
        self._address = address
        self._timeout = (open_timeout, read_timeout)
        self._container: InputContainer | None = None
        self._packets: Iterator[Packet[VideoStream]] = iter(())
        self._frames: deque[VideoFrame] = deque()
        self._missing: MissingFrames | None = None
        self._whole = True  # what the next frame builds on; decoders begin with a key frame
        self._rgb = VideoReformatter()
        self._finite: _Finite | None = None
        self._relay: RtspRelay | None = None
        self._transfer = 0

    def open(self) -> None:
        """Connect; raises CameraLost with the server's reason, UsageError for a wrong host."""
        split_user(self._address.text)
        text, options = self._address.text, _HTTP
        if self._address.kind == "rtsp":
            text, options = rtsp_address(text, timeout=min(_ASK, self._timeout[0] / 3)), _RTSP
            if split_user(text)[1]:
                self._relay = RtspRelay(text, timeout=self._timeout[0])
                text = self._relay.url
        # From None: the library's error carries the address with its password.
        try:
            self._container = av.open(
                text, options=options, timeout=self._timeout, metadata_errors="replace"
            )
        except (OSError, av.FFmpegError) as error:
            why = (self._relay and self._relay.why) or f"cannot be opened: {self._reason(error)}"
            self._end_relay()
            raise CameraLost(why) from None
        if not self._container.streams.video:
            raise CameraLost("cannot be opened: no video in it")
        stream = self._container.streams.video[0]
        if not can_be_decoded(stream):
            raise CameraLost("cannot be opened: no video of a known codec in it")
        # With several threads, the decoder of H.264 does not flag all that it conceals.
        stream.codec_context.thread_count = 1
        if stream.codec_context.name == "h264":
            self._missing = MissingFrames(stream.codec_context.extradata or b"")
        else:  # the other decoders flag nothing; refusing is all they can
            stream.codec_context.options = {"err_detect": "explode"}
        try:
            check_frame_size(stream.codec_context, "frame")
        except DataError as error:
            raise CameraLost(f"cannot be opened: {error.message}") from None
        self._packets = self._container.demux(stream)
        if self._container.duration:
            duration = self._container.duration / av.time_base
            self._finite = _Finite(duration, stream, longest_still=self._timeout[1] / 4)

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (H, W, 3) uint8 RGB; raises CameraLost or DamagedFrame.

        Of an address that is a finite video, frames when they are due, and None at its end.
        """
        while not self._frames:
            packet = self._next_packet()
            if packet is None:
                return None
            self._decode(packet)
        frame = self._frames.popleft()
        if frame.is_corrupt:
            self._whole = False
        elif frame.key_frame:
            self._whole = True
        if not self._whole:
            raise DamagedFrame("it, or a frame that it builds on, is not whole")
        if why := unclear(frame):
            raise DamagedFrame(why)
        self._transfer = int(frame.color_trc or 0)
        if self._finite is not None:
            self._finite.wait_for(frame)
        return upright_rgb(frame, self._rgb)

    @property
    def note(self) -> str:
        """What is to be known of the colours, once a frame was read; or empty."""
        colours = high_range(self._transfer)
        return colours and f"a stream {colours}"

    def close(self) -> None:
        """Disconnect."""
        self._frames.clear()
        if self._container is not None:
            self._container.close()
        self._end_relay()

    def _end_relay(self) -> None:
        if self._relay is not None:
            self._relay.close()

    def _next_packet(self) -> Packet[VideoStream] | None:
        try:
            return next(self._packets)
        except StopIteration:
            if self._finite is not None and self._finite.at_its_end:
                return None
            raise CameraLost("the connection was lost: the server ended it") from None
        except (OSError, av.FFmpegError) as error:
            raise CameraLost(f"the connection was lost: {self._reason(error)}") from None

    def _decode(self, packet: Packet[VideoStream]) -> None:
        """Add the frames of a packet; one without data brings those that were still waiting."""
        missing = self._missing is not None and self._missing.before(bytes(packet))
        if packet.is_corrupt or missing:
            self._whole = False
        try:
            self._frames.extend(frame for frame in packet.decode() if isinstance(frame, VideoFrame))
        except av.InvalidDataError:
            self._whole = False
            raise DamagedFrame("refused by the decoder") from None
        except (OSError, av.FFmpegError) as error:
            raise CameraLost(f"the connection was lost: {self._reason(error)}") from None

    def _reason(self, error: OSError | av.FFmpegError) -> str:
        """What went wrong, without the address."""
        kind = self._address.kind.upper()
        if isinstance(error, av.HTTPUnauthorizedError):
            user = split_user(self._address.text)[1]
            return f"{kind} 401, {'user or password refused' if user else 'a password is needed'}"
        if status := _STATUS.match(error.strerror or ""):
            return f"{kind} {status[1]}, {status[2].strip()}"
        if isinstance(error, av.ExitError | TimeoutError):
            return "timed out"
        if isinstance(error, av.InvalidDataError):
            return "no answer in time, or no video in it"
        if error.errno == errno.EIO:  # also for names that are not known
            return f"no connection; are host and port right?{hint_of(self._address.text)}"
        return error.strerror or type(error).__name__


class _Finite:
    """The time of a stream that has an end, such as a video file on a web server."""

    def __init__(self, duration: float, stream: VideoStream, longest_still: float) -> None:
        """`duration` in seconds, as the container says."""
        self._duration = duration
        self._times = FrameTimes(float(stream.average_rate or 25))
        self._pace = Pace(longest_still)

    def wait_for(self, frame: VideoFrame) -> None:
        """Until a frame is due; late ones are at once."""
        stamp, base = frame.pts, frame.time_base
        known = None if stamp is None or base is None else float(stamp * base)
        self._pace.wait_for(self._times.next(known))

    @property
    def at_its_end(self) -> bool:
        """Whether what was shown reaches to the end."""
        least = max(1.0, 0.05 * self._duration, 2 * self._times.largest_gap)
        return self._duration - self._times.last <= least
