"""Checkpoints that others wrote: Lightning files of GeneralAD's authors, and anomalib's GeneralAD.

Such a file is a pickle, and a pickle can hold code. It is read as tensors and plain containers
only; a file that needs more is refused, and nothing in it is run.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from generalad.config import PRESETS, Config
from generalad.errors import ArtifactError, ConfigError
from generalad.model.weights import IBOT

Hyper = Mapping[str, Any]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Foreign:
    """What a checkpoint holds, in our words.

    Attributes:
        kind: who wrote it, in words.
        config: of the detector.
        backbone: the backbone's tensors under timm's names.
        trained: all other tensors under the names of `Detector.trained_state`.
        facts: what the file says of itself: version of Lightning, epoch, step.
    """

    kind: str
    config: Config
    backbone: State
    trained: State
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Kind:
    """How one kind of checkpoint is told and read.

    Attributes:
        name: in words.
        marks: tensors that no other kind has, all of them.
        backbone: beginning of the names of the backbone's tensors.
        head: beginnings of the names of what was trained.
        names: patterns of their names and what these become, in order.
        config: from hyper-parameters and tensors.
    """

    name: str
    marks: tuple[str, ...]
    backbone: str
    head: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    config: Callable[[Hyper, State], dict[str, Any]]


class _AttributeDict(dict[str, Any]):
    """Stands for Lightning's dictionary of hyper-parameters, which some versions write."""


_HARMLESS: list[Any] = [
    (_AttributeDict, f"{module}.AttributeDict")
    for module in (
        *("pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing"),
        *("lightning_fabric.utilities.data", "lightning.fabric.utilities.data"),
    )
]


def read_foreign(path: Path) -> Foreign:
    """Read a checkpoint.

    Raises:
        ArtifactError: no such file; one that is damaged, holds code, or is of another model; a
            setting or tensor that is missing or of another kind.
    """
    content = _unpickle(path)
    state, hyper = content.get("state_dict"), content.get("hyper_parameters")
    if not isinstance(state, Mapping) or not state:
        raise _refusal(path, "holds no state_dict", "give the .ckpt file that Lightning wrote")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    kind = next((k for k in _KINDS if all(mark in tensors for mark in k.marks)), None)
    if kind is None:
        raise _refusal(
            path,
            f"is of another model (its first tensor is {next(iter(state))})",
            "give a checkpoint of GeneralAD, SimpleNet or KDAD as their authors' code writes it",
        )
    if not isinstance(hyper, Mapping):
        raise _refusal(path, "holds no hyper_parameters", "save it with Lightning's own callback")
    config = _config(path, kind, hyper, tensors)
    return Foreign(
        kind.name,
        config,
        _beginning_with(kind.backbone, tensors),
        _trained(kind, tensors),
        {
            "lightning": str(content.get("pytorch-lightning_version", "")),
            "epoch": _whole(content.get("epoch")),
            "step": _whole(content.get("global_step")),
        },
    )


def check_shapes(path: Path, found: State, expected: State) -> None:
    """Refuse a checkpoint that lacks tensors of a head, has others, or has them in other shapes.

    Args:
        path: of the checkpoint, for the message.
        found: from the checkpoint.
        expected: of a head of its configuration.

    Raises:
        ArtifactError: naming the first difference.
    """
    remedy = "the file does not belong to its own hyper-parameters; give the original one"
    if missing := [name for name in expected if name not in found]:
        raise _refusal(path, f"lacks {len(missing)} tensors, {missing[0]} among them", remedy)
    if surplus := [name for name in found if name not in expected]:
        raise _refusal(path, f"has {len(surplus)} tensors more, {surplus[0]} among them", remedy)
    for name, value in expected.items():
        if found[name].shape != value.shape:
            shapes = f"{tuple(value.shape)}, found {tuple(found[name].shape)}"
            raise _refusal(path, f"{name}: expected {shapes}", remedy)


