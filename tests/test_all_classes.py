"""`train_all_classes`: a detector for each class, whoever trains them and however often."""

from __future__ import annotations

import json
import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Capture, gad, one_line
from training_helpers import tiny_config, write_parts, write_toml

from generalad.all_classes import train_all_classes
from generalad.cluster import one_after_another
from generalad.errors import DataError, GadError, UsageError
from generalad.reproduction.reproduce import reproduce

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, of which one has an image that cannot be read."""
    root = tmp_path_factory.mktemp("sets") / "products"
    for seed, name in enumerate(("bolt", "cap", "nut m4")):
        write_parts(root / name, train=8, good=2, bad=2, seed=seed)
    (root / "cap" / "train" / "good" / "000.png").write_bytes(b"no image")
    return root


def elsewhere(work: Any, items: Any) -> Generator[tuple[int, Any], None, None]:
    """As a cluster: what is needed is sent, the last comes first, and one is done twice."""
    sent = [pickle.loads(pickle.dumps((work, item))) for item in items]
    for place in reversed(range(len(items))):
        again = 2 if place == 0 else 1
        for _ in range(again):
            outcome = dict(one_after_another(sent[place][0], [sent[place][1]]))[0]
        yield place, pickle.loads(pickle.dumps(outcome))


def test_each_class_once_in_order_and_a_broken_one_does_not_stop_the_others(
    products: Path, tmp_path: Path, tiny_weights: Path, cache: Path
) -> None:
    options: dict[str, Any] = {
        "config": tiny_config(epochs=1), "weights": tiny_weights, "cache": cache
    }  # fmt: skip
    told: list[str] = []
    here = train_all_classes(products, tmp_path / "here", log=told.append, **options)
    assert [one.name for one in here] == ["bolt", "cap", "nut m4"]
    assert [bool(one.error) for one in here] == [False, True, False]
    assert "cannot be trained on" in here[1].error and "000.png" in here[1].error
    assert Path(here[2].folder) == tmp_path / "here" / "nut-m4"
    assert any(line.startswith("cap: failed") for line in told)

    there = train_all_classes(products, tmp_path / "there", spread=elsewhere, **options)
    assert [one.threshold for one in there] == [one.threshold for one in here]
    assert [one.resumed for one in there] == [True, False, False]  # the first was done twice
    weights = [Path(found[2].folder, "trained.safetensors").read_bytes() for found in (here, there)]
    assert weights[0] == weights[1]

    write_parts(products / "cap", train=1, good=0, bad=0)  # the image is repaired
    again = train_all_classes(products, tmp_path / "here", **options)
    assert [(one.resumed, one.error) for one in again] == [(True, ""), (False, ""), (True, "")]


def test_runs_of_a_table_may_be_measured_elsewhere(
    tmp_path: Path, tiny_weights: Path, cache: Path
) -> None:
    for seed, name in enumerate(("bottle", "cable")):
        write_parts(tmp_path / "mvtec" / name, train=8, good=2, bad=2, seed=seed)
    changes = {**tiny_config(epochs=1).to_dict()}
    for key in ("method", "seed", "shots"):
        del changes[key]
    found = []
    for number, spread in enumerate((None, elsewhere)):
        done = reproduce(
            "mvtec-ad", tmp_path / "mvtec", tmp_path / f"out{number}", config=changes,
            classes=["bottle", "cable"], weights=tiny_weights, cache=cache, spread=spread,
        )  # fmt: skip
        found.append([(one.class_name, one.image_auroc, one.pixel_auroc) for one in done.results])
    assert found[0] == found[1]

    def fails(work: Any, items: Any) -> Generator[tuple[int, Any], None, None]:
        yield 1, GadError("the node is gone")

    with pytest.raises(GadError, match="the node is gone"):
        reproduce(
            "mvtec-ad", tmp_path / "mvtec", tmp_path / "out2", config=changes,
            classes=["bottle", "cable"], weights=tiny_weights, spread=fails,
        )  # fmt: skip


def test_the_command_says_all_in_one_table(
    tmp_path: Path, tiny_weights: Path, cache: Path, capsys: Capture
) -> None:
    root = tmp_path / "products"
    for name in ("bolt", "nut"):  # folders that are no classes of a data set, but one dataset each
        good = write_parts(tmp_path / "parts", train=6) / "train" / "good"
        (root / name).mkdir(parents=True)
        good.rename(root / name / "good")
    (root / "cap" / "good").mkdir(parents=True)
    words = ["train", root, "--all-classes", "--out", tmp_path / "out", "--weights", tiny_weights]
    words += ["--config", write_toml(tmp_path / "tiny.toml", epochs=1), "--cache", cache]
    code, out, err = gad(capsys, *words)
    assert code == 1  # one has no images
    found = {one["name"]: one for one in json.loads(out)}
    assert list(found) == ["bolt", "cap", "nut"]
    assert "no good images found" in found["cap"]["error"]
    assert found["nut"]["images"] + found["nut"]["calibration_images"] >= 6
    assert "missed: of defects drawn" in err and "no good images found" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "local"], "add --all-classes"),
        (["--all-classes", "--class", "bolt"], "takes no --class"),
        (["--all-classes", "--preset", "edge", "--method", "nonsense"], "nonsense"),
        (["--all-classes", "--config", "none.toml"], "none.toml"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    words: list[str], said: str, products: Path, tmp_path: Path, capsys: Capture
) -> None:
    code, _, err = gad(capsys, "train", products, *words, "--out", tmp_path / "out")
    assert code == 2
    assert said in one_line(err)
    assert not (tmp_path / "out").exists()


def test_what_holds_no_classes(tmp_path: Path, products: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        train_all_classes(tmp_path / "none")
    with pytest.raises(DataError, match="the folders test, train of one class"):
        train_all_classes(products / "bolt")
    with pytest.raises(DataError, match="found no folders"):
        (tmp_path / "empty").mkdir()
        train_all_classes(tmp_path / "empty")
    for name in ("a b", "a:b"):
        write_parts(tmp_path / "twins" / name, train=1, good=0, bad=0)
    with pytest.raises(UsageError, match="would share the folder"):
        train_all_classes(tmp_path / "twins")
