"""Two who decide at once: nothing is in two places, and the trail says what was done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import golden_artifact
from serve_line_helpers import NAME, Scene, post, stopped, until

from generalad.serve.audit import Audit
from generalad.serve.line_run import LineRun
from generalad.spec import Thresholds


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_two_verdicts_at_once_leave_one_image(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, add = threading.Barrier(2), Audit.add

    def meet(audit: Audit, what: str, subject: str, **said: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.3)  # the other one does not come as far
        return add(audit, what, subject, **said)

    with scene.serve() as client:
        name = stopped(scene, client)[0]["name"]
        monkeypatch.setattr(Audit, "add", meet)
        threads = [
            threading.Thread(target=post, args=(client, f"/v1/review/{name}"), kwargs=said)
            for said in ({"verdict": "good"}, {"verdict": "defective"})
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (image,) = (scene.folder / "state" / "serve" / "reviewed").rglob("*.png")
        second, first = client.get("/v1/audit").json["entries"]
        verdict = client.get("/v1/review").json["entries"][0]["verdict"]
    assert first["before"] is None and first["after"] == second["before"]
    assert second["after"] == verdict == image.parent.name


def test_a_rollback_while_a_swap_is_written_down(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden_artifact(scene.folder / "washer" / "2.onnx", thresholds=Thresholds(0.3, 0.3))
    add, met = Audit.add, list[int]()
    with scene.serve() as client:
        stopped(scene, client)
        post(client, "/v1/line/streams/0/threshold", threshold=0.9)

        def add_slowly(audit: Audit, what: str, subject: str, **said: Any) -> Any:
            if what == "swap":
                met.append(post(client, "/v1/models/washer/rollback").status)
                met.append(post(client, "/v1/models/washer/swap", version="1.onnx").status)
            return add(audit, what, subject, **said)

        monkeypatch.setattr(Audit, "add", add_slowly)
        assert post(client, "/v1/models/washer/swap", version="1.onnx").json["version"] == "1.onnx"
        monkeypatch.setattr(Audit, "add", add)
        assert met == [409, 409]
        swap = client.get("/v1/audit").json["entries"][0]
        assert (swap["before"], swap["after"]) == ("2.onnx", "1.onnx")


def test_a_threshold_is_one_of_the_version_that_it_was_set_for(scene: Scene) -> None:
    with scene.serve() as client:
        stopped(scene, client)
        post(client, "/v1/line/streams/0/threshold", threshold=0.9)
        golden_artifact(scene.folder / "washer" / "2.onnx", thresholds=Thresholds(0.3, 0.3))
        assert post(client, "/v1/models/washer/swap", version="2.onnx").status == 200
        until(lambda: client.get("/v1/audit").json["entries"][0]["what"] == "threshold")
        stream = client.get("/v1/line").json["streams"][0]
        assert stream["threshold"] == stream["usual_threshold"] == 0.3
        entry = client.get("/v1/audit").json["entries"][0]
        assert (entry["by"], entry["subject"], entry["after"]) == ("exchange", NAME, None)
        assert post(client, "/v1/models/washer/rollback").status == 200
        assert client.get("/v1/line").json["streams"][0]["threshold"] == 0.25
        post(client, "/v1/line/streams/0/threshold", threshold=0.8)
    (scene.folder / "washer" / ".serving").unlink()  # so another version serves at the next start
    with scene.serve() as client:
        stream = until(lambda: client.get("/v1/line").json["streams"])[0]
        assert stream["threshold"] == stream["usual_threshold"] == 0.3


def test_a_threshold_set_before_the_run_has_noticed_an_exchange(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden_artifact(scene.folder / "washer" / "2.onnx", thresholds=Thresholds(0.3, 0.3))
    with scene.serve() as client:
        stopped(scene, client)
        monkeypatch.setattr(LineRun, "restart", lambda _run: None)
        assert post(client, "/v1/models/washer/swap", version="1.onnx").status == 200
        post(client, "/v1/line/streams/0/threshold", threshold=0.8)
        monkeypatch.undo()
    kept = json.loads((scene.folder / "state/serve/thresholds.json").read_text(encoding="utf-8"))
    content = (scene.folder / "washer" / "1.onnx").read_bytes()
    assert kept == {"version": hashlib.sha256(content).hexdigest(), "thresholds": {NAME: 0.8}}


def test_an_exchange_is_undone_once(scene: Scene) -> None:
    golden_artifact(scene.folder / "washer" / "2.onnx")
    with scene.serve() as client:
        for _ in range(2):
            assert post(client, "/v1/models/washer/swap", version="1.onnx").status == 200
        assert post(client, "/v1/models/washer/rollback").status == 200
        assert post(client, "/v1/audit/2/undo").status == 409  # the rollback is newer
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: statuses.append(post(client, "/v1/audit/3/undo").status)
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 409, 409]
        assert len(client.get("/v1/audit").json["entries"]) == 4
