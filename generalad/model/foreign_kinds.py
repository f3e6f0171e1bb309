"""The kinds of checkpoints that others write: how each is told, named and set.

`generalad.model.foreign` reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from generalad.config import PRESETS
from generalad.model.weights import IBOT

Hyper = Mapping[str, Any]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
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


# The hyper-parameters of each kind.

_IBOT_NAMES = {f"{plain}.orig_in21k_ibot": ours for ours, plain in IBOT.items()} | {
    f"{plain}_ibot": ours for ours, plain in IBOT.items()
}


def _backbone_name(name: str) -> str:
    """What a backbone of theirs is called here; iBOT's have no name in timm."""
    return _IBOT_NAMES.get(name, name)


def _distortions(name: str) -> list[str]:
    """Of "shuffle_and_random" and the like; "base" and their default are noise on all patches."""
    return [] if name in ("base", "noise_all") else name.split("_and_")


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
        "blocks": 0 if hyper["model_type"] == "MLP" else int(hyper["num_layers"]),
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
KINDS = (
    Kind(
        "GeneralAD of its authors",
        ("discriminator.positional_encodings",),
        "feature_extractor.pretrained_model.",
        ("discriminator.",),
        _GENERALAD_NAMES,
        _authors_generalad,
    ),
    Kind(
        "GeneralAD of anomalib",
        ("model.discriminator.positional_encodings",),
        "model.feature_extractor.pretrained_model.",
        ("model.discriminator.",),
        ((r"^model\.", ""), *_GENERALAD_NAMES),
        _anomalib_generalad,
    ),
    Kind(
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
    Kind(
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
            (r"^student\.mlp\.0\.", "student.patch_embed."),
            (r"^student\.mlp\.3\.", "student.blocks.2."),
        ),
        _kdad,
    ),
)
