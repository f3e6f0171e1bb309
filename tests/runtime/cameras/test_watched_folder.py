"""A watched folder: every image once, none of them half, none left out."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from camera_helpers import FakeClock
from conftest import MakeImage, WriteImage

from generalad.errors import DataError
from generalad.runtime.cameras import WatchedFolder, watched_folder


def names(watched: WatchedFolder) -> list[str]:
    found = []
    for frame in watched.poll():
        assert (frame.image is None) == (frame.error is not None)
        watched.done(frame)
        found.append(frame.name)
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def png(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> Path:
    image = make_image(9)
    image[..., 0] = 200
    return write_image(tmp_path / "else" / "part.png", image)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    return tmp_path / "in"


def test_each_file_once(folder: Path, png: Path, clock: FakeClock) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    assert names(watched) == []
    for name in ("b.png", "a.PNG", "sub/c.png", ".hidden.png", "notes.txt"):
        shutil.copy2(png, folder / name)
    (frame, *_) = list(watched.poll())
    assert frame.image is not None and tuple(frame.image[0, 0]) == (200, 9, 9)
    assert frame.name == "a.PNG" and names(watched) == []
    clock.advance(100)
    assert names(watched) == []


def test_a_growing_file_counts_when_it_is_whole(folder: Path, png: Path, clock: FakeClock) -> None:
    data = png.read_bytes()
    watched = WatchedFolder(folder, clock=clock.now)
    with (folder / "a.png").open("wb") as file:
        for part in range(0, len(data), 40):
            assert names(watched) == []
            clock.advance(3)
            assert names(watched) == []
            file.write(data[part : part + 40])
            file.flush()
        assert names(watched) == ["a.png"]
    os.utime(folder / "a.png", (1, 1))  # as copying programs do at their end
    assert names(watched) == []


def test_a_format_without_an_end_must_settle(
    folder: Path, make_image: MakeImage, write_image: WriteImage, clock: FakeClock
) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    write_image(folder / "a.tif", make_image(9))
    assert names(watched) == []
    clock.advance(0.9)
    assert names(watched) == []
    clock.advance(0.2)
    assert names(watched) == ["a.tif"]


def test_renamed_into_place(folder: Path, png: Path, clock: FakeClock) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    shutil.copy(png, folder / "a.png.part")
    assert names(watched) == []
    (folder / "a.png.part").rename(folder / "a.png")
    assert names(watched) == ["a.png"]


def test_what_is_no_image_is_an_error_in_the_end(folder: Path, clock: FakeClock) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    (folder / "a.png").write_bytes(b"junk")
    (folder / "b.png").write_bytes(b"")
    (folder / "c.png").symlink_to("nowhere")
    assert names(watched) == []
    clock.advance(5)
    assert names(watched) == []
    clock.advance(6)
    errors = [str(frame.error) for frame in watched.poll()]
    assert "not an image" in errors[0] and "empty" in errors[1] and "no such file" in errors[2]
    assert names(watched) == []


def test_new_content_and_a_name_used_again(
    folder: Path, png: Path, make_image: MakeImage, write_image: WriteImage, clock: FakeClock
) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    shutil.copy(png, folder / "a.png")
    assert names(watched) == ["a.png"]
    write_image(folder / "a.png", make_image(99))
    assert names(watched) == [], "it is written over the other one"
    clock.advance(0.2)
    assert names(watched) == ["a.png"]
    (folder / "a.png").unlink()
    assert names(watched) == []
    write_image(folder / "a.png", make_image(99))
    assert names(watched) == ["a.png"]


def test_after_a_restart(folder: Path, png: Path, tmp_path: Path, clock: FakeClock) -> None:
    journal = tmp_path / "state" / "seen.jsonl"

    def restarted() -> WatchedFolder:
        return WatchedFolder(folder, journal=journal, clock=clock.now)

    shutil.copy(png, folder / "a.png")
    shutil.copy(png, folder / "b.png")
    watched = restarted()
    first, _ = watched.poll()
    watched.done(first)  # killed before the second one was done
    with journal.open("a") as file:
        file.write('["cut o')
    assert names(restarted()) == ["b.png"]
    assert names(restarted()) == []
    (folder / "a.png").unlink()
    assert names(restarted()) == [] and "a.png" not in journal.read_text()
    with journal.open("a") as file:
        file.write('["cut o')
    (folder / "b.png").unlink()
    assert names(restarted()) == [] and journal.read_text().endswith("]\n")
    shutil.copy(png, folder / "b.png")
    folder.rename(tmp_path / "unmounted")
    with pytest.raises(DataError, match="no such folder"):
        names(restarted())
    (tmp_path / "unmounted").rename(folder)
    assert names(restarted()) == []


def test_a_foreign_journal(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    with pytest.raises(DataError, match="does not remember"):
        WatchedFolder(folder, journal=tmp_path / "x")


def test_colours(folder: Path, png: Path, clock: FakeClock) -> None:
    shutil.copy(png, folder / "a.png")
    (frame,) = WatchedFolder(folder, clock=clock.now).poll()
    assert frame.image is not None
    np.testing.assert_array_equal(frame.image[0, 0], [200, 9, 9])


def test_what_is_renamed_is_the_same_image(folder: Path, png: Path, clock: FakeClock) -> None:
    journal = folder.parent / "seen.jsonl"
    watched = WatchedFolder(folder, journal=journal, clock=clock.now)
    shutil.copy(png, folder / "a.png")
    assert names(watched) == ["a.png"]
    (folder / "a.png").rename(folder / "sub" / "done-a.png")
    assert names(watched) == []
    assert names(WatchedFolder(folder, journal=journal, clock=clock.now)) == []
    shutil.copy(png, folder / "a.png")
    os.link(folder / "a.png", folder / "b.png")
    assert names(watched) == ["a.png", "b.png"], "the same content again, and under two names"


def test_another_content_of_the_same_time_and_size(
    folder: Path, make_image: MakeImage, write_image: WriteImage, clock: FakeClock
) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    for number in range(3):
        write_image(folder / "next.bmp", make_image(9 + number))
        os.utime(folder / "next.bmp", (1, 1))
        (folder / "next.bmp").rename(folder / "latest.bmp")
        assert names(watched) == ["latest.bmp"]


def test_a_file_whose_size_was_set_before_is_not_half_black(
    folder: Path, make_image: MakeImage, write_image: WriteImage, clock: FakeClock
) -> None:
    data = write_image(folder.parent / "whole.bmp", make_image(90)).read_bytes()
    watched = WatchedFolder(folder, clock=clock.now)
    with (folder / "a.bmp").open("wb") as file:
        file.truncate(len(data))
        file.write(data[: len(data) // 2])
        file.flush()
        assert names(watched) == []
        clock.advance(0.5)
        file.write(data[len(data) // 2 :])
        file.flush()
    (frame,) = watched.poll()
    assert frame.image is not None and frame.image.min() == 90


def test_what_is_written_over_an_image_counts_when_it_rests(
    folder: Path, make_image: MakeImage, write_image: WriteImage, clock: FakeClock
) -> None:
    write_image(folder / "a.bmp", make_image(90))
    new = write_image(folder.parent / "new.bmp", make_image(200)).read_bytes()
    watched = WatchedFolder(folder, clock=clock.now)
    assert names(watched) == ["a.bmp"]
    with (folder / "a.bmp").open("r+b") as file:
        file.write(new[: len(new) // 2])
        file.flush()
        assert names(watched) == []
        file.write(new[len(new) // 2 :])
    clock.advance(0.2)
    assert names(watched) == []
    clock.advance(0.2)
    (frame,) = watched.poll()
    assert frame.image is not None and frame.image.min() == 200


def test_images_and_videos_that_are_passed_over_are_errors_in_the_end(
    folder: Path, png: Path, clock: FakeClock
) -> None:
    watched = WatchedFolder(folder, clock=clock.now)
    for name in ("IMG_7", "x.png.old", "clip.mp4", "zip.zip"):
        shutil.copy(png, folder / name)
    (folder / "notes.txt").write_text("nothing")
    (folder / "frame.npy").write_bytes(b"\x93NUMPY")
    assert names(watched) == []
    clock.advance(11)
    errors = [str(frame.error) for frame in watched.poll()]
    assert ["by its content" in error for error in errors] == [True, False, False, True, True]
    assert "a video, expected an image" in errors[1]
    assert "frame.npy: an array, archive or stream, which may hold images" in errors[2]
    clock.advance(11)
    assert names(watched) == []


def test_a_file_system_that_knows_whole_seconds_only(
    folder: Path,
    make_image: MakeImage,
    write_image: WriteImage,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = int(time.time())
    monkeypatch.setattr(watched_folder, "_stamp", lambda found: (second, 0, found.st_size))
    watched = WatchedFolder(folder, clock=clock.now)
    for number in range(3):
        write_image(folder / "latest.bmp", make_image(9 + number))
        os.utime(folder / "latest.bmp", (second, second))
        assert names(watched) == ["latest.bmp"]
        assert names(watched) == []
    os.utime(folder / "latest.bmp", (second - 9, second - 9))
    write_image(folder / "other.bmp", make_image(50))
    os.utime(folder / "other.bmp", (second, second))
    (folder / "other.bmp").write_bytes(b"BM half")
    os.utime(folder / "other.bmp", (second, second))
    assert names(watched) == []
    clock.advance(20)
    assert names(watched) == ["other.bmp"], "an error in the end"
