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
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import filelock
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from generalad.errors import StorageError
from generalad.files import atomic_write, cache_folder, make_folder, storage_error, write_json
from generalad.model.backbone import Backbone, normalise
from generalad.model.whitening import Whitening
from generalad.preprocess import read_image, resize
from generalad.progress import Progress
from generalad.spec import RESIZE_RULE
from generalad.training.precision import autocast, feature_dtype
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
        if self.numbers is not None:
            wanted, indices = indices, np.searchsorted(self.numbers, indices)
            assert np.array_equal(self.numbers.take(indices, mode="clip"), wanted)
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
    stage: str = "features",
    drawing: Drawing | None = None,
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
    store = _Store(folder, kind, key, count=count, contents=contents)
    compute = _Compute(
        backbone, paths, image_size, attention, device, batch_size, stage=stage, drawing=drawing
    )
    try:
        with store.locked() if processes.first else contextlib.nullcontext():
            computed = store.fill(compute, progress, processes)
            return store.read(budget, computed)
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

        `read` gives any of the n good images at the network's input size.
        """


def _features(
    arrays: Mapping[str, NDArray[np.float16]], *, in_memory: bool, computed: int
) -> Features:
    return Features(
        arrays["features"],
        arrays.get("attention"),
        in_memory,
        computed,
        shares=arrays.get("shares"),
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
    store = _Store(folder, kind, key, count=len(hashes), contents=hashes)
    done = store.read_state()[0]
    lent = store.lent()
    return done + sum(content in lent for content in hashes[done:])


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
        *,
        stage: str = "features",
        drawing: Drawing | None = None,
    ) -> None:
        self.stage, self.drawing = stage, drawing
        self.backbone, self.paths, self.image_size = backbone, paths, image_size
        self.attention, self.device, self.batch_size = attention, device, batch_size

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's entry in each array."""
        blank = np.zeros((1, *self.image_size, 3), np.uint8)
        shapes = {name: array.shape[1:] for name, array in self(blank).items()}
        return shapes if self.drawing is None else {**shapes, "shares": shapes["features"][:1]}

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
            drawn = [self.drawing(index, self._read) for index in indices]
            batch = [image for image, _ in drawn]
            arrays["shares"][indices] = [self._shares(mask) for _, mask in drawn]
        for name, values in self(np.stack(batch)).items():
            arrays[name][indices] = values

    def _read(self, index: int) -> NDArray[np.uint8]:
        return resize(read_image(self.paths[index]), self.image_size)

    def _shares(self, mask: NDArray[np.float32]) -> NDArray[np.float16]:
        """Mean of a mask (H, W) over each patch, (N,)."""
        rows, columns = self.backbone.grid
        shares = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA)
        return np.asarray(shares, np.float16).reshape(-1)


Row = tuple[Mapping[str, NDArray[np.float16]], int]
"""Arrays of a store, and the number of an image in them."""


class _Store:
    """One folder of the cache: arrays, how many images are done, whose they are, and a lock.

    Args:
        root: of all stores.
        kind: key of all that determines features but the images.
        key: of everything.
        count: images.
        contents: hash of each; None where they do not tell what is computed.
    """

    def __init__(
        self, root: Path, kind: str, key: str, *, count: int, contents: Sequence[str] | None
    ) -> None:
        self.root, self.kind, self.count, self.contents = root, kind, count, contents
        self.folder = root / f"{kind[:16]}-{key}"
        self.state, self.list = self.folder / "state.json", self.folder / "images.txt"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Two runs that need the same features compute them once."""
        make_folder(self.folder)
        try:
            with filelock.FileLock(self.folder / ".lock"):
                yield
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def fill(
        self, compute: _Compute, progress: Progress | None, processes: Processes = ALONE
    ) -> int:
        """Compute what is missing here and elsewhere; returns for how many images."""
        begun = self._begin(compute) if processes.first else None
        done, shapes, known = processes.share(begun)
        if done == self.count:
            return 0
        arrays = {name: self._map(name, shape, "r+") for name, shape in shapes.items()}
        batches = compute.into(arrays, done, progress, known, processes)
        for number, now in enumerate(batches, start=1):
            if number % processes.count and now < self.count:
                continue  # others are still at batches before it
            for array in arrays.values():
                array.flush()
            processes.wait()
            # Written after the data, so that a kill in between costs one batch at most.
            if processes.first:
                write_json(self.state, {"done": now, "shapes": shapes})
        processes.wait()
        return self.count - done - len(known)

    def _begin(self, compute: _Compute) -> tuple[int, dict[str, tuple[int, ...]], frozenset[int]]:
        """Images done, the shapes, and further images that were copied from elsewhere."""
        done, shapes = self.read_state()
        if done == self.count:
            return done, shapes, frozenset()
        if done == 0:
            shapes = compute.shapes()
            self._allocate(shapes)
            if self.contents is not None:
                with atomic_write(self.list) as path:
                    path.write_text("\n".join(self.contents) + "\n")
        arrays = {name: self._map(name, shape, "r+") for name, shape in shapes.items()}
        return done, shapes, self._copy(arrays, done)

    def _copy(self, arrays: Mapping[str, NDArray[np.float16]], start: int) -> frozenset[int]:
        """Take from image `start` on what other stores hold; returns which images these are."""
        lent, known = self.lent(), []
        for index, content in enumerate((self.contents or ())[start:], start=start):
            if content in lent:
                others, row = lent[content]
                for name, array in arrays.items():
                    array[index] = others[name][row]
                known.append(index)
        return frozenset(known)

    def lent(self) -> dict[str, Row]:
        """The images of this store that others hold, by their contents."""
        wanted, found = set(self.contents or ()), dict[str, Row]()
        for folder in sorted(self.root.glob(f"{self.kind[:16]}-*")):
            key = folder.name.partition("-")[2]
            try:
                contents = (folder / self.list.name).read_text().split()
            except (OSError, ValueError):  # none, or damaged
                continue
            other = _Store(self.root, self.kind, key, count=len(contents), contents=contents)
            done, shapes = other.read_state()
            if folder == self.folder or not wanted.intersection(contents[:done]):
                continue
            arrays = {name: other._map(name, shape, "r") for name, shape in shapes.items()}
            for row, content in enumerate(contents[:done]):
                if content in wanted:
                    found.setdefault(content, (arrays, row))
        return found

    def read(self, budget: int, computed: int) -> Features:
        _, shapes = self.read_state()
        maps = {name: self._map(name, shape, "r") for name, shape in shapes.items()}
        if sum(array.nbytes for array in maps.values()) > budget:
            return _features(maps, in_memory=False, computed=computed)
        arrays = {name: np.array(array) for name, array in maps.items()}
        return _features(arrays, in_memory=True, computed=computed)

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
