"""Images of 16 bits that use 14: said by everything that reads a folder of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from generalad.data.check import check_dataset
from generalad.data.dataset import open_dataset
from generalad.preprocess import Depths, read_image
from generalad.runtime import infer, open_sources
from generalad.runtime.addresses import Listed, doubts_in_words
from generalad.runtime.backends.fake import FakeSession

Put = Callable[[str, int], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put("a.png", 16383)` writes an image of 16 bits up to that value."""

    def write(name: str, largest: int) -> Path:
        ramp = np.linspace(largest / 2, largest, 64 * 64).astype(np.uint16).reshape(64, 64)
        cv2.imwrite(str(tmp_path / name), ramp)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("largest", "narrow"), [([16383, 9000], True), ([16383, 16384], False), ([65535], False)]
)
def test_all_images_must_be_so(put: Put, tmp_path: Path, largest: list[int], narrow: bool) -> None:
    for number, value in enumerate(largest):
        put(f"{number}.png", value)
    cv2.imwrite(str(tmp_path / "eight.png"), np.full((64, 64, 3), 9, np.uint8))
    said: list[str] = []
    infer(FakeSession(), str(tmp_path), on_problem=said.append)
    assert bool(said) == narrow
    if narrow:
        assert said[0].startswith("2 images of 16 bits without any value above 16383")
        assert "scale the values to 0...65535" in said[0]
        with pytest.warns(UserWarning, match="without any value above 16383"):
            infer(FakeSession(), str(tmp_path))
    kinds = [problem.kind for problem in check_dataset(open_dataset(tmp_path)).problems]
    assert ("dark 16 bits" in kinds) == narrow


def test_a_list_and_a_single_image_say_it_too(put: Put) -> None:
    one = put("a.png", 12000)
    for source in (Listed([f"{one}\n"]), *open_sources([str(one)])):
        assert doubts_in_words([source]) == ""
        assert len(list(source)) == 1
        assert doubts_in_words([source]).startswith("1 image of 16 bits")


def test_the_largest_value_of_a_pnm_counts(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n16383\n" + np.array([5, 16383], ">u2").tobytes())
    depths = Depths()
    image = read_image(tmp_path / "a.pgm", depths=depths)
    assert image.max() == 255 and depths.in_words() == ""


def test_nothing_is_said_of_eight_bits(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64, 3), 9, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infer(FakeSession(), str(tmp_path))
