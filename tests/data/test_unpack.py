"""Data sets of arrays become folders of PNG files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_trees import cifar, fashion_mnist

from generalad.data.check import check_dataset
from generalad.data.dataset import open_dataset
from generalad.data.public_sets import public_set
from generalad.errors import DataError, UsageError
from generalad.preprocess import read_image
from generalad.unpack import RECORD_FILE, unpack


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small files cannot have the MD5 sums that torchvision expects of CIFAR."""
    from torchvision import datasets

    for kind in (datasets.CIFAR10, datasets.CIFAR100):
        for name in ("train_list", "test_list"):
            files = [[file, None] for file, _ in getattr(kind, name)]
            monkeypatch.setattr(kind, name, files)
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})


def cifar_10(folder: Path) -> Path:
    return cifar(folder, coarse=False)


def cifar_100(folder: Path) -> Path:
    return cifar(folder, coarse=True)


SETS: dict[str, tuple[Callable[[Path], Path], int, int]] = {
    "cifar-10": (cifar_10, 50, 20),
    "cifar-100": (cifar_100, 200, 100),
    "fashion-mnist": (fashion_mnist, 30, 20),
}


@pytest.mark.parametrize("key", SETS)
def test_a_set_becomes_a_class_tree_without_loss(key: str, tmp_path: Path) -> None:
    make, train, test = SETS[key]
    root = make(tmp_path / "original")
    steps: list[tuple[str, int, int]] = []
    done = unpack(key, root, tmp_path / "out", progress=lambda *step: steps.append(step))
    assert (done.images, done.written) == (train + test, train + test)
    assert steps[-1] == ("unpacking", train + test, train + test)
    classes = tuple(public_set(key).images)
    assert done.classes == classes
    dataset = open_dataset(tmp_path / "out", classes[3])
    assert len(dataset.train) == train // len(classes)
    assert len(dataset.test) == test
    assert check_dataset(dataset).errors == ()
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == sorted(classes)

    from torchvision import datasets

    kind: Any = getattr(datasets, {"c": key.upper().replace("-", "")}.get(key[0], "FashionMNIST"))
    original = kind(str(root), train=True, download=False)
    for sample in dataset.train:
        image = np.asarray(original[int(sample.path.stem)][0].convert("RGB"))
        np.testing.assert_array_equal(read_image(sample.path), image)


def test_coarse_classes_hold_their_fine_ones(tmp_path: Path) -> None:
    unpack("cifar-100", cifar_100(tmp_path / "original"), tmp_path / "out")
    fine = sorted(name for names in public_set("cifar-100").groups.values() for name in names)
    for path in (tmp_path / "out/train").glob("*/*.png"):
        assert fine[int(path.stem) % 100] in public_set("cifar-100").groups[path.parent.name]


def test_unpacking_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    root, out = cifar_10(tmp_path / "original"), tmp_path / "out"

    def stop(stage: str, done: int, total: int) -> None:
        if done == 33:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack("cifar-10", root, out, progress=stop)
    assert not (out / RECORD_FILE).exists()
    cut_off = next(iter(sorted((out / "train").rglob("*.png"))))
    cut_off.write_bytes(cut_off.read_bytes()[:-9])  # as after a power failure
    assert unpack("cifar-10", root, out).written == 70 - 33 + 1
    again = unpack("cifar-10", root, out)
    assert (again.images, again.written) == (70, 0)
    straight = unpack("cifar-10", root, tmp_path / "straight")
    records = [json.loads((one.folder / RECORD_FILE).read_text()) for one in (again, straight)]
    assert records[0] == records[1]
    assert records[0]["images"] == 70
    for path in (out / "train").rglob("*.png"):
        other = tmp_path / "straight" / path.relative_to(out)
        assert path.read_bytes() == other.read_bytes()


def test_an_inner_folder_is_found_too(tmp_path: Path) -> None:
    root = cifar_10(tmp_path / "original")
    assert unpack("cifar-10", root / "cifar-10-batches-py", tmp_path / "out").images == 70


def test_missing_and_changed_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cifar_10(tmp_path / "original")
    with pytest.raises(DataError, match="no CIFAR-100") as raised:
        unpack("cifar-100", root, tmp_path / "out")
    assert "www.cs.toronto.edu" in raised.value.remedy
    (root / "cifar-10-batches-py/data_batch_3").unlink()
    with pytest.raises(DataError, match="missing or changed"):
        unpack("cifar-10", root, tmp_path / "out")
    from torchvision import datasets

    whole = cifar_10(tmp_path / "whole")
    files = [[file, "0" * 32] for file, _ in datasets.CIFAR10.train_list]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", files)
    with pytest.raises(DataError, match="missing or changed"):
        unpack("cifar-10", whole, tmp_path / "out")
    raw = fashion_mnist(tmp_path / "fashion") / "FashionMNIST/raw"
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DataError, match="cannot be read"):
        unpack("fashion-mnist", tmp_path / "fashion", tmp_path / "out")


def test_a_folder_of_another_set_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpack("cifar-10", cifar_10(tmp_path / "a"), out)
    with pytest.raises(UsageError, match="not of this data set"):
        unpack("fashion-mnist", fashion_mnist(tmp_path / "b"), out)
    with pytest.raises(UsageError, match="no data set 'cifar'"):
        unpack("cifar", tmp_path, out)
