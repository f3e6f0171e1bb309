"""Features on disk: a folder for each list of images, filled once, resumed, shared by content."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from generalad.files import atomic_write, make_folder, storage_error, write_json
from generalad.progress import Progress
from generalad.training.feature_pass import FeaturePass
from generalad.training.processes import ALONE, Processes

Row = tuple[Mapping[str, NDArray[np.float16]], int]
"""Arrays of a store, and the number of an image in them."""


class FeatureStore:
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
        self, compute: FeaturePass, progress: Progress | None, processes: Processes = ALONE
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

    def _begin(
        self, compute: FeaturePass
    ) -> tuple[int, dict[str, tuple[int, ...]], frozenset[int]]:
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
            other = FeatureStore(self.root, self.kind, key, count=len(contents), contents=contents)
            done, shapes = other.read_state()
            if folder == self.folder or not wanted.intersection(contents[:done]):
                continue
            arrays = {name: other._map(name, shape, "r") for name, shape in shapes.items()}
            for row, content in enumerate(contents[:done]):
                if content in wanted:
                    found.setdefault(content, (arrays, row))
        return found

    def read(self, budget: int) -> tuple[dict[str, NDArray[np.float16]], bool]:
        """All arrays, and whether they were read into memory: if they fit `budget` bytes."""
        _, shapes = self.read_state()
        maps = {name: self._map(name, shape, "r") for name, shape in shapes.items()}
        if sum(array.nbytes for array in maps.values()) > budget:
            return dict(maps), False
        return {name: np.array(array) for name, array in maps.items()}, True

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
