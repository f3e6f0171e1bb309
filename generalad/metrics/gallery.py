"""The report's images: which images to show, and how one looks."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError, GadError
from generalad.metrics.evaluate import ImageResult
from generalad.overlay import Image, outline, overlay

ReadImage = Callable[[str], NDArray[np.uint8]]

TRUTH_COLOUR = (64, 255, 200)
_MISTAKES = 9
_TYPICAL = 3
_SIDE = 280  # longest side of an image in pixels; with the counts above it bounds the page's size
_JPEG_QUALITY = 82


@dataclass(frozen=True, eq=False)
class Group:
    """Images shown under one heading."""

    heading: str
    note: str
    results: list[ImageResult]


def choose(results: Sequence[ImageResult]) -> list[Group]:
    """The images that decide what to do next: the hardest of each class, then ordinary ones."""
    by_score = sorted(results, key=lambda result: result.score)
    good = [result for result in by_score if not result.defective]
    defective = [result for result in by_score if result.defective]
    groups = [
        Group(
            "Good images with the highest scores",
            "At or above the threshold they are false alarms: look for dirt, light, wrong labels.",
            good[::-1][:_MISTAKES],
        ),
        Group(
            "Defective images with the lowest scores",
            "Below the threshold they are missed: look for small, faint or mislabelled defects.",
            defective[:_MISTAKES],
        ),
        Group("Typical good images", "Around the middle, judged correctly.", _middle(good, False)),
        Group(
            "Typical defective images",
            "Around the middle, judged correctly.",
            _middle(defective, True),
        ),
    ]
    return [group for group in groups if group.results]


def usual_level(results: Sequence[ImageResult]) -> float:
    """Median map value of the good images (of all, without any): where overlays become clear."""
    good = [result for result in results if not result.defective] or results
    return float(np.median([np.median(result.map) for result in good]))


def card(result: ImageResult, read_image: ReadImage, *, threshold: float, low: float) -> str:
    """Image, overlay with the true outline, verdict, score and name of one image, as HTML."""
    name = PurePath(result.path)
    shown = "/".join(name.parts[-2:])
    verdict, kind = _verdict(result)
    return (
        '<figure class="card"><div class="pair">'
        f"{_images(result, read_image, threshold, low)}</div><figcaption>"
        f'<span class="verdict {kind}">{verdict}</span>'
        f'<span class="score">{result.score:.4g}<small> · {result.normalised:.2f}</small></span>'
        f'<span class="name" title="{html.escape(result.path)}">{html.escape(shown)}</span>'
        f'<span class="label">{html.escape(result.label)}</span>'
        "</figcaption></figure>"
    )


def _images(result: ImageResult, read_image: ReadImage, threshold: float, low: float) -> str:
    try:
        image = _thumbnail(read_image(result.path))
    except (GadError, OSError):
        return '<p class="missing">The image could not be read again.</p>'
    heat = overlay(image, result.map, threshold=threshold, low=low)
    if result.mask is not None and result.mask.any():
        mask = np.ascontiguousarray(result.mask).view(np.uint8)
        size = (image.shape[1], image.shape[0])
        area = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        outline(heat, np.asarray(area) > 0, TRUTH_COLOUR)
    return _tag(image, "image") + _tag(heat, "heat map over the image")


def _thumbnail(image: NDArray[np.uint8]) -> Image:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"expected an RGB image (H, W, 3) uint8, found {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    factor = _SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _tag(image: Image, alt: str) -> str:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise DataError("OpenCV could not encode a thumbnail as JPEG")
    text = base64.b64encode(encoded.tobytes()).decode("ascii")
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/jpeg;base64,{text}" width="{width}" height="{height}" alt="{alt}">'
    )


def _verdict(result: ImageResult) -> tuple[str, str]:
    if result.decision == result.defective:
        return ("found", "right") if result.defective else ("passed", "right")
    return ("missed", "wrong") if result.defective else ("false alarm", "wrong")


def _middle(ascending: list[ImageResult], decision: bool) -> list[ImageResult]:
    correct = [result for result in ascending if result.decision == decision]
    start = max(0, (len(correct) - _TYPICAL) // 2)
    return correct[start : start + _TYPICAL]
