"""Groups of images: by rule, by column, by being near-copies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generalad.data.check import check_dataset
from generalad.data.dataset import open_dataset
from generalad.data.groups import Grouping, group_images
from generalad.data.near_copies import near_copies, signature
from generalad.errors import DataError
from generalad.synth.dataset import image_generator
from generalad.synth.parts import render_part

Image = NDArray[np.uint8]


def part(category: str, index: int) -> Image:
    """A good part."""
    rng = image_generator(3, category, "near-copies", index)
    return render_part(category, rng, size=128)[0]


def once_more(image: Image, seed: int) -> Image:
    """The same part in a second photograph: a little shifted, in other light, with new noise."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    shift = np.array([[1, 0, rng.uniform(-0.25, 0.25)], [0, 1, rng.uniform(-0.25, 0.25)]])
    moved = cv2.warpAffine(image, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
    lit = moved * rng.uniform(0.95, 1.05) + rng.normal(0, 2, image.shape)
    return np.asarray(np.clip(lit, 0, 255), np.uint8)


def groups_of(images: list[Image]) -> list[tuple[int, ...]]:
    return near_copies([signature(image) for image in images])


@pytest.mark.parametrize("category", ["board", "fabric", "washer"])
@pytest.mark.parametrize("count", [6, 12, 40])
def test_different_parts_that_look_alike_are_no_near_copies(category: str, count: int) -> None:
    assert groups_of([part(category, index) for index in range(count)]) == []


@pytest.mark.parametrize("category", ["board", "fabric", "washer"])
def test_one_part_photographed_again_is_found(category: str) -> None:
    images = [part(category, index) for index in range(24)]
    again = [once_more(images[4], 0), once_more(images[4], 1), once_more(images[9], 2)]
    assert groups_of([*images, *again]) == [(4, 24, 25), (9, 26)]


def test_a_compressed_copy_is_found() -> None:
    images = [part("board", index) for index in range(10)]
    _, jpeg = cv2.imencode(".jpg", images[3], [cv2.IMWRITE_JPEG_QUALITY, 60])
    copy = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
    assert groups_of([*images, copy]) == [(3, 10)]


def test_plain_parts_at_all_angles_are_no_single_group() -> None:
    plain = np.full((96, 96, 3), 40, np.uint8)
    cv2.circle(plain, (48, 48), 34, (160, 160, 160), -1)
    cv2.rectangle(plain, (48, 42), (80, 54), (80, 80, 80), -1)
    rng = np.random.default_rng(0)
    images = []
    for angle in rng.uniform(0, 360, 150):
        turn = cv2.getRotationMatrix2D((48, 48), angle, 1)
        noise = rng.normal(0, 3, plain.shape)
        images.append(np.clip(cv2.warpAffine(plain, turn, (96, 96)) + noise, 0, 255).astype("u1"))
    assert max((len(group) for group in groups_of(images)), default=0) < 20


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_images_to_differ_from(count: int) -> None:
    assert groups_of([part("board", 0)] * count) == []


def test_images_without_any_structure_are_no_near_copies() -> None:
    assert groups_of([np.full((50, 40, 3), level, np.uint8) for level in range(0, 200, 20)]) == []


@pytest.fixture
def lots(tmp_path: Path) -> Path:
    """Twelve parts in three folders, the names of which say the photograph; one is there twice."""
    for index in range(12):
        path = tmp_path / f"lot{index // 4}" / f"photo{index // 2}_{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), part("fabric", index))
    first = tmp_path / "lot0" / "photo0_0.png"
    (tmp_path / "lot2" / "photo9_12.png").write_bytes(first.read_bytes())
    return tmp_path


def grouped(data: Path, rule: str) -> Grouping:
    dataset = open_dataset(data)
    return group_images(dataset, rule, check_dataset(dataset))


def number_of(grouping: Grouping) -> int:
    return len(set(grouping.of.values()))


@pytest.mark.parametrize(
    ("rule", "groups"),
    [("", 12), ("image", 12), ("folder", 2), (r"photo\d", 6), (r"lot(\d)", 2), (r"_(\d+)\.", 12)],
)
def test_a_rule_names_the_groups_and_equal_files_join_them(
    lots: Path, rule: str, groups: int
) -> None:
    grouping = grouped(lots, rule)
    assert number_of(grouping) == groups
    copies = [lots / "lot0" / "photo0_0.png", lots / "lot2" / "photo9_12.png"]
    assert len({grouping.of[path] for path in copies}) == 1
    assert grouping.named == (rule not in ("", "image"))
    assert (f"{groups} groups of 13 images" in grouping.what) == grouping.named


def test_near_copies_are_put_together_unless_told_otherwise(lots: Path) -> None:
    image = cv2.imread(str(lots / "lot1" / "photo2_5.png"))
    assert image is not None
    cv2.imwrite(str(lots / "lot1" / "again.png"), once_more(np.asarray(image, np.uint8), 0))
    grouping = grouped(lots, "")
    assert number_of(grouping) == 12
    assert grouping.what == "1 of 14 good images is a near-copy of others; 1 group"
    assert number_of(grouped(lots, "image")) == 13
    (problem,) = [p for p in check_dataset(open_dataset(lots)).problems if p.kind == "near-copy"]
    assert (problem.severity, problem.detail) == ("info", grouping.what)
    assert {path.name for path in problem.paths} == {"again.png", "photo2_5.png"}


@pytest.mark.parametrize("rule", [r"exp(\d)", r"lot2|()photo", r"lot(x?)"])
def test_an_expression_that_names_no_group_says_where(lots: Path, rule: str) -> None:
    with pytest.raises(DataError, match=r"matches nothing in lot0/photo0_0\.png") as raised:
        grouped(lots, rule)
    assert "parentheses" in raised.value.remedy


def table(folder: Path, rows: str) -> Path:
    for name in "abcdef":
        cv2.imwrite(str(folder / f"{name}.png"), part("fabric", ord(name)))
    path = folder / "table.csv"
    path.write_text(rows)
    return path


def test_a_table_names_groups(tmp_path: Path) -> None:
    rows = "".join(f"{name}.png,good,lot {name < 'c'}\n" for name in "abcdef")
    grouping = grouped(table(tmp_path, "path,label,group\n" + rows), "")
    assert number_of(grouping) == 2
    assert grouping.what == "column `group`: 2 groups of 6 images"
    with pytest.raises(DataError, match="the table has a column `group`"):
        grouped(tmp_path / "table.csv", "folder")


def test_an_empty_cell_names_no_group(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: the group is empty"):
        open_dataset(table(tmp_path, "path,label,group\na.png,good,1\nb.png,good,\n"))


def test_a_group_in_training_and_calibration_is_refused_and_one_in_the_test_told(
    tmp_path: Path,
) -> None:
    rows = "path,label,split,group\na.png,good,train,1\nb.png,good,calibration,{}\n"
    dataset = table(tmp_path, rows.format(1))
    with pytest.raises(DataError, match=r"b\.png: its group '1' has training images, too"):
        grouped(dataset, "")
    dataset.write_text(rows.format(2) + "c.png,good,test,1\n")
    assert number_of(grouped(dataset, "")) == 2
    kinds = {p.kind: p.detail for p in check_dataset(open_dataset(dataset)).problems}
    assert kinds["split group"] == "1 group in several of training, calibration and test"


def test_a_table_without_splits_holds_out_whole_groups(tmp_path: Path) -> None:
    rows = "".join(f"{name}.png,good,{name < 'd'}\n" for name in "abcde")
    dataset = open_dataset(table(tmp_path, f"path,label,group\n{rows}f.png,dent,dent\n"))
    held = [sample for sample in dataset.test if not sample.defective]
    assert held
    assert not {s.group for s in held} & {s.group for s in dataset.train}
