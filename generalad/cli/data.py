"""`gad data check`, `gad data synth` and `gad data unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from generalad.cli.options import AllGood, Anomalous, Argument, Category, ClassName, Json, Option
from generalad.printable import typed


def check(
    data: Annotated[
        str, Argument("Folder of images, class folder, folder of classes, CSV, s3://, gs://, …")
    ],
    class_name: ClassName = None,
    anomalous: Anomalous = None,
    all_good: AllGood = False,
    json: Json = False,
) -> int:
    """Read every file once and list what is wrong, with the remedy.

    Unreadable and cut-off files, duplicates, leaks between training and test, mixed sizes, masks
    that are missing, left over or of a wrong size. The exit code is 1 when there are errors.

    Examples:
        gad data check parts/
        gad data check mvtec --class bottle --json > check.json
    """
    import json as json_library

    from generalad.cli.console import console, print_json, progress
    from generalad.data.check import check_dataset, render_problems
    from generalad.data.dataset import open_dataset

    screen = console()
    with progress(screen) as shown:
        dataset = open_dataset(
            data, class_name, anomalous=anomalous, all_good=all_good, progress=shown
        )
        found = check_dataset(dataset, progress=shown)
    for line in render_problems(found):
        screen.print(line, markup=False)
    counts = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
    screen.print(f"{dataset.origin or data}: {counts}; {len(found.errors)} errors", markup=False)
    print_json(json_library.loads(found.to_json()), wanted=json)
    return 1 if found.errors else 0


def unpack(
    data_set: Annotated[
        Literal["cifar-10", "cifar-100", "fashion-mnist"], Argument("Which data set.")
    ],
    root: Annotated[Path, Argument("Folder with its original files.")],
    out: Annotated[Path, Argument("Folder for train/CLASS and test/CLASS.")],
) -> None:
    """Write a data set that comes as arrays as PNG files, without loss.

    Nothing is downloaded. The same command goes on where it was interrupted.

    Examples:
        gad data unpack cifar-10 downloads data/cifar-10
        gad train data/cifar-10 --class cat
    """
    from generalad.cli.console import console, plain, progress
    from generalad.unpack import unpack as run

    screen = console()
    with progress(screen) as shown:
        done = run(data_set, root, out, progress=shown)
    screen.print(
        f"[bold]{plain(done.folder)}[/bold]: {done.images} images, {done.written} of them written"
    )
    screen.print(f"next: gad train {typed(done.folder)} --class {done.classes[0]}", markup=False)


def synth(
    out: Annotated[Path, Argument("Folder for the datasets, one a category.")],
    category: Category = (),
    train: Annotated[int, Option("Good training images a category.")] = 60,
    test: Annotated[int, Option("Good test images a category.")] = 20,
    defects: Annotated[int, Option("Test images for each type of defect.")] = 10,
    seed: Annotated[int, Option("Equal seeds make equal images.")] = 0,
    size: Annotated[int, Option("Height and width in pixels.")] = 256,
    video: Annotated[bool, Option("Also make a conveyor video with known defects.")] = False,
) -> None:
    """Make procedural industrial parts with defects and exact masks, in MVTec layout.

    Examples:
        gad data synth parts --category washer
        gad data synth parts --train 240 --test 40 --video
    """
    from generalad.cli.console import console, plain, progress
    from generalad.synth import CATEGORIES, write_conveyor, write_dataset

    chosen: list[str] = list(category or CATEGORIES)
    screen = console()
    with progress(screen) as shown:
        write_dataset(
            out,
            categories=chosen,
            train=train,
            test_good=test,
            per_defect=defects,
            seed=seed,
            size=size,
            progress=shown,
        )
    for name in chosen:
        screen.print(
            f"[bold]{plain(out / name)}[/bold]: defects {', '.join(CATEGORIES[name].defects)}"
        )
    if video:
        path = write_conveyor(out / "conveyor.mkv", category=chosen[0], seed=seed, size=size)
        screen.print(f"[bold]{plain(path)}[/bold]: {chosen[0]} parts on a belt")
    screen.print(f"next: gad train {typed(out / chosen[0])} --preset embedded", markup=False)
