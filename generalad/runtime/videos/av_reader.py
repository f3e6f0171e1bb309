"""A video file through PyAV, which knows presentation stamps and display matrices."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from generalad.image_formats.accept import check_size, limit_megapixels
from generalad.image_formats.header import Header
from generalad.preprocess import NARROW
from generalad.runtime.videos.losses import Losses
from generalad.runtime.videos.presentation import Matrix, parse_matrix, upright

Stamped = tuple[float | None, NDArray[np.uint8] | str | None]
"""Presentation stamp in seconds, and an upright image (H, W, 3) RGB; None: it is damaged, or a
frame that it builds on; or why it is not to be read."""


class AvReader:
    """One pass over a video; raises OSError where it is none, DataError where it is too large."""

    def __init__(self, path: Path) -> None:
        try:
            self._container = av.open(str(path), metadata_errors="replace")
        except av.FFmpegError as error:
            raise OSError(str(error)) from None
        # Not simply the first: that may be the picture of a cover.
        best = self._container.streams.best("video")
        if not isinstance(best, VideoStream) or not can_be_decoded(best):
            self._container.close()
            raise OSError("no video in it, or none of a known codec")
        self._stream = best
        check_frame_size(self._stream.codec_context, str(path))
        self.shown = 0.0
        """Seconds for which the last frame is shown, as far as the container says."""
        # AVI numbers the packets in the order of decoding, as many before the first frame as
        # B-frames delay it; from there on the frames take these times in order.
        self._slots: deque[int] | None = deque() if "avi" in self._container.format.name else None
        self._begun = False
        self.exact = "mp4" in self._container.format.name
        """Whether `count` is that of the frames; AVI counts places that may be empty."""
        self.transfer = int(self._stream.codec_context.color_trc or 0)
        """Number of the transfer function (ITU-T H.273)."""
        self.others = sum(
            stream is not best and can_be_decoded(stream) and not _is_cover(stream)
            for stream in self._container.streams.video
        )
        """Videos in the file that are not read."""
        # With several threads, decoders do not flag all that they conceal.
        self._stream.codec_context.thread_count = 1
        if self._stream.codec_context.name != "h264":  # the others flag nothing, but can refuse
            options = self._stream.codec_context.options
            self._stream.codec_context.options = {**options, "err_detect": "explode"}
        self._stream.codec_context.flags |= Flags.copy_opaque  # a frame knows its packet
        self._number = 0  # of a packet
        self._losses = Losses()
        self._rgb = VideoReformatter()

    @property
    def rate(self) -> float:
        """Frames a second on average; 0 where the container does not say."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    @property
    def duration(self) -> float:
        """Seconds that the container says, 0 where it does not."""
        stream = self._stream
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return (self._container.duration or 0) / av.time_base

    @property
    def count(self) -> int:
        """Frames that the container says, 0 where it does not."""
        return self._stream.frames

    def frames(self) -> Iterator[Stamped]:
        """Frames in the order in which they are shown."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (OSError, av.FFmpegError):
                yield None, None
                packet = None
            if packet is None:
                for missing in self._losses.rest():
                    yield missing, None
                return
            yield from self._decoded(packet)

    def close(self) -> None:
        """Free the file."""
        self._container.close()

    def _decoded(self, packet: Packet[VideoStream]) -> Iterator[Stamped]:
        self._number += 1
        packet.opaque = self._number
        if packet.is_corrupt:
            self._lose(packet)
            return
        if packet.duration and packet.time_base:
            self.shown = float(packet.duration * packet.time_base)
        if self._slots is not None and packet.size and packet.dts is not None:
            self._slots.append(packet.dts)
        try:
            frames = packet.decode()
        except (OSError, av.FFmpegError):
            self._lose(packet)
            return
        for frame in frames:
            if isinstance(frame, VideoFrame):
                number = frame.opaque if isinstance(frame.opaque, int) else self._number
                stamp = self._stamp(frame)
                for missing in self._losses.shown_before(number, stamp):
                    yield missing, None
                whole = self._losses.is_whole(
                    number, key_frame=bool(frame.key_frame), corrupt=frame.is_corrupt
                )
                read = (unclear(frame) or upright_rgb(frame, self._rgb)) if whole else None
                yield stamp, read

    def _lose(self, packet: Packet[VideoStream]) -> None:
        stamp, base = packet.pts, packet.time_base
        known = None if stamp is None or base is None else float(stamp * base)
        self._losses.lose(self._number, None if self._slots is not None else known)

    def _stamp(self, frame: VideoFrame) -> float | None:
        stamp, base = frame.pts, frame.time_base
        if self._slots is not None:
            while not self._begun and len(self._slots) > 1:
                self._slots.popleft()
            self._begun = True
            stamp, base = (self._slots.popleft() if self._slots else None), self._stream.time_base
        return None if stamp is None or base is None else float(stamp * base)


def _is_cover(stream: VideoStream) -> bool:
    """Whether a stream is a picture beside the video."""
    return bool(stream.disposition & Disposition.attached_pic) or stream.frames == 1


def can_be_decoded(stream: VideoStream) -> bool:
    """Whether there is a decoder; PyAV has none of a codec that FFmpeg does not know."""
    decoder: VideoCodecContext | None = stream.codec_context
    return decoder is not None


def check_frame_size(decoder: VideoCodecContext, name: str) -> None:
    """Refuse frames that are larger than images may be, now and where their size changes.

    Raises:
        DataError: naming the limit.
    """
    if decoder.width and decoder.height:
        check_size(Header("video", decoder.width, decoder.height), name)
    most = str(int(limit_megapixels() * 1e6))
    decoder.options = {**decoder.options, "max_pixels": most}


def unclear(frame: VideoFrame) -> str:
    """Why the values of a frame would be read wrong, as those of an image file are; or empty."""
    kind = frame.format
    if kind.name == "pal8" and not any(bytes(frame.planes[1])):
        return "colours by a palette that is not there"
    if max(one.bits for one in kind.components) < 16:
        return ""
    plane, order = frame.planes[0], ">u2" if kind.name.endswith("be") else "<u2"
    rows = np.frombuffer(memoryview(plane), np.dtype(order)).reshape(-1, plane.line_size // 2)
    samples = sum(one.plane == 0 for one in kind.components)
    values = rows[: frame.height, : samples * frame.width]
    high = int(values.max())
    if high > NARROW or int(values.min()) == high:
        return ""
    return f"16 bits, but no value above {high}: it would be read almost black"


def upright_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """A decoded frame as it is to be shown, (H, W, 3) uint8 RGB."""
    rgb = reformatter.reformat(frame, format="rgb24").to_ndarray()
    return upright(np.ascontiguousarray(rgb, dtype=np.uint8), matrix_of(frame))


def matrix_of(frame: VideoFrame) -> Matrix | None:
    """The display matrix that travels with a frame."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if found is None else parse_matrix(bytes(found))
