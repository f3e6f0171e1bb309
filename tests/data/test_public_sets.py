"""Every layout of a public data set: opened, checked, and refused where it does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dataset_trees import CALIBRATION, TEST, TRAIN, TREES, class_folders, class_tree, tree

from generalad.data.check import check_dataset
from generalad.data.dataset import Dataset, load_masks, open_dataset
from generalad.data.public_sets import differences, public_set, public_sets
from generalad.data.samples import Published
from generalad.data.saturation import saturated_regions
from generalad.errors import DataError, UsageError

INDUSTRIAL = ("mvtec-ad", "mvtec-loco", "mvtec-ad-2", "visa", "mpdd", "real-iad")
SEMANTIC = ("view", "fgvc-aircraft", "stanford-cars", "dogs-vs-cats")


def opened(key: str, folder: Path) -> Dataset:
    return open_dataset(tree(key, folder), TREES[key][1])


def counts(dataset: Dataset) -> tuple[int, int, int, int]:
    defective = sum(sample.defective for sample in dataset.test)
    good = len(dataset.test) - defective
    return len(dataset.train), len(dataset.calibration), good, defective


# --- what every layout holds ---


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("mvtec-ad", (TRAIN, 0, TEST, TEST)),
        ("mpdd", (TRAIN, 0, TEST, TEST)),
        ("mvtec-loco", (TRAIN, CALIBRATION, TEST, 2 * TEST)),
        ("mvtec-ad-2", (TRAIN, CALIBRATION, TEST, TEST)),
        ("visa", (TRAIN, 0, TEST, TEST)),
        ("real-iad", (2 * TRAIN, 0, 2 * TEST + TEST, TEST)),  # two views; one shows no defect
        ("view", (TRAIN, 0, TEST, 2 * TEST)),
        ("fgvc-aircraft", (TRAIN, 0, TEST, 2 * TEST)),  # against the paper's variants only
        ("stanford-cars", (TRAIN, 0, TEST, 2 * TEST)),
        ("dogs-vs-cats", (8, 0, 2, 2)),  # one in five is tested with
    ],
)
def test_the_parts_of_each_layout(
    key: str, expected: tuple[int, int, int, int], tmp_path: Path
) -> None:
    dataset = opened(key, tmp_path)
    assert counts(dataset) == expected
    assert counts(opened(key, tmp_path / "again")) == expected
    for part in (dataset.train, dataset.calibration, dataset.test):
        assert list(part) == sorted(part, key=lambda sample: sample.path.as_posix())
        assert all(sample.path.is_file() for sample in part)
    found = check_dataset(dataset)
    assert found.errors == ()
    assert {problem.kind for problem in found.problems} <= {"no mask", "note", "incomplete"}


@pytest.mark.parametrize("key", INDUSTRIAL)
def test_masks_are_those_of_the_defects(key: str, tmp_path: Path) -> None:
    for sample in opened(key, tmp_path).test:
        if sample.defective:
            mask = load_masks(sample, (24, 24))
            assert mask[6:12, 6:12].all()
            assert mask.sum() == 36 + (9 if key == "mvtec-loco" else 0)


def test_the_trees_are_all_public_sets_but_those_to_be_unpacked() -> None:
    unpacked = {"cifar-10", "cifar-100", "fashion-mnist"}
    assert set(TREES) | unpacked == {one.key for one in public_sets()}
    assert set(TREES) == {*INDUSTRIAL, *SEMANTIC}


def test_loco_knows_its_saturation_and_nothing_is_left_over(tmp_path: Path) -> None:
    dataset = opened("mvtec-loco", tmp_path)
    assert [(one.value, one.threshold, one.relative) for one in dataset.saturation] == [
        (254, 12.0, False),
        (255, 1.0, True),
    ]
    assert dataset.ignored == ()
    labels = {sample.label for sample in dataset.test}
    assert labels == {"good", "logical_anomalies", "structural_anomalies"}
    assert all(len(sample.masks) == 2 for sample in dataset.test if sample.defective)


def test_ad_2_says_that_its_private_tests_have_no_labels(tmp_path: Path) -> None:
    dataset = opened("mvtec-ad-2", tmp_path)
    assert dataset.ignored == ()
    (note,) = dataset.notes
    assert note.startswith(f"{2 * TEST} images of test_private and test_private_mixed")
    assert "benchmark.mvtec.com" in note


def test_real_iad_keeps_the_views_of_an_object_together(tmp_path: Path) -> None:
    root = tree("real-iad", tmp_path)
    dataset = open_dataset(root, "audiojack")
    assert len({sample.group for sample in dataset.train}) == TRAIN
    single = open_dataset(root / "realiad_jsons/realiad_jsons_sv/audiojack.json")
    assert counts(single) == (TRAIN, 0, TEST, TEST)
    assert counts(open_dataset(root / "realiad_1024", "audiojack")) == counts(dataset)


def test_visa_is_split_as_its_file_says(tmp_path: Path) -> None:
    root = tree("visa", tmp_path)
    dataset = open_dataset(root, "candle")
    assert "9999.JPG" not in {sample.path.name for sample in (*dataset.train, *dataset.test)}
    assert open_dataset(root / "candle") == dataset


# --- one class normal, or one anomalous ---


@pytest.mark.parametrize("key", SEMANTIC)
def test_the_other_way_round_all_other_classes_are_normal(key: str, tmp_path: Path) -> None:
    root, name = tree(key, tmp_path), TREES[key][1]
    normal, anomalous = open_dataset(root, name), open_dataset(root, anomalous=name)
    assert anomalous.name.startswith("all but ")
    train, _, good, defective = counts(normal)
    assert counts(anomalous)[2:] == (defective, good)
    assert not {s.path for s in normal.train} & {s.path for s in anomalous.train}
    assert len(anomalous.train) % train == 0


def test_defects_of_semantic_sets_are_called_like_their_class(tmp_path: Path) -> None:
    assert {s.label for s in opened("view", tmp_path).test} == {"good", "forest", "street"}


def test_paper_numbers_name_classes(tmp_path: Path) -> None:
    planes = open_dataset(tree("fgvc-aircraft", tmp_path), "96")
    assert planes.name == "Variant 96/96"
    cars = tree("stanford-cars", tmp_path)
    assert open_dataset(cars, "2").name == "Acura RL Sedan 2012"
    assert {sample.label for sample in open_dataset(cars, "2").test} == {"good", "other car"}


def test_industrial_sets_have_no_anomalous_class(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="defective images of its own") as raised:
        open_dataset(tree("mvtec-ad", tmp_path), anomalous="bottle")
    assert "--class bottle" in raised.value.remedy


# --- the choice of a class ---


def test_a_folder_of_classes_asks_for_one(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "all", tuple(f"c{number}" for number in range(9)))
    with pytest.raises(DataError, match="several classes") as raised:
        open_dataset(root)
    remedy = raised.value.remedy
    assert remedy == "choose one by --class c0; there are c0, c1, c2, c3, c4, c5 and 3 more"


def test_a_class_that_does_not_exist(tmp_path: Path) -> None:
    root = tree("mvtec-ad", tmp_path)
    with pytest.raises(DataError, match="no class 'Botle'") as raised:
        open_dataset(root, "Botle")
    assert raised.value.remedy == "did you mean bottle? there are bottle, cable"
    with pytest.raises(DataError, match="no class 'xyz'") as raised:
        open_dataset(root, "xyz")
    assert raised.value.remedy == "there are bottle, cable"
    shutil.rmtree(root / "bottle" / "train")
    with pytest.raises(DataError, match="bottle: a class without good images") as raised:
        open_dataset(root, "bottle")
    assert raised.value.remedy == "add them, or choose of cable"


def test_a_class_of_the_set_that_is_not_here(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mvtec_anomaly_detection", ("bottle",))
    with pytest.raises(DataError, match="MVTec AD has the class 'cable', but it is not") as raised:
        open_dataset(root, "cable")
    assert "www.mvtec.com" in raised.value.remedy


def test_a_class_where_there_is_none_to_choose(tmp_path: Path) -> None:
    root = tree("mvtec-ad", tmp_path) / "bottle"
    assert open_dataset(root, "bottle") == open_dataset(root)
    with pytest.raises(UsageError, match="holds one class, 'bottle'"):
        open_dataset(root, "cable")
    with pytest.raises(UsageError, match="expected one of them"):
        open_dataset(root, "bottle", anomalous="cable")


# --- against what was published ---


def test_numbers_of_all_classes_together_are_the_published_ones() -> None:
    def totals(key: str) -> tuple[int, ...]:
        return tuple(map(sum, zip(*public_set(key).classes.values(), strict=True)))

    assert totals("mvtec-ad") == (3629, 0, 467, 1258)
    assert totals("mvtec-loco") == (1778, 305, 575, 993)
    assert totals("mvtec-ad-2") == (2528, 302, 379, 705)
    assert totals("visa") == (8659, 0, 962, 1200)
    assert totals("mpdd") == (888, 0, 176, 282)
    assert sum(train for train, _ in public_set("view").images.values()) == 14034


def test_a_half_downloaded_class_is_a_warning_with_numbers(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mvtec_ad", ("bottle", "parts of my own"))
    (root / "bottle/ground_truth/cut/000_mask.png").unlink()
    expected = (
        "MVTec AD, bottle: 6 training images, published 209; 2 good test images, published 20;"
        " 2 defective test images, published 63; 1 defective images without a mask, published 0"
    )
    for dataset in (open_dataset(root, "bottle"), open_dataset(root / "bottle")):
        assert differences(dataset) == expected
        found = [one for one in check_dataset(dataset).problems if one.kind == "incomplete"]
        assert [(one.severity, one.detail) for one in found] == [("warning", expected)]
    assert differences(open_dataset(root, "parts of my own")) == ""


def test_a_folder_of_any_name_is_known_by_its_classes(tmp_path: Path) -> None:
    names = tuple(public_set("mpdd").classes)
    known = open_dataset(class_folders(tmp_path / "b", names[:4]), "connector")
    assert known.published == Published("MPDD", public_set("mpdd").page, 128, 0, 30, 14, True)
    few = open_dataset(class_folders(tmp_path / "c", ("connector", "hose")), "connector")
    assert few.published is None


def test_semantic_numbers_follow_the_protocol(tmp_path: Path) -> None:
    root = class_tree(tmp_path / "cifar-10", ("cat", "dog"))
    published = open_dataset(root, "cat").published
    assert published is not None
    assert (published.train, published.good, published.defective) == (5000, 1000, 9000)
    published = open_dataset(root, anomalous="cat").published
    assert published is not None
    assert (published.train, published.good, published.defective) == (45000, 9000, 1000)


def test_a_folder_named_like_a_set_that_does_not_hold_it(tmp_path: Path) -> None:
    (tmp_path / "visa").mkdir()
    with pytest.raises(DataError, match="named like VisA") as raised:
        open_dataset(tmp_path / "visa")
    assert "split_csv/1cls.csv" in raised.value.remedy
    assert "github.com/amazon-science/spot-diff" in raised.value.remedy


# --- broken trees ---


def test_visa_with_a_missing_file(tmp_path: Path) -> None:
    root = tree("visa", tmp_path)
    (root / "candle/Data/Masks/Anomaly/001.png").unlink()
    with pytest.raises(DataError, match=r"1 of them missing, first .*001.png") as raised:
        open_dataset(root, "candle")
    assert "downloaded in part" in raised.value.remedy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("object,split", "object,part"), "the first line holds object, part"),
        (("candle,train,normal", "candle,train,good"), "split 'train' and label 'good'"),
        (("candle,test,normal", "candle,validation,normal"), "split 'validation'"),
        (("candle,test,anomaly", "candle,train,anomaly"), "anomalies to train on"),
    ],
)
def test_visa_with_another_split_file(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    root = tree("visa", tmp_path)
    path = root / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(DataError, match=message):
        open_dataset(root, "candle")


def test_visa_without_its_split_file(tmp_path: Path) -> None:
    root = tree("visa", tmp_path)
    (root / "split_csv/1cls.csv").unlink()
    with pytest.raises(DataError, match=r"without split_csv/1cls.csv"):
        open_dataset(root, "candle")


def test_real_iad_in_parts(tmp_path: Path) -> None:
    root = tree("real-iad", tmp_path)
    path = root / "realiad_jsons/realiad_jsons/audiojack.json"
    content = json.loads(path.read_text())
    (root / "realiad_1024/audiojack" / content["train"][3]["image_path"]).unlink()
    with pytest.raises(DataError, match="1 of them missing"):
        open_dataset(root, "audiojack")
    noisy = {"train": content["test"], "test": content["test"]}
    path.write_text(json.dumps(noisy))
    with pytest.raises(DataError, match="defective images to train on"):
        open_dataset(root, "audiojack")
    path.write_text(json.dumps({"train": [{"file": "a.png"}], "test": []}))
    with pytest.raises(DataError, match="no list 'train'") as raised:
        open_dataset(root, "audiojack")
    assert "another version" in raised.value.remedy
    path.write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        open_dataset(root, "audiojack")


def test_aircraft_in_parts(tmp_path: Path) -> None:
    root = tree("fgvc-aircraft", tmp_path)
    data = root / "fgvc-aircraft-2013b/data"
    (data / "images/091train002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of them missing, first .*091train002.jpg"):
        open_dataset(root, "91")
    (data / "variants.txt").write_text("707-320\n")
    with pytest.raises(DataError, match="1 variants, expected 100"):
        open_dataset(root, "91")


def test_cars_without_labels_of_the_test_images(tmp_path: Path) -> None:
    root = tree("stanford-cars", tmp_path)
    (root / "cars_test_annos_withlabels.mat").rename(root / "devkit/cars_test_annos_withlabels.mat")
    assert counts(open_dataset(root, "1")) == (TRAIN, 0, TEST, 2 * TEST)
    (root / "devkit/cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match=r"cars_test_annos_withlabels.mat: missing"):
        open_dataset(root, "1")
    (root / "devkit/cars_meta.mat").write_bytes(b"no such file")
    with pytest.raises(DataError, match="no MATLAB file"):
        open_dataset(root, "1")


def test_a_class_tree_with_a_class_in_one_part_only(tmp_path: Path) -> None:
    root = tree("view", tmp_path)
    (root / "test/sea").rename(root / "test/lake")
    with pytest.raises(DataError, match="class 'lake' is in one of train and test only"):
        open_dataset(root, "forest")


def test_view_as_it_is_downloaded(tmp_path: Path) -> None:
    root = tree("view", tmp_path)
    for part in ("train", "test"):
        (root / f"seg_{part}").mkdir()
        (root / part).rename(root / f"seg_{part}/seg_{part}")
    assert counts(open_dataset(root, "sea")) == (TRAIN, 0, TEST, 2 * TEST)


# --- saturation thresholds of MVTec LOCO ---


def test_how_much_of_a_defect_has_to_be_found(tmp_path: Path) -> None:
    dataset = opened("mvtec-loco", tmp_path)
    by_label = {sample.label: sample for sample in dataset.test}
    logical = saturated_regions(by_label["logical_anomalies"], dataset.saturation)
    structural = saturated_regions(by_label["structural_anomalies"], dataset.saturation)
    assert [int(one.mask.sum()) for one in logical] == [36, 9]
    assert [one.saturation for one in logical] == [12, 9]  # never more than the defect itself
    assert [one.saturation for one in structural] == [36, 9]


def test_masks_and_thresholds_of_different_versions(tmp_path: Path) -> None:
    root = tree("mvtec-loco", tmp_path) / "pushpins"
    path = root / "defects_config.json"
    path.write_text(path.read_text().replace("254", "7"))
    dataset = open_dataset(root)
    sample = next(one for one in dataset.test if one.label == "logical_anomalies")
    with pytest.raises(DataError, match="pixel values 254, expected one of those"):
        saturated_regions(sample, dataset.saturation)
    for content in ('[{"pixel_value": 254}]', "[]"):
        path.write_text(content)
        with pytest.raises(DataError, match="expected a list of pixel_value"):
            open_dataset(root)
