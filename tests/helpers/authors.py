"""What the authors' code computes on small networks, and how it was made to.

The numbers in `authors.npz` come from the authors' own code, github.com/LucStrater/GeneralAD at
`COMMIT`. They belong to networks and inputs that `drawn` makes from names alone, so that a test
builds the same ones without their code and without a network. To compute them again, with their
repository checked out somewhere::

    python tests/helpers/authors.py FOLDER

Needs scipy and scikit-learn. What else they import and do not use here is put in as empty modules.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models.eva import Eva
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from generalad.model.discriminator import Discriminator

COMMIT = "6d1bae22f97318c4fb68e30f0dda523119179600"
FILE = Path(__file__).with_suffix(".npz")

SIDE, IMAGES = 32, 2
"""Height and width of the images in pixels, and how many."""

ViT: dict[str, Any] = {
    "img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 0
}  # fmt: skip
BODIES: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer(**ViT, init_values=1.0),
    "vit_reg2": lambda: VisionTransformer(**ViT, reg_tokens=2, no_embed_class=True),
    "eva02": lambda: Eva(
        **ViT, qkv_fused=False, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
    ),
    "cnn": lambda: ResNet(
        cast("Any", BasicBlock), (1, 1, 1, 1), channels=(8, 12, 16, 20), num_classes=0
    ),
}  # fmt: skip
LAYERS = {"vit": (1, 3), "vit_reg2": (2,), "eva02": (2,), "cnn": (2, 3)}
CNN_SIDE = 64

HIDDEN, HEADS, RATE = 24, 2, 0.25
"""Of the discriminators; the rate of dropout is one that 16 random bits give exactly."""

SMOOTHING = {"wide": (16, 18), "narrow": (3, 9), "farther than the image": (16, 70), "none": (0, 9)}
"""Sigma and radius of the Gaussians in pixels."""
TOP_K = 3

COUNTS, CHOSEN_HEADS = (1, 5, 16), (1, 0, 1)
"""Of the three images in which patches are overwritten."""


def drawn(name: str, *shape: int) -> Tensor:
    """Standard normal numbers, float32, that depend on name and shape alone."""
    # RandomState's streams are frozen for good, those of newer generators are not.
    source = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(source.standard_normal(shape).astype(np.float32))


def filled(module: nn.Module, name: str) -> nn.Module:
    """Give every tensor of a network drawn values of a usual size; in evaluation mode."""
    for key, value in module.state_dict().items():
        if not torch.is_floating_point(value):
            continue
        new = drawn(f"{name}.{key}", *value.shape)
        if key.endswith("running_var"):
            new = 1 + 0.5 * new.abs()
        elif value.dim() == 1:
            new = 0.2 * new + float(key.endswith("weight") or "gamma" in key)
        elif key != "positions":
            new = new / max(value[0].numel(), 1) ** 0.5
        value.copy_(new)
    return module.eval()


def body_of(name: str) -> nn.Module:
    """A backbone of one of `BODIES` with drawn weights."""
    return filled(BODIES[name](), name)


def drawn_discriminator(*, dropout: float = 0.0) -> Discriminator:
    """Two blocks with drawn weights, in evaluation mode."""
    made = Discriminator(patches=16, dim=16, hidden=HIDDEN, heads=HEADS, blocks=2, dropout=dropout)
    filled(made, "discriminator")
    return made


def images_of(name: str) -> Tensor:
    """Normalised images (B, 3, H, W)."""
    side = CNN_SIDE if name == "cnn" else SIDE
    return drawn("images", IMAGES, 3, side, side)


def views_of() -> list[tuple[Tensor, Tensor]]:
    """Features (B, N, D) and labels (B, N) of four views: clean, noisy, partly noisy, moved."""
    clean = drawn("features", IMAGES, 16, 16)
    noise = [0.5 * drawn(f"noise {index}", *clean.shape) for index in range(2)]
    labels = [drawn(f"labels {index}", *clean.shape[:2]) > 0.5 for index in range(2)]
    nothing = torch.zeros_like(labels[0])
    some = torch.where(labels[0].unsqueeze(-1), clean + noise[1], clean)
    moved = torch.where(labels[1].unsqueeze(-1), clean.flip(1), clean)
    return [(clean, nothing), (clean + noise[0], ~nothing), (some, labels[0]), (moved, labels[1])]


def mask_of(view: int, place: str, *shape: int) -> Tensor:
    """What dropout keeps, as ones and zeros."""
    uniform: Tensor = torch.special.ndtr(drawn(f"{place} of view {view}", *shape))
    return (uniform > RATE).float()


def logits_of() -> Tensor:
    """Patch logits (B, N) for scores and maps; a spike in one corner of the second image."""
    logits = drawn("logits", IMAGES, 16)
    logits[1] = 0
    logits[1, 0] = 1
    return logits


def attention_of() -> Tensor:
    """Attention (B, heads, N) of the images in which patches are overwritten."""
    return drawn("attention", len(COUNTS), 2, 16)


def sources_of(image: int) -> Tensor:
    """The order (N,) of the patches to copy from."""
    return drawn(f"sources {image}", 16).argsort()


def golden() -> dict[str, Tensor]:
    """What the authors' code gave."""
    with np.load(FILE) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