def _unpickle(path: Path) -> Mapping[str, Any]:
    """The content of a file of tensors and plain containers."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such checkpoint", remedy="check the path")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise _refusal(
                path,
                f"holds more than tensors and plain containers ({named.group(1)}), and nothing in"
                " it is run",
                "save it again with its state_dict and plain hyper_parameters only",
            ) from error
        raise _refusal(path, "is no checkpoint, or damaged", "copy it again") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _refusal(path, "is damaged or cut off", "copy it again") from error
    if not isinstance(content, Mapping):
        raise _refusal(path, "is no checkpoint of Lightning", "give the .ckpt file that it wrote")
    return content


def _config(path: Path, kind: _Kind, hyper: Hyper, tensors: State) -> Config:
    try:
        return PRESETS["large"].replaced(kind.config(hyper, tensors))
    except KeyError as error:
        raise _refusal(
            path, f"lacks the hyper-parameter {error.args[0]}", "give the original file"
        ) from error
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise _refusal(
            path, f"has hyper-parameters that are not those of {kind.name}: {error}",
            "give the original file",
        ) from error  # fmt: skip


def _trained(kind: _Kind, tensors: State) -> State:
    found = {}
    for name, value in tensors.items():
        if name.startswith(kind.head):
            for pattern, ours in kind.names:
                name = re.sub(pattern, ours, name)
            found[f"head.{name}"] = _in_our_shape(name, value)
    return found


def _in_our_shape(name: str, value: Tensor) -> Tensor:
    """Patches as a convolution and positions without an axis for images, where we have them so."""
    if name == "student.patch_embed.weight" and value.ndim == 2:
        side = math.isqrt(value.shape[1] // 3)
        if 3 * side * side == value.shape[1]:
            return value.reshape(-1, 3, side, side)
    if name == "student.positions" and value.ndim == 3 and len(value) == 1:
        return value[0]
    return value


def _beginning_with(prefix: str, tensors: State) -> State:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _refusal(path: Path, reason: str, remedy: str) -> ArtifactError:
    return ArtifactError(f"{path} {reason}", remedy=remedy)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


# The hyper-parameters of each kind.

_IBOT_NAMES = {f"{plain}.orig_in21k_ibot": ours for ours, plain in IBOT.items()} | {
    f"{plain}_ibot": ours for ours, plain in IBOT.items()
}


def _backbone_name(name: str) -> str:
    """What a backbone of theirs is called here; iBOT's have no name in timm."""
    return _IBOT_NAMES.get(name, name)


def _distortions(name: str) -> list[str]:
    """Of "shuffle_and_random" and the like; "base" and their default are noise on all patches."""
    known = {"base": [], "noise_all": []}
    return known[name] if name in known else name.split("_and_")


def _authors_generalad(hyper: Hyper, _tensors: State) -> dict[str, Any]:
    side = int(hyper["image_size"])
    return {
        "method": "generalad",
        "backbone": _backbone_name(hyper["hf_path"]),
        "layers": list(hyper["layers_to_extract_from"]),
        "image_size": [side, side],
        "pool_size": int(hyper["pool_size"]),
        "lr_decay_factor": float(hyper["lr_decay_factor"]),
        "weight_decay": float(hyper["wd"]),
        "smoothing_sigma": float(hyper["smoothing_sigma"]),
        "smoothing_radius": int(hyper["smoothing_radius"]),
        **_shared_generalad(hyper),
    }


def _anomalib_generalad(hyper: Hyper, tensors: State) -> dict[str, Any]:
    """Neither the size of the input nor a smoothing of the map is a setting there."""
    patches = len(tensors["model.discriminator.positional_encodings"])
    patch = tensors["model.feature_extractor.pretrained_model.patch_embed.proj.weight"].shape[-1]
    side = math.isqrt(patches) * patch
    return {
        "method": "generalad",
        "backbone": hyper["backbone"],
        "layers": list(hyper["layers"]),
        "image_size": [side, side],
        "lr_decay_factor": float(hyper["lr_decay_factor"]),
        "weight_decay": float(hyper["weight_decay"]),
        "smoothing_sigma": 0.0,
        "smoothing_radius": 0,
        **_shared_generalad(hyper),
    }


def _shared_generalad(hyper: Hyper) -> dict[str, Any]:
    return {
        "distortions": _distortions(hyper["fake_feature_type"]),
        "noise_std": float(hyper["noise_std"]),
        "noise_units": "absolute",
        "num_fake_patches": max(int(hyper["num_fake_patches"]), -1),
        "top_k": max(int(hyper["top_k"]), 0),
        "hidden": int(hyper["hidden_dim"]),
        "heads": int(hyper["dsc_heads"]),
        "blocks": int(hyper["dsc_layers"]),
        "dropout": float(hyper["dsc_dropout"]),
        "epochs": int(hyper["epochs"]),
        "lr": float(hyper["lr"]),
    }


