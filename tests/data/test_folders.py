"""Which files of a folder are looked at, and good images in folders that say otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from generalad.data.dataset import open_dataset
from generalad.errors import DataError
from generalad.folder_names import is_defect_name, is_good_name
from generalad.listing import list_files
from generalad.runtime.addresses import open_sources

Put = Callable[[str], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put("a/b.png")` writes an image that no other equals."""
    rng = np.random.default_rng(0)

    def write(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (24, 32, 3), np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
        return path

    return write


def read_by_infer(folder: Path) -> list[str]:
    [source] = open_sources([str(folder)])
    return [frame.name for frame in source]


@pytest.mark.parametrize(
    "folder",
    ["__MACOSX", "@eaDir/a.png", "#recycle", "$RECYCLE.BIN", "lost+found", ".cache", "a/@Recycle"],
)
def test_what_systems_put_into_folders_is_not_looked_at(
    put: Put, tmp_path: Path, folder: str
) -> None:
    put("a.png")
    put(f"{folder}/thumb.png")
    assert [path.as_posix() for path in list_files(tmp_path).images] == ["a.png"]
    assert read_by_infer(tmp_path) == ["a.png"]
    [source] = open_sources([f"{tmp_path}/**/*.png"])
    assert [frame.name for frame in source] == ["a.png"]
    assert len(open_dataset(tmp_path).train) == 1


def test_linked_folders_are_read_by_all_but_not_in_circles(put: Put, tmp_path: Path) -> None:
    put("pool/a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/linked").symlink_to("../pool")
    (tmp_path / "pool/back").symlink_to("..")
    assert read_by_infer(tmp_path / "set")[0] == "linked/a.png"
    assert len(open_dataset(tmp_path / "set", all_good=True).train) == len(
        read_by_infer(tmp_path / "set")
    )


def test_folders_that_all_link_to_each_other_have_an_end(put: Put, tmp_path: Path) -> None:
    for one in range(8):
        put(f"{one}/a.png")
        for other in range(8):
            (tmp_path / f"{one}/to{other}").symlink_to(f"../{other}")
    with pytest.raises(DataError, match="more than 100 links lead to this folder"):
        list_files(tmp_path)


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (["good/a.png", "good/scratch/b.png"], "good/scratch"),
        (["train/good/a.png", "train/good/NG1/b.png"], "train/good/NG1"),
        (["train/good/a.png", "validation/good/rust/b.png"], "validation/good/rust"),
        (["NOK 2/a.png", "NOK 2/b.png"], "NOK 2"),
    ],
)
def test_good_images_in_a_folder_of_defects(
    put: Put, tmp_path: Path, images: list[str], named: str
) -> None:
    for name in images:
        put(name)
    with pytest.raises(DataError) as raised:
        open_dataset(tmp_path)
    assert raised.value.message.startswith(f"{tmp_path / named}: its name has a word for defects")
    assert "--all-good" in raised.value.remedy
    assert open_dataset(tmp_path, all_good=True).train


def test_the_folder_that_is_given_may_be_one_of_defects(put: Put, tmp_path: Path) -> None:
    put("part/test/rust/a.png")
    put("rust free/a.png")
    with pytest.raises(DataError, match="rust: its name has a word for defects"):
        open_dataset(tmp_path / "part/test/rust")
    assert open_dataset(tmp_path / "rust free").train


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("test/good/scratch/c.png", "test/good/scratch: lies among the good images"),
        ("test/scratch/ok/c.png", "test/scratch/ok: lies among the defective images"),
    ],
)
def test_test_images_in_a_folder_that_says_the_opposite(
    put: Put, tmp_path: Path, image: str, message: str
) -> None:
    put("train/good/a.png")
    put("test/good/b.png")
    put(image)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("train/good/{n}.png", "train/good/NG_{n}.png", "called by a word for defects"),
        ("OK_{n}.png", "pit_{n}.png", "called by a word for good"),
        ("{n}.png", "{n}_thumbnail.png", "made of others"),
    ],
)
def test_names_of_which_only_some_say_something(
    put: Put, tmp_path: Path, one: str, other: str, message: str
) -> None:
    for number in range(2):
        put(one.format(n=number))
        put(other.format(n=number))
    with pytest.raises(DataError, match=f"2 of 4 images are .*{message}"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["良品画像", "正常データ", "合格品写真", "無欠陥品", "OK1", "perfekt"]
)
def test_more_words_for_good(name: str) -> None:
    assert is_good_name(name) and not is_defect_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "不良品画像",
        "NG品",
        "不合格品",
        "欠陥あり",
        "划痕图片",
        "ano",
        "nicht i.O.",
        "kaputt",
        "scarti",
    ],
)
def test_more_words_for_defects(name: str) -> None:
    assert is_defect_name(name) and not is_good_name(name)
