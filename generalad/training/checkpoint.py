"""The state of a training run after a whole epoch, as one safetensors file.

Holds the discriminator, AdamW's moments and the number of epochs done. Randomness needs no state:
each epoch seeds its own generator from the seed and its number.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from generalad.errors import ArtifactError
from generalad.files import atomic_write


def save_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, losses: list[float]
) -> None:
    """Write the state after `len(losses)` epochs, whole or not at all."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimiser.{index}.{name}"] = value
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(plain, metadata={"losses": json.dumps(losses)}))


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> list[float]:
    """Restore the state from `path`; returns the losses of the epochs done.

    Raises:
        ArtifactError: the file is damaged or of another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            losses = [float(loss) for loss in json.loads(file.metadata()["losses"])]
            tensors: dict[str, Tensor] = {n: file.get_tensor(n) for n in list(file.keys())}
        model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{path} is damaged or belongs to another run",
            remedy="delete it; training then starts from the first epoch",
        ) from error
    return losses