def _simplenet(hyper: Hyper, _tensors: State) -> dict[str, Any]:
    side = int(hyper["image_size"])
    return {
        **PRESETS["simplenet"].to_dict(),
        "backbone": _backbone_name(hyper["hf_path"]),
        "layers": list(hyper["layers_to_extract_from"]),
        "image_size": [side, side],
        "pool_size": int(hyper["pool_size"]),
        "hidden": int(hyper["hidden_dim"]),
        "blocks": int(hyper["dsc_layers"]) - 1,
        "noise_std": 1.1 * float(hyper["noise_std"]),
        "weight_decay": float(hyper["wd"]),
        "epochs": int(hyper["epochs"]),
        "lr": float(hyper["lr"]),
        "smoothing_sigma": float(hyper["smoothing_sigma"]),
        "smoothing_radius": int(hyper["smoothing_radius"]),
    }


def _kdad(hyper: Hyper, tensors: State) -> dict[str, Any]:
    if hyper["model_type"] == "MLP":
        raise ValueError("its student is an MLP; only the ViT of the published runs is known here")
    side = math.isqrt(int(hyper["num_patches"])) * int(hyper["patch_size"])
    blocks = [re.match(r"vit_pretrained\.blocks\.(\d+)\.", name) for name in tensors]
    depth = 1 + max((int(found.group(1)) for found in blocks if found), default=0)
    return {
        **PRESETS["kdad"].to_dict(),
        "backbone": _backbone_name(hyper["hf_path"]),
        "layers": [depth],
        "image_size": [side, side],
        "hidden": int(hyper["hidden_dim"]),
        "heads": int(hyper["num_heads"]),
        "blocks": int(hyper["num_layers"]),
        "dropout": float(hyper["dropout"]),
        "lr": float(hyper["lr"]),
    }


_ATTENTION = ((r"\.attn\.in_proj_", ".attention.in_proj."), (r"\.attn\.", ".attention."))
_GENERALAD_NAMES = (
    ("positional_encodings", "positions"),
    ("transformer_encoder", "blocks"),
    (r"\.layer_norm(_1)?\.", ".norm."),
    *_ATTENTION,
    (r"\.linear\.", ".mlp."),
    ("output_layer", "head"),
)
_KINDS = (
    _Kind(
        "GeneralAD of its authors",
        ("discriminator.positional_encodings",),
        "feature_extractor.pretrained_model.",
        ("discriminator.",),
        _GENERALAD_NAMES,
        _authors_generalad,
    ),
    _Kind(
        "GeneralAD of anomalib",
        ("model.discriminator.positional_encodings",),
        "model.feature_extractor.pretrained_model.",
        ("model.discriminator.",),
        ((r"^model\.", ""), *_GENERALAD_NAMES),
        _anomalib_generalad,
    ),
    _Kind(
        "SimpleNet of GeneralAD's authors",
        ("feature_adaptor.linear.weight", "discriminator.layers.final_linear.weight"),
        "feature_extractor.pretrained_model.",
        ("feature_adaptor.", "discriminator."),
        (
            (r"feature_adaptor\.linear", "adaptor"),
            (r"layers\.final_linear", "head"),
            (r"layers\.linear(\d+)", r"blocks.\1.0"),
            (r"layers\.batch_norm(\d+)", r"blocks.\1.1"),
        ),
        _simplenet,
    ),
    _Kind(
        "KDAD of GeneralAD's authors",
        ("vit_pretrained.patch_embed.proj.weight",),
        "vit_pretrained.",
        ("model.",),
        (
            (r"^model\.", "student."),
            ("input_layer", "patch_embed"),
            (r"\.transformer\.", ".blocks."),
            ("layer_norm_", "norm_"),
            *_ATTENTION,
            (r"\.linear\.", ".mlp."),
            ("cls_token", "class_token"),
            ("pos_embedding", "positions"),
        ),
        _kdad,
    ),
)
