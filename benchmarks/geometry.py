"""What tiles and alignment find, promise and cost.

    python benchmarks/geometry.py tiles FOLDER [--commutators DIR] [--category board] [--enlarged 2]
        [--method METHOD] [--per-place]
    python benchmarks/geometry.py alignment FOLDER [--category board] [--method METHOD]
    python benchmarks/geometry.py times FOLDER

`tiles` makes frames of 6 megapixels, with commutators (KolektorSDD in MVTec layout) or drawn parts
in rows. It trains `edge` with tiles that are enlarged to 512 on 12 good ones, exports, and prints
the share of frames found with a blot of 10 pixels drawn on them and with one defective part, and
the false-alarm rate of good frames beside the promise. `--per-place` gives each place of a tile
statistics of its own, as an ablation; `--megapixels 1.5` is quicker. `alignment` lays drawn parts
turned by up to 180 degrees and shifted by up to 10 %, and prints image AUROC, false alarms and
misses without and with `--align`, and what becomes of frames without the part. `times` takes what
the two left in FOLDER: one frame of 50 megapixels, its time and peak memory, in ONNX Runtime and
OpenVINO, and milliseconds of the alignment of an image. About 15 minutes, 15 minutes and 3 minutes
on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import generalad
from generalad.geometry.geometry import Geometry, Tiles
from generalad.geometry.placement import prepare, without_template
from generalad.metrics.ranking import auroc
from generalad.preprocess import read_image
from generalad.statistics import wilson
from generalad.synth.parts import CATEGORIES, render_part

Image = NDArray[np.uint8]
FRAME, LARGE = (2048, 3072), (7072, 7072)
INPUT, OVERLAP = 512, 64
TRAINED, TESTED = 12, 24
PARTS, TRIED = 60, 60


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("tiles", "alignment", "times", "frame"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commutators", type=Path)
    parser.add_argument("--category", default="board", choices=sorted(CATEGORIES))
    parser.add_argument("--per-place", action="store_true")
    parser.add_argument(
        "--method", default="residual", choices=("residual", "gaussian", "patchcore")
    )
    parser.add_argument("--megapixels", type=float, default=6.3)
    parser.add_argument("--enlarged", type=int, default=2, choices=(1, 2, 4))
    given = parser.parse_args(words)
    if given.what == "tiles":
        scale = (given.megapixels / 6.3) ** 0.5
        size = (round(FRAME[0] * scale / 32) * 32, round(FRAME[1] * scale / 32) * 32)
        rng = np.random.default_rng(0)
        parts = [
            pieces(given.commutators, split, rng, given.category)
            for split in ("train", "good", "bad")
        ]
        tiles(given.folder, parts, rng, given, size)
    elif given.what == "alignment":
        alignment(given.folder, given.category, given.method)
    elif given.what == "times":
        times(given.folder)
    else:
        one_frame(given.folder)


def rate(flags: Sequence[bool]) -> str:
    """A share with its 95 % interval."""
    found = wilson(sum(flags), len(flags))
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%} of {len(flags)})"


# Tiles


def pieces(folder: Path | None, split: str, rng: np.random.Generator, category: str) -> list[Image]:
    """Good or defective pieces that frames are made of."""
    if folder is None:
        defects = CATEGORIES[category].defects if split == "bad" else (None,)
        return [
            render_part(category, rng, defect=defects[number % len(defects)])[0]
            for number in range(40)
        ]
    below = {"train": "train/good", "good": "test/good", "bad": "test/crack"}[split]
    return [read(path) for path in sorted((folder / below).glob("*.png"))]


def read(path: Path) -> Image:
    return read_image(path)


def frame_of(given: Sequence[Image], rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Pieces in rows on a belt, each at random."""
    frame = rng.normal(40, 3, (*size, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
    height, width = (max(image.shape[axis] for image in given) + 6 for axis in (0, 1))
    for top in range(0, size[0] - height + 1, height):
        for left in range(0, size[1] - width + 1, width):
            piece = given[int(rng.integers(len(given)))]
            frame[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
    return frame


def with_spot(frame: Image, rng: np.random.Generator) -> Image:
    """A blot of 10 pixels, 60 grey levels darker or lighter, on a piece."""
    changed, grey = frame.copy(), cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    while True:
        y, x = (int(rng.integers(20, length - 20)) for length in frame.shape[:2])
        if grey[y - 5 : y + 5, x - 5 : x + 5].mean() > 60:
            break
    cover = np.zeros(frame.shape[:2], np.float32)
    cv2.circle(cover, (x, y), 5, 1.0, -1, cv2.LINE_AA)
    near = np.s_[y - 8 : y + 8, x - 8 : x + 8]
    change = cover[near][..., None] * (60 if grey[near].mean() < 128 else -60)
    changed[near] = np.clip(changed[near] + change, 0, 255).astype(np.uint8)
    return changed


def with_piece(frame: Image, bad: Sequence[Image], rng: np.random.Generator) -> Image:
    """One defective piece in the place of a good one."""
    changed, piece = frame.copy(), bad[int(rng.integers(len(bad)))]
    height, width = piece.shape[:2]
    top = int(rng.integers(frame.shape[0] // (height + 14))) * (height + 6)
    left = int(rng.integers(frame.shape[1] // (width + 6))) * (width + 6)
    changed[top : top + height, left : left + width] = piece
    return changed


def tiles(
    folder: Path,
    parts: Sequence[Sequence[Image]],
    rng: np.random.Generator,
    given: argparse.Namespace,
    size: tuple[int, int],
) -> None:
    if given.per_place:
        from generalad.model.heads import Head

        Head.statistics_of = lambda self, config: self.patches  # type: ignore[method-assign]
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    train, good, bad = parts
    for number in range(TRAINED):
        cv2.imwrite(str(folder / "frames" / f"{number:02d}.png"), frame_of(train, rng, size))
    name = "per-place" if given.per_place else "tiles"
    began = time.time()
    trained = generalad.train(
        folder / "frames", folder / name, method=given.method, tiles=INPUT // given.enlarged,
        image_size=INPUT, tile_overlap=OVERLAP, cache=folder / "cache", false_alarm_rate=0.05,
        log=print, all_good=True,
    )  # fmt: skip
    print(f"trained on {TRAINED} frames in {time.time() - began:.0f} s", flush=True)
    with generalad.load(folder / name) as model:
        level = trained.spec.thresholds.image
        frames = [frame_of(good, rng, size) for _ in range(TESTED)]
        scores = {
            "good": [model.predict(one).score for one in frames],
            "a blot of 10 pixels": [model.predict(with_spot(one, rng)).score for one in frames],
            "a defective piece": [model.predict(with_piece(one, bad, rng)).score for one in frames],
        }
    print(f"promised: {trained.spec.calibration.reached:.1%} of good frames above {level:.3g}")
    print(f"false alarms: {rate([one >= level for one in scores['good']])}")
    for kind, found in list(scores.items())[1:]:
        labels = [False] * TESTED + [True] * TESTED
        ranked = auroc(labels, np.array([*scores["good"], *found]))
        print(f"{kind}: found {rate([one >= level for one in found])}, image AUROC {ranked:.3f}")
    if not given.per_place:
        exported = generalad.export(trained, folder / "model.onnx")
        print(f"exported, scores within {exported.parity.score_largest:.1e} of their range")
        large(folder, given.enlarged)


def large(folder: Path, enlarged: int) -> None:
    """The same head for frames of 50 megapixels, as artifacts; thresholds are those of 6."""
    from generalad.export.to_onnx import to_onnx, write_model
    from generalad.export.to_openvino import convert, write_ir
    from generalad.model.detector import Detector
    from generalad.model.storage import load_detector

    trained = load_detector(folder / "tiles")
    geometry = Geometry(tiles=Tiles(INPUT // enlarged, OVERLAP, LARGE, enlarged))
    detector = Detector(trained.detector.config, trained.detector.backbone, geometry)
    detector.load_trained_state(trained.detector.trained_state())
    spec = dataclasses.replace(
        trained.spec, geometry=geometry, image_size=detector.image_size, map_size=detector.map_size
    )
    graph = to_onnx(detector.eval())
    write_model(graph, folder / "large.onnx", spec)
    write_ir(convert(graph), folder / "large.xml", spec)


def one_frame(artifact: Path) -> None:
    """In a process of its own: seconds and peak memory of a frame, as JSON."""
    began = time.perf_counter()
    with generalad.load(artifact) as model:
        opened = time.perf_counter() - began
        rng = np.random.default_rng(1)
        assert model.spec.geometry is not None and model.spec.geometry.tiles is not None
        height, width = model.spec.geometry.tiles.frame
        image = np.frombuffer(rng.bytes(3 * height * width), np.uint8).reshape(height, width, 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            model.predict(image)
            seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"open": opened, "frame": min(seconds), "before": before / 2**20, "peak": peak / 2**20}
    print(json.dumps(found))


def times(folder: Path) -> None:
    for name in ("large.onnx", "large.xml"):
        if not (folder / name).exists():
            continue
        words = (sys.executable, __file__, "frame", str(folder / name))
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        print(
            f"{name}: 50 megapixels in {found['frame']:.2f} s, opened in {found['open']:.1f} s,"
            f" peak {found['peak']:.2f} GiB, {found['before']:.2f} of it before the first run",
            flush=True,
        )
    if (folder / "aligned" / "detector.json").exists():
        alignment_times(folder / "aligned")


# Alignment


def laid(
    part: Image, rng: np.random.Generator, *, turned: bool, size: tuple[int, int] = (320, 320)
) -> Image:
    """A part on a belt, turned and shifted or as it is."""
    (height, width), (rows, columns) = part.shape[:2], size
    belt = 45 + 8 * np.sin(np.arange(columns) / 40 + rng.uniform(0, 6))[None, :, None]
    belt = np.clip(belt + rng.normal(0, 4, (rows, columns, 1)), 0, 255).repeat(3, axis=2)
    scale = 0.6 * min(size) / height
    turn, right, down = (
        (rng.uniform(-180, 180), *rng.uniform(-0.1, 0.1, 2)) if turned else (0.0, 0.0, 0.0)
    )
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale))
    matrix[:, 2] += (columns * (0.5 + right) - width / 2, rows * (0.5 + down) - height / 2)
    shown = cv2.warpAffine(part, matrix, (columns, rows), flags=cv2.INTER_AREA)
    cover = cv2.warpAffine(np.ones((height, width), np.float32), matrix, (columns, rows))[..., None]
    return np.asarray(shown * cover + belt * (1 - cover), np.uint8)


def alignment(folder: Path, category: str, method: str) -> None:
    ways: dict[str, tuple[bool, dict[str, Any]]] = {
        "upright": (False, {}),
        "turned, as they are": (True, {}),
        "turned, aligned": (True, {"align": True}),
        "turned, aligned, cropped": (True, {"align": True, "crop": "0.15,0.15,0.7x0.7"}),
    }
    for name, (turned, settings) in ways.items():
        rng = np.random.default_rng(1)
        images = folder / f"{category}-{'turned' if turned else 'upright'}"
        images.mkdir(parents=True, exist_ok=True)
        for number in range(PARTS):
            part = render_part(category, np.random.default_rng(number))[0]
            cv2.imwrite(
                str(images / f"{number:03d}.png"), laid(part, rng, turned=turned)[..., ::-1]
            )
        run = folder / ("aligned" if name == "turned, aligned" else name.replace(", ", "-"))
        trained = generalad.train(
            images, run, method=method, cache=folder / "cache", all_good=True, **settings
        )
        with generalad.load(run) as model:
            report(name, trained.spec, model, category, turned)


def report(name: str, spec: Any, model: Any, category: str, turned: bool) -> None:
    rng, level, defects = (
        np.random.default_rng(2),
        spec.thresholds.image,
        CATEGORIES[category].defects,
    )
    scores: dict[bool, list[float]] = {False: [], True: []}
    lost = {False: 0, True: 0}
    for defective in (False, True):
        for number in range(TRIED):
            kind = defects[number % len(defects)] if defective else None
            seed = np.random.default_rng(1000 + number + 1000 * defective)
            found = model.predict(
                laid(render_part(category, seed, defect=kind)[0], rng, turned=turned)
            )
            if found.fault is not None:
                lost[defective] += 1
            else:
                scores[defective].append(found.score)
    labels = [False] * len(scores[False]) + [True] * len(scores[True])
    ranked = auroc(labels, np.array([*scores[False], *scores[True]]))
    caught = caught_faults(model, category, rng) if spec.geometry is not None else "-"
    print(
        f"{category}, {name}: AUROC {ranked:.3f}, false alarms"
        f" {rate([one >= level for one in scores[False]])} (promised"
        f" {spec.calibration.reached:.1%}), found {rate([one >= level for one in scores[True]])},"
        f" not found: {lost[False]} good, {lost[True]} defective; without the part: {caught}",
        flush=True,
    )


def caught_faults(model: Any, category: str, rng: np.random.Generator) -> str:
    """Of frames that show no part, another one, or half of it, how many are refused."""
    others = [name for name in CATEGORIES if name != category]
    kinds: dict[str, list[Image]] = {"none": [], "another": [], "half": []}
    for number in range(20):
        seed = np.random.default_rng(5000 + number)
        kinds["none"].append(laid(np.full((256, 256, 3), 45, np.uint8), rng, turned=True))
        other = render_part(others[number % len(others)], seed)[0]
        kinds["another"].append(laid(other, rng, turned=True))
        half = laid(render_part(category, seed)[0], rng, turned=True)
        half[:, :160] = 45
        kinds["half"].append(half)
    refused = {
        kind: sum(model.predict(image).fault is not None for image in images)
        for kind, images in kinds.items()
    }
    return ", ".join(f"{kind} {count} of 20" for kind, count in refused.items())


def alignment_times(run: Path) -> None:
    with generalad.load(run) as model:
        spec = model.spec
        for size in ((256, 256), (1448, 1448)):
            part = render_part("board", np.random.default_rng(1), size=256)[0]
            image = laid(part, np.random.default_rng(3), turned=True, size=size)
            plain = without_template(spec.geometry)
            for name, geometry in (("aligned", spec.geometry), ("as it is", plain)):
                seconds = []
                for _ in range(30):
                    began = time.perf_counter()
                    prepare(image, spec.image_size, geometry)
                    seconds.append(time.perf_counter() - began)
                middle = 1000 * float(np.median(seconds))
                print(f"{size[1]} x {size[0]} {name}: {middle:.1f} ms", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
