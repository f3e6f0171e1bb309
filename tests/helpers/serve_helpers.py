"""A service in this process, and a client that holds every answer to the OpenAPI document."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from tiny_artifacts import tiny_artifact

from generalad.runtime.backends.fake import fake_spec
from generalad.serve.server import serve
from generalad.serve.service import openapi
from generalad.serve.settings import Settings
from generalad.spec import GoldenSample

LEVELS = (0, 51, 204)
"""Brightness of golden images; the tiny network scores brightness / 255."""

DOCUMENT = openapi()


def golden_artifact(path: Path, *, wrong: bool = False, **changes: Any) -> Path:
    """A tiny artifact with golden samples, which are `wrong` or right."""
    golden = tuple(_sample(level, 0.5 if wrong else 0.0) for level in LEVELS)
    given = {"golden": golden, "parity": {"spread": 0.5}, **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    return tiny_artifact(path, dataclasses.replace(fake_spec(), **given))


def _sample(brightness: int, off: float) -> GoldenSample:
    value = float(np.float32(brightness) / np.float32(255))
    image = np.full((64, 64, 3), brightness, np.uint8)
    return GoldenSample(base64.b64encode(png(image)).decode("ascii"), value + off, value)


def png(image: NDArray[Any]) -> bytes:
    """An RGB image as a file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return cv2.imencode(".png", bgr)[1].tobytes()


@dataclasses.dataclass
class Answer:
    """Status, headers in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Client:
    """Asks a service; what it answers is checked against the document."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self.token = token

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> Answer:
        """One request; header names have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, path, body, sent)
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            answer = Answer(found.status, names, found.read())
        finally:
            connection.close()
        check(method, path, answer)
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """See `ask`."""
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        """See `ask`."""
        return self.ask("POST", path, body, **headers)

    def predict(self, *images: bytes, model: str = "model", query: str = "") -> Answer:
        """Post images, one as the body, several as a form."""
        path = f"/v1/models/{model}/predict{query}"
        if len(images) == 1:
            return self.post(path, images[0], Content_Type="image/png")
        body, kind = form([(f"{n}.png", image) for n, image in enumerate(images)])
        return self.post(path, body, Content_Type=kind)

    def connect(self) -> socket.socket:
        """A connection for what no HTTP library sends."""
        return socket.create_connection((self.host, self.port), timeout=20)


def form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Files as multipart/form-data, and its content type."""
    parts = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="image"; filename="'
        + name.encode()
        + b'"\r\n\r\n'
        + data
        + b"\r\n"
        for name, data in files
    )
    return parts + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def check(method: str, path: str, answer: Answer) -> None:
    """Hold an answer to the document; what it does not name is an error of the router alone."""
    for template, operations in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if not re.fullmatch(pattern, path.partition("?")[0]):
            continue
        operation = operations.get(method.lower())
        if operation is None:
            assert answer.status == 405
            return
        said = operation["responses"][str(answer.status)]
        for name in said.get("headers", {}):
            assert answer.status == 409 or name.lower() in answer.headers
        kind = answer.headers["content-type"].partition(";")[0]
        schema = said["content"][kind]["schema"]
        if kind == "application/json":
            whole = {"components": DOCUMENT["components"], **schema}
            Draft202012Validator(whole).validate(answer.json)
        return
    assert answer.status in (401, 403, 404), path


@contextlib.contextmanager
def running(
    *places: Path,
    token: str | None = None,
    reference: str | None = None,
    config: Path | None = None,
    follow: str | None = None,
    serving: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Iterator[Client]:
    """A service on this machine; `serving` are options of `serve`, `changes` of `Settings`."""
    started: list[str] = []
    ready, stop = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def begun(url: str) -> None:
        started.append(url)
        ready.set()

    def work() -> None:
        try:
            serve(
                places,
                config=config,
                follow=follow,
                shadow=0.0,
                port=0,
                token=reference,
                settings=Settings(threads=1, **changes),
                stop=stop,
                on_start=begun,
                **(serving or {}),
            )
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        if failed:
            raise failed[0]
        yield Client(started[0], token)
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
