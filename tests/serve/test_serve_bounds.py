"""What a service refuses: tokens, hosts, sizes, bombs, too much at a time, slow clients."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeImage

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import Client, form, golden_artifact, png, running
from serve_line_helpers import until

from generalad.errors import ArtifactError, GateError, UsageError
from generalad.geometry.geometry import Geometry, Tiles
from generalad.prediction import Prediction
from generalad.predictor import Predictor, Prepared
from generalad.serve.batcher import Batcher, Closed
from generalad.serve.settings import Settings, token_of

TOKEN = "a-token-of-enough-letters"
IMAGE = png(np.full((48, 64, 3), 20, np.uint8))
PREDICT = "/v1/models/model/predict"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_artifact(tmp_path_factory.mktemp("bounds") / "model.onnx")


@pytest.fixture(scope="module")
def strict(artifact: Path) -> Iterator[Client]:
    """A service with a token and low bounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAD_TOKEN", TOKEN)
        bounds: dict[str, Any] = {"max_body": 100_000, "client_timeout": 0.5, "max_in_flight": 8}
        with running(artifact, token=TOKEN, reference="${GAD_TOKEN}", **bounds) as client:
            yield client


def big_png(width: int, height: int) -> bytes:
    """A PNG whose header tells the truth, but whose rows are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong-token-of-enough-letters", f"Basic {TOKEN}"]
)
def test_without_the_token_nothing_is_said(strict: Client, authorization: str) -> None:
    for path in ("/v1/models", "/metrics", "/nothing"):
        client = Client(f"http://{strict.host}:{strict.port}")
        answer = client.get(path, **({"Authorization": authorization} if authorization else {}))
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status == 200
    assert client.get("/openapi.json").status == 200


def test_with_the_token_all_is(strict: Client) -> None:
    assert strict.get("/v1/models").status == 200
    assert strict.predict(IMAGE).status == 200


def test_what_is_said_without_a_token_is_for_this_machine(artifact: Path) -> None:
    with running(artifact) as client:
        assert client.get("/v1/models", Host="localhost:80").status == 200
        assert client.get("/v1/models", Host="[::1]:80").status == 200
        for host in ("rebound.example", "127.0.0.1.example", ""):
            assert client.get("/v1/models", Host=host).status == 403
        own, other = f"http://127.0.0.1:{client.port}", "http://evil.example"
        sent = {"Content_Type": "image/png"}
        assert client.post(PREDICT, IMAGE, Origin=own, **sent).status == 200
        assert client.post(PREDICT, IMAGE, Origin=other, **sent).status == 403
        assert client.post(PREDICT, IMAGE, Origin="null", **sent).status == 403


def test_every_answer_says_what_a_page_may_do(strict: Client) -> None:
    for answer in (strict.get("/healthz"), strict.get("/nothing"), strict.predict(b"x")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_large_body_is_refused_before_and_while_it_is_read(strict: Client) -> None:
    assert strict.predict(bytes(200_000)).status == 413
    chunks = (bytes(10_000) for _ in range(20))
    assert strict.ask("POST", PREDICT, chunks, Content_Type="image/png").status == 413
    assert strict.predict(IMAGE).status == 200


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (big_png(50_000, 50_000), "2500 megapixels"),
        (big_png(4_950, 4_950) + bytes(30_000), "this service takes 24"),
        (big_png(4_500, 4_500), "cannot hold"),
        (IMAGE[:-30], "cut off"),
        (b"GIF89a" + bytes(100), "damaged"),
        (bytes(1000), "not an image"),
    ],
)
def test_a_bomb_or_damaged_image_is_a_sentence(strict: Client, data: bytes, words: str) -> None:
    answer = strict.predict(data)
    assert answer.status == 422
    assert words in answer.json["error"]


def test_a_form_of_too_many_parts_is_refused(strict: Client) -> None:
    body, kind = form([("x", b"")] * 500)
    assert strict.post(PREDICT, body, Content_Type=kind).status == 413


def test_a_slow_body_is_answered_and_hung_up(strict: Client) -> None:
    with strict.connect() as slow:
        slow.sendall(_head(f"POST {PREDICT}", "Content-Length: 1000") + b"a")
        assert _read(slow).startswith(b"HTTP/1.1 408 ")
    assert strict.predict(IMAGE).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_slow_head_is_hung_up(strict: Client, sent: bytes) -> None:
    with strict.connect() as slow:
        began = time.monotonic()
        slow.sendall(sent)
        assert _read(slow) == b""
        assert time.monotonic() - began < 10


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the system has no poll")
def test_a_client_that_takes_no_answers_is_hung_up(strict: Client) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        slow.connect((strict.host, strict.port))
        one, number = _head("GET /openapi.json"), 500
        with contextlib.suppress(OSError):
            slow.sendall(one * number)  # until the service takes no more of it
        assert strict.predict(IMAGE).status == 200
        ended = select.poll()
        ended.register(slow, 0)  # of an end without reading what came before
        assert ended.poll(20_000)
        assert _read(slow).count(b"HTTP/1.1 200 OK") < number


def test_clients_that_wait_hold_up_no_other(artifact: Path) -> None:
    with running(artifact, max_connections=8) as client, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(client.connect()) for _ in range(20)]
        assert client.predict(IMAGE).status == 200
        assert _read(waiting[0]) == b""  # the oldest were hung up on


def _head(line: str, *headers: str) -> bytes:
    said = [f"{line} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}", *headers]
    return "\r\n".join([*said, "", ""]).encode()


def _read(connection: socket.socket) -> bytes:
    """Everything up to the end, which may be abrupt."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            found += data
    return found


