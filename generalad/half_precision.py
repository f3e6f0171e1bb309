"""Half precision that a processor computes in: what was verified, and what a session takes.

An artifact is verified in its own precision, whose sums and products in float a processor computes
in float32. Some have units that compute them in bfloat16 or float16, in less time and with other
scores. So an artifact records, for the units of each processor that verified it, what half
precision does there; a session takes it on such units alone, and only where it was faster.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from generalad.errors import UsageError
from generalad.processor import Processor

FULL = "fp32"
PRECISIONS = (FULL, "bf16", "fp16")
VERIFY = "gad selftest --verify-precision"

_UNITS = {
    "bf16": ("amx_bf16", "avx512_bf16", "avx_ne_convert", "bf16"),
    "fp16": ("amx_fp16", "avx512_fp16", "asimdhp"),
}
"""Flags of processors as Linux names them, the fastest first; the last ones are those of ARM."""

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "OV_CPU_MAX_ISA")
"""Variables by which users hide units from oneDNN and OpenVINO."""

_SHOWN_BY = {
    "amx_bf16": ("AMX",),
    "amx_fp16": ("AMX_FP16", "AMX_2"),
    "avx512_bf16": ("BF16", "FP16", "AMX", "AVX10"),
    "avx512_fp16": ("FP16", "AMX", "AVX10"),
    "avx_ne_convert": ("VNNI_2", "BF16", "FP16", "AMX", "AVX10"),
}
"""What the value of such a variable has in it where it leaves the units."""


@dataclass(frozen=True)
class VerifiedPrecision:
    """What was found when an artifact ran in half precision on the units of one processor.

    Attributes:
        precision: "bf16" or "fp16".
        units: what computed it, such as "amx_bf16".
        processor: its name.
        backend: library, version and device.
        speed_up: times faster than in float32 on one image there: median, and the ends of its 95 %
            interval.
        shift: of the thresholds of images and of pixels against those of the artifact, in raw
            scores; precision moves scores.
        golden: score and map peak of each golden sample.
        parity: the comparison, as in the spec.
    """

    precision: str
    units: str
    processor: str
    backend: str
    speed_up: tuple[float, float, float]
    shift: tuple[float, float]
    golden: tuple[tuple[float, float], ...]
    parity: dict[str, Any]

    def __post_init__(self) -> None:
        if self.precision not in _UNITS:
            raise ValueError(f"unknown half precision {self.precision!r}")

    @property
    def faster(self) -> bool:
        """Whether it surely was."""
        return self.speed_up[1] > 1

    def in_words(self) -> str:
        """Such as "bf16 on amx_bf16, 2.61 (2.55 to 2.68) times as fast as float32"."""
        median, low, high = self.speed_up
        return (
            f"{self.precision} on {self.units}, {median:.2f} ({low:.2f} to {high:.2f}) times as"
            " fast as float32"
        )


def units_of(processor: Processor, precision: str) -> str | None:
    """The fastest units of a processor for a precision, None where it has none.

    Where the system does not list what a processor has, None too: ask the library.
    """
    limits = [os.environ.get(name, "").upper() for name in _LIMITS]
    limits = [limit for limit in limits if limit not in ("", "ALL", "DEFAULT")]

    def shown(flag: str) -> bool:
        words = _SHOWN_BY.get(flag, ("",))
        return all(any(word in limit for word in words) for limit in limits)

    return next((f for f in _UNITS[precision] if f in processor.flags and shown(f)), None)


@dataclass(frozen=True)
class Choice:
    """In what a session computes.

    Attributes:
        precision: "fp32", "bf16" or "fp16".
        units: of the device for half precision; "" in float32.
        verified: what the artifact records of it; None in float32, and where it is not verified.
        why: why it is not half precision where that could be expected; else "".
    """

    precision: str = FULL
    units: str = ""
    verified: VerifiedPrecision | None = None
    why: str = ""

    def in_words(self) -> str:
        """Such as "bf16 on amx_bf16", or "f32 (bf16 is verified on amx_bf16, not here)"."""
        if self.precision != FULL:
            return f"{self.precision} on {self.units}"
        return f"f32 ({self.why})" if self.why else "f32"


def choose(
    verified: tuple[VerifiedPrecision, ...],
    offered: Mapping[str, str],
    *,
    expected: bool = False,
    wanted: str | None = None,
) -> Choice:
    """In what to compute.

    Args:
        verified: what an artifact records.
        offered: the precisions that this device and library have units for, with their names.
        expected: whether the artifact was exported for half precision.
        wanted: a precision that is taken, verified or not; None for the best that was verified.

    Raises:
        UsageError: the device has no units for the wanted one.
    """
    here = {one.precision: one for one in verified if offered.get(one.precision) == one.units}
    if wanted is not None and wanted != FULL:
        if wanted not in offered:
            raise UsageError(
                f"this device and its library have no units for {wanted}, found"
                f" {', '.join(offered.values()) or 'none for half precision'}",
                remedy="leave the precision away: what has no units is computed in float32",
            )
        return Choice(wanted, offered[wanted], here.get(wanted))
    if wanted == FULL:
        return Choice()
    for one in here.values():
        if one.faster:
            return Choice(one.precision, one.units, one)
    return Choice(why=_why(verified, here, offered, expected))


def _why(
    verified: tuple[VerifiedPrecision, ...],
    here: Mapping[str, VerifiedPrecision],
    offered: Mapping[str, str],
    expected: bool,
) -> str:
    for one in here.values():
        return f"{one.precision} on {one.units} is not faster"
    if verified:
        places = ", ".join(f"{one.precision} is verified on {one.units}" for one in verified)
        return f"{places}, not here"
    if expected and offered:
        precision, units = next(iter(offered.items()))
        return f"{precision} on {units} is not verified"
    return ""
