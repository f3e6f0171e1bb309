"""How a template is taught from good images, and what finds the part by it."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from generalad.errors import DataError
from generalad.geometry.finder import Finder, Pose, moved
from generalad.geometry.geometry import SIDE, Template
from generalad.image_formats.accept import check_header
from generalad.preprocess import decode_image

LEAST_FOUND = 0.3
"""No match below it is a part, whatever good images match like."""

ODD = 0.35
"""A good image that matches by so much less than the median one shows no part, or another."""

MARGIN, ROOM = 0.2, 0.05
"""A part is found that matches by so much less than the median good image, or the least one."""

MOST_ODD = 0.2
"""Share of good images; where more are odd, there is nothing that all of them share."""

SHARED = 0.7
"""Least median match; below it there are no edges that good images share."""

ALIKE, ALL_ALIKE = 0.8, 0.7
"""How much a template looks like itself after another turn, for the part to be called symmetric;
and after every turn, for turns not to be looked for."""

APART = 20.0
"""Degrees; nearer turns look alike in every part."""

TEACHERS, SEEDS, COMPARED = 64, 5, 12
"""Good images that a template is the mean of; tried as its first one; and each tried on."""


@functools.lru_cache(maxsize=8)
def finder_of(template: Template) -> Finder:
    """What finds the part.

    Raises:
        DataError: the picture is none, or has not the size of a template.
    """
    name = "the template"
    try:
        data = base64.b64decode(template.png, validate=True)
    except ValueError as error:
        raise DataError(f"{name} is no base64") from error
    header = check_header(data, name)
    if max(header.width, header.height) != SIDE or min(header.width, header.height) < 8:
        raise DataError(
            f"{name} is {header.width} x {header.height}, expected a longer side of {SIDE}"
        )
    grey = np.ascontiguousarray(decode_image(data, name=name)[..., 0])
    return Finder(grey, turn=template.turn, symmetric=template.symmetric)


class Taught(NamedTuple):
    """A template with what good images say of it.

    Attributes:
        template: the part in place.
        poses: of all good images.
        odd: numbers of those that show no part, or another.
    """

    template: Template
    poses: tuple[Pose, ...]
    odd: tuple[int, ...]


def teach(greys: Sequence[NDArray[np.uint8]], *, turn: float = 180.0, seed: int = 0) -> Taught:
    """Make a template of good images: their mean, each brought to the pose of one of them.

    Args:
        greys: (h, w) uint8 each, as `finder.grey_of` makes them, all of one size.
        turn: degrees by which parts are turned at most, either way of how most of them lie.
        seed: which images are tried first.

    Raises:
        DataError: good images share no edges that a part could be found by.
    """
    order = np.random.default_rng([seed, 9]).permutation(len(greys))
    teachers = [greys[index] for index in order[:TEACHERS]]
    grey = _first(teachers, turn)
    for number in range(2):
        finder = Finder(grey, turn=turn)
        poses = [finder.find_grey(one) for one in teachers]
        if number == 0:
            shown = (pose.turn for pose in map(finder.find_grey, greys) if pose.match >= SHARED)
            straight = next(shown, 0.0) if turn >= 90 else 0.0  # with a limit as most parts lie
            shift = np.median([pose.shift for pose in poses], axis=0) * grey.shape[::-1]
            poses = [_placed(pose, finder.centre, shift, straight) for pose in poses]
        level = np.median([pose.match for pose in poses])
        kept = [
            moved(one, pose.matrix)
            for one, pose in zip(teachers, poses, strict=True)
            if pose.match >= level
        ]
        grey = np.mean(kept, axis=0).round().astype(np.uint8)
    likeness = Finder(grey).likeness()
    if likeness.min() >= ALL_ALIKE:
        turn = 0.0
    symmetric = tuple(angle for angle in _alike(likeness) if turn)
    finder = Finder(grey, turn=turn, symmetric=symmetric)
    return _taught(grey, tuple(map(finder.find_grey, greys)), turn, symmetric)


def _placed(
    pose: Pose, centre: tuple[float, float], shift: NDArray[np.float64], turn: float
) -> Pose:
    """The pose with which the part comes to lie in place, from that of a template before.

    In the middle of where parts lie, so that as little as may be is outside of frames, and turned
    as the first good image shows it, so that whoever draws a crop knows how.
    """
    x, y = np.array(centre) - shift
    back = np.asarray(cv2.getRotationMatrix2D((float(x), float(y)), -turn, 1.0), np.float64)
    linear, at = pose.matrix[:, :2], pose.matrix[:, 2] - shift
    matrix = np.column_stack([back[:, :2] @ linear, back[:, :2] @ at + back[:, 2]])
    return pose._replace(matrix=matrix)


def _first(greys: Sequence[NDArray[np.uint8]], turn: float) -> NDArray[np.uint8]:
    """The one of the first few that the others are most alike to.

    Where turns have a limit, the one that lies as most of the others do.
    """
    if len(greys) < 3:
        return greys[0]
    compared = greys[: COMPARED + 1]
    matches, poses = [], []
    for number, grey in enumerate(greys[:SEEDS]):
        finder = Finder(grey, turn=min(180.0, 2 * turn))
        found = [finder.find_grey(one) for one in compared]
        matches.append(float(np.median([p.match for i, p in enumerate(found) if i != number])))
        poses.append(found)
    best = int(np.argmax(matches))
    if turn >= 90:
        return greys[best]
    turns = [pose.turn for pose in poses[best]]
    return compared[int(np.argsort(turns)[len(turns) // 2])]


def _taught(
    grey: NDArray[np.uint8],
    poses: tuple[Pose, ...],
    turn: float,
    symmetric: tuple[float, ...],
) -> Taught:
    matches = np.array([pose.match for pose in poses], np.float32)
    usual = float(np.median(matches))
    odd = np.flatnonzero(matches < max(usual - ODD, LEAST_FOUND))
    if usual < SHARED or len(odd) > MOST_ODD * len(matches):
        raise DataError(
            f"no template can be made: good images match it by {usual:.2f} in the median (expected"
            f" {SHARED}), {len(odd)} of {len(matches)} do not: they share no edges to find the part"
            " by",
            remedy="leave --align out, or give images in which the part stands out",
        )
    lowest = float(np.delete(matches, odd).min())
    least = max(LEAST_FOUND, min(usual - MARGIN, lowest - ROOM))
    _, png = cv2.imencode(".png", grey)
    template = Template(
        base64.b64encode(png.tobytes()).decode("ascii"),
        round(least, 4),
        round(usual, 4),
        turn,
        symmetric,
    )
    return Taught(template, poses, tuple(odd.tolist()))


def _alike(likeness: NDArray[np.float32]) -> tuple[float, ...]:
    """Degrees of the local maxima that look much the same as no turn."""
    count = len(likeness)
    found = []
    for index, value in enumerate(likeness):
        angle = index * 360 / count
        far = min(angle, 360 - angle) >= APART
        highest = value >= max(likeness[index - 1], likeness[(index + 1) % count])
        if far and highest and value >= ALIKE * likeness[0]:
            found.append(math.fmod(angle, 360))
    return tuple(found)
