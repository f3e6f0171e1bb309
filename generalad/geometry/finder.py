"""`Finder`: where a part lies, by the edges of a template; OpenCV and NumPy only.

1. The frame's edges, some 96 pixels wide, are correlated with the template's inside a circle, which
   looks the same whatever the turn, at every shift and at turns of some degrees at once.
2. The best few are refined to a fraction of a pixel and degree by ECC (Evangelidis and Psarakis
   2008, "Parametric image alignment using enhanced correlation coefficient maximization"), on edges
   of twice that width.

The match is the correlation of the edges there, -1...1: 1 for the template itself. It depends
neither on brightness nor on contrast.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.geometry.geometry import SIDE
from generalad.preprocess import resize

Float = NDArray[np.float32]
Matrix = NDArray[np.float64]
"""(2, 3), from pixels (x, y) to pixels."""

COARSE = 3
"""How much smaller the first search is."""

STEP = 5.0
"""Degrees between turns of the first search; edges are smoothed over about as much at the rim."""

CANDIDATES = 3
"""Turns that are refined."""

TIE = 0.02
"""Of two turns after which a symmetric part looks much the same, the smaller one is taken where the
match of the other is better by no more: it is chance then, and no mark that tells them apart."""

REACH = 0.25
"""Share of the frame's sides by which a part may be shifted at most."""

LEAST_INSIDE = 0.7
"""Of the template's circle. What lies outside of the frame is not judged, so that a part of which
less is seen would pass for what is not known of it."""

_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
_SMOOTHING = 5


class Pose(NamedTuple):
    """Where a part lies.

    Attributes:
        matrix: from pixels of the frame to those of the frame in which the part is in place; both
            count from the middle of the first pixel.
        match: correlation of the edges there, -1...1.
        turn: degrees, -180...180, that the frame is turned by, counterclockwise.
        shift: (x, y) that the part's middle is moved by, in shares of the frame's sides.
        inside: share of the template's circle that lies in the frame, 0...1.
    """

    matrix: Matrix
    match: float
    turn: float
    shift: tuple[float, float]
    inside: float

    def fault(self, least: float) -> str:
        """Why this is no part that could be judged, or empty; `least` is the match that is one."""
        if self.match < least:
            return (
                f"the part matches its template by {self.match:.2f}, expected at least {least:.2f}"
            )
        if self.inside < LEAST_INSIDE:
            return (
                f"{self.inside:.0%} of the part and its surroundings are in the frame, expected"
                f" at least {LEAST_INSIDE:.0%}"
            )
        return ""


