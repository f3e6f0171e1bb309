"""`load`, `predict` and `Prediction`: one image, many, refusals, threads, closing."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeArtifact, MakeImage, WriteImage
from import_helpers import BLOCKED, ROOT
from numpy.typing import NDArray
from PIL import Image

import generalad
from generalad.decision import Rule, decide
from generalad.errors import ArtifactError, DataError, GadError, UsageError
from generalad.overlay import draw
from generalad.prediction import Prediction
from generalad.predictor import Predictor
from generalad.preprocess import read_image, resize
from generalad.runtime import Outputs, open_session
from generalad.runtime.backends.fake import FakeSession


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    return make_artifact(tmp_path)


@pytest.fixture
def model(artifact: Path) -> Iterator[Predictor]:
    with generalad.load(artifact, threads=1) as model:
        yield model


@pytest.fixture
def bad(make_image: MakeImage) -> NDArray[np.uint8]:
    """A dark image, (48, 64), with a bright spot at rows 8 to 24 and columns 16 to 32."""
    return make_image(30, spot=255)


# --- one image ---


def test_one_image(model: Predictor, artifact: Path, bad: NDArray[np.uint8]) -> None:
    found = model.predict(bad)
    with open_session(artifact) as session:
        scores, maps = session.run(resize(bad, (64, 64))[None])
    expected = decide(float(scores[0]), maps[0], model.spec, rule=Rule(), image_size=(48, 64))
    assert expected is not None
    assert isinstance(found, Prediction)
    assert (found.score, found.normalised) == (expected.score, expected.normalised)
    assert (found.is_anomalous, found.regions) == (True, expected.regions)
    assert (found.error, found.fault, found.source, found.index) == (None, None, "", 0)
    np.testing.assert_array_equal(found.raw_map, maps[0])
    assert found.image is bad


def test_the_map_has_the_size_of_the_image_and_is_kept(
    model: Predictor, bad: NDArray[np.uint8]
) -> None:
    found = model.predict(bad)
    assert found.anomaly_map.shape == (48, 64)
    assert found.anomaly_map.dtype == np.float32
    assert found.anomaly_map is found.anomaly_map
    assert found.anomaly_map[16, 24] > 0.9 > 0.3 > found.anomaly_map[40, 60]


def test_the_overlay_is_that_of_the_command(model: Predictor, bad: NDArray[np.uint8]) -> None:
    found = model.predict(bad)
    before = bad.copy()
    marked = found.overlay()
    assert found.raw_map is not None
    np.testing.assert_array_equal(marked, draw(bad, found.raw_map, model.spec))
    assert (marked.shape, marked.dtype) == ((48, 64, 3), np.uint8)
    np.testing.assert_array_equal(bad, before)


def test_the_same_from_a_path_an_array_and_pillow(
    model: Predictor, bad: NDArray[np.uint8], tmp_path: Path, write_image: WriteImage
) -> None:
    path = write_image(tmp_path / "part.png", bad)
    given: list[Any] = [path, str(path), bad, Image.open(path), Image.fromarray(bad)]
    found = [model.predict(one) for one in given]
    found.append(model.predict(bad[..., ::-1], bgr=True))
    assert len({one.score for one in found}) == 1
    for one in found:
        np.testing.assert_array_equal(one.image, bad)
    assert [one.path for one in found] == [str(path), str(path), "", "", "", ""]


def test_bgr_does_not_turn_files_round(
    model: Predictor, tmp_path: Path, write_image: WriteImage
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 200
    path = write_image(tmp_path / "red.png", image)
    np.testing.assert_array_equal(model.predict(path, bgr=True).image, image)


def test_a_cutout_and_a_flipped_view_are_images(model: Predictor, make_image: MakeImage) -> None:
    whole = make_image(30, spot=255, size=(100, 100))
    assert (
        model.predict(whole[10:74, 20:84]).score == model.predict(whole[10:74, 20:84].copy()).score
    )
    assert model.predict(whole[::-1]).score == model.predict(whole[::-1].copy()).score


def test_to_dict_has_the_keys_of_the_command(
    model: Predictor,
    artifact: Path,
    bad: NDArray[np.uint8],
    tmp_path: Path,
    write_image: WriteImage,
) -> None:
    path = write_image(tmp_path / "part.png", bad)
    results: list[generalad.runtime.Result] = []
    generalad.infer(artifact, [path], on_result=results.append)
    (theirs,) = [json.loads(json.dumps(result.to_dict())) for result in results]
    ours = json.loads(json.dumps(model.predict(path).to_dict()))
    assert list(ours) == list(theirs)
    assert list(ours["milliseconds"]) == list(theirs["milliseconds"])
    assert 0 < ours["milliseconds"]["infer"] < ours["milliseconds"]["total"]
    for key in set(ours) - {"time", "milliseconds"}:
        assert ours[key] == theirs[key]


def test_repr_says_what_was_found(model: Predictor, bad: NDArray[np.uint8]) -> None:
    text = repr(model.predict(bad))
    assert text == "<Prediction image 0: anomalous, score 1, normalised 1.00, 1 region>"
    assert "fake, 64 x 64, onnxruntime" in repr(model)


def test_a_prediction_can_be_pickled(model: Predictor, bad: NDArray[np.uint8]) -> None:
    found = model.predict(bad)
    again = pickle.loads(pickle.dumps(found))
    assert again.to_dict() == found.to_dict()
    np.testing.assert_array_equal(again.overlay(), found.overlay())


def test_a_threshold_of_ones_own(artifact: Path, make_image: MakeImage) -> None:
    image = make_image(120)
    with generalad.load(artifact) as usual, generalad.load(artifact, threshold=0.6) as high:
        assert usual.predict(image).is_anomalous
        assert not high.predict(image).is_anomalous
        assert not next(high.stream(image)).is_anomalous
        assert next(usual.stream(image)).is_anomalous


def test_a_missing_file(model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        model.predict(tmp_path / "none.png")


def test_a_damaged_file(model: Predictor, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"bad\.png: not an image"):
        model.predict(tmp_path / "bad.png")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3)), "image 0: expected pixels of uint8 (or uint16), found float64"),
        (np.zeros((3, 8, 8), np.uint8), "image 0: expected shape (H, W, 3) or (H, W)"),
        (np.zeros((2, 3, 8, 8), np.uint8), "expected shape (H, W, 3) or (H, W), found (3, 8, 8)"),
        (np.zeros((0, 8, 3), np.uint8), "expected at least one pixel"),
        (np.zeros((0, 8, 8, 3), np.uint8), "expected at least one image, found an empty ndarray"),
        ([], "expected at least one image, found an empty list"),
        (3, "expected an image or several, found int"),
        (None, "expected an image or several, found NoneType"),
        (b"png", "expected an image or several, found bytes"),
        ({"a": 1}, "expected an image or several, found dict"),
    ],
)
def test_what_is_no_image_is_refused_at_once(model: Predictor, given: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        model.predict(given)
    assert message in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_image(model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder") as caught:
        model.predict(tmp_path)
    assert "model.stream" in caught.value.remedy


class Sick(FakeSession):
    """A network that returns NaN for dark images."""

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        scores, maps = super().run(images)
        maps[images.max(axis=(1, 2, 3)) == 0, 0, 0] = np.nan
        return Outputs(scores, maps)


def test_a_number_that_is_not_finite(make_image: MakeImage) -> None:
    model = Predictor(Sick())
    with pytest.raises(GadError, match="image 0: the network returned a number that is not finite"):
        model.predict(make_image(0))
    good, sick = model.predict([make_image(9), make_image(0)])
    assert (good.error, sick.error) == (
        None,
        "image 1: the network returned a number that is not finite",
    )
    with pytest.raises(DataError, match="not finite"):
        _ = sick.is_anomalous


# --- many ---


def test_many_are_as_one_by_one_in_their_order(
    model: Predictor, tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    images = [make_image(20 * i, size=(30 + i, 50 - i)) for i in range(7)]
    mixed: list[Any] = list(images)
    mixed[2] = write_image(tmp_path / "2.png", images[2])
    mixed[3] = Image.fromarray(images[3])
    for size in (1, 3, 7, 8):
        found = list(model.predict(mixed, batch_size=size))
        assert [one.index for one in found] == list(range(7))
        assert [one.score for one in found] == pytest.approx(
            [model.predict(image).score for image in images]
        )
        assert [one.anomaly_map.shape for one in found] == [image.shape[:2] for image in images]


def test_an_array_of_images_and_one_of_paths(
    model: Predictor, tmp_path: Path, make_image: MakeImage, write_image: WriteImage
) -> None:
    images = np.stack([make_image(10), make_image(200)])
    paths = [write_image(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    by_array = [one.score for one in model.predict(images)]
    by_path = [one.score for one in model.predict(np.array([str(path) for path in paths]))]
    assert by_array == by_path == [model.predict(image).score for image in images]


def test_an_artifact_of_a_fixed_batch(
    tmp_path: Path, make_artifact: MakeArtifact, make_image: MakeImage
) -> None:
    images = [make_image(10 * i) for i in range(6)]
    with generalad.load(make_artifact(tmp_path, batch=4)) as model:
        found = [one.score for one in model.predict(images, batch_size=1)]
        assert found == [model.predict(image).score for image in images]


def test_images_are_taken_a_batch_at_a_time(model: Predictor, make_image: MakeImage) -> None:
    alive: list[weakref.ref[Any]] = []
    taken = 0

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            image = make_image(50).copy()
            alive.append(weakref.ref(image))
            yield image
            del image

    most = 0
    found = model.predict(images(), batch_size=4)
    assert taken == 0
    for count, one in enumerate(found, start=1):
        assert taken <= count + 3
        most = max(most, sum(ref() is not None for ref in alive))
        del one
    assert count == 40
    assert most <= 2 * 4 + 1


def test_of_files_no_image_is_kept(
    model: Predictor, tmp_path: Path, bad: NDArray[np.uint8], write_image: WriteImage
) -> None:
    path = write_image(tmp_path / "part.png", bad)
    (found,) = model.predict([path])
    path_2 = write_image(tmp_path / "part.png", bad // 2)
    assert path == path_2
    np.testing.assert_array_equal(found.image, bad // 2)  # read just now
    assert found.image is found.image
    path.unlink()
    (other,) = [one for one in model.predict([bad])]
    assert other.image is bad


def test_an_unreadable_file_among_many(
    model: Predictor, tmp_path: Path, bad: NDArray[np.uint8], write_image: WriteImage
) -> None:
    good = write_image(tmp_path / "part.png", bad)
    missing = tmp_path / "none.png"
    found = list(model.predict([good, missing, good], batch_size=2))
    assert [one.error for one in found] == [None, f"{missing}: no such file", None]
    assert [one.path for one in found] == [str(good), str(missing), str(good)]
    assert found[1].to_dict()["score"] is None
    assert "no such file" in repr(found[1])
    for ask in ("score", "normalised", "is_anomalous", "regions", "anomaly_map", "image"):
        with pytest.raises(DataError, match="no such file"):
            getattr(found[1], ask)
    with pytest.raises(DataError, match="no such file"):
        found[1].overlay()


def test_what_is_no_image_among_many_comes_after_those_before(
    model: Predictor, bad: NDArray[np.uint8]
) -> None:
    given: list[Any] = [bad, bad, bad / 255, bad]
    found = model.predict(given, batch_size=8)
    assert [next(found).index, next(found).index] == [0, 1]
    with pytest.raises(UsageError, match="image 2: expected pixels of uint8"):
        next(found)


def test_a_generator_that_raises(model: Predictor, bad: NDArray[np.uint8]) -> None:
    def images() -> Iterator[NDArray[np.uint8]]:
        yield bad
        raise KeyError("of the caller")

    found = model.predict(images())
    assert next(found).is_anomalous
    with pytest.raises(KeyError, match="of the caller"):
        next(found)


def test_an_iterator_may_end_at_once(model: Predictor) -> None:
    assert list(model.predict(iter([]))) == []


def test_a_batch_size_of_nothing(model: Predictor, bad: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="batch size must be at least 1, found 0"):
        model.predict([bad], batch_size=0)


# --- opening, closing, threads ---


def test_what_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        generalad.load(tmp_path / "no.onnx")
    with pytest.raises(ArtifactError, match="not a trained detector"):
        generalad.load(tmp_path)


def test_an_artifact_needs_no_torch(artifact: Path, bad: NDArray[np.uint8]) -> None:
    code = f"""
