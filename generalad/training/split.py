"""The split of a dataset: check, groups, images to train on and images to calibrate with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generalad.config import Config
from generalad.data.check import TO_TRAINING, check_dataset, render_problems
from generalad.data.dataset import Dataset, Sample, as_dataset, without
from generalad.data.groups import Grouping, group_images
from generalad.data.public_sets import differences
from generalad.data.report import CheckReport
from generalad.data.splits import few_shot, split_calibration
from generalad.errors import DataError
from generalad.files import sha256_of_bytes
from generalad.progress import Progress

FEW_GROUPS = 1000
"""With fewer groups of good images none is held out: of a fifth of them the largest or second score
would be the threshold for 1 %, and one odd image among them would set it."""

MOST_DIGESTS = 5000
"""Training images of which each is known again; 75 kB in the artifact."""


@dataclass(frozen=True)
class Split:
    """Good images to train on and to calibrate with, and what is known of them.

    Attributes:
        name: of the dataset.
        train: to train on.
        calibration: to calibrate with; of no group that is trained on, unless `out_of_fold`.
        out_of_fold: whether too few images are there to hold some out: all are trained on, and
            calibrated with as `generalad.training.calibration_folds` says.
        hashes: of every file's content.
        skipped: names of unusable files.
        grouping: which images belong together.
        sizes: number of good images of each size "WIDTHxHEIGHT".
        incomplete: in how far a public data set is not as it was published; empty where it is.
        odd: what the check warns of that makes a detector worse, each with what to do.
    """

    name: str
    train: tuple[Sample, ...]
    calibration: tuple[Sample, ...]
    hashes: dict[Path, str]
    skipped: tuple[str, ...]
    grouping: Grouping
    sizes: dict[str, int]
    incomplete: str = ""
    odd: tuple[str, ...] = ()
    out_of_fold: bool = False

    def fingerprint(self) -> str:
        """One hash over the contents of all images, in order."""
        parts = [self.hashes[s.path] for s in (*self.train, *self.calibration)]
        return sha256_of_bytes("\n".join(parts).encode())

    def digests(self) -> tuple[str, ...]:
        """For `TrainingSet.digests`."""
        if len(self.train) > MOST_DIGESTS:
            return ()
        return tuple(sorted(self.hashes[sample.path][:12] for sample in self.train))


def split_dataset(
    data: str | Path | Dataset, config: Config, *, skip_bad: bool, progress: Progress | None = None
) -> Split:
    """Open and check a dataset, and split its good images into training and calibration.

    Raises:
        DataError: errors in the training or calibration images, or groups that cannot be split.
    """
    dataset = as_dataset(data)
    good, checked = _checked(dataset, skip_bad=skip_bad, progress=progress)
    grouping = group_images(good, config.group, checked)
    few = _too_few_to_hold_out(good, config, grouping)
    if few:
        train_set = held_out = good.train
    else:
        train_set, held_out = _train_and_calibration(good, config, grouping)
    split = _split(good, checked, grouping, train_set, held_out)
    return dataclasses.replace(split, incomplete=differences(dataset), out_of_fold=few)


def all_for_calibration(
    data: str | Path | Dataset, *, skip_bad: bool, progress: Progress | None = None
) -> Split:
    """A split of a dataset whose good images all are calibrated with, and none is trained on.

    Calibration images of their own win over those of the training part.

    Raises:
        DataError: errors in these images.
    """
    good, checked = _checked(as_dataset(data), skip_bad=skip_bad, progress=progress)
    grouping = group_images(good, "", checked)
    return _split(good, checked, grouping, (), good.calibration or good.train)


def _checked(
    dataset: Dataset, *, skip_bad: bool, progress: Progress | None
) -> tuple[Dataset, CheckReport]:
    """The usable good images of a dataset, and what the check found."""
    good = _only_training(dataset)
    checked = check_dataset(good, progress=progress)
    skippable = sum(problem.kind.startswith("unreadable") for problem in checked.errors)
    if len(checked.errors) > (skippable if skip_bad else 0):
        raise DataError(
            f"{dataset.root}: the good images cannot be trained on as they are:\n"
            + "\n".join(f"  {line}" for line in render_problems(checked)),
            remedy="repair them; unreadable ones can be left out with --skip-bad",
        )
    return without(good, checked.unusable), checked


def _split(
    good: Dataset,
    checked: CheckReport,
    grouping: Grouping,
    train: tuple[Sample, ...],
    calibration: tuple[Sample, ...],
) -> Split:
    skipped = tuple(sorted(checked.name_of(path) for path in checked.unusable))
    hashes = dict(checked.sha256)
    odd = tuple(
        f"{one.detail} → {one.remedy}" for one in checked.problems if one.kind in TO_TRAINING
    )
    return Split(good.name, train, calibration, hashes, skipped, grouping, checked.sizes, odd=odd)


def _too_few_to_hold_out(good: Dataset, config: Config, grouping: Grouping) -> bool:
    """Whether images that are held out would be too few for a threshold; all could be used."""
    groups = len({grouping.of[sample.path] for sample in good.train})
    given = bool(config.shots or good.calibration)
    if config.tiles:
        if given or groups < 2:
            raise DataError(
                f"tiles take good frames of two groups or more that all teach, found {groups}"
                + (" with frames set apart" if given else ""),
                remedy="add good frames of other parts; leave shots and validation images out",
            )
        return True
    return config.learns_quickly and not given and 2 <= groups < FEW_GROUPS


def _train_and_calibration(
    good: Dataset, config: Config, grouping: Grouping
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Given calibration images win; otherwise a part, or what few-shot training leaves over."""
    shots = few_shot(good.train, config.shots, config.seed)
    if not config.shots and not good.calibration:
        rng = np.random.default_rng([config.seed, 1])
        return split_calibration(
            good.train, fraction=config.calibration_fraction, rng=rng, groups=grouping.of
        )
    trained = {grouping.of[sample.path] for sample in shots}
    others = good.calibration or good.train
    rest = tuple(sample for sample in others if grouping.of[sample.path] not in trained)
    if rest:
        return shots, rest
    if good.calibration:
        raise DataError(
            f"all {len(others)} calibration images are near-copies of training images",
            remedy='give others, or group = "image" if they do show other parts',
        )
    raise DataError(
        f"{config.shots} shots leave no good image to calibrate with",
        remedy="lower `shots` or add good images",
    )


def _only_training(dataset: Dataset) -> Dataset:
    """The dataset without its test part, which training neither needs nor may look at."""
    return dataclasses.replace(dataset, test=(), stray_masks=(), published=None)
