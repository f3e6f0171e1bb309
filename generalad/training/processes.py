"""Several processes that train one detector, as `torchrun` starts them, one a GPU.

Every process draws the noise of a whole batch, which is cheap, and shows the discriminator its part
of it; gradients are added up. So the result is that of one process up to rounding. What one process
must do alone (locks, checkpoints, calibration, saving) the first one does.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

T = TypeVar("T")

PATIENCE = datetime.timedelta(hours=12)
"""That the others wait for the first one, which calibrates alone."""


@dataclass(frozen=True)
class Processes:
    """This process among all that train one detector.

    Attributes:
        rank: of this one, from 0.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that does what only one may do."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            distributed.barrier()

    def share(self, value: T | None) -> T:
        """What the first process gives, on all of them."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values, src=0)
        (shared,) = values
        return shared  # type: ignore[return-value]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.detach().reshape(-1) for part in parts])
        distributed.all_reduce(flat)
        for part, added in zip(
            parts, torch.split(flat, [part.numel() for part in parts]), strict=True
        ):
            part.detach().copy_(added.view_as(part))


ALONE = Processes()


@contextlib.contextmanager
def joined(device: str | None) -> Iterator[tuple[Processes, str | None]]:
    """Join the processes that `torchrun` started, where it did.

    Args:
        device: to train on; None for a GPU where there is one.

    Yields:
        This process among all, and the device that is its own.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    if (device or "cuda") == "cuda" and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    backend = "nccl" if (device or "").startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()
