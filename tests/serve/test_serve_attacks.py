"""Attacks on a service from the network, from a page, and by somebody who can write its files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from serve_helpers import Client, form, golden_artifact, png, running
from serve_line_helpers import Scene, post, stopped, until

from generalad.errors import ArtifactError, StorageError, UsageError
from generalad.serve.audit import Audit
from generalad.serve.latest import Latest
from generalad.serve.tally import Tally

TOKEN = "a-token-of-enough-letters"
IMAGE = png(np.full((48, 64, 3), 20, np.uint8))
PREDICT = "/v1/models/model/predict"
SCRIPT = "</script><img src=x onerror=alert(1)>\"'$\\frac{"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service with a token and low bounds."""
    artifact = golden_artifact(tmp_path_factory.mktemp("attacks") / "model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAD_TOKEN", TOKEN)
        bounds: dict[str, Any] = {"max_body": 100_000, "client_timeout": 1.0, "max_in_flight": 8}
        with running(artifact, token=TOKEN, reference="${GAD_TOKEN}", **bounds) as client:
            yield client


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def said(client: Client, sent: bytes, end: bool = True) -> list[str]:
    """The status of each answer to bytes, until the service hangs up.

    Args:
        client: To send with.
        sent: Bytes.
        end: Say that nothing more comes: the service may hang up before it answers all.
    """
    with client.connect() as connection:
        try:
            connection.sendall(sent)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # hung up already
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
        except OSError:
            pass
    return [part[:3].decode() for part in found.split(b"HTTP/1.1 ")[1:]]


def head(line: str, *headers: str, token: str = TOKEN) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


HIDDEN = head("GET /v1/models")


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 4", "Content-Length: 40"),
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Content-Length: +4",),
        ("Content-Length: 0x4",),
        ("Content-Length : 4",),
        ("Content-Length: 4, 40",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity, chunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("X: y\r\n folded",),
        ("X\x00: y",),
    ],
)
def test_requests_whose_length_two_may_read_differently(
    strict: Client, headers: tuple[str, ...]
) -> None:
    request = head(f"POST {PREDICT}", *headers) + b"0\r\n\r\n"
    assert set(said(strict, request + HIDDEN, end=False)) == {"400"}


def test_chunks_in_a_version_without_them(strict: Client) -> None:
    request = head("GET /healthz", "Transfer-Encoding: chunked").replace(b"1.1", b"1.0", 1)
    assert said(strict, request + b"0\r\n\r\n" + HIDDEN, end=False) == ["400"]


def test_a_body_that_nobody_reads_is_no_request(strict: Client) -> None:
    body = HIDDEN * 3
    for line, token in ((f"POST {PREDICT}", "wrong"), ("POST /v1/nothing", TOKEN)):
        answers = said(strict, head(line, f"Content-Length: {len(body)}", token=token) + body)
        assert len(answers) == 1 and answers[0] in ("401", "404", "405"), answers


def test_floods_of_heads_chunks_and_parts(strict: Client) -> None:
    many = [f"X-{n}: {'y' * 50}" for n in range(5000)]
    assert said(strict, head("GET /healthz", *many)) in (["400"], ["431"], [])
    long = head("GET /healthz", f"X: {'y' * 600_000}")
    assert said(strict, long) in (["400"], ["431"], [])
    chunked = head(f"POST {PREDICT}", "Transfer-Encoding: chunked", "Content-Type: image/png")
    assert said(strict, chunked + b"1\r\na\r\n" * 200_000) == []
    chunks = (bytes(64) for _ in range(100))
    assert strict.ask("POST", PREDICT, chunks, Content_Type="image/png").status == 422
    assert said(strict, chunked + b"1;" + b"a" * 200_000) in (["400"], [])
    assert said(strict, chunked + b"FFFFFFFFFFFFFFFFFFFF\r\n") in (["400"], [])
    body, kind = form([("x", b"")] * 3000)
    assert (
        strict.post(PREDICT, body[:99_000] + b"\r\n--edge--\r\n", Content_Type=kind).status == 413
    )
    assert strict.predict(IMAGE).status == 200


