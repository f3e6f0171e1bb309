"""Where backbone weights come from: a package of the index, timm's hub, a local file, or ourselves.

All end in one place: a timm model built for the wanted input size, its position embedding
resampled, every tensor accounted for, and a hash that is recorded with the detector and checked
whenever it is loaded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import urllib.error
import urllib.request
import warnings
from importlib.resources import as_file, files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from generalad.config import EMBEDDED, Config
from generalad.errors import ConfigError, WeightsError
from generalad.model.backbone import Backbone, wrap
from generalad.model.embedded_vit import build_embedded
from generalad.model.weight_check import (
    other_patch_size,
    refusal,
    unexpected_tensors,
    whole_model,
)
from generalad.model.weight_packages import PREFIX, find_packaged, named_like, package_of
from generalad.spec import IMAGENET_MEAN, IMAGENET_STD

_IBOT_SIZES = ("small", "base", "large")
IBOT = {f"vit_{size}_patch16_224.ibot": f"vit_{size}_patch16_224" for size in _IBOT_SIZES}
"""Backbones of iBOT, for whose weights timm has no name, and the network that each is in timm."""

HUB = "hub"
HUB_TIMEOUT_S = 5.0
_UNREADABLE = (
    OSError,
    EOFError,
    AttributeError,
    TypeError,
    RuntimeError,
    ValueError,
    KeyError,
    UnpicklingError,
    SafetensorError,
)
_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-nc-4.0": "CC-BY-NC-4.0"}
"""timm's spelling of licences."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_backbone(
    config: Config, *, weights: Path | None = None, source: str = ""
) -> tuple[Backbone, str, str]:
    """Build the backbone of `config` with its weights.

    Args:
        config: names the model, the layers and the image size.
        weights: a file to take the weights from instead of a package or the hub.
        source: "hub" to take them from there although a package has such weights too, as a detector
            recorded it.

    Returns:
        The frozen backbone; where its weights came from ("hub", "embedded", "package:" and the name
        of a distribution, or a path); their hash.

    Raises:
        ConfigError: unknown model, or layers or an image size that do not fit it.
        MissingExtraError: the package with the weights is not installed.
        WeightsError: hub unreachable, or a file that is missing, damaged or of another model.
    """
    if config.backbone == EMBEDDED:
        if weights is not None:
            raise ConfigError(
                "the embedded backbone brings its own weights",
                remedy="leave out --weights, or name another backbone",
            )
        with as_file(files("generalad.model") / "embedded") as folder:
            body = _embedded_body(folder / "vit_embedded.json", config.image_size)
            file = folder / "vit_embedded.safetensors"
            read, source = _read(file), EMBEDDED
    else:
        body = build_body(config.backbone, config.image_size)
        package = package_of(config.backbone)
        if weights is not None:
            file, source = weights, str(weights.resolve())
            read = _read(file)
        elif package is not None and source != HUB:
            file, source = find_packaged(package, config.backbone), PREFIX + package.distribution
            read = named_like(_read(file), whole_model(config.backbone))
        else:
            file, source = find_on_hub(body, config.backbone), HUB
            read = _read(file)
    digest = _load(body, read, file, IBOT.get(config.backbone, config.backbone))
    backbone = wrap(
        body,
        config.layers,
        config.image_size,
        pool_size=config.pool_size,
        packed=config.keeps_levels,
    )
    return backbone, source, digest


def build_body(name: str, image_size: tuple[int, int]) -> nn.Module:
    """A timm model without head and with initial values, for one input size."""
    if name in IBOT:
        return _ibot_body(IBOT[name], image_size)
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0]}*")[:3]
        raise ConfigError(
            f"timm knows no model {name!r}",
            remedy=f"perhaps {' or '.join(near)}" if near else "see timm.list_models()",
        )
    sizes: dict[str, Any] = {"img_size": image_size, "dynamic_img_size": False}
    try:
        body = timm.create_model(name, num_classes=0, **sizes)
    except TypeError:  # CNNs take any size and have no such argument
        body = timm.create_model(name, num_classes=0)
    return body.eval()


def _ibot_body(name: str, image_size: tuple[int, int]) -> nn.Module:
    """A plain ViT of timm, whose own published weights and normalisation do not hold here."""
    others = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "hf_hub_id": None, "license": None}
    body: nn.Module = timm.create_model(
        name,
        num_classes=0,
        img_size=image_size,
        dynamic_img_size=False,
        pretrained_cfg_overlay=others,
    )
    return body.eval()


