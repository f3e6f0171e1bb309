"""What a run says of itself: that it will be long, and that it learned nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from training_helpers import TINY, body, generalad_head, tiny_config

from generalad.config import PRESETS, QUICK_PRESET
from generalad.model.backbone import wrap
from generalad.model.detector import Detector
from generalad.model.storage import Trained
from generalad.progress import Progress
from generalad.training import duration, loop
from generalad.training import train as module
from generalad.training.duration import Duration, estimate
from generalad.training.objective import chance_loss
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]


@pytest.mark.parametrize(
    ("features", "training", "words"),
    [
        (3000, 500, None),
        (0, 4 * 3600, "about 4.0 h on this machine (features 0 s, 3 epochs 4.0 h)"),
        (3000, 3000, "about 1.7 h on this machine (features 50 min, 3 epochs 50 min)"),
    ],
)
def test_only_long_runs_are_announced(features: float, training: float, words: str | None) -> None:
    line = Duration(features, training).announcement(tiny_config())
    if words is None:
        assert not line
    else:
        assert words in line
        assert f"--preset {QUICK_PRESET} is quick" in line


def test_the_quick_preset_does_not_name_itself() -> None:
    line = Duration(0, 7200).announcement(PRESETS[QUICK_PRESET])
    assert "fewer --epochs" in line
    assert "--preset" not in line


def test_the_estimate_counts_images_and_steps(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = copy.deepcopy(trained.detector)
    monkeypatch.setattr(duration, "_seconds", lambda work, _device: float(work() is not None) + 1)
    config = tiny_config(epochs=5, batch_size=4)
    # 1 second for the one blank image, 2 for a step of the four images that it is made of.
    assert estimate(detector, config, images=18, cached=10) == Duration(8, 5 * 4 * 2)
    assert estimate(detector, config, images=18, cached=18).features == 0
    assert estimate(detector, config, images=3, cached=0) == Duration(3, 5 * 2)


def test_the_estimate_leaves_everything_as_it_was(trained: Trained) -> None:
    detector = copy.deepcopy(trained.detector)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    chance = torch.random.get_rng_state()
    found = estimate(detector, tiny_config(), images=16, cached=0)
    assert found.features > 0
    assert found.training > 0
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    assert all(parameter.grad is None for parameter in detector.parameters())
    assert not generalad_head(detector).discriminator.training


@pytest.mark.parametrize("method", ["simplenet", "kdad"])
def test_baselines_are_measured_without_being_touched(method: str) -> None:
    size = {"backbone": TINY, "layers": [2], "image_size": [64, 64], "hidden": 16}
    config = PRESETS[method].replaced(size)
    model = body(TINY, img_size=(64, 64), num_classes=0)
    detector = Detector(config, wrap(model, config.layers, config.image_size)).eval()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    assert estimate(detector, config, images=16, cached=16).training > 0
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_a_long_run_is_announced_before_its_features_and_once(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(module, "estimate", lambda *_a, **_o: Duration(60, 9 * 3600))
    monkeypatch.setattr(loop, "learning_rate", lambda *_arguments: 1e-3)

    def interrupted(stage: str, done: int, total: int) -> None:
        heard.append(stage)
        if (stage, done) == ("training", 1):
            raise KeyboardInterrupt

    def run(progress: Progress) -> None:
        train_detector(
            parts, tmp_path / "run", tiny_config(seed=9), weights=tiny_weights,
            cache=tmp_path / "cache", progress=progress, log=heard.append,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    (line,) = (one for one in heard if "about 9.0 h" in one)
    assert heard.index(line) < heard.index("features")
    heard.clear()
    run(lambda *_news: None)
    assert not [one for one in heard if "this machine" in one], (
        "the second half of a run was announced again"
    )


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"noise_units": "absolute"}, 'noise_units = "features"'),
        ({"noise_units": "features"}, "raise noise_std"),
    ],
)
def test_a_loss_that_ends_at_chance_is_said_and_kept(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path,
    changes: dict[str, str], remedy: str,
) -> None:  # fmt: skip
    config = tiny_config(noise_std=1e-6, epochs=1, lr=1e-9, **changes)
    heard: list[str] = []
    for _ in range(2):  # the second call finds the finished run
        train_detector(
            parts, tmp_path / "run", config, weights=tiny_weights, cache=cache, log=heard.append
        )
    assert len(heard) == 2
    assert heard[0] == heard[1]
    assert "guessing gives 2.773" in heard[0]
    assert remedy in heard[0]
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert heard[0] == f"warning: {history['warning']}"
    assert history["chance"] == chance_loss(config)


def test_a_run_that_learns_says_nothing(
    parts: Path, tiny_weights: Path, cache: Path, tmp_path: Path
) -> None:
    heard: list[str] = []
    config = tiny_config(noise_std=3.0, epochs=8, lr=2e-3, seed=4)
    train_detector(
        parts, tmp_path / "run", config, weights=tiny_weights, cache=cache, log=heard.append
    )
    assert not heard
    assert "warning" not in json.loads((tmp_path / "run" / "history.json").read_text())
