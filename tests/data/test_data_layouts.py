"""The layouts that open_dataset knows, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from generalad.data.dataset import Dataset, Sample, load_masks, open_dataset, without
from generalad.errors import DataError

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put("a/b.png")`: write a small image of its own content below tmp_path."""
    number = 0

    def write(name: str) -> Path:
        nonlocal number
        number += 1
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.full((6, 8), number, np.uint8))[1].tobytes())
        return path

    return write


def names(samples: Iterable[Sample], root: Path) -> list[str]:
    return [sample.path.relative_to(root).as_posix() for sample in samples]


def masks_of(dataset: Dataset) -> dict[str, list[str]]:
    return {
        sample.path.relative_to(dataset.root).as_posix(): [
            mask.relative_to(dataset.root).as_posix() for mask in sample.masks
        ]
        for sample in dataset.test
        if sample.defective
    }


# --- class folder ---


def test_class_folder(put: Put, tmp_path: Path) -> None:
    root = tmp_path / "data" / "testers" / "train" / "bottle"
    base = "data/testers/train/bottle"
    for name in ("train/good/b.png", "train/good/a.PNG", "train/good/a10.png", "train/good/a2.png"):
        put(f"{base}/{name}")
    for name in ("test/good/000.png", "test/cut/000.png", "test/cut/001.png", "test/Good/x.png"):
        put(f"{base}/{name}")
    put(f"{base}/ground_truth/cut/000_mask.png")
    put(f"{base}/ground_truth/cut/777_mask.png")
    (root / "license.txt").touch()
    dataset = open_dataset(root)
    assert (dataset.name, dataset.layout) == ("bottle", "class folder")
    assert names(dataset.train, root / "train/good") == ["a.PNG", "a10.png", "a2.png", "b.png"]
    assert dataset.calibration == ()
    labels = [(sample.path.relative_to(root).as_posix(), sample.label) for sample in dataset.test]
    assert labels == [
        ("test/Good/x.png", "good"),
        ("test/cut/000.png", "cut"),
        ("test/cut/001.png", "cut"),
        ("test/good/000.png", "good"),
    ]
    assert masks_of(dataset) == {
        "test/cut/000.png": ["ground_truth/cut/000_mask.png"],
        "test/cut/001.png": [],
    }
    assert dataset.stray_masks == (root / "ground_truth/cut/777_mask.png",)
    assert dataset.ignored == (root / "license.txt",)


def test_loco_masks_in_folders_and_given_calibration(put: Put, tmp_path: Path) -> None:
    for name in (
        *("train/good/000.png", "validation/good/001.png", "test/logical_anomalies/000.png"),
        *(
            "ground_truth/logical_anomalies/000/000.png",
            "ground_truth/logical_anomalies/000/001.png",
        ),
    ):
        put(name)
    dataset = open_dataset(tmp_path)
    assert names(dataset.calibration, tmp_path) == ["validation/good/001.png"]
    assert masks_of(dataset) == {
        "test/logical_anomalies/000.png": [
            "ground_truth/logical_anomalies/000/000.png",
            "ground_truth/logical_anomalies/000/001.png",
        ]
    }
    assert dataset.stray_masks == ()


def test_the_parent_of_one_class_is_not_several(put: Put, tmp_path: Path) -> None:
    put("bottle/train/good/a.png")
    with pytest.raises(DataError, match="is not a class but holds one, bottle"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, "bottle").train


def test_images_outside_the_class_layout_are_named(put: Put, tmp_path: Path) -> None:
    put("train/good/a.png")
    outside = [put("test/loose.png"), put("train/extra/a.png"), put("z.png")]
    assert open_dataset(tmp_path).ignored == tuple(outside)


def test_the_parent_of_classes_names_them(put: Put, tmp_path: Path) -> None:
    put("bottle/train/good/a.png")
    put("cable/train/good/a.png")
    with pytest.raises(DataError) as raised:
        open_dataset(tmp_path)
    assert "several classes" in raised.value.message
    assert "--class bottle" in raised.value.remedy
    assert "bottle, cable" in raised.value.remedy


def test_train_without_good_is_refused(put: Put, tmp_path: Path) -> None:
    put("train/ok/a.png")
    with pytest.raises(DataError, match="no train/good"):
        open_dataset(tmp_path)


def test_empty_train_good_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="no images"):
        open_dataset(tmp_path)


# --- plain folder ---


def test_plain_folder_of_good_images(put: Put, tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "monday/x.png", "monday/shift 2/y.png", ".hidden.png"):
        put(name)
    put(".cache/z.png")
    (tmp_path / "notes.txt").touch()
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "plain folder"
    assert names(dataset.train, tmp_path) == [
        *("a.png", "b.png", "monday/shift 2/y.png", "monday/x.png")
    ]
    assert dataset.test == ()
    assert dataset.ignored == (tmp_path / "notes.txt",)


