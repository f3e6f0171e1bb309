"""Damaged H.264 and H.265: what is handed out is compared with what was sent, frame by frame."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from camera_helpers import Image
from hypothesis import given
from hypothesis import strategies as st

from generalad.errors import MissingExtraError
from generalad.runtime.cameras import CameraLost, DamagedFrame, Reader, parse_address

av = pytest.importorskip("av", reason="the streams extra is not installed")

from fractions import Fraction  # noqa: E402

from generalad.runtime.cameras.av_camera import AvCamera  # noqa: E402
from generalad.runtime.videos.h264 import MissingFrames  # noqa: E402

WIDTH, HEIGHT, FRAMES, KEY_EVERY = 320, 240, 120, 30
BITS = 8  # the number of a frame stands in its first rows
CODECS = {
    "slices": ("libx264", {"tune": "zerolatency", "preset": "ultrafast", "g": "30"}),
    "one slice": ("libx264", {"preset": "veryfast", "bf": "0", "g": "30"}),
    "references": ("libx264", {"preset": "medium", "bf": "0", "g": "30"}),
    "h265": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=30:bframes=0:log-level=0"}),
}
KEY_FRAMES = (b"\0\0\1\x65", b"\0\0\1\x25", b"\0\0\1\x26", b"\0\0\1\x28")  # H.264, H.265
Damage = str


def drawn(number: int) -> Image:
    """An image in which everything moves, with its number in black and white."""
    rng = np.random.default_rng(0)
    ground = rng.integers(40, 215, (HEIGHT // 8, WIDTH // 4, 3), dtype=np.uint8)
    image = np.roll(ground.repeat(8, 0).repeat(8, 1), -3 * number, axis=1)[:, :WIDTH].copy()
    for bit in range(BITS):
        image[:32, bit * 40 : bit * 40 + 40] = 255 * (number >> bit & 1)
    return image


def number_of(image: Image) -> int:
    """The number that `drawn` wrote."""
    return sum(int(image[8:24, b * 40 + 10 : b * 40 + 30].mean() > 127) << b for b in range(BITS))


@functools.cache
def encoded(name: str) -> tuple[bytes, ...]:
    """Packets with start codes, one for each frame."""
    codec, options = CODECS[name]
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.bit_rate, encoder.options = 4_000_000, options
    packets = []
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(drawn(number), format="rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    return tuple(bytes(packet) for packet in [*packets, *encoder.encode(None)])


def damaged(packets: tuple[bytes, ...], how: Damage, seed: int) -> tuple[list[bytes], list[int]]:
    """Packets with two of them harmed, and the numbers of those."""
    chance = random.Random(seed)
    found = list(packets)
    harmed = sorted(chance.sample([i for i in range(3, FRAMES - 2) if i % KEY_EVERY], 2))
    for number in harmed:
        packet = packets[number]
        half = len(packet) // 2
        if how == "flip":
            bits = bytearray(packet)
            for at in chance.sample(range(half, len(packet)), 8):
                bits[at] ^= 0xFF
            packet = bytes(bits)
        found[number] = {
            "flip": packet,
            "cut": packet[:half],
            "hole": packet[:half] + packet[half + half // 3 :],
            "lost": b"",
        }[how]
    return found, harmed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """Serves the temporary folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found.server_port
    found.shutdown()
    found.server_close()
    thread.join()


def read_all(url: str) -> tuple[list[Image], int]:
    """Frames until the end, and how many were damaged."""
    camera = AvCamera(parse_address(url), open_timeout=20, read_timeout=20)
    frames, count = [], 0
    try:
        camera.open()
        while True:
            try:
                frame = camera.read()
            except DamagedFrame:
                count += 1
                continue
            if frame is None:
                break
            frames.append(frame)
    except CameraLost as error:
        assert "the server ended it" in str(error)
    finally:
        camera.close()
    return frames, count


def read_packets(
    packets: list[bytes], folder: Path, port: int, name: str
) -> tuple[list[Image], int]:
    file = "v.hevc" if name == "h265" else "v.h264"
    (folder / file).write_bytes(b"".join(packets))
    return read_all(f"http://127.0.0.1:{port}/{file}")


@functools.cache
def truth(name: str) -> dict[int, Image]:
    """Every frame as an undisturbed decoder gives it."""
    decoder = av.CodecContext.create("hevc" if name == "h265" else "h264", "r")
    packets = [*map(av.Packet, encoded(name)), None]
    images = [f.to_ndarray(format="rgb24") for packet in packets for f in decoder.decode(packet)]
    return {number_of(image): image for image in images}


