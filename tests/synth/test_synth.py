"""The procedural demo parts: masks tell the truth, seeds decide, files appear whole."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from generalad.errors import DataError, GadError, StorageError, UsageError
from generalad.synth import CATEGORIES, conveyor, render_part, write_conveyor, write_dataset
from generalad.synth.marks import solid

Image = NDArray[np.uint8]
DEFECTS = [(name, defect) for name, item in CATEGORIES.items() for defect in item.defects]
SMALL = {"train": 2, "test_good": 1, "per_defect": 1, "size": 64}


def test_three_categories_with_three_defects_each() -> None:
    assert list(CATEGORIES) == ["washer", "fabric", "board"]
    assert all(len(set(item.defects)) == 3 for item in CATEGORIES.values())


@pytest.mark.parametrize("category", CATEGORIES)
def test_good_part_has_no_mask_and_varies(category: str) -> None:
    images = []
    for seed in (1, 2):
        image, mask = render_part(category, np.random.default_rng(seed), size=96)
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        assert mask.shape == (96, 96) and mask.dtype == np.uint8 and not mask.any()
        assert image.std() > 15 and 40 < image.mean() < 190
        assert (image == 255).mean() < 0.02
        images.append(image.astype(int))
    assert np.abs(images[0] - images[1]).mean() > 1


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
@pytest.mark.parametrize("size", [96, 256])
def test_mask_is_where_the_image_changed(category: str, defect: str, size: int) -> None:
    for seed in range(3 if size == 256 else 8):
        good, _ = render_part(category, np.random.default_rng(seed), size=size)
        bad, mask = render_part(category, np.random.default_rng(seed), defect=defect, size=size)
        assert set(np.unique(mask)) == {0, 255}
        change = np.abs(good.astype(int) - bad).max(axis=2)
        near = cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0  # two pixels: lens and shading
        assert not change[~near].any()
        inside = change[mask > 0]
        assert (inside >= 6).mean() > 0.4
        assert np.percentile(inside, 90) >= 20


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_defects_are_visible_but_small_and_vary(category: str, defect: str) -> None:
    centres = []
    for seed in range(8):
        _, mask = render_part(category, np.random.default_rng(seed), defect=defect, size=128)
        rows, columns = np.nonzero(mask)
        assert 8 <= rows.size <= 0.12 * mask.size
        centres.append((rows.mean(), columns.mean()))
    assert np.std(centres, axis=0).max() > 8


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pair=st.sampled_from(DEFECTS),
    size=st.integers(32, 90),
)
def test_any_size_and_seed_gives_a_marked_defect_reproducibly(
    seed: int, pair: tuple[str, str], size: int
) -> None:
    category, defect = pair
    first = render_part(category, np.random.default_rng(seed), defect=defect, size=size)
    again = render_part(category, np.random.default_rng(seed), defect=defect, size=size)
    assert first[0].shape == (size, size, 3) and first[1].any()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_stream_of_parts_does_not_depend_on_the_defects_before() -> None:
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    render_part("washer", one, size=64)
    render_part("washer", other, defect="rust", size=64)
    a, _ = render_part("washer", one, size=64)
    b, _ = render_part("washer", other, size=64)
    assert np.array_equal(a, b)


def test_solid_keeps_only_what_reaches_the_mask() -> None:
    cover = np.zeros((20, 20), np.float32)
    cover[3, 3] = 1  # a speck
    cover[10:14, 10:14] = 1
    kept = solid(cover)
    assert kept[3, 3] == 0 and kept.sum() == 16


@pytest.mark.parametrize(
    ("category", "defect"), [("gear", None), ("washer", "hole"), ("washer", "")]
)
def test_unknown_names_are_refused(category: str, defect: str | None) -> None:
    with pytest.raises(UsageError, match="unknown"):
        render_part(category, np.random.default_rng(0), defect=defect)


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_dataset_has_the_mvtec_layout(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    root = write_dataset(tmp_path / "d", **SMALL, progress=lambda *c: calls.append(c))  # type: ignore[arg-type]
    expected = {"synth.json"}
    for name, item in CATEGORIES.items():
        expected |= {f"{name}/train/good/{i:03d}.png" for i in range(2)}
        expected |= {f"{name}/test/good/000.png"}
        expected |= {f"{name}/test/{d}/000.png" for d in item.defects}
        expected |= {f"{name}/ground_truth/{d}/000_mask.png" for d in item.defects}
    assert set(_tree(root)) == expected
    assert calls == [("drawing", i, 18) for i in range(1, 19)]
    mask = cv2.imread(str(root / "board/ground_truth/missing/000_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None and mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}
    image = cv2.imread(str(root / "board/train/good/000.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    blue, green, red = image.reshape(-1, 3).mean(axis=0)
    assert green > red and green > blue  # the solder mask: RGB was not written as BGR by mistake
    fabric = cv2.imread(str(root / "fabric/train/good/000.png"), cv2.IMREAD_UNCHANGED)
    assert fabric is not None and fabric[..., 0].mean() > fabric[..., 2].mean()


def test_images_do_not_depend_on_the_counts(tmp_path: Path) -> None:
    few = _tree(write_dataset(tmp_path / "few", **SMALL))  # type: ignore[arg-type]
    more = {**SMALL, "train": 3, "per_defect": 2, "categories": ["fabric"]}
    many = _tree(write_dataset(tmp_path / "many", **more))  # type: ignore[arg-type]
    shared = [name for name in few if name in many and name.endswith(".png")]
    assert len(shared) == 9
    assert all(few[name] == many[name] for name in shared)
    images = [many[name] for name in many if "mask" not in name]
    assert len(set(images)) == len(images)
    other = _tree(write_dataset(tmp_path / "other", **SMALL, seed=1))  # type: ignore[arg-type]
    assert not set(other.values()) & {few[name] for name in few if "mask" not in name}


def test_a_finished_dataset_is_left_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, categories=["washer"], **SMALL)  # type: ignore[arg-type]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    write_dataset(tmp_path, categories=["washer"], **SMALL)  # type: ignore[arg-type]
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}


def test_foreign_or_different_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        write_dataset(tmp_path / "mine", **SMALL)  # type: ignore[arg-type]
    assert caught.value.remedy
    write_dataset(tmp_path / "d", categories=["washer"], **SMALL)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="other parameters"):
        write_dataset(tmp_path / "d", categories=["washer"], **SMALL, seed=3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is a file"):
        write_dataset(tmp_path / "mine" / "photo.png")


@pytest.mark.parametrize(
    "wrong", [{"categories": ["gear"]}, {"train": -1}, {"seed": -1}, {"size": 8}]
)
def test_wrong_parameters_write_nothing(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        write_dataset(tmp_path / "d", **{**SMALL, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()


def test_an_interrupted_dataset_is_completed(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "d", **SMALL, progress=interrupt)  # type: ignore[arg-type]
    assert not (tmp_path / "d" / "synth.json").exists()
    (tmp_path / "d" / "washer/train/good/.009.ab.part.png").write_bytes(b"half")
    with pytest.raises(DataError, match="other parameters"):
        write_dataset(tmp_path / "d", **SMALL, seed=1)  # type: ignore[arg-type]
    write_dataset(tmp_path / "d", **SMALL)  # type: ignore[arg-type]
    assert _tree(tmp_path / "d") == _tree(write_dataset(tmp_path / "e", **SMALL))  # type: ignore[arg-type]


def _decode(path: Path) -> list[Image]:
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        good, frame = capture.read()
        if not good:
            capture.release()
            return frames
        frames.append(frame[..., ::-1].astype(np.uint8))


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_conveyor_decodes_to_what_was_rendered(tmp_path: Path, suffix: str) -> None:
    video = write_conveyor(tmp_path / f"belt{suffix}", frames=20, defect_rate=0.2, size=96)
    assert video.exists() and video.suffix in (suffix, ".avi")
    frames = _decode(video)
    assert len(frames) == 20 and all(frame.shape == (96, 96, 3) for frame in frames)
    truth = json.loads(video.with_suffix(".json").read_text())
    assert [entry["index"] for entry in truth["frames"]] == list(range(20))
    bad = [entry for entry in truth["frames"] if entry["defect"]]
    assert len(bad) == 4
    assert {entry["defect"] for entry in bad} == set(CATEGORIES["washer"].defects)
    for entry in truth["frames"]:
        image, mask = conveyor.frame("washer", entry["index"], entry["defect"], seed=0, size=96)
        assert entry["box"] == conveyor._box(mask)
        error = np.abs(image.astype(int) - frames[entry["index"]]).mean()
        assert error < 4
        if video.suffix == ".mkv":
            assert error == 0, "traces of compression would look like damage"
    assert {p.name for p in tmp_path.iterdir()} == {video.name, f"{video.stem}.json"}


def test_conveyor_falls_back_to_motion_jpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = conveyor._encode

    def without_ffv1(path: Path, codec: str, images: list[Image], fps: float) -> None:
        if codec == "FFV1":
            path.write_bytes(b"half a file")
            raise conveyor._NoEncoderError(codec)
        encode(path, codec, images, fps)

    monkeypatch.setattr(conveyor, "_encode", without_ffv1)
    video = write_conveyor(tmp_path / "belt.mkv", frames=3, size=64)
    assert video.name == "belt.avi" and len(_decode(video)) == 3
    assert json.loads((tmp_path / "belt.json").read_text())["video"] == "belt.avi"
    assert not (tmp_path / "belt.mkv").exists()


def test_no_encoder_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conveyor, "_CODECS", ())
    with pytest.raises(StorageError, match="encoder"):
        write_conveyor(tmp_path / "belt.mkv", frames=2, size=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [{"category": "gear"}, {"frames": 0}, {"defect_rate": 1.5}, {"size": 97}, {"fps": 0.0},
     {"seed": -1}],
)  # fmt: skip
def test_conveyor_refuses_wrong_parameters(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(GadError):
        write_conveyor(tmp_path / "belt.mkv", **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