# From here on: only to compute the numbers with the authors' code.


def _our_name(key: str) -> str:
    """The name that a tensor of the authors' discriminator has in ours."""
    names = {
        "positional_encodings": "positions",
        "transformer_encoder": "blocks",
        "layer_norm_1": "norm",
        "attn.in_proj_": "attention.in_proj.",
        "attn.": "attention.",
        ".linear.": ".mlp.",
        "output_layer": "head",
    }
    for theirs, ours in names.items():
        key = key.replace(theirs, ours)
    return key


def authors_code(repository: Path, module: str) -> Any:
    """A module of theirs, with stand-ins for what it imports and these cases do not use."""

    class Module(nn.Module):
        device = torch.device("cpu")

        def save_hyperparameters(self) -> None:
            given = sys._getframe(1).f_locals
            self.hparams = types.SimpleNamespace(**given)

        def log(self, *_arguments: Any, **_options: Any) -> None:
            pass

    for name in ("pytorch_lightning", "wget", "skimage", "skimage.measure", "transformers"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["pytorch_lightning"].LightningModule = Module  # type: ignore[attr-defined]
    vars(sys.modules["skimage.measure"]).update(label=None, regionprops=None)
    unused = ("ViTImageProcessor", "ViTForImageClassification", "AutoImageProcessor", "AutoModel")
    vars(sys.modules["transformers"]).update(dict.fromkeys(unused))
    sys.path.insert(0, str(repository / "src"))
    return importlib.import_module(module)


def _model(code: Any, name: str, **changes: Any) -> Any:
    """Their `General_AD` on one of our bodies."""
    settings = {
        "lr": 5e-4, "lr_decay_factor": 0.2, "hf_path": name, "layers_to_extract_from": LAYERS[name],
        "hidden_dim": HIDDEN, "wd": 1e-5, "epochs": 5, "noise_std": 0.25, "dsc_layers": 2,
        "dsc_heads": HEADS, "dsc_dropout": 0.0, "pool_size": 3, "image_size": SIDE,
        "num_fake_patches": -1, "fake_feature_type": "base", "top_k": TOP_K,
        "log_pixel_metrics": 1, "smoothing_sigma": 16, "smoothing_radius": 18,
    }  # fmt: skip
    with mock.patch.object(code.timm, "create_model", lambda *_a, **_o: body_of(name)):
        model = code.General_AD(**{**settings, **changes})
    return model


@torch.no_grad()
def _features(code: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in ("vit", "vit_reg2"):
        extractor = _model(code, name).feature_extractor
        attention = extractor.pretrained_model.blocks[LAYERS[name][-1] - 1].attn
        inner = attention.forward  # theirs, which today's timm hands more than the tokens
        attention.forward = lambda x, inner=inner, **_options: inner(x)
        features, attention = extractor(images_of(name), output_attn=True)
        found |= {f"{name}/features": features, f"{name}/attention": attention}
    found["eva02/features"] = _model(code, "eva02").feature_extractor(images_of("eva02"))
    with mock.patch.object(code.timm, "create_model", lambda *_a, **_o: body_of("cnn")):
        for size in (1, 3, 5):
            extractor = code.FeatureExtractor("cnn", LAYERS["cnn"], size, CNN_SIDE, "cpu")
            found[f"cnn/features/{size}"] = extractor(images_of("cnn"))
    return found


@contextlib.contextmanager
def _given_masks() -> Iterator[None]:
    """Torch's dropout, but with `mask_of` in the order in which their block asks."""
    places = ["attention 0", "update 0", "inner 0", "outer 0"]
    places += [place.replace("0", "1") for place in places]
    calls = iter((view, place) for view in range(4) for place in places)

    def dropout(x: Tensor, p: float = 0.5, *_arguments: Any, **_options: Any) -> Tensor:
        return x * mask_of(*next(calls), *x.shape) / (1 - p)

    with mock.patch.object(F, "dropout", dropout):
        yield


def _training(code: Any) -> dict[str, Tensor]:
    """Loss and gradients of one step, without dropout and with masks that are given."""
    found = {}
    views = views_of()
    for name, rate in (("plain", 0.0), ("dropped", RATE)):
        model = _model(code, "vit_reg2", dsc_dropout=rate, fake_feature_type="shuffle_and_random")
        ours = drawn_discriminator().state_dict()
        names = {key: _our_name(key) for key in model.discriminator.state_dict()}
        model.discriminator.load_state_dict({key: ours[name] for key, name in names.items()})
        with torch.no_grad():
            model.discriminator.eval()
            found["discriminator/logits"] = model.discriminator(views[0][0])
        model.discriminator.train()
        model.feature_extractor.forward = lambda *_a, **_o: (views[0][0], None)
        model._add_noise_all = lambda _f: (views[1][0], views[1][1].float())
        model._add_random_noise = lambda _f: views[2]
        model._add_attn_shuffle = lambda _f, _a: views[3]
        with _given_masks() if rate else contextlib.nullcontext():
            loss = model.training_step([torch.zeros(())], 0)
        loss.backward()
        found[f"{name}/loss"] = loss.detach()
        for key, parameter in model.discriminator.named_parameters():
            found[f"{name}/gradient/{names[key]}"] = parameter.grad
    return found


def _schedule(code: Any) -> dict[str, Tensor]:
    """The learning rate of each of five epochs, for two end values."""
    found = {}
    for factor in (0.2, 0.5):
        made = _model(code, "vit", lr_decay_factor=factor).configure_optimizers()
        scheduler, rates = made["lr_scheduler"]["scheduler"], []
        for _ in range(5):
            rates.append(made["optimizer"].param_groups[0]["lr"])
            made["optimizer"].step()
            scheduler.step()
        found[f"schedule/{factor}"] = torch.tensor(rates, dtype=torch.float64)
    return found


def _copies(code: Any) -> dict[str, Tensor]:
    """Patches overwritten with others, all choices given."""
    model = _model(code, "vit")
    model.num_fake_patches = 16
    drawn_numbers = iter(n for pair in zip(CHOSEN_HEADS, COUNTS, strict=True) for n in pair)
    orders = iter([sources_of(image) for image in range(len(COUNTS))])
    with (
        mock.patch.object(code.random, "randint", lambda _low, _high: next(drawn_numbers)),
        mock.patch.object(code.torch, "randperm", lambda _count: next(orders)),
    ):
        features = drawn("to copy", len(COUNTS), 16, 3)
        copies, labels = model._add_attn_copy_out(features, attention_of())
    return {"copies/features": copies, "copies/labels": labels}


def _maps(code: Any) -> dict[str, Tensor]:
    """Image scores, and maps at the size of the image, caught on their way to the metric."""
    found: dict[str, Tensor] = {}
    for name, (sigma, radius) in SMOOTHING.items():
        model = _model(code, "vit", smoothing_sigma=sigma, smoothing_radius=radius)
        model.val_scores, model.val_labels = [logits_of()], [torch.tensor([0, 1])]
        model.val_masks = [torch.zeros(IMAGES, SIDE, SIDE)]
        caught: list[NDArray[np.float32]] = []

        def catch(_labels: Any, values: Any, caught: list[Any] = caught) -> float:
            caught.append(values)
            return 0.0

        with mock.patch.object(code, "roc_auc_score", catch):
            model.on_validation_epoch_end()
        found["scores"] = torch.from_numpy(caught[0])
        found[f"maps/{name}"] = torch.from_numpy(caught[1]).reshape(IMAGES, SIDE, SIDE)
    return found


def main(repository: str) -> None:
    """Compute all numbers with the authors' code and store them."""
    code = authors_code(Path(repository), "general_ad")
    found: dict[str, Tensor] = {}
    for part in (_features, _training, _schedule, _copies, _maps):
        found |= part(code)
    arrays: dict[str, Any] = {name: value.numpy() for name, value in found.items()}
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
