"""Mutated pictures and videos for `fuzz.py`."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import numpy as np
import shared  # noqa: F401  (finds the helpers of the tests)
from mutations import mutated_bytes

from generalad.preprocess import read_image, resize

PICTURE, VIDEO = "picture", "video"
"""Kinds that may take more memory than others."""


def pictures_of(image: Path) -> dict[str, bytes]:
    """One picture in every kind of file that is read, by its suffix, and some that are not."""
    from PIL import Image

    shown = Image.open(image).convert("RGB").resize((96, 80))
    deep = Image.fromarray(np.asarray(shown)[..., 0].astype(np.uint16) * 257)
    found = {}
    for suffix, kind, drawn, options in (
        (".png", "PNG", shown, {}), (".p.png", "PNG", shown.quantize(64), {}),
        (".a.png", "PNG", shown.convert("RGBA"), {}), (".d.png", "PNG", deep, {}),
        (".jpg", "JPEG", shown, {}), (".v.jpg", "JPEG", shown, {"progressive": True}),
        (".c.jpg", "JPEG", shown.convert("CMYK"), {}), (".bmp", "BMP", shown, {}),
        (".p.bmp", "BMP", shown.quantize(16), {}), (".tif", "TIFF", shown, {}),
        (".z.tif", "TIFF", shown, {"compression": "tiff_lzw"}),
        (".d.tif", "TIFF", deep, {"compression": "tiff_deflate"}),
        (".j.tif", "TIFF", shown, {"compression": "jpeg"}),
        (".g.tif", "TIFF", shown.convert("1"), {"compression": "group4"}),
        (".webp", "WEBP", shown, {}),
        (".a.webp", "WEBP", shown.convert("RGBA"), {"lossless": True}),
        (".gif", "GIF", shown.quantize(32), {}), (".jp2", "JPEG2000", shown, {}),
        (".j2k", "JPEG2000", shown, {"no_jp2": True}), (".ppm", "PPM", shown, {}),
        (".pgm", "PPM", shown.convert("L"), {}), (".pbm", "PPM", shown.convert("1"), {}),
        (".avif", "AVIF", shown, {}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        drawn.save(buffer, kind, **options)
        found[suffix] = buffer.getvalue()
    return found


def mutated_picture(
    artifact: Path, folder: Path, pictures: dict[str, bytes], rng: random.Random
) -> tuple[list[str], str]:
    """A mutated picture, scored, checked or read as a mask."""
    suffix, data = rng.choice(list(pictures.items()))
    place = folder / "pictures"
    shutil.rmtree(place, ignore_errors=True)
    (place / "bad").mkdir(parents=True)
    (place / "masks").mkdir()
    (place / "good.png").write_bytes(pictures[".png"])
    (place / "bad/x.png").write_bytes(pictures[".png"])
    content, what = mutated_bytes(data, rng)
    name = f"x{suffix}"
    (place / name).write_bytes(content)
    (place / "masks" / name).write_bytes(content)
    commands = (
        ["infer", str(artifact), str(place / name), "--threads", "1"],
        ["infer", str(artifact), str(place), "--threads", "1", "--overlays", str(folder / "o")],
        ["data", "check", str(place)],
    )
    return rng.choice(commands), f"{suffix} {what}"


def video_of(image: Path) -> bytes:
    """A short video with B-frames."""
    import av

    shown = resize(read_image(image), (80, 96))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for number in range(4):
            moved = np.asarray(np.roll(shown, 5 * number, 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def mutated_video(
    artifact: Path, folder: Path, data: bytes, rng: random.Random
) -> tuple[list[str], str]:
    """A mutated video, scored."""
    content, what = mutated_bytes(data, rng)
    file = folder / "v.mp4"
    file.write_bytes(content)
    return ["infer", str(artifact), str(file), "--threads", "1"], what
