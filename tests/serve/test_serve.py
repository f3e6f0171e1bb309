"""What a service answers: predictions as `gad infer` gives them, models, errors, its document."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import MakeImage
from image_helpers import part, reference_of

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import DOCUMENT, Client, form, golden_artifact, png, running

import generalad
from generalad.runtime import infer
from generalad.serve import page
from generalad.serve.models import Models
from generalad.serve.service import Service, openapi
from generalad.serve.settings import Settings


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_artifact(tmp_path_factory.mktemp("serve") / "model.onnx")


@pytest.fixture(scope="module")
def client(artifact: Path) -> Iterator[Client]:
    """A service of one tiny model."""
    with running(artifact) as found:
        yield found


def test_predictions_are_those_of_infer_bit_for_bit(
    client: Client, artifact: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (40 + 9 * n, 70, 3), np.uint8) for n in range(12)]
    for number, image in enumerate(images):
        (tmp_path / f"{number:02}.png").write_bytes(png(image))
    expected: list[dict[str, Any]] = []
    infer(artifact, str(tmp_path), on_result=lambda found: expected.append(found.to_dict()))
    maps = [found.raw_map for found in generalad.load(artifact).predict(images, batch_size=1)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: client.predict(png(one), query="?map=png"), images))
    together = client.predict(*map(png, images)).json["predictions"]
    for number, answer in enumerate(answers):
        (found,) = answer.json["predictions"]
        for one in (found, together[number]):
            for field in ("score", "normalised", "anomalous", "error"):
                assert one[field] == expected[number][field]
            regions = [{**region, "box": tuple(region["box"])} for region in one["regions"]]
            assert regions == list(expected[number]["regions"])
        raw = maps[number]
        assert raw is not None
        assert np.abs(map_of(found) - raw).max() <= (raw.max() - raw.min()) / 65535
        assert found["map"]["maximum"] == raw.max()


def map_of(found: dict[str, Any]) -> Any:
    data = np.frombuffer(base64.b64decode(found["map"]["png"]), np.uint8)
    levels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    low, high = found["map"]["minimum"], found["map"]["maximum"]
    return low + np.asarray(levels, np.float64) / 65535 * (high - low)


def test_a_form_of_several_images_is_answered_in_order(
    client: Client, make_image: MakeImage
) -> None:
    good, bad = png(make_image(20)), png(make_image(250))
    answer = client.predict(good, b"no image", bad)
    assert answer.status == 200
    first, second, third = answer.json["predictions"]
    assert [first["name"], first["index"], first["anomalous"]] == ["0.png", 0, False]
    assert second["score"] is None
    assert "1.png" in second["error"]
    assert [third["index"], third["anomalous"]] == [2, True]
    assert third["regions"][0]["box"] == [0, 0, 64, 48]


def test_an_image_unlike_those_of_the_calibration_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [part(rng, size=(64, 64)) for _ in range(20)]
    known = reference_of(parts, image_size=(64, 64))
    place = golden_artifact(tmp_path / "model.onnx", reference=known)
    dark, wide = parts[0] // 5, np.hstack([parts[0], parts[1]])
    with running(place) as client:
        found = client.predict(*map(png, (parts[0], dark, wide))).json["predictions"]
        counts = client.get("/v1/models/model").json["counts"]
    assert [str(one["fault"]).split(":")[0] for one in found] == ["None", "black", "size"]
    assert all(one["score"] is not None for one in found)  # said, not refused
    assert (counts["images"], counts["failed"]) == (3, 0)


@pytest.mark.parametrize(
    "kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded"]
)
def test_a_body_may_be_an_image(client: Client, make_image: MakeImage, kind: str) -> None:
    path = "/v1/models/model/predict"
    answer = client.post(path, png(make_image(20)), Content_Type=kind)
    assert answer.status == 200
    assert answer.json["version"] == "model.onnx"


def test_requests_share_runs_of_the_network(tmp_path: Path, make_image: MakeImage) -> None:
    place = golden_artifact(tmp_path / "model.onnx")
    with running(place, batch=4, max_wait=5.0, decoders=1) as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: client.predict(png(make_image(n))), range(8)))
        together = client.predict(*(png(make_image(n)) for n in range(8)))
        model = client.get("/v1/models/model").json
    for number, answer in enumerate(answers):
        assert answer.json["predictions"][0]["score"] == np.float32(number) / np.float32(255)
    assert [found["index"] for found in together.json["predictions"]] == list(range(8))
    assert model["counts"]["images"] == 16
    assert model["counts"]["images_a_run"] > 1


def test_models_show_their_numbers(client: Client) -> None:
    (model,) = client.get("/v1/models").json["models"]
    assert model == {**client.get("/v1/models/model").json, "counts": model["counts"]}
    assert (model["name"], model["versions"]) == ("model", ["model.onnx"])
    assert "3 golden samples" in model["selftest"]


def test_health_and_metrics(client: Client, make_image: MakeImage) -> None:
    client.predict(png(make_image(250)))
    assert client.get("/healthz").json == {"status": "ok", "problems": []}
    assert client.get("/readyz").json["status"] == "ok"
    text = client.get("/metrics").body.decode()
    assert 'gad_requests_total{route="/v1/models/{model}/predict",status="200"}' in text
    assert 'gad_model_anomalous_total{model="model"}' in text
    assert "gad_images_in_flight 0.0" in text


def test_the_document_names_every_route(client: Client) -> None:
    assert client.get("/openapi.json").json == DOCUMENT == openapi()
    said = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method != "parameters"
    }
    service = Service(Models([], Settings()), Settings())
    routes = [route for route in service._routes() if route.path not in page.PATHS]
    service.close()
    assert said == {(next(iter((r.methods or set()) - {"HEAD"})), r.path) for r in routes}


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/v1/models/other/predict", b"x", "image/png", 404),
        ("/v1/models/..%2Fmodel/predict", b"x", "image/png", 404),
        ("/v1/models/model/predict?map=gif", b"x", "image/png", 400),
        ("/v1/models/model/predict", b"", "image/png", 400),
        ("/v1/models/model/predict", b"no image", "image/png", 422),
        ("/v1/models/model/predict", b"{}", "application/json", 415),
        ("/v1/models/model/predict", b"x", "multipart/form-data", 400),
        ("/v1/models/model/predict", b"--edge\r\n", "multipart/form-data; boundary=edge", 400),
        ("/v1/models/model/predict", b"x", "multipart/form-data; boundary=" + "e" * 71, 400),
        ("/v1/models/model/swap", b"{", "application/json", 400),
        ("/v1/models/model/swap", b"[" * 60000, "application/json", 400),
        ("/v1/models/model/swap", b"x" * 70000, "application/json", 413),
        ("/v1/models/model/swap", b'{"version": 1}', "application/json", 400),
        ("/v1/models/model/swap", b'{"version": "../model.onnx"}', "application/json", 404),
        ("/v1/models/model/rollback", b"", "", 409),
        ("/nothing", b"", "", 404),
        ("/healthz", b"", "", 405),
    ],
)
def test_a_wrong_request_is_told_why(
    client: Client, path: str, body: bytes, kind: str, status: int
) -> None:
    answer = client.post(path, body, Content_Type=kind)
    assert answer.status == status
    assert answer.json["error"]
    assert "\n" not in answer.json["error"]


def test_names_are_text_alone(client: Client, make_image: MakeImage) -> None:
    image = png(make_image(20))
    names = ["../../etc/passwd", "<script>alert(1)</script>.png", "ü.png", "a\tb", "C:\\x.png"]
    body, kind = form([(name, image) for name in names])
    found = client.post("/v1/models/model/predict", body, Content_Type=kind)
    assert [each["name"] for each in found.json["predictions"]][:3] == names[:3]
    assert all(each["error"] is None for each in found.json["predictions"])
    assert found.headers["content-type"] == "application/json"


def test_versions_are_exchanged_while_requests_go_on(tmp_path: Path, make_image: MakeImage) -> None:
    folder = tmp_path / "washer"
    golden_artifact(folder / "1.onnx")
    image, stop, seen = png(make_image(200)), threading.Event(), []

    def ask(client: Client) -> None:
        while not stop.is_set():
            answer = client.predict(image, model="washer")
            assert answer.status == 200, answer.body
            seen.append(answer.json["version"])

    def swap(version: str) -> Any:
        body = json.dumps({"version": version}).encode()
        return served.post("/v1/models/washer/swap", body)

    with running(folder, batch=4) as served, ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(ask, served) for _ in range(3)]
        try:
            golden_artifact(folder / "2.onnx")
            golden_artifact(folder / "3.onnx", wrong=True)
            golden_artifact(folder / "4.onnx", class_name="other")
            (folder / "5.onnx").write_bytes(b"cut off")
            golden_artifact(folder / "6.onnx", golden=())
            assert swap("2.onnx").json["version"] == "2.onnx"
            for broken in ("3.onnx", "4.onnx", "5.onnx", "6.onnx"):
                answer = swap(broken)
                assert answer.status == 422
                assert "2.onnx goes on" in answer.json["error"]
            assert swap("7.onnx").status == 404
            back = served.post("/v1/models/washer/rollback").json
            assert (back["version"], back["previous"], back["refused"]) == ("1.onnx", "2.onnx", 4)
            for version in ("2.onnx", "1.onnx", "2.onnx"):
                assert swap(version).status == 200
        finally:
            stop.set()
        for load in loads:
            load.result()
        assert served.get("/v1/models/washer").json["counts"]["images"] == len(seen)
    assert {"1.onnx", "2.onnx"} == set(seen)


def test_what_served_last_is_served_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "washer"
    for name in ("1.onnx", "2.onnx"):
        golden_artifact(folder / name)
    with running(folder) as client:
        client.post("/v1/models/washer/swap", b'{"version": "1.onnx"}')
    with running(folder) as client:
        assert client.get("/v1/models/washer").json["version"] == "1.onnx"
    (folder / "1.onnx").unlink()
    with running(folder) as client:
        assert client.get("/v1/models/washer").json["version"] == "2.onnx"


def test_the_last_version_of_a_folder_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "washer"
    for name in ("1.onnx", "2.onnx", ".3.onnx"):
        golden_artifact(folder / name)
    (folder / "notes.txt").write_text("no model")
    with running(folder, golden_artifact(tmp_path / "board.onnx")) as client:
        washer, board = client.get("/v1/models").json["models"]
    assert (washer["version"], washer["versions"]) == ("2.onnx", ["1.onnx", "2.onnx"])
    assert board["name"] == "board"
