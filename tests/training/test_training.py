"""Training: the same command gives the same weights, however often it was interrupted."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_helpers import environment, generalad_head, images_of, start, tiny_config, write_toml

from generalad.data import dataset as opening
from generalad.errors import ArtifactError, DataError, GadError, StorageError, UsageError
from generalad.model.storage import Trained, load_detector
from generalad.training import material
from generalad.training.cache import Features
from generalad.training.checkpoint import save_checkpoint
from generalad.training.loop import fit, learning_rate
from generalad.training.run_folder import CHECKPOINT_FILE, claimed
from generalad.training.split import split_dataset
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]

needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "trained.safetensors")


def different(first: Path, second: Path) -> list[str]:
    """Names of the trained tensors that differ in any bit."""
    ours, theirs = tensors(first), tensors(second)
    return [n for n in ours.keys() | theirs.keys() if not torch.equal(ours[n], theirs[n])]


def copy_of(parts: Path, folder: Path) -> Path:
    return Path(shutil.copytree(parts, folder))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    run_folder: Path, parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # the state of the caller must not matter
    same = train_detector(parts, tmp_path / "a", tiny_config(), weights=tiny_weights, cache=cache)
    assert different(same.folder, run_folder) == []
    assert same.spec.thresholds == load_detector(run_folder).spec.thresholds
    other = train_detector(
        parts, tmp_path / "b", tiny_config(seed=1), weights=tiny_weights, cache=cache
    )
    assert different(other.folder, run_folder)


def test_what_a_trained_folder_holds(run_folder: Path, trained: Trained, parts: Path) -> None:
    held = {path.name for path in run_folder.iterdir() if not path.name.startswith(".")}
    assert held == {
        *("detector.json", "trained.safetensors", "calibration"),
        *("run.json", "history.json"),
    }
    spec = trained.spec
    assert (spec.class_name, spec.training_set.images) == ("parts", 13)
    assert spec.calibration.images == len(trained.calibration_images()) == 3
    assert spec.image_size == (64, 64)
    assert spec.map_size == trained.detector.map_size == (16, 16)
    assert spec.top_k == 3
    assert "last epoch" in spec.metrics["selection_rule"]
    assert spec.backbone.layers == (2,)
    assert not trained.detector.training
    losses = json.loads((run_folder / "history.json").read_text())["loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_a_finished_run_is_loaded_and_not_repeated(
    run_folder: Path, parts: Path, tiny_weights: Path, cache: Path
) -> None:
    stages: set[str] = set()
    again = train_detector(
        parts,
        run_folder,
        tiny_config(),
        weights=tiny_weights,
        cache=cache,
        progress=lambda stage, done, total: stages.add(stage),
    )
    assert stages == {"check"}
    assert again.spec == load_detector(run_folder).spec


def gad_train(parts: Path, weights: Path, out: Path, cache: Path, config: Path) -> list[str]:
    options = {"--weights": weights, "--out": out, "--cache": cache, "--config": config}
    return ["train", str(parts), *(str(word) for pair in options.items() for word in pair)]


def wait_for(path: Path, process: Any) -> None:
    """Until a file exists; ends early when the process does."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def progress_of(checkpoint: Path) -> int:
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as file:
        return len(json.loads(file.metadata()["losses"]))


@needs_kill
def test_a_killed_command_goes_on_and_ends_with_the_same_bits(
    parts: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "a.toml", epochs=40, distortions=["attn", "shuffle"])
    words = gad_train(parts, tiny_weights, tmp_path / "run", tmp_path / "cache", config)
    checkpoint = tmp_path / "run" / CHECKPOINT_FILE
    # The first kill comes while features are computed, the second after the first whole epoch.
    for moment in (tmp_path / "cache" / "features", checkpoint):
        process = start(words)
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "run" / "detector.json").exists()
    assert 1 <= progress_of(checkpoint) < 40, "killed too late to show anything"
    seen: list[int] = []
    changed: dict[str, Any] = {"epochs": 40, "distortions": ["attn", "shuffle"]}
    resumed = train_detector(
        parts,
        tmp_path / "run",
        tiny_config(**changed),
        weights=tiny_weights,
        cache=tmp_path / "cache",
        progress=lambda stage, done, total: seen.append(done) if stage == "training" else None,
    )
    assert seen[0] > 1, "it started over"
    assert seen[-1] == 40
    assert not checkpoint.exists()
    straight = train_detector(
        parts,
        tmp_path / "straight",
        tiny_config(**changed),
        weights=tiny_weights,
        cache=tmp_path / "other cache",
    )
    assert different(resumed.folder, straight.folder) == []
    assert resumed.spec.thresholds == straight.spec.thresholds


