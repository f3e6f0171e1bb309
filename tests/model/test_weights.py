"""Backbone weights: where they come from, what is refused, and the hash that identifies them."""

from __future__ import annotations

import json
import os
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_helpers import TINY, body, save_weights, tiny_config

from generalad.config import PRESETS
from generalad.errors import ConfigError, WeightsError
from generalad.files import sha256_of_file
from generalad.model import weights as module
from generalad.model.storage import load_detector
from generalad.model.weights import hash_of, load_backbone

pytest_plugins = ["training_fixtures"]


def load(path: Path, **changes: Any) -> tuple[torch.nn.Module, str, str]:
    return load_backbone(tiny_config(**changes), weights=path)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (160, 160)])
def test_weights_of_another_size_are_resampled_at_load(
    tiny_weights: Path, size: tuple[int, int]
) -> None:
    backbone, source, digest = load(tiny_weights, image_size=list(size))
    assert source == str(tiny_weights.resolve())
    assert backbone(torch.zeros(1, 3, *size)).shape == (1, size[0] * size[1] // 256, 64)
    saved, state = load_file(tiny_weights), backbone.state_dict()
    assert state["body.pos_embed"].shape[1] == size[0] * size[1] // 256 + 1
    for name in ("blocks.1.mlp.fc1.weight", "norm.bias", "cls_token"):
        assert torch.equal(state[f"body.{name}"], saved[name])
    if size == (160, 160):
        assert torch.equal(state["body.pos_embed"], saved["pos_embed"])
    assert digest == load(tiny_weights)[2], "the hash must not depend on the image size"


@pytest.mark.parametrize(
    "name",
    [
        *("vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"),
        *("eva02_tiny_patch14_224", "resnet18"),
    ],
)
def test_every_family_loads_its_own_weights_at_another_size(tmp_path: Path, name: str) -> None:
    path = save_weights(tmp_path / "a.safetensors", body(name))
    sizes = ([112, 112], [224, 112])
    found = [load(path, backbone=name, layers=[1], image_size=size)[2] for size in sizes]
    assert found[0] == found[1], "the hash must not depend on the image size"


def test_the_hash_changes_with_any_weight(tiny_weights: Path, tmp_path: Path) -> None:
    state, path = load_file(tiny_weights), tmp_path / "changed.safetensors"
    before = load(tiny_weights)[2]
    assert before == hash_of({n: v for n, v in state.items() if not n.startswith("head.")})
    for name in state:
        changed = {n: v.clone() for n, v in state.items()}
        changed[name].flatten()[-1] += 1e-3
        if name in ("cls_token", "pos_embed", "blocks.1.mlp.fc1.weight", "norm.bias"):
            save_file(changed, path)  # through the whole of it for some: it takes a while
            assert load(path)[2] != before, name
        assert hash_of(changed) != hash_of(state), name


def test_the_position_embedding_counts_at_every_size(tiny_weights: Path, tmp_path: Path) -> None:
    state = load_file(tiny_weights)
    state["pos_embed"][0, 5] += 0.5
    save_file(state, tmp_path / "other.safetensors")
    sizes = ([64, 64], [160, 160])
    first, second = (
        {load(path, image_size=size)[2] for size in sizes}
        for path in (tiny_weights, tmp_path / "other.safetensors")
    )
    assert len(first) == len(second) == 1
    assert first != second


def test_half_precision_and_wrapped_files_are_the_same_weights(
    tiny_weights: Path, tmp_path: Path
) -> None:
    state = {name: value.half() for name, value in load_file(tiny_weights).items()}
    save_file(state, tmp_path / "half.safetensors")
    expected = load(tmp_path / "half.safetensors")[2]
    wrapped = {f"module.backbone.{name}": value for name, value in state.items()}
    torch.save({"teacher": wrapped, "epoch": 3}, tmp_path / "teacher.pth")
    torch.save({"state_dict": state}, tmp_path / "plain.pth")
    assert load(tmp_path / "teacher.pth")[2] == expected
    assert load(tmp_path / "plain.pth")[2] == expected


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.write_text, (self.path, "executed"))


def _pickle_with_code(folder: Path) -> Path:
    torch.save({"state_dict": {"a": Payload(folder / "trap")}}, folder / "a.pth")
    return folder / "a.pth"


def _plain_pickle_with_code(folder: Path) -> Path:
    (folder / "a.bin").write_bytes(pickle.dumps(Payload(folder / "trap")))
    return folder / "a.bin"


