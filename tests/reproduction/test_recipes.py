"""Recipes: one a data set and method, as in the published job files; the published numbers."""

from __future__ import annotations

import pytest

from generalad.config import METHODS, PRESETS, Config
from generalad.data.public_sets import public_set, public_sets
from generalad.errors import UsageError
from generalad.model.heads import HEADS
from generalad.reproduction.recipes import data_sets, published, recipe, recipe_files

KNOWN = [method for method in ("generalad", "simplenet", "kdad") if method in HEADS]
AIRCRAFT = ("91", "96", "59", "19", "37", "45", "90", "68", "74", "89")
OF_KINDS = (
    *("cifar-10", "cifar-100", "fashion-mnist", "view"),
    *("fgvc-aircraft", "stanford-cars", "dogs-vs-cats"),
)


def test_every_data_set_has_a_recipe_for_each_method() -> None:
    assert data_sets() == [one.key for one in public_sets()]
    assert len(data_sets()) == 13
    wanted = {f"{key}.{m}.toml" for key in data_sets() for m in ("generalad", "simplenet", "kdad")}
    assert set(recipe_files()) == wanted


@pytest.mark.parametrize("method", KNOWN)
def test_every_recipe_is_a_configuration(method: str) -> None:
    assert method in METHODS
    for key in data_sets():
        found = recipe(key, method)
        config = found.config()
        assert config.method == method
        assert found.source.startswith("jobs/run_")
        for size in found.backbones:
            assert found.config(size).backbone.startswith(f"vit_{size}_patch14_dinov2")


@pytest.mark.parametrize("name", recipe_files())
def test_every_recipe_can_be_read_whatever_methods_there_are(name: str) -> None:
    key, method, _ = name.split(".")
    found = recipe(key, method)
    assert found.settings["method"] == method
    assert set(found.settings) - {"method"} <= set(Config().to_dict())
    known = public_set(key).class_names
    if known:
        assert sorted(found.classes) == sorted(known)
    if method != "generalad":
        assert not found.backbones and not found.backbone
        with pytest.raises(UsageError, match="has one backbone"):
            found.config("small")


def test_the_recipes_are_the_settings_of_the_job_files() -> None:
    large, base, small = (recipe("mvtec-ad").config(size) for size in ("large", "base", "small"))
    ours = {"calibration_fraction": 0.01, "group": "image", "noise_units": "absolute"}
    for config, preset in ((large, "large"), (base, "base"), (small, "small")):
        assert config == PRESETS[preset].replaced(ours)
    assert recipe("mvtec-loco").config().distortions == ("shuffle", "random")
    for key in ("visa", "mpdd", "mvtec-ad-2"):
        assert recipe(key).config() == large
    # Real-IAD names the part of each image itself.
    assert recipe("real-iad").config() == large.replaced({"group": ""})
    for key in OF_KINDS:
        config = recipe(key).config()
        assert config.backbone == base.backbone
        assert (config.distortions, config.top_k) == ((), 0)
        near = key in ("fgvc-aircraft", "stanford-cars")
        assert (config.epochs, config.epoch_images) == ((160, 0) if near else (20, 250))
    assert recipe("fgvc-aircraft").classes == AIRCRAFT
    assert recipe("stanford-cars").classes == tuple(map(str, range(1, 21)))


@pytest.mark.parametrize("method", [name for name in KNOWN if name in PRESETS])
def test_the_recipes_of_the_baselines_are_their_presets(method: str) -> None:
    ours = {"calibration_fraction": 0.01, "group": "image"}
    expected = PRESETS[method].replaced({**ours, "noise_units": "auto", "noise_std": 1.0})
    for key in ("mvtec-ad", "mvtec-loco", "stanford-cars"):
        config = recipe(key, method).config()
        assert config.replaced({"noise_units": "auto", "noise_std": 1.0}) == expected
        if method == "simplenet":
            assert config.noise_std == pytest.approx(PRESETS[method].noise_std)
            assert config.noise_units == "absolute"
    drawn = recipe("cifar-10", method).config()
    assert drawn == recipe("mvtec-ad", method).config().replaced({"epoch_images": 250})


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no recipe for 'mvtec', expected one of mvtec-ad, "):
        recipe("mvtec")
    with pytest.raises(UsageError, match="no recipe for 'padim', expected one of generalad, kdad"):
        recipe("mvtec-ad", "padim")
    with pytest.raises(UsageError, match="--backbone huge: expected small, base, large"):
        recipe("mvtec-ad").config("huge")


def test_published_numbers_stand_with_their_source_and_ours_come_first() -> None:
    rows = published("mvtec-ad", "generalad", "base")
    first, *others = rows
    assert (first.image_auroc, first.pixel_auroc, first.same) == (99.2, 97.2, True)
    assert not any(row.same for row in others)
    assert {row.title for row in others} >= {"SimpleNet", "PatchCore", "GeneralAD, ViT-L"}
    assert all("arXiv 2407.12427" in row.source for row in rows)
    assert published("kdad", "kdad", "") == []
    (kdad, *_) = published("visa", "kdad", "")
    assert (kdad.image_auroc, kdad.pixel_auroc) == (85.7, None)
    # The three rows of the paper's own method have a number for each of its ten data sets.
    paper = [key for key in data_sets() if published(key, "generalad", "large")]
    assert len(paper) == 10
