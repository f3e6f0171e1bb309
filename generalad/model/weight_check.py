"""Whether a file of weights is that of the network it is loaded into, and whose it looks like."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from generalad.config import EMBEDDED
from generalad.errors import WeightsError

LEFTOVERS = (
    "mask_token",
    "masked_embed",
    *("dino_head.", "ibot_head."),  # of self-supervised training; DINO's and iBOT's is "head."
    *("decoder_", "decoder."),  # of masked autoencoders
)
"""Beginnings of names that training needs and a trained network does not."""

_BUFFERS = ("relative_position_index", "attn_mask", "num_batches_tracked")
_SIZE = re.compile(r"[0-9]+|tiny|small|base|large|huge|giant")
_COMMON = (
    *("vit_small_patch16_224", "vit_base_patch16_224", "vit_small_patch14_dinov2"),
    *("resnet50", "wide_resnet50_2", "mobilenetv2_100", "efficientnet_b0"),
)
_CANDIDATES = 8  # each takes a tenth of a second or more
_Shapes = dict[str, tuple[int, ...]]


def unexpected_tensors(names: list[str], body: nn.Module, name: str) -> list[str]:
    """Those of `names`, which `body` lacks, that no file of its weights may hold.

    Args:
        names: tensors of a file that `body` has no place for.
        body: a timm model without classifier.
        name: its name in timm.
    """
    allowed = (*LEFTOVERS, *_classifiers(body))
    left = [n for n in names if not n.startswith(allowed) and not n.endswith(_BUFFERS)]
    if left and timm.is_model(name):
        left = [n for n in left if n not in whole_model(name)]
    return left


def whole_model(name: str) -> dict[str, Tensor]:
    """The state dict of timm's model with its classifier, without values."""
    with torch.device("meta"):
        state: dict[str, Tensor] = timm.create_model(name).state_dict()
    return state


def other_patch_size(read: dict[str, Tensor], body: nn.Module) -> str:
    """The patch size in a file if it is not that of `body`, else "".

    timm resamples the projection of patches, which gives a network that nobody trained.
    """
    mine: Any = getattr(getattr(body, "patch_embed", None), "proj", None)
    theirs = read.get("patch_embed.proj.weight")
    if not isinstance(mine, nn.Conv2d) or theirs is None or theirs.ndim != 4:
        return ""
    height, width = theirs.shape[2:]
    return "" if (height, width) == tuple(mine.weight.shape[2:]) else f"{height} x {width}"


def refusal(
    path: Path, reason: str, state: dict[str, Tensor], body: nn.Module, name: str
) -> WeightsError:
    """The error for a file that is not that of `name`, with the network it looks like."""
    looks = likely_network(path, state, body, name)
    likely = f"; it looks like {looks}, expected {name}" if looks else f", expected {name}"
    return WeightsError(f"{path} {reason}{likely}", remedy=f"give the weights of {name}")


def likely_network(path: Path, state: dict[str, Tensor], body: nn.Module, name: str) -> str:
    """The timm model whose tensors have the names and shapes of `state`, or "".

    Only some are tried: those of the same family or like the file by their names, and common ones.
    """
    if name == EMBEDDED or not state:
        return ""
    found = _shapes(state, _classifiers(body))
    expected = name.split(".")[0]
    family = sys.modules[type(body).__module__].__name__.split(".")[-1]
    stem = path.stem.split(".")[0]
    models = timm.list_models(module=family)

    def likeness(candidate: str) -> tuple[float, float]:
        siblings = _ratio(_SIZE.sub("", candidate), _SIZE.sub("", expected))
        return max(siblings, _ratio(candidate, stem)), _ratio(candidate, expected)

    near = sorted(models, key=likeness, reverse=True)[:_CANDIDATES]
    like_file = difflib.get_close_matches(stem, timm.list_models(), n=2)
    for candidate in dict.fromkeys((*like_file, *near, *_COMMON)):
        with torch.device("meta"):
            model = timm.create_model(candidate, num_classes=0)
        if candidate != expected and _shapes(model.state_dict(), _classifiers(model)) == found:
            return candidate
    return ""


def _ratio(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()


def _classifiers(body: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of classifiers."""
    named = dict(getattr(body, "pretrained_cfg", None) or {}).get("classifier") or ()
    known = (named,) if isinstance(named, str) else tuple(named)
    return tuple(f"{one}." for one in ("head", "fc", "classifier", *known))


def _shapes(state: dict[str, Tensor], classifiers: tuple[str, ...]) -> _Shapes:
    """What tells networks apart: all but classifiers, leftovers and what depends on the size."""
    skipped = (*LEFTOVERS, *classifiers, "pos_embed")
    return {
        name: tuple(value.shape)
        for name, value in state.items()
        if not name.startswith(skipped) and not name.endswith(_BUFFERS)
    }
