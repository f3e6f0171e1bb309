"""Videos as people's cameras, phones and programs write them: times, order, which way up, whole."""

from __future__ import annotations

import importlib.util
import itertools
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from generalad.runtime.sources import Frame
from generalad.runtime.videos.presentation import FrameTimes, Matrix, parse_matrix, upright
from generalad.runtime.videos.video_file import VideoFile

av = pytest.importorskip("av")
Image = NDArray[np.uint8]
UNIT = 1 << 16

EVEN = tuple(n / 10 for n in range(25))
VARYING = tuple(n / 30 + n // 5 * 0.2 for n in range(25))
STALL = (*(n / 30 for n in range(12)), *(5 + n / 30 for n in range(13)))


def shade(number: int, size: tuple[int, int] = (48, 64)) -> Image:
    """An image that tells its number by its brightness, and which way up it is by its corners."""
    image = np.full((*size, 3), 20 + 8 * number, np.uint8)
    image[:12, :12] = 250, 0, 0  # red, upper left
    image[:12, -12:] = 0, 250, 0  # green, upper right
    return image


def write(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "libx264",
    b_frames: int = 0,
    matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    if codec not in av.codecs_available:
        pytest.skip(f"{codec} is not there")
    with av.open(str(path), "w", options=options or {}) as container:
        rate = 30 if times is not EVEN else 10
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        base = Fraction(1, rate if path.suffix == ".avi" else 3000)
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.bit_rate = 4_000_000
        if codec == "libx264":
            stream.options = {"crf": "5", "bf": str(b_frames)}
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(shade(number), format="rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(path: Path) -> list[Frame]:
    return list(VideoFile(path))


def numbers(frames: Sequence[Frame]) -> list[int]:
    """Which frames they are, by their brightness."""
    found = []
    for frame in frames:
        assert frame.image is not None, frame.error
        found.append(round((float(frame.image[20:].mean()) - 20) / 8))
    return found


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi"])
@pytest.mark.parametrize("times", [EVEN, VARYING, STALL])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_whole_videos_have_all_frames_in_order_at_their_times(
    tmp_path: Path, suffix: str, times: Sequence[float], b_frames: int
) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    frames = read(write(tmp_path / f"v{suffix}", times, codec=codec, b_frames=b_frames))
    assert [frame.error for frame in frames] == [None] * 25
    assert numbers(frames) == list(range(25))
    found = [frame.time for frame in frames]
    assert all(a < b for a, b in itertools.pairwise(found)), "monotonic"
    tolerance = 1 / 30 + 1e-3 if suffix == ".avi" else 2e-3  # AVI has slots
    np.testing.assert_allclose(found, times, atol=tolerance)


@pytest.mark.parametrize("suffix", [".webm"])
@pytest.mark.parametrize("times", [EVEN, VARYING])
def test_webm(tmp_path: Path, suffix: str, times: Sequence[float]) -> None:
    frames = read(write(tmp_path / f"v{suffix}", times, codec="libvpx-vp9"))
    assert numbers(frames) == list(range(25))
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=2e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("times", [EVEN, VARYING])
@pytest.mark.parametrize("part", [0.6, 0.75])
def test_cut_off_videos_are_known(
    tmp_path: Path, suffix: str, times: Sequence[float], part: float
) -> None:
    whole = tmp_path / f"v{suffix}"
    if suffix == ".mp4":  # with its index at the front, or nothing could be read
        write(whole, times)
        with (
            av.open(str(whole)) as old,
            av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as new,
        ):
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(old.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
        whole = tmp_path / "front.mp4"
    else:
        write(whole, times, codec="mpeg4" if suffix == ".avi" else "libx264")
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * part)])
    *good, last = read(cut)
    assert 0 < len(good) < 25
    assert last.image is None and "cut off or damaged" in str(last.error)


def with_longer_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        sound = container.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for second in range(4):
            samples = av.AudioFrame.from_ndarray(
                np.zeros((1, 8000), np.int16), format="s16", layout="mono"
            )
            samples.sample_rate, samples.pts = 8000, 8000 * second
            container.mux(sound.encode(samples))
        for number in range(20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(shade(number), format="rgb24")))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize("pyav", [True, False])
