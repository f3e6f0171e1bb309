"""How the residual head is taught: discriminators look at images that nothing was fitted to.

Whitening and memory follow the images that they were fitted to, in which every deviation is shorter
than in a new image. Discriminators that learned from those would take each new image for odd. So
the images of each fold are looked at with the whitening and memory of the other folds, and what is
seen there is what all discriminators learn from (stacking, Wolpert 1992, "Stacked generalization").
Those of a fold's own head learn nothing from its images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from generalad.calibration import deal_folds, fold_count
from generalad.model.heads import Head, ResidualHead
from generalad.parallel import map_threads
from generalad.progress import Progress
from generalad.training.cache import Features
from generalad.training.loop import OnEpoch
from generalad.training.material import Material
from generalad.training.residual import (
    Lessons,
    fit_discriminators,
    fit_statistics,
    inputs_of,
    patch_labels,
    some_of,
)


class CrossFit:
    """A `Teacher`: of heads that learn from all images, and of one for each fold that does not.

    The arguments are those of `generalad.training.methods.teacher`.
    """

    def __init__(self, material: Material, groups: Sequence[int]) -> None:
        self.material, self.config = material, material.config
        good, views, drawn = material.good(), material.views(), material.drawn()
        count = material.count
        self.fold_of = deal_folds(groups, seed=self.config.seed)
        folds = self.fold_of[material.sources(np.arange(count))]
        drawing = material.drawing()
        self.folds_of_drawn = folds[np.array([drawing.sources(n) for n in range(len(drawn))])]
        self.parts, of_parts = [], []
        for features, of in ((good, folds), (views, folds[np.arange(len(views)) % count])):
            some = some_of(len(of), self.config.seed)
            self.parts.append(features.some(some) if not some.all() else features)
            of_parts.append(of[some])
        self.folds_of_good = np.concatenate(of_parts)
        self.heads = {fold: self._new_head() for fold in range(fold_count(groups))}
        self.lessons = self._lessons(of_parts, drawn)

    def __call__(
        self,
        head: Head,
        only: NDArray[np.intp] | None,
        *,
        progress: Progress,
        on_epoch: OnEpoch | None = None,
    ) -> list[float]:
        """See `Teacher`; of each fold once."""
        assert isinstance(head, ResidualHead)
        good = np.ones(len(self.folds_of_good), np.bool_)
        drawn = np.ones(len(self.folds_of_drawn), np.bool_)
        if only is None:
            head.learn_places(self.parts[0].shown)
            fit_statistics(head, self.parts, self.config.seed)
        else:
            (fold,) = set(self.fold_of.tolist()) - set(self.fold_of[only].tolist())
            # It was fitted to the others already, and is needed no more.
            head.load_state_dict(self.heads.pop(fold).state_dict())
            good = self.folds_of_good != fold
            drawn = (self.folds_of_drawn != fold).all(axis=1)
        return fit_discriminators(
            head,
            self.lessons,
            self.config,
            good=np.flatnonzero(good),
            drawn=np.flatnonzero(drawn),
            progress=progress,
            on_epoch=on_epoch,
        )

    def _lessons(self, of_parts: Sequence[NDArray[np.intp]], drawn: Features) -> Lessons:
        """What the head of each fold sees in the images that it was not fitted to."""
        parts, folds_of = [*self.parts, drawn], [*of_parts, self.folds_of_drawn[:, 0]]
        channels, grid = self.heads[0].discriminator.channels, self.heads[0].grid
        inputs = [torch.empty(len(of), channels, *grid, dtype=torch.float16) for of in folds_of]
        counts = [torch.empty(len(of), *grid) for of in folds_of]

        def look(fold: int) -> None:
            torch.set_num_threads(threads // workers)
            head = self.heads[fold]
            others = [part.some(of != fold) for part, of in zip(self.parts, of_parts, strict=True)]
            fit_statistics(head, others, self.config.seed)
            for number, (part, of) in enumerate(zip(parts, folds_of, strict=True)):
                if (those := of == fold).any():
                    where = torch.from_numpy(those)
                    inputs[number][where], counts[number][where] = inputs_of(
                        head, [part.some(those)]
                    )

        threads = torch.get_num_threads()
        workers = min(threads, len(self.heads)) if self.material.device.type == "cpu" else 1
        try:
            for done, _ in enumerate(map_threads(look, self.heads, workers=workers), start=1):
                self.material.progress("patch statistics", done, len(self.heads))
        finally:
            torch.set_num_threads(threads)
        assert drawn.shares is not None
        shares = torch.from_numpy(drawn.shares).float().reshape(counts[2].shape)
        labels, weights = patch_labels(shares)
        return Lessons(
            torch.cat(inputs[:2]), torch.cat(counts[:2]), inputs[2], labels, weights * counts[2]
        )

    def _new_head(self) -> ResidualHead:
        head = self.material.new_head()
        assert isinstance(head, ResidualHead)
        head.learn_places(self.parts[0].shown)
        return head
