"""Checkpoints of others become detectors that score as they did, or nothing at all."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import Capture, gad
from foreign_checkpoints import (
    BACKBONE,
    DIM,
    KINDS,
    checkpoint_of,
    scores_of,
    state_of,
    teacher,
    write,
)
from training_helpers import TINY, write_parts

import generalad
from generalad.errors import ArtifactError, DataError, GadError, UsageError, WeightsError
from generalad.export.export import export_detector
from generalad.model import weights as weights_module
from generalad.model.foreign import read_foreign
from generalad.model.storage import load_detector
from generalad.model.weights import hash_of, load_backbone
from generalad.spec import IMAGENET_MEAN

TITLES = {"generalad": "GeneralAD", "anomalib": "GeneralAD", "simplenet": "SimpleNet"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images at the size of the networks, so that no resize comes between."""
    return write_parts(tmp_path_factory.mktemp("good") / "parts", train=8) / "train" / "good"


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_checkpoint(kind: str, good: Path, tmp_path: Path) -> None:
    made = generalad.import_checkpoint(
        write(tmp_path / "a.ckpt", checkpoint_of(kind)), good, tmp_path / "run"
    )
    images = torch.from_numpy(made.calibration_images())
    with torch.inference_mode():
        found, _ = made.detector(images)
    expected = scores_of(kind, images)
    assert len(found) == 8 and float(expected.std()) > 1e-5
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * largest)
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt", "run"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("detector.json", "trained.safetensors", "backbone.safetensors", "calibration")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_recorded(kind: str, good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", checkpoint_of(kind))
    spec = generalad.import_checkpoint(path, good, tmp_path / "run", false_alarm_rate=0.2).spec
    assert spec.method == TITLES.get(kind, "KDAD")
    assert spec.image_size == (64, 64)
    assert spec.top_k == {"simplenet": 1, "kdad": 16, "kdad-mlp": 16}.get(kind, 3)
    assert spec.backbone.name == TINY
    assert spec.backbone.layers == {
        "simplenet": (2,), "kdad": (6,), "kdad-mlp": (6,)
    }.get(kind, (2, 4))  # fmt: skip
    assert spec.backbone.mean == IMAGENET_MEAN
    assert spec.backbone.weights_sha256 == hash_of(teacher().state_dict())
    assert (spec.training_set.images, spec.calibration.images) == (0, 8)
    assert spec.calibration.target == 0.2
    assert spec.metrics["selection_rule"].startswith("imported; ")
    origin = spec.provenance["imported"]
    assert (origin["epoch"], origin["step"], origin["lightning"]) == (34, 1750, "2.1.0")


def test_settings_of_generalad(tmp_path: Path) -> None:
    def read(**changes: Any) -> Any:
        path = write(tmp_path / "a.ckpt", checkpoint_of("generalad", **changes))
        return read_foreign(path).config

    config = read()
    assert config.distortions == ("shuffle", "random")
    assert (config.noise_std, config.noise_units) == (0.25, "absolute")
    assert (config.blocks, config.heads, config.hidden, config.dropout) == (2, 2, 24, 0.1)
    assert (config.smoothing_sigma, config.smoothing_radius) == (16, 18)
    assert read(fake_feature_type="base", top_k=-1).distortions == ()
    assert read(fake_feature_type="base", top_k=-1).top_k == 0
    assert read(fake_feature_type="attn").distortions == ("attn",)
    ibot = read(hf_path="vit_base_patch16_224.orig_in21k_ibot")
    assert ibot.backbone == "vit_base_patch16_224.ibot"


def test_settings_of_the_baselines(tmp_path: Path) -> None:
    config = read_foreign(write(tmp_path / "a.ckpt", checkpoint_of("simplenet"))).config
    assert (config.blocks, config.hidden, config.top_k) == (2, 24, 1)
    assert config.noise_std == pytest.approx(0.0165)
    config = read_foreign(write(tmp_path / "a.ckpt", checkpoint_of("kdad"))).config
    assert (config.blocks, config.heads, config.dropout, config.top_k) == (2, 2, 0.2, 0)
    config = read_foreign(write(tmp_path / "a.ckpt", checkpoint_of("kdad-mlp"))).config
    assert config.blocks == 0


