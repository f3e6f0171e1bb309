"""Overlays are drawn strip by strip: what comes out knows nothing of the strips."""

from __future__ import annotations

import numpy as np
import pytest

from generalad.overlay import _rows, overlay, resize_map


@pytest.mark.parametrize("size", [(97, 64), (64, 211), (1, 5), (300, 40)])
@pytest.mark.parametrize("grid", [(16, 16), (1, 3), (100, 7)])
def test_strips_leave_no_trace(
    size: tuple[int, int], grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    found = rng.normal(size=grid).astype(np.float32)
    whole = overlay(image, found, threshold=0.3)
    monkeypatch.setattr("generalad.overlay._STRIP", 3 * size[1])
    assert np.array_equal(overlay(image, found, threshold=0.3), whole)


@pytest.mark.parametrize("height", [5, 64, 97, 1080])
def test_rows_are_those_of_the_resized_map(height: int) -> None:
    found = np.random.default_rng(1).normal(size=(16, 12)).astype(np.float32)
    wide = resize_map(found, (16, 50))
    parts = [_rows(wide, height, slice(a, a + 1)) for a in range(height)]
    assert np.allclose(np.concatenate(parts), resize_map(found, (height, 50)), atol=1e-5)
