"""`gad reproduce` on small trees: every layout, both protocols, resumed after a kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_helpers
from cli_helpers import Capture, gad, one_line
from dataset_trees import TREES, cifar, class_folders, fashion_mnist, tree
from killed_runs import kill_within_the_last_run
from training_helpers import TINY_SETTINGS, environment, start_python, write_image, write_parts

from generalad import reproduce
from generalad.errors import DataError, UsageError
from generalad.evaluation import evaluate
from generalad.model.heads import HEADS
from generalad.reproduction.cached_test_images import CachedTestImages
from generalad.reproduction.table import Reproduction
from generalad.unpack import unpack

pytest_plugins = ["training_fixtures"]

TINY = {key: value for key, value in TINY_SETTINGS.items() if key != "method"}
CLASSES = {
    "mvtec-ad": ["bottle", "cable"],
    "visa": ["pcb1"],
    "view": ["sea", "street"],
    "fgvc-aircraft": ["91"],
    "stanford-cars": ["2"],
    "cifar-10": ["cat"],
    "cifar-100": ["fish"],
    "fashion-mnist": ["bag"],
}


def run(
    key: str, data: Path, out: Path, weights: Path, cache: Path, **options: Any
) -> Reproduction:
    return reproduce(key, data, out, weights=weights, cache=cache, **small(key, **options))


def small(key: str, **options: Any) -> dict[str, Any]:
    """With the tiny network, one epoch and few classes, where `options` do not say otherwise."""
    changes = {**TINY, "epochs": 1, **options.pop("config", {})}
    classes = CLASSES.get(key, [TREES.get(key, ("", ""))[1]])
    return {"classes": classes, **options, "config": changes}


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small files cannot have the MD5 sums that torchvision expects of CIFAR."""
    from torchvision import datasets

    for kind in (datasets.CIFAR10, datasets.CIFAR100):
        for name in ("train_list", "test_list"):
            monkeypatch.setattr(kind, name, [[file, None] for file, _ in getattr(kind, name)])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("key", [*TREES, "cifar-10", "cifar-100", "fashion-mnist"])
def test_every_layout_becomes_a_table_after_a_kill(
    key: str, tmp_path: Path, tiny_weights: Path
) -> None:
    if key in TREES:
        data = tree(key, tmp_path / "tree")
    else:
        original, data = tmp_path / "original", tmp_path / "data"
        original.mkdir()
        if key == "fashion-mnist":
            fashion_mnist(original)
        else:
            cifar(original, coarse=key == "cifar-100")
        unpack(key, original, data)
    out, cache, two = tmp_path / "out", tmp_path / "cache", {"epochs": 2}
    epochs: list[int] = []
    if sys.platform != "win32":
        options = {**small(key, config=two), "weights": tiny_weights, "cache": cache}
        assert kill_within_the_last_run(key, data, out, **options) == -signal.SIGKILL
        assert len([*out.rglob("checkpoint.safetensors")]) == 1
        assert not (out / "table.json").exists()
    said: list[str] = []
    done = run(
        key, data, out, tiny_weights, cache, config=two, log=said.append,
        progress=lambda stage, number, _: epochs.append(number) if stage == "training" else None,
    )  # fmt: skip
    count = len(CLASSES.get(key, [1]))
    if sys.platform != "win32":
        assert epochs == [2]  # of the last run, from its checkpoint; the others are not run again
        assert count == 1 or f"{count - 1} of {count} runs are finished already" in said
    assert len(done.results) == count
    assert all(0 <= result.image_auroc <= 1 for result in done.results)
    has_masks = key in ("mvtec-ad", "mvtec-loco", "mvtec-ad-2", "visa", "mpdd", "real-iad")
    assert all((result.pixel_auroc is not None) == has_masks for result in done.results)
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "Protocol last: the last epoch of the schedule; nothing was chosen on test" in text
    assert ("GeneralAD, ViT-L" in text) == bool(done.published)
    record = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))
    assert [row["class"] for row in record["rows"]] == [
        *(result.class_name for result in done.results),
        "mean",
    ]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Protocol last" in page and "<script" not in page and "http-equiv" not in page


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "mvtec_ad"
    for seed, name in enumerate(("bottle", "cable")):
        write_parts(root / name, train=8, seed=seed)
    return root


