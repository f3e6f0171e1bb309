"""The training configuration: presets, TOML, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.config import DISTORTIONS, PRESET_USES, PRESETS, Config, load_config
from generalad.errors import ConfigError

PAPER = {
    "image_size": (518, 518),
    "distortions": ("random",),
    "noise_std": 0.25,
    "num_fake_patches": -1,
    "top_k": 10,
    "smoothing_sigma": 16.0,
    "smoothing_radius": 18,
    "hidden": 2048,
    "heads": 4,
    "blocks": 1,
    "dropout": 0.1,
    "epochs": 160,
    "batch_size": 16,
    "lr": 5e-4,
    "lr_decay_factor": 0.2,
    "pool_size": 3,
    "weight_decay": 1e-5,
    "seed": 0,
    "shots": 0,
}


@pytest.mark.parametrize(("preset", "layer"), [("small", 12), ("base", 12), ("large", 24)])
def test_presets_are_the_columns_of_the_paper(preset: str, layer: int) -> None:
    config = load_config(preset)
    assert config.backbone == f"vit_{preset}_patch14_dinov2.lvd142m"
    assert config.layers == (layer,)
    assert {name: getattr(config, name) for name in PAPER} == PAPER


def test_every_preset_loads_and_the_default_is_large() -> None:
    assert load_config() == PRESETS["large"]
    for name, config in PRESETS.items():
        assert load_config(name) == config


def test_a_file_lies_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('epochs = 3\nlr = 1\nlayers = [3, 5]\ndistortions = ["attn", "shuffle"]\n')
    config = load_config("small", file=file)
    changed = {"epochs": 3, "lr": 1.0, "layers": (3, 5), "distortions": ("attn", "shuffle")}
    assert config == dataclasses.replace(PRESETS["small"], **changed)  # type: ignore[arg-type]
    assert type(config.lr) is float


def test_the_preset_of_a_file_wins(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('preset = "base"\nepochs = 3\n')
    assert load_config("small", file=file) == dataclasses.replace(PRESETS["base"], epochs=3)


@pytest.mark.parametrize("method", ["simplenet", "kdad"])
def test_a_baseline_brings_its_own_preset_or_its_own_schedule(method: str, tmp_path: Path) -> None:
    own = PRESETS[method]
    assert load_config(None, method=method) == own
    file = tmp_path / "a.toml"
    file.write_text(f'method = "{method}"\n')
    assert load_config(None, file=file) == own
    file.write_text(f'method = "{method}"\nepochs = 3\n')
    found = load_config("edge", file=file)
    edge = PRESETS["edge"]
    assert (found.backbone, found.layers, found.smoothing_radius) == (edge.backbone, (2, 3, 4), 8)
    assert (found.method, found.lr, found.hidden) == (method, own.lr, own.hidden)
    assert (found.top_k, found.epochs) == (own.top_k, 3)
    assert not found.keeps_levels
    assert method == "kdad" or (found.noise_std, found.noise_units) == (0.25, "features")
    back = load_config(method, method="generalad")
    assert (back.backbone, back.lr, back.heads) == (own.backbone, Config().lr, Config().heads)


def test_a_method_that_is_no_baseline_leaves_the_schedule() -> None:
    assert load_config(None) == PRESETS["edge"]
    found = load_config(None, method="gaussian")
    assert found == dataclasses.replace(PRESETS["edge"], method="gaussian")
    with pytest.raises(ConfigError, match="one of generalad"):
        load_config(None, method="padim")


def test_one_number_is_a_square_and_a_single_layer() -> None:
    config = Config().replaced({"image_size": 224, "layers": 7})
    assert config.image_size == (224, 224)
    assert Config().replaced({"image_size": [224]}).image_size == (224, 224)
    assert config.layers == (7,)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("epoch", "epochs"), ("batchsize", "batch_size"), ("distortion", "distortions")],
)
def test_an_unknown_key_names_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().replaced({typo: 1})
    assert repr(typo) in caught.value.message
    assert f"did you mean {meant}?" in caught.value.remedy


def test_a_key_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        Config().replaced({"zzzzzz": 1})
    assert all(field.name in caught.value.remedy for field in dataclasses.fields(Config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "3"),
        ("epochs", 3.0),
        ("epochs", True),
        ("epochs", 0),
        ("lr", "fast"),
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("noise_std", float("nan")),
        ("smoothing_sigma", float("inf")),
        ("smoothing_sigma", -1.0),
        ("layers", []),
        ("layers", [0]),
        ("layers", [2, 2]),
        ("layers", [1.5]),
        ("layers", [True]),
        ("layers", "12"),
        ("image_size", [8, 224]),
        ("image_size", [224, 9999]),
        ("image_size", [1, 2, 3]),
        ("image_size", "224"),
        ("backbone", 5),
        ("distortions", ["noise"]),
        ("distortions", [1]),
        ("num_fake_patches", 0),
        ("num_fake_patches", -2),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("pool_size", 0),
        ("pool_size", 2),
        ("pool_size", -1),
        ("lr_decay_factor", -0.1),
        ("lr_decay_factor", 1.1),
        ("top_k", -1),
        ("shots", -1),
        ("seed", -1),
        ("smoothing_radius", -1),
        ("heads", 0),
        ("hidden", 0),
        ("blocks", 0),
        ("batch_size", 0),
        ("weight_decay", -1e-5),
        ("calibration_fraction", 0.0),
        ("calibration_fraction", 1.0),
        ("false_alarm_rate", 0.0),
        ("false_alarm_rate", 1.0),
        ("false_alarm_rate", float("nan")),
    ],
)
def test_wrong_types_and_ranges_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        Config().replaced({key: value})


@given(st.lists(st.sampled_from(DISTORTIONS), max_size=3))
def test_distortions_exclude_each_other_within_their_family(names: list[str]) -> None:
    noise = len(set(names) & {"random", "attn"})
    moves = len(set(names) & {"copy_out", "shuffle", "randshuffle"})
    repeated = len(set(names)) != len(names)
    if noise > 1 or moves > 1 or repeated:
        with pytest.raises(ConfigError, match="distortions"):
            Config(distortions=tuple(names))
    else:
        assert Config(distortions=tuple(names)).distortions == tuple(names)


@given(
    epochs=st.integers(1, 500),
    lr=st.floats(1e-8, 1.0),
    size=st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
    layers=st.lists(st.integers(1, 40), min_size=1, unique=True),
)
def test_plain_values_come_back(
    epochs: int, lr: float, size: tuple[int, int], layers: list[int]
) -> None:
    config = Config(epochs=epochs, lr=lr, image_size=size, layers=tuple(layers))
    assert Config().replaced(config.to_dict()) == config


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no\\.toml"):
        load_config(file=tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(ConfigError, match="bad\\.toml"):
        load_config(file=tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="binary\\.toml"):
        load_config(file=tmp_path / "binary.toml")


@pytest.mark.parametrize("preset", ['"huge"', "5", "[1]"])
def test_an_unknown_preset_lists_the_known_ones(tmp_path: Path, preset: str) -> None:
    (tmp_path / "a.toml").write_text(f"preset = {preset}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file=tmp_path / "a.toml")
    assert "small, base, large" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        ({}, False),
        ({"backbone": "vit_small_patch14_dinov2"}, False),
        ({"backbone": "tf_efficientnet_lite0"}, True),
        ({"backbone": "wide_resnet50_2", "noise_units": "absolute"}, False),
        ({"noise_units": "features"}, True),
        ({"noise_units": "features", "whitened": True}, False),  # their spread is 1 already
    ],
)
def test_noise_follows_the_features_of_all_but_the_paper_s_backbones(
    changes: dict[str, Any], follows: bool
) -> None:
    assert PRESETS["small"].replaced(changes).noise_follows_features is follows
    trained = (preset for preset in PRESETS.values() if preset.method == "generalad")
    assert not any(preset.noise_follows_features for preset in trained)


def test_every_preset_says_what_it_is_good_for() -> None:
    assert PRESET_USES.keys() == PRESETS.keys()
