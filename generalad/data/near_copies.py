"""Near-copies: images that show the same part, or the same frame, once more.

A perceptual hash cannot find them among parts that are photographed alike: two different boards
differ by as few bits as one board twice. So images are compared by how each differs from the mean
of all, after what many of them share is taken away: light, small shifts, the leading components.
Different parts then have nothing in common; one part photographed twice keeps what it is known by,
at a coarse scale (stains, components) and at a fine one (texture). Both must agree: a coarse
likeness alone is also that of two plain parts in the same position.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

SIDE = 64
"""Side of a signature in pixels."""

COARSE, FINE = 0.85, 0.4
"""Least correlations of near-copies. Measured on three kinds of drawn parts and three real sets:
docs/data.md has the figures."""

MOST_COMPONENTS = 16
IMAGES_A_COMPONENT = 20
"""One leading component is taken away for so many images, `MOST_COMPONENTS` at most."""

SHARED = 1 / 4
"""Least share of the images that a component must be spread over (its participation ratio). One
that few images share is what makes them near-copies, and stays."""

LEAST_LINKED = 1 / 3
"""Least share of the pairs of a group that must be alike themselves."""

_BLOCK = 1024
_WIDTH = SIDE / 32  # pixels; the fine scale is what a Gaussian of this width smooths away


def signature(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(`SIDE`, `SIDE`) uint8: an image (H, W, 3) uint8 RGB, small and grey."""
    # The small one is made grey: it has fewer pixels.
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def near_copies(signatures: Sequence[NDArray[np.uint8]]) -> list[tuple[int, ...]]:
    """Groups of at least two near-copies, as positions in `signatures`, each in rising order.

    Near-copies of near-copies are in one group, unless that makes a long chain: plain parts that
    lie turned at all angles are each like the next one and no copies. A set of one or two images
    has no usual look to differ from and gives no groups.

    Args:
        signatures: n of `signature`.
    """
    count = len(signatures)
    if count < 3:
        return []
    images = np.stack(signatures).astype(np.float32)
    halves = images.reshape(count, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    coarse = _unit(_without_shared(_unit(_deviations(halves))))
    fine = _deviations(images).reshape(images.shape)
    fine = _unit(np.stack([one - cv2.GaussianBlur(one, (0, 0), _WIDTH) for one in fine]))
    alike: dict[int, list[int]] = {}
    for first in range(0, count, _BLOCK):
        above, left = np.nonzero(coarse[first : first + _BLOCK] @ coarse.T > COARSE)
        for one, other in zip((above + first).tolist(), left.tolist(), strict=True):
            if one != other and fine[one] @ fine[other] > FINE:
                alike.setdefault(one, []).append(other)
    groups = _connected(alike)
    return sorted(tuple(sorted(group)) for group in groups if not _is_chain(group, alike))


def _connected(alike: dict[int, list[int]]) -> list[list[int]]:
    groups: list[list[int]] = []
    seen: set[int] = set()
    for start in alike:
        if start not in seen:
            seen.add(start)
            group = [start]
            for one in group:  # it grows while it is walked through
                group += [other for other in alike[one] if other not in seen]
                seen.update(alike[one])
            groups.append(group)
    return groups


def _is_chain(group: list[int], alike: dict[int, list[int]]) -> bool:
    """Whether few of all pairs are alike."""
    pairs = len(group) * (len(group) - 1)
    return sum(len(alike[one]) for one in group) < LEAST_LINKED * pairs


def _deviations(images: Float) -> Float:
    """(n, H, W) to (n, H * W): from the mean image, less what light and small shifts explain.

    To first order, another light scales and tilts the mean image and a shift adds its gradients.
    """
    mean = images.mean(axis=0)
    height, width = mean.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    down, right = np.gradient(mean)
    explained = np.stack([np.ones_like(mean), x, y, mean, down, right]).reshape(6, -1)
    basis, _ = np.linalg.qr(explained.T.astype(np.float64))
    basis = basis.astype(np.float32)
    deviations = (images - mean).reshape(len(images), -1)
    return np.asarray(deviations - (deviations @ basis) @ basis.T, np.float32)


def _without_shared(deviations: Float) -> Float:
    """(n, D) without the leading components that many of the images share."""
    count = len(deviations)
    wanted = min(MOST_COMPONENTS, count // IMAGES_A_COMPONENT)
    if wanted == 0:
        return deviations
    covariance = deviations.T.astype(np.float64) @ deviations
    _, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :wanted].astype(np.float32)
    loadings = deviations @ components
    squares = (loadings / (np.linalg.norm(loadings, axis=0) + 1e-12)) ** 2
    spread = 1 / np.maximum((squares**2).sum(axis=0), 1e-12)
    shared = components[:, spread >= SHARED * count]
    return np.asarray(deviations - (deviations @ shared) @ shared.T, np.float32)


def _unit(rows: Float) -> Float:
    """(n, …) to (n, D): centred rows of unit length; what hardly differs from zero becomes zero."""
    flat = rows.reshape(len(rows), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0), np.float32)