def _cut_off(folder: Path, suffix: str) -> Path:
    model = body(TINY)
    whole = folder / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), whole)
    else:
        save_weights(whole, model)
    data = whole.read_bytes()
    (folder / f"a{suffix}").write_bytes(data[: len(data) // 2])
    return folder / f"a{suffix}"


def _no_dictionary(folder: Path) -> Path:
    torch.save([torch.zeros(2)], folder / "a.pth")
    return folder / "a.pth"


def _no_tensors(folder: Path) -> Path:
    torch.save({"epoch": 3}, folder / "a.pth")
    return folder / "a.pth"


def _written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _lacking_one(folder: Path) -> Path:
    state = body(TINY).state_dict()
    del state["blocks.1.attn.qkv.bias"]
    save_file(state, folder / "a.safetensors")
    return folder / "a.safetensors"


def _of(name: str, **arguments: Any) -> Callable[[Path], Path]:
    return lambda folder: save_weights(folder / "a.safetensors", body(name, **arguments))


BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "a.safetensors", "no such weight file"),
    "folder": (lambda folder: folder, "no such weight file"),
    "empty": (_written("a.safetensors", b""), "damaged"),
    "text as safetensors": (_written("a.safetensors", b"hello" * 100), "damaged"),
    "text as pickle": (_written("a.pth", b"hello" * 100), "damaged"),
    "cut off safetensors": (lambda folder: _cut_off(folder, ".safetensors"), "damaged"),
    "cut off pickle": (lambda folder: _cut_off(folder, ".pth"), "damaged"),
    "pickle with code": (_pickle_with_code, "damaged or holds no plain tensors"),
    "plain pickle with code": (_plain_pickle_with_code, "damaged or holds no plain tensors"),
    "no dictionary": (_no_dictionary, "damaged or holds no plain tensors"),
    "no tensors": (_no_tensors, "lacks"),
    "a tensor missing": (_lacking_one, r"lacks 1 tensors .*blocks\.1\.attn\.qkv\.bias"),
    "a CNN": (_of("resnet18"), "lacks"),
    "another width": (_of("test_vit3"), "does not fit|lacks"),
    "a deeper model": (_of(TINY, depth=8), r"has 24 tensors .*blocks\.6"),
    "with registers": (_of(TINY, reg_tokens=4), "does not fit|reg_token"),
    "with registers apart": (_of(TINY, reg_tokens=4, no_embed_class=True), "fit|reg_token"),
    "other patches": (_of(TINY, patch_size=8), "patches of 8 x 8 pixels, expected test_vit"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_are_refused(tmp_path: Path, kind: str) -> None:
    make, message = BAD_FILES[kind]
    path = make(tmp_path)
    with pytest.raises(WeightsError, match=message) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy
    assert not (tmp_path / "trap").exists(), "code from the file was executed"


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ("tf_efficientnet_lite1", "tf_efficientnet_lite0", "has 75 tensors that"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "lacks 75 tensors"),
        ("resnet34", "resnet18", "does not fit|has [0-9]+ tensors"),
        ("mobilenetv2_100", "tf_efficientnet_lite0", "does not fit"),
        ("test_vit2", TINY, "fit|lacks|has"),
    ],
)
def test_weights_of_another_network_name_both(
    tmp_path: Path, given: str, wanted: str, message: str
) -> None:
    path = save_weights(tmp_path / "mine.safetensors", body(given))
    with pytest.raises(WeightsError, match=message) as caught:
        load(path, backbone=wanted, layers=[1])
    assert f"looks like {given}, expected {wanted}" in caught.value.message


def _ibot_teacher(state: dict[str, Any]) -> dict[str, Any]:
    head = {"head.mlp.0.weight": torch.zeros(8, 64), "head.last_layer.weight_v": torch.zeros(8, 8)}
    inner = {f"backbone.{name}": value for name, value in state.items() if "head" not in name}
    return {"teacher": {**inner, **head}, "student": {}}


def _dinov2_original(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "mask_token": torch.zeros(1, 64)}


def _masked_autoencoder(state: dict[str, Any]) -> dict[str, Any]:
    return {"model": {**state, "decoder_embed.weight": torch.zeros(8, 64)}}