@pytest.mark.parametrize("kind", ["longer sound", "late start", "fragments", "end cut away"])
def test_whole_videos_whose_numbers_say_something_else(
    tmp_path: Path, kind: str, pyav: bool, request: pytest.FixtureRequest
) -> None:
    if kind == "longer sound":  # the duration of a Matroska file is that of its longest track
        path = with_longer_sound(tmp_path / "v.mkv")
    elif kind == "late start":
        path = write(tmp_path / "v.mkv", [1000 + time for time in EVEN[:20]])
    elif kind == "fragments":  # as browsers and DASH have it
        path = write(
            tmp_path / "v.mp4", EVEN[:20], options={"movflags": "frag_keyframe+empty_moov"}
        )
    else:  # what an edit list leaves out is in the file, and is not shown
        path = write(tmp_path / "v.mp4", EVEN)
        data = path.read_bytes()
        place = data.index(b"elst") + 8
        [entries] = struct.unpack_from(">I", data, place)
        length, start = struct.unpack_from(">Ii", data, place + 4)
        assert entries == 1 and start >= 0
        half = struct.pack(">Ii", length // 5, start)
        path.write_bytes(data[: place + 4] + half + data[place + 12 :])
    if not pyav:
        request.getfixturevalue("without_pyav")
    frames = read(path)
    assert [frame.error for frame in frames if frame.error] == []
    assert len(frames) == 20 if kind != "end cut away" else 0 < len(frames) < 25


TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[Image], Image]]] = {
    "0": ((1, 0, 0, 1), lambda image: image),
    "90": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "180": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "270": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transposed": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
}
"""By Apple's QuickTime File Format: [x' y'] = [x y] [[a b] [c d]], moved back to the corner."""


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "av" else find(name)
    )


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("pyav", [True, False])
def test_frames_are_upright_and_not_mirrored(
    tmp_path: Path, turn: str, suffix: str, pyav: bool, request: pytest.FixtureRequest
) -> None:
    if not pyav:
        request.getfixturevalue("without_pyav")
    (a, b, c, d), expected = TURNS[turn]
    matrix = [a * UNIT, b * UNIT, 0, c * UNIT, d * UNIT, 0, 0, 0, 1 << 30]
    frames = read(write(tmp_path / f"v{suffix}", EVEN[:5], matrix=matrix))
    for number, frame in enumerate(frames):
        assert frame.image is not None
        wanted = np.asarray(expected(shade(number)), int)
        assert frame.image.shape == wanted.shape
        assert np.abs(frame.image.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize("turn", TURNS)
def test_matroska_without_pyav_is_right_or_refused(
    tmp_path: Path, turn: str, without_pyav: None
) -> None:
    (a, b, c, d), expected = TURNS[turn]
    matrix = [a * UNIT, b * UNIT, 0, c * UNIT, d * UNIT, 0, 0, 0, 1 << 30]
    path = write(tmp_path / "v.mkv", EVEN[:3], matrix=matrix)
    frames = read(path)
    if frames[0].image is None:
        assert "only PyAV" in str(frames[0].error)
        assert turn not in ("0", "90", "180", "270")
    else:
        wanted = np.asarray(expected(shade(0)), int)
        assert np.abs(frames[0].image.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize("turn", TURNS)
def test_the_matrix_by_its_definition(turn: str) -> None:
    (a, b, c, d), _ = TURNS[turn]
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = np.array([a, b, 0, c, d, 0, 0, 0, 1], "=i4") * UNIT
    found = upright(image, parse_matrix(data.tobytes()))
    places = {(x, y): (a * x + c * y, b * x + d * y) for y in range(2) for x in range(3)}
    left, top = min(x for x, _ in places.values()), min(y for _, y in places.values())
    for (x, y), (to_x, to_y) in places.items():
        assert (found[to_y - top, to_x - left] == image[y, x]).all()


def test_other_matrices_turn_nothing() -> None:
    half = round(UNIT * 0.7071)
    for values in ([half, half, 0, -half, half, 0, 0, 0, 1], [0] * 9):
        assert parse_matrix(np.array(values, "=i4").tobytes()) is None
    assert parse_matrix(b"short") is None
    image = np.zeros((2, 3, 3), np.uint8)
    assert upright(image, None) is image
    assert upright(image, Matrix(0, UNIT, -UNIT, 0)).shape == (3, 2, 3)


@given(
    st.lists(st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), max_size=40),
    st.sampled_from([5.0, 30.0, 240.0]),
)
def test_times_rise_whatever_the_stamps_say(stamps: list[float | None], rate: float) -> None:
    times = FrameTimes(rate)
    found = [times.next(stamp) for stamp in stamps]
    assert found[:1] == [0.0][: len(found)]
    assert all(a < b for a, b in itertools.pairwise(found))


def test_good_stamps_are_kept() -> None:
    times = FrameTimes(10.0)
    assert [times.next(stamp) for stamp in (7.0, 7.5, 9.0)] == [0.0, 0.5, 2.0]
    assert times.largest_gap == 1.5


def test_recordings_that_were_put_together_go_on() -> None:
    times = FrameTimes(10.0)
    found = [times.next(stamp) for stamp in (1.4, 1.5, 2.6, 1.4, 1.5, 1.6)]
    assert found == pytest.approx([0.0, 0.1, 1.2, 1.3, 1.4, 1.5])


def test_the_picture_of_a_cover_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=10)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        clip = container.add_stream("libx264", rate=10)
        clip.width, clip.height, clip.pix_fmt = 64, 48, "yuv420p"
        for stream, count in ((cover, 1), (clip, 12)):
            for number in range(count):
                image = shade(number, (stream.height, stream.width))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    found = list(VideoFile(path))
    assert [frame.error for frame in found] == [None] * 12
    assert {frame.image.shape for frame in found if frame.image is not None} == {(48, 64, 3)}


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "v.mp4")
    (frame,) = read(tmp_path / "v.mp4")
    assert frame.image is None and "not a video" in str(frame.error)
    assert VideoFile(tmp_path / "v.mp4").count() is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("times", [EVEN, VARYING])
