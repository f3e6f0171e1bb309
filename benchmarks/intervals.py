"""How often the 95 % intervals of metrics hold the truth: a percentile bootstrap, and ours.

    python benchmarks/intervals.py [--quick] [--seed 0]

Test sets are drawn from populations whose metrics are known. The coverage is the share of sets
whose interval holds the true metric, the width is the mean. Four tables: metrics over images, by
how many images there are and by the true AUROC, over five shapes of scores; metrics over pixels, by
how defects differ; the further ones of these, AU-sPRO of one type of defect and as the mean of two
among them; and what the intervals are made around, over random maps with ties, two far peaks or few
images: the largest error of the statistic, how often the interval excludes its own
value, and how often it has no width.

The bootstrap is what the intervals were up to 0.1: whole images are drawn again, good and defective
apart, and pixels are counted in bins whose edges lie on scores of anomalous pixels alone.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.metrics.intervals import image_estimates
from generalad.metrics.pixel import FPR_LIMIT, find_regions, histogram, merge, pixel_metrics
from generalad.metrics.pixel_table import GOOD, LabelledMap, tabulate_pixels
from generalad.metrics.ranking import (
    area_below,
    auroc,
    auroc_from_counts,
    average_precision,
    average_precision_from_counts,
)
from generalad.metrics.region_overlap import saturated_pixels, saturated_regions
from generalad.statistics import Estimate

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
"""Scores of so many images."""

RESAMPLES = 400
SIZES = ((10, 5), (20, 10), (50, 20), (100, 30), (100, 100), (200, 392))
TRUTHS = (0.7, 0.9, 0.97, 0.995)
SIDE = 24
"""Of the simulated maps, pixels."""


@dataclass(frozen=True)
class Shape:
    """How scores of good and defective images are distributed; `apart` moves them apart."""

    name: str
    good: Callable[[np.random.Generator, int], Floats]
    defective: Callable[[np.random.Generator, int, float], Floats]


SHAPES = (
    Shape("equal variances", lambda r, n: r.normal(size=n), lambda r, n, d: r.normal(d, 1, n)),
    Shape("wide defects", lambda r, n: r.normal(size=n), lambda r, n, d: r.normal(d, 2, n)),
    Shape("narrow defects", lambda r, n: r.normal(size=n), lambda r, n, d: r.normal(d, 0.5, n)),
    Shape(
        "exponential",
        lambda r, n: r.exponential(size=n),
        lambda r, n, d: r.exponential(np.exp(d), n),
    ),
    Shape(
        "heavy ties",
        lambda r, n: np.round(r.normal(size=n)),
        lambda r, n, d: np.round(r.normal(d, 1, n)),
    ),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    part = 10 if options.quick else 1
    rng = np.random.default_rng(options.seed)
    print_images(rng, trials=600 // part, bootstrapped=120 // part)
    print_pixels(rng, trials=200 // part)
    print_further(rng, trials=400 // part)
    print_centres(rng, cases=400 // part)


# Images


def print_images(rng: np.random.Generator, *, trials: int, bootstrapped: int) -> None:
    """Coverage and width of AUROC and average precision of image scores."""
    print("Images: coverage in %, lowest and mean of five shapes, and mean width")
    print(f"{'good/def.':>9} {'AUROC':>6}", *(f"{name:>19}" for name in HEADINGS), sep="  ")
    for good, defective in SIZES:
        for truth in TRUTHS:
            found = [
                cover_images(shape, truth, (good, defective), rng, trials, bootstrapped)
                for shape in SHAPES
            ]
            cells = (in_words(np.array(found)[:, column]) for column in range(4))
            print(f"{good:>5}/{defective:<3} {truth:>6}", *cells, sep="  ", flush=True)


HEADINGS = ("AUROC bootstrap", "AUROC now", "AP bootstrap", "AP now")


def in_words(cells: Floats) -> str:
    """Lowest and mean coverage, mean width of cells (shapes, 2)."""
    lowest, mean, width = cells[:, 0].min(), cells[:, 0].mean(), cells[:, 1].mean()
    return f"{lowest:>5.1f} {mean:>5.1f} {width:>7.3f}"


def cover_images(
    shape: Shape,
    truth: float,
    sizes: tuple[int, int],
    rng: np.random.Generator,
    trials: int,
    bootstrapped: int,
) -> list[tuple[float, float]]:
    """Coverage in % and width: AUROC bootstrap, now, AP bootstrap, now."""
    apart = solve_apart(shape, truth)
    population = np.random.default_rng(0)
    many = 200_000
    all_good, all_defective = shape.good(population, many), shape.defective(population, many, apart)
    thresholds = np.unique(np.concatenate([all_good, all_defective]))
    true, false = (
        size * (1 - np.searchsorted(np.sort(some), thresholds[::-1]) / many)
        for size, some in zip(sizes[::-1], (all_defective, all_good), strict=True)
    )
    truths = auroc_from_counts(true, false), average_precision_from_counts(true, false)
    labels = np.repeat([False, True], sizes)
    old: list[list[Estimate]] = []
    new: list[list[Estimate]] = []
    for trial in range(trials):
        scores = np.concatenate([shape.good(rng, sizes[0]), shape.defective(rng, sizes[1], apart)])
        new.append(list(image_estimates(labels, scores)))
        if trial < bootstrapped:
            old.append(bootstrap_images(labels, scores, rng))
    cells = []
    for metric, value in enumerate(truths):
        cells += [covered([row[metric] for row in rows], float(value)) for rows in (old, new)]
    return cells


def solve_apart(shape: Shape, truth: float) -> float:
    """How far apart classes lie for a true AUROC, by bisection on many scores."""
    low, high = 0.0, 12.0
    for _ in range(24):
        rng = np.random.default_rng(1)
        middle = (low + high) / 2
        scores = np.concatenate([shape.good(rng, 40_000), shape.defective(rng, 40_000, middle)])
        below = auroc(np.repeat([0, 1], 40_000), scores) < truth
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def covered(found: Sequence[Estimate], truth: float) -> tuple[float, float]:
    """Share in % of the intervals that hold the truth, and mean width."""
    ends = np.array([(one.low, one.high) for one in found if one.low is not None], float)
    holds = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return 100 * float(holds.mean()), float(np.mean(ends[:, 1] - ends[:, 0]))


def bootstrap_images(
    labels: NDArray[np.bool_], scores: Floats, rng: np.random.Generator
) -> list[Estimate]:
    """Percentile intervals of AUROC and average precision."""
    order = np.argsort(-scores)
    ordered, positive = scores[order], labels[order]
    last_of_tie = np.append(ordered[1:] != ordered[:-1], True)
    weights = draw_weights(positive, rng)
    true = np.cumsum(weights * positive, axis=1)[:, last_of_tie]
    false = np.cumsum(weights * ~positive, axis=1)[:, last_of_tie]
    drawn = auroc_from_counts(true, false), average_precision_from_counts(true, false)
    values = auroc(labels, scores), average_precision(labels, scores)
    return [percentiles(value, some) for value, some in zip(values, drawn, strict=True)]


def draw_weights(strata: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """How often each image (B,) is drawn in each resample, good and defective apart."""
    weights = np.zeros((RESAMPLES, strata.size))
    for stratum in (False, True):
        members = np.flatnonzero(strata == stratum)
        if members.size:
            uniform = np.full(members.size, 1 / members.size)
            weights[:, members] = rng.multinomial(members.size, uniform, size=RESAMPLES)
    return weights


def percentiles(value: float, drawn: Floats) -> Estimate:
    """The interval between percentiles; it need not hold the value."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