def test_seeds_and_classes_are_averaged_and_the_published_stand_beside(
    two_classes: Path,
    tmp_path: Path,
    tiny_weights: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tmp_path / "tiny.toml"
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in TINY.items()]
    settings.write_text("\n".join(lines))
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "copies"))
    data = f"file://{two_classes}" if find_spec("fsspec") else two_classes
    words = ["reproduce", "mvtec-ad", "--data", data, "--out", tmp_path / "out"]
    words += ["--classes", "bottle,cable", "--seeds", "0,10", "--backbone", "base"]
    words += ["--config", settings, "--weights", tiny_weights, "--cache", tmp_path / "cache"]
    code, out, err = gad(capsys, *words, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["protocol"] == "last"
    assert found["changed_settings"]["epochs"] == 3
    values = {(one["class_name"], one["seed"]): one["image_auroc"] for one in found["runs"]}
    assert set(values) == {(name, seed) for name in ("bottle", "cable") for seed in (0, 10)}
    bottle, _, mean = (row["image_auroc"] for row in found["rows"])
    both = [values["bottle", seed] for seed in (0, 10)]
    np.testing.assert_allclose(
        [bottle["mean"], bottle["spread"]], [np.mean(both), np.std(both, ddof=1)]
    )
    seeds = [np.mean([values[name, seed] for name in ("bottle", "cable")]) for seed in (0, 10)]
    np.testing.assert_allclose(
        [mean["mean"], mean["spread"]], [np.mean(seeds), np.std(seeds, ddof=1)]
    )
    assert "GeneralAD on MVTec AD (protocol last)" in " ".join(err.split())
    assert "GeneralAD, ViT-B" in err and "99.2" in err
    assert "(this method)" not in err  # the settings name a backbone of their own
    for text in (err, (tmp_path / "out" / "table.md").read_text("utf-8")):
        plain = " ".join(text.split())
        assert "Protocol last:" in plain and "nothing was chosen on test images" in plain
        assert "2 seeds (0, 10): mean ± standard deviation over seeds" in plain
        assert "Not the published settings: " in plain and "epochs = 3" in plain
        assert "2 of 15 classes" in plain
        assert "Not whole: MVTec AD, bottle: 8 training images, published 209" in plain
    assert "cable, seed 10: image AUROC" in " ".join(err.split())
    assert "4 of 4 runs" in " ".join(err.split())


def test_a_run_is_measured_as_gad_eval_measures_its_detector(
    two_classes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    done = run(
        "mvtec-ad",
        two_classes,
        tmp_path / "out",
        tiny_weights,
        tmp_path / "c",
        classes=["bottle"],
        config={"epochs": 3},
    )
    (result,) = done.results
    folder = tmp_path / "out" / "bottle" / "seed0" / "detector"
    found = evaluate(folder, two_classes, class_name="bottle").evaluation
    # Scores are the same but for features in half precision.
    assert result.image_auroc == pytest.approx(found.image_auroc.value, abs=0.07)
    assert result.pixel_auroc == pytest.approx(found.pixel_auroc.value, abs=5e-3)
    assert result.aupro == pytest.approx(found.aupro.value, abs=5e-3)
    assert (result.good, result.defective) == (found.good, found.defective)
    assert (result.epoch, result.epochs) == (3, 3)


@pytest.mark.parametrize("method", [m for m in ("simplenet", "kdad") if m in HEADS])
@pytest.mark.parametrize("protocol", ["last", "paper"])
def test_the_baselines_are_reproduced_alike(
    method: str, protocol: str, two_classes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    changes = {key: TINY[key] for key in ("backbone", "layers", "image_size", "hidden")}
    done = reproduce(
        "mvtec-ad",
        two_classes,
        tmp_path / "out",
        method=method,
        classes=["cable"],
        protocol="paper" if protocol == "paper" else "last",
        # Four images an epoch, as semantic sets have: features of those that are seen alone.
        config={**changes, "epochs": 2, "heads": 4, "blocks": 1, "epoch_images": 4},
        weights=tiny_weights,
        cache=tmp_path / "cache",
    )
    (result,) = done.results
    folder = tmp_path / "out" / "cable" / "seed0" / "detector"
    found = evaluate(folder, two_classes, class_name="cable").evaluation
    assert result.image_auroc == pytest.approx(found.image_auroc.value, abs=0.07)
    assert result.pixel_auroc == pytest.approx(found.pixel_auroc.value, abs=5e-3)
    assert (folder / "training.csv").exists()


def test_the_protocol_paper_takes_the_best_epoch_on_the_test_set(
    two_classes: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.75, 0.7504, 0.6])
    original = CachedTestImages.image_auroc
    states: list[dict[str, Any]] = []

    def scripted(images: Any, detector: Any) -> float:
        original(images, detector)
        states.append({k: v.clone() for k, v in detector.trained_state().items()})
        return next(scores)

    monkeypatch.setattr(CachedTestImages, "image_auroc", scripted)
    done = run(
        "mvtec-ad",
        two_classes,
        tmp_path / "out",
        tiny_weights,
        tmp_path / "c",
        classes=["bottle"],
        config={"epochs": 4},
        protocol="paper",
    )
    (result,) = done.results
    assert (result.epoch, result.epochs) == (2, 4)  # the first of those equal to three places
    from generalad.model.storage import load_detector

    loaded = load_detector(tmp_path / "out" / "bottle" / "seed0" / "detector", weights=tiny_weights)
    kept = loaded.detector.trained_state()
    assert all((kept[name] == states[1][name]).all() for name in kept)
    assert not all((kept[name] == states[3][name]).all() for name in kept)
    assert "on the test set" in loaded.spec.metrics["selection_rule"]
    assert loaded.spec.metrics["epoch"] == 2
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "(protocol paper)" in text and "an upper bound" in text
    assert not (tmp_path / "out" / "bottle" / "seed0" / "best.safetensors").exists()


def test_one_class_normal_or_anomalous_and_few_shots(tmp_path: Path, tiny_weights: Path) -> None:
    data = tree("view", tmp_path)
    done = run(
        "view",
        data,
        tmp_path / "out",
        tiny_weights,
        tmp_path / "c",
        one_anomalous=True,
        classes=["sea"],
    )
    (result,) = done.results
    assert (result.good, result.defective) == (4, 2)
    assert result.trained_on > 6
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "Each class in turn is the anomalous one" in text
    assert "Published means are with one normal class at a time: not the same" in text
    parts = class_folders(tmp_path / "mvtec", ("bottle",))
    done = run(
        "mvtec-ad",
        parts,
        tmp_path / "few",
        tiny_weights,
        tmp_path / "c",
        classes=["bottle"],
        shots=4,
    )
    assert done.results[0].trained_on == 4
    assert "4 shots" in done.title
    text = (tmp_path / "few" / "table.md").read_text("utf-8")
    assert "Published means are on all training images: not the same measurement." in text


def test_ten_detectors_do_not_cost_ten_passes(
    tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generalad.model.backbone import ViTBackbone

    passed: list[int] = []
    original = ViTBackbone.forward

    def counting(backbone: Any, images: Any) -> Any:
        if float(images.abs().std()) > 0 and len(images) > 1:
            passed.append(len(images))
        return original(backbone, images)

    data, rng = tmp_path / "view", np.random.default_rng(0)
    names = ("buildings", "forest", "glacier", "mountain", "sea", "street")
    for name in names:
        for part, count in (("train", 12), ("test", 4)):
            for number in range(count):
                image = rng.integers(0, 256, (64, 64, 3), np.uint8)
                write_image(data / part / name / f"{number}.png", image)
    monkeypatch.setattr(ViTBackbone, "forward", counting)
    monkeypatch.setattr("generalad.training.calibrated_spec.drawn_misses", lambda *_, **__: ())
    options: dict[str, Any] = {"classes": names, "config": {"epoch_images": 4, "epochs": 2}}
    for one_anomalous in (False, True):
        passed.clear()
        cache = tmp_path / f"cache-{one_anomalous}"
        out = tmp_path / f"out-{one_anomalous}"
        run("view", data, out, tiny_weights, cache, one_anomalous=one_anomalous, **options)
        # Test images once for all six; of each class what two epochs of four images see.
        once = len(names) * 4 + len(names) * 2 * 4
        calibration = sum(
            len(list((out / name / "seed0/detector/calibration").iterdir())) for name in names
        )
        assert sum(passed) <= once + calibration
        assert sum(passed) < len(names) * len(names) * 4  # six passes over the test images alone


def test_what_is_wrong_is_said_in_one_line_before_anything_is_trained(
    two_classes: Path, tmp_path: Path, tiny_weights: Path, capsys: Capture
) -> None:
    words = ["reproduce", "mvtec-ad", "--data", two_classes, "--out", tmp_path / "out"]
    for more, expected in (
        ([], "has the class 'capsule', but it is not here"),
        ([], "--classes bottle,cable takes those that are here"),
        (["--classes", "botle"], "not of mvtec-ad"),
        (["--seeds", "0,x"], "whole numbers"),
        (["--method", "kdad", "--backbone", "small"], "has one backbone"),
    ):
        code, _, err = gad(capsys, *words, *more)
        assert code in (1, 2)
        assert expected in one_line(err)
    words[3] = two_classes / "bottle"
    code, _, err = gad(capsys, *words)
    assert code == 1 and "bottle: not the folder of the classes of MVTec AD" in one_line(err)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="an option of its own"):
        reproduce("mvtec-ad", two_classes, tmp_path / "out", config={"seed": 3})
    with pytest.raises(DataError, match="an AUROC needs good and defective"):
        write_parts(tmp_path / "one" / "bottle", bad=0)
        run(
            "mvtec-ad", tmp_path / "one", tmp_path / "o", tiny_weights, tmp_path, classes=["bottle"]
        )


def test_a_folder_belongs_to_one_table(
    two_classes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    options: dict[str, Any] = {"classes": ["bottle"]}
    run("mvtec-ad", two_classes, tmp_path / "out", tiny_weights, tmp_path / "c", **options)
    with pytest.raises(UsageError, match="protocol"):
        run(
            "mvtec-ad",
            two_classes,
            tmp_path / "out",
            tiny_weights,
            tmp_path / "c",
            protocol="paper",
            **options,
        )
    # Further classes and seeds are welcome there.
    done = run(
        "mvtec-ad", two_classes, tmp_path / "out", tiny_weights, tmp_path / "c", seeds=[0, 1]
    )
    assert len(done.results) == 4


KILLED = """
import json, sys
from generalad import reproduce
data, out, weights, cache, settings = sys.argv[1:]
def log(line):
    print(line, flush=True)
def progress(stage, done, total):
    if stage == "training":
        print("epoch", done, flush=True)
done = reproduce(
    "mvtec-ad", data, out, classes=["bottle", "cable"], config=json.loads(settings),
    weights=weights, cache=cache, protocol="paper", progress=progress, log=log)
print(json.dumps([result.image_auroc for result in done.results]), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_table_goes_on_and_ends_the_same(
    two_classes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    settings = json.dumps({**TINY, "epochs": 12})
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(Path(training_helpers.__file__).parent)

    def begin(out: str) -> Any:
        words = (two_classes, tmp_path / out, tiny_weights, tmp_path / "cache", settings)
        return start_python(KILLED, *map(str, words), env=env)

    process = begin("out")
    lines: list[str] = []
    while not (len(lines) > 13 and lines[-1] == "epoch 3"):  # within the second class
        line = process.stdout.readline()
        assert line, process.stderr.read()
        lines.append(line.strip())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result = tmp_path / "out" / "bottle" / "seed0" / "result.json"
    before = result.read_bytes(), result.stat().st_mtime_ns
    assert not (tmp_path / "out" / "cable" / "seed0" / "result.json").exists()
    assert (tmp_path / "out" / "cable" / "seed0" / "detector" / "checkpoint.safetensors").exists()

    out, err = begin("out").communicate()
    said = out.splitlines()
    assert "1 of 2 runs are finished already" in said, err
    epochs = [int(line.split()[1]) for line in said if line.startswith("epoch")]
    assert epochs[0] > 3 and epochs == list(range(epochs[0], 13))  # one class, from its checkpoint
    assert (result.read_bytes(), result.stat().st_mtime_ns) == before
    whole, err = begin("whole").communicate()
    assert whole.splitlines()[-1] == said[-1], err
    for name in ("bottle", "cable"):
        ends = [
            (tmp_path / out / name / "seed0" / "detector" / "trained.safetensors").read_bytes()
            for out in ("out", "whole")
        ]
        assert ends[0] == ends[1]
