"""`min_area` and the hysteresis of events: a region around it is one event, a small one none."""

from __future__ import annotations

import numpy as np
import pytest

from generalad.decision import Rule
from generalad.runtime.backends.fake import fake_spec
from generalad.runtime.line.events import EventRule
from generalad.runtime.line.stream import Stream
from generalad.runtime.pipeline.tracker import Item
from generalad.runtime.sources import Frame

SPEC = fake_spec()
HIGH, MIDDLE = SPEC.thresholds.pixel + 0.01, SPEC.thresholds.pixel - 0.2 * SPEC.normalisation.scale


class Source:
    address, folder = "line", None

    def count(self) -> None:
        return None

    def __iter__(self) -> object:
        return iter(())


def phases(cores: list[int], *, around: int, release: float) -> list[str]:
    """Of frames with a square of `cores` x `cores` above the threshold, in a larger one below."""
    rule = Rule(min_area=9.0)
    stream = Stream(Source(), rule, events=EventRule(release=release))  # type: ignore[arg-type]
    monitor, found = stream.tracker(SPEC), []
    height, width = SPEC.map_size
    for index, core in enumerate(cores):
        frame = Frame("line", index, float(index), "", "n", np.zeros((height, width, 3), np.uint8))
        item = Item(monitor, frame, 0.0, 0.0, image_size=(height, width))
        item.map = np.zeros((height, width), np.float32)
        item.map[2 : 2 + around, 2 : 2 + around] = MIDDLE
        item.map[2 : 2 + core, 2 : 2 + core] = HIGH
        item.score = SPEC.thresholds.image + 0.01
        found += monitor.decide(item)[1]
    return [notification.data["phase"] for notification in found]


@pytest.mark.parametrize("sizes", [[4, 2, 4, 2, 4], [3, 1, 3, 2, 2, 3]])
def test_a_region_that_grows_and_shrinks_is_one_event(sizes: list[int]) -> None:
    assert phases(sizes, around=5, release=0.3) == ["begin"]


def test_a_small_region_holds_no_event() -> None:
    assert phases([4, 2, 2], around=2, release=0.3) == ["begin", "end"]


def test_without_hysteresis_the_threshold_ends_it() -> None:
    assert phases([4, 2, 4], around=5, release=0.5) == ["begin", "end", "begin"]