def test_without_pyav(
    tmp_path: Path, suffix: str, times: Sequence[float], without_pyav: None
) -> None:
    frames = read(write(tmp_path / f"v{suffix}", times))
    assert numbers(frames) == list(range(25))
    np.testing.assert_allclose([frame.time for frame in frames], times, atol=2e-3)


@pytest.mark.parametrize("pyav", [True, False])
def test_frames_that_are_too_large_are_refused_before_decoding(
    tmp_path: Path, pyav: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = write(tmp_path / "v.mp4", EVEN[:3])
    if not pyav:
        request.getfixturevalue("without_pyav")
    monkeypatch.setenv("GAD_MAX_MEGAPIXELS", "0.001")
    (frame,) = read(path)
    assert frame.image is None and "expected at most" in str(frame.error)


def test_frames_that_become_too_large_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of raw H.264, whose size changes in the middle."""
    parts = []
    for number, (width, height) in enumerate([(64, 48), (128, 96)]):
        with av.open(str(tmp_path / f"{number}.h264"), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(3):
                frame = av.VideoFrame.from_ndarray(shade(1, (height, width)), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        parts.append((tmp_path / f"{number}.h264").read_bytes())
    (tmp_path / "v.ts").write_bytes(b"".join(parts))
    whole = [frame.image.shape for frame in read(tmp_path / "v.ts") if frame.image is not None]
    assert (96, 128, 3) in whole
    monkeypatch.setenv("GAD_MAX_MEGAPIXELS", "0.005")
    small = [frame.image.shape for frame in read(tmp_path / "v.ts") if frame.image is not None]
    assert set(small) == {(48, 64, 3)}
