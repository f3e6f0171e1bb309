"""A line of one stream, whose parts come when a test says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from serve_helpers import Client, golden_artifact, png, running

NAME = "<script>alert(1)</script>"


class Scene:
    """A folder that a stream watches, and the service of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        golden_artifact(folder / "washer" / "1.onnx")
        (folder / "in").mkdir()
        (folder / "line.toml").write_text(
            'artifact = "washer/1.onnx"\nstate = "state"\n'
            f'[[stream]]\nname = "{NAME}"\nsource = "watch:in"\ncamera_faults = false\n'
        )

    def part(self, brightness: int) -> None:
        """A part comes; the tiny network's threshold is at 64."""
        self.number += 1
        image = np.full((64, 64, 3), brightness, np.uint8)
        image[:8, : self.number] = 0  # no two are equal
        (self.folder / "in" / f"{self.number:03}.png").write_bytes(png(image))

    def serve(self) -> Any:
        """Start it."""
        return running(self.folder / "washer", config=self.folder / "line.toml")


def until(ask: Callable[[], Any]) -> Any:
    """What `ask` says, once it is something."""
    end = time.monotonic() + 20
    while not (found := ask()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def post(client: Client, path: str, **body: Any) -> Any:
    return client.post(path, json.dumps({"by": "Shift A", **body}).encode())


def stopped(scene: Scene, client: Client, count: int = 1) -> list[dict[str, Any]]:
    """Entries of so many anomalous parts, each with a good one after it."""
    for _ in range(count):
        before = len(client.get("/v1/review").json["entries"])
        scene.part(250)
        scene.part(20)

        def ask(before: int = before) -> Any:
            found = client.get("/v1/review").json["entries"]
            return found if len(found) > before else None

        until(ask)
    entries: list[dict[str, Any]] = client.get("/v1/review").json["entries"]
    return entries
