"""What a `test://` address asks for: category, rate, defects, faults and when they come.

test://washer?rate=10&defects=0.1&size=512&seed=0&frames=0&fault=stall@20+8,black@40+5
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import parse_qsl

from generalad.errors import UsageError

FaultKind = Literal[
    "black",
    "covered",
    "defocus",
    "overexposed",
    "freeze",
    "resolution",
    "damaged",
    "stall",
    "disconnect",
    "refuse",
]
"""Of images: black (no light), covered (less light and no shapes), defocus (blurred), overexposed
(three times the light), freeze (the same image again), resolution (half of it), damaged (not a
whole image). Of the camera: stall (reading blocks), disconnect (reading fails), refuse (opening
fails)."""

_FORM = "test://washer?rate=10&defects=0.1&size=512&seed=0&frames=0&fault=stall@20+8"
_FAULT = re.compile(r"([a-z]+)@(\d+(?:\.\d+)?)\+(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Fault:
    """A fault from `start` to `end`, in seconds since the first attempt."""

    kind: FaultKind
    start: float
    end: float


@dataclass(frozen=True)
class Settings:
    """What a `test://` address asks for.

    Attributes:
        category: from `generalad.synth.CATEGORIES`.
        rate: frames a second, above 0.
        defects: share of parts with a defect, 0...1.
        size: side of the images in pixels.
        seed: decides all images and defects.
        frames: ends after so many; 0 never ends.
        trigger: "free" runs by itself, "software" gives a picture when it is asked for one, and
            none sooner than the rate allows.
        faults: by time.
    """

    category: str
    rate: float = 10.0
    defects: float = 0.1
    size: int = 512
    seed: int = 0
    frames: int = 0
    trigger: Literal["free", "software"] = "free"
    faults: tuple[Fault, ...] = ()


def parse_settings(address: str) -> Settings:
    """Read a `test://` address.

    Raises:
        UsageError: an unknown category or setting, or a value out of range.
    """
    from generalad.synth import CATEGORIES  # not with the package: only tests need it

    category, _, query = address.partition("://")[2].partition("?")
    category = category.rstrip("/")
    if category not in CATEGORIES:
        raise UsageError(
            f"{address}: unknown category {category!r}",
            remedy=f"choose from {', '.join(CATEGORIES)}",
        )
    # In a query "+" would be a space, here it separates start and duration.
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    values = dict(pairs)
    faults = tuple(
        _fault(item) for name, text in pairs if name == "fault" for item in text.split(",")
    )
    values.pop("fault", None)
    trigger = values.pop("trigger", "free")
    if trigger not in ("free", "software"):
        raise UsageError(f"{address}: trigger: expected free or software, found {trigger!r}")
    try:
        settings = Settings(
            category,
            rate=float(values.pop("rate", 10.0)),
            defects=float(values.pop("defects", 0.1)),
            size=int(values.pop("size", 512)),
            seed=int(values.pop("seed", 0)),
            frames=int(values.pop("frames", 0)),
            trigger="software" if trigger == "software" else "free",
            faults=faults,
        )
    except ValueError as error:
        raise UsageError(f"{address}: {error}", remedy=f"write it as {_FORM}") from None
    if values:
        raise UsageError(f"{address}: unknown setting {min(values)!r}", remedy=f"as in {_FORM}")
    if not (
        0 < settings.rate <= 1000
        and 0 <= settings.defects <= 1
        and 32 <= settings.size <= 8192
        and settings.seed >= 0
        and settings.frames >= 0
    ):
        raise UsageError(
            f"{address}: expected rate above 0 to 1000, defects 0...1, size 32...8192, seed and "
            "frames at least 0"
        )
    return settings


def _fault(text: str) -> Fault:
    match = _FAULT.fullmatch(text)
    kinds = get_args(FaultKind)
    if match is None or match[1] not in kinds:
        raise UsageError(
            f"fault {text!r}: expected KIND@SECONDS+DURATION",
            remedy=f"such as stall@20+8; kinds: {', '.join(kinds)}",
        )
    start, duration = float(match[2]), float(match[3])
    kind: FaultKind = match[1]  # type: ignore[assignment]  # checked above
    return Fault(kind, start, start + duration)
