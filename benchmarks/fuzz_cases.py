"""What `fuzz.py` tries: a mutated file of each kind, and the commands that read it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shared  # noqa: F401  (finds the helpers of the tests)
from fuzz_pictures import PICTURE, VIDEO, mutated_picture, mutated_video, pictures_of, video_of
from hostile_graphs import mutated_graph
from mutations import mutated_bytes, mutated_json, mutated_text

from generalad.runtime.backends.protobuf import field, fields

Work = list[str] | Callable[[], object]
"""Words of a command, or what else is to be done."""

Case = tuple[Work, str]
"""What is to be done, and what was changed."""

Maker = Callable[[random.Random], Case]


def run_gad(words: list[str]) -> None:
    """A command, in this process."""
    from generalad.cli import main as gad

    gad(words)


def makers_of(
    artifact: Path, images: Path, folder: Path
) -> dict[str, Callable[[random.Random], Case]]:
    """By kind of file, what makes a case."""
    data = artifact.read_bytes()
    first = sorted(images.glob("*.png"))[0]
    file = folder / "model.onnx"

    def onnx(mutate: Callable[[random.Random], tuple[bytes, str]], rng: random.Random) -> Case:
        content, what = mutate(rng)
        file.write_bytes(content)
        out = folder / "calibrated.onnx"
        out.unlink(missing_ok=True)
        commands = (
            ["info", str(file)], ["info", str(file), "--json"],
            ["infer", str(file), str(first), "--threads", "1"],
            ["infer", str(file), str(first), "--threads", "1", "--overlays", str(folder / "o")],
            ["selftest", str(file), "--threads", "1"],
            ["calibrate", str(file), str(folder / "few"), "--out", str(out), "--yes"],
        )  # fmt: skip
        return rng.choice(commands), what

    pictures = functools.partial(mutated_picture, artifact, folder, pictures_of(first))
    few = folder / "few"
    few.mkdir()
    for image in sorted(images.glob("*.png"))[:9]:
        shutil.copy(image, few)
    return {
        PICTURE: pictures,
        VIDEO: functools.partial(mutated_video, artifact, folder, video_of(first)),
        "ONNX file": functools.partial(onnx, functools.partial(mutated_bytes, data)),
        "its spec": functools.partial(onnx, functools.partial(_mutated_spec, data)),
        "its graph": functools.partial(onnx, functools.partial(mutated_graph, data)),
        "graph, by field": functools.partial(onnx, functools.partial(_mutated_fields, data)),
        "detector folder": functools.partial(_detector, artifact, folder),
        "engine record": functools.partial(_engine, data, folder),
        "line file": functools.partial(_line, artifact, first, folder),
        "report of a bench": functools.partial(_report, folder),
        "memory of a watch": functools.partial(_watched, few, folder),
        "queue": functools.partial(_queue, folder),
        "environment": functools.partial(_environment, artifact, first),
    }


def _spec_of(data: bytes) -> tuple[int, int, dict[str, Any]]:
    """Where the metadata entry with the spec begins and ends, and its value."""
    for number, start, content, end in fields(data, 0, len(data)):
        if number == 14:
            parts = {part: data[a:b] for part, _, a, b in fields(data, content, end)}
            if parts[1] == b"generalad.spec":
                return start, end, json.loads(parts[2])
    raise SystemExit("no artifact of generalad")


def _mutated_spec(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end, spec = _spec_of(data)
    text, what = mutated_json(spec, rng)
    entry = field(1, b"generalad.spec") + field(2, text.encode("utf-8", "surrogatepass"))
    return data[:start] + field(14, entry) + data[end:], what


def _mutated_fields(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes of nodes and of small constants, not of weights: sizes, axes, names, operators."""
    places = [
        (content, end)
        for number, _, first, last in fields(data, 0, len(data))
        if number == 7
        for part, _, content, end in fields(data, first, last)
        if part in (1, 5, 11, 12) and end - content < 500
    ]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        content, end = rng.choice(places)
        at = rng.randrange(content, end)
        changed[at] = rng.choice(
            (changed[at] ^ 1 << rng.randrange(8), 0, 0x7F, 0xFF, rng.randrange(256))
        )
    return bytes(changed), "fields"


def _detector(artifact: Path, folder: Path, rng: random.Random) -> Case:
    """The folder of a detector, if the artifact lies in one; else its record alone."""
    target = folder / "detector"
    target.mkdir(exist_ok=True)
    source = artifact.parent / "detector.json"
    if source.is_file():
        record = json.loads(source.read_text())
    else:
        record = {"spec": _spec_of(artifact.read_bytes())[2], "config": {}}
    data, what = _mutated_record(record, rng)
    (target / "detector.json").write_bytes(data)
    return rng.choice((["info", str(target)], ["info", str(target), "--json"])), what


def _engine(data: bytes, folder: Path, rng: random.Random) -> Case:
    machine = dict.fromkeys(("tensorrt", "gpu", "compute_capability", "system", "cuda"), "10.1.0.0")
    record = {
        "spec": _spec_of(data)[2], "machine": machine, "batch": [1, 1, 8],
        "version_compatible": True, "hardware_compatibility": "none", "tf32": False,
        "workspace": None, "onnx": "model.onnx",
        "onnx_sha256": "a", "engine_sha256": "b", "format_version": 1,
    }  # fmt: skip
    engine = folder / "model.engine"
    engine.write_bytes(b"engine")
    content, what = _mutated_record(record, rng)
    engine.with_name("model.engine.json").write_bytes(content)
    image = str(next((folder / "few").iterdir()))
    commands = (["info", str(engine)], ["infer", str(engine), image], ["selftest", str(engine)])
    return rng.choice(commands), what


