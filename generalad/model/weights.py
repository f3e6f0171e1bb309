"""Where backbone weights come from: timm's hub, a local file, or the package itself.

All three end in one place: a timm model built for the wanted input size, its position embedding
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
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_backbone(config: Config, *, weights: Path | None = None) -> tuple[Backbone, str, str]:
    """Build the backbone of `config` with its weights.

    Args:
        config: names the model, the layers and the image size.
        weights: a file to take the weights from instead of the hub.

    Returns:
        The frozen backbone, where its weights came from ("hub", "embedded" or a path), their hash.

    Raises:
        ConfigError: unknown model, or layers or an image size that do not fit it.
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
            digest = _load(body, folder / "vit_embedded.safetensors")
        source = EMBEDDED
    else:
        body = build_body(config.backbone, config.image_size)
        file = weights if weights is not None else find_on_hub(body, config.backbone)
        digest = _load(body, file)
        source = HUB if weights is None else str(weights.resolve())
    backbone = wrap(body, config.layers, config.image_size, pool_size=config.pool_size)
    return backbone, source, digest


def build_body(name: str, image_size: tuple[int, int]) -> nn.Module:
    """A timm model without head and with initial values, for one input size."""
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
        raise WeightsError(f"{name} has no published weights", remedy="give --weights FILE")
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
            " --preset embedded, which needs no download",
        ) from error
    raise WeightsError(
        f"{repo} on the hub holds no known weight file", remedy="give --weights FILE"
    )


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


def _load(body: nn.Module, path: Path) -> str:
    """Load a state dict into `body`, which must have every parameter; returns its `hash_of`."""
    read = _read(path)
    state = dict(read)
    adapt = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    try:
        if adapt is not None:  # renames old keys and resamples the position embedding
            state = adapt(state, body)
        missing = body.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, KeyError, AttributeError, ValueError) as error:
        raise WeightsError(
            f"{path} does not fit this backbone: {str(error).strip().splitlines()[-1].strip()}",
            remedy="give the weights of the same model",
        ) from error
    blocks = {int(key.split(".")[1]) for key in state if key.startswith("blocks.")}
    foreign = {"cls_token", "reg_token"} & (state.keys() - body.state_dict().keys())
    if foreign or len(blocks) > len(getattr(body, "blocks", blocks)):
        raise WeightsError(
            f"{path} has {foreign.pop() if foreign else 'more blocks'}, which this backbone lacks",
            remedy="give the weights of the same model",
        )
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing)} tensors of this backbone, {missing[0]} among them",
            remedy="give the weights of the same model",
        )
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