def test_upgrades_and_methods_of_others_are_plain_requests(strict: Client) -> None:
    for more in (
        (
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"),
        ("Accept: text/event-stream",),
        ("X-HTTP-Method-Override: DELETE",),
        ("Expect: 200-ok",),
    ):
        assert said(strict, head("GET /v1/models/model", *more)) == ["200"]
    assert said(strict, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == ["400"]
    for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2"):
        assert said(strict, HIDDEN.replace(b"HTTP/1.1", version)) == ["400"]
    for method in ("TRACE", "CONNECT", "OPTIONS", "PUT", "DELETE"):
        assert strict.ask(method, "/v1/models/model").status in (400, 405)


@pytest.mark.parametrize(
    "path",
    ["/v1/models/", "/v1/models/model/", "/page/page.js/", "/v1/models/model%2Freport",
     "/v1/models%2fmodel", "/page/..%2Fserver.py", "//v1/models", "/v1/./models", "/V1/models"],
)  # fmt: skip
def test_a_path_is_what_it_looks_like(strict: Client, path: str) -> None:
    """Nothing is redirected, decoded twice or tidied, as a proxy would not see that."""
    assert strict.get(path).status == 404


def test_a_page_of_another_origin_changes_nothing(scene: Scene) -> None:
    with scene.serve() as client:
        name = stopped(scene, client)[0]["name"]
        port = client.port
        body = b'{"verdict": "good", "by": "a page"}'
        for origin in (
            "http://evil.example",
            f"http://127.0.0.1:{port + 1}",
            f"http://127.0.0.1:{port}.evil.example",
            f"http://evil.example#127.0.0.1:{port}",
            "null",
            "file://",
        ):
            for path in (f"/v1/review/{name}", "/v1/line/streams/0/threshold", "/v1/audit/1/undo"):
                for kind in ("text/plain", "application/json"):
                    answer = client.post(path, body, Origin=origin, Content_Type=kind)
                    assert answer.status == 403
        assert client.get("/v1/audit").json["entries"] == []


def test_scripts_in_all_that_an_artifact_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    scene = Scene(tmp_path)
    folder = tmp_path / "washer"
    golden_artifact(folder / "1.onnx", class_name=SCRIPT, method=SCRIPT)
    with scene.serve() as client:
        entry = stopped(scene, client)[0]
        assert post(client, f"/v1/review/{entry['name']}", verdict="good", by=SCRIPT).status == 200
        page = client.get("/v1/report").body.decode()
        assert "<img" not in page and "<script" not in page
        file = client.get("/v1/report?format=pdf")
        assert file.body.startswith(b"%PDF-") and file.headers["content-type"] == "application/pdf"
        assert client.get("/metrics").status == 200
    (kept,) = (tmp_path / "state" / "serve" / "reviewed").iterdir()
    assert kept.parent == tmp_path / "state" / "serve" / "reviewed" and "/" not in kept.name


def test_numbers_and_texts_that_are_none(scene: Scene) -> None:
    with scene.serve() as client:
        name = stopped(scene, client)[0]["name"]
        for number in ("%C2%B2", "1e3", "-1", "+1", "1_0", "%00"):
            assert client.get(f"/v1/report?hours={number}").status == 400, number
            assert client.get(f"/v1/line/streams/{number}/picture").status == 404, number
            assert post(client, f"/v1/audit/{number}/undo").status == 404, number
        path = "/v1/line/streams/0/threshold"
        for value in ("1" + "0" * 400, "1e999", "NaN", "[" * 30_000, '"\\ud800"', "{}"):
            assert client.post(path, f'{{"threshold": {value}}}'.encode()).status == 400, value[:9]
        for by in (
            b"\\ud800",
            b"\\u0000",
            b"\xed\xa0\x80",
            b"\\u202egpj.exe",
            b"=cmd|' /C calc'!A0",
        ):
            body = b'{"acknowledged": true, "by": "' + by + b'"}'
            assert client.post(f"/v1/review/{name}", body).status in (200, 400)
            client.post(f"/v1/review/{name}", b'{"acknowledged": false}')
        for shown in ("/v1/audit", "/v1/audit.csv", "/v1/report"):
            assert client.get(shown).status == 200
        assert ",=cmd" not in client.get("/v1/audit.csv").body.decode()


@pytest.mark.parametrize("name", ["../1.onnx", "..%2f1.onnx", "/etc/passwd", "1.html", ".serving"])
def test_reports_are_those_of_versions(tmp_path: Path, name: str) -> None:
    golden_artifact(tmp_path / "washer" / "1.onnx")
    (tmp_path / "1.html").write_text("secret")
    with running(tmp_path / "washer") as client:
        path = "/v1/models/washer/report"
        assert client.get("/v1/models/washer").json["reports"] == []
        assert client.get(path).status == client.get(f"{path}?version={name}").status == 404
        (tmp_path / "washer" / "1.html").write_text("<html>the report</html>")
        assert client.get("/v1/models/washer").json["reports"] == ["1.onnx"]
        assert client.get(path).body == b"<html>the report</html>"
        assert client.get(f"{path}?version={name}").status == 404


def test_links_and_forgeries_in_the_state_folder(scene: Scene) -> None:
    secret = scene.folder / "secret"
    secret.write_text("the secret\nnot whole")
    state = scene.folder / "state" / "serve"
    with scene.serve() as client:
        entry = stopped(scene, client)[0]
        place = state / "review" / entry["name"]
        (place / "image.png").unlink()
        (place / "image.png").symlink_to(secret)
        (place / "overlay.jpg").unlink()
        os.mkfifo(place / "overlay.jpg")
        for path in ("image", "overlay"):
            assert client.get(f"/v1/review/{entry['name']}/{path}").status == 404
        assert post(client, f"/v1/review/{entry['name']}", verdict="good").status == 507
        assert client.get("/v1/audit").json["entries"] == []
    for number, forged in enumerate(("[]", "{}", '{"name": 1}', "[" * 100_000, json.dumps(
        {**entry, "name": "other"}), json.dumps({**entry, "time": "soon"}))):  # fmt: skip
        folder = state / "review" / f"20260101T000000.{number:03}Z-event-000000001-x"
        folder.mkdir()
        (folder / "entry.json").write_text(forged)
    with scene.serve() as client:
        assert [one["name"] for one in client.get("/v1/review").json["entries"]] == [entry["name"]]
        assert client.get("/v1/report").status == 200
    (state / "audit.jsonl").unlink()
    (state / "audit.jsonl").symlink_to(secret)
    with pytest.raises(UsageError, match="found a link"), scene.serve():
        pass
    (state / "audit.jsonl").unlink()
    (state / "audit.jsonl").hardlink_to(secret)  # which is no trail: nothing of it is cut off
    with pytest.raises(ArtifactError, match="is not what was written"), scene.serve():
        pass
    assert secret.read_text() == "the secret\nnot whole"


def test_two_services_on_one_state_folder(scene: Scene) -> None:
    with scene.serve() as client:
        with pytest.raises(UsageError, match="another process"), scene.serve():
            pass
        until(lambda: client.get("/readyz").status == 200)
        stopped(scene, client)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="not of POSIX")
    audit = Audit(tmp_path / "audit.jsonl")
    audit.add("verdict", "first", after="good")
    size = (tmp_path / "audit.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for room in (1, 100):  # the rest of the line does not fit
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, before[1]))
            with pytest.raises(StorageError, match=r"audit\.jsonl"):
                audit.add("verdict", "second", after="good")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    audit.add("verdict", "third", after="good")
    audit.close()
    again = Audit(tmp_path / "audit.jsonl")
    assert [entry["subject"] for entry in again.entries()] == ["third", "first"]
    again.close()


