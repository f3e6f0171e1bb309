"""A conveyor under a fixed camera, as a video and a JSON file with what each frame shows.

The belt moves by one part and stops, or the camera is triggered, so that every frame shows one
part about in the centre: the view of the still images, with the same scatter of place. A
detector trained on the stills of a category therefore works on its conveyor; one may also be
trained on the frames that the JSON file calls good. Only the lamp differs: in the stills each
image has its own, here one lamp drifts slowly within the same tolerance.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import GadError, StorageError, UsageError
from generalad.files import atomic_write, write_json
from generalad.synth.dataset import image_generator
from generalad.synth.parts import CATEGORIES, render_part
from generalad.synth.scene import Lighting

# Tried in this order; OpenCV writes the second one without the help of FFmpeg. The first one loses
# nothing: a detector that learned from stills takes the traces of compression for damage.
_CODECS = ((".mkv", "FFV1"), (".avi", "MJPG"))


def write_conveyor(
    path: Path,
    *,
    category: str = "washer",
    frames: int = 80,
    defect_rate: float = 0.1,
    seed: int = 0,
    size: int = 256,
    fps: float = 10.0,
) -> Path:
    """Write the video and, beside it with the suffix `.json`, the truth; return the video's path.

    The video is lossless FFV1 in `.mkv`, or Motion JPEG in `.avi` where OpenCV was built without
    that encoder or `path` ends with `.avi`; the suffix of `path` is replaced accordingly.

    The truth is `{"video", "category", "seed", "size", "fps", "frames": [{"index", "defect",
    "box"}]}`; `defect` is null for a good part, `box` is [x, y, width, height] in pixels.

    Args:
        path: Where the video goes.
        category: A name from `CATEGORIES`.
        frames: Number of parts, one for each frame; at least 1.
        defect_rate: Share of parts with a defect, 0...1; rounded to whole frames.
        seed: At least 0.
        size: Side of the frames in pixels; even, as video codecs demand, and at least 32.
        fps: Frames per second of the video, above 0.

    Raises:
        UsageError: A parameter is out of range.
        StorageError: No encoder works, or the disk is full.
    """
    if category not in CATEGORIES:
        raise UsageError(
            f"unknown category {category!r}", remedy=f"choose from {', '.join(CATEGORIES)}"
        )
    if frames < 1 or not 0 <= defect_rate <= 1 or size < 32 or size % 2 or seed < 0 or fps <= 0:
        raise UsageError(
            "expected frames >= 1, defect rate 0...1, an even size >= 32, seed >= 0 and fps > 0, "
            f"found {frames}, {defect_rate}, {size}, {seed} and {fps}"
        )
    images: list[NDArray[np.uint8]] = []
    truth: list[dict[str, Any]] = []
    for index, defect in enumerate(_plan(category, frames, defect_rate, seed)):
        image, mask = frame(category, index, defect, seed=seed, size=size)
        images.append(image)
        truth.append({"index": index, "defect": defect, "box": _box(mask)})
    video = _write_video(Path(path), images, fps)
    record: dict[str, Any] = {"video": video.name, "category": category, "seed": seed}
    write_json(video.with_suffix(".json"), {**record, "size": size, "fps": fps, "frames": truth})
    return video


def frame(
    category: str, index: int, defect: str | None, *, seed: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and mask of one frame, as `render_part` gives them, before the video codec."""
    rng = image_generator(seed, category, "conveyor", index)
    return render_part(
        category, rng, defect=defect, size=size, lighting=_lamp(category, index, seed)
    )


def _plan(category: str, frames: int, defect_rate: float, seed: int) -> list[str | None]:
    """The defect of each frame: spread at random, all kinds equally often."""
    rng = image_generator(seed, category, "conveyor plan", 0)
    kinds = CATEGORIES[category].defects
    plan: list[str | None] = [None] * frames
    places = rng.permutation(frames)[: round(frames * defect_rate)]
    for turn, place in enumerate(sorted(places)):
        plan[place] = kinds[turn % len(kinds)]
    return plan


def _lamp(category: str, index: int, seed: int) -> Lighting:
    """One lamp, drifting slowly in strength and direction."""
    lamp = Lighting.draw(image_generator(seed, category, "conveyor lamp", 0))
    drift = math.sin(index / 17.0)
    return replace(
        lamp,
        azimuth=0.5 * lamp.azimuth + 0.02 * drift,
        strength=lamp.strength**0.5 * (1 + 0.012 * drift),
    )


def _box(mask: NDArray[np.uint8]) -> list[int] | None:
    """Smallest box around the mask, [x, y, width, height], or None if it is empty."""
    return [int(v) for v in cv2.boundingRect(mask)] if mask.any() else None


class _NoEncoderError(GadError):
    """OpenCV cannot write this kind of video."""


def _write_video(path: Path, images: list[NDArray[np.uint8]], fps: float) -> Path:
    """Write RGB images with the first encoder that works."""
    for suffix, codec in _CODECS[1:] if path.suffix.lower() == ".avi" else _CODECS:
        target = path.with_suffix(suffix)
        try:
            with atomic_write(target) as temporary:
                _encode(temporary, codec, images, fps)
        except _NoEncoderError:
            continue
        return target
    raise StorageError(
        f"cannot write a video to {path}: OpenCV has no working encoder",
        remedy="install opencv-python-headless, which brings its encoders",
    )


def _encode(path: Path, codec: str, images: list[NDArray[np.uint8]], fps: float) -> None:
    """Write a video and decode it again, because a failing encoder may say nothing."""
    height, width = images[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), code, fps, (width, height))
    if not writer.isOpened():
        raise _NoEncoderError(codec)
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    capture = cv2.VideoCapture(str(path))
    decoded = sum(1 for _ in iter(capture.grab, False))
    capture.release()
    if decoded != len(images):
        raise _NoEncoderError(f"{codec} wrote {decoded} of {len(images)} frames")