def test_it_is_exported_from_wherever_it_lies(good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", checkpoint_of("kdad-mlp"))
    generalad.import_checkpoint(path, good, tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    path.unlink()
    done = export_detector(load_detector(tmp_path / "elsewhere"))
    assert done.spec.parity["flips"] == 0


def test_the_backbone_must_stay_with_it(good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", checkpoint_of("simplenet"))
    generalad.import_checkpoint(path, good, tmp_path / "run")
    (tmp_path / "run" / "backbone.safetensors").unlink()
    with pytest.raises(WeightsError, match="no longer at"):
        load_detector(tmp_path / "run")


class Evil:
    """A pickle that would make a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def _broken(change: Callable[[dict[str, Any]], Any], kind: str = "generalad") -> Any:
    content = checkpoint_of(kind)
    change(content)
    return content


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["state_dict"].pop(name)


def _setting(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["hyper_parameters"].update({name: value})


ENCODINGS = "discriminator.positional_encodings"
BAD: dict[str, tuple[Any, str]] = {
    "code": (
        lambda: _broken(_setting("lr", Evil())),
        r"holds more than tensors and plain containers \((posix|nt)\.mkdir\)",
    ),
    "another model": (
        lambda: {"state_dict": {"conv1.weight": torch.zeros(3)}, "hyper_parameters": {}},
        r"is of another model \(its first tensor is conv1.weight\)",
    ),
    "no state": (lambda: {"model": 3}, "holds no state_dict"),
    "no mapping": (lambda: [1, 2], "is no checkpoint of Lightning"),
    "no settings": (lambda: _broken(lambda c: c.pop("hyper_parameters")), "holds no hyper"),
    "a setting less": (
        lambda: _broken(lambda c: c["hyper_parameters"].pop("top_k")),
        "lacks the hyper-parameter top_k",
    ),
    "a setting of another kind": (
        lambda: _broken(_setting("image_size", "large")),
        "has hyper-parameters that are not those of GeneralAD",
    ),
    "an unknown distortion": (
        lambda: _broken(_setting("fake_feature_type", "blob")),
        "has hyper-parameters that are not those of GeneralAD",
    ),
    "a tensor less": (
        lambda: _broken(_without("discriminator.transformer_encoder.1.attn.in_proj_bias")),
        "lacks 1 tensors, head.discriminator.blocks.1.attention.in_proj.bias among them",
    ),
    "a tensor more": (
        lambda: _broken(lambda c: c["state_dict"].update({"discriminator.x": torch.zeros(1)})),
        "has 1 tensors more, head.discriminator.x among them",
    ),
    "another shape": (
        lambda: _broken(lambda c: c["state_dict"].update({ENCODINGS: torch.zeros(9, 2 * DIM)})),
        r"positions: expected \(16, 128\), found \(9, 128\)",
    ),
    "more blocks than there are": (
        lambda: _broken(_setting("dsc_layers", 3)),
        "lacks 10 tensors",
    ),
    "a backbone that lacks a tensor": (
        lambda: _broken(_without(f"{BACKBONE['generalad']}blocks.0.norm1.bias")),
        "the backbone in .*a.ckpt lacks 1 tensors of this backbone",
    ),
    "a backbone that timm does not know": (
        lambda: _broken(_setting("hf_path", "vit_of_nobody")),
        "timm knows no model 'vit_of_nobody'",
    ),
    "an MLP as student that is none": (
        lambda: _broken(_setting("model_type", "MLP"), "kdad"),
        "a.ckpt .*lacks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoints_are_refused_in_one_line(
    case: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = BAD[case]
    path = write(tmp_path / "a.ckpt", make())
    with pytest.raises(GadError, match=message) as caught:
        generalad.import_checkpoint(path, good, tmp_path / "run")
    assert "\n" not in str(caught.value) and caught.value.remedy
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("cut", [0, 100, 0.5, 0.99])
def test_a_file_that_was_cut_off(cut: float, good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", checkpoint_of("simplenet"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut if cut > 1 else cut * len(whole))])
    with pytest.raises(ArtifactError, match=r"damaged|no checkpoint") as caught:
        generalad.import_checkpoint(path, good, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_bare_pickle_is_not_run(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ArtifactError):
        generalad.import_checkpoint(path, good, tmp_path / "run")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


def test_lightning_s_own_dictionary_is_read(tmp_path: Path) -> None:
    """Some versions write hyper-parameters as a class of theirs; it is not imported."""
    name = "pytorch_lightning.utilities.parsing"
    module = types.ModuleType(name)
    theirs = type("AttributeDict", (dict,), {"__module__": name})
    vars(module)["AttributeDict"] = theirs
    content = checkpoint_of("generalad")
    content["hyper_parameters"] = theirs(content["hyper_parameters"])
    with pytest.MonkeyPatch.context() as patch:
        for part in ("pytorch_lightning", "pytorch_lightning.utilities"):
            patch.setitem(sys.modules, part, types.ModuleType(part))
        patch.setitem(sys.modules, name, module)
        path = write(tmp_path / "a.ckpt", content)
    assert read_foreign(path).config.top_k == 3


def test_images_that_cannot_be_read_leave_nothing(good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", checkpoint_of("simplenet"))
    folder = Path(shutil.copytree(good, tmp_path / "images"))
    (folder / "zz.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"zz\.png"):
        generalad.import_checkpoint(path, folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    made = generalad.import_checkpoint(path, folder, tmp_path / "run", skip_bad=True)
    assert made.spec.training_set.skipped == ("zz.png",)


def test_a_folder_that_holds_something_is_left_alone(good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", checkpoint_of("simplenet"))
    (tmp_path / "run").mkdir()
    generalad.import_checkpoint(path, good, tmp_path / "run")
    with pytest.raises(UsageError, match="exists already"):
        generalad.import_checkpoint(path, good, tmp_path / "run")


def test_the_command(
    good: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "tile.ckpt", checkpoint_of("generalad"))
    code, _, err = gad(capsys, "import", path, "--data", good)
    assert code == 0
    assert "GeneralAD of its authors on test_vit" in " ".join(err.split())
    assert "next: gad export runs/tile" in err
    code, out, _ = gad(capsys, "info", "runs/tile")
    assert code == 0 and '"imported"' in out
    code, _, err = gad(capsys, "import", tmp_path / "no.ckpt", "--data", good)
    assert code == 1 and "no such checkpoint" in err


def test_ibot_weights_have_a_backbone_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file as iBOT publishes it, behind a name that timm does not have."""
    monkeypatch.setitem(weights_module.IBOT, "test_vit.ibot", TINY)
    body = {f"module.{name}": value for name, value in teacher().state_dict().items()}
    extra = {"module.masked_embed": torch.zeros(1, DIM), "module.head.mlp.0.weight": torch.zeros(2)}
    file = write(tmp_path / "checkpoint_teacher.pth", {"state_dict": {**body, **extra}})
    config = read_foreign(write(tmp_path / "a.ckpt", checkpoint_of("generalad"))).config
    config = config.replaced({"backbone": "test_vit.ibot"})
    backbone, _, digest = load_backbone(config, weights=file)
    assert digest == hash_of(teacher().state_dict())
    assert backbone.mean == IMAGENET_MEAN
    with pytest.raises(WeightsError, match=r"the hub has no weights of test_vit.ibot"):
        load_backbone(config)
    assert weights_module.licence_of("test_vit.ibot") == ""


@pytest.mark.parametrize("name", list(weights_module.IBOT))
def test_ibot_names_are_plain_vits_with_another_normalisation(name: str) -> None:
    with torch.device("meta"):
        body: Any = weights_module.build_body(name, (32, 48))
    assert body.pretrained_cfg["mean"] == IMAGENET_MEAN
    assert body.patch_embed.grid_size == (2, 3)


def test_the_states_differ_from_kind_to_kind() -> None:
    """Or a mix-up of names could not be seen."""
    sizes = {kind: len(state_of(kind)) for kind in KINDS}
    assert len(set(sizes.values())) == len(KINDS) or sizes["generalad"] + 1 == sizes["anomalib"]
    for kind in KINDS:
        values = [v for n, v in state_of(kind).items() if not n.startswith(BACKBONE[kind])]
        assert all(float(v.float().std()) > 0 for v in values if v.numel() > 1)
    assert np.isfinite(float(scores_of("kdad", torch.zeros(1, 64, 64, 3))[0]))
