"""`infer_on_ray`: very many images over the machines of a Ray cluster, into Parquet.

    driver: list ─► shards of images ─► Ray Data ─► actors with the network ─► part-000012.parquet

A shard is written by whoever scores it, whole and under its own name. So one that is done twice,
because a worker or a node was killed, replaces itself, and each image is in one row of one file.
The same call goes on with a run that was interrupted. Ray Data (Moritz et al. 2018, "Ray: A
distributed framework for emerging AI applications") starts actors again and gives them their work.

All machines must see images, artifact and output under the same paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generalad.cluster import connect, gave_up
from generalad.errors import DataError, UsageError, require_extra
from generalad.files import (
    atomic_write,
    make_folder,
    read_json,
    sha256_of_bytes,
    sha256_of_file,
    write_json,
)
from generalad.progress import Progress, no_progress
from generalad.runtime.addresses import open_sources
from generalad.runtime.sources import ImageFiles

if TYPE_CHECKING:
    from generalad.prediction import Prediction

SHARD = 512
"""Images of a file."""

_RUN = "run.json"


@dataclass(frozen=True)
class ScaledOut:
    """A finished run.

    Attributes:
        folder: with its Parquet files.
        images: rows of all files together.
        anomalous: of these.
        failed: images that could not be read or scored; each has a row with the error.
        shards: files.
        resumed: files that an earlier run had finished.
    """

    folder: Path
    images: int
    anomalous: int
    failed: int
    shards: int
    resumed: int


def infer_on_ray(
    artifact: str | Path,
    sources: Sequence[str] | str,
    out: str | Path,
    *,
    address: str = "auto",
    threshold: float | None = None,
    batch_size: int = 8,
    threads: int = 1,
    device: str | None = None,
    shard: int = SHARD,
    progress: Progress | None = None,
) -> ScaledOut:
    """Score images on a Ray cluster, as `gad infer --ray` does.

    Args:
        artifact: made by `gad export`; a path that all machines see.
        sources: images, folders and patterns; paths that all machines see.
        out: folder for part-000000.parquet and so on, with the fields of `gad infer`'s results; one
            that an interrupted run left is gone on with.
        address: of the cluster, "auto" for the one this machine belongs to, "local" for this
            machine alone.
        threshold: raw; None for the artifact's.
        batch_size: images a run of the network.
        threads: processors that each network takes; as many run as the cluster has room for.
        device: "cuda" or "tensorrt" gives each network a card; None or "cpu" none.
        shard: images a file.
        progress: told how many images are done.

    Raises:
        ConfigError: no cluster at the address.
        GadError: the cluster gave up; what is done is kept.
        DataError: a source that does not exist, or is no image file.
        MissingExtraError: Ray is not installed.
        StorageError: the folder cannot be written.
        UsageError: the folder holds another run, or a number is out of range.
    """
    require_extra("--ray", "ray", "ray", "pyarrow")
    if min(batch_size, threads, shard) < 1:
        raise UsageError("batch, threads and shard are at least 1")
    paths = _paths([sources] if isinstance(sources, str) else sources)
    out = make_folder(Path(out).absolute())
    shards = [paths[first : first + shard] for first in range(0, len(paths), shard)]
    _claim(out, Path(artifact), paths, shard, threshold)
    todo = [n for n in range(len(shards)) if not _part(out, n).exists()]
    progress = progress or no_progress
    done = sum(len(shards[n]) for n in range(len(shards))) - sum(len(shards[n]) for n in todo)
    progress("images", done, len(paths))
    if todo:
        rows = [{"number": n, "paths": shards[n]} for n in todo]
        scorer = (str(Path(artifact).absolute()), str(out), threshold, batch_size, threads, device)
        for finished in _run(rows, scorer, address):
            done += finished
            progress("images", done, len(paths))
    return _summary(out, len(shards), len(paths), len(shards) - len(todo))


class Scorer:
    """An actor of Ray Data: one network, which scores shards."""

    def __init__(
        self,
        artifact: str,
        out: str,
        threshold: float | None,
        batch_size: int,
        threads: int,
        device: str | None,
    ) -> None:
        """Load the network on the machine that the actor is on."""
        from generalad.predictor import load

        self._out, self._batch_size = Path(out), batch_size
        self._predictor = load(artifact, threads=threads, device=device, threshold=threshold)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        """Score and write a shard; the number of its images."""
        paths = [str(path) for path in row["paths"]]
        found = self._predictor.predict(paths, batch_size=self._batch_size)
        _write(_part(self._out, int(row["number"])), list(found))
        return {"images": len(paths)}


def _run(rows: list[dict[str, Any]], scorer: tuple[Any, ...], address: str) -> Iterator[int]:
    """Numbers of images, as shards are finished."""
    connect(address)
    import ray
    import ray.data
    import ray.exceptions

    ray.data.DataContext.get_current().enable_progress_bars = False
    threads, device = scorer[-2], scorer[-1]
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    finished = data.map(
        Scorer,
        fn_constructor_args=scorer,
        num_cpus=threads,
        num_gpus=1 if device in ("cuda", "tensorrt") else 0,
        concurrency=(1, max(1, cores // threads)),
    )
    try:
        for row in finished.iter_rows():
            yield int(row["images"])
    except ray.exceptions.RayError as error:
        raise gave_up(error) from error


def _paths(addresses: Sequence[str]) -> list[str]:
    found = []
    for source in open_sources(addresses):
        if not isinstance(source, ImageFiles):
            raise DataError(
                f"{source.address}: expected image files, which many machines can share",
                remedy="run videos and cameras without --ray",
            )
        found += [os.path.abspath(path) for path in source.paths]
    return found


def _claim(
    out: Path, artifact: Path, paths: Sequence[str], shard: int, threshold: float | None
) -> None:
    """Write down what the folder is for, or refuse one that is for something else."""
    run = {
        "artifact_sha256": sha256_of_file(artifact) if artifact.is_file() else str(artifact),
        "images": len(paths),
        "images_sha256": sha256_of_bytes("\n".join(paths).encode(errors="surrogateescape")),
        "shard": shard,
        "threshold": threshold,
    }
    if not (out / _RUN).exists():
        write_json(out / _RUN, run)
    elif (before := read_json(out / _RUN)) != run:
        differs = [
            key for key in run if not isinstance(before, dict) or before.get(key) != run[key]
        ]
        raise UsageError(
            f"{out} holds a run of other {' and '.join(differs)}",
            remedy="choose another folder, or repeat the call of that run",
        )
    for leftover in out.glob(".part-*.part.parquet"):
        leftover.unlink(missing_ok=True)


def _part(out: Path, number: int) -> Path:
    return out / f"part-{number:06d}.parquet"


def _write(path: Path, found: Sequence[Prediction]) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [_row(one) for one in found]
    with atomic_write(path) as temporary:
        table = pyarrow.Table.from_pylist(rows, schema=_schema())
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def _row(found: Prediction) -> dict[str, Any]:
    values = found.to_dict()
    # A name of bytes that are no UTF-8 is no text of Parquet.
    return {
        "path": re.sub("[\udc80-\udcff]", "\ufffd", values["path"]),
        **{name: values[name] for name in ("score", "normalised", "anomalous", "error")},
        "regions": [{**region, "box": list(region["box"])} for region in values["regions"]],
        **{f"{stage}_ms": value for stage, value in values["milliseconds"].items()},
    }


def _schema() -> Any:
    import pyarrow as pa

    region = pa.struct(
        [("box", pa.list_(pa.int64())), ("area", pa.int64()), ("peak", pa.float64())]
    )
    return pa.schema(
        [
            ("path", pa.string()),
            ("score", pa.float64()),
            ("normalised", pa.float64()),
            ("anomalous", pa.bool_()),
            ("regions", pa.list_(region)),
            ("error", pa.string()),
            *((f"{stage}_ms", pa.float64()) for stage in ("read", "preprocess", "infer", "total")),
        ]
    )


def _summary(out: Path, shards: int, images: int, resumed: int) -> ScaledOut:
    """Count what lies there; every image must be in it once."""
    import pyarrow.compute
    import pyarrow.parquet

    rows = anomalous = failed = 0
    for number in range(shards):
        table = pyarrow.parquet.read_table(_part(out, number), columns=["anomalous", "error"])
        rows += table.num_rows
        anomalous += pyarrow.compute.sum(table["anomalous"]).as_py() or 0
        failed += table.num_rows - table["error"].null_count
    if rows != images:
        raise DataError(f"{out}: {rows} rows for {images} images", remedy="remove it and run again")
    return ScaledOut(out, images, anomalous, failed, shards, resumed)