# Pixels


@dataclass(frozen=True)
class Defects:
    """How defects of a population differ.

    Attributes:
        name: in the table.
        visibility: mean height above normal pixels, whose noise is 1.
        differs: standard deviation of the visibility between images.
        missed: share of defective images whose defect does not show at all.
    """

    name: str
    visibility: float
    differs: float
    missed: float = 0.0


POPULATIONS = (
    Defects("much alike", 3, 0.5),
    Defects("easy", 4, 0.3),
    Defects("some faint", 2, 1),
    Defects("1 of 10 unseen", 4, 0.3, missed=0.1),
)
METRICS = ("pixel AUROC", "pixel AP", "AUPRO")
PIXEL_SIZES = ((10, 5), (20, 10), (50, 20), (100, 100))
FURTHER = ("AUPRO to 0.05", "SegF1", "AU-sPRO, one type", "mean of two")
PIXEL_THRESHOLD = 2.5
SATURATION = 0.5
KINDS = ("dent", "crack")


def make_map(
    rng: np.random.Generator,
    defects: Defects | None,
    *,
    levels: float | None = None,
    label: str = "dent",
) -> LabelledMap:
    """A map whose level differs from image to image, with one to three round defects."""
    values = rng.normal(rng.normal(0, 0.3), 1, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if defects is not None:
        for _ in range(int(rng.integers(1, 4))):
            x, y = (int(place) for place in rng.integers(0, SIDE, 2))
            cv2.circle(mask, (x, y), int(rng.integers(0, 5)), 1, -1)
        seen = rng.random() >= defects.missed
        values += mask * (rng.normal(defects.visibility, defects.differs) if seen else 0.0)
    if levels is not None:
        values = np.round(values * levels) / levels
    found = () if defects is None else (saturated_pixels(mask, SATURATION),)
    label = GOOD if defects is None else label
    return LabelledMap(label, values.astype(np.float32), mask.astype(np.bool_), found)


def draw_maps(
    rng: np.random.Generator, sizes: tuple[int, int], defects: Defects
) -> list[LabelledMap]:
    """So many good and defective images."""
    return [make_map(rng, which) for which in [None] * sizes[0] + [defects] * sizes[1]]


def measure(maps: Sequence[LabelledMap]) -> list[Estimate]:
    """Pixel AUROC, average precision and AUPRO as the package gives them."""
    return list(tabulate_pixels(maps, maps[0].map.shape[:2]).measure(["dent"]).metrics)


def true_metrics(maps: Sequence[LabelledMap]) -> tuple[float, float, float]:
    """The same of very many images, without intervals."""
    masks = [np.asarray(item.mask) for item in maps]
    normal = np.concatenate([item.map[~mask] for item, mask in zip(maps, masks, strict=True)])
    normal.sort()
    regions = [
        find_regions(item.map, mask.astype(np.uint8))
        for item, mask in zip(maps, masks, strict=True)
        if mask.any()
    ]
    found = pixel_metrics([normal], merge(regions))
    return found.auroc, found.average_precision, found.aupro


def print_pixels(rng: np.random.Generator, *, trials: int) -> None:
    """Coverage and width of the pixel metrics."""
    print("\nPixels: coverage in %, and mean width")
    print(f"{'defects':<16} {'good/def.':>9} {'metric':<12} {'truth':>6}  bootstrap      now")
    for defects in POPULATIONS:
        for sizes in PIXEL_SIZES:
            many = 30_000 // sum(sizes)
            truths = true_metrics(draw_maps(rng, (sizes[0] * many, sizes[1] * many), defects))
            old, new = [], []
            for _ in range(trials):
                maps = draw_maps(rng, sizes, defects)
                new.append(measure(maps))
                old.append(bootstrap_pixels(maps, new[-1], rng)[0])
            for column, metric in enumerate(METRICS):
                truth = truths[column]
                cells = [covered([row[column] for row in rows], truth) for rows in (old, new)]
                words = "  ".join(f"{share:>5.1f} {width:.3f}" for share, width in cells)
                print(
                    f"{defects.name:<16} {sizes[0]:>5}/{sizes[1]:<3} {metric:<12} {truth:>6.3f}"
                    f"  {words}",
                    flush=True,
                )


def print_further(rng: np.random.Generator, *, trials: int) -> None:
    """Coverage and width of the pixel metrics that came later, without a bootstrap."""
    print("\nFurther pixel metrics: coverage in %, and mean width; half of the defects are fainter")
    print(f"{'defects':<16} {'good/def.':>9}", *(f"{name:>18}" for name in FURTHER), sep="  ")
    for defects in POPULATIONS:
        for sizes in PIXEL_SIZES:
            many = 20_000 // sum(sizes)
            truths = true_further(draw_two_types(rng, (sizes[0] * many, sizes[1] * many), defects))
            rows = [measure_further(draw_two_types(rng, sizes, defects)) for _ in range(trials)]
            cells = [
                covered([row[column] for row in rows], truth) for column, truth in enumerate(truths)
            ]
            words = (f"{share:>12.1f} {width:.3f}" for share, width in cells)
            print(f"{defects.name:<16} {sizes[0]:>5}/{sizes[1]:<3}", *words, sep="  ", flush=True)


def draw_two_types(
    rng: np.random.Generator, sizes: tuple[int, int], defects: Defects
) -> list[LabelledMap]:
    """So many good and defective images, every other one of a type that shows less."""
    fainter = dataclasses.replace(defects, visibility=defects.visibility - 1)
    good = [make_map(rng, None) for _ in range(sizes[0])]
    return good + [
        make_map(rng, (defects, fainter)[number % 2], label=KINDS[number % 2])
        for number in range(sizes[1])
    ]


def measure_further(maps: Sequence[LabelledMap]) -> list[Estimate]:
    """The metrics of `FURTHER` as the package gives them."""
    size = maps[0].map.shape[:2]
    all_types = tabulate_pixels(maps, size, threshold=PIXEL_THRESHOLD).measure(KINDS)
    assert all_types.f1 is not None
    table = tabulate_pixels(maps, size, saturated=True)
    spros = table.measure(KINDS[:1]).metrics[2], table.measure_mean(KINDS).metrics[2]
    return [all_types.low_aupro, all_types.f1, *spros]


def true_further(maps: Sequence[LabelledMap]) -> list[float]:
    """The same of very many images, without intervals."""
    masks = np.stack([np.asarray(item.mask) for item in maps])
    values = np.stack([item.map for item in maps])
    labels = np.array([item.label for item in maps])
    marked = values >= PIXEL_THRESHOLD
    f1 = 2 * np.count_nonzero(marked & masks) / (np.count_nonzero(marked) + masks.sum())
    regions = [find_regions(item.map, np.asarray(item.mask, np.uint8)) for item in maps]
    low_aupro = pixel_metrics([np.sort(values[~masks])], merge(regions)).low_aupro
    spros = []
    for kind in KINDS:
        rows = np.isin(labels, (GOOD, kind))
        parts = [
            saturated_regions(item.map, item.defects)
            for item, row in zip(maps, rows, strict=True)
            if row
        ]
        spros.append(pixel_metrics([np.sort(values[rows][~masks[rows]])], merge(parts)).aupro)
    return [low_aupro, float(f1), spros[0], float(np.mean(spros))]


def bootstrap_pixels(
    maps: Sequence[LabelledMap], exact: Sequence[Estimate], rng: np.random.Generator
) -> tuple[list[Estimate], Floats]:
    """Percentile intervals from histograms, and the statistic (3,) of the set itself."""
    regions = [
        find_regions(item.map, np.asarray(item.mask, np.uint8) * (item.label != GOOD))
        for item in maps
    ]
    normals = [
        np.sort(item.map[~np.asarray(item.mask)] if item.label != GOOD else item.map, axis=None)
        for item in maps
    ]
    scores = np.sort(np.concatenate([part.scores for part in regions]))
    order = np.argsort(np.concatenate([part.scores for part in regions]))
    shares = np.cumsum(np.concatenate([part.shares for part in regions])[order])
    at = np.arange(512) / 512
    by_region = scores[np.minimum(np.searchsorted(shares / shares[-1], at), scores.size - 1)]
    by_pixel = scores[(at * scores.size).astype(np.int64)]
    edges = np.unique(np.concatenate([[np.float32(-np.inf)], by_region, by_pixel]))
    table = np.array(
        [
            [histogram(n, edges), histogram(r.scores, edges), histogram(r.scores, edges, r.shares)]
            for n, r in zip(normals, regions, strict=True)
        ]
    )
    labels = np.array([item.label != GOOD for item in maps])
    drawn = statistics_of(np.tensordot(draw_weights(labels, rng), table, axes=1))
    found = [percentiles(one.value, drawn[:, i]) for i, one in enumerate(exact)]
    return found, statistics_of(table.sum(axis=0)[None])[0]


def statistics_of(histograms: Floats) -> Floats:
    """Pixel AUROC, average precision and AUPRO (R, 3) of histograms (R, 3, K), ties within bins."""
    false, true, overlap = np.moveaxis(np.cumsum(histograms, axis=-1), 1, 0)
    rates = false / false[:, -1:], overlap / overlap[:, -1:]
    return np.stack(
        [
            auroc_from_counts(true, false),
            average_precision_from_counts(true, false),
            area_below(*rates, FPR_LIMIT),
        ],
        axis=-1,
    )


# What the intervals are made around


def print_centres(rng: np.random.Generator, *, cases: int) -> None:
    """Error of the statistic behind the intervals, excluded values, missing widths."""
    errors = np.zeros((2, 3))
    excluded, flat = np.zeros(2, int), np.zeros(2, int)
    for case in range(cases):
        maps = awkward_maps(rng, case)
        exact = measure(maps)
        old, binned = bootstrap_pixels(maps, exact, rng)
        table = tabulate_pixels(maps, maps[0].map.shape[:2])
        ours = statistics_of(
            np.stack([table.normal.sum(0), table.anomalous.sum(0), table.shares.sum(0)])[None]
        )[0]
        values = np.array([one.value for one in exact])
        errors = np.maximum(errors, np.abs(np.stack([binned, ours]) - values))
        for side, rows in enumerate((old, exact)):
            for one in rows:
                if one.low is not None and one.high is not None:
                    excluded[side] += not one.low <= one.value <= one.high
                    flat[side] += one.low == one.high
    print(f"\nOver {cases} random sets with ties, two far peaks, few images: largest error of")
    print(f"{'':<10} {'AUROC':>9} {'AP':>9} {'AUPRO':>9}   value excluded   without width")
    for name, row, out, zero in zip(("bootstrap", "now"), errors, excluded, flat, strict=True):
        print(f"{name:<10}", *(f"{error:>9.1e}" for error in row), f"{out:>16} {zero:>15}", sep=" ")


def awkward_maps(rng: np.random.Generator, case: int) -> list[LabelledMap]:
    """Small sets: continuous scores, ties, two far peaks of defects, in turn."""
    sizes = (int(rng.integers(1, 8)), int(rng.integers(2, 8)))
    kind = POPULATIONS[case % len(POPULATIONS)]
    levels = (None, 0.5, 2.0)[case % 3]
    maps = [make_map(rng, which, levels=levels) for which in [None] * sizes[0] + [kind] * sizes[1]]
    if case % 5:
        return maps
    return [
        item._replace(map=np.where(item.mask, 10.0 * rng.integers(0, 2), item.map + 5).astype("f"))
        for item in maps
        if item.mask is not None
    ]


if __name__ == "__main__":
    main()