def size_of(frame: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a template for frames (height, width): the longer side is `SIDE`."""
    scale = SIDE / max(frame[:2])
    return max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))


def grey_of(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, 3) uint8 RGB in grey and of a size (height, width)."""
    return np.asarray(cv2.cvtColor(resize(image, size), cv2.COLOR_RGB2GRAY), np.uint8)


def edges_of(grey: NDArray[np.uint8]) -> Float:
    """How strong the edges are, (h, w): the root of the gradient, so that weak ones count too."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.2)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)
    strength = np.sqrt(cv2.magnitude(across, down))
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), 1.5), np.float32)


class Finder:
    """Finds one part; may be used from several threads.

    Args:
        grey: (h, w) uint8, the template: the part in place, as `grey_of` makes it.
        turn: degrees by which parts are turned at most, either way; 0 looks for shifts alone.
        symmetric: degrees after which the part looks much the same.
    """

    def __init__(
        self,
        grey: NDArray[np.uint8],
        *,
        turn: float = 180.0,
        symmetric: tuple[float, ...] = (),
    ) -> None:
        self.size = (grey.shape[0], grey.shape[1])
        self.edges = edges_of(grey)
        self.centre, self.radius = _circle(self.edges)
        self.mask = _disc(self.size, self.centre, self.radius)
        self.turn, self.symmetric = turn, symmetric
        every = np.arange(0.0, 360.0, STEP)
        self.angles = every[np.minimum(every, 360 - every) <= turn]
        self._square = tuple(
            slice(max(0, int(at - self.radius)), min(length, math.ceil(at + self.radius) + 1))
            for at, length in zip(self.centre[::-1], self.size, strict=True)
        )
        self._spectra, self._disc, self._area = self._turned()

    def _turned(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64], float]:
        """Spectra of the template's edges inside its circle at all turns, and of the circle."""
        self._half = half = math.ceil(self.radius / COARSE) + 1
        side = 2 * half + 1
        disc = _disc((side, side), (half, half), self.radius / COARSE)
        smooth = cv2.GaussianBlur(self.edges, (0, 0), COARSE / 2)
        turned = []
        for angle in self.angles:
            matrix = _turn(float(angle), 1 / COARSE)  # from the template to the small square
            matrix[:, 2] = half - matrix[:, :2] @ np.array(self.centre)
            patch = cv2.warpAffine(
                smooth, matrix, (side, side), flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            patch = np.where(disc, patch - patch[disc].mean(), 0)
            turned.append(patch / max(float(np.sqrt(np.square(patch).sum())), 1e-6))
        small = [-(-length // COARSE) for length in self.size]
        self._margins = [math.ceil(REACH * length) for length in small]
        # Only places are looked at where the square lies inside, so that nothing wraps around.
        self._shape = tuple(
            cv2.getOptimalDFTSize(max(length + 2 * margin, side))
            for length, margin in zip(small, self._margins, strict=True)
        )
        spectra = np.fft.rfft2(np.stack(turned).astype(np.float32), self._shape)
        circle = np.fft.rfft2(disc.astype(np.float32), self._shape)
        return (
            np.conj(spectra).astype(np.complex64),
            np.conj(circle).astype(np.complex64),
            float(disc.sum()),
        )

    def find(self, image: NDArray[np.uint8]) -> Pose:
        """The best pose in a frame (H, W, 3) uint8 RGB; its match says whether it is one."""
        found = self.find_grey(grey_of(image, self.size))
        sides = np.array(image.shape[1::-1], np.float64)
        scale = np.diag(sides / np.array(self.size[::-1]))
        return found._replace(matrix=_between_sizes(found.matrix, scale))

    def find_grey(self, grey: NDArray[np.uint8]) -> Pose:
        """The same of a small grey frame (h, w) uint8, as of `grey_of`; for pixels of that."""
        edges = edges_of(grey)
        found = [self._refined(edges, *place) for place in self._candidates(edges)]
        pose = max(found, key=lambda one: one.match)
        turns = [(pose.turn + angle + 180) % 360 - 180 for angle in self.symmetric]
        smallest = min([pose.turn, *turns], key=abs)
        if abs(smallest) < abs(pose.turn) - 1:
            other = self._refined(edges, -smallest, self._lies_at(pose.matrix))
            return other if other.match > pose.match - TIE else pose
        return pose

    def _pose(self, matrix: Matrix, match: float) -> Pose:
        x, y = self._lies_at(matrix)
        shift = (self.centre[0] - x) / self.size[1], (self.centre[1] - y) / self.size[0]
        frame = np.ones(self.size, np.uint8)
        shown = cv2.warpAffine(frame, matrix, self.size[::-1], flags=cv2.INTER_NEAREST)
        inside = float(np.asarray(shown)[self.mask].mean())
        turn = -math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        return Pose(matrix, match, turn, shift, inside)

    def _lies_at(self, matrix: Matrix) -> tuple[float, float]:
        """Where the middle of the circle is in the small frame, (x, y)."""
        x, y = np.linalg.solve(matrix[:, :2], np.array(self.centre) - matrix[:, 2])
        return float(x), float(y)

    def likeness(self) -> NDArray[np.float32]:
        """How much the template looks like itself at each of `angles`, (n,), -1...1."""
        return np.asarray(self._responses(self.edges).max(axis=(1, 2)), np.float32)

    def _responses(self, edges: Float) -> Float:
        """Correlation (n, rows, columns) at each turn and each place of the circle's middle."""
        small = cv2.GaussianBlur(edges, (0, 0), COARSE / 2)[::COARSE, ::COARSE]
        down, across = self._margins
        padded = np.pad(small, ((down, down), (across, across)), mode="edge")
        padded = padded - padded.mean()
        spectrum, squares = np.fft.rfft2(np.stack([padded, padded**2]), self._shape)
        sums = np.fft.irfft2(np.stack([spectrum, squares]) * self._disc, self._shape)
        rows, columns = (a - 2 * self._half for a in padded.shape)
        energy = sums[1] - sums[0] ** 2 / self._area
        energy = energy[:rows, :columns]
        floor = 1e-3 * max(float(energy.max()), 1e-6)
        found = np.fft.irfft2(spectrum * self._spectra, self._shape)[:, :rows, :columns]
        return np.asarray(found / np.sqrt(np.maximum(energy, floor)), np.float32)

    def _candidates(self, edges: Float) -> list[tuple[float, tuple[float, float]]]:
        """The best turns with the places (x, y) of the circle's middle, in template pixels."""
        responses = self._responses(edges)
        best = responses.reshape(len(responses), -1)
        places, values = best.argmax(axis=1), best.max(axis=1)
        chosen: list[tuple[float, tuple[float, float]]] = []
        taken: list[float] = []
        for index in np.argsort(-values):
            angle = float(self.angles[index])
            if any(abs((angle - other + 180) % 360 - 180) < 2.5 * STEP for other in taken):
                continue
            taken.append(angle)
            row, column = divmod(int(places[index]), responses.shape[2])
            x = (column + self._half - self._margins[1]) * COARSE
            y = (row + self._half - self._margins[0]) * COARSE
            chosen.append((angle, (float(x), float(y))))
            if len(chosen) == CANDIDATES:
                break
        return chosen

    def _refined(self, edges: Float, angle: float, place: tuple[float, float]) -> Pose:
        """The pose near a turn and a place; for pixels of the small frame."""
        start = _turn(angle, 1.0)  # from the template to the frame
        start[:, 2] = np.array(place) - start[:, :2] @ np.array(self.centre)
        moved = self._moved(edges, start)
        match = self._correlation(moved)
        # From there and not from the frame: OpenCV's takes turns beyond 90 degrees for others.
        corner = np.array([self._square[1].start, self._square[0].start], np.float64)
        warp = np.eye(2, 3)
        warp[:, 2] = corner
        try:
            _, found = cv2.findTransformECC(
                self.edges[self._square],
                moved,
                warp.astype(np.float32),
                cv2.MOTION_EUCLIDEAN if self.turn else cv2.MOTION_TRANSLATION,
                _CRITERIA,
                np.ones(self.size, np.uint8),
                _SMOOTHING,
            )
        except cv2.error:  # it does not converge where nothing is alike
            return self._pose(_inverse(start), match)
        step = np.asarray(found, np.float64)
        step[:, 2] -= step[:, :2] @ corner
        refined = np.column_stack(
            [start[:, :2] @ step[:, :2], start[:, :2] @ step[:, 2] + start[:, 2]]
        )
        better = self._correlation(self._moved(edges, refined))
        if better > match:
            return self._pose(_inverse(refined), better)
        return self._pose(_inverse(start), match)

    def _moved(self, edges: Float, warp: Matrix) -> Float:
        """A frame's edges as `warp`, from the template to the frame, brings them into place."""
        moved = cv2.warpAffine(
            edges, warp, self.size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return np.asarray(moved, np.float32)

    def _correlation(self, moved: Float) -> float:
        """Of edges (h, w) in place with the template's, inside the circle."""
        a, b = self.edges[self.mask], moved[self.mask]
        a, b = a - a.mean(), b - b.mean()
        scale = math.sqrt(float(a @ a) * float(b @ b))
        return float(a @ b) / scale if scale > 1e-6 else 0.0


def moved(grey: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """A frame (h, w) brought into place by the matrix of its pose; beyond its border as at it."""
    height, width = grey.shape
    found = cv2.warpAffine(
        grey, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.uint8)


def _turn(angle: float, scale: float) -> Matrix:
    """A turn by degrees, counterclockwise as one looks at the image, without a shift."""
    return np.asarray(cv2.getRotationMatrix2D((0, 0), angle, scale), np.float64)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _between_sizes(matrix: Matrix, scale: NDArray[np.float64]) -> Matrix:
    """A matrix between small images as one between images `scale` times as large.

    Middles of pixels lie at whole numbers, so x of the small one is (x + 0.5) scale - 0.5.
    """
    half = np.array([0.5, 0.5])
    linear = scale @ matrix[:, :2] @ np.linalg.inv(scale)
    shift = scale @ (matrix[:, 2] + half - matrix[:, :2] @ half) + linear @ half - half
    # large -> small: (x + half) / scale - half; small -> small by matrix; small -> large.
    return np.column_stack([linear, shift])


def _circle(edges: Float) -> tuple[tuple[float, float], float]:
    """Middle (x, y) and radius of the circle around most of the edges, inside the template."""
    height, width = edges.shape
    weights = edges - np.quantile(edges, 0.5)
    weights = np.square(np.maximum(weights, 0))
    total = float(weights.sum())
    least, most = 0.3 * min(edges.shape), 0.5 * min(edges.shape) - 1
    if total <= 0:
        return ((width - 1) / 2, (height - 1) / 2), most
    y, x = np.mgrid[0:height, 0:width]
    middle = (float((weights * x).sum()) / total, float((weights * y).sum()) / total)
    spread = math.sqrt(
        float((weights * (np.square(x - middle[0]) + np.square(y - middle[1]))).sum()) / total
    )
    radius = min(max(1.5 * spread, least), most)
    centre = (
        min(max(middle[0], radius), width - 1 - radius),
        min(max(middle[1], radius), height - 1 - radius),
    )
    return centre, radius


def _disc(size: tuple[int, ...], centre: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    """(h, w) bool: the inside of a circle around (x, y)."""
    y, x = np.ogrid[0 : size[0], 0 : size[1]]
    return np.asarray(np.square(x - centre[0]) + np.square(y - centre[1]) <= radius**2)
