"""`gad infer --ray`: the same over many machines."""

from __future__ import annotations

import sys

from generalad.cli.infer_options import Options
from generalad.errors import UsageError
from generalad.printable import printable

_USED = ("artifact", "sources", "parquet", "ray", "threshold", "batch", "threads", "device")


def infer_on_ray(given: Options) -> int:
    """Score images on a cluster; 1 where one could not be scored."""
    if given.artifact is None or given.ray is None or given.parquet is None:
        raise UsageError(
            "--ray and --parquet go together, with an artifact",
            remedy="gad infer ARTIFACT SOURCE… --ray ADDRESS --parquet DIR",
        )
    others = [name for name in given._fields if name not in _USED and getattr(given, name)]
    if others:
        raise UsageError(f"--{others[0].replace('_', '-')} is not for --ray", remedy="leave it out")
    if given.batch == "auto":
        raise UsageError("--batch auto is not for --ray", remedy="give a number, or leave it out")
    from generalad.cli.console import console, progress
    from generalad.scale_out import infer_on_ray as run

    with progress(console()) as shown:
        found = run(
            given.artifact,
            given.sources,
            given.parquet,
            address=given.ray,
            threshold=given.threshold,
            batch_size=given.batch or 8,
            threads=given.threads or 1,
            device=given.device,
            progress=shown,
        )
    before = f", {found.resumed} of them before" if found.resumed else ""
    sys.stderr.write(
        printable(
            f"{found.images} images: {found.anomalous} anomalous, {found.failed} failed;"
            f" {found.shards} files in {found.folder}{before}\n"
        )
    )
    return 1 if found.failed else 0
