"""`gad calibrate`, from images to a new artifact, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import MakeArtifact, MakeSpec, WriteImage, WriteVideo
from image_helpers import Image, part, pixels, reference_of
from training_helpers import start

from generalad.calibration import conformal_rank
from generalad.errors import DataError, StorageError, UsageError
from generalad.files import sha256_of_file
from generalad.preprocess import read_image
from generalad.runtime import open_session
from generalad.runtime.artifact_copy import check_copy
from generalad.runtime.recalibrate import LEAST, SOURCE, recalibrate

SIZE = (64, 64)


def good(count: int, *, seed: int = 0, light: float = 1.0) -> list[Image]:
    rng = np.random.default_rng(seed)
    return [part(rng, size=SIZE, light=light) for _ in range(count)]


def put(folder: Path, images: list[Image], write_image: WriteImage) -> Path:
    for index, image in enumerate(images):
        write_image(folder / f"{index:03d}.png", image)
    return folder


@pytest.fixture
def folder(tmp_path: Path, write_image: WriteImage) -> Path:
    """30 good images."""
    return put(tmp_path / "good", good(30), write_image)


@pytest.fixture
def artifact(tmp_path: Path, make_artifact: MakeArtifact) -> Path:
    """Its score is the brightest spot; the threshold is so low that all parts are anomalous."""
    known = reference_of(good(20, seed=1), image_size=SIZE)
    return make_artifact(tmp_path, reference=known)


def gad(*words: object, answer: str = "") -> tuple[int, str, str]:
    process = start([str(word) for word in words])
    out, err = process.communicate(answer)
    return process.returncode, out, err


def test_a_new_artifact_that_calls_good_parts_good(
    tmp_path: Path, folder: Path, artifact: Path
) -> None:
    before, new = sha256_of_file(artifact), tmp_path / "new.onnx"
    code, out, err = gad("calibrate", artifact, folder, "--out", new, "--target", 0.05, "--yes")
    assert code == 0, err
    assert sha256_of_file(artifact) == before
    with open_session(artifact) as session:
        old = session.spec
    with open_session(new) as session:
        spec = session.spec
        scores = {
            path.name: float(session.run(read_image(path)[None]).scores[0])
            for path in folder.iterdir()
        }
    rank, reached = conformal_rank(30, 0.05)
    expected = np.nextafter(np.float32(sorted(scores.values())[rank - 1]), np.float32(9))
    assert spec.thresholds.image == expected != old.thresholds.image
    assert (spec.calibration.images, spec.calibration.reached) == (30, reached)
    assert SOURCE in spec.calibration.method
    assert spec.reference is not None and spec.reference.images == 30
    assert spec.reference.scores[-1] == pytest.approx(max(scores.values()), rel=1e-5)
    (entry,) = spec.provenance["recalibrations"]
    assert entry["pictures"] == 30
    assert entry["before"]["thresholds"]["image"] == old.thresholds.image
    assert entry["before"]["anomalous"] == 30
    assert str(tmp_path) not in spec.to_json(), "an artifact names no file of a machine"
    assert err.count("scoring: 30 in ") == 1
    report = json.loads(out)
    assert report["old"]["anomalous"] == 30 and report["new"]["anomalous"] <= 1
    assert [one["score"] for one in report["scores"]] == sorted(scores.values(), reverse=True)
    code, out, err = gad("infer", new, folder)
    assert code == 0 and sum(json.loads(line)["anomalous"] for line in out.splitlines()) <= 1


def test_it_shows_what_would_change_and_the_highest_scores(
    tmp_path: Path, folder: Path, artifact: Path
) -> None:
    code, _, err = gad("calibrate", artifact, folder, "--out", tmp_path / "new.onnx", "--yes")
    assert code == 0
    assert "image threshold" in err and "0.25" in err
    assert "30 (100.0%)" in err and "0 (0.0%)" in err
    assert "30 images can promise 3.23% at best, not the 1.00% asked for" not in err
    with open_session(artifact) as session:
        proposal = recalibrate(artifact, [str(folder)])
        assert proposal.old == session.spec
    assert proposal.images[0].name in err
    assert proposal.images[-1].name not in err


def test_a_rate_that_cannot_be_promised_is_said(
    tmp_path: Path, folder: Path, artifact: Path
) -> None:
    words = ("calibrate", artifact, folder, "--out", tmp_path / "n.onnx", "--yes", "--target")
    _, _, err = gad(*words, "0.01")
    assert "30 images can promise 3.23% at best, not the 1.00% asked for" in err


def test_few_images_move_the_old_threshold_along(
    tmp_path: Path, write_image: WriteImage, make_artifact: MakeArtifact
) -> None:
    """Good images of another lamp: all scores move, and the threshold with them."""
    known = reference_of(good(20, seed=1), image_size=SIZE)
    artifact = make_artifact(tmp_path, reference=known)
    with open_session(artifact) as session:
        old = session.spec
    few = put(tmp_path / "few", good(8, seed=5, light=1.05), write_image)
    proposal = recalibrate(artifact, [str(few)])
    scores = sorted(one.score for one in proposal.images)
    assert old.reference is not None and proposal.shift is not None
    middle = old.reference.scores[len(old.reference.scores) // 2]
    assert proposal.shift == pytest.approx(np.median(scores) - middle)
    assert proposal.new.thresholds.image == pytest.approx(
        max(scores[-1], old.thresholds.image + proposal.shift), rel=1e-5
    )
    enough = recalibrate(artifact, [str(few)], target=0.2)
    assert enough.new.thresholds.image == pytest.approx(scores[-1], rel=1e-6)


def test_one_odd_image_of_forty_does_not_set_the_threshold(
    tmp_path: Path, write_image: WriteImage, make_artifact: MakeArtifact
) -> None:
    """40 images are too few for 1 %; at 5 % the largest of them is left above."""
    known = reference_of(good(20, seed=1), image_size=SIZE)
    images = good(39, seed=6)
    odd = images[0].copy()
    odd[20:24, 20:24] = 255
    many = put(tmp_path / "many", [*images, odd], write_image)
    artifact = make_artifact(tmp_path, reference=known)
    proposal = recalibrate(artifact, [str(many)], target=0.01)
    assert proposal.anomalous(proposal.new) == 1
    assert proposal.images[0].score > proposal.new.thresholds.image
    found = proposal.new.calibration
    assert found.reached == conformal_rank(40, 0.05)[1] > 1 / 41
    assert found.target == 0.01


def test_without_a_reference_only_the_images_count(
    tmp_path: Path, folder: Path, make_artifact: MakeArtifact
) -> None:
    proposal = recalibrate(make_artifact(tmp_path, reference=None), [str(folder)])
    assert proposal.shift is None
    highest = max(one.score for one in proposal.images)
    assert proposal.new.thresholds.image == pytest.approx(highest, rel=1e-6)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_on_a_terminal_it_asks(
    tmp_path: Path, folder: Path, artifact: Path, answer: str, code: int
) -> None:
    new, (ours, theirs) = tmp_path / "new.onnx", os.openpty()
    os.write(ours, answer.encode())
    try:
        done = subprocess.run(
            [sys.executable, "-m", "generalad", "calibrate", artifact, folder, "--out", new],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "Do all images show good parts?" in done.stderr
    assert new.exists() is (code == 0)
    assert ("nothing was written" in done.stderr) is (code == 1)


def test_elsewhere_somebody_must_say_so(tmp_path: Path, folder: Path, artifact: Path) -> None:
    code, _, err = gad("calibrate", artifact, folder, "--out", tmp_path / "new.onnx")
    assert code == 2
    assert "then give --yes" in err
    assert not (tmp_path / "new.onnx").exists()


def test_broken_images_and_camera_faults_are_refused_with_a_list(
    tmp_path: Path, folder: Path, artifact: Path, write_image: WriteImage
) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    write_image(folder / "dark.png", np.zeros((*SIZE, 3), np.uint8))
    write_image(folder / "wide.png", np.concatenate(good(2, seed=9), axis=1))
    code, _, err = gad("calibrate", artifact, folder, "--out", tmp_path / "new.onnx", "--yes")
    assert code == 1
    assert "3 images cannot be calibrated on" in err
    assert "broken.png" in err and "dark.png: black" in err and "wide.png: size" in err
    assert "Traceback" not in err
    assert not (tmp_path / "new.onnx").exists()


def test_a_long_list_is_cut(tmp_path: Path, artifact: Path) -> None:
    for index in range(50):
        (tmp_path / f"{index:02d}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="50 images") as caught:
        recalibrate(artifact, [str(tmp_path)])
    assert "and 30 more" in str(caught.value)


def test_copies_count_once(
    tmp_path: Path, folder: Path, artifact: Path, write_image: WriteImage
) -> None:
    put(tmp_path / "again", good(30), write_image)
    proposal = recalibrate(artifact, [str(folder), str(tmp_path / "again")])
    assert (len(proposal.images), proposal.copies) == (30, 30)
    assert proposal.new.calibration.images == 30
    few = put(tmp_path / "few", good(1) * 40, write_image)
    with pytest.raises(DataError, match=f"at least {LEAST} different images, found 1 and 39"):
        recalibrate(artifact, [str(few)])


def test_frames_of_a_video(tmp_path: Path, artifact: Path, write_video: WriteVideo) -> None:
    video = write_video(tmp_path / "line.avi", good(25))
    proposal = recalibrate(artifact, [str(video)])
    assert len(proposal.images) == 25
    assert proposal.images[0].name.startswith(f"{video}, frame ")


def test_twice_remembers_both(tmp_path: Path, folder: Path, artifact: Path) -> None:
    first = recalibrate(artifact, [str(folder)]).write(tmp_path / "1.onnx")
    second = recalibrate(first, [str(folder)]).write(tmp_path / "2.onnx")
    with open_session(first) as one, open_session(second) as other:
        assert one.spec.thresholds == other.spec.thresholds
        entries = other.spec.provenance["recalibrations"]
        assert [entry["before"]["anomalous"] for entry in entries] == [30, 0]
        assert "recalibrations" not in open_provenance(artifact)


def open_provenance(path: Path) -> dict[str, object]:
    with open_session(path) as session:
        return session.spec.provenance


def test_the_light_of_today_makes_the_reference_of_tomorrow(
    tmp_path: Path, artifact: Path, write_image: WriteImage
) -> None:
    brighter = put(tmp_path / "bright", good(30, seed=4, light=1.25), write_image)
    new = recalibrate(artifact, [str(brighter)]).new.reference
    assert new is not None
    with open_session(artifact) as session:
        old = session.spec.reference
    assert old is not None
    assert new.statistics["brightness"][0] > old.statistics["brightness"][-1]


def test_an_artifact_without_a_reference_gets_one(
    tmp_path: Path, make_artifact: MakeArtifact, write_image: WriteImage
) -> None:
    dim = put(tmp_path / "dim", [pixels(one * 0.4) for one in good(30)], write_image)
    proposal = recalibrate(make_artifact(tmp_path), [str(dim)])
    assert proposal.old.reference is None
    assert proposal.new.reference is not None


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, float("nan")])
def test_a_target_that_is_no_rate(folder: Path, artifact: Path, target: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        recalibrate(artifact, [str(folder)], target=target)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("none.onnx", "good", "--out", "new.onnx"), 1, "no such file"),
        (("good", "good", "--out", "new.onnx"), 1, "is a folder"),
        (("model.onnx", "none", "--out", "new.onnx"), 1, "no such file or folder"),
        (("model.onnx", "good", "--out", "model.onnx"), 2, "exists already"),
        (("model.onnx", "good", "--out", "new.xml"), 2, "ends in .onnx"),
        (("model.onnx", "good"), 2, "--out"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, folder: Path, artifact: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    places = [tmp_path / word if not word.startswith("--") else word for word in words]
    before = sorted(path.name for path in tmp_path.iterdir())
    found, _, err = gad("calibrate", *places, "--yes")
    assert (found, "Traceback" in err) == (code, False), err
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def with_spots(images: list[Image], level: int = 250) -> list[Image]:
    """Defects that the artifact, whose score is the brightest spot, sees."""
    for image in images:
        image[20:30, 20:30] = level
    return images


def test_defects_among_the_confirmed_are_warned_of(
    tmp_path: Path, folder: Path, artifact: Path, write_image: WriteImage
) -> None:
    put(tmp_path / "defects", with_spots(good(3, seed=8)), write_image)
    clean = recalibrate(artifact, [str(folder)], target=0.1)
    assert clean.apart == () and clean.without_apart is None
    proposal = recalibrate(artifact, [str(folder), str(tmp_path / "defects")], target=0.1)
    assert {Path(one.name).parent.name for one in proposal.apart} == {"defects"}
    assert len(proposal.apart) == 3
    assert proposal.without_apart == pytest.approx(clean.new.thresholds.image)
    words = ("calibrate", artifact, folder, tmp_path / "defects", "--out", tmp_path / "n.onnx")
    code, out, err = gad(*words, "--yes")
    assert code == 0 and "warning: 3 images (" in err and "far above the others" in err
    assert f"3 images ({tmp_path}/defects/00" in err and "called by a word for defects" in err
    assert len(json.loads(out)["apart"]) == 3


def test_images_that_were_learned_from_are_known_again(
    tmp_path: Path, folder: Path, make_artifact: MakeArtifact, make_spec: MakeSpec
) -> None:
    known = sorted(folder.iterdir())[:4]
    old = make_spec().training_set
    learned = dataclasses.replace(old, digests=tuple(sha256_of_file(p)[:12] for p in known))
    artifact = make_artifact(tmp_path, training_set=learned)
    proposal = recalibrate(artifact, [str(folder)])
    assert proposal.learned is not None
    assert sorted(one.name for one in proposal.learned) == [str(path) for path in known]
    _, out, err = gad("calibrate", artifact, folder, "--out", tmp_path / "n.onnx", "--yes")
    assert "warning: 4 images (" in err and "learned from" in err
    assert len(json.loads(out)["learned"]) == 4


def test_an_older_artifact_cannot_tell(tmp_path: Path, folder: Path, artifact: Path) -> None:
    assert recalibrate(artifact, [str(folder)]).learned is None
    _, _, err = gad("calibrate", artifact, folder, "--out", tmp_path / "n.onnx", "--yes")
    assert "is not known" in err


def test_it_shows_what_the_new_threshold_misses(
    tmp_path: Path, folder: Path, artifact: Path, write_image: WriteImage
) -> None:
    faint = put(tmp_path / "faint", with_spots(good(5, seed=8), level=150), write_image)
    plain = put(tmp_path / "plain", with_spots(good(4, seed=9)), write_image)
    words = ("calibrate", artifact, folder, "--out", tmp_path / "n.onnx", "--yes")
    code, out, err = gad(*words, "--defects", faint, "--defects", plain)
    assert code == 0, err
    found = json.loads(out)
    high = found["new"]["image"]
    with open_session(artifact) as session:
        missed = sum(
            float(session.run(read_image(path)[None]).scores[0]) < high
            for path in (*faint.iterdir(), *plain.iterdir())
        )
    assert found["known_defects"] == {"defects": 9, "old": 0, "new": missed} and missed >= 5
    assert f"{missed} of 9" in err and "more of 9 known defects would be missed" in err
    assert found["drawn_defects"]["defects"] == 30
    assert found["drawn_defects"]["old"] == 0 < found["drawn_defects"]["new"]


def test_the_way_back(tmp_path: Path, folder: Path, artifact: Path) -> None:
    first = recalibrate(artifact, [str(folder)]).write(tmp_path / "1.onnx")
    second = recalibrate(first, [str(folder)], target=0.2).write(tmp_path / "2.onnx")
    specs = []
    for old, new in ((second, "b1.onnx"), (tmp_path / "b1.onnx", "b2.onnx")):
        code, out, err = gad("calibrate", old, "--back", "--out", tmp_path / new)
        assert code == 0, err
        with open_session(tmp_path / new) as session:
            specs.append(session.spec)
        assert json.loads(out)["new"]["image"] == specs[-1].thresholds.image
    with open_session(first) as one, open_session(artifact) as zero:
        for was, again in zip((one.spec, zero.spec), specs, strict=True):
            assert again.thresholds == was.thresholds
            assert again.calibration == was.calibration
            assert again.normalisation == was.normalisation
            assert again.reference == was.reference
    assert len(specs[1].provenance["undone"]) == 2 and not specs[1].provenance["recalibrations"]
    code, _, err = gad("calibrate", tmp_path / "b2.onnx", "--back", "--out", tmp_path / "b3.onnx")
    assert code == 2 and "there are no earlier ones" in err
    assert not (tmp_path / "b3.onnx").exists()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_what_cannot_be_written_is_said_before_scoring(
    tmp_path: Path, folder: Path, artifact: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code, _, err = gad("calibrate", artifact, folder, "--out", closed / "n.onnx", "--yes")
    assert code == 1 and "no permission" in err and "scoring" not in err


def test_a_full_disk_is_said_before_scoring(
    tmp_path: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=artifact.stat().st_size - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(StorageError, match="disk is full"):
        check_copy(artifact, tmp_path / "new.onnx")
