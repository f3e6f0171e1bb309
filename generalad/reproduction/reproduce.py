"""`generalad.reproduce`: a table of the paper, class by class and seed by seed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from generalad import records
from generalad.cluster import Spread, on_ray, one_after_another
from generalad.config import Config
from generalad.data.classes import NoSuchClassError
from generalad.data.dataset import Dataset, open_dataset
from generalad.data.local_copy import is_elsewhere, local_copy
from generalad.data.public_sets import public_set
from generalad.errors import DataError, GadError, UsageError, require_extra
from generalad.files import atomic_write, write_json
from generalad.progress import Log, Progress, in_words, no_log, no_progress
from generalad.reproduction.recipes import (
    DEFAULT_METHOD,
    TITLES,
    Recipe,
    published,
    recipe,
)
from generalad.reproduction.report import write_report
from generalad.reproduction.runs import (
    PROTOCOLS,
    Protocol,
    Run,
    RunResult,
    finished,
    train_and_measure,
)
from generalad.reproduction.table import Reproduction, markdown, to_json
from generalad.runtime.secrets import redacted
from generalad.training.run_folder import claimed

StrPath = str | os.PathLike[str]


def reproduce(
    data_set: str,
    data: StrPath,
    out: StrPath | None = None,
    *,
    method: str = DEFAULT_METHOD,
    backbone: str | None = None,
    classes: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    shots: int = 0,
    one_anomalous: bool = False,
    protocol: Protocol = "last",
    config: StrPath | Mapping[str, Any] | None = None,
    weights: StrPath | None = None,
    device: str | None = None,
    cache: StrPath | None = None,
    ray: str | None = None,
    spread: Spread | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Reproduction:
    """Train and measure all classes of a data set as the paper did, as `gad reproduce` does.

    The same call goes on where an earlier one stopped: what is finished is not trained again.

    Args:
        data_set: "mvtec-ad", "cifar-10", ...; a name of `generalad.reproduction.recipes`.
        data: folder of the data set, see docs/data.md; or an address of it, "s3://bucket/mvtec".
        out: folder of the results; None for runs/reproduce-DATA-SET-METHOD...
        method: "generalad", "simplenet" or "kdad".
        backbone: "small", "base" or "large"; None for the recipe's.
        classes: some of the recipe's; empty for all.
        seeds: of splits, order and noise. The paper's for few-shot training are 0, 10, 20, 30, 40.
        shots: train on that many images; 0 for all.
        one_anomalous: of sets whose classes are kinds of things: each class in turn is anomalous
            and all others are normal.
        protocol: "last" epoch, or as in the "paper" the best one on the test set.
        config: settings over the recipe's, a TOML file or a mapping; the table names them.
        weights: backbone weights, for machines that reach no model hub.
        device: "cpu", "cuda", ...; None for a GPU if there is one.
        cache: folder of the feature cache; None for the user's.
        ray: address of a Ray cluster that trains classes and seeds, see `generalad.cluster.on_ray`;
            None for one after another here. All machines see `data`, `out` and the cache under the
            same paths.
        spread: how runs are spread, in place of `ray`.
        progress: told ("runs", done, total) and how far each stage of a run is.
        log: told of each result, with the remaining time, and of all that training warns of.

    Raises:
        ConfigError: unknown setting or value.
        DataError: a class is not there, or the data set has problems.
        UsageError: no such recipe, class, backbone or protocol, or `out` belongs to other settings.
        WeightsError: the backbone's weights are not to be had.
    """
    require_extra("training", "train", "torch", "timm", "safetensors")
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r}: expected {' or '.join(PROTOCOLS)}")
    found, changes = recipe(data_set, method), _changes(config)
    settings = found.config(backbone, {**changes, **({"shots": shots} if shots else {})})
    size = "" if "backbone" in changes else backbone or found.backbone
    folder = _folder(found, size, shots, one_anomalous, protocol) if out is None else Path(out)
    here = spread is None and ray is None
    whole: Callable[[StrPath], Path] = Path if here else lambda path: Path(os.path.abspath(path))
    chosen = _chosen(found, classes)
    some = chosen if classes and not one_anomalous else ()
    data, origin = _here(data, some, progress)
    plan = partial(_opened, found, whole(data), origin=origin, one_anomalous=one_anomalous)
    runs = _plan(plan, whole(folder), chosen, seeds)
    identity = {
        "data_set": data_set,
        "one_anomalous": one_anomalous,
        "protocol": protocol,
        "settings": settings.to_dict(),
    }
    with claimed(folder, {"reproduction": identity}):
        measure = partial(
            _measured,
            settings=settings,
            protocol=protocol,
            weights=None if weights is None else whole(weights),
            device=device,
            cache=None if cache is None else whole(cache),
        )
        progress, log = progress or no_progress, log or no_log
        if here:
            measure = partial(measure, progress=progress, log=log)
        if spread is None:
            spread = one_after_another if ray is None else on_ray(ray, device=device)
        results = _all(runs, measure, spread, protocol, progress, log)
        done = Reproduction(
            data_set=data_set,
            title=_title(found, size, shots, protocol),
            method=method,
            backbone=size,
            protocol=protocol,
            one_anomalous=one_anomalous,
            source=found.source,
            config=settings,
            changes=changes,
            all_classes=found.classes,
            results=tuple(results),
            published=tuple(published(data_set, method, size)),
            folder=folder,
        )
        _write(done)
    return done


def _folder(found: Recipe, size: str, shots: int, one_anomalous: bool, protocol: Protocol) -> Path:
    parts = ["reproduce", found.data_set, found.method, size, f"{shots}-shot" if shots else ""]
    parts += ["one-anomalous" if one_anomalous else "", protocol]
    return Path("runs", "-".join(filter(None, parts)))


def _title(found: Recipe, size: str, shots: int, protocol: Protocol) -> str:
    parts = [f"{TITLES[found.method]} on {public_set(found.data_set).title}", size]
    parts += [f"{shots} shots" if shots else ""]
    return f"{', '.join(filter(None, parts))} (protocol {protocol})"


def _changes(config: StrPath | Mapping[str, Any] | None) -> dict[str, Any]:
    if config is None:
        return {}
    changes = dict(config) if isinstance(config, Mapping) else records.read_toml(Path(config))
    for key in ("method", "seed", "shots"):
        if key in changes:
            raise UsageError(
                f"{key} among the settings over the recipe", remedy="it is an option of its own"
            )
    return changes


def _chosen(found: Recipe, classes: Sequence[str]) -> list[str]:
    chosen = list(dict.fromkeys(classes)) or list(found.classes)
    foreign = [name for name in chosen if name not in found.classes]
    if foreign:
        raise UsageError(
            f"--classes {foreign[0]}: not of {found.data_set}",
            remedy=f"there are {', '.join(found.classes)}",
        )
    return chosen


def _here(
    data: StrPath, some: Sequence[str], progress: Progress | None
) -> tuple[StrPath, str | None]:
    """The folder of the data set on this machine; and its address, where it is a copy.

    Args:
        data: folder or address.
        some: classes that are wanted; empty for all.
        progress: told ("copying", objects done, objects).
    """
    address = os.fspath(data)
    if not is_elsewhere(address):
        return data, None
    wanted: list[str | None] = [*some] or [None]
    copies = [local_copy(address, class_name=one, progress=progress) for one in wanted]
    return copies[0], redacted(address)


def _plan(
    opened: Callable[[str], Dataset], folder: Path, classes: Sequence[str], seeds: Sequence[int]
) -> list[Run]:
    """All runs, class by class; every class is opened, so that what is missing is said at once."""
    runs = []
    for name in classes:
        dataset = opened(name)
        place = folder / re.sub(r"[^\w.-]+", "-", name)
        runs += [Run(name, seed, place / f"seed{seed}", dataset) for seed in dict.fromkeys(seeds)]
    return runs


def _opened(
    found: Recipe, data: Path, name: str, *, origin: str | None, one_anomalous: bool
) -> Dataset:
    """One class; a class that is not there is missing, since it is of the data set."""
    public = public_set(found.data_set)
    try:
        opened = open_dataset(data, anomalous=name) if one_anomalous else open_dataset(data, name)
    except UsageError as error:
        if one_anomalous:
            raise
        raise DataError(
            f"{origin or data}: not the folder of the classes of {public.title}",
            remedy=public.where(),
        ) from error
    except NoSuchClassError as error:
        here = [one for one in found.classes if one in error.names]
        some = f"; --classes {','.join(here)} takes those that are here" if here else ""
        raise DataError(
            f"{origin or data}: {public.title} has the class {name!r}, but it is not here",
            remedy=f"the set was downloaded in part, or is another one; {public.where()}{some}",
        ) from error
    return opened if origin is None else dataclasses.replace(opened, origin=origin)


def _measured(
    run: Run,
    *,
    settings: Config,
    protocol: Protocol,
    weights: Path | None,
    device: str | None,
    cache: Path | None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> tuple[RunResult, list[str]]:
    """Runs where the detector is trained: the result, and lines that `log` was not told.

    A run that an attempt finished whose worker was killed then is read.
    """
    untold: list[str] = []
    tell = untold.append if log is None else log
    result = finished(run) or train_and_measure(
        run,
        settings.replaced({"seed": run.seed}),
        protocol,
        weights=weights,
        device=device,
        cache=cache,
        progress=progress,
        log=tell,
    )
    return result, untold


def _all(
    runs: Sequence[Run],
    measure: Callable[[Run], tuple[RunResult, list[str]]],
    spread: Spread,
    protocol: Protocol,
    progress: Progress,
    log: Log,
) -> list[RunResult]:
    results = {r.folder: result for r in runs if (result := finished(r)) is not None}
    if results:
        log(f"{len(results)} of {len(runs)} runs are finished already")
    start, before = time.monotonic(), len(results)
    progress("runs", before, len(runs))
    todo = [run for run in runs if run.folder not in results]
    with contextlib.closing(spread(measure, todo)) as ended:
        for place, outcome in ended:
            if isinstance(outcome, GadError):
                raise outcome
            run, (result, untold) = todo[place], outcome
            for line in untold:
                log(line)
            results[run.folder] = result
            each = (time.monotonic() - start) / (len(results) - before)
            left = each * (len(runs) - len(results))
            log(
                f"{run.class_name}, seed {run.seed}: image AUROC {100 * result.image_auroc:.1f}"
                f" (protocol {protocol}); {len(results)} of {len(runs)} runs"
                + (f", about {in_words(left)} left" if left else "")
            )
            progress("runs", len(results), len(runs))
    return [results[run.folder] for run in runs]


def _write(done: Reproduction) -> None:
    write_json(done.folder / "table.json", to_json(done))
    with atomic_write(done.folder / "table.md") as path:
        path.write_text(markdown(done), encoding="utf-8")
    write_report(done.folder / "report.html", done)
