"""`test://` sources: settings, images and ordered faults."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from camera_helpers import states, until

from generalad.errors import UsageError
from generalad.runtime.cameras import Backoff, CameraLost, Reader, State
from generalad.runtime.cameras.simulated_address import parse_settings
from generalad.runtime.cameras.simulated_camera import Parts, SimulatedSource


class Source(SimulatedSource):
    """On a time line that sleeping moves."""

    def __init__(self, address: str) -> None:
        self.time = 100.0
        super().__init__(parse_settings(address), lambda: self.time, self._pass)

    def _pass(self, seconds: float) -> None:
        self.time += seconds


def test_settings() -> None:
    settings = parse_settings("test://fabric/?rate=5&defects=1&size=64&seed=3&frames=7")
    assert (settings.category, settings.rate, settings.defects) == ("fabric", 5.0, 1.0)
    assert (settings.size, settings.seed, settings.frames) == (64, 3, 7)
    faults = parse_settings("test://washer?fault=stall@20+8,black@1.5+0.5&fault=freeze@0+1").faults
    assert [(f.kind, f.start, f.end) for f in faults] == [
        ("stall", 20, 28),
        ("black", 1.5, 2),
        ("freeze", 0, 1),
    ]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("test://wheel", "unknown category 'wheel' → choose from washer"),
        ("test://washer?speed=3", "unknown setting 'speed'"),
        ("test://washer?rate=fast", "could not convert"),
        ("test://washer?rate=0", "expected rate"),
        ("test://washer?defects=2", "expected rate"),
        ("test://washer?size=8", "expected rate"),
        ("test://washer?fault=melt@1+2", "kinds: black"),
        ("test://washer?fault=stall", "expected KIND@SECONDS"),
    ],
)
def test_wrong_settings(address: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Reader(address)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_images_rate_and_end() -> None:
    source = Source("test://washer?size=64&frames=4&rate=5")
    camera = source.camera()
    camera.open()
    images = [camera.read() for _ in range(5)]
    assert images[4] is None and source.now() == pytest.approx(0.8)
    for image in images[:4]:
        assert image is not None and image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert not np.array_equal(images[0], images[1])  # type: ignore[arg-type]


def test_defects_are_as_frequent_as_ordered_and_repeatable() -> None:
    found = [Source("test://board?defects=0.3&seed=5").defect(i) for i in range(400)]
    assert found == [Source("test://board?defects=0.3&seed=5").defect(i) for i in range(400)]
    assert 80 < sum(kind is not None for kind in found) < 160
    assert {kind for kind in found if kind} == {"missing", "misplaced", "scratch"}


def test_faults() -> None:
    source = Source(
        "test://washer?size=64&rate=1&fault=freeze@1+2,black@3+1,resolution@4+1,disconnect@5+1,"
        "refuse@6+1,stall@7+5"
    )
    camera = source.camera()
    camera.open()
    first, second, third, black, small = (camera.read() for _ in range(5))
    assert first is second is third
    assert black is not None and not black.any()
    assert small is not None and small.shape == (32, 32, 3)
    with pytest.raises(CameraLost, match="ordered fault"):
        camera.read()
    source.time = 106.5
    with pytest.raises(CameraLost, match="cannot be opened"):
        source.camera().open()
    source.time = 107.0
    camera = source.camera()
    camera.open()
    assert camera.read() is not None and source.now() == 12


@pytest.mark.parametrize("category", ["washer", "fabric", "board"])
def test_faults_of_images(category: str) -> None:
    kinds = ("black", "covered", "defocus", "overexposed")
    ordered = ",".join(f"{kind}@{i + 1}+0.5" for i, kind in enumerate(kinds))
    source = Source(f"test://{category}?size=256&rate=1&defects=0&fault={ordered}")
    camera = source.camera()
    good, black, covered, blurred, bright = (
        np.asarray(camera.read(), np.float64) for _ in range(5)
    )
    assert not black.any()
    assert covered.mean() > 0.6 * good.mean() and covered.std(axis=(0, 1)).max() < 10
    assert abs(blurred.mean() - good.mean()) < 3, "defocus changes no light"
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.5 * np.abs(np.diff(good, axis=1)).mean()
    assert (bright == 255).mean() > 0.25 > (good == 255).mean()


def test_sources_with_the_same_settings_share_their_images() -> None:
    images = [Source("test://washer?size=32&defects=0").camera().read() for _ in range(2)]
    assert images[0] is images[1]
    assert Source("test://washer?size=32&defects=0&seed=1").camera().read() is not images[0]


def test_parts_asked_for_by_many_threads_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import generalad.synth as synth

    drawn: list[object] = []
    render = synth.render_part

    def counted(*args: Any, **settings: Any) -> Any:
        drawn.append(settings)
        return render(*args, **settings)

    monkeypatch.setattr(synth, "render_part", counted)
    parts = Parts("washer", 32, 0)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: parts.part(i, None), range(96)))
    assert len(drawn) == 12 and all(image is found[i % 12] for i, image in enumerate(found))


def test_images_are_those_of_the_generator() -> None:
    from generalad.synth import render_part

    source = Source("test://board?size=64&defects=0")
    part, _ = render_part("board", np.random.default_rng([0, 0, 1]), size=64)
    image = source.camera().read()
    assert image is not None
    np.testing.assert_array_equal(image, part)


def test_with_a_reader() -> None:
    backoff = Backoff(first=0.05, cap=0.1)
    address = "test://washer?size=32&rate=50&fault=disconnect@0.2+0.1,stall@0.6+0.6"
    with Reader(address, stall_after=0.2, backoff=backoff) as reader:
        until(lambda: reader.status.reconnects >= 2 and not reader.stuck)
        until(lambda: reader.status.state is State.LIVE)
        assert State.STALLED in states(reader) and State.RECONNECTING in states(reader)
        assert reader.status.dropped["late"] >= 1
