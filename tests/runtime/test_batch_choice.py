"""The batch that is fastest: measured once, remembered for what it depends on, said in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import Capture, gad, one_line
from conftest import MakeArtifact, MakeImage, WriteImage
from numpy.typing import NDArray

import generalad
from generalad.errors import UsageError
from generalad.runtime import batch_choice, choose_batch, infer, open_session
from generalad.runtime.backends.fake import FakeSession
from generalad.runtime.batch_choice import Choice, batch_for, check_batch
from generalad.runtime.cameras.open import open_live
from generalad.runtime.sources import ImagesInMemory


class Timed(FakeSession):
    """A session of which each run takes a known time."""

    def __init__(self, fixed: float, each: float) -> None:
        super().__init__()
        self.fixed, self.each, self.runs = fixed, each, 0

    def seconds(self, images: NDArray[np.uint8]) -> float:
        """Of a run."""
        self.runs += 1
        return self.fixed + self.each * len(images)


@pytest.fixture(autouse=True)
def timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs take the time that the session says; the cache is empty."""

    def seconds(session: Any, images: NDArray[np.uint8]) -> float:
        return session.seconds(images) if isinstance(session, Timed) else 0.01 * len(images)

    monkeypatch.setattr(batch_choice, "_seconds", seconds)
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("fixed", "each", "size"),
    [
        (0.0, 0.01, 1),  # a larger one gains nothing
        (0.0001, 0.01, 1),  # or too little
        (0.01, 0.01, 32),
        (0.001, 0.01, 4),  # 8 would gain 1.2 % more
        (2.0, 0.5, 1),  # a second one would take longer than is measured for
    ],
)
def test_the_smallest_of_the_fastest(fixed: float, each: float, size: int) -> None:
    choice = choose_batch(Timed(fixed, each))
    assert choice.size == size
    assert not choice.remembered
    assert f"batches of {size}:" in choice.in_words()
    assert "measured now" in choice.in_words()


def test_it_is_measured_once(tmp_path: Path) -> None:
    first = choose_batch(Timed(0.01, 0.01))
    again = Timed(0.01, 0.01)
    second = choose_batch(again)
    assert again.runs == 0
    assert second == first._replace(remembered=True)
    assert "measured before" in second.in_words()


def test_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_batch(Timed(0.01, 0.01))

    def is_new(session: Timed, **given: Any) -> bool:
        choose_batch(session, **given)
        return session.runs > 0

    other = Timed(0.01, 0.01)
    other._spec = dataclasses.replace(other.spec, class_name="other")
    assert is_new(other)
    backend = Timed(0.01, 0.01)
    backend.backend = "another"
    assert is_new(backend)
    precision = Timed(0.01, 0.01)
    precision.precision = "bf16"
    assert is_new(precision)
    assert is_new(Timed(0.01, 0.01), threads=1)
    assert is_new(Timed(0.01, 0.01), most=4)
    monkeypatch.setattr(batch_choice, "usable_cores", lambda: 77)
    assert is_new(Timed(0.01, 0.01))
    assert not is_new(Timed(0.01, 0.01))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"1": -1}', '{"3": 5.0}', '{"a": 1}', '{"1"'])
def test_a_damaged_memory_is_measured_again(tmp_path: Path, text: str) -> None:
    choose_batch(Timed(0.01, 0.01))
    (file,) = (tmp_path / "cache" / "batches").iterdir()
    file.write_text(text, encoding="utf-8")
    again = Timed(0.01, 0.01)
    assert choose_batch(again).size == 32
    assert again.runs > 0
    assert choose_batch(Timed(0.01, 0.01)).remembered


def test_a_cache_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAD_CACHE", str(tmp_path / "file"))
    assert choose_batch(Timed(0.01, 0.01)).size == 32


def test_cameras_give_one_image_each(make_image: MakeImage) -> None:
    camera = open_live("test://washer?rate=5")
    assert batch_for(Timed(0.01, 0.01), [camera], threads=None) == Choice(1, {})
    others = [open_live(f"test://washer?rate={rate}") for rate in (6, 7, 8)]
    assert batch_for(Timed(0.01, 0.01), [camera, *others], threads=None).size == 4
    memory = ImagesInMemory([make_image(9)])
    assert batch_for(Timed(0.01, 0.01), [camera, memory], threads=None).size == 32


def test_a_fixed_batch_is_no_choice(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    with open_session(make_artifact(tmp_path, batch=3)) as session:
        choice = choose_batch(session)
    assert choice == Choice(3, {})
    assert choice.in_words() == "batches of 3, there is no choice"


def test_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_choice, "memory", lambda: 10 * 15 * 64 * 64)
    spec = FakeSession().spec
    check_batch(10, spec)
    with pytest.raises(UsageError, match="a batch of 11 images of 64 x 64 takes"):
        check_batch(11, spec)
    assert choose_batch(Timed(0.01, 0.01)).size == 8
    monkeypatch.setattr(batch_choice, "memory", lambda: None)
    check_batch(1 << 20, spec)


@pytest.fixture
def parts(tmp_path: Path, make_image: MakeImage, write_image: WriteImage) -> Path:
    """A folder of nine images."""
    for number in range(9):
        write_image(tmp_path / "parts" / f"{number}.png", make_image(25 * number))
    return tmp_path / "parts"


def test_from_python(parts: Path, tmp_path: Path, make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(tmp_path)
    expected: list[Any] = []
    infer(artifact, str(parts), on_result=expected.append)
    found: list[Any] = []
    infer(artifact, str(parts), batch_size="auto", on_result=found.append)
    assert [one.score for one in found] == [one.score for one in expected]
    with generalad.load(artifact) as model:
        streamed = list(model.stream(str(parts), batch_size="auto"))
    assert [one.score for one in streamed] == [one.score for one in expected]
    with pytest.raises(UsageError, match="at least 1 or auto"):
        infer(artifact, str(parts), batch_size=0)


def test_the_command_says_what_is_in_use(
    parts: Path, tmp_path: Path, make_artifact: MakeArtifact, capfd: Capture
) -> None:
    artifact = make_artifact(tmp_path)
    code, out, err = gad(capfd, "infer", artifact, parts, "--batch", "auto")
    assert code == 0
    assert len(out.splitlines()) == 9
    said = [line for line in err.splitlines() if line.startswith("batches of ")]
    assert len(said) == 1
    assert said[0].endswith("measured now")
    line = tmp_path / "line.toml"
    line.write_text('batch = "auto"\n', encoding="utf-8")
    code, _, err = gad(capfd, "infer", artifact, parts, "--config", line)
    assert code == 0
    assert "measured before" in err


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", ""])
def test_what_is_no_batch(capfd: Capture, tmp_path: Path, value: str) -> None:
    code, _, err = gad(capfd, "infer", tmp_path / "model.onnx", tmp_path, f"--batch={value}")
    assert code == 2
    assert "auto or a whole number from 1" in one_line(err)


def test_a_batch_beyond_memory_is_one_line(
    parts: Path, tmp_path: Path, make_artifact: MakeArtifact, capfd: Capture
) -> None:
    code, _, err = gad(capfd, "infer", make_artifact(tmp_path), parts, "--batch", 10**9)
    assert code == 2
    assert "a batch of 1000000000 images" in one_line(err)
