"""Camera faults: which images show one, which defects do not, and when one is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import SIZE, Image, blurred, part, pixels, reference_of

from generalad.image_statistics import statistics
from generalad.runtime.line.faults import (
    CLEARED_AFTER,
    RAISED_AFTER,
    RATE_WINDOW,
    FaultDetector,
    FaultKind,
    Limits,
)
from generalad.spec import Reference

RNG = np.random.default_rng(7)
GOOD = [part(RNG) for _ in range(20)]
KNOWN = reference_of(GOOD)


def kind_of(
    image: Image, known: Reference | None = KNOWN, size: tuple[int, int] = SIZE
) -> FaultKind | None:
    fault = Limits(known).fault(statistics(image), size)
    return fault.kind if fault else None


def noisy(value: float, deviation: float) -> Image:
    return pixels(np.full((*SIZE, 3), value) + RNG.normal(0, deviation, (*SIZE, 3)))


@given(seed=st.integers(0, 2**32), light=st.floats(0.75, 1.3))
def test_good_parts_in_usual_light_are_no_faults(seed: int, light: float) -> None:
    assert kind_of(part(np.random.default_rng(seed), light=light)) is None


@given(
    seed=st.integers(0, 2**32),
    value=st.sampled_from([0, 60, 128, 255]),
    side=st.integers(4, 48),
    place=st.tuples(st.integers(0, 80), st.integers(0, 80)),
)
def test_defects_are_no_faults(seed: int, value: int, side: int, place: tuple[int, int]) -> None:
    image = part(np.random.default_rng(seed))
    (y, x) = place
    image[y : y + side, x : x + side] = value
    assert kind_of(image) is None


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("black", lambda image: np.zeros_like(image)),
        ("black", lambda image: noisy(8, 5)),
        ("black", lambda image: pixels(image * 0.3)),
        ("covered", lambda image: noisy(70, 3)),
        ("covered", lambda image: blurred(image, 40)),
        ("defocused", lambda image: blurred(image, 2)),
        ("defocused", lambda image: blurred(image, 4)),
        ("over-exposed", lambda image: pixels(image * 4.0)),
        ("over-exposed", lambda image: np.full_like(image, 255)),
    ],
)
def test_faults_of_the_whole_image_are_recognised(
    expected: FaultKind, change: Callable[[Image], Image]
) -> None:
    for image in GOOD:
        assert kind_of(change(image)) == expected


def test_a_dark_part_is_no_dark_camera() -> None:
    dark = [pixels(part(RNG) * 0.12) for _ in range(20)]
    known = reference_of(dark)
    assert kind_of(dark[0]) == "black"
    assert [kind_of(pixels(part(RNG) * 0.12), known) for _ in range(20)] == [None] * 20
    assert kind_of(np.zeros_like(dark[0]), known) == "black"


def test_images_that_differ_widely_widen_the_limits() -> None:
    lights = [0.35] * 2 + [1.2] * 18
    mixed = reference_of([part(RNG, light=light) for light in lights])
    dark = [part(RNG, light=0.35) for _ in lights]
    dim = part(RNG, light=0.14)
    assert kind_of(dim, reference_of(dark)) == "black"
    assert kind_of(dim, mixed) is None
    many = dataclasses.replace(mixed, images=1000)
    assert kind_of(dim, many) == "black", "few images show less of what there is"


def test_a_plain_part_is_not_covered() -> None:
    plain = reference_of([noisy(70, 3) for _ in range(20)])
    assert kind_of(noisy(70, 3), plain) is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), None),
        ((1280, 1280), None),
        ((64, 64), None),
        ((63, 63), "size"),
        ((480, 640), "size"),
        ((128, 131), None),
        ((128, 140), "size"),
    ],
)
def test_other_sizes(size: tuple[int, int], expected: FaultKind | None) -> None:
    assert kind_of(GOOD[0], size=size) == expected


def test_a_range_of_sizes_is_learned() -> None:
    wide = dataclasses.replace(
        KNOWN, aspect_ratios=(0.5, 2.0), smallest=(100, 100), largest=(300, 300)
    )
    assert kind_of(GOOD[0], wide, (100, 210)) is None
    assert kind_of(GOOD[0], wide, (49, 60)) == "size"


def test_without_a_reference_only_what_is_certain() -> None:
    assert kind_of(np.zeros((*SIZE, 3), np.uint8), None) == "black"
    assert kind_of(noisy(6, 4), None) == "black"
    for image in (pixels(GOOD[0] * 0.15), noisy(70, 3), blurred(GOOD[0], 8), GOOD[0] * 0 + 255):
        assert kind_of(image, None, (1, 999)) is None


def test_reasons_say_what_was_found_and_expected() -> None:
    fault = Limits(KNOWN).fault(statistics(GOOD[0]), (480, 640))
    assert str(fault) == "size: 640 x 480, width / height is 1.33, at calibration 1.00 to 1.00"


def raised(changes: Sequence[dict[str, object] | None]) -> list[object]:
    return [change["fault"] for change in changes if change and change["state"] == "raised"]


class Camera:
    """A detector that is shown images at 10 a second."""

    def __init__(self, *, frozen_after: float = 10.0) -> None:
        self.detector = FaultDetector(KNOWN, frozen_after=frozen_after)
        self.frames = 0
        self.rng = np.random.default_rng(3)

    def show(self, shown: Image | None = None) -> tuple[str | None, dict[str, object] | None]:
        """An image, by default a new good part; the fault's kind and the change."""
        image = part(self.rng) if shown is None else shown
        checked = self.detector.check(image, SIZE, self.frames / 10)
        self.frames += 1
        return checked.fault.kind if checked.fault else None, checked.change