@pytest.mark.parametrize("wrap", [_ibot_teacher, _dinov2_original, _masked_autoencoder])
def test_what_training_leaves_in_a_file_is_no_other_network(
    tmp_path: Path, tiny_weights: Path, wrap: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    torch.save(wrap(load_file(tiny_weights)), tmp_path / "a.pth")
    assert load(tmp_path / "a.pth")[2] == load(tiny_weights)[2]


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "convnext_atto", "deit_tiny_distilled_patch16_224"]
)
def test_classifiers_of_every_kind_are_left_out(tmp_path: Path, name: str) -> None:
    path = save_weights(tmp_path / "a.safetensors", body(name))
    assert load(path, backbone=name, layers=[1])[1] == str(path.resolve())


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An empty hub cache."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(OSError(-2, "Name or service not known")),
        TimeoutError("timed out"),
        ConnectionRefusedError(111, "Connection refused"),
    ],
)
def test_an_unreachable_hub_is_tried_once_and_both_ways_out_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    hub(monkeypatch, tmp_path)
    attempts: list[tuple[str, float]] = []

    def refuse(request: Any, timeout: float) -> None:
        attempts.append((request.full_url, timeout))
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(WeightsError, match="hub cannot be reached") as caught:
        load_backbone(tiny_config())
    assert len(attempts) == 1
    assert "timm/test_vit" in attempts[0][0]
    assert attempts[0][1] == module.HUB_TIMEOUT_S <= 10
    assert "--weights FILE" in caught.value.remedy
    assert "--preset embedded" in caught.value.remedy
    assert TINY in caught.value.message


def test_the_hub_s_own_offline_switch_is_respected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub(monkeypatch, tmp_path)

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(urllib.request, "urlopen", never)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        load_backbone(tiny_config())


def test_a_hub_that_breaks_off_later_is_the_same_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub(monkeypatch, tmp_path)

    class Broken(Exception):
        """As those of an HTTP library, which share no base class with the others."""

    monkeypatch.setattr(module, "_knock", lambda url: None)
    for kind in (LocalEntryNotFoundError, Broken, OSError):

        def fail(*arguments: Any, kind: type[Exception] = kind, **options: Any) -> bool:
            raise kind()

        monkeypatch.setattr(huggingface_hub, "file_exists", fail)
        with pytest.raises(WeightsError, match="hub cannot be reached"):
            load_backbone(tiny_config())


def test_a_file_in_the_hub_s_cache_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_weights: Path
) -> None:
    hub(monkeypatch, tmp_path)
    repo = tmp_path / "models--timm--test_vit.r160_in1k"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    os.link(tiny_weights, snapshot / "model.safetensors")

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(urllib.request, "urlopen", never)
    _, source, digest = load_backbone(tiny_config())
    assert source == "hub"
    assert digest == load(tiny_weights)[2]


def test_a_detector_runs_on_the_weights_of_its_training_only(
    run_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    other = save_weights(tmp_path / "other.safetensors", body(TINY, seed=1))
    with pytest.raises(WeightsError, match="not the backbone weights of training"):
        load_detector(run_folder, weights=other)
    moved = tmp_path / "moved.safetensors"
    os.link(tiny_weights, moved)
    assert load_detector(run_folder, weights=moved).spec == load_detector(run_folder).spec


def test_weights_that_moved_are_asked_for(tmp_path: Path, run_folder: Path) -> None:
    record = json.loads((run_folder / "detector.json").read_text())
    record["spec"]["backbone"]["weights"] = str(tmp_path / "gone.safetensors")
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "detector.json").write_text(json.dumps(record))
    with pytest.raises(WeightsError, match=r"no longer at .*gone") as caught:
        load_detector(copy)
    assert "--weights FILE" in caught.value.remedy


EMBEDDED = Path(str(files("generalad.model") / "embedded"))


def test_the_embedded_backbone_loads_and_is_the_recorded_file() -> None:
    file = EMBEDDED / "vit_embedded.safetensors"
    described = json.loads((EMBEDDED / "vit_embedded.json").read_text(encoding="utf-8"))
    assert file.stat().st_size <= 6_000_000
    assert described["sha256"] == sha256_of_file(file)
    backbone, source, digest = load_backbone(PRESETS["embedded"])
    assert source == "embedded"
    assert len(digest) == 64
    features = backbone(torch.zeros(1, 3, *PRESETS["embedded"].image_size))
    assert features.shape == (1, backbone.grid[0] * backbone.grid[1], backbone.dim)
    assert bool(torch.isfinite(features).all())


def test_the_embedded_backbone_takes_no_file(tiny_weights: Path) -> None:
    with pytest.raises(ConfigError, match="brings its own weights"):
        load_backbone(PRESETS["embedded"], weights=tiny_weights)