def test_plain_folder_with_defects_and_masks(put: Put, tmp_path: Path) -> None:
    for number in range(50):
        put(f"good/{number:02}.png")
    for name in ("bad/x.png", "bad/y.png", "bad/dent/x.png", "masks/x.png", "masks/y_mask.png"):
        put(name)
    put("masks/dent/x.png")
    put("masks/w.png")
    dataset = open_dataset(tmp_path)
    held_out = [sample for sample in dataset.test if not sample.defective]
    assert len(dataset.train) + len(held_out) == 50
    assert 3 <= len(held_out) <= 20
    assert [sample.label for sample in dataset.test[:3]] == ["dent", "bad", "bad"]
    assert masks_of(dataset) == {
        "bad/dent/x.png": ["masks/dent/x.png"],
        "bad/x.png": ["masks/x.png"],
        "bad/y.png": ["masks/y_mask.png"],
    }
    assert dataset.stray_masks == (tmp_path / "masks/w.png",)


def test_good_images_may_lie_beside_bad(put: Put, tmp_path: Path) -> None:
    for number in range(9):
        put(f"{number}.png")
    put("Bad/x.png")
    dataset = open_dataset(tmp_path)
    assert {sample.label for sample in dataset.train} == {"good"}
    assert [sample.path.name for sample in dataset.test if sample.defective] == ["x.png"]


def test_the_held_out_images_stay_when_files_are_added_or_renamed(put: Put, tmp_path: Path) -> None:
    def held_out() -> set[bytes]:
        return {s.path.read_bytes() for s in open_dataset(tmp_path).test if not s.defective}

    put("bad/x.png")
    for number in range(40):
        put(f"good/{number}.png")
    before = held_out()
    (tmp_path / "good/7.png").rename(tmp_path / "good/renamed.png")
    assert held_out() == before
    everything = {path.read_bytes() for path in (tmp_path / "good").iterdir()}
    for number in range(20):
        put(f"good/new {number}.png")
    assert held_out() & everything == before


@pytest.mark.parametrize("good", range(2, 12))
def test_few_good_images_still_reach_both_sides(put: Put, tmp_path: Path, good: int) -> None:
    for number in range(good):
        put(f"good/{number}.png")
    put("bad/x.png")
    dataset = open_dataset(tmp_path)
    assert dataset.train
    assert any(not sample.defective for sample in dataset.test)


def test_a_single_good_image_is_trained_on(put: Put, tmp_path: Path) -> None:
    put("good/a.png")
    put("bad/x.png")
    assert names(open_dataset(tmp_path).train, tmp_path) == ["good/a.png"]


