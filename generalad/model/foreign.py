"""Checkpoints that others wrote: Lightning files of GeneralAD's authors, and anomalib's GeneralAD.

Such a file is a pickle, and a pickle can hold code. It is read as tensors and plain containers
only; a file that needs more is refused, and nothing in it is run.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from generalad.config import PRESETS, Config
from generalad.errors import ArtifactError, ConfigError
from generalad.model.foreign_kinds import KINDS, Hyper, Kind, State


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


_HARMLESS: list[Any] = [
    (dict, f"{module}.AttributeDict")
    for module in (
        *("pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing"),
        *("lightning_fabric.utilities.data", "lightning.fabric.utilities.data"),
    )
]
"""Lightning's dictionary of hyper-parameters, which some versions write; read as a plain one."""


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
    kind = next((k for k in KINDS if all(mark in tensors for mark in k.marks)), None)
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
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # advice on pickle protocols
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


def _config(path: Path, kind: Kind, hyper: Hyper, tensors: State) -> Config:
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


def _trained(kind: Kind, tensors: State) -> State:
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
