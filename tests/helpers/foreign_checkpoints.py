"""Checkpoints as the authors' code and anomalib write them, and a plain reading of what they say.

The files are made here, with names and settings as found in files that their code wrote; the
readings use their names and torch's own layers, nothing of `generalad.model`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from training_helpers import TINY, body

SIDE, GRID, DIM, HIDDEN, HEADS, TOP_K = 64, 4, 64, 24, 2, 3
KINDS = ("generalad", "anomalib", "simplenet", "kdad", "kdad-mlp")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

GENERALAD: dict[str, Any] = {
    "lr": 5e-4, "lr_decay_factor": 0.2, "hf_path": TINY, "layers_to_extract_from": [2, 4],
    "hidden_dim": HIDDEN, "wd": 1e-5, "epochs": 160, "noise_std": 0.25, "dsc_layers": 2,
    "dsc_heads": HEADS, "dsc_dropout": 0.1, "pool_size": 3, "image_size": SIDE,
    "num_fake_patches": -1, "fake_feature_type": "shuffle_and_random", "top_k": TOP_K,
    "log_pixel_metrics": 0, "smoothing_sigma": 16, "smoothing_radius": 18,
}  # fmt: skip
ANOMALIB: dict[str, Any] = {
    "backbone": TINY, "layers": (2, 4), "hidden_dim": HIDDEN, "lr": 5e-4, "lr_decay_factor": 0.2,
    "weight_decay": 1e-5, "epochs": 160, "noise_std": 0.25, "dsc_layers": 2, "dsc_heads": HEADS,
    "dsc_dropout": 0.1, "num_fake_patches": -1, "fake_feature_type": "random", "top_k": TOP_K,
    "pre_trained": True, "pre_processor": True, "post_processor": True, "evaluator": True,
}  # fmt: skip
SIMPLENET: dict[str, Any] = {
    "lr": 2e-4, "lr_adaptor": 1e-4, "hf_path": TINY, "layers_to_extract_from": [2],
    "hidden_dim": HIDDEN, "wd": 1e-5, "epochs": 160, "noise_std": 0.015, "dsc_layers": 3,
    "pool_size": 3, "image_size": SIDE, "log_pixel_metrics": 0, "smoothing_sigma": 4,
    "smoothing_radius": 9,
}  # fmt: skip
KDAD: dict[str, Any] = {
    "embed_dim": DIM, "hidden_dim": HIDDEN, "num_heads": HEADS, "num_layers": 2, "patch_size": 16,
    "num_channels": 3, "num_patches": GRID * GRID, "dropout": 0.2, "lr": 1e-3, "hf_path": TINY,
    "milestones": [10, 20], "gamma": 0.5, "model_type": "ViT",
}  # fmt: skip
HYPER = {
    "generalad": GENERALAD, "anomalib": ANOMALIB, "simplenet": SIMPLENET, "kdad": KDAD,
    "kdad-mlp": {**KDAD, "model_type": "MLP"},
}  # fmt: skip
BACKBONE = {
    "generalad": "feature_extractor.pretrained_model.",
    "anomalib": "model.feature_extractor.pretrained_model.",
    "simplenet": "feature_extractor.pretrained_model.",
    "kdad": "vit_pretrained.",
    "kdad-mlp": "vit_pretrained.",
}


def teacher() -> torch.nn.Module:
    """The backbone whose weights lie in every checkpoint."""
    return body(TINY, seed=3, img_size=(SIDE, SIDE), num_classes=0)


def state_of(kind: str) -> dict[str, Tensor]:
    """All tensors under their names, drawn."""
    shapes = {
        "generalad": _generalad, "anomalib": _anomalib, "simplenet": _simplenet, "kdad": _kdad,
        "kdad-mlp": _kdad_mlp,
    }  # fmt: skip
    wanted = shapes[kind]()
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in wanted.items():
        value = torch.randn(shape, generator=random) * 0.3
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif "norm" in name and name.endswith("weight"):
            value = value + 1
        state[name] = value
        if name.endswith("running_var"):
            counted = name.replace("running_var", "num_batches_tracked")
            state[counted] = torch.tensor(7)
    inner = teacher().state_dict()
    return state | {f"{BACKBONE[kind]}{name}": value for name, value in inner.items()}


def checkpoint_of(kind: str, **changes: Any) -> dict[str, Any]:
    """What Lightning writes; `changes` are of the hyper-parameters."""
    return {
        "epoch": 34, "global_step": 1750, "pytorch-lightning_version": "2.1.0",
        "state_dict": state_of(kind), "loops": {"fit_loop": {"state_dict": {}}},
        "hparams_name": "kwargs", "hyper_parameters": {**HYPER[kind], **changes},
    }  # fmt: skip


def write(path: Path, content: Any) -> Path:
    """As a file."""
    torch.save(content, path)
    return path


def _block(prefix: str, dim: int, norms: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "attn.in_proj_weight": (3 * dim, dim),
        "attn.in_proj_bias": (3 * dim,),
        "attn.out_proj.weight": (dim, dim),
        "attn.out_proj.bias": (dim,),
        "linear.0.weight": (HIDDEN, dim),
        "linear.0.bias": (HIDDEN,),
        "linear.3.weight": (dim, HIDDEN),
        "linear.3.bias": (dim,),
    }
    for norm in norms:
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _generalad(norm: str = "layer_norm_1") -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "discriminator.positional_encodings": (GRID * GRID, 2 * DIM),
        "discriminator.output_layer.weight": (1, 2 * DIM),
    }
    for index in range(2):
        prefix = f"discriminator.transformer_encoder.{index}"
        shapes |= _block(prefix, 2 * DIM, (norm,))
    return shapes


def _anomalib() -> dict[str, tuple[int, ...]]:
    shapes = {f"model.{name}": shape for name, shape in _generalad("layer_norm").items()}
    return {**shapes, "post_processor._image_threshold": ()}


def _simplenet() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "feature_adaptor.linear.weight": (DIM, DIM),
        "discriminator.layers.final_linear.weight": (1, HIDDEN),
    }
    for index, width in enumerate((DIM, HIDDEN)):
        shapes[f"discriminator.layers.linear{index}.weight"] = (HIDDEN, width)
        shapes[f"discriminator.layers.linear{index}.bias"] = (HIDDEN,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"discriminator.layers.batch_norm{index}.{name}"] = (HIDDEN,)
    return shapes


def _kdad() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.cls_token": (1, 1, DIM),
        "model.pos_embedding": (1, 1 + GRID * GRID, DIM),
        "model.input_layer.weight": (DIM, 3 * 16 * 16),
        "model.input_layer.bias": (DIM,),
    }
    for index in range(2):
        prefix = f"model.transformer.{index}"
        shapes |= _block(prefix, DIM, ("layer_norm_1", "layer_norm_2"))
    return shapes


def _kdad_mlp() -> dict[str, tuple[int, ...]]:
    return {
        "model.linear.0.weight": (HIDDEN, 3 * 16 * 16),
        "model.linear.0.bias": (HIDDEN,),
        "model.linear.3.weight": (DIM, HIDDEN),
        "model.linear.3.bias": (DIM,),
    }


@torch.no_grad()
def scores_of(kind: str, images: Tensor) -> Tensor:
    """The image scores (B,) of a checkpoint, images (B, H, W, 3) uint8, read with torch alone."""
    state = state_of(kind)
    pixels = ((images.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    if kind.startswith("kdad"):
        return _kdad_scores(state, pixels)
    blocks = [1] if kind == "simplenet" else [1, 3]
    tokens: Any = teacher().forward_intermediates(  # type: ignore[operator]
        pixels, indices=blocks, norm=True, output_fmt="NLC", intermediates_only=True
    )
    features = torch.cat(tokens, dim=-1)
    if kind == "simplenet":
        return _simplenet_scores(state, features)
    prefix = "model." if kind == "anomalib" else ""
    norm = "layer_norm" if kind == "anomalib" else "layer_norm_1"
    x = features + state[f"{prefix}discriminator.positional_encodings"]
    for index in range(2):
        name = f"{prefix}discriminator.transformer_encoder.{index}"
        x = _norm(state, f"{name}.{norm}", x + _attention(state, f"{name}.attn", x))
        x = x + _mlp(state, name, x)
    logits = (x @ state[f"{prefix}discriminator.output_layer.weight"].T).squeeze(-1)
    return logits.topk(TOP_K, dim=1).values.mean(dim=1)


def _simplenet_scores(state: dict[str, Tensor], features: Tensor) -> Tensor:
    x = features @ state["feature_adaptor.linear.weight"].T
    for index in range(2):
        name = f"discriminator.layers.linear{index}"
        x = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        norm = f"discriminator.layers.batch_norm{index}"
        x = (x - state[f"{norm}.running_mean"]) / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        x = F.leaky_relu(x * state[f"{norm}.weight"] + state[f"{norm}.bias"], 0.2)
    return (x @ state["discriminator.layers.final_linear.weight"].T).squeeze(-1).amax(dim=1)


def _kdad_scores(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    real: Any = teacher().forward_features(pixels)[:, 1:]  # type: ignore[operator]
    patches = F.unfold(pixels, 16, stride=16).transpose(1, 2)
    if "model.linear.0.weight" in state:
        x = patches @ state["model.linear.0.weight"].T + state["model.linear.0.bias"]
        x = x.relu() @ state["model.linear.3.weight"].T + state["model.linear.3.bias"]
        return _mean_difference(x, real)
    x = patches @ state["model.input_layer.weight"].T + state["model.input_layer.bias"]
    x = torch.cat([state["model.cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + state["model.pos_embedding"]
    for index in range(2):
        name = f"model.transformer.{index}"
        x = x + _attention(state, f"{name}.attn", _norm(state, f"{name}.layer_norm_1", x))
        x = x + _mlp(state, name, _norm(state, f"{name}.layer_norm_2", x))
    return _mean_difference(x[:, 1:], real)


def _mean_difference(student: Tensor, real: Tensor) -> Tensor:
    difference = F.normalize(student, dim=2) - F.normalize(real, dim=2)
    return torch.as_tensor(difference.square().mean(dim=(1, 2)))


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def _mlp(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    x = F.gelu(x @ state[f"{name}.linear.0.weight"].T + state[f"{name}.linear.0.bias"])
    return x @ state[f"{name}.linear.3.weight"].T + state[f"{name}.linear.3.bias"]


def _attention(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    layer = torch.nn.MultiheadAttention(x.shape[-1], HEADS, batch_first=True).eval()
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    layer.load_state_dict({part: state[f"{name}.{part}"] for part in names})
    return torch.as_tensor(layer(x, x, x)[0])