def test_what_cannot_be_written_down_is_not_done(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise StorageError("cannot write audit.jsonl: the disk is full", remedy="free some space")

    with scene.serve() as client:
        name = stopped(scene, client)[0]["name"]
        with monkeypatch.context() as patch:
            patch.setattr(Audit, "add", full)
            assert post(client, f"/v1/review/{name}", verdict="good").status == 507
            assert post(client, f"/v1/review/{name}", acknowledged=True).status == 507
            assert post(client, "/v1/line/streams/0/threshold", threshold=0.9).status == 507
        state = scene.folder / "state" / "serve"
        assert not list((state / "reviewed").rglob("*.png*"))
        assert not (state / "thresholds.json").exists()
        assert client.get("/v1/line").json["streams"][0]["threshold"] == 0.25
        assert client.get("/v1/review").json["entries"][0]["verdict"] is None


def test_a_clock_that_is_set_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with scene.serve() as client:
        name = stopped(scene, client)[0]["name"]
        post(client, f"/v1/review/{name}", verdict="good")
        now = time.time()
        monkeypatch.setattr("generalad.serve.line_routes.time.time", lambda: now - 7 * 86400)
        page = client.get("/v1/report?hours=24").body.decode()
        assert "<dt>images</dt><dd>0</dd>" in page  # those of next week are not of this day
        assert "<dt>false alarms</dt><dd>0</dd>" in page
        assert name in page  # but no decision is left out
        assert client.post("/v1/audit/1/undo", b"{}").status == 200
    audit = Audit(scene.folder / "state" / "serve" / "audit.jsonl")
    assert [entry["number"] for entry in audit.entries()] == [2, 1]
    audit.close()


def test_a_trail_that_kill_tears_is_whole_again(tmp_path: Path) -> None:
    """Killed in the middle of writing, again and again: what was answered is there."""
    path, code = tmp_path / "audit.jsonl", (
        "import sys\nfrom pathlib import Path\nfrom generalad.serve.audit import Audit\n"
        "audit = Audit(Path(sys.argv[1]))\n"
        "while True:\n"
        "    print(audit.add('verdict', 'x' * 5000, after='good')['number'], flush=True)\n"
    )  # fmt: skip
    known = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(20):
            known = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        known = int(rest.split()[-1]) if rest.split() else known
        with path.open("ab") as file:
            file.write(b'{"number": 1, "torn')
    audit = Audit(path)
    assert audit.entries()[0]["number"] >= known
    audit.close()


def test_a_tally_of_nonsense_is_put_aside(tmp_path: Path) -> None:
    for text in ('[["x", 1, 2, 3]]', "{", "[1]", '[[1e999, "a", "images", 1]]'):
        file = tmp_path / "tally.json"
        file.write_text(text)
        told: list[str] = []
        Tally(file, Latest(), log=told.append).close()
        assert "damaged" in told[0]


def test_a_version_that_is_exchanged_after_its_signature_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from signature_helpers import Keys

    from generalad.runtime.backends import signature

    keys = Keys(tmp_path)
    artifact = golden_artifact(tmp_path / "washer" / "1.onnx")
    signature.sign(artifact, keys.private)
    other = golden_artifact(tmp_path / "other.onnx", method="another")
    monkeypatch.setenv("GAD_VERIFY_KEY", str(keys.public))
    with running(tmp_path / "washer"):
        pass
    verify = signature.verify

    def slow(path: Any, key: Any) -> Any:
        found = verify(path, key)
        Path(path).write_bytes(other.read_bytes())  # between the check and loading
        return found

    monkeypatch.setattr(signature, "verify", slow)
    with pytest.raises(ArtifactError, match="is not what was signed"), running(tmp_path / "washer"):
        pass


def test_wrong_tokens_of_all_kinds(strict: Client) -> None:
    for token in ("", TOKEN[:-1], TOKEN + "a", TOKEN.upper(), "\xff" * 30, "a" * 50_000):
        answers = said(strict, head("GET /v1/models", token=token))
        assert answers == ["401"], token[:40]
    twice = head("GET /v1/models", "Authorization: Bearer wrong")
    assert said(strict, twice) in (["200"], ["401"])  # the first counts, wherever it is read