class Slow:
    """A network that waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        score = Predictor.score

        def slow(predictor: Predictor, batch: Any) -> Iterator[Prediction]:
            self.began.set()
            assert self.go.wait(30)
            return score(predictor, batch)

        monkeypatch.setattr(Predictor, "score", slow)


def test_answers_are_sent_at_once() -> None:
    from generalad.serve.server import _bind

    with _bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # for which asyncio sets TCP_NODELAY


def test_too_many_in_flight_are_told_when_to_come_again(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    with running(artifact, max_in_flight=2) as client:
        answers: list[int] = []
        asking = [
            threading.Thread(target=lambda: answers.append(client.predict(IMAGE).status))
            for _ in range(2)
        ]
        for thread in asking:
            thread.start()
        until(lambda: "gad_images_in_flight 2.0" in client.get("/metrics").body.decode())
        refused = client.predict(IMAGE)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/readyz").status == 503
        assert client.get("/healthz").status == 200
        slow.go.set()
        for thread in asking:
            thread.join()
        assert answers == [200, 200]
        assert client.get("/readyz").status == 200


def test_an_answer_that_takes_too_long_is_given_up(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    with running(artifact, timeout=0.2) as client:
        late = client.predict(IMAGE)
        assert late.status == 503
        assert "retry-after" in late.headers
        slow.go.set()
        assert client.predict(IMAGE).status == 200


def test_what_nobody_waits_for_is_not_done(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with running(artifact) as client:

        def in_flight() -> str:
            text = client.get("/metrics").body.decode()
            return str(re.findall(r"^gad_images_in_flight (\S+)$", text, re.MULTILINE)[0])

        first = threading.Thread(target=lambda: client.predict(IMAGE))
        first.start()
        assert slow.began.wait(30)
        with client.connect() as gone:
            gone.sendall(_head(f"POST {PREDICT}", f"Content-Length: {len(IMAGE)}") + IMAGE)
            until(lambda: in_flight() == "2.0")
        until(lambda: in_flight() == "1.0")
        slow.go.set()
        first.join()
        assert client.get("/v1/models/model").json["counts"]["images"] == 1


def test_what_is_in_flight_at_the_end_is_answered(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, answers = Slow(monkeypatch), []
    with running(artifact) as client:
        asking = threading.Thread(target=lambda: answers.append(client.predict(IMAGE).status))
        asking.start()
        assert slow.began.wait(30)
        threading.Timer(0.3, slow.go.set).start()
    asking.join()
    assert answers == [200]


def test_a_network_that_fails_is_an_answer(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(predictor: Predictor, batch: Any) -> list[Prediction]:
        raise RuntimeError("the device\nis gone")

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "score", broken)
        with running(artifact) as client:
            assert client.predict(IMAGE).status == 500
            assert client.get("/healthz").status == 200
    assert "a request failed: the device\\nis gone\n" in capsys.readouterr().err


def test_a_batcher_scores_what_waits_and_takes_no_more(make_image: MakeImage) -> None:
    go = threading.Event()

    def score(batch: Any) -> list[Any]:
        assert go.wait(30)
        return [image.position for image in batch]

    batcher = Batcher(score, size=2, max_wait=0, name="test")
    images = [
        Prepared(n, "", None, (1, 1), np.zeros((1, 1, 3), np.uint8), 0, 0, 0) for n in range(5)
    ]
    futures = [batcher.submit(image) for image in images]
    futures[4].cancel()
    go.set()
    batcher.close()
    found: list[Any] = [future.result(0) for future in futures[:4]]
    assert found == [0, 1, 2, 3]
    assert batcher.counts().images == 4
    with pytest.raises(Closed):
        batcher.submit(images[0])


@pytest.mark.parametrize(
    ("reference", "value", "words"),
    [
        (None, "", "needs a token"),
        ("written-out-in-the-command", "", "list of processes"),
        ("${GAD_TOKEN}", "", "is not there or is empty"),
        ("${GAD_TOKEN}", "short", "at least 16"),
        ("${GAD_TOKEN}", "with a line break\n in it", "letters and digits"),
    ],
)
def test_a_token_that_protects_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, reference: str | None, value: str, words: str
) -> None:
    monkeypatch.setenv("GAD_TOKEN", value)
    with pytest.raises(UsageError, match=words):
        token_of(reference, host="0.0.0.0")


@pytest.mark.parametrize(
    "changes", [{"batch": 0}, {"max_in_flight": 0}, {"timeout": 0.0}, {"max_wait": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**changes)


def test_what_cannot_be_served_is_told_at_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(GateError, match="differs"),
        running(golden_artifact(tmp_path / "wrong.onnx", wrong=True)),
    ):
        pass
    with pytest.raises(ArtifactError, match="no such file"), running(tmp_path / "none.onnx"):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no artifact"), running(tmp_path / "empty"):
        pass
    twice = golden_artifact(tmp_path / "a.onnx"), golden_artifact(tmp_path / "b" / "a.onnx")
    with pytest.raises(UsageError, match="two models"), running(*twice):
        pass
    tiles = Geometry(tiles=Tiles(64, 0, (64, 64)))
    frames = golden_artifact(tmp_path / "frames.onnx", geometry=tiles)
    said = r"frames of 0\.0 megapixels, and --max-megapixels is 0\.004"
    with pytest.raises(UsageError, match=said), running(frames, max_megapixels=0.004):
        pass
