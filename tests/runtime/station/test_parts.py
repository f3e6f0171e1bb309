"""Each trigger has exactly one verdict, in order, whatever happens between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.runtime.station.parts import Part, Parts, Picture


@dataclass
class Recipe:
    name: str = "washer"


RECIPE = Recipe()


def make(*, needed: int | None = None, at_once: int = 3, **cameras: int) -> Parts:
    return Parts(cameras or {"top": 1}, needed=needed, deadline=0.5, at_once=at_once)


def judged(part: Part, parts: Parts, outcome: Any, now: float = 0.1, camera: str = "top") -> None:
    parts.taken(part, camera)
    parts.add(part, Picture(camera, outcome, score=0.9 if outcome == "reject" else 0.1), now)


def lost(part: Part, parts: Parts, now: float = 0.1, camera: str = "top") -> None:
    parts.lost(part, Picture(camera, None, "picture lost", "damaged"), now)


def outcomes(parts: Parts, now: float = 0.1) -> list[tuple[int, str, str | None]]:
    found = [part.verdict for part in parts.release(now)]
    return [(v.id, v.outcome, v.reason) for v in found if v is not None]


def test_a_part_passes_or_is_rejected_by_its_picture() -> None:
    parts = make()
    first, second = (parts.trigger(id, None, RECIPE, 0.0) for id in (1, 2))
    judged(first, parts, "pass")
    judged(second, parts, "reject")
    assert outcomes(parts) == [(1, "pass", None), (2, "reject", None)]


def test_a_verdict_waits_for_those_before_it() -> None:
    parts = make()
    first, second = (parts.trigger(id, None, RECIPE, 0.0) for id in (1, 2))
    judged(second, parts, "pass")
    assert outcomes(parts) == []
    judged(first, parts, "pass")
    assert [id for id, *_ in outcomes(parts)] == [1, 2]


def test_what_comes_after_the_deadline_changes_nothing() -> None:
    parts = make()
    part = parts.trigger(1, None, RECIPE, 0.0)
    judged(part, parts, "pass", now=0.5)
    assert outcomes(parts, 0.5) == [(1, "no verdict", "late")]


def test_without_a_picture_the_reason_is_the_picture_and_the_safe_side_counts() -> None:
    parts = make(top=1, side=1)
    part = parts.trigger(7, "A-7", RECIPE, 0.0)
    judged(part, parts, "pass", camera="top")
    parts.expire(0.5)
    (answered,) = parts.release(0.5)
    verdict = answered.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason, verdict.counts_as) == (
        "no verdict",
        "picture lost",
        "reject",
    )
    assert verdict.part == "A-7" and "side" in verdict.detail and verdict.milliseconds == 500


def test_a_trigger_too_many_is_an_overrun_and_answered_in_order() -> None:
    parts = make(at_once=2)
    kept = [parts.trigger(id, None, RECIPE, 0.0) for id in (1, 2)]
    parts.trigger(3, None, RECIPE, 0.0)
    assert outcomes(parts) == []
    for part in kept:
        judged(part, parts, "pass")
    assert outcomes(parts)[-1] == (3, "no verdict", "overrun")


@pytest.mark.parametrize(
    ("needed", "pictures", "expected"),
    [
        (None, "ppp", ("pass", None)),
        (None, "pr", ("reject", None)),
        (None, "ppl", ("no verdict", "picture lost")),
        (None, "plr", ("reject", None)),
        (None, "pl", None),  # the third picture may still reject it
        (1, "p", ("pass", None)),
        (1, "rrr", ("reject", None)),
        (1, "rrl", ("no verdict", "picture lost")),
        (1, "rr", None),
        (2, "rp", None),
        (2, "pp", ("pass", None)),
        (2, "rr", ("reject", None)),
        (2, "lp", None),
        (2, "lr", None),
        (2, "lrp", ("no verdict", "picture lost")),
    ],
)
def test_several_pictures_make_one_verdict(
    needed: int | None, pictures: str, expected: tuple[str, str | None] | None
) -> None:
    parts = make(needed=needed, top=3)
    part = parts.trigger(1, None, RECIPE, 0.0)
    for picture in pictures:
        if picture == "l":
            lost(part, parts)
        else:
            judged(part, parts, {"p": "pass", "r": "reject"}[picture])
    found = [(outcome, reason) for _, outcome, reason in outcomes(parts)]
    assert found == ([] if expected is None else [expected])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["trigger", "pass", "reject", "lost", "wait"]),
        st.integers(0, 5),
        st.sampled_from(["top", "side"]),
    ),
    max_size=80,
)


@given(steps=STEPS, needed=st.sampled_from([None, 1]), at_once=st.integers(1, 4))
def test_any_order_of_events_gives_each_trigger_one_verdict_in_order(
    steps: list[tuple[str, int, str]], needed: int | None, at_once: int
) -> None:
    parts = make(needed=needed, at_once=at_once, top=1, side=1)
    now = 0.0
    triggered: list[Part] = []
    answered: list[Part] = []
    for what, number, camera in steps:
        if what == "trigger":
            triggered.append(parts.trigger(len(triggered) + 1, None, RECIPE, now))
        elif what == "wait":
            now += 0.1 * number
            parts.expire(now)
        elif number < len(triggered):
            part = triggered[-1 - number]
            if part.missing[camera] > 0:  # a camera gives a picture once
                if what == "lost":
                    lost(part, parts, now, camera)
                else:
                    judged(part, parts, what, now, camera)
        answered += parts.release(now)
        assert parts.counts().waiting == parts.waiting
    now += 1.0
    parts.expire(now)
    answered += parts.release(now)
    assert [part.id for part in answered] == [part.id for part in triggered]
    verdicts = [part.verdict for part in answered]
    assert all(
        v is not None and (v.reason is None) == (v.outcome != "no verdict") for v in verdicts
    )
    for part in answered:  # a pass needs its pictures
        assert part.verdict is not None
        if part.verdict.outcome == "pass":
            passed = sum(picture.outcome == "pass" for picture in part.pictures)
            assert passed >= (2 if needed is None else needed)
    assert parts.counts().waiting == 0
