"""Good images as another light, lens, codec or placing would show them: `view`.

What a line changes without a part being worse: a lamp that ages, a camera's automatic white
balance, focus, noise, the codec of a stream, a part that lies a pixel further left. Heads learn
from views beside the images themselves, and thresholds are set with views of held-out images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

BRIGHTNESS, CONTRAST, WHITE_BALANCE = 0.22, 0.12, 0.03
"""Largest relative change of light, of contrast about the mean, and of one colour."""

BLUR, NOISE = 1.0, 4.0
"""Largest standard deviations: of a Gaussian blur in pixels, of noise in grey levels."""

QUALITY = (60, 95)
"""Of JPEG."""

QUANTISER = (2.0, 12.0)
"""Of the codec of a video, see `streamed`."""

SHIFT, TURN = 0.015, 1.0
"""Largest displacement in parts of each side, and rotation in degrees."""

ORIENTATIONS = 8
"""Of a square image: quarter turns, mirrored or not; of others each of four comes twice."""

VERSION = 2
"""Raised when views change, because their features are cached."""


@dataclass(frozen=True)
class Views:
    """`count` views of `images` good images in turn; a `Drawing` of the feature cache.

    Attributes:
        images: n.
        count: of views.
        seed: of all chance.
        turned: whether each view is also of the image in any of the orientations of `oriented`.
    """

    images: int
    count: int
    seed: int
    turned: bool = False

    def identity(self) -> dict[str, Any]:
        """See `Drawing`."""
        turned = {"turned": True} if self.turned else {}
        return {"views": VERSION, "count": self.count, "seed": self.seed, **turned}

    def __call__(
        self, index: int, read: Callable[[int], Image]
    ) -> tuple[Image, NDArray[np.float32]]:
        """See `Drawing`; nothing of a view is a defect."""
        rng = np.random.default_rng([self.seed, 4, index])
        image = read(index % self.images)
        if self.turned:
            image = oriented(image, int(rng.integers(ORIENTATIONS)))
        image = view(image, rng)
        return image, np.zeros(image.shape[:2], np.float32)


def oriented(image: Image, number: int) -> Image:
    """An image (H, W, 3) in one of its `ORIENTATIONS`, exact: turned, and mirrored from 4 on.

    By quarter turns; images that are not square keep their shape and are turned by half a turn.
    """
    turns = number % 4 if image.shape[0] == image.shape[1] else number % 2 * 2
    turned = np.rot90(image, turns)
    return np.ascontiguousarray(turned[:, ::-1] if number >= 4 else turned)


def views_of(images: Sequence[Image]) -> list[Image]:
    """One view of each image, always the same; thresholds are set with those of held-out images."""
    views = Views(len(images), len(images), seed=0)
    return [views(index, images.__getitem__)[0] for index in range(len(images))]


def view(image: Image, rng: np.random.Generator, *, moved: bool = True) -> Image:
    """One view of an image (H, W, 3) uint8 RGB; every change has its own chance to be in it.

    Args:
        image: the original.
        rng: all chance comes from here.
        moved: whether it may be shifted and turned.
    """
    height, width = image.shape[:2]
    out: NDArray[Any] = image.astype(np.float32)
    if moved and rng.random() < 0.5:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-TURN, TURN), 1.0)
        matrix: NDArray[Any] = np.asarray(turn)
        matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
        out = cv2.warpAffine(out, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.8:
        mean = out.mean()
        out = mean + (out - mean) * rng.uniform(1 - CONTRAST, 1 + CONTRAST)
        balance = rng.uniform(1 - WHITE_BALANCE, 1 + WHITE_BALANCE, 3)
        out = out * rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS) * balance
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.3, BLUR))
    if rng.random() < 0.3:
        out = out + rng.normal(0, rng.uniform(0.5, NOISE), out.shape)
    whole = np.clip(np.round(out), 0, 255).astype(np.uint8)
    codec = rng.random()
    if codec < 0.3:
        return compressed(whole, int(rng.integers(*QUALITY)))
    return streamed(whole, float(np.exp(rng.uniform(*np.log(QUANTISER))))) if codec < 0.6 else whole


def compressed(image: Image, quality: int) -> Image:
    """An image after JPEG of a quality 0...100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded just now
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def streamed(image: Image, quantiser: float) -> Image:
    """An image as a key frame of a video: no faint texture, and colours at half the size.

    After ITU-T H.263, 6.2.1, as MPEG-4 part 2 has it too: of 8 x 8 pixels each coefficient below a
    step becomes 0, and another one the middle of its step.

    Args:
        image: (H, W, 3) uint8 RGB.
        quantiser: half the step in grey levels; 255 / 219 of a codec's own, whose black is 16 and
            whose white is 235.
    """
    height, width = image.shape[:2]
    luminance, *colours = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32))
    half = (max(1, width // 2), max(1, height // 2))
    small = (cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in colours)
    coded = [cv2.resize(_quantised(plane, quantiser), (width, height)) for plane in small]
    planes = np.dstack([_quantised(luminance, quantiser), *coded])
    whole = np.clip(np.round(planes), 0, 255).astype(np.uint8)
    return cv2.cvtColor(whole, cv2.COLOR_YCrCb2RGB).astype(np.uint8, copy=False)


_COSINES = np.cos(np.pi / 8 * np.outer(np.arange(8), np.arange(8) + 0.5)).astype(np.float32) / 2
_COSINES[0] /= np.sqrt(2)


def _quantised(plane: NDArray[Any], quantiser: float) -> NDArray[np.float32]:
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge")
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    blocks = padded.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
    found = _COSINES @ blocks @ _COSINES.T
    levels = np.floor(np.abs(found) / (2 * quantiser))
    coded = np.sign(found) * (levels > 0) * quantiser * (2 * levels + 1)
    coded[..., 0, 0] = 8 * np.round(found[..., 0, 0] / 8)  # the mean has steps of its own
    back = (_COSINES.T @ coded @ _COSINES).transpose(0, 2, 1, 3).reshape(padded.shape)
    return np.asarray(back[:height, :width], np.float32)
