"""`--class` and `--anomalous`: data sets of several classes on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import Capture, gad, one_line
from dataset_trees import TEST, TRAIN, TREES, class_folders, fashion_mnist, tree
from training_helpers import tiny_config

from generalad.evaluation import evaluate
from generalad.export.export import Exported
from generalad.training.split import split_dataset
from generalad.verbs import export, train

pytest_plugins = ["training_fixtures"]


@pytest.mark.parametrize("key", TREES)
def test_every_layout_is_split_checked_and_evaluated(
    key: str, exported: Exported, tmp_path: Path, capsys: Capture
) -> None:
    root, name = tree(key, tmp_path), TREES[key][1]
    code, out, _ = gad(capsys, "data", "check", root, "--class", name, "--json")
    assert code == 0
    counts = json.loads(out)["counts"]
    code, out, _ = gad(capsys, "eval", exported.path, root, "--class", name, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["good"], found["defective"]) == (counts["test good"], counts["test defective"])
    assert found["image_auroc"]["value"] is not None
    assert (found["class"], found["anomalous_class"]) == (name, None)
    has_masks = counts["masks"] > 0
    for metric in ("pixel_auroc", "aupro_005", "seg_f1", "aupro_authors"):
        assert (found[metric]["value"] is not None) == has_masks
    assert (found["au_spro_005"] is not None) == (key == "mvtec-loco")


@pytest.mark.parametrize("key", TREES)
def test_every_layout_can_be_trained_on(key: str, tmp_path: Path) -> None:
    from generalad.data.dataset import open_dataset

    dataset = open_dataset(tree(key, tmp_path), TREES[key][1])
    split = split_dataset(dataset, tiny_config(), skip_bad=False)
    assert split.name == dataset.name
    assert split.train and split.calibration
    if dataset.calibration:
        assert split.calibration == dataset.calibration
    else:
        assert {*split.train, *split.calibration} == {*dataset.train}
    assert not {split.grouping.of[s.path] for s in split.train} & {
        split.grouping.of[s.path] for s in split.calibration
    }


def test_train_names_the_run_after_the_class(
    tmp_path: Path, tiny_weights: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_folders(tmp_path / "mvtec_ad", ("bottle", "cable"))
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    trained = train(
        root,
        config=tiny_config(epochs=1),
        weights=tiny_weights,
        cache=cache,
        class_name="bottle",
        log=said.append,
    )
    assert trained.folder == Path("runs/mvtec_ad-bottle")
    assert trained.spec.class_name == "bottle"
    assert trained.spec.training_set.images + trained.spec.calibration.images == TRAIN
    (line,) = [line for line in said if line.startswith("warning: MVTec AD, bottle: 6 training")]
    assert line.endswith("the data set is not whole")


def test_one_class_anomalous(exported: Exported, tmp_path: Path) -> None:
    root = tree("view", tmp_path)
    found = evaluate(exported.path, root, anomalous="sea").evaluation
    assert (found.good, found.defective) == (2 * TEST, TEST)
    assert [kind.name for kind in found.defect_types] == ["sea"]


def test_maps_without_masks_are_not_kept(exported: Exported, tmp_path: Path) -> None:
    root = tree("view", tmp_path)
    kept = evaluate(exported.path, root, class_name="sea", html=tmp_path / "report.html")
    not_kept = evaluate(exported.path, root, class_name="sea")
    assert {result.map.shape for result in not_kept.results} == {(1, 1)}
    assert {result.map.shape for result in kept.results} == {exported.spec.map_size}
    for one, other in zip(kept.results, not_kept.results, strict=True):
        assert other.map.max() == one.map.max()


def test_wrong_classes_are_said_in_one_line(
    exported: Exported, run_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    root = tree("mvtec-ad", tmp_path)
    to_onnx = ("export", run_folder, "-o", tmp_path / "model.onnx")
    for command in (
        ("data", "check", root),
        ("train", root),
        ("eval", exported.path, root),
        (*to_onnx, "--verify-on", root),
    ):
        code, _, err = gad(capsys, *command)
        assert code == 1
        assert "--class bottle" in one_line(err)
        code, _, err = gad(capsys, *command, "--class", "cabel")
        assert code == 1
        assert "did you mean cable?" in one_line(err)
        code, _, err = gad(capsys, *command, "--anomalous", "cable")
        assert code == 2
        assert "--class cable" in one_line(err)
    code, _, err = gad(capsys, *to_onnx, "--class", "cable")
    assert code == 2
    assert "add --verify-on DATA" in one_line(err)
    assert not (tmp_path / "model.onnx").exists()


def test_an_export_is_verified_on_one_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, asked = tree("view", tmp_path), []
    monkeypatch.setattr(
        "generalad.export.export.export_detector",
        lambda *_, verify_on, **__: asked.append(verify_on),
    )
    export("runs/view", verify_on=root, class_name="sea")
    export("runs/view", verify_on=root, anomalous="sea")
    export("runs/view", verify_on=asked[0])
    good = [sum(not sample.defective for sample in dataset.test) for dataset in asked]
    assert good == [TEST, 2 * TEST, TEST]


def test_an_incomplete_set_is_warned_of(
    exported: Exported, tmp_path: Path, capsys: Capture
) -> None:
    root = class_folders(tmp_path / "mpdd", ("tubes",))
    code, _, err = gad(capsys, "eval", exported.path, root, "--class", "tubes")
    assert code == 0
    assert "warning: MPDD, tubes: 6 training images, published 122;" in err.replace("\n", " ")
    code, _, err = gad(capsys, "data", "check", root, "--class", "tubes")
    assert code == 0
    assert "warning: incomplete: MPDD, tubes" in err.replace("\n", " ")


def test_unpack_on_the_command_line(tmp_path: Path, capsys: Capture) -> None:
    root = fashion_mnist(tmp_path / "original")
    code, _, err = gad(capsys, "data", "unpack", "fashion-mnist", root, tmp_path / "out")
    assert code == 0
    assert "50 images, 50 of them written" in err.replace("\n", " ")
    code, _, err = gad(capsys, "data", "unpack", "cifar-10", root, tmp_path / "cifar")
    assert code == 1
    assert "www.cs.toronto.edu" in one_line(err)
