"""What the authors' code computes for SimpleNet and KDAD on small networks; see `authors`.

All in float64: a first step of Adam moves a weight by about the learning rate whatever the size of
its gradient, so that rounding in float32 decides the sign of a step whose gradient is nothing. To
compute the numbers again, with the authors' repository checked out at `COMMIT` somewhere::

    python tests/helpers/authors_baselines.py FOLDER
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from authors import RATE, SIDE, authors_code, body_of, drawn, filled, mask_of
from torch import Tensor, nn

from generalad.config import PRESETS, Config
from generalad.model.backbone import wrap
from generalad.model.heads.kdad import KDADHead
from generalad.model.heads.simplenet import SimpleNetHead

FILE = Path(__file__).with_suffix(".npz")

DIM, PATCHES, HIDDEN, HEADS, BLOCKS = 16, 16, 24, 2, 2
NOISE = 0.5
"""Standard deviation of the noise, times 1.1 in their code."""

SETTINGS: dict[str, Any] = {
    "image_size": [SIDE, SIDE], "layers": [3], "hidden": HIDDEN, "heads": HEADS, "blocks": BLOCKS,
}  # fmt: skip
EPOCHS = {"simplenet": 5, "kdad": 22}


def config_of(method: str, **changes: Any) -> Config:
    """The method's own schedule on small features."""
    return PRESETS[method].replaced({**SETTINGS, "epochs": EPOCHS[method], **changes})


def simplenet_head() -> SimpleNetHead:
    """Two hidden layers, drawn weights, float64."""
    made = SimpleNetHead(config_of("simplenet"), (4, 4), DIM)
    filled(made, "simplenet")
    return made.double()


def kdad_head(*, dropout: float = 0.0) -> KDADHead:
    """Two blocks, drawn weights, float64."""
    made = KDADHead(config_of("kdad", dropout=dropout), (4, 4), DIM)
    filled(made, "kdad")
    return made.double()


def features() -> Tensor:
    """Clean patch features (B, N, D)."""
    return drawn("baseline features", 3, PATCHES, DIM).double()


def noise() -> Tensor:
    """What is added to adapted features (B, N, D), of deviation 1."""
    return drawn("baseline noise", 3, PATCHES, DIM).double()


def images() -> Tensor:
    """Normalised images (B, 3, H, W)."""
    return drawn("baseline images", 3, 3, SIDE, SIDE).double()


def teacher() -> Tensor:
    """What the teacher sees in `images`, (B, N, D)."""
    backbone = wrap(body_of("vit"), (3,), (SIDE, SIDE)).double()
    with torch.inference_mode():
        found: Tensor = backbone(images())
    return found.clone()


def golden() -> dict[str, Tensor]:
    """What the authors' code gave."""
    with np.load(FILE) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


DROPPED = ("tokens", *(f"{place} {block}" for block in range(BLOCKS) for place in
    ("attention", "inner", "outer")))  # fmt: skip
"""Where the student drops, in the order in which it does."""


def kept(place: str) -> Tensor:
    """What dropout keeps at a place of the student, as ones and zeros: images first."""
    tokens = 1 + PATCHES
    width = HIDDEN if place.startswith("inner") else DIM
    shape = (3, HEADS, tokens, tokens) if place.startswith("attention") else (3, tokens, width)
    return mask_of(0, place, *shape).double()


# Names: from theirs to ours.


def simplenet_name(key: str) -> str:
    """Of a tensor of their SimpleNet."""
    key = key.replace("feature_adaptor.linear", "adaptor")
    key = key.replace("discriminator.layers.final_linear", "discriminator.head")
    for index in range(BLOCKS):
        for place, part in enumerate(("linear", "batch_norm")):
            key = key.replace(f"layers.{part}{index}", f"blocks.{index}.{place}")
    return key


def kdad_name(key: str) -> str:
    """Of a tensor of their student."""
    names = {
        "model.": "student.",
        "input_layer": "patch_embed",
        "transformer": "blocks",
        "layer_norm_": "norm_",
        "attn.in_proj_": "attention.in_proj.",
        "attn.": "attention.",
        ".linear.": ".mlp.",
        "cls_token": "class_token",
        "pos_embedding": "positions",
    }
    for theirs, ours in names.items():
        key = key.replace(theirs, ours)
    return key


# From here on: only to compute the numbers with the authors' code.


def _load(model: nn.Module, ours: nn.Module, name_of: Callable[[str], str], part: str) -> None:
    """Give their model the weights of ours."""
    state = {}
    for key, value in model.state_dict().items():
        if key.startswith(part):
            state[key] = ours.state_dict()[name_of(key)].reshape(value.shape)
    model.double().load_state_dict(state, strict=False)


