"""The pass of a frozen backbone over image files, batch by batch, into arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from generalad.geometry.counted import counted
from generalad.geometry.geometry import Geometry
from generalad.geometry.outside import filled, marked, outside_of
from generalad.geometry.placement import prepare
from generalad.model.backbone import Backbone, normalise
from generalad.model.places import Places
from generalad.preprocess import read_image
from generalad.progress import Progress
from generalad.training.precision import autocast, feature_dtype
from generalad.training.processes import ALONE, Processes

MOST_KEPT = 256 << 20
"""Bytes of images that are kept while others are drawn from them, again and again."""


class Drawing(Protocol):
    """Draws defects into the images of a dataset."""

    @property
    def count(self) -> int:
        """Images to make."""

    def identity(self) -> dict[str, Any]:
        """Everything that determines what is drawn."""

    def __call__(
        self, index: int, read: Callable[[int], NDArray[np.uint8]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Image number `index` (H, W, 3) uint8 and its mask (H, W), 1 where it was changed.

        `read` gives any of the n good images at the network's input size. Number `index` modulo n
        is the one that is changed.
        """


class FeaturePass:
    """Runs the backbone over image files in order."""

    def __init__(
        self,
        backbone: Backbone,
        paths: Sequence[Path],
        image_size: tuple[int, int],
        attention: bool,
        device: torch.device,
        batch_size: int,
        *,
        stage: str = "features",
        drawing: Drawing | None = None,
        geometry: Geometry | None = None,
        given: NDArray[np.uint8] | None = None,
    ) -> None:
        """The arguments are those of `cached_features`."""
        self.stage, self.drawing = stage, drawing
        self.backbone, self.paths, self.image_size = backbone, paths, image_size
        self.attention, self.device, self.batch_size = attention, device, batch_size
        self.geometry, self.given = geometry, given
        self.kept: dict[int, NDArray[np.uint8]] = {}
        self.marks = geometry is not None and geometry.marks_outside
        places = Places.of_geometry(geometry, image_size, backbone.grid, marked=self.marks)
        self.places = None if places is None else places.to(device)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's entry in each array."""
        blank = np.zeros((1, *self.image_size, 3), np.uint8)
        shapes = {name: array.shape[1:] for name, array in self(blank).items()}
        return shapes if self.drawing is None else {**shapes, "shares": shapes["features"][:1]}

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
        """Features of images (B, H, W, 3) uint8 RGB.

        Also attention if asked for, and which patches count where images tell.
        """
        mean, std = self.backbone.mean, self.backbone.std
        pixels = torch.from_numpy(images).to(self.device)
        tensor, found = normalise(pixels, mean, std), dict[str, torch.Tensor]()
        if self.places is not None:
            inside = self.places.inside(pixels)
            tensor = self.places.blank(tensor, inside)
            shown = self.places.shown(inside)
            if shown is not None:
                found["shown"] = shown
        with autocast(self.device, feature_dtype(self.device)):
            if self.attention:
                found["features"], found["attention"] = self.backbone.features_and_attention(tensor)
            else:
                found["features"] = self.backbone(tensor)
        return {name: value.half().cpu().numpy() for name, value in found.items()}

    def into(
        self,
        arrays: Mapping[str, NDArray[np.float16]],
        start: int,
        progress: Progress | None,
        known: Collection[int] = (),
        processes: Processes = ALONE,
    ) -> Iterator[int]:
        """Fill `arrays` from image `start` on, but for the `known` ones, in turn with others.

        Yields the number done after each batch, also one of another process.
        """
        total = len(self.paths) if self.drawing is None else self.drawing.count
        for number, first in enumerate(range(start, total, self.batch_size)):
            last = min(first + self.batch_size, total)
            if number % processes.count == processes.rank:
                self._batch(arrays, [index for index in range(first, last) if index not in known])
            if progress is not None:
                progress(self.stage, last, total)
            yield last

    def _batch(self, arrays: Mapping[str, NDArray[np.float16]], indices: list[int]) -> None:
        if not indices:
            return
        if self.drawing is None:
            batch = [self._read(index) for index in indices]
        else:
            drawn = [self._drawn(index) for index in indices]
            batch = [image for image, _ in drawn]
            arrays["shares"][indices] = [self._shares(mask) for _, mask in drawn]
        for name, values in self(np.stack(batch)).items():
            arrays[name][indices] = values

    def _drawn(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        assert self.drawing is not None
        if not self.marks:
            return self.drawing(index, self._read)
        outside = outside_of(self._read(index % len(self.paths)))
        image, mask = self.drawing(index, lambda number: filled(self._read(number)))
        return marked(image, outside), mask * ~outside

    def _read(self, index: int) -> NDArray[np.uint8]:
        if self.given is not None:
            return np.asarray(self.given[index], np.uint8)
        if index in self.kept:
            return self.kept[index]
        image = prepare(read_image(self.paths[index]), self.image_size, self.geometry).pixels
        if self.drawing is not None and len(self.kept) * image.nbytes < MOST_KEPT:
            self.kept[index] = image
        return image

    def _shares(self, mask: NDArray[np.float32]) -> NDArray[np.float16]:
        """Mean of a mask (H, W) over each patch, (N,)."""
        places = counted(self.geometry, self.image_size)
        if places is not None:
            mask = mask * places
        rows, columns = self.backbone.grid
        shares = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA)
        return np.asarray(shares, np.float16).reshape(-1)