def _embedded_body(description: Path, image_size: tuple[int, int]) -> nn.Module:
    architecture = json.loads(description.read_text(encoding="utf-8"))["architecture"]
    body: nn.Module = build_embedded(**architecture, image_size=image_size).eval()
    return body


def find_on_hub(body: nn.Module, name: str) -> Path:
    """The weights of a timm model in the local hub cache, downloaded first where needed.

    A hub that cannot be reached is noticed within seconds: the hub's own client would try for
    most of a minute.
    """
    import huggingface_hub

    repo = dict(getattr(body, "pretrained_cfg", None) or {}).get("hf_hub_id")
    if not repo:
        raise WeightsError(f"the hub has no weights of {name}", remedy="give --weights FILE")
    for file in _HUB_FILES:
        cached = huggingface_hub.try_to_load_from_cache(repo, file)
        if isinstance(cached, str):
            return Path(cached)
    try:
        _knock(huggingface_hub.hf_hub_url(repo, "config.json"))
        for file in _HUB_FILES:
            if huggingface_hub.file_exists(repo, file):
                return Path(huggingface_hub.hf_hub_download(repo, file))
    except Exception as error:  # its errors are those of the HTTP library it happens to use
        raise WeightsError(
            f"the weights of {name} are not on this machine and the model hub cannot be reached"
            f" ({_reason(error)})",
            remedy="give --weights FILE (from a machine that can download it), or try"
            " --preset edge or --preset embedded, which need no download",
        ) from error
    raise WeightsError(
        f"{repo} on the hub holds no known weight file", remedy="give --weights FILE"
    )


def licence_of(name: str) -> str:
    """The licence of the weights that are published under this name, "" where it is not known.

    An SPDX identifier, or what the publisher calls it. A file given by the user may have another.
    """
    if name == EMBEDDED:
        return "MIT"  # made by this project
    if (package := package_of(name)) is not None:
        return package.licence
    if name in IBOT:
        return ""
    published = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    licence = str(getattr(published, "license", None) or "")
    return _SPDX.get(licence, licence)


def _knock(url: str) -> None:
    """Ask for the headers of `url` once; an answer of any status is fine."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise OSError("HF_HUB_OFFLINE is set")
    request = urllib.request.Request(url, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    lines = str(getattr(cause, "strerror", None) or cause).splitlines()
    return lines[0] if lines else type(error).__name__


def _load(body: nn.Module, read: dict[str, Tensor], path: Path, name: str) -> str:
    """Load the tensors of a file into `body`, which must need each of them; returns `hash_of` them.

    Args:
        body: a timm model without classifier.
        read: from the file.
        path: of the file.
        name: of the model in timm.
    """
    if other := other_patch_size(read, body):
        raise refusal(path, f"has patches of {other} pixels", read, body, name)
    state = dict(read)
    adapt = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    try:
        if adapt is not None:  # renames old keys and resamples the position embedding
            state = adapt(state, body)
        missing, surplus = body.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError, AttributeError, ValueError) as error:
        reason = f"does not fit: {str(error).strip().splitlines()[-1].strip()}"
        raise refusal(path, reason, state, body, name) from error
    if missing:
        reason = f"lacks {len(missing)} tensors of this backbone, {missing[0]} among them"
        raise refusal(path, reason, state, body, name)
    if foreign := unexpected_tensors(surplus, body, name):
        reason = f"has {len(foreign)} tensors that this backbone lacks, {foreign[0]} among them"
        raise refusal(path, reason, state, body, name)
    # What is resampled to the input size, such as the position embedding, counts as it was read:
    # the hash must depend neither on that size nor on the last bit of such arithmetic.
    used = [n for n, value in body.state_dict().items() if torch.is_floating_point(value)]
    return hash_of({name: read[name] if name in read else state[name] for name in used})


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file", remedy="check --weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on pickle protocols
            # weights_only: a foreign file is never unpickled beyond tensors and plain containers.
            state = timm.models.load_state_dict(str(path), device="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path} is damaged or holds no plain tensors", remedy="use a .safetensors file"
        ) from error
    state = state.get("teacher", state)
    return {
        key.removeprefix("module.").removeprefix("backbone."): value.float()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def hash_of(weights: dict[str, Tensor]) -> str:
    """SHA-256 over tensors in float32, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
