"""Images and classes over a Ray cluster: each once, whatever is killed, and as without."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_helpers import gad, one_line
from tiny_artifacts import tiny_artifact
from training_helpers import tiny_config, write_parts

import generalad
from generalad.all_classes import train_all_classes
from generalad.errors import ConfigError, GadError, UsageError

pytest_plugins = ["training_fixtures"]

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
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
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


def dies_once(work: Any, task: Any) -> Any:
    """Do the work; the first worker that trains the class "nut" is killed in the middle of it."""
    folder = Path(task.folder)
    marker = folder.parent / f"killed-{task.name}"
    with (folder.parent / "begun.txt").open("a") as file:
        file.write(f"{task.name}\n")
    if task.name == "nut" and not marker.exists():
        marker.touch()

        def kill() -> None:
            while not (folder / "checkpoint.safetensors").exists():
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
    return work(task)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_loses_no_class_and_trains_none_twice(
    cluster: Any, tmp_path: Path, tiny_weights: Path
) -> None:
    from generalad.cluster import on_ray

    names = ["bolt", "cap", "nut"]
    for seed, name in enumerate(names):
        write_parts(tmp_path / "products" / name, train=8, good=2, bad=2, seed=seed)
    (tmp_path / "products" / "cap" / "train" / "good" / "000.png").write_bytes(b"no image")
    options: dict[str, Any] = {
        "config": tiny_config(epochs=30), "weights": tiny_weights, "cache": tmp_path / "cache"
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    on_cluster = on_ray("auto", device="cpu")

    def spread(work: Any, items: Any) -> Any:
        return on_cluster(partial(dies_once, work), items)

    found = train_all_classes(tmp_path / "products", tmp_path / "out", spread=spread, **options)
    assert [(one.name, bool(one.error)) for one in found] == [
        ("bolt", False), ("cap", True), ("nut", False)
    ]  # fmt: skip
    assert "cannot be trained on" in found[1].error and "000.png" in found[1].error
    begun = (tmp_path / "out" / "begun.txt").read_text().split()
    assert sorted(begun) == ["bolt", "cap", "nut", "nut"]
    epochs = (tmp_path / "out" / "nut" / "training.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in epochs] == list(range(1, 31))
    here = train_all_classes(tmp_path / "products", tmp_path / "here", **options)
    for one, other in zip(found[::2], here[::2], strict=True):
        assert one.threshold == pytest.approx(other.threshold, rel=1e-3)
    again = train_all_classes(tmp_path / "products", tmp_path / "out", ray="auto", **options)
    assert [one.resumed for one in again] == [True, False, True]


@pytest.mark.filterwarnings("ignore")
def test_what_a_cluster_cannot_do_is_said(cluster: Any) -> None:
    from generalad.cluster import on_ray

    with pytest.raises(ConfigError, match="no cards"):
        next(on_ray("auto", device="cuda")(len, ["a"]))
    outcomes = dict(on_ray("auto")(_fails, [0, 1, 2]))
    assert outcomes[0] == 0
    assert isinstance(outcomes[1], GadError) and outcomes[1].exit_code == 2
    assert str(outcomes[1]) == "found one → give none"
    assert "division by zero" in str(outcomes[2])


def _fails(number: int) -> int:
    if number == 1:
        raise UsageError("found one", remedy="give none")
    return 0 // (2 - number)


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
