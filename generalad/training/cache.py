"""Backbone features, computed once.

The backbone is frozen, so the features of an image never change. They are computed in one pass,
kept in half precision in one file for each key, and read by training from memory when they fit a
budget and through a memory map when not. The key covers everything that determines them, so a file
is reused by later runs and never by mistake. A pass that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.errors import StorageError
from generalad.files import cache_folder, make_folder, storage_error, write_json
from generalad.model.backbone import Backbone, normalise
from generalad.model.whitening import Whitening
from generalad.preprocess import read_image, resize
from generalad.progress import Progress
from generalad.spec import RESIZE_RULE
from generalad.training.precision import autocast, feature_dtype

CACHE_VERSION = 2


@dataclass(frozen=True)
class Features:
    """Cached features of n images.

    Attributes:
        values: (n, N, D) float16, in memory or a read-only memory map.
        attention: (n, heads, N) float16, or None where no distortion asked for it.
        in_memory: which of the two it is.
        computed: images whose features were computed by this call; the rest was found on disk.
        whitening: applied to features on their way out, where the configuration asks for it.
        spread: (D,) float32, unit of the noise in each channel; None for 1.
    """

    values: NDArray[np.float16]
    attention: NDArray[np.float16] | None
    in_memory: bool
    computed: int
    whitening: Whitening | None = field(default=None, kw_only=True)
    spread: Tensor | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.values)

    def batch(
        self, indices: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Features (B, N, D) and attention (B, heads, N), float32 on `device`."""
        attention = None
        if self.attention is not None:
            attention = torch.from_numpy(self.attention[indices]).to(device).float()
        features = torch.from_numpy(self.values[indices]).to(device).float()
        return features if self.whitening is None else self.whitening(features), attention


def default_budget() -> int:
    """A quarter of the machine's memory, in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 4 << 30


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
    progress: Progress | None = None,
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
        progress: called with ("features", images done, images).

    Raises:
        DataError: an image cannot be read.
        StorageError: the cache cannot be written and the features do not fit in memory.
    """
    folder = (folder or cache_folder()) / "features"
    budget = default_budget() if budget is None else budget
    key = cache_key(hashes, identity, image_size, attention=attention, device=device)
    store = _Store(folder / key, count=len(paths))
    compute = _Compute(backbone, paths, image_size, attention, device, batch_size)
    try:
        with store.locked():
            computed = store.fill(compute, progress)
            return store.read(budget, computed)
    except StorageError:
        shapes = compute.shapes()
        if len(paths) * sum(2 * int(np.prod(shape)) for shape in shapes.values()) > budget:
            raise
        arrays = {n: np.empty((len(paths), *s), np.float16) for n, s in shapes.items()}
        for _ in compute.into(arrays, 0, progress):
            pass
        return Features(arrays["features"], arrays.get("attention"), True, len(paths))


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
    key = cache_key(hashes, identity, image_size, attention=attention, device=device)
    store = _Store((folder or cache_folder()) / "features" / key, count=len(hashes))
    return store.read_state()[0]


def channel_spread(values: NDArray[np.float16]) -> Tensor:
    """Standard deviation (D,) float32 of features (n, N, D) over all images and patches."""
    count = values.shape[0] * values.shape[1]
    mean = np.zeros(values.shape[2])
    squares = np.zeros(values.shape[2])
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


class _Compute:
    """Runs the backbone over image files in order."""

    def __init__(
        self,
        backbone: Backbone,
        paths: Sequence[Path],
        image_size: tuple[int, int],
        attention: bool,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.backbone, self.paths, self.image_size = backbone, paths, image_size
        self.attention, self.device, self.batch_size = attention, device, batch_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's entry in each array."""
        blank = np.zeros((1, *self.image_size, 3), np.uint8)
        return {name: array.shape[1:] for name, array in self(blank).items()}

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
        """Features, and attention if asked for, of images (B, H, W, 3) uint8 RGB."""
        mean, std = self.backbone.mean, self.backbone.std
        tensor = normalise(torch.from_numpy(images).to(self.device), mean, std)
        with autocast(self.device, feature_dtype(self.device)):
            if not self.attention:
                return {"features": self.backbone(tensor).half().cpu().numpy()}
            features, attention = self.backbone.features_and_attention(tensor)
        return {
            "features": features.half().cpu().numpy(),
            "attention": attention.half().cpu().numpy(),
        }

    def into(
        self, arrays: Mapping[str, NDArray[np.float16]], start: int, progress: Progress | None
    ) -> Iterator[int]:
        """Fill `arrays` from image `start` on; yields the number done after each batch."""
        total = len(self.paths)
        for first in range(start, total, self.batch_size):
            last = min(first + self.batch_size, total)
            batch = [resize(read_image(p), self.image_size) for p in self.paths[first:last]]
            for name, values in self(np.stack(batch)).items():
                arrays[name][first:last] = values
            if progress is not None:
                progress("features", last, total)
            yield last


class _Store:
    """One folder of the cache: arrays, how many images are done, and a lock."""

    def __init__(self, folder: Path, *, count: int) -> None:
        self.folder, self.count = folder, count
        self.state = folder / "state.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Two runs that need the same features compute them once."""
        make_folder(self.folder)
        try:
            with filelock.FileLock(self.folder / ".lock"):
                yield
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def fill(self, compute: _Compute, progress: Progress | None) -> int:
        """Compute what is missing; returns for how many images."""
        done, shapes = self.read_state()
        if done == self.count:
            return 0
        if done == 0:
            shapes = compute.shapes()
            self._allocate(shapes)
        arrays = {name: self._map(name, shape, "r+") for name, shape in shapes.items()}
        for now in compute.into(arrays, done, progress):
            for array in arrays.values():
                array.flush()
            # Written after the data, so that a kill in between costs one batch at most.
            write_json(self.state, {"done": now, "shapes": shapes})
        return self.count - done

    def read(self, budget: int, computed: int) -> Features:
        _, shapes = self.read_state()
        maps = {name: self._map(name, shape, "r") for name, shape in shapes.items()}
        if sum(array.nbytes for array in maps.values()) > budget:
            return Features(maps["features"], maps.get("attention"), False, computed)
        arrays = {name: np.array(array) for name, array in maps.items()}
        return Features(arrays["features"], arrays.get("attention"), True, computed)

    def read_state(self) -> tuple[int, dict[str, tuple[int, ...]]]:
        """Images done, and the shape of one image's entry in each array."""
        try:
            state = json.loads(self.state.read_text())
            shapes = {name: tuple(shape) for name, shape in state["shapes"].items()}
            for name, shape in shapes.items():
                self._map(name, shape, "r")
            if "features" in shapes and 0 <= state["done"] <= self.count:
                return state["done"], shapes
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # nothing yet, or damaged: start over
        return 0, {}

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            path = self._path(name)
            np.lib.format.open_memmap(
                path, mode="w+", dtype=np.float16, shape=(self.count, *shape)
            ).flush()
            if not hasattr(os, "posix_fallocate"):
                continue
            # A memory map into a sparse file dies by a signal when the disk fills up; asking for
            # the blocks now makes it an error instead.
            try:
                with path.open("rb+") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError:
                path.unlink()
                raise

    def _map(
        self, name: str, shape: tuple[int, ...], mode: Any
    ) -> np.memmap[Any, np.dtype[np.float16]]:
        array: np.memmap[Any, np.dtype[np.float16]] = np.lib.format.open_memmap(
            self._path(name), mode=mode
        )
        if array.shape != (self.count, *shape) or array.dtype != np.float16:
            raise ValueError(f"{self._path(name)} holds something else")
        return array

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"