def _trained(
    model: nn.Module, name_of: Callable[[str], str], part: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    """Gradients, then values, of what was trained."""
    for key, parameter in model.named_parameters():
        if key.startswith(part):
            yield f"gradient/{name_of(key)}", parameter.grad
            yield f"stepped/{name_of(key)}", parameter.detach()
    for key, value in model.named_buffers():
        if key.startswith(part) and value.is_floating_point():
            yield f"stepped/{name_of(key)}", value


def _simplenet(repository: Path) -> dict[str, Tensor]:
    code = authors_code(repository, "simplenet")
    config, found = config_of("simplenet"), {}
    with mock.patch.object(code.timm, "create_model", lambda *_a, **_o: body_of("vit")):
        model = code.SimpleNet(
            lr=config.lr, lr_adaptor=1e-4, hf_path="vit", layers_to_extract_from=[3],
            hidden_dim=HIDDEN, wd=config.weight_decay, epochs=config.epochs, noise_std=NOISE,
            dsc_layers=BLOCKS + 1, pool_size=3, image_size=SIDE, log_pixel_metrics=0,
            smoothing_sigma=4, smoothing_radius=9,
        )  # fmt: skip
    parts = ("feature_adaptor", "discriminator")
    for part in parts:
        _load(model, simplenet_head(), simplenet_name, part)
    with torch.no_grad():
        patches = model.eval()(images())
        found["patches"] = patches
        found["scores"] = torch.max(patches, dim=1)[0]
    optimisers, schedulers = model.configure_optimizers()
    model.optimizers = lambda: optimisers
    for optimiser in optimisers:
        optimiser.zero_grad = lambda: None
    model.train()
    model.feature_extractor.forward = lambda _images: features()
    with mock.patch.object(code.torch, "normal", lambda _mean, std, _shape: std * noise()):
        found["loss"] = model.training_step([torch.zeros(())], 0).detach()
    found |= dict(_trained(model, simplenet_name, parts))
    rates = []
    for _ in range(config.epochs):
        rates.append([optimiser.param_groups[0]["lr"] for optimiser in optimisers])
        for scheduler in schedulers:
            scheduler.step()
    return {**found, "schedule": torch.tensor(rates, dtype=torch.float64)}


@contextlib.contextmanager
def _given_masks() -> Iterator[None]:
    """Torch's dropout, but with `kept` in the order in which their student asks."""
    places = iter(DROPPED)

    def dropout(x: Tensor, p: float = 0.5, *_arguments: Any, **_options: Any) -> Tensor:
        if p == 0:  # the teacher's
            return x
        place = next(places)
        mask = kept(place)
        if place.startswith("attention"):
            mask = mask.flatten(0, 1)
        elif place != "tokens":
            mask = mask.transpose(0, 1)  # inside their blocks, tokens come before images
        return x * mask / (1 - p)

    with mock.patch.object(F, "dropout", dropout):
        yield


def _kdad(repository: Path) -> dict[str, Tensor]:
    code = authors_code(repository, "kdad_vit")
    config = config_of("kdad")
    found: dict[str, Tensor] = {}
    for name, rate in (("plain", 0.0), ("dropped", RATE)):
        with mock.patch.object(code.timm, "create_model", lambda *_a, **_o: body_of("vit")):
            model = code.AD_ViT(
                embed_dim=DIM, hidden_dim=HIDDEN, num_heads=HEADS, num_layers=BLOCKS,
                patch_size=8, num_channels=3, num_patches=PATCHES, dropout=rate, lr=config.lr,
                hf_path="vit", milestones=[10, 20], gamma=0.5, model_type="ViT",
            )  # fmt: skip
        _load(model, kdad_head(), kdad_name, "model.")
        with torch.no_grad():
            model.eval()
            found["student"] = model(images())
            found["scores"], _ = model._eval_step((images(), None))
        (optimiser,), (scheduler,) = model.configure_optimizers()
        model.train()
        with _given_masks() if rate else contextlib.nullcontext():
            loss = model.training_step((images(),), 0)
        loss.backward()
        optimiser.step()
        found[f"{name}/loss"] = loss.detach()
        trained = dict(_trained(model, kdad_name, ("model.",)))
        found |= {f"{name}/{key}": value for key, value in trained.items()}
    rates = []
    for _ in range(config.epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        scheduler.step()
    return {**found, "schedule": torch.tensor(rates, dtype=torch.float64)}


def main(repository: str) -> None:
    """Compute all numbers with the authors' code and store them."""
    found: dict[str, Tensor] = {}
    for method, part in (("simplenet", _simplenet), ("kdad", _kdad)):
        found |= {f"{method}/{key}": value for key, value in part(Path(repository)).items()}
    arrays: dict[str, Any] = {name: value.numpy() for name, value in found.items()}
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