import sys
for name in {BLOCKED}:
    sys.modules[name] = None
import generalad
import numpy as np
with generalad.load({str(artifact)!r}) as model:
    found = model.predict(np.full((40, 50, 3), 200, np.uint8))
    assert found.is_anomalous and found.overlay().shape == (40, 50, 3)
    assert list(model.stream("test://washer?size=64&frames=3&rate=50"))
assert not [name for name in sys.modules if name.startswith("generalad.model")]
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_used_after_it_was_closed(artifact: Path, bad: NDArray[np.uint8]) -> None:
    model = generalad.load(artifact)
    waiting = model.predict([bad])
    model.close()
    model.close()
    for use in (
        lambda: model.predict(bad),
        lambda: next(waiting),
        lambda: next(model.predict([bad])),
        lambda: model.stream(bad),
    ):
        with pytest.raises(UsageError, match=r"model\.onnx is closed"):
            use()


def test_it_goes_with_the_last_reference(artifact: Path, bad: NDArray[np.uint8]) -> None:
    model = generalad.load(artifact)
    found = model.predict(bad)
    session = weakref.ref(model._session.check_open())
    gc.disable()  # it is in no circle
    try:
        del model
        assert session() is None
    finally:
        gc.enable()
    assert found.overlay().shape == (48, 64, 3)  # a prediction outlives its model


