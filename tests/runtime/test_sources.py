"""Files, folders, patterns and videos as frames; what is broken is a frame with an error."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeImage, WriteImage, WriteVideo

from generalad.errors import DataError, UsageError
from generalad.runtime import Frame, infer, open_sources, sources
from generalad.runtime.addresses import Listed, left_out_in_words
from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.sources import ImageFiles


def frames(*addresses: Path | str) -> list[Frame]:
    return [frame for source in open_sources([str(a) for a in addresses]) for frame in source]


def test_one_image(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> None:
    image = make_image(10)
    image[..., 0] = 200
    path = write_image(tmp_path / "a.png", image)
    (frame,) = frames(path)
    assert (frame.source, frame.index, frame.path, frame.name) == (str(path), 0, str(path), "a.png")
    assert frame.time == path.stat().st_mtime
    assert frame.error is None and frame.rate is None and frame.image is not None
    np.testing.assert_array_equal(frame.image, image)


def test_folder_is_sorted_and_recursive(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    for name in ("b.png", "a/z.png", "a/b/c.JPG", ".hidden/x.png", ".x.png", "c/d.bmp"):
        write_image(tmp_path / name, make_image(9))
    (tmp_path / "notes.txt").write_text("no image")
    found = frames(tmp_path)
    assert [frame.name for frame in found] == ["a/b/c.JPG", "a/z.png", "b.png", "c/d.bmp"]
    assert [frame.index for frame in found] == [0, 1, 2, 3]


def test_pattern(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> None:
    for name in ("x/b1.png", "x/b2.png", "y/b1.png", "x/a.png"):
        write_image(tmp_path / name, make_image(9))
    assert [frame.name for frame in frames(f"{tmp_path}/*/b*.png")] == [
        "x/b1.png",
        "x/b2.png",
        "y/b1.png",
    ]
    assert len(frames(f"{tmp_path}/**/*.png")) == 4


def label(size: tuple[int, int]) -> np.ndarray:
    """White on black, as labelling tools write it."""
    image = np.zeros((*size, 3), np.uint8)
    image[3:6, 4:9] = 255
    return image


def test_label_images_are_left_out_of_folders_and_patterns(
    tmp_path: Path, write_image: WriteImage
) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        image = rng.integers(0, 255, (20, 24, 3), np.uint8)
        write_image(tmp_path / f"a/{number}.png", image)
        write_image(tmp_path / f"a/{number}_mask.png", label((20, 24)))
        write_image(tmp_path / f"b/images/{number}.png", image)
        write_image(tmp_path / f"b/labels/{number}.png", label((20, 24)))
    images = ["a/0.png", "a/1.png", "a/2.png"] + [f"b/images/{n}.png" for n in range(3)]
    assert [frame.name for frame in frames(tmp_path)] == images
    assert [frame.name for frame in frames(f"{tmp_path}/**/*.png")] == images
    (source,) = open_sources([str(tmp_path)])
    said = left_out_in_words(source)
    assert "6 of 12 images" in said and f"{tmp_path}/a/0_mask.png of {tmp_path}/a/0.png" in said
    with pytest.warns(UserWarning, match="6 of 12 images look like label images"):
        summary = infer(FakeSession(), tmp_path)
    assert summary.frames == 6 and f"{tmp_path}/a/0_mask.png" in summary.left_out
    masks = sorted((tmp_path / "a").glob("*_mask.png"))
    assert [frame.path for frame in frames(*masks)] == [str(mask) for mask in masks]
    listed = Listed(f"{mask}\n" for mask in masks)
    assert [frame.path for frame in listed] == [str(mask) for mask in masks]


def test_videos_of_a_folder_are_named(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    write_image(tmp_path / "a.png", make_image(9))
    for name in ("b.mp4", "sub/c.MKV", "sub/.d.mp4"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (source,) = open_sources([str(tmp_path)])
    assert "not its videos: b.mp4 and 1 more" in left_out_in_words(source)
    with pytest.warns(UserWarning, match=r"not its videos: b\.mp4 and 1 more"):
        summary = infer(FakeSession(), tmp_path)
    assert summary.left_out == (f"{tmp_path}/b.mp4", f"{tmp_path}/sub/c.MKV")


def test_no_image_is_left_out_for_looking_empty(tmp_path: Path, write_image: WriteImage) -> None:
    """A dead camera beside one that works gives black images: they are to be looked at."""
    rng = np.random.default_rng(0)
    for number in range(4):
        lit = rng.integers(0, 255, (20, 24, 3), np.uint8)
        write_image(tmp_path / f"{number}_left.png", lit)
        write_image(tmp_path / f"{number}_right.png", np.zeros_like(lit))
        write_image(tmp_path / f"{number}_mask.png", lit)  # called so, but an image
    assert len(frames(tmp_path)) == 12


def test_a_name_with_brackets_is_a_file(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    assert frames(write_image(tmp_path / "a[1].png", make_image(9)))[0].error is None


def test_order_of_addresses(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> None:
    paths = [write_image(tmp_path / name, make_image(9)) for name in ("b.png", "a.png")]
    assert [frame.path for frame in frames(*paths)] == [str(path) for path in paths]


def test_broken_images_are_frames_with_errors(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    good = write_image(tmp_path / "2.png", make_image(9))
    (tmp_path / "1.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "3.jpg").write_bytes(b"")
    errors = [(frame.name, frame.image is None, frame.error) for frame in frames(tmp_path)]
    assert [(name, broken) for name, broken, _ in errors] == [
        ("1.png", True),
        ("2.png", False),
        ("3.jpg", True),
    ]
    assert errors[1][2] is None
    assert "cut off" in str(errors[0][2]) and "empty" in str(errors[2][2])


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_video(tmp_path: Path, make_image: MakeImage, write_video: WriteVideo, suffix: str) -> None:
    images = [make_image(20 * i) for i in range(10)]
    for image in images:
        image[:24, :, 0] = 250
    path = write_video(tmp_path / f"v{suffix}", images)
    found = frames(path)
    assert [frame.index for frame in found] == list(range(10))
    np.testing.assert_allclose([frame.time for frame in found], np.arange(10) / 10, atol=1e-3)
    assert {frame.rate for frame in found} == {10.0}
    assert len({frame.name for frame in found}) == 10
    for frame, image in zip(found, images, strict=True):
        assert frame.image is not None
        np.testing.assert_allclose(  # lossy, but red above and in the right order
            frame.image.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=8
        )
    assert open_sources([str(path)])[0].count() == 10


@pytest.mark.parametrize("part", [0.5, 0.8])
def test_cut_off_video_ends_with_an_error(
    tmp_path: Path, write_video: WriteVideo, part: float
) -> None:
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    data = write_video(tmp_path / "v.avi", images).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: int(len(data) * part)])
    *good, last = frames(cut)
    assert good and all(frame.error is None for frame in good)
    assert last.image is None and f"ends after {len(good)} of 40 frames" in str(last.error)
    assert last.index == len(good)


@pytest.mark.parametrize("data", [b"", b"junk" * 1000])
def test_corrupt_video_is_one_frame_with_an_error(
    tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v01.mp4"
    path.write_bytes(data)
    (frame,) = frames(path)
    assert frame.image is None and "not a video" in str(frame.error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("none.png", "no such file"),
        ("none*.png", "matches"),
        ("empty", "no images"),
        ("notes.txt", "suffix"),
    ],
)
def test_wrong_address(tmp_path: Path, address: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=words):
        open_sources([str(tmp_path / address)])


def test_no_address() -> None:
    with pytest.raises(DataError, match="no images or videos given"):
        open_sources([])


def test_passwords_are_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        open_sources(["ftp://me:secret@camera/1"])
    assert "secret" not in str(caught.value)


def test_a_camera_is_named_without_its_password() -> None:
    (source,) = open_sources(["http://me:secret@camera/1"])
    assert source.address == "http://***@camera/1"


def test_a_list_is_read_line_by_line(
    tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    first = write_image(tmp_path / "one" / "a.png", make_image(10))
    second = write_image(tmp_path / "two" / "a.png", make_image(20))
    found = list(Listed([f"{first}\n", "\n", f"{second}\r\n", str(tmp_path / "none.png")]))
    assert [(frame.source, frame.index) for frame in found] == [("-", 0), ("-", 1), ("-", 2)]
    assert [frame.error is None for frame in found] == [True, True, False]
    assert len({frame.name for frame in found}) == 3
    assert not any(Path(frame.name).is_absolute() or ".." in frame.name for frame in found)


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png", "\udcff.png", ""])
def test_a_listed_name_that_is_none_is_an_error_of_its_own(name: str) -> None:
    found = list(Listed([f"{name}\n", "none.png\n"]))
    assert [frame.image for frame in found] == [None] * (2 if name else 1)
    assert all(frame.error for frame in found)


def test_an_image_is_freed_before_the_next_is_read() -> None:
    """Two large ones at a time would be twice the memory."""
    made: list[weakref.ref[np.ndarray]] = []
    alive: list[bool] = []

    def new() -> np.ndarray:
        image = np.zeros((30, 30, 3), np.uint8)
        made.append(weakref.ref(image))
        return image

    class Images:
        address, folder = "images", None

        def count(self) -> int | None:
            return 4

        def __iter__(self) -> Iterator[Frame]:
            for index in range(4):
                yield Frame("images", index, 0.0, "", f"{index}.png", new())
                alive.append(made[-1]() is not None)

    infer(FakeSession(), Images())
    assert alive == [False] * 4


def files(count: int, folder: Path) -> ImageFiles:
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        path.touch()
    return ImageFiles("parts", paths, folder)


def test_files_are_decoded_side_by_side_and_come_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)

    def read(path: Path, *, depths: object) -> np.ndarray:
        if path.stem != "0":  # the first one says how large they are
            together.wait(20)
        return np.full((2, 2, 3), int(path.stem), np.uint8)

    monkeypatch.setattr(sources, "read_image", read)
    monkeypatch.setattr(sources, "usable_cores", lambda: 2)
    images = [frame.image for frame in files(5, tmp_path)]
    assert [int(image[0, 0, 0]) for image in images if image is not None] == [0, 1, 2, 3, 4]


def test_after_a_huge_image_the_next_is_decoded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: list[str] = []
    done: list[int] = []

    def read(path: Path, *, depths: object) -> np.ndarray:
        reading.append(path.stem)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(sources, "read_image", read)
    monkeypatch.setattr(sources, "READ_ALONE", 11)
    for frame in files(4, tmp_path):
        done.append(frame.index)
        assert len(reading) == len(done)


def test_who_stops_early_reads_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading: list[str] = []

    def read(path: Path, *, depths: object) -> np.ndarray:
        reading.append(path.stem)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(sources, "read_image", read)
    before = threading.active_count()
    some = iter(files(100, tmp_path))
    next(some), next(some)
    some.close()  # type: ignore[attr-defined]
    assert len(reading) <= 2 + sources.MOST_READ_AT_A_TIME
    assert threading.active_count() == before
