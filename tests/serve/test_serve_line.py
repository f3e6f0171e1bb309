"""A line beside the models: streams, thresholds, review, trail and report over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import Client, golden_artifact, running
from serve_line_helpers import NAME, Scene, post, stopped, until

from generalad.data.dataset import open_dataset
from generalad.errors import UsageError


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def client(scene: Scene) -> Iterator[Client]:
    with scene.serve() as found:
        yield found


def test_streams_are_shown(scene: Scene, client: Client) -> None:
    scene.part(20)
    line = until(lambda: (s := client.get("/v1/line").json)["streams"] and s)
    line = until(lambda: (s := client.get("/v1/line").json)["streams"][0]["scores"] and s)
    (stream,) = line["streams"]
    assert (stream["name"], stream["state"], stream["threshold"]) == (NAME, "live", 0.25)
    picture = client.get("/v1/line/streams/0/picture?overlay=0")
    image = cv2.imdecode(np.frombuffer(picture.body, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (64, 64, 3)
    for wrong in ("1", "-1", "x", "0x0", "9" * 30):
        assert client.get(f"/v1/line/streams/{wrong}/picture").status == 404
    assert 'gad_frames_processed_total{stream="' in client.get("/metrics").body.decode()
    assert client.get("/readyz").status == 200


def test_a_threshold_holds_from_the_next_image_and_after_a_restart(scene: Scene) -> None:
    def last(client: Client, count: int) -> Any:
        streams = client.get("/v1/line").json["streams"]  # none before the run has begun
        scores = streams[0]["scores"] if streams else []
        return scores[-1] if len(scores) == count else None

    with scene.serve() as client:
        path = "/v1/line/streams/0/threshold"
        scene.part(100)
        assert until(lambda: last(client, 1))[2] is True
        assert post(client, path, threshold=0.9).json["streams"][0]["threshold"] == 0.9
        scene.part(100)
        assert until(lambda: last(client, 2))[2] is False
        for wrong in ("1", True, 1e999, [1]):
            assert post(client, path, threshold=wrong).status == 400
    with scene.serve() as client:
        scene.part(100)
        assert until(lambda: last(client, 1))[2] is False
        undone = post(client, "/v1/audit/1/undo").json["entries"]
        assert [(entry["what"], entry["undoes"]) for entry in undone] == [
            ("threshold", 1),
            ("threshold", None),
        ]
        assert client.get("/v1/line").json["streams"][0]["threshold"] == 0.25


def test_verdicts_become_folders_that_calibrate_and_eval_take(scene: Scene, client: Client) -> None:
    first, second = (entry["name"] for entry in stopped(scene, client, 2))
    folder = scene.folder / "state" / "serve" / "reviewed" / "fake"
    good, defective = folder / "train" / "good", folder / "test" / "defective"
    answer = post(client, f"/v1/review/{first}", verdict="good", acknowledged=True)
    assert (answer.json["verdict"], answer.json["acknowledged"]) == ("good", True)
    post(client, f"/v1/review/{second}", verdict="defective")
    assert [path.stem for path in good.iterdir()] == [first]
    assert [path.stem for path in defective.iterdir()] == [second]
    image = client.get(f"/v1/review/{first}/image").body
    assert (good / f"{first}.png").read_bytes() == image
    assert client.get(f"/v1/review/{first}/overlay").headers["content-type"] == "image/jpeg"
    assert len(open_dataset(folder).train) == 1
    # Changed, and undone again.
    post(client, f"/v1/review/{first}", verdict="defective")
    assert not list(good.iterdir())
    assert post(client, "/v1/audit/4/undo").status == 200
    assert [path.stem for path in good.iterdir()] == [first]
    assert post(client, "/v1/audit/3/undo").status == 200
    assert not list(defective.iterdir())
    assert [entry["by"] for entry in client.get("/v1/audit").json["entries"]] == ["Shift A"] * 6
    assert client.get("/v1/audit.csv").body.decode().count("Shift A") == 6


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e%2fstate", "a/b", "\\..\\x"])
def test_names_are_compared_and_never_opened(client: Client, name: str) -> None:
    for path in (f"/v1/review/{name}/image", f"/v1/review/{name}/overlay"):
        assert client.get(path).status == 404
    assert post(client, f"/v1/review/{name}", verdict="good").status == 404


def test_what_cannot_be_decided_is_told(scene: Scene, client: Client) -> None:
    name = stopped(scene, client)[0]["name"]
    path = f"/v1/review/{name}"
    assert post(client, path, verdict="maybe").status == 400
    assert post(client, path, acknowledged="yes").status == 400
    assert post(client, path, verdict="good", by="x" * 81).status == 400
    assert post(client, "/v1/audit/9/undo").status == 409
    assert client.get("/v1/report?hours=0").status == 400
    assert client.get("/v1/audit").json["entries"] == []


def test_a_version_that_misses_confirmed_defects_is_refused(scene: Scene, client: Client) -> None:
    name = stopped(scene, client)[0]["name"]
    post(client, f"/v1/review/{name}", verdict="defective")
    from generalad.spec import Thresholds

    blind = Thresholds(image=0.99, pixel=0.99)
    golden_artifact(scene.folder / "washer" / "2.onnx", thresholds=blind)
    golden_artifact(scene.folder / "washer" / "3.onnx")
    refused = post(client, "/v1/models/washer/swap", version="2.onnx")
    assert refused.status == 422
    assert "1 of 1 confirmed defects would be missed" in refused.json["error"]
    assert post(client, "/v1/models/washer/swap", version="3.onnx").status == 200
    assert post(client, "/v1/models/washer/rollback").json["version"] == "1.onnx"
    entries = client.get("/v1/audit").json["entries"]
    assert [(one["what"], one["before"], one["after"]) for one in entries[:2]] == [
        ("rollback", "3.onnx", "1.onnx"),
        ("swap", "1.onnx", "3.onnx"),
    ]
    stopped(scene, client)  # the line goes on


def test_the_report_counts_and_escapes(scene: Scene, client: Client) -> None:
    names = [entry["name"] for entry in stopped(scene, client, 2)]
    post(client, f"/v1/review/{names[0]}", verdict="good", by="<b>A</b>")
    page = client.get("/v1/report?hours=8").body.decode()
    assert "<td>2</td>" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<dt>false alarms</dt><dd>1</dd>" in page
    post(client, "/v1/line/streams/0/threshold", threshold=0.123456789)
    post(client, "/v1/audit/1/undo")
    page = client.get("/v1/report?hours=8").body.decode()
    assert "<td>0.1235</td>" in page
    assert "<td>undo of verdict</td>" in page
    assert "<dt>false alarms</dt><dd>0</dd>" in page


def test_without_a_line_it_is_said(tmp_path: Path) -> None:
    with running(golden_artifact(tmp_path / "model.onnx")) as client:
        for path in ("/v1/line", "/v1/review", "/v1/audit", "/v1/audit.csv", "/v1/report"):
            assert client.get(path).status == 404
        assert post(client, "/v1/review/x", verdict="good").status == 404


def test_a_line_that_cannot_be_is_told_at_the_start(scene: Scene) -> None:
    (scene.folder / "line.toml").write_text('artifact = "washer/1.onnx"\nstate = "state"\n')
    with pytest.raises(UsageError, match=r"no \[\[stream\]\]"), scene.serve():
        pass
    assert not (scene.folder / "state").exists()
