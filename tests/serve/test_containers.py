"""The containers' files: what they start exists, and the dashboard shows metrics that there are."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
from serve_helpers import golden_artifact
from stream_helpers import STREAM

from generalad.cli.commands import load
from generalad.cli.options import parameters
from generalad.cli.parser import parse
from generalad.runtime.line import metrics_server
from generalad.runtime.view import View
from generalad.serve.metrics import families
from generalad.serve.models import Models
from generalad.serve.settings import Settings

FOLDER = Path(__file__).parents[2] / "containers"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="runs from a checkout only")


def test_the_dashboard_asks_for_metrics_that_there_are(tmp_path: Path) -> None:
    view = View((STREAM._replace(dropped={"newer frame": 1}),), (), {}, 1.0, 0.0, "backend")
    models = Models([golden_artifact(tmp_path / "model.onnx")], Settings(threads=1))
    (model,) = models
    model.count(None, 0.0)
    served = families(models, Counter({("/healthz", 200): 1}), 0)
    text = metrics_server.exposition([*served, *metrics_server.families(view)]).decode()
    models.close()
    known = set(re.findall(r"^(gad_\w+)", text, re.MULTILINE))
    board = json.loads((FOLDER / "grafana" / "dashboards" / "gad.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"gad_\w+", target["expr"])
    }
    assert len(asked) >= 10
    assert asked - known <= {"gad_model_latency_seconds"}  # once something was answered


@pytest.mark.parametrize("name", ["cpu", "cuda", "jetson"])
def test_an_image_starts_what_there_is_and_not_as_root(name: str) -> None:
    text = (FOLDER / f"{name}.Dockerfile").read_text()
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    command = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[0])
    check_serve(command)
    assert "HEALTHCHECK" in text


def test_the_compose_file_starts_what_there_is() -> None:
    found = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert set(found["services"]) == {"gad", "mosquitto", "prometheus", "grafana"}
    check_serve([word.replace("$$", "$") for word in found["services"]["gad"]["command"]])
    mounted = [
        volume.split(":")[0]
        for service in found["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./containers")
    ]
    assert mounted
    assert all((FOLDER.parent / place).exists() for place in mounted)
    for file in FOLDER.rglob("*.yaml"):
        assert yaml.safe_load(file.read_text())


def check_serve(command: list[str]) -> None:
    """The words are those of `gad serve`."""
    assert command[0] == "serve"
    values = parse("serve", parameters(load("serve")), command[1:])
    assert values is not None
    assert values["token"] == "${file:/run/secrets/gad_token}"
