"""Masks that say something else than they seem to."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from encoders import pillow
from numpy.typing import NDArray
from PIL import Image as Pillow

from generalad.data.check import check_dataset
from generalad.data.dataset import open_dataset
from generalad.data.masks import doubt_about, doubtful_masks
from generalad.errors import DataError
from generalad.preprocess import decode_mask

SIZE = (48, 64)
Image = NDArray[np.uint8]


def mask(seed: int, value: int = 255) -> Image:
    """An ellipse and a line."""
    image = np.zeros(SIZE, np.uint8)
    cv2.ellipse(image, (20 + seed, 20), (7, 5), 30, 0, 360, value, -1)
    cv2.line(image, (40, 30), (55, 40 - seed), value, 2)
    return image


def encoded(image: Image, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A class folder with four defective images, without masks."""
    for number in range(6):
        part = "train/good" if number < 2 else "test/nick"
        noise = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        put(tmp_path / part / f"{number}.png", encoded(noise))
    return tmp_path


def kinds(root: Path) -> dict[str, tuple[str, int]]:
    return {
        one.kind: (one.severity, len(one.paths))
        for one in check_dataset(open_dataset(root)).problems
    }


def fill(root: Path, data: dict[int, bytes], suffix: str = ".png") -> None:
    for number, content in data.items():
        put(root / f"ground_truth/nick/{number}_mask{suffix}", content)


def test_sound_masks(root: Path) -> None:
    fill(root, {number: encoded(mask(number)) for number in range(2, 6)})
    assert kinds(root) == {}
    assert doubtful_masks(open_dataset(root)) == ""


def test_inverted_masks(root: Path) -> None:
    fill(root, {number: encoded(255 - mask(number)) for number in range(2, 6)})
    assert kinds(root) == {"inverted mask": ("error", 4)}
    [problem] = check_dataset(open_dataset(root)).problems
    assert "4 of 4 masks marked along the edge" in problem.detail
    assert "white on black" in problem.remedy
    assert "4 of 4 masks" in doubtful_masks(open_dataset(root))


@pytest.mark.parametrize(("equal", "said"), [(2, 0), (3, 3), (4, 4)])
def test_masks_that_were_written_over_each_other(root: Path, equal: int, said: int) -> None:
    fill(root, {n: encoded(mask(0 if n < 2 + equal else n)) for n in range(2, 6)})
    assert kinds(root) == ({"equal masks": ("warning", said)} if said else {})
    words = doubtful_masks(open_dataset(root))
    assert words.startswith(f"{said} of 4 masks that are one and the same file") == bool(said)


def test_equal_masks_of_few_are_no_rule(root: Path) -> None:
    for n in range(2, 18):
        put(root / f"test/nick/{n}.png", encoded(np.full(SIZE, 100 + n, np.uint8)))
        fill(root, {n: encoded(mask(max(n - 2, 2)))})
    assert "equal masks" not in kinds(root)


def test_one_inverted_mask_may_be_a_large_defect(root: Path) -> None:
    fill(root, {number: encoded(mask(number)) for number in range(2, 5)})
    fill(root, {5: encoded(255 - mask(5))})
    assert kinds(root) == {"inverted mask": ("warning", 1)}


def test_photographs_as_masks(root: Path) -> None:
    fill(root, {n: (root / f"test/nick/{n}.png").read_bytes() for n in range(2, 6)})
    assert kinds(root)["inverted mask"] == ("error", 4)


def test_marks_in_colour_on_the_image_itself(root: Path) -> None:
    for n in range(2, 6):
        shown = np.full((*SIZE, 3), (90, 80, 100), np.uint8)
        shown[mask(n) > 0] = (0, 0, 255)
        fill(root, {n: encoded(shown)})
    assert kinds(root)["inverted mask"] == ("error", 4)


def test_numbers_of_classes_and_255(root: Path) -> None:
    for n in range(2, 6):
        border = cv2.dilate(mask(n), np.ones((3, 3), np.uint8))
        fill(root, {n: encoded(np.where(mask(n) > 0, np.uint8(3), border))})
    assert kinds(root) == {"void in mask": ("warning", 4)}
    assert "4 of 4 masks with numbers of classes and 255" in doubtful_masks(open_dataset(root))


@pytest.mark.parametrize(("orientation", "doubt"), [(1, False), (3, True), (4, True), (6, False)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_masks_of_images_that_exif_turns(
    root: Path, kind: str, orientation: int, *, doubt: bool
) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    for n in range(2, 6):
        noise = np.random.default_rng(n).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        put(root / f"test/nick/{n}.png", pillow(noise, kind, exif=exif))
        fill(root, {n: encoded(mask(n) if orientation < 5 else np.rot90(mask(n), -1))})
    found = kinds(root)
    found.pop("mixed sizes", None)
    assert found == ({"turned mask": ("warning", 4)} if doubt else {})
    assert ("EXIF data turns" in doubtful_masks(open_dataset(root))) == doubt


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "JPEG2000"])
def test_masks_with_noise(root: Path, kind: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "JPEG2000": {"quality_mode": "rates", "quality_layers": [8]}
    }
    settings: dict[str, Any] = options.get(kind, {"quality": 60})
    suffix = {"JPEG": ".jpg", "WEBP": ".webp", "JPEG2000": ".jp2"}[kind]
    fill(root, {n: pillow(mask(n), kind, **settings) for n in range(2, 6)}, suffix)
    assert kinds(root) == {"lossy mask": ("warning", 4)}
    assert "as JPEG leaves it" in doubtful_masks(open_dataset(root))


