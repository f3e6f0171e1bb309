"""Views of good images: within the stated limits, the same again, and not the same image."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generalad.synth.views import (
    BRIGHTNESS,
    CONTRAST,
    WHITE_BALANCE,
    Views,
    streamed,
    view,
    views_of,
)


def ramp() -> np.ndarray:
    """Grey levels 60...180, so that no allowed change of light reaches black or white."""
    line = np.linspace(60, 180, 96, dtype=np.float32)
    return np.repeat(np.round(np.tile(line, (64, 1)))[..., None], 3, axis=2).astype(np.uint8)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_view_changes_light_within_its_limits(seed: int) -> None:
    image = ramp()
    shown = view(image, np.random.default_rng(seed), moved=False)
    assert shown.shape == image.shape and shown.dtype == np.uint8
    # Codec and noise move a mean by next to nothing.
    change = shown.mean(axis=(0, 1)) / image.mean(axis=(0, 1)) - 1
    assert np.abs(change).max() <= (1 + BRIGHTNESS) * (1 + WHITE_BALANCE) - 1 + 0.02
    assert np.ptp(change) <= 3 * WHITE_BALANCE * (1 + BRIGHTNESS)
    slope = np.polyfit(image[..., 0].ravel(), shown[..., 0].ravel(), 1)[0]
    assert slope >= (1 - BRIGHTNESS) * (1 - CONTRAST) * 0.9
    assert slope <= (1 + BRIGHTNESS) * (1 + CONTRAST) * (1 + WHITE_BALANCE) * 1.02


def test_views_are_the_same_again_and_differ_from_each_other() -> None:
    images = [ramp(), ramp()[:, ::-1].copy()]
    views = Views(images=2, count=5, seed=3)
    first = [views(index, lambda i: images[i]) for index in range(5)]
    again = [views(index, lambda i: images[i]) for index in range(5)]
    for (one, mask), (other, _) in zip(first, again, strict=True):
        assert np.array_equal(one, other)
        assert not mask.any()
    assert not np.array_equal(first[0][0], first[2][0])
    assert views.identity() != Views(images=2, count=5, seed=4).identity()


def test_thresholds_are_set_with_the_views_that_training_saw_first() -> None:
    images = [ramp(), ramp()[::-1].copy()]
    views = Views(images=2, count=2, seed=0)
    for index, shown in enumerate(views_of(images)):
        assert np.array_equal(shown, views(index, lambda i: images[i])[0])


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 512, 3)])
def test_any_shape_has_a_view(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 90, np.uint8)
    for seed in range(20):
        assert view(image, np.random.default_rng(seed)).shape == shape


def texture(shape: tuple[int, int]) -> np.ndarray:
    """Noise in a light red, coarse on the left and fine on the right."""
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    coarse = cv2.GaussianBlur(noise, (0, 0), 4) * 200
    fine = cv2.GaussianBlur(noise, (0, 0), 1) * 25
    mixed = np.hstack([coarse[:, : shape[1] // 2], fine[:, shape[1] // 2 :]])
    return np.asarray(np.clip(mixed[..., None] + (130, 110, 105), 0, 255), np.uint8)


@pytest.mark.parametrize("quantiser", [4, 8])
def test_a_streamed_image_is_what_a_video_codec_makes_of_it(quantiser: int) -> None:
    av = pytest.importorskip("av")
    image, file = texture((64, 96)), io.BytesIO()
    with av.open(file, "w", format="matroska") as video:
        stream = video.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = quantiser
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        video.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    decoded = next(av.open(file).decode(video=0)).to_ndarray(format="rgb24")
    real, ours = (
        (coded.astype(float) - image).mean(axis=2)
        for coded in (decoded, streamed(image, quantiser * 255 / 219))
    )
    assert np.corrcoef(real.ravel(), ours.ravel())[0, 1] > 0.85
    assert np.abs(ours).mean() == pytest.approx(np.abs(real - real.mean()).mean(), rel=0.2)


@settings(deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.floats(1, 31))
def test_any_image_can_be_streamed(shape: tuple[int, int], quantiser: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    shown = streamed(image, quantiser)
    assert shown.shape == image.shape and shown.dtype == np.uint8
    even = np.full_like(image, 90)
    assert np.abs(streamed(even, quantiser).astype(int) - even).max() <= 2
