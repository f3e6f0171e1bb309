"""One training step up to its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from generalad.config import Config
from generalad.model.discriminator import Discriminator
from generalad.training.fast_cpu_functions import Scratch
from generalad.training.fast_cpu_step import (
    add_position_gradient,
    projection_offset,
    training_logits,
)
from generalad.training.objective import group_weights, views, weighted_loss
from generalad.training.precision import autocast, training_dtype
from generalad.training.processes import ALONE, Processes

PATCHES = 2048
"""Of one part on a CPU. Fewer make matrix products inefficient, more leave its cache."""


class Step:
    """Computes the objective of a batch and adds its gradients to those of the parameters.

    On a GPU all views pass the discriminator at once. On a CPU they pass in parts of about
    `PATCHES` patches whose gradients add up: each is done with before the next begins, so that what
    the backward pass needs stays small and close.

    Of several processes, each takes a share of the images on a GPU, and of the parts on a CPU.
    Dropout in a part depends on the part alone, so on a CPU it is the same however many they are.
    """

    def __init__(
        self,
        discriminator: Discriminator,
        config: Config,
        device: torch.device,
        *,
        dtype: torch.dtype | None = None,
        by_parts: bool | None = None,
        spread: Tensor | None = None,
        counted: Tensor | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Prepare for batches on `device`.

        Args:
            discriminator: in training mode.
            config: names the distortions.
            device: of the discriminator and the batches.
            dtype: to compute in; default `training_dtype(device)`.
            by_parts: default on a CPU only.
            spread: (D,) unit of the noise in each channel; None for 1.
            counted: (N,) bool, the patches that count; None for all.
            processes: that share each batch; all are given the whole of it.
        """
        self.processes = processes
        self.discriminator, self.config, self.device = discriminator, config, device
        self.dtype = training_dtype(device) if dtype is None else dtype
        self.by_parts = device.type == "cpu" if by_parts is None else by_parts
        self.scratch = Scratch()
        self.spread = None if spread is None else spread.to(device)
        self.counted = None if counted is None else counted.to(device)
        self._logit_sums = torch.zeros(2, 2, device=device)

    def separation(self) -> float | None:
        """Mean logit of distorted patches minus that of clean ones, since the last call.

        Of several processes, each tells of its own share.
        """
        sums, counts = self._logit_sums.tolist()
        self._logit_sums.zero_()
        return None if 0 in counts else sums[1] / counts[1] - sums[0] / counts[0]

    def _count(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (B, N) to those of clean (0) and of distorted patches (1)."""
        logits = logits.detach().float()
        distorted, count = (logits * labels).sum(), labels.sum()
        self._logit_sums[0] += torch.stack([logits.sum() - distorted, distorted])
        self._logit_sums[1] += torch.stack([labels.numel() - count, count])

    def __call__(
        self,
        features: Tensor,
        attention: Tensor | None,
        generator: torch.Generator,
        shown: Tensor | None = None,
    ) -> Tensor:
        """The objective on one batch, as a scalar without a graph.

        Args:
            features: (B, N, D) clean patch features.
            attention: (B, heads, N) or None.
            generator: source of all noise and choices, on the device of `features`.
            shown: (B, N) bool, the patches that each image shows; None for all.
        """
        counted = self.counted
        if shown is not None:
            counted = shown if counted is None else shown & counted
        drawn = views(features, attention, self.config, generator, self.spread)
        total = self._in_parts(drawn, counted) if self.by_parts else self._at_once(drawn, counted)
        if self.processes.count > 1:
            parameters = list(self.discriminator.parameters())
            for parameter in parameters:
                if parameter.grad is None:  # this process had no share of a small batch
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [p.grad for p in parameters if p.grad is not None]
            self.processes.add_up([*gradients, total])
        return total

    def _at_once(self, drawn: Iterator[tuple[Tensor, Tensor]], counted: Tensor | None) -> Tensor:
        own = slice(self.processes.rank, None, self.processes.count)
        features, labels = zip(*drawn, strict=True)
        weights = torch.cat([group_weights(part, counted)[own] for part in labels])
        if not len(weights):
            return torch.zeros((), device=self.device)
        truth = torch.cat([part[own] for part in labels])
        with autocast(self.device, self.dtype):
            logits = self.discriminator(torch.cat([part[own] for part in features])).float()
        value = weighted_loss(logits, truth, weights)
        self._count(logits, truth)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def _in_parts(self, drawn: Iterator[tuple[Tensor, Tensor]], counted: Tensor | None) -> Tensor:
        # The chance of dropout: a part's own, and afterwards the same in all processes.
        seed, number = int(torch.randint(1 << 62, ())), 0
        offset = projection_offset(self.discriminator)
        total = torch.zeros((), device=self.device)
        for features, labels in drawn:
            images = max(1, PATCHES // features.shape[1])
            weights = group_weights(labels, counted)
            for first in range(0, len(features), images):
                part = slice(first, first + images)
                number += 1
                if number % self.processes.count != self.processes.rank:
                    continue
                torch.manual_seed(seed + number)
                with autocast(self.device, self.dtype):
                    logits = training_logits(
                        self.discriminator, features[part], offset, self.scratch
                    )
                value = weighted_loss(logits, labels[part], weights[part])
                value.backward()  # type: ignore[no-untyped-call]
                total += value.detach()
                self._count(logits, labels[part])
        torch.manual_seed(seed)
        if offset.grad is not None:
            add_position_gradient(self.discriminator, offset)
        return total
