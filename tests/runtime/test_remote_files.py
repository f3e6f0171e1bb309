"""Images in a store of objects: a store in memory stands for S3 and its like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from cli_helpers import gad, one_line
from conftest import Image, MakeArtifact, MakeImage

fsspec = pytest.importorskip("fsspec")

from generalad.errors import DataError  # noqa: E402
from generalad.runtime import infer  # noqa: E402
from generalad.runtime.addresses import open_sources  # noqa: E402

Capture = pytest.CaptureFixture[str]


def png(image: Image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def store(make_image: MakeImage) -> Iterator[Any]:
    found = fsspec.filesystem("memory")
    for name, level in (("b/2.png", 2), ("b/1.png", 1), ("b/sub/3.PNG", 3)):
        found.pipe_file(f"/{name}", png(make_image(10 * level)))
    found.pipe_file("/b/notes.txt", b"text")
    found.pipe_file("/b/.hidden/4.png", b"hidden")
    yield found
    found.rm("/b", recursive=True)


def test_images_come_in_order_with_their_places(store: Any) -> None:
    (source,) = open_sources(["memory://b"])
    frames = list(source)
    assert source.count() == 3
    assert [frame.name for frame in frames] == ["1.png", "2.png", "sub/3.PNG"]
    assert [frame.path for frame in frames] == [
        "memory:///b/1.png",
        "memory:///b/2.png",
        "memory:///b/sub/3.PNG",
    ]
    assert [int(frame.image[0, 0, 0]) for frame in frames if frame.image is not None] == [
        10,
        20,
        30,
    ]


@pytest.mark.parametrize(
    ("address", "names"),
    [("memory://b/1.png", ["1.png"]), ("memory://b/*.png", ["1.png", "2.png"])],
)
def test_an_object_or_a_pattern(store: Any, address: str, names: list[str]) -> None:
    (source,) = open_sources([address])
    assert [frame.name for frame in source] == names


def test_what_cannot_be_read_is_a_frame_with_an_error(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe_file("/b/1.png", b"no image")
    (source,) = open_sources(["memory://b"])
    store.rm("/b/2.png")
    first, second, third = source
    assert first.error is not None
    assert first.error.startswith("memory:///b/1.png: not an image")
    assert second.error is not None
    assert third.image is not None
    monkeypatch.setenv("GAD_MAX_MEGAPIXELS", "0.0001")
    store.pipe_file("/b/1.png", bytes(2_000_000))
    assert "expected at most" in str(next(iter(source)).error)


@pytest.mark.parametrize("address", ["memory://none", "memory://b/notes.txt/x", "memory://b/*.bmp"])
def test_what_is_not_there_is_told(store: Any, address: str) -> None:
    with pytest.raises(DataError, match="memory://"):
        open_sources([address])


def test_infer_takes_them(
    store: Any, make_artifact: MakeArtifact, tmp_path: Path, capsys: Capture
) -> None:
    artifact = make_artifact(tmp_path)
    scores: list[float | None] = []
    infer(artifact, "memory://b", on_result=lambda found: scores.append(found.score))
    assert scores == [pytest.approx(level / 255) for level in (10, 20, 30)]
    code, out, _ = gad(capsys, "infer", artifact, "memory://b/1.png")
    assert code == 0
    assert '"path": "memory:///b/1.png"' in out
    code, _, err = gad(capsys, "infer", artifact, "memory://none")
    assert code == 1
    assert "there is nothing" in one_line(err)