def test_faulty_images_are_known_at_once_and_reported_after_several() -> None:
    camera = Camera()
    camera.show()
    black = np.zeros((*SIZE, 3), np.uint8)
    shown = [camera.show(black) for _ in range(RAISED_AFTER)]
    assert [kind for kind, _ in shown] == ["black"] * RAISED_AFTER
    assert [change and change["state"] for _, change in shown[:-1]] == ["refused"] * 2
    assert shown[-1][1] is not None
    assert {**shown[-1][1], "reason": ""} == {"state": "raised", "fault": "black", "reason": ""}
    assert camera.detector.state == "black"
    cleared = [camera.show()[1] for _ in range(CLEARED_AFTER)]
    assert cleared[:-1] == [None] * (CLEARED_AFTER - 1)
    last = cleared[-1]
    assert last is not None
    assert (last["state"], last["fault"]) == ("cleared", "black")
    from_the_first_bad_image = RAISED_AFTER - 1 + CLEARED_AFTER
    assert last["seconds"] == pytest.approx(from_the_first_bad_image / 10)
    assert camera.detector.state is None


@given(st.lists(st.booleans(), max_size=60))
def test_reports_take_turns_and_follow_the_rule(bad: list[bool]) -> None:
    detector, reports = FaultDetector(KNOWN), []
    black, good = np.zeros((*SIZE, 3), np.uint8), GOOD[:2]
    for index, is_bad in enumerate(bad):
        image = black if is_bad else good[index % 2]
        raised = detector.state is not None
        change = detector.check(image, SIZE, index / 10).change
        if change and change["state"] == "refused":
            assert is_bad and not raised, "each is told, until the fault is"
            continue
        assert not (is_bad and not raised and change is None), "none is refused in silence"
        if change:
            reports.append(change["state"])
            recent = bad[: index + 1][-(RAISED_AFTER if is_bad else CLEARED_AFTER) :]
            assert set(recent) == {is_bad} or "share" in change
    assert reports == ["raised", "cleared"] * (len(reports) // 2) + ["raised"] * (len(reports) % 2)


def test_faults_that_take_turns_are_one_report_until_one_stays() -> None:
    camera = Camera()
    kinds = [np.zeros((*SIZE, 3), np.uint8), blurred(GOOD[0], 4)]
    changes = [camera.show(kinds[index % 2])[1] for index in range(20)]
    assert raised(changes) == ["black"]
    changes = [camera.show(blurred(part(RNG), 4))[1] for _ in range(5)]
    assert raised(changes) == ["defocused"]
    assert camera.detector.state == "defocused"


def test_frozen_needs_time_and_three_equal_images() -> None:
    camera = Camera(frozen_after=1.0)
    still = part(RNG)
    kinds = [camera.show(still)[0] for _ in range(15)]
    assert kinds == [None] * 10 + ["frozen"] * 5
    assert camera.detector.state == "frozen"
    assert camera.show()[0] is None
    detector = FaultDetector(KNOWN, frozen_after=1.0)
    slow = [detector.check(still, SIZE, seconds).fault for seconds in (0, 60, 120)]
    assert [fault.kind if fault else None for fault in slow] == [None, None, "frozen"]


def test_one_pixel_is_a_sign_of_life() -> None:
    camera = Camera(frozen_after=1.0)
    still = part(RNG)
    for index in range(40):
        other = still.copy()
        other[5, 5] = 0, 0, index % 2  # which no statistic shows
        assert camera.show(other)[0] is None


def test_memory_that_is_used_again_is_not_frozen() -> None:
    camera, memory = Camera(frozen_after=0.5), part(RNG)
    for index in range(20):
        memory[5, 5] = 0, 0, index % 2
        assert camera.show(memory)[0] is None


def test_a_clock_that_was_set_back_does_not_make_a_camera_frozen() -> None:
    detector, still = FaultDetector(KNOWN, frozen_after=10.0), part(RNG)
    for seconds in (1000.0, 1.0, 2.0, 3.0):
        assert detector.check(still, SIZE, seconds).fault is None
    fault = detector.check(still, SIZE, 11.5).fault
    assert fault is not None and fault.kind == "frozen"


def test_a_camera_that_is_black_is_not_called_frozen() -> None:
    camera = Camera(frozen_after=0.5)
    black = np.zeros((*SIZE, 3), np.uint8)
    assert {camera.show(black)[0] for _ in range(20)} == {"black"}


def with_gross_defect(kind: str, image: Image) -> Image:
    """What fills a large part of the image, as a white label, a dark disc or an empty nest do."""
    height, width = SIZE
    changed = image.copy()
    if kind == "white label":
        changed[height // 6 : -height // 6, width // 6 : -width // 6] = 255
    elif kind == "dark part":
        changed[height // 8 : -height // 8, width // 8 : -width // 8] = 10
    elif kind == "bright part":
        changed[height // 5 :] = 255
    else:
        changed[:] = image[:8, :8].mean(axis=(0, 1)).astype(np.uint8)
    return changed


@pytest.mark.parametrize("kind", ["white label", "dark part", "bright part", "empty nest"])
@pytest.mark.parametrize("every", [2, 7, 20])
def test_a_gross_defect_is_scored_and_said(kind: str, every: int) -> None:
    detector, rng = FaultDetector(KNOWN), np.random.default_rng(5)
    strange = 0
    for index in range(120):
        image = part(rng)
        bad = index % every == every - 1
        image = with_gross_defect(kind, image) if bad else image
        was_raised = detector.state is not None
        checked = detector.check(image, SIZE, index / 10)
        assert not checked.refused, "one strange image among good ones is a strange part"
        strange += checked.fault is not None
        assert checked.fault is None or bad
        if checked.fault is not None and not was_raised:
            assert checked.change is not None and checked.change["fault"] == checked.fault.kind
    assert strange == 120 // every


def test_strange_images_in_a_row_are_the_camera() -> None:
    detector = FaultDetector(KNOWN)
    checks = [detector.check(blurred(image, 4), SIZE, n / 10) for n, image in enumerate(GOOD[:5])]
    assert [checked.refused for checked in checks] == [False, False, True, True, True]
    states = [checked.change and checked.change["state"] for checked in checks]
    assert states == ["strange", "strange", "raised", None, None]


@pytest.mark.parametrize(("bad", "of"), [(2, 3), (1, 2), (1, 3), (2, 5), (1, 8)])
def test_an_intermittent_fault_is_reported_and_ends(bad: int, of: int) -> None:
    detector, black = FaultDetector(KNOWN), np.zeros((*SIZE, 3), np.uint8)
    changes, refused = [], 0
    for index in range(200):
        checked = detector.check(black if index % of < bad else part(RNG), SIZE, index / 20)
        refused += checked.refused
        changes.append(checked.change)
    assert refused == sum(index % of < bad for index in range(200))
    assert raised(changes) == ["black"] and detector.state == "black"
    (change,) = [one for one in changes if one and one["state"] == "raised"]
    assert "of the last" in str(change["reason"]) and change["share"] == pytest.approx(
        bad / of, abs=0.15
    )
    ended = [detector.check(part(RNG), SIZE, 10 + n / 20).change for n in range(RATE_WINDOW)]
    (end,) = [one for one in ended if one]
    assert end["state"] == "cleared" and end["seconds"] > 9


def test_a_rare_fault_is_no_rate_but_each_is_told() -> None:
    detector, black = FaultDetector(KNOWN), np.zeros((*SIZE, 3), np.uint8)
    found = [
        detector.check(part(RNG) if n % 20 else black, SIZE, n / 10).change for n in range(400)
    ]
    assert [one["state"] for one in found if one] == ["refused"] * 20


def rusty(rng: np.random.Generator) -> Image:
    """A part with a colour of its own."""
    tinted = part(rng) * np.array([1.0, 0.75, 0.5])
    return pixels(tinted)


COLOURED = reference_of([rusty(RNG) for _ in range(20)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image.mean(axis=2, keepdims=True).repeat(3, axis=2), "saturation"),
        (lambda image: image[..., ::-1], "red and blue look swapped"),
    ],
)
def test_a_camera_with_wrong_colours(change: Callable[[Image], Image], words: str) -> None:
    for _ in range(10):
        image = pixels(change(rusty(RNG)).astype(float))
        fault = Limits(COLOURED).fault(statistics(image), SIZE)
        assert fault is not None and fault.kind == "colour" and words in fault.reason
        assert Limits(COLOURED).fault(statistics(rusty(RNG)), SIZE) is None


def test_grey_parts_have_no_colour_to_lose() -> None:
    grey = [one.mean(axis=2, keepdims=True).repeat(3, axis=2) for one in GOOD]
    known = reference_of([pixels(one) for one in grey])
    assert [kind_of(pixels(one), known) for one in grey] == [None] * len(grey)
    assert kind_of(pixels(grey[0][..., ::-1]), known) is None


def test_a_reference_without_colour_says_nothing_of_it() -> None:
    old = dataclasses.replace(
        COLOURED,
        statistics={
            name: values
            for name, values in COLOURED.statistics.items()
            if name not in ("red_green", "yellow_blue", "saturation")
        },
    )
    assert kind_of(rusty(RNG)[..., ::-1], old) is None