class OneAtATime(FakeSession):
    """Counts the threads that are in `run` at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = self.most = 0

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.001)
        outputs = super().run(images)
        self.inside -= 1
        return outputs


def test_several_threads_take_turns_and_get_their_own(make_image: MakeImage) -> None:
    session = OneAtATime()
    model = Predictor(session)
    images = [make_image(20, spot=20 + 20 * number) for number in range(8)]
    expected = [FakeSession().run(resize(image, (64, 64))[None]).scores[0] for image in images]
    wrong: list[Any] = []

    def work(number: int) -> None:
        for _ in range(10):
            found = model.predict(images[number])
            if found.score != expected[number] or found.image is not images[number]:
                wrong.append((number, found))
        wrong.extend(one for one in model.predict(images) if one.score != expected[one.index])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert session.most == 1


def test_close_waits_for_the_run_that_goes_on(make_image: MakeImage) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(FakeSession):
        def run(self, images: NDArray[np.uint8]) -> Outputs:
            entered.set()
            assert leave.wait(10)
            return super().run(images)

    model = Predictor(Slow())
    found: list[Prediction] = []
    run = threading.Thread(target=lambda: found.append(model.predict(make_image(9))))
    run.start()
    assert entered.wait(10)
    close = threading.Thread(target=model.close)
    close.start()
    close.join(0.05)
    assert close.is_alive()
    leave.set()
    for thread in (run, close):
        thread.join(10)
    assert [one.error for one in found] == [None]


# --- infer takes images in memory ---


def test_infer_takes_images_in_memory(artifact: Path, bad: NDArray[np.uint8]) -> None:
    results: list[generalad.runtime.Result] = []
    given: list[Any] = [bad, Image.fromarray(bad), np.stack([bad, bad // 4])]
    summary = generalad.infer(artifact, given, on_result=results.append)
    assert (summary.frames, summary.anomalous) == (4, 3)
    assert [(one.source, one.index, one.path) for one in results] == [
        ("memory", index, "") for index in range(4)
    ]
    assert generalad.infer(artifact, bad).frames == 1
    assert generalad.infer(artifact, np.stack([bad, bad])).frames == 2


def test_infer_takes_one_path(
    artifact: Path, bad: NDArray[np.uint8], tmp_path: Path, write_image: WriteImage
) -> None:
    path = write_image(tmp_path / "in" / "part.png", bad)
    for given in (path, str(path), path.parent, [path], [path.parent]):
        assert generalad.infer(artifact, given).anomalous == 1


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([np.zeros((4, 4, 3))], UsageError, "image 0: expected pixels of uint8"),
        ([np.zeros((4, 4, 3), np.uint8), 3], UsageError, "found int"),
        ([], DataError, "no images or videos given"),
    ],
)
def test_infer_refuses_what_is_no_source(
    artifact: Path, given: Any, error: type[GadError], message: str
) -> None:
    with pytest.raises(error, match=message):
        generalad.infer(artifact, given)


def test_predictions_read_with_the_one_image_path(
    model: Predictor, tmp_path: Path, bad: NDArray[np.uint8]
) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), bad.astype(np.uint16) * 257)
    path = tmp_path / "deep.png"
    np.testing.assert_array_equal(model.predict(path).image, read_image(path))


def test_the_spec_of_a_prediction_is_that_of_its_model(
    model: Predictor, bad: NDArray[np.uint8]
) -> None:
    assert model.predict(bad).spec == model.spec