def _line(artifact: Path, image: Path, folder: Path, rng: random.Random) -> Case:
    text = f"""artifact = "{artifact}"
batch = 2
threads = 1

[[stream]]
source = "{image}"
threshold = 0.8
inspect = [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]]
min_area = 40
event = {{ frames = 3, of = 5, release = 0.4 }}

[[stream]]
name = "line-1"
source = "test://washer?size=64&rate=20&frames=5&defects=0.5"
refused = "reject"

[[sink]]
type = "json"
file = "{folder}/out.jsonl"

[[sink]]
type = "events"
folder = "{folder}/events"
max_gb = 0.5
"""
    file = folder / "line.toml"
    if rng.random() < 0.3:
        data, what = mutated_bytes(text.encode(), rng)
        file.write_bytes(data)
    else:
        changed, what = mutated_text(text, rng)
        file.write_text(changed, errors="surrogateescape")
    return ["infer", "--config", str(file)], what


def _report(folder: Path, rng: random.Random) -> Case:
    """A report of a bench in a history, or a baseline."""
    import msgspec
    from bench_report_helpers import estimate, measurement

    from generalad.bench.baseline import Baseline, Conditions, load_baseline
    from generalad.bench.outputs.history import write_history

    history = folder / "history"
    history.mkdir(exist_ok=True)
    file = history / "1.json"
    if rng.random() < 0.5:
        run = measurement()
        baseline = Baseline(
            artifact="model.onnx", when=run.when, version=run.version, cpu=run.machine.cpu,
            conditions=Conditions("x86_64", None, 1, "onnxruntime", "fp32", (256, 256), 1, "parts"),
            reference=run.machine.reference, relative={"infer": estimate(2.0)},
        )  # fmt: skip
        data, what = _mutated_record(msgspec.to_builtins(baseline), rng)
        work: Work = functools.partial(load_baseline, file)
    else:
        data, what = _mutated_record(json.loads(measurement().to_json()), rng)
        work = functools.partial(write_history, history, folder / "index.html")
    file.write_bytes(data)
    return work, what


def _watched(few: Path, folder: Path, rng: random.Random) -> Case:
    journal = folder / "watched.jsonl"
    lines = "".join(json.dumps([f"{number}.png", "a" * 64]) + "\n" for number in range(20))
    data, what = mutated_bytes(lines.encode(), rng)
    if rng.random() < 0.3:
        text, what = mutated_json([["a.png", "b"]], rng)
        data = text.encode("utf-8", "surrogatepass") + b"\n"
    journal.write_bytes(data)

    def look() -> None:
        from generalad.runtime.cameras.watched_folder import WatchedFolder

        next(iter(WatchedFolder(few, journal=journal).read()))

    return look, what


def _queue(folder: Path, rng: random.Random) -> Case:
    """A queue with bytes or rows changed, and what a run does with it: start, add, end."""
    from generalad.runtime.delivery.message import Message
    from generalad.runtime.delivery.outbox import Outbox

    good = folder / "good.sqlite"
    if not good.exists():
        outbox = Outbox(good)
        for number in range(5):
            outbox.put(Message(f"m{number}", "event", "line/event", b"{}"))
        outbox.close()
        with contextlib.closing(sqlite3.connect(good)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for old in folder.glob("queue*"):
        old.unlink()
    queue = folder / "queue.sqlite"
    if rng.random() < 0.5:
        data, what = mutated_bytes(good.read_bytes(), rng)
        queue.write_bytes(data)
    else:
        shutil.copy(good, queue)
        what = _changed_row(queue, rng)

    def use() -> None:
        again = Outbox(queue)
        again.put(Message("new", "event", "line/event", b"{}"))
        again.close()

    return use, what


def _changed_row(queue: Path, rng: random.Random) -> str:
    table = rng.choice(("messages", "counts", "facts", "wills"))
    with contextlib.closing(sqlite3.connect(queue)) as db:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        column = rng.choice(columns)
        value = rng.choice(
            (
                "NULL",
                "-1",
                "9e999",
                "x'ff'",
                "cast(x'ff61' as text)",
                "'x'",
                "''",
                "1e20",
                "zeroblob(9)",
            )
        )
        with contextlib.suppress(sqlite3.Error):
            if rng.random() < 0.2:
                db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
            else:
                db.execute(f"UPDATE {table} SET {column} = {value}")
        db.commit()
    return f"{table}.{column}"


def _environment(artifact: Path, image: Path, rng: random.Random) -> Case:
    """`gad doctor` and `gad infer` under settings that are wrong."""
    name = rng.choice(
        ("GAD_MAX_MEGAPIXELS", "GAD_CACHE", "OMP_NUM_THREADS", "HOME", "STATE_DIRECTORY")
    )
    value = rng.choice(
        ("", "x", "-1", "nan", "1e999", "/dev/null", "/", "\x1b[2J", "9" * 400, "\udcff")
    )
    words = rng.choice((["doctor"], ["doctor", "--json"], ["infer", str(artifact), str(image)]))

    def run() -> None:
        os.environ[name] = value
        run_gad(words)

    return run, f"{words[0]} with {name}={value[:20]!r}"


def _mutated_record(record: object, rng: random.Random) -> tuple[bytes, str]:
    if rng.random() < 0.4:
        return mutated_bytes(json.dumps(record).encode(), rng)
    text, what = mutated_json(record, rng)
    return text.encode("utf-8", "surrogatepass"), what
