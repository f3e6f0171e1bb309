"""Images over a Ray cluster: one row each, whatever is killed, and the same rows as without."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_helpers import gad, one_line
from tiny_artifacts import tiny_artifact

import generalad
from generalad.errors import UsageError

IMAGES = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of this machine, of one processor each."""
    pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [found.add_node(num_cpus=1) for _ in range(2)]
    found.wait_for_nodes()
    import ray

    ray.init(address=found.address, log_to_driver=False)
    yield found, nodes
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        assert cv2.imwrite(
            str(folder / f"{number:04}.png"), np.full((16, 16, 3), 4 * number, np.uint8)
        )
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def rows(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found: list[dict[str, Any]] = []
    for part in sorted(out.glob("part-*.parquet")):
        found += pyarrow.parquet.read_table(part).to_pylist()
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_killed_loses_and_repeats_nothing(
    cluster: Any, images: Path, tmp_path: Path
) -> None:
    from generalad.scale_out import infer_on_ray

    artifact, out = tiny_artifact(tmp_path / "model.onnx"), tmp_path / "out"
    ray_cluster, nodes = cluster
    killed = threading.Event()

    def progress(stage: str, done: int, total: int) -> None:
        if 0 < done < total and not killed.is_set():
            killed.set()
            ray_cluster.remove_node(nodes.pop(), allow_graceful=False)

    found = infer_on_ray(artifact, str(images), out, shard=5, progress=progress)
    assert killed.is_set()
    assert (found.images, found.failed, found.shards) == (IMAGES + 1, 1, 13)
    expected = list(generalad.load(artifact).predict(sorted(images.glob("*.png"))))
    scored = {row["path"]: row["score"] for row in rows(out)}
    assert len(rows(out)) == len(scored) == IMAGES + 1
    assert scored == {one.path: None if one.error else one.score for one in expected}


@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_is_gone_on_with_and_another_refused(
    cluster: Any, images: Path, tmp_path: Path
) -> None:
    from generalad.scale_out import infer_on_ray

    artifact, out = tiny_artifact(tmp_path / "model.onnx"), tmp_path / "out"
    infer_on_ray(artifact, str(images), out, shard=20)
    kept = (out / "part-000000.parquet").read_bytes()
    (out / "part-000001.parquet").unlink()
    again = infer_on_ray(artifact, str(images), out, shard=20)
    assert (again.images, again.resumed) == (IMAGES + 1, 3)
    assert (out / "part-000000.parquet").read_bytes() == kept
    with pytest.raises(UsageError, match="run of other threshold"):
        infer_on_ray(artifact, str(images), out, shard=20, threshold=0.9)
    assert json.loads((out / "run.json").read_text())["images"] == IMAGES + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ray", "local"), "go together"),
        (("--parquet", "out"), "go together"),
        (("--ray", "local", "--parquet", "out", "--csv", "x.csv"), "--csv is not for --ray"),
    ],
)
def test_options_that_do_not_go_together(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = gad(capsys, "infer", "model.onnx", "images", *words)
    assert code == 2
    assert said in one_line(err)