@pytest.mark.parametrize("name", CODECS)
def test_undisturbed_frames_all_come(name: str, tmp_path: Path, server: int) -> None:
    frames, count = read_packets(list(encoded(name)), tmp_path, server, name)
    assert [number_of(frame) for frame in frames] == list(range(FRAMES)) and count == 0
    for frame in frames:
        assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8
        assert frame.flags.c_contiguous
        number = number_of(frame)
        np.testing.assert_array_equal(frame, truth(name)[number])
        assert np.abs(frame.astype(int) - drawn(number)).mean() < 12, "colours"


# Bits that flip may make another valid image; what is listed here, a decoder cannot overlook.
CERTAIN = [
    *((name, how) for name in ("slices", "one slice", "references") for how in ("cut", "lost")),
    *(("one slice", "hole"), ("references", "hole"), ("references", "flip")),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "how"), CERTAIN)
def test_no_h264_frame_is_handed_out_that_is_not_whole(
    name: str, how: Damage, seed: int, tmp_path: Path, server: int
) -> None:
    packets, harmed = damaged(encoded(name), how, seed)
    frames, count = read_packets(packets, tmp_path, server, name)
    found = [number_of(frame) for frame in frames]
    for frame, number in zip(frames, found, strict=True):
        assert np.abs(frame.astype(int) - truth(name)[number]).max() == 0, f"{number} of {harmed}"
    builds_on = {n for bad in harmed for n in range(bad, bad // KEY_EVERY * KEY_EVERY + KEY_EVERY)}
    assert set(range(FRAMES)) - builds_on <= set(found), "more was refused than had to be"
    assert count and len(frames) + count >= FRAMES - len(harmed)


@pytest.mark.parametrize("how", ["cut", "lost"])
@pytest.mark.parametrize("seed", range(3))
def test_no_h265_frame_is_handed_out_that_is_not_whole(
    seed: int, how: Damage, tmp_path: Path, server: int
) -> None:
    packets, _ = damaged(encoded("h265"), how, seed)
    frames, count = read_packets(packets, tmp_path, server, "h265")
    for frame in frames:
        np.testing.assert_array_equal(frame, truth("h265")[number_of(frame)])
    assert count and len(frames) >= FRAMES - 2 * KEY_EVERY


@pytest.mark.parametrize("name", ["slices", "one slice", "references"])
def test_every_missing_frame_is_found(name: str) -> None:
    packets = encoded(name)
    for lost in [i for i in range(1, FRAMES - 1) if i % KEY_EVERY]:
        missing = MissingFrames(b"")
        found = [i for i, packet in enumerate(packets) if i != lost and missing.before(packet)]
        assert found == ([lost + 1] if (lost + 1) % KEY_EVERY else [])


def test_nothing_is_looked_for_in_packets_without_start_codes() -> None:
    """Lengths of 256 to 511 bytes look like start codes."""
    first, _, third = encoded("one slice")[:3]
    assert not (missing := MissingFrames(b"")).before(first) and missing.before(third)
    assert not (missing := MissingFrames(b"\1")).before(first) and not missing.before(third)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 400))
def test_no_packet_is_too_odd_to_look_at(packets: list[bytes], cut: int) -> None:
    missing = MissingFrames(encoded("slices")[0][:cut])
    for packet in packets:
        missing.before(packet)
        for kind in (1, 5, 7):
            missing.before(b"\0\0\1" + bytes([96 + kind]) + packet)


@pytest.mark.parametrize("name", CODECS)
def test_what_begins_in_the_middle_begins_with_a_key_frame(
    name: str, tmp_path: Path, server: int
) -> None:
    first, *rest = encoded(name)
    parameters = first[: min(i for i in (first.find(start) for start in KEY_FRAMES) if i > 0)]
    packets = [parameters + rest[10], *rest[11:]]
    frames, _ = read_packets(packets, tmp_path, server, name)
    assert [number_of(frame) for frame in frames] == list(range(KEY_EVERY, FRAMES))
    for frame in frames:
        np.testing.assert_array_equal(frame, truth(name)[number_of(frame)])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="an RTSP camera needs packages") as caught:
        Reader("rtsp://camera/stream")
    assert "generalad[streams]" in caught.value.remedy


def test_nothing_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from generalad.runtime.cameras import Reader; Reader('http://camera/video');"
        "print([name for name in ('av', 'torch', 'generalad.synth') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
