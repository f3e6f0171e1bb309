"""Odd videos: an unknown codec, and what OpenCV shows wrong where PyAV is not installed."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_helpers import FakeClock

from generalad.runtime.cameras.address import parse_address
from generalad.runtime.cameras.camera_source import CameraSource
from generalad.runtime.cameras.video_camera import LONGEST_STILL, Pace, VideoCamera
from generalad.runtime.sources import Frame
from generalad.runtime.videos.cv_reader import CvReader
from generalad.runtime.videos.interlaced import may_be_interlaced
from generalad.runtime.videos.presentation import FrameTimes
from generalad.runtime.videos.structure import is_whole
from generalad.runtime.videos.video_file import VideoFile

av = pytest.importorskip("av")


def encoded(path: Path, codec: str, *, interlaced: bool, title: str = "") -> Path:
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        formats = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}
        stream.pix_fmt = formats.get(codec, "yuv420p")
        if codec == "libx265":
            kind = ":interlace=tff" * interlaced
            stream.options = {"x265-params": f"log-level=none{kind}"}
        elif interlaced:
            stream.options = {"flags": "+ildct+ilme"}
        for number in range(6):
            image = np.full((48, 64, 3), 40 + 30 * number, np.uint8)
            image[:, 8 * number : 8 * number + 8] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "letters"),
    [
        *(("v.mp4", "libx264", b"h264"), ("v.mkv", "libx264", b"h264")),
        *(("v.ts", "libx264", b"h264"), ("v.mpg", "mpeg2video", b"mpg2")),
        *(("v.avi", "mpeg4", b"fmp4"), ("v.mp4", "mpeg4", b"fmp4"), ("v.mkv", "mpeg4", b"fmp4")),
        *(("v.mp4", "libx265", b"hevc"), ("v.mkv", "libx265", b"hevc")),
        *(("v.ts", "libx265", b"hevc"), ("v.mov", "prores_ks", b"apch")),
    ],
)
@pytest.mark.parametrize("interlaced", [False, True])
def test_interlaced_frames_are_known(
    tmp_path: Path, name: str, codec: str, letters: bytes, *, interlaced: bool
) -> None:
    try:
        path = encoded(tmp_path / name, codec, interlaced=interlaced)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"PyAV without {codec}")
    assert may_be_interlaced(path, letters) == interlaced
    assert may_be_interlaced(path, b"wvc1"), "it cannot be told of this codec"


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264", "mjpeg", "ffv1"])
def test_what_opencv_reads_is_what_pyav_reads(tmp_path: Path, codec: str) -> None:
    path = encoded(tmp_path / "v.mkv", codec, interlaced=False)
    through_av = [frame.image for frame in VideoFile(path)]
    through_cv = [image for _, image in CvReader(path).frames()]
    assert len(through_av) == len(through_cv) == 6
    for one, other in zip(through_av, through_cv, strict=True):
        assert one is not None and other is not None
        assert np.abs(one.astype(int) - other).max() <= 3


def test_a_container_may_say_so(tmp_path: Path) -> None:
    path = encoded(tmp_path / "v.mkv", "mpeg2video", interlaced=False)
    assert not may_be_interlaced(path, b"ffv1")
    data = path.read_bytes()
    width = b"\xb0\x81\x40"  # FlagInterlaced is put in its place
    assert data.count(width) == 1
    path.write_bytes(data.replace(width, b"\x9a\x81\x01"))
    assert may_be_interlaced(path, b"ffv1")


@pytest.mark.parametrize("polarity", [0, 1])
def test_motion_jpeg_of_fields(tmp_path: Path, polarity: int) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(b"RIFF" + bytes(90) + b"\xff\xd8\xff\xe0\0\x10AVI1" + bytes([polarity]))
    assert may_be_interlaced(path, b"mjpg") == bool(polarity)


def test_interlaced_frames_are_an_error_without_pyav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encoded(tmp_path / "v.mp4", "libx264", interlaced=True)
    assert sum(frame.image is not None for frame in VideoFile(path)) == 6
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    [frame] = VideoFile(path)
    assert frame.image is None
    why = "interlaced, or it may be, which only PyAV (extra streams) shows right"
    assert frame.error == f"{path}: {why}"


def test_a_transport_stream_ends_with_a_whole_packet(tmp_path: Path) -> None:
    path = encoded(tmp_path / "v.ts", "libx264", interlaced=False)
    assert is_whole(path)
    path.write_bytes(path.read_bytes()[:-70])
    assert is_whole(path) is False


class Capture:
    """Frames with these stamps in milliseconds, as OpenCV gives them."""

    def __init__(self, stamps: list[float]) -> None:
        self._stamps, self._at = stamps, -1

    def read(self) -> tuple[bool, np.ndarray | None]:
        self._at += 1
        return self._at < len(self._stamps), np.zeros((4, 4, 3), np.uint8)

    def get(self, name: int) -> float:
        return 10 if name == cv2.CAP_PROP_FPS else self._stamps[self._at]


def test_stamps_that_stay_at_zero_are_none(tmp_path: Path) -> None:
    """OpenCV says 0 for what lies before 0, and where a container has no stamps."""
    path = encoded(tmp_path / "v.mkv", "libx264", interlaced=False)
    reader = CvReader(path)
    reader._capture.release()
    reader._capture = Capture([0, 0, 0, 100, 200])  # type: ignore[assignment]
    times = FrameTimes(10)
    found = [round(times.next(stamp), 3) for stamp, _ in reader.frames()]
    assert found == [0, 0.1, 0.2, 0.3, 0.4]


def test_a_video_of_an_unknown_codec_is_an_error(tmp_path: Path) -> None:
    path = encoded(tmp_path / "v.mp4", "libx264", interlaced=False)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    frames = list(VideoFile(path))
    assert [frame.image for frame in frames] == [None]
    assert str(frames[0].error).startswith(f"{path}: empty, cut off or not a video")
    assert VideoFile(path).count() is None


def test_a_title_that_is_no_utf_8_is_no_reason_not_to_read(tmp_path: Path) -> None:
    path = encoded(tmp_path / "v.mp4", "libx264", interlaced=False, title="Pruefung")
    path.write_bytes(path.read_bytes().replace(b"Pruefung", b"Pr\xfcfungen"))
    assert sum(frame.image is not None for frame in VideoFile(path)) == 6


def moving(path: Path, codec: str, count: int = 12, **options: str) -> Path:
    """A pattern that moves, so that frames build on each other, in pieces of 8 pixels."""
    rng = np.random.default_rng(5)
    pattern = np.kron(rng.integers(0, 255, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        for number in range(count):
            image = np.ascontiguousarray(np.roll(pattern, 2 * number, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options", "last"),
    [
        ("v.mp4", "libx264", {"bf": "0", "g": "8"}, 7),
        ("v.mp4", "libx264", {"bf": "2", "g": "8"}, 7),
        ("v.mkv", "libx264", {"bf": "0", "g": "8"}, 7),
        ("v.mov", "mjpeg", {}, 5),
    ],
)
def test_what_builds_on_a_damaged_frame_is_not_shown(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], last: int
) -> None:
    path = moving(tmp_path / name, codec, 20, **options)
    whole = [frame.image for frame in VideoFile(path)]
    times = [frame.time for frame in VideoFile(path)]
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    sixth = bytes(sorted(packets, key=lambda packet: packet.pts)[5])
    data = path.read_bytes()
    assert data.count(sixth) == 1
    path.write_bytes(data.replace(sixth, b"\xa5" * len(sixth)))
    found = list(VideoFile(path))
    assert [frame.index for frame in found] == list(range(20))
    np.testing.assert_allclose([frame.time for frame in found], times, atol=0.003)
    bad = [frame.index for frame in found if frame.error]
    assert 5 in bad and max(bad) <= last
    for frame, right in zip(found, whole, strict=True):
        if frame.image is not None:
            assert right is not None and np.abs(frame.image.astype(int) - right).max() <= 3


def test_a_hole_behind_which_a_reader_does_not_find_the_frames(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mkv", "libx264")
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][4]
    data = bytearray(path.read_bytes())
    data[place - 12 : place + 12] = bytes(24)
    path.write_bytes(data)
    *_, last = VideoFile(path)
    assert "cut off or damaged" in str(last.error)


@pytest.mark.parametrize("name", ["v.mp4", "v.wmv", "v.flv"])
def test_a_second_video_behind_the_first_is_an_error(tmp_path: Path, name: str) -> None:
    codec = {"v.mp4": "mpeg4", "v.wmv": "wmv2", "v.flv": "flv"}[name]
    path = encoded(tmp_path / name, codec, interlaced=False)
    assert [frame.error for frame in VideoFile(path)] == [None] * 6
    path.write_bytes(path.read_bytes() * 2)
    *_, last = VideoFile(path)
    assert last.error == f"{path}: several videos in one file, of which the first was read"


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_second_video_beside_the_first_is_said(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            for stream in streams:
                image = np.full((48, 64, 3), 50 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    for _ in range(2):
        video = VideoFile(path)
        assert sum(frame.image is not None for frame in video) == 3
        assert video.doubts.in_words().startswith(f"{path}: holds 2 videos, of which one is read")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def coloured(path: Path, transfer: int, primaries: int) -> Path:
    """A video whose container and codec name these functions of ITU-T H.273."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, primaries, 1
        for _ in range(3):
            image = np.full((48, 64, 3), (200, 30, 30), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize(("transfer", "primaries"), [(1, 1), (18, 9), (1, 12)])
def test_colours_of_high_range_are_said_and_opencv_changes_none(
    tmp_path: Path, name: str, transfer: int, primaries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = coloured(tmp_path / name, transfer, primaries)
    video = VideoFile(path)
    assert sum(frame.image is not None for frame in video) == 3
    assert ("high dynamic range (HLG)" in video.doubts.in_words()) == (transfer == 18)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    without = list(VideoFile(path))
    if primaries == 1:
        assert sum(frame.image is not None for frame in without) == 3
    else:
        assert "only PyAV" in str(without[0].error)


@pytest.mark.parametrize("kind", ["gray16le", "gray16be"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_few_bits_in_sixteen_are_refused_as_in_images(tmp_path: Path, kind: str, bits: int) -> None:
    grey = np.linspace(0, 2**bits - 1, 48 * 64).reshape(48, 64).astype(np.uint16)
    big = kind.endswith("be")
    path = tmp_path / ("v.mov" if big else "v.mkv")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png" if big else "ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, kind
        for _ in range(2):
            values = grey.astype(">u2" if big else "<u2")
            frame = av.VideoFrame(64, 48, kind)
            frame.planes[0].update(values.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for frame in VideoFile(path):
        if bits > 12:
            assert frame.image is not None
            assert abs(int(frame.image.max()) - 255 / 2 ** (16 - bits)) <= 1
        else:
            said = f"16 bits, but no value above {2**bits - 1}"
            assert frame.image is None and said in str(frame.error)


def test_a_palette_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bayer_rggb8"
        frame = av.VideoFrame(64, 48, "bayer_rggb8")  # AVI takes it for numbers of colours
        frame.planes[0].update(bytes(range(256)) * 12)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (frame,) = VideoFile(path)
    assert frame.image is None and "by a palette that is not there" in str(frame.error)


@pytest.mark.parametrize("transfer", [1, 16, 18])
@pytest.mark.parametrize("name", ["v.mp4", "v.ts"])
@pytest.mark.parametrize("over", ["HTTP", "a camera"])
def test_colours_of_high_range_are_said_of_live_sources(
    tmp_path: Path, name: str, transfer: int, over: str
) -> None:
    path = coloured(tmp_path / name, transfer, 9)
    with serving(tmp_path) as url:
        make = (lambda: VideoCamera(path)) if over == "a camera" else f"{url}/{name}"
        source = CameraSource(make if callable(make) else parse_address(make))
        told: list[str] = []
        for thing in source.read():
            if isinstance(thing, Frame):
                source.done(thing)
            elif thing.data["state"] == "live":
                told.append(thing.data["reason"])
                source.stop()
    kind = {16: "(PQ)", 18: "(HLG)"}.get(transfer)
    assert [" of high dynamic range " in reason for reason in told] == [kind is not None]
    assert kind is None or kind in told[0]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The files of a folder over HTTP."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_gap_is_cut_out_before_it_is_taken_for_a_camera_that_hangs() -> None:
    clock, waited = FakeClock(), []

    def sleep(seconds: float) -> None:
        waited.append(round(seconds, 3))
        clock.advance(seconds)

    pace = Pace(5.0, clock.now, sleep)
    for due in (0.0, 0.1, 1.6, 12.0, 12.1, 1e7, 1e7 + 0.5):
        pace.wait_for(due)
    assert waited == [0.1, 1.5, LONGEST_STILL, 0.1, LONGEST_STILL, 0.5]
    clock.advance(3)
    pace.wait_for(1e7 + 0.6)
    assert len(waited) == 6, "what is late is shown at once"