def test_images_beside_good_are_refused(put: Put, tmp_path: Path) -> None:
    put("good/a.png")
    put("scratch/a.png")
    with pytest.raises(DataError, match="images beside good/, in scratch"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("folder", ["Data/Images/Anomaly", "NOK", "monday/bad", "ground_truth"])
def test_a_folder_that_sounds_defective_is_not_trained_on(
    put: Put, tmp_path: Path, folder: str
) -> None:
    put("a.png")
    put(f"{folder}/b.png")
    with pytest.raises(DataError, match="a word for defects or masks"):
        open_dataset(tmp_path)


def test_what_is_no_dataset(tmp_path: Path, put: Put) -> None:
    with pytest.raises(DataError, match="no good images"):
        open_dataset(tmp_path)
    put("bad/x.png")
    with pytest.raises(DataError, match="no good images"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no \.csv") as raised:
        open_dataset(tmp_path / "bad/x.png")
    for layout in ("good/", "bad/", "masks/", "train/good", "path,label"):
        assert layout in raised.value.remedy


# --- links and odd entries ---


def test_links_are_followed_but_not_in_circles(put: Put, tmp_path: Path) -> None:
    put("real/a.png")
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "root/linked")
    os.symlink(tmp_path / "root", tmp_path / "root/linked-up")
    os.symlink(tmp_path / "root/self", tmp_path / "root/self")
    os.symlink(tmp_path / "real", tmp_path / "real/circle")
    assert names(open_dataset(tmp_path / "root").train, tmp_path) == ["root/linked/a.png"]


def test_a_dangling_link_is_not_lost(put: Put, tmp_path: Path) -> None:
    put("a.png")
    os.symlink(tmp_path / "gone.png", tmp_path / "b.png")
    assert names(open_dataset(tmp_path).train, tmp_path) == ["a.png", "b.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_read(put: Put, tmp_path: Path) -> None:
    put("good/a.png")
    put("bad/b.png")
    os.mkfifo(tmp_path / "good/pipe.png")
    assert open_dataset(tmp_path).ignored == (tmp_path / "good/pipe.png",)


def test_a_relative_path_has_a_name(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("parts/a.png")
    monkeypatch.chdir(tmp_path / "parts")
    dataset = open_dataset(".")
    assert dataset.name == "parts"
    assert names(dataset.train, Path()) == ["a.png"]


# --- table ---


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "parts.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.fixture
def three(put: Put) -> None:
    for name in ("b.png", "sub/a.png", "c.png", "m.png"):
        put(name)


@pytest.mark.usefixtures("three")
def test_table_with_splits(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "path,label,split,mask\nb.png,good,train,\nsub/a.png,Good,calibration,\n"
        "c.png,dent,test,m.png\n",
    )
    dataset = open_dataset(path)
    assert (dataset.name, dataset.layout, dataset.root) == ("parts", "table", tmp_path)
    assert names(dataset.train, tmp_path) == ["b.png"]
    assert names(dataset.calibration, tmp_path) == ["sub/a.png"]
    assert dataset.test == (Sample(tmp_path / "c.png", "dent", (tmp_path / "m.png",)),)


@pytest.mark.usefixtures("three")
def test_table_without_splits_holds_good_images_out(tmp_path: Path) -> None:
    dataset = open_dataset(table(tmp_path, "label,path\ngood,sub/a.png\ngood,b.png\ndent,c.png\n"))
    assert len(dataset.train) == 1
    assert sorted(sample.label for sample in dataset.test) == ["dent", "good"]
    good = open_dataset(table(tmp_path, "label,path\ngood,sub/a.png\n\ngood,b.png\n"))
    assert names(good.train, tmp_path) == ["b.png", "sub/a.png"]


@pytest.mark.usefixtures("three")
def test_table_from_a_spreadsheet(tmp_path: Path) -> None:
    text = 'Path; Label\r\n"b.png";good\r\nc.png;good\r\n'
    dataset = open_dataset(table(tmp_path, text, encoding="utf-8-sig"))
    assert names(dataset.train, tmp_path) == ["b.png", "c.png"]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line holds nothing"),
        ("path\nb.png\n", "first line holds path"),
        ("path,label,labels\nb.png,good,x\n", "first line holds path, label, labels"),
        ("path,label,label\nb.png,good,x\n", "first line"),
        ("path,label\nb.png\n", "line 2: 1 values, expected 2"),
        ("path,label\nb.png,good,x\n", "line 2: 3 values, expected 2"),
        ("path,label\nb.png,good\nc.png,\n", "line 3: the label is empty"),
        ("path,label\n,good\n", "line 2: the path is empty"),
        ("path,label,split\nb.png,good,\n", "line 2: the split is empty"),
        ("path,label,split\nb.png,good,val\n", "line 2: unknown split 'val'"),
        ("path,label,split\nb.png,dent,train\n", "labelled 'dent' in train"),
        ("path,label\nx.png,good\n", "line 2: .*x.png: no such file"),
        ("path,label,mask\nb.png,good,x.png\n", "line 2: .*x.png: no such file"),
        ("path,label\nb.png,good\nb.png,good\n", "line 3: b.png stands in line 2, too"),
        ("path,label\nb.png,OK\n", "no image to train on"),
        ("path,label,split\nb.png,good,test\n", "no image to train on"),
        ('path,label\nb.png,"good\n', "line 2"),
    ],
)
def test_table_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(table(tmp_path, text))


def test_table_in_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*parts\.csv"):
        open_dataset(table(tmp_path, "path,label\nü.png,good\n", encoding="latin-1"))


# --- masks, and a dataset without some files ---


def test_masks_are_united(put: Put, tmp_path: Path) -> None:
    parts = []
    for number in range(2):
        mask = np.zeros((6, 8), np.uint8)
        mask[number, 1] = 1
        parts.append(tmp_path / f"{number}.png")
        parts[-1].write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    united = load_masks(Sample(put("x.png"), "dent", tuple(parts)), (6, 8))
    assert united.dtype == np.bool_
    assert np.argwhere(united).tolist() == [[0, 1], [1, 1]]
    with pytest.raises(DataError, match="8x6 pixels, its image 6x8"):
        load_masks(Sample(tmp_path / "x.png", "dent", tuple(parts)), (8, 6))


def test_masks_that_are_not_known(tmp_path: Path) -> None:
    assert not load_masks(Sample(tmp_path / "x.png", "good"), (6, 8)).any()
    with pytest.raises(DataError, match="no mask is known"):
        load_masks(Sample(tmp_path / "x.png", "dent"), (6, 8))


def test_without(tmp_path: Path) -> None:
    a, b, c, first, second = (tmp_path / name for name in ("a", "b", "c", "m1", "m2"))
    dataset = Dataset(
        *("parts", tmp_path, "table", (Sample(a, "good"), Sample(b, "good")), ()),
        test=(Sample(c, "dent", (first, second)),),
    )
    assert without(dataset, ()) == dataset
    fewer = without(dataset, [a, second])
    assert fewer.train == (Sample(b, "good"),)
    assert fewer.test == (Sample(c, "dent"),)
    assert without(dataset, [c]).test == ()
    with pytest.raises(DataError, match="no usable training image"):
        without(dataset, [a, b])
