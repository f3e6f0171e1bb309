"""`gad infer --ray` on a cluster of several nodes of this machine, one of them killed. Minutes.

    python benchmarks/scale_out.py [IMAGES]

Draws IMAGES (20000) small images and scores them with an artifact that is almost nothing, so that
what is measured is reading, sharing out and writing: on 1, 2 and 3 nodes of one processor each, and
on 3 of which one is killed when a third is done. Prints a table: seconds, images a second, rows,
images without a row or in two, and rows that differ from those of one process. Needs `ray[data]`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import cv2
import numpy as np
from tiny_artifacts import tiny_artifact

import generalad
from generalad.scale_out import infer_on_ray


def draw(folder: Path, count: int) -> None:
    """Images that are all different, in folders of a thousand."""
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 255, (64, 64, 3), np.uint8)
        assert cv2.imwrite(str(place / f"{number:06d}.jpg"), image)


def run(artifact: Path, images: Path, out: Path, nodes: int, *, kill: bool) -> float:
    """Seconds on so many nodes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    workers = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    killed = False

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal killed
        if kill and not killed and done * 3 > total:
            killed = True
            cluster.remove_node(workers.pop(), allow_graceful=False)

    began = time.perf_counter()
    infer_on_ray(artifact, str(images), out, progress=progress)
    seconds = time.perf_counter() - began
    assert killed == kill
    ray.shutdown()
    cluster.shutdown()
    return seconds


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows of a run."""
    import pyarrow.parquet

    found: list[dict[str, Any]] = []
    for part in sorted(out.glob("part-*.parquet")):
        found += pyarrow.parquet.read_table(part, columns=["path", "score"]).to_pylist()
    return found


def main() -> None:
    """Run and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = tiny_artifact(folder / "model.onnx")
        draw(folder / "images", count)
        paths = sorted((folder / "images").rglob("*.jpg"))
        model = generalad.load(artifact, threads=1)
        began = time.perf_counter()
        expected = {one.path: one.score for one in model.predict(paths)}
        alone = time.perf_counter() - began
        print("| nodes | seconds | images/s | rows | missing | twice | other scores |")
        print("|---|---|---|---|---|---|---|")
        print(f"| none | {alone:.1f} | {count / alone:.0f} | | | | |", flush=True)
        for nodes, kill in ((1, False), (2, False), (3, False), (3, True)):
            out = folder / f"out-{nodes}-{kill}"
            seconds = run(artifact, folder / "images", out, nodes, kill=kill)
            found = rows(out)
            by_path = {row["path"]: row["score"] for row in found}
            wrong = sum(expected[path] != score for path, score in by_path.items())
            title = f"{nodes}, one killed" if kill else str(nodes)
            print(
                f"| {title} | {seconds:.1f} | {count / seconds:.0f} | {len(found)}"
                f" | {len(expected.keys() - by_path.keys())} | {len(found) - len(by_path)}"
                f" | {wrong} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
