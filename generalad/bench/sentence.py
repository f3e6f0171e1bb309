"""The verdict in one sentence, of pairs and of baselines alike."""

from __future__ import annotations

from typing import NamedTuple

from generalad.bench.quantities import percent
from generalad.bench.record import Estimate, Verdict


class Cause(NamedTuple):
    """The stage that makes most of a difference: its ratio, and its share of the difference."""

    stage: str
    ratio: float
    share: float


def sentence(
    verdict: Verdict,
    ratio: Estimate,
    limit: float,
    *,
    sides: tuple[str, str],
    basis: str,
    given: str,
    cause: Cause | None = None,
) -> str:
    """Say what a verdict means.

    Args:
        verdict: on the ratio.
        ratio: new over old.
        limit: by which the verdict was found, 0.05 for 5 %.
        sides: what the new and the old one are called.
        basis: what the ratio rests on, such as "60 pairs".
        given: what was too little where the verdict is "cannot tell", such as "in the time given".
        cause: named where there is a difference.
    """
    new, old = sides
    by = f"by more than {percent(limit)}"
    start = {
        "slower": f"{new} is slower than {old}",
        "faster": f"{new} is faster than {old}",
        "same": f"{new} is as fast as {old} within {percent(limit)}",
        "not slower": f"{new} is not slower than {old} {by}, and may be faster",
        "cannot tell": f"Cannot tell {given} whether {new} is slower than {old} {by}",
    }[verdict]
    interval = "" if ratio.low is None else f"95 %: {ratio.low:.3f} to {ratio.high:.3f}, "
    differs = verdict in ("slower", "faster")
    end = _in_words(cause) if cause and differs else ""
    return f"{start}: {ratio.value:.3f} times the time ({interval}{basis}){end}."


def _in_words(cause: Cause) -> str:
    # Above 1 where another stage made up for some of it, by chance or not.
    share = f", {min(cause.share, 1.0):.0%} of the difference" if cause.share < 1.05 else ""
    return f"; {cause.stage} takes {cause.ratio:.3f} times its time{share}"