@needs_kill
def test_ctrl_c_ends_with_130_and_the_next_call_goes_on(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "a.toml", epochs=400)
    words = gad_train(parts, tiny_weights, tmp_path / "run", cache, config)
    process = start(words)
    wait_for(tmp_path / "run" / CHECKPOINT_FILE, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "gad: interrupted"
    assert "Traceback" not in err
    done = progress_of(tmp_path / "run" / CHECKPOINT_FILE)
    first: list[int] = []

    class Enough(Exception):
        pass

    def stop(stage: str, now: int, total: int) -> None:
        if stage == "training":
            first.append(now)
            raise Enough

    with pytest.raises(Enough):
        train_detector(
            parts,
            tmp_path / "run",
            tiny_config(epochs=400),
            weights=tiny_weights,
            cache=cache,
            progress=stop,
        )
    assert first == [done + 1]


def test_another_configuration_in_the_same_folder_is_refused_by_name(
    run_folder: Path, parts: Path, tiny_weights: Path, cache: Path
) -> None:
    config = tiny_config(lr=1e-3, epochs=4)
    with pytest.raises(UsageError, match="other") as caught:
        train_detector(parts, run_folder, config, weights=tiny_weights, cache=cache)
    for words in ("epochs (3 there, 4 here)", "lr (0.0005 there, 0.001 here)"):
        assert words in caught.value.message
    assert "batch_size" not in caught.value.message
    assert "--out" in caught.value.remedy


def test_other_images_in_the_same_folder_are_refused(
    run_folder: Path, parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    fewer = copy_of(parts, tmp_path / "parts")
    (fewer / "train" / "good" / "003.png").unlink()
    with pytest.raises(UsageError, match="training images"):
        train_detector(fewer, run_folder, tiny_config(), weights=tiny_weights, cache=cache)


def test_a_foreign_folder_is_left_as_it_is(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds no training run \(holiday\.txt"):
        train_detector(parts, tmp_path, tiny_config(), weights=tiny_weights, cache=cache)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_a_folder_that_cannot_hold_weights_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(UsageError, match="no UTF-8"), claimed(folder, {}):
        pass
    assert not folder.exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "run", {"config": {}}),
        pytest.raises(StorageError, match="another process is training"),
        claimed(tmp_path / "run", {"config": {}}),
    ):
        pass
    with claimed(tmp_path / "run", {"config": {}}):
        pass


@pytest.mark.parametrize("content", ["[1]", "{", "3"])
def test_a_damaged_run_file_is_no_crash(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(GadError, match=r"run\.json|other|belongs"), claimed(tmp_path, {"a": 1}):
        pass


def test_a_damaged_checkpoint_says_what_to_do(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def stop(stage: str, now: int, total: int) -> None:
        if stage == "training":
            raise Enough

    config = tiny_config()
    options: dict[str, Any] = {"weights": tiny_weights, "cache": cache}
    with pytest.raises(Enough):
        train_detector(parts, tmp_path / "run", config, progress=stop, **options)
    path = tmp_path / "run" / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="damaged") as caught:
        train_detector(parts, tmp_path / "run", config, **options)
    assert "delete it" in caught.value.remedy
    path.unlink()
    train_detector(parts, tmp_path / "run", config, **options)


def test_a_corrupt_training_image_stops_with_the_list_or_is_recorded(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    broken = copy_of(parts, tmp_path / "parts")
    bad = broken / "train" / "good" / "004.png"
    bad.write_bytes(bad.read_bytes()[:500])
    (broken / "train" / "good" / "005.png").write_bytes(b"")
    options: dict[str, Any] = {"weights": tiny_weights, "cache": cache}
    with pytest.raises(DataError) as caught:
        train_detector(broken, tmp_path / "run", tiny_config(), **options)
    assert "004.png" in str(caught.value)
    assert "005.png" in str(caught.value)
    assert "--skip-bad" in caught.value.remedy
    assert not (tmp_path / "run").exists()
    done = train_detector(broken, tmp_path / "run", tiny_config(), skip_bad=True, **options)
    assert [Path(name).name for name in done.spec.training_set.skipped] == ["004.png", "005.png"]
    assert done.spec.training_set.images + done.spec.calibration.images == 14


def test_test_images_are_never_read(
    parts: Path,
    tiny_weights: Path,
    cache: Path,
    tmp_path: Path,
    run_folder: Path,
) -> None:
    unreadable = copy_of(parts, tmp_path / "parts")
    for path in images_of(unreadable / "test") + images_of(unreadable / "ground_truth"):
        path.write_bytes(b"no image")
    done = train_detector(
        unreadable, tmp_path / "run", tiny_config(), weights=tiny_weights, cache=cache
    )
    assert different(done.folder, run_folder) == []


def test_calibration_images_are_not_trained_on(parts: Path) -> None:
    split = split_dataset(parts, tiny_config(), skip_bad=False)
    train, held = ({sample.path for sample in part} for part in (split.train, split.calibration))
    assert not train & held
    assert train | held == {sample.path for sample in opening.open_dataset(parts).train}
    other = split_dataset(parts, tiny_config(seed=5), skip_bad=False)
    assert {sample.path for sample in other.calibration} != held


def test_the_last_epoch_wins(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generalad.training import loop

    kept: list[dict[str, Tensor]] = []
    original = save_checkpoint

    def keep(path: Path, model: torch.nn.Module, *rest: Any) -> None:
        kept.append({f"head.discriminator.{k}": v.clone() for k, v in model.state_dict().items()})
        original(path, model, *rest)

    monkeypatch.setattr(loop, "save_checkpoint", keep)
    done = train_detector(
        parts, tmp_path / "run", tiny_config(seed=3), weights=tiny_weights, cache=cache
    )
    assert len(kept) == 3
    final = tensors(done.folder)
    assert all(torch.equal(final[name], kept[-1][name]) for name in final)
    assert not all(torch.equal(final[name], kept[-2][name]) for name in final)


def test_the_seed_decides_order_noise_and_dropout(trained: Trained) -> None:
    rng = np.random.default_rng(0)
    features = Features(rng.normal(size=(4, 16, 64)).astype(np.float16), None, True, 0)

    def loss(seed: int, **changes: Any) -> float:
        discriminator = copy.deepcopy(generalad_head(trained.detector).discriminator)
        config = tiny_config(seed=seed, epochs=1, **changes)
        return fit(discriminator, features, config, device=torch.device("cpu"))[0]

    state = torch.random.get_rng_state()
    assert loss(0) == loss(0)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's chance was touched"
    # One step holds all images, so their order changes nothing: what is left is noise and dropout.
    assert loss(0) != loss(1)


@pytest.mark.parametrize("end", [0.2, 0.5])
@pytest.mark.parametrize("epochs", [1, 2, 10, 160])
def test_the_learning_rate_falls_on_a_cosine(epochs: int, end: float) -> None:
    config = tiny_config(epochs=epochs, lr_decay_factor=end)
    rates = [learning_rate(config, epoch) for epoch in range(epochs)]
    assert rates[0] == config.lr
    assert learning_rate(config, epochs) == pytest.approx(end * config.lr)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert min(rates) > end * config.lr
    if epochs % 2 == 0:
        assert rates[epochs // 2] == pytest.approx(config.lr * (1 + end) / 2)
    assert rates == pytest.approx(
        [
            config.lr * (end + (1 - end) * (1 + math.cos(math.pi * e / epochs)) / 2)
            for e in range(epochs)
        ]
    )
    assert tiny_config().lr_decay_factor == 0.2, "that of the paper's jobs"


def test_a_loss_that_is_not_finite_is_an_error(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    config = tiny_config(lr=1e30)
    with pytest.raises(GadError, match="loss became") as caught:
        train_detector(parts, tmp_path / "run", config, weights=tiny_weights, cache=cache)
    assert "lower lr" in caught.value.remedy


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "trained.safetensors").write_bytes(b"x" * 100),
        lambda folder: (folder / "trained.safetensors").unlink(),
        lambda folder: (folder / "detector.json").write_text("{"),
        lambda folder: (folder / "detector.json").write_text("[]"),
        lambda folder: (folder / "detector.json").unlink(),
        lambda folder: _edit(folder, kind="other"),
        lambda folder: _edit(folder, version=99),
        lambda folder: _edit(folder, version="1"),
        lambda folder: _edit(folder, config=None),
        lambda folder: _edit(folder, config={"layer": [1]}),
        lambda folder: _edit(folder, spec=None),
    ],
)
def test_a_damaged_detector_is_refused(run_folder: Path, tmp_path: Path, damage: Any) -> None:
    folder = copy_of(run_folder, tmp_path / "run")
    damage(folder)
    with pytest.raises(ArtifactError):
        load_detector(folder)


def test_pool_size_and_weights_are_part_of_what_identifies_features(
    parts: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []

    def stop(*_arguments: Any, identity: dict[str, Any], **_options: Any) -> None:
        found.append(identity)
        raise KeyboardInterrupt

    monkeypatch.setattr(material, "cached_features", stop)
    for size in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            config = tiny_config(pool_size=size)
            train_detector(parts, tmp_path / str(size), config, weights=tiny_weights)
    assert [identity.pop("pool_size") for identity in found] == [3, 5]
    assert found[0] == found[1]
    assert found[0].keys() == {"name", "layers", "levels", "weights", "mean", "std"}
    with pytest.raises(UsageError, match=r"other pool_size \(3 there, 5 here\)"):
        train_detector(parts, tmp_path / "3", tiny_config(pool_size=5), weights=tiny_weights)


def test_a_detector_from_before_says_why_it_is_refused(run_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(run_folder, tmp_path / "run")
    _edit(folder, version=1)
    with pytest.raises(ArtifactError, match=r"older than the 3 .* another way") as caught:
        load_detector(folder)
    assert caught.value.remedy == "train again"


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "detector.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_full_disk_never_leaves_half_a_detector(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from generalad.model.storage import save_detector

    original, calls = os.replace, [0]
    for fails_at in range(5):

        def limited(source: Any, target: Any, fails_at: int = fails_at) -> None:
            calls[0] += 1
            if calls[0] > fails_at:
                raise OSError(28, "No space left on device")
            original(source, target)

        calls[0] = 0
        folder = tmp_path / str(fails_at)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", limited)
            with pytest.raises(StorageError, match="disk is full"):
                save_detector(
                    folder, trained.detector, trained.spec, list(trained.calibration_images())
                )
        assert not (folder / "detector.json").exists()


def test_environment_of_subprocesses_is_this_tree() -> None:
    assert Path(environment()["PYTHONPATH"], "generalad").is_dir()
