"""What the check of a dataset finds, each fault planted on its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from generalad.data.check import (
    TO_TRAINING,
    CheckReport,
    Problem,
    check_dataset,
    fingerprint_of,
    render_problems,
)
from generalad.data.dataset import open_dataset, without

SIZE = (12, 16)


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def colourful(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def mask(size: tuple[int, int] = SIZE, value: int = 255) -> np.ndarray:
    pixels = np.zeros(size, np.uint8)
    pixels[1:3, 1:4] = value
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A class folder without any problem: 4 + 2 good images, 2 defective ones with masks."""
    root = tmp_path / "part"
    for number in range(4):
        write(root / f"train/good/{number}.png", colourful(number))
    for number in range(2):
        write(root / f"test/good/{number}.png", colourful(10 + number))
        write(root / f"test/dent/{number}.png", colourful(20 + number))
        write(root / f"ground_truth/dent/{number}_mask.png", mask())
    return root


def only_problem(root: Path) -> Problem:
    [problem] = check_dataset(open_dataset(root)).problems
    assert problem.remedy
    return problem


def test_a_sound_dataset(root: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = check_dataset(open_dataset(root), progress=lambda *done: calls.append(done))
    assert report.problems == report.errors == ()
    assert report.unusable == ()
    assert calls == [("check", number, 10) for number in range(1, 11)]
    assert report.counts == {
        "train": 4,
        "calibration": 0,
        "test good": 2,
        "test defective": 2,
        "masks": 2,
        "ignored": 0,
    }
    assert report.sizes == {"16x12": 8}
    assert render_problems(report) == []
    some = root / "train/good/2.png"
    assert report.sha256[some] == hashlib.sha256(some.read_bytes()).hexdigest()
    assert len(report.sha256) == 8


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_the_number_of_workers_changes_nothing(root: Path, workers: int) -> None:
    (root / "train/good/9.png").write_bytes(b"")
    dataset = open_dataset(root)
    assert check_dataset(dataset, workers=workers) == check_dataset(dataset)


def test_unreadable_images_are_grouped_by_reason(root: Path) -> None:
    folder = root / "train/good"
    whole = (folder / "0.png").read_bytes()
    (folder / "0.png").write_bytes(whole[:-20])
    (folder / "1.png").write_bytes(whole[:50])
    (folder / "2.png").write_bytes(b"")
    (root / "test/good/0.png").write_bytes(b"text")
    dataset = open_dataset(root)
    report = check_dataset(dataset)
    found = {problem.detail: problem.paths for problem in report.problems}
    assert found == {
        "the file is cut off": (folder / "0.png", folder / "1.png"),
        "the file is empty": (folder / "2.png",),
        "not an image in a known 8- or 16-bit format": (root / "test/good/0.png",),
    }
    assert {(problem.kind, problem.severity) for problem in report.problems} == {
        ("unreadable", "error")
    }
    assert len(report.unusable) == 4
    rest = without(dataset, report.unusable)
    assert [sample.path.name for sample in rest.train] == ["3.png"]
    assert check_dataset(rest).problems == ()
    assert check_dataset(rest).fingerprint == report.fingerprint


def test_a_image_that_has_gone_or_is_a_dangling_link(root: Path) -> None:
    dataset = open_dataset(root)
    (root / "train/good/0.png").unlink()
    [problem] = check_dataset(dataset).problems
    assert (problem.kind, problem.detail) == ("unreadable", "no such file")


def test_an_unreadable_mask(root: Path) -> None:
    path = root / "ground_truth/dent/0_mask.png"
    path.write_bytes(path.read_bytes()[:-8])
    problem = only_problem(root)
    assert (problem.kind, problem.severity, problem.paths) == ("unreadable mask", "error", (path,))
    dataset = open_dataset(root)
    rest = without(dataset, check_dataset(dataset).unusable)
    assert [len(sample.masks) for sample in rest.test if sample.defective] == [0, 1]


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


@pytest.mark.parametrize(
    ("target", "kind", "severity", "detail"),
    [
        ("train/good/copy.png", "duplicate", "warning", "2 times the same image in train"),
        ("test/good/copy.png", "leak", "error", "the same image in test and train"),
        ("validation/good/x.png", "leak", "error", "the same image in calibration and train"),
        ("test/dent/0.png", "contradiction", "error", "the same image is good and defective"),
    ],
)
def test_copies_of_a_training_image(
    root: Path, target: str, kind: str, severity: str, detail: str
) -> None:
    copy(root / "train/good/0.png", root / target)
    problem = only_problem(root)
    assert (problem.kind, problem.severity, problem.detail) == (kind, severity, detail)
    assert set(problem.paths) == {root / "train/good/0.png", root / target}


def test_equal_damaged_files_are_no_duplicates(root: Path) -> None:
    (root / "train/good/8.png").write_bytes(b"")
    (root / "test/good/8.png").write_bytes(b"")
    assert only_problem(root).kind == "unreadable"


def test_mixed_sizes_are_an_information(root: Path) -> None:
    write(root / "train/good/big.png", colourful(99, (18, 24)))
    problem = only_problem(root)
    assert (problem.kind, problem.severity) == ("mixed sizes", "info")
    assert "2 different sizes, the most frequent 16x12 (8 images)" in problem.detail


def test_grey_among_colour_and_colour_among_grey(root: Path, tmp_path: Path) -> None:
    odd = write(root / "train/good/grey.png", colourful(98)[..., 0])
    problem = only_problem(root)
    assert (problem.kind, problem.severity, problem.paths) == ("mixed colour", "warning", (odd,))
    assert "1 image of 9 grey" in problem.detail
    for number in range(3):
        write(tmp_path / f"grey/{number}.png", colourful(number)[..., 0])
    odd = write(tmp_path / "grey/colour.png", colourful(97))
    problem = only_problem(tmp_path / "grey")
    assert problem.paths == (odd,)
    assert "in colour" in problem.detail


def test_missing_masks(root: Path) -> None:
    (root / "ground_truth/dent/0_mask.png").unlink()
    problem = only_problem(root)
    assert (problem.kind, problem.severity) == ("no mask", "warning")
    assert problem.paths == (root / "test/dent/0.png",)
    (root / "ground_truth/dent/1_mask.png").unlink()
    assert only_problem(root).severity == "info", "without any masks nothing was forgotten"


def test_stray_masks(root: Path) -> None:
    stray = write(root / "ground_truth/dent/77_mask.png", mask())
    problem = only_problem(root)
    assert (problem.kind, problem.severity, problem.paths) == ("stray mask", "warning", (stray,))


def test_a_mask_of_another_size(root: Path) -> None:
    wrong = write(root / "ground_truth/dent/0_mask.png", mask((SIZE[1], SIZE[0])))
    problem = only_problem(root)
    assert (problem.kind, problem.severity, problem.paths) == ("mask size", "error", (wrong,))


def test_a_black_mask(root: Path) -> None:
    write(root / "ground_truth/dent/0_mask.png", mask(value=0))
    problem = only_problem(root)
    assert (problem.kind, problem.severity) == ("empty mask", "warning")
    assert problem.paths == (root / "test/dent/0.png",)
    write(root / "ground_truth/dent/0_mask.png", mask(value=1))
    assert check_dataset(open_dataset(root)).problems == ()


def test_one_black_mask_of_several_is_fine(root: Path) -> None:
    (root / "ground_truth/dent/0_mask.png").unlink()
    write(root / "ground_truth/dent/0/000.png", mask(value=0))
    write(root / "ground_truth/dent/0/001.png", mask())
    assert check_dataset(open_dataset(root)).problems == ()


def test_a_mask_that_marks_a_good_image(root: Path) -> None:
    write(root / "ground_truth/good/0_mask.png", mask(value=0))
    assert check_dataset(open_dataset(root)).problems == ()
    write(root / "ground_truth/good/0_mask.png", mask())
    problem = only_problem(root)
    assert (problem.kind, problem.severity) == ("marked good", "error")
    assert problem.paths == (root / "test/good/0.png",)


def test_ignored_files(root: Path) -> None:
    (root / "notes.txt").touch()
    assert (only_problem(root).kind, only_problem(root).severity) == ("ignored", "info")
    (root / "notes.txt").unlink()
    write(root / "loose.png", colourful(50))
    assert only_problem(root).severity == "warning"


def test_the_fingerprint_is_of_the_training_content_alone(root: Path) -> None:
    def fingerprint() -> str:
        return check_dataset(open_dataset(root)).fingerprint

    before = fingerprint()
    (root / "train/good/0.png").rename(root / "train/good/zz.png")
    write(root / "test/good/new.png", colourful(60))
    assert fingerprint() == before
    write(root / "train/good/new.png", colourful(61))
    assert fingerprint() != before
    assert fingerprint_of(["b", "a"]) == fingerprint_of(iter(["a", "b"])) != fingerprint_of(["ab"])


def test_json_has_paths_below_the_root(root: Path) -> None:
    copy(root / "train/good/0.png", root / "test/good/copy.png")
    report = check_dataset(open_dataset(root))
    value = json.loads(report.to_json())
    assert value["problems"][0]["paths"] == ["train/good/0.png", "test/good/copy.png"]
    assert value["problems"][0]["severity"] == "error"
    assert value["fingerprint"] == report.fingerprint
    assert value["sha256"]["train/good/0.png"] == report.sha256[root / "train/good/0.png"]
    assert str(root) not in report.to_json()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_a_name_that_is_no_utf8_can_be_printed(root: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    (root / "train/good" / name).write_bytes(b"")
    report = check_dataset(open_dataset(root))
    assert "train/good/\ufffd.png" in render_problems(report)[0]
    assert "train/good/\ufffd.png" in report.to_json().encode().decode()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_what_a_dataset_records_of_such_names_is_text(tmp_path: Path, root: Path) -> None:
    plain = tmp_path / os.fsdecode(b"p\xff")
    shutil.copytree(root / "train/good", plain / "good")
    shutil.copytree(root / "train/good", plain / "bad" / os.fsdecode(b"cut\xfe"))
    dataset = open_dataset(plain)
    assert dataset.name == "p\ufffd"
    assert {sample.label for sample in dataset.test} == {"good", "cut\ufffd"}


def test_lines_are_capped_and_errors_come_first(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{number}.png" for number in range(8))
    empty = CheckReport(tmp_path, (), {}, {}, {}, "", ())
    assert render_problems(empty) == []
    report = dataclasses.replace(
        empty,
        problems=(
            *(Problem("leak", "error", paths[i : i + 2], "the same", "act") for i in range(7)),
            Problem("ignored", "info", paths, "8 files", "nothing"),
        ),
    )
    lines = render_problems(report, most=3)
    assert lines == [
        "error: leak: the same: 0.png, 1.png → act",
        "error: leak: the same: 1.png, 2.png → act",
        "error: leak: the same: 2.png, 3.png → act",
        "error: leak: 4 more like these",
        "info: ignored: 8 files: 0.png, 1.png, 2.png and 5 more → nothing",
    ]


def test_errors_are_sorted_to_the_front(root: Path) -> None:
    (root / "notes.txt").touch()
    copy(root / "train/good/0.png", root / "train/good/copy.png")
    copy(root / "train/good/1.png", root / "test/good/copy.png")
    report = check_dataset(open_dataset(root))
    assert [problem.severity for problem in report.problems] == ["error", "warning", "info"]
    assert [problem.kind for problem in report.errors] == ["leak"]


@pytest.mark.parametrize("order", ["RGGB", "GRBG"])
@pytest.mark.parametrize("scene", ["flat", "photo", "grey", "noise"])
def test_raw_data_of_a_colour_camera(tmp_path: Path, scene: str, order: str) -> None:
    rows, columns = np.mgrid[0:64, 0:96]
    smooth = 90 + 60 * np.sin(rows / 9) * np.cos(columns / 11)
    light = {"flat": 90 + 0 * smooth, "grey": smooth}.get(scene, smooth)
    noise = np.random.default_rng(0).normal(0, 60 if scene == "noise" else 3, smooth.shape)
    gains = (
        {"R": 0.6, "G": 1.0, "B": 0.5} if scene in ("flat", "photo") else dict.fromkeys("RGB", 1)
    )
    image = light.copy()
    for place, colour in enumerate(order):
        image[place // 2 :: 2, place % 2 :: 2] *= gains[colour]
    write(tmp_path / "a.png", np.clip(image + noise, 0, 255).astype(np.uint8))
    found = [problem.kind for problem in check_dataset(open_dataset(tmp_path)).problems]
    assert found == (["mosaic"] if scene in ("flat", "photo") else [])


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_good_images_of_few_values(tmp_path: Path, labels: int) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.png", colourful(number, (48, 64)))
    names = []
    for number in range(labels):
        image = np.zeros((48, 64, 3), np.uint8)
        image[8 : 12 + number, 20:33] = (0, 0, 200)
        names.append(write(tmp_path / f"x{number * 7}y.png", image))
    found = [
        one for one in check_dataset(open_dataset(tmp_path)).problems if one.kind in TO_TRAINING
    ]
    assert [(one.kind, one.severity) for one in found] == (
        [("few values", "warning")] if labels < 5 else []
    )
    if labels < 5:
        assert set(found[0].paths) == set(names)