def test_noise_that_was_saved_again_as_png(root: Path) -> None:
    for number in range(2, 6):
        jpeg = io.BytesIO(pillow(mask(number), "JPEG", quality=40))
        fill(root, {number: encoded(np.asarray(Pillow.open(jpeg)))})
    assert kinds(root) == {"lossy mask": ("warning", 4)}


def test_soft_edges_and_numbers_are_no_noise() -> None:
    soft = cv2.resize(mask(3), (128, 96), interpolation=cv2.INTER_LINEAR)
    assert doubt_about(soft, lossy=False) == ""
    numbered = mask(1, 1) + np.roll(mask(2, 2), 20, axis=0)
    assert doubt_about(numbered, lossy=False) == ""
    assert doubt_about(np.zeros(SIZE, np.uint8), lossy=True) == ""


def test_a_mask_of_two_images(root: Path) -> None:
    fill(root, {number: encoded(mask(number)) for number in range(2, 6)})
    assert kinds(root) == {}
    other = np.random.default_rng(9).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    put(root / "test/nick/2.jpg", encoded(other, ".jpg"))
    assert kinds(root)["shared mask"] == ("error", 1)
    assert "1 of 4 masks used for several images" in doubtful_masks(open_dataset(root))


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_another_unicode_form_is_the_same_name(
    root: Path, forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]
) -> None:
    image, marked = (unicodedata.normalize(form, "prüfling é") for form in forms)
    put(root / f"test/nick/{image}.png", (root / "test/nick/2.png").read_bytes() + b"\0")
    put(root / f"ground_truth/nick/{marked}_mask.png", encoded(mask(1)))
    dataset = open_dataset(root)
    assert [len(s.masks) for s in dataset.test if s.path.stem == image] == [1]
    assert dataset.stray_masks == ()


@pytest.mark.parametrize(
    "name", ["2.png", "2_MASK.PNG", "2_gt.png", "2_label.bmp", "2-seg.png", "2_ground_truth.png"]
)
def test_names_of_masks(root: Path, name: str) -> None:
    put(root / f"ground_truth/nick/{name}", encoded(mask(1)))
    assert [len(sample.masks) for sample in open_dataset(root).test] == [1, 0, 0, 0]


def test_several_masks_of_an_image_may_be_numbered(root: Path) -> None:
    for name in ("2_mask_0.png", "2_mask_1.png", "2_mask.png", "3_gt07.png"):
        put(root / f"ground_truth/nick/{name}", encoded(mask(1)))
    dataset = open_dataset(root)
    assert [len(sample.masks) for sample in dataset.test] == [3, 1, 0, 0]
    assert dataset.stray_masks == ()


def test_upper_case_matters_where_both_are_there(root: Path) -> None:
    put(root / "test/nick/A.png", encoded(mask(1)))
    put(root / "test/nick/a.png", encoded(mask(2)))
    put(root / "ground_truth/nick/A_mask.png", encoded(mask(3)))
    put(root / "ground_truth/nick/a_mask.png", encoded(mask(4)))
    found = {s.path.stem: [m.stem for m in s.masks] for s in open_dataset(root).test}
    assert (found["A"], found["a"]) == (["A_mask"], ["a_mask"])


# --- masks in the alpha channel ---


def rgba(colour: Any, opacity: Image) -> bytes:
    image = np.zeros((*SIZE, 4), np.uint8)
    image[..., :3] = colour
    image[..., 3] = opacity
    return pillow(image, "PNG")


def test_masks_in_the_alpha_channel() -> None:
    marked = mask(2)
    stroke = np.where(marked[..., None] > 0, (200, 30, 0), 255)
    for data in (
        rgba(255, marked),  # white, transparent where nothing is
        rgba(0, marked),  # black
        rgba(stroke, marked),  # red on transparent white
        rgba(stroke * (marked[..., None] > 0), marked),  # red on transparent black
        rgba(marked[..., None], np.full(SIZE, 255, np.uint8)),  # opaque
        rgba(marked[..., None], np.full(SIZE, 90, np.uint8)),
        pillow(np.dstack([np.full(SIZE, 255, np.uint8), marked]), "PNG"),  # grey and alpha
    ):
        np.testing.assert_array_equal(decode_mask(data), marked > 0)


def test_a_mask_that_could_mean_either_is_refused() -> None:
    opacity = np.full(SIZE, 255, np.uint8)
    opacity[:10] = 0
    with pytest.raises(DataError, match="partly transparent and partly black"):
        decode_mask(rgba(mask(1)[..., None], opacity))


def test_a_good_test_image_whose_mask_marks_something(root: Path) -> None:
    put(root / "test/good/9.png", encoded(np.zeros((*SIZE, 3), np.uint8)))
    put(root / "ground_truth/good/9_mask.png", encoded(np.zeros(SIZE, np.uint8)))
    assert "called good" not in doubtful_masks(open_dataset(root))
    put(root / "ground_truth/good/9_mask.png", encoded(mask(3)))
    assert "1 of 1 masks that mark something in images that are called good" in doubtful_masks(
        open_dataset(root)
    )
