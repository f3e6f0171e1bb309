"""Backbone features, computed once.

The backbone is frozen, so the features of an image never change. They are computed in one pass,
kept in half precision in one file for each key, and read by training from memory when they fit a
budget and through a memory map when not. The key covers everything that determines them, so a file
is reused by later runs and never by mistake. A pass that was interrupted goes on where it stopped.

Each list of images has a folder of its own. Images that another list holds as well, told by their
content, are copied from there: the classes of a data set share the passes, not the space on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.errors import StorageError
from generalad.files import cache_folder
from generalad.geometry.geometry import Geometry
from generalad.model.backbone import Backbone
from generalad.model.whitening import Whitening
from generalad.processor import memory
from generalad.progress import Progress
from generalad.spec import RESIZE_RULE
from generalad.training.feature_pass import Drawing, FeaturePass
from generalad.training.feature_store import FeatureStore
from generalad.training.precision import feature_dtype
from generalad.training.processes import ALONE, Processes

CACHE_VERSION = 2


@dataclass(frozen=True)
class Features:
    """Cached features of n images.

    Attributes:
        values: (n, N, D) float16, in memory or a read-only memory map.
        attention: (n, heads, N) float16, or None where no distortion asked for it.
        in_memory: which of the two it is.
        computed: images whose features were computed by this call; the rest was found on disk.
        shares: (n, N) float16, how much of each patch a drawn defect changed, 0...1; else None.
        shown: (n, N) bool, which patches of each image count; None where the same do in all.
        whitening: applied to features on their way out, where the configuration asks for it.
        spread: (D,) float32, unit of the noise in each channel; None for 1.
        numbers: (n,) which of the training images these are, rising; None where they are all.
        count: of all training images, where `numbers` is given.
    """

    values: NDArray[np.float16]
    attention: NDArray[np.float16] | None
    in_memory: bool
    computed: int
    shares: NDArray[np.float16] | None = field(default=None, kw_only=True)
    shown: NDArray[np.bool_] | None = field(default=None, kw_only=True)
    whitening: Whitening | None = field(default=None, kw_only=True)
    spread: Tensor | None = field(default=None, kw_only=True)
    numbers: NDArray[np.int64] | None = field(default=None, kw_only=True)
    count: int = field(default=0, kw_only=True)

    def __len__(self) -> int:
        """Of the training images, also of those whose features no epoch asks for."""
        return len(self.values) if self.numbers is None else self.count

    def batch(
        self, indices: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Features (B, N, D) and attention (B, heads, N), float32 on `device`.

        `indices` count all training images.
        """
        indices = self._rows(indices)
        attention = None
        if self.attention is not None:
            attention = torch.from_numpy(self.attention[indices]).to(device).float()
        features = torch.from_numpy(self.values[indices]).to(device).float()
        return features if self.whitening is None else self.whitening(features), attention

    def some(self, which: NDArray[np.bool_]) -> Features:
        """The images that a mask (n,) names, of features of all images."""
        return dataclasses.replace(
            self,
            values=self.values[which],
            shares=None if self.shares is None else self.shares[which],
            shown=None if self.shown is None else self.shown[which],
        )

    def batch_shown(self, indices: NDArray[np.int64], device: torch.device) -> Tensor | None:
        """Which patches of a batch count, (B, N) bool; None where the same do in all images."""
        if self.shown is None:
            return None
        return torch.from_numpy(self.shown[self._rows(indices)]).to(device)

    def _rows(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.numbers is None:
            return indices
        rows = np.searchsorted(self.numbers, indices)
        assert np.array_equal(self.numbers.take(rows, mode="clip"), indices)
        return rows


def default_budget() -> int:
    """A quarter of the machine's memory, in bytes."""
    there = memory()
    return 4 << 30 if there is None else there // 4


def cached_features(
    paths: Sequence[Path],
    hashes: Sequence[str],
    backbone: Backbone,
    *,
    identity: dict[str, Any],
    image_size: tuple[int, int],
    attention: bool,
    device: torch.device,
    folder: Path | None = None,
    budget: int | None = None,
    batch_size: int = 16,
    stage: str = "features",
    drawing: Drawing | None = None,
    geometry: Geometry | None = None,
    given: NDArray[np.uint8] | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Features:
    """Features of the images at `paths`, from the cache or computed now.

    Args:
        paths: n image files.
        hashes: SHA-256 of each file's content, part of the key.
        backbone: on `device`.
        identity: what identifies the backbone: name, layers, pool size, hash of the weights, mean
            and std of its input.
        image_size: (height, width) that images are resized to.
        attention: whether attention maps are needed.
        device: where to compute.
        folder: of the cache; default `cache_folder()`.
        budget: bytes that may be kept in memory; default `default_budget()`.
        batch_size: images a forward pass.
        stage: what progress is reported under.
        drawing: draws defects into the images; the features then are of these.
        geometry: what of a frame is judged; `identity` must tell it, too.
        given: the n images (n, H, W, 3) uint8 RGB, where they are not those at `paths`.
        progress: called with (stage, images done, images).
        processes: each computes its share, all on one machine; there must be room on its disk.

    Raises:
        DataError: an image cannot be read.
        StorageError: the cache cannot be written and the features do not fit in memory.
    """
    folder = (folder or cache_folder()) / "features"
    budget = default_budget() if budget is None else budget
    if drawing is not None:
        identity = {**identity, "drawing": drawing.identity()}
    count = len(paths) if drawing is None else drawing.count
    key = cache_key(hashes, identity, image_size, attention=attention, device=device)
    # What is drawn depends on all images, so drawn ones are not told by the content of a file.
    contents = hashes if drawing is None else None
    kind = cache_key([], identity, image_size, attention=attention, device=device)
    store = FeatureStore(folder, kind, key, count=count, contents=contents)
    compute = FeaturePass(
        backbone,
        paths,
        image_size,
        attention,
        device,
        batch_size,
        stage=stage,
        drawing=drawing,
        geometry=geometry,
        given=given,
    )
    try:
        with store.locked() if processes.first else contextlib.nullcontext():
            computed = store.fill(compute, progress, processes)
            found, in_memory = store.read(budget)
            return _features(found, in_memory=in_memory, computed=computed)
    except StorageError:
        if processes.count > 1:
            raise
        shapes = compute.shapes()
        if count * sum(2 * int(np.prod(shape)) for shape in shapes.values()) > budget:
            raise
        arrays = {n: np.empty((count, *s), np.float16) for n, s in shapes.items()}
        for _ in compute.into(arrays, 0, progress):
            pass
        return _features(arrays, in_memory=True, computed=count)


def _features(
    arrays: Mapping[str, NDArray[np.float16]], *, in_memory: bool, computed: int
) -> Features:
    shown = arrays.get("shown")
    return Features(
        arrays["features"],
        arrays.get("attention"),
        in_memory,
        computed,
        shares=arrays.get("shares"),
        shown=None if shown is None else np.asarray(shown) > 0.5,
    )


def count_cached(
    hashes: Sequence[str],
    identity: dict[str, Any],
    image_size: tuple[int, int],
    *,
    attention: bool,
    device: torch.device,
    folder: Path | None = None,
) -> int:
    """How many images `cached_features` would not have to compute, its arguments given."""
    kind, key = (
        cache_key(part, identity, image_size, attention=attention, device=device)
        for part in ([], hashes)
    )
    folder = (folder or cache_folder()) / "features"
    store = FeatureStore(folder, kind, key, count=len(hashes), contents=hashes)
    done = store.read_state()[0]
    lent = store.lent()
    return done + sum(content in lent for content in hashes[done:])


def channel_spread(values: Sequence[NDArray[np.floating[Any]]]) -> Tensor:
    """Standard deviation (D,) float32 of features, (m, D) of each image, over all patches."""
    count, dim = sum(map(len, values)), values[0].shape[-1]
    mean = np.zeros(dim)
    squares = np.zeros(dim)
    first = values[0].mean(axis=0, dtype=np.float64)  # sums of squares far from 0 lose digits
    for image in values:
        centred = image - first
        mean += centred.sum(axis=0)
        squares += np.square(centred).sum(axis=0)
    variance = squares / count - np.square(mean / count)
    return torch.from_numpy(np.sqrt(variance.clip(min=0))).float()


def cache_key(
    hashes: Sequence[str],
    identity: dict[str, Any],
    image_size: tuple[int, int],
    *,
    attention: bool,
    device: torch.device,
) -> str:
    """Hash of everything that determines the features."""
    parts = {
        "version": CACHE_VERSION,
        "images": list(hashes),
        "backbone": identity,
        "image_size": list(image_size),
        "resize": RESIZE_RULE,
        "attention": attention,
        "compute": [device.type, str(feature_dtype(device))],
        "libraries": [torch.__version__, timm.__version__, np.__version__],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
