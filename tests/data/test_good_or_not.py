"""What is learned as good: folders that are no good ones, and label images among the images."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from encoders import pillow
from numpy.typing import NDArray
from PIL import Image as Pillow

from generalad.data.check import check_dataset
from generalad.data.dataset import Dataset, open_dataset
from generalad.data.marked_beside import marked_in
from generalad.errors import DataError
from generalad.folder_names import is_defect_name, is_good_name, is_mask_name, is_series
from generalad.label_images import label_images, looks_like_labels

SIZE = (40, 48)
Put = Callable[..., Path]
Image = NDArray[np.uint8]


def photo(seed: int) -> Image:
    """A textured part on a dark ground: mostly black, but of many values."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    disc = np.hypot(rows - 20, columns - 24) < 14
    grain = cv2.GaussianBlur(rng.normal(0, 60, SIZE), (0, 0), 1.5)
    return np.asarray(np.clip(np.where(disc, 130 + grain, 6 + grain / 30), 0, 255), np.uint8)


def labels(seed: int, value: int = 255) -> Image:
    """One defect in white on black; every third is of a good part and black."""
    image = np.zeros(SIZE, np.uint8)
    if seed % 3:
        image[10 : 14 + seed % 5, 8 + seed % 20 : 15 + seed % 20] = value
    return image


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put("a/b.png")` writes a photograph, `put("a/b.png", image)` an image."""
    number = 0

    def write(name: str, image: Image | None = None) -> Path:
        nonlocal number
        number += 1
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = cv2.imencode(path.suffix, photo(number) if image is None else image)[1]
        path.write_bytes(content.tobytes())
        return path

    return write


# --- names ---


@pytest.mark.parametrize(
    "name",
    [
        *("good", "OK", "Ok", "normal", "i.O.", "i. O", "in_Ordnung", "GoodParts", "good parts 2"),
        *("ok_2024-05-01", "Gutteile", "bon", "sans-défaut", "bueno", "conforme", "no_defect"),
        *("non-defective", "良品", "正常", "정상", "годные"),
        unicodedata.normalize("NFD", "godkänd"),
    ],
)
def test_words_for_good(name: str) -> None:
    assert is_good_name(name)
    assert not is_defect_name(name)
    assert not is_mask_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("bad", "NOK", "n.i.O.", "not_ok", "Not good", "scratched", "broken_large", "Ausschuss"),
        *("défaut", "defectuoso", "不良品", "缺陷", "불량", "брак", "anomalies 3"),
        "metal_contamination",
    ],
)
def test_words_for_defects(name: str) -> None:
    assert is_defect_name(name)
    assert not is_good_name(name)


@pytest.mark.parametrize("name", ["washer", "monday", "kos01", "goodyear tyres", "nokia", "okapi"])
def test_words_for_neither(name: str) -> None:
    assert not is_good_name(name)
    assert not is_defect_name(name)


@pytest.mark.parametrize(
    "names",
    [
        *(["monday", "tuesday"], ["2024-11-28", "2024-11-29"], ["kos00", "kos01", "kos13"]),
        *(
            ["shift 1", "night shift"],
            ["camera_A", "camera_B"],
            ["lot 7", "Charge 8"],
            ["17", "42"],
            ["2023", "2024"],
            ["02", "03"],
        ),
    ],
)
def test_series_are_no_classes(names: list[str]) -> None:
    assert is_series(names)


@pytest.mark.parametrize("within", ["cameras", "Lot", "2026-05", "by day"])
def test_numbers_of_what_their_folder_names_are_no_classes(within: str) -> None:
    assert is_series(["1", "2"], within=["parts", within])
    assert not is_series(["1", "2"], within=["parts", "washers 20261"])


@pytest.mark.parametrize(
    "names",
    [
        *(["0", "1"], ["1", "2"], ["3", "1", "2"], ["01", "02"], ["1"]),
        *(["class1", "class2"], ["a", "ed"], ["type A", "B"]),
    ],
)
def test_what_could_be_classes(names: list[str]) -> None:
    assert not is_series(names)


# --- a folder for each class ---


def good_names(dataset: Dataset) -> list[str]:
    return [sample.path.relative_to(dataset.root).as_posix() for sample in dataset.train]


@pytest.mark.parametrize(
    "folders",
    [
        *(["normal", "scratched"], ["normal", "ed"], ["OK", "rest"], ["washer", "ed"]),
        *(["0", "1"], ["2", "1"], [".", "1"], ["part A/1", "part A/2"]),
        *(["part A/i.O.", "part A/x"], ["class_good", "class_other"]),
        *(["MT_Free", "MT_Uneven"], ["良品", "其他"], [".", "odd"], ["good parts", "."]),
    ],
)
def test_a_folder_for_each_class_is_not_learned_whole(
    put: Put, tmp_path: Path, folders: list[str]
) -> None:
    for folder in folders:
        put(f"{folder}/a.png")
        put(f"{folder}/b.png")
    with pytest.raises(DataError) as raised:
        open_dataset(tmp_path)
    assert "--all-good" in raised.value.remedy
    named = [folder.split("/")[-1] for folder in folders if folder != "."]
    assert any(name in raised.value.message for name in named)
    dataset = open_dataset(tmp_path, all_good=True)
    assert len(dataset.train) == 4


@pytest.mark.parametrize(
    "folders",
    [
        *(["monday", "tuesday"], ["kos00", "kos01"], [".", "monday"], ["images"], ["OK"]),
        *(["1"], ["lots/1", "lots/2"], ["2026/01", "2026/02"], ["2026/05/01", "2026/05/02"]),
    ],
)
def test_folders_that_are_taken_as_good_are_named(
    put: Put, tmp_path: Path, folders: list[str]
) -> None:
    for folder in folders:
        put(f"{folder}/a.png")
        put(f"{folder}/b.png")
    dataset = open_dataset(tmp_path)
    assert dataset.taken_as_good.startswith(f"all {2 * len(folders)} images are taken as good")
    assert all(f"2 in {name}/" in dataset.taken_as_good for name in folders if name != ".")
    [note] = [one for one in check_dataset(dataset).problems if one.kind == "taken as good"]
    assert (note.severity, note.detail) == ("info", dataset.taken_as_good)


NAMES = {
    "prefix": ("OK_{n}.png", "NG_{n}.png"),
    "suffix": ("part{n}_good.png", "part{n}_bad.png"),
    "type": ("good/washer_{n}.png", "good/washer_scratch_{n}.png"),
    "overlay": ("{n}.png", "{n}_overlay.png"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_files_that_are_no_good_ones(put: Put, tmp_path: Path, kind: str) -> None:
    for number in range(3):
        for name in NAMES[kind]:
            put(name.format(n=number))
    with pytest.raises(DataError, match="3 of 6 images are called by a word for") as raised:
        open_dataset(tmp_path)
    assert "--all-good" in raised.value.remedy
    assert len(open_dataset(tmp_path, all_good=True).train) == 6


@pytest.mark.parametrize(("images", "refused"), [("12", True), ("123", False)])
def test_files_of_labelling_tools(put: Put, tmp_path: Path, images: str, *, refused: bool) -> None:
    for number in "123":
        put(f"images/{number}.png")
    for number in images:
        (tmp_path / f"images/{number}.json").write_text("{}")
    if refused:
        with pytest.raises(DataError, match="2 of 3 images are described in a file of their name"):
            open_dataset(tmp_path)
    else:
        assert len(open_dataset(tmp_path).train) == 3


@pytest.mark.parametrize(
    "name", ["NG_{}", "{}_nio", "不良_{}", "schlecht{}", "bad ({})", "defekt_{}", "rework {}"]
)
def test_a_word_that_judges_is_none_of_the_product(put: Put, tmp_path: Path, name: str) -> None:
    for number in range(3):
        put(f"good/{name.format(number)}.png")
    with pytest.raises(DataError, match="3 of 3 images are called by a word for defects"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, all_good=True).train) == 3


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        *(("washer NG", True), ("NOK_2024", True), ("负样本", True), ("Nacharbeit", True)),
        *(("defect detection", False), ("washers without rust", False), ("chips", False)),
    ],
)
def test_the_folder_itself_may_judge(put: Put, tmp_path: Path, name: str, *, refused: bool) -> None:
    put(f"{name}/1.png")
    put(f"{name}/2.png")
    if refused:
        with pytest.raises(DataError, match="its name has a word for defects"):
            open_dataset(tmp_path / name)
    elif name != "chips":  # that is called by a word for defects alone
        assert len(open_dataset(tmp_path / name).train) == 2


def test_a_word_that_all_names_have_is_that_of_the_product(put: Put, tmp_path: Path) -> None:
    for number in range(3):
        put(f"chip_{number}.png")
    assert len(open_dataset(tmp_path).train) == 3


def test_nothing_is_said_where_no_folder_decides(put: Put, tmp_path: Path) -> None:
    put("a.png")
    assert open_dataset(tmp_path).taken_as_good == ""
    put("good/a.png")
    (tmp_path / "a.png").unlink()
    assert open_dataset(tmp_path).taken_as_good == ""


@pytest.mark.parametrize("folder", ["ok", "OK", "normal", "i.O", "gut", "良品", "no defect"])
def test_good_test_images_are_no_kind_of_defect(put: Put, tmp_path: Path, folder: str) -> None:
    put("train/good/a.png")
    put(f"test/{folder}/b.png")
    put("test/scratch/c.png")
    dataset = open_dataset(tmp_path)
    assert [(sample.path.parent.name, sample.label) for sample in dataset.test] == [
        *sorted([(folder, "good"), ("scratch", "scratch")], key=lambda pair: pair[0])
    ]


def test_the_class_folder_may_be_written_large(put: Put, tmp_path: Path) -> None:
    put("part/Train/Good/a.png")
    put("part/Test/Good/b.png")
    put("part/Test/Scratch/c.png")
    put("part/Ground_Truth/Scratch/c_mask.png", labels(1))
    dataset = open_dataset(tmp_path / "part")
    assert dataset.layout == "class folder"
    assert good_names(dataset) == ["Train/Good/a.png"]
    assert [sample.label for sample in dataset.test] == ["good", "Scratch"]
    assert [len(sample.masks) for sample in dataset.test] == [0, 1]
    assert open_dataset(tmp_path, "part") == dataset


def test_train_of_another_word_is_told_what_to_call_it(put: Put, tmp_path: Path) -> None:
    put("train/OK/a.png")
    with pytest.raises(DataError) as raised:
        open_dataset(tmp_path)
    assert raised.value.remedy.endswith("train/good")


def test_good_ones_among_the_bad_are_refused(put: Put, tmp_path: Path) -> None:
    put("good/a.png")
    put("bad/ok/b.png")
    with pytest.raises(DataError, match="bad/ok: lies among the defective images"):
        open_dataset(tmp_path)


def test_a_label_of_a_table_that_means_good(put: Put, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(name)
    path = tmp_path / "parts.csv"
    path.write_text("path,label,split\na.png,good,train\nb.png,OK,test\nc.png,cut,test\n")
    with pytest.raises(DataError, match="label 'OK', no type of defect"):
        open_dataset(path)


# --- label images beside images ---


PAIRS = {
    "suffix": ("{n}.jpg", "{n}_label.bmp"),
    "mask": ("{n}.png", "{n}_mask.png"),
    "folders": ("kos0{n}/Part.jpg", "kos0{n}/Part_label.bmp"),
    "prefix": ("{n}.png", "mask_{n}.png"),
    "both": ("{n}_img.png", "{n}_gt.png"),
    "same name": ("{n}.jpg", "{n}.png"),
    "unknown word": ("{n}.png", "{n}-zielona.png"),
    "glued": ("part{n}.png", "part{n}mask.png"),
    "folder": ("images/{n}.png", "zielone/{n}.png"),
    "folder and word": ("images/{n}.jpg", "zielone/{n}_gt.png"),
    "below": ("{n}.png", "lot/{n}.png"),
    "number": ("{n}.png", "{n}_1.png"),
    "letters before a number": ("image{n}.png", "zielone{n}.png"),
    "letters behind a number": ("{n}.png", "{n}z.png"),
    "upper case": ("{n}.png", "{n}_MASK.PNG"),
    "two words": ("a_{n}_leftImg8bit.png", "a_{n}_gtFine_labelIds.png"),
    "two words and none": ("{n}.png", "{n}_pixel_label.png"),
    "a word and a number": ("{n}.jpg", "{n}.jpg.mask.0.png"),
    "a word and a time": ("p_{n}.png", "p_{n}_mask_20281128_101010.png"),
}


def put_pairs(put: Put, kind: str, prefix: str = "", value: int = 255) -> list[str]:
    image, label = (f"{prefix}{name}" for name in PAIRS[kind])
    for number in range(9):
        put(image.format(n=number))
        put(label.format(n=number), labels(number, value))
    return [label.format(n=number) for number in range(9)]


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("kind", PAIRS)
def test_label_images_are_not_learned(put: Put, tmp_path: Path, kind: str, value: int) -> None:
    put_pairs(put, kind, value=value)
    with pytest.raises(DataError) as raised:
        open_dataset(tmp_path, all_good=False)
    if "zielone" not in PAIRS[kind][1] and kind != "below":  # folders that are refused anyway
        assert "9 of 18 images look like label images of others" in raised.value.message
        assert "masks" in raised.value.remedy
    assert "--all-good" in raised.value.remedy
    assert len(open_dataset(tmp_path, all_good=True).train) == 18


@pytest.mark.parametrize("image", ["smaller", "inverted"])
def test_label_images_that_were_made_smaller_or_inverted(
    put: Put, tmp_path: Path, image: str
) -> None:
    for number in range(9):
        put(f"{number}.png")
        label = labels(number)
        small = cv2.resize(label, (24, 20), interpolation=cv2.INTER_CUBIC)
        put(f"{number}_mask.png", small if image == "smaller" else 255 - label)
    with pytest.raises(DataError, match="9 of 18 images look like label images"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("kind", PAIRS)
def test_label_images_are_found_with_their_images(put: Put, tmp_path: Path, kind: str) -> None:
    found = put_pairs(put, kind)
    images = [Path(PAIRS[kind][0].format(n=number)) for number in range(9)]
    everything = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.*") if path.is_file()]
    assert label_images(tmp_path, everything) == dict(zip(map(Path, found), images, strict=True))


@pytest.mark.parametrize("kind", PAIRS)
def test_beside_defective_images_they_are_masks(put: Put, tmp_path: Path, kind: str) -> None:
    for number in range(4):
        put(f"good/{number}.png")
    put_pairs(put, kind, "bad/nick/")
    dataset = open_dataset(tmp_path)
    defective = [sample for sample in dataset.test if sample.defective]
    assert [sample.label for sample in defective] == ["nick"] * 9
    assert all(len(sample.masks) == 1 for sample in defective)
    assert {problem.kind for problem in check_dataset(dataset).errors} == set()


def test_beside_test_images_of_a_class_folder_they_are_masks(put: Put, tmp_path: Path) -> None:
    put("train/good/x.png")
    put_pairs(put, "mask", "test/nick/")
    dataset = open_dataset(tmp_path)
    assert [len(sample.masks) for sample in dataset.test] == [1] * 9
    assert dataset.ignored == ()
    put_pairs(put, "mask", "train/good/")
    with pytest.raises(DataError, match=r"train/good: 9 of 19 images look like label images"):
        open_dataset(tmp_path)


def test_a_table_of_label_images_is_refused(put: Put, tmp_path: Path) -> None:
    found = put_pairs(put, "mask")
    images = [name.replace("_mask", "") for name in found]
    path = tmp_path / "parts.csv"
    path.write_text("path,label\n" + "".join(f"{name},good\n" for name in (*images, *found)))
    with pytest.raises(DataError, match="9 of 18 images look like label images"):
        open_dataset(path)
    assert len(open_dataset(path, all_good=True).train) == 18


@pytest.mark.parametrize(
    "names",
    [
        ["{n}_left.png", "{n}_right.png"],
        ["monday/{n}.png", "tuesday/{n}.png"],
        ["{n}.png", "{n}.jpg"],
        ["{n}.png", "{n}_mask.png"],
        ["{n}.png", "1{n}.png"],
    ],
)
def test_images_of_like_names_are_no_pairs(put: Put, tmp_path: Path, names: list[str]) -> None:
    for number in range(9):
        for name in names:
            put(name.format(n=number))
    assert len(open_dataset(tmp_path).train) == 18


def test_names_alone_are_not_read(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        put(f"part_{number:03}.png")

    def read(path: Path) -> bytes:
        raise AssertionError(path)

    monkeypatch.setattr("generalad.label_images.read_bytes", read)
    assert len(open_dataset(tmp_path).train) == 20


def test_labels_of_several_classes_on_any_ground() -> None:
    classes = np.full(SIZE, 90, np.uint8)
    for number, value in enumerate((0, 40, 130, 200, 255)):
        classes[:, 8 * number : 8 * number + 7] = value
    assert looks_like_labels(classes)
    assert not looks_like_labels(np.full(SIZE, 90, np.uint8))


def test_what_looks_like_labels() -> None:
    jpeg = np.asarray(Pillow.open(io.BytesIO(pillow(labels(4), "JPEG", quality=80))))
    several = labels(1) // 5 + labels(2) // 3
    yes = (labels(0), labels(1), labels(1, 1), 255 - labels(2), jpeg, several)
    assert all(map(looks_like_labels, yes))
    assert not any(looks_like_labels(photo(seed)) for seed in range(9))
    assert looks_like_labels(labels(1).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("images", "masks"),
    [("images", "masks"), ("good", "masks"), (".", "masks"), ("good", "masks/good")],
)
def test_images_that_the_folder_for_masks_marks_are_not_learned(
    put: Put, tmp_path: Path, images: str, masks: str
) -> None:
    for number in range(4):
        put(f"set/{images}/{number}.png")
        put(f"set/{masks}/{number}_mask.png", np.zeros(SIZE, np.uint8))
    assert len(open_dataset(tmp_path / "set").train) == 4, "all are black"
    put(f"set/{masks}/1_mask.png", labels(1))
    named = f"1 of 4 images to learn from .*1.png in {masks}/1_mask.png"
    with pytest.raises(DataError, match=named):
        open_dataset(tmp_path / "set")
    assert len(open_dataset(tmp_path / "set", all_good=True).train) == 4
    (tmp_path / f"set/{masks}/1_mask.png").rename(tmp_path / f"set/{masks}/9_mask.png")
    assert len(open_dataset(tmp_path / "set").train) == 4, "it belongs to no image"


@pytest.mark.parametrize("kind", ["masks", "YOLO", "VOC"])
def test_images_that_a_folder_beside_theirs_marks_are_not_learned(
    put: Put, tmp_path: Path, kind: str
) -> None:
    given = {"masks": "images", "YOLO": "images/train", "VOC": "JPEGImages"}[kind]
    for number in range(3):
        put(f"set/{given}/{number}.png")
    if kind == "masks":
        put("set/masks/1.png", labels(1))
    else:
        name, text = {
            "YOLO": ("labels/train/1.txt", "0 .5 .5 .1 .1\n"),
            "VOC": ("Annotations/1.xml", "<annotation><object><name>nick</name></object>"),
        }[kind]
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        (tmp_path / "set" / name).write_text(text)
    with pytest.raises(DataError, match=r"1 of 3 images to learn from .*1\.png in"):
        open_dataset(tmp_path / "set" / given)
    assert len(open_dataset(tmp_path / "set" / given, all_good=True).train) == 3
    for folder in (tmp_path / "set", tmp_path / "set" / given):
        assert [image.name for image in marked_in(folder)] == ["1.png"]


def test_masks_of_other_images_beside_the_folder_do_not_count(put: Put, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        put(f"set/{folder}/1.png")
        put(f"set/{folder}/2.png")
    put("set/masks/1.png", labels(1))
    assert len(open_dataset(tmp_path / "set/first").train) == 2
    (tmp_path / "set/first").rename(tmp_path / "set/good parts")
    (tmp_path / "set/second").rename(tmp_path / "second")
    assert len(open_dataset(tmp_path / "set/good parts").train) == 2
