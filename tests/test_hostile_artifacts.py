"""One line for every mutation of what gad reads: a fixed seed and a small budget."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeArtifact, MakeSpec, WriteImage
from image_helpers import part, reference_of
from mutations import mutated_bytes, mutated_json, mutated_text

from generalad.cli.info import sections
from generalad.errors import GadError
from generalad.printable import printable
from generalad.runtime import open_session
from generalad.runtime.backends.engine_record import EngineRecord, Machine, read_record, record_path
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.outbox import Outbox
from generalad.runtime.line.line_file import read_line
from generalad.runtime.recalibrate import recalibrate
from generalad.runtime.selftest import selftest
from generalad.spec import Spec

CASES = 40
"""Of each kind; the longer run is a benchmark's."""


def check(work: Callable[[], object], case: str) -> None:
    """It works, or says in one error of ours why not."""
    try:
        work()
    except GadError as error:
        assert str(error), case
        assert len(str(error)) < 3000, f"{case}: {len(str(error))} characters"
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {str(error)[:300]}") from error


@pytest.mark.parametrize("seed", range(4))
def test_onnx_files(
    tmp_path: Path, make_artifact: MakeArtifact, make_spec: MakeSpec, seed: int
) -> None:
    rng = random.Random(seed)
    known = reference_of([part(np.random.default_rng(0))])
    path = make_artifact(tmp_path, reference=known)
    data, record = path.read_bytes(), make_spec(reference=known).to_dict()
    for number in range(CASES):
        if rng.random() < 0.4:
            mutated, what = mutated_bytes(data, rng)
            path.write_bytes(mutated)
        else:
            text, what = mutated_json(record, rng)
            make_artifact(tmp_path, metadata=text)
        check(lambda: _open_and_show(path), f"seed {seed}, case {number}: {what}")


def _open_and_show(path: Path) -> None:
    with open_session(path, threads=1) as session:
        for section in sections(json.loads(session.spec.to_json())).values():
            assert printable(str(section)) is not None
        session.spec.normalised(0.3)
        height, width = session.spec.image_size
        session.run(np.zeros((1, height, width, 3), np.uint8))


def test_commands_on_mutated_specs(
    tmp_path: Path, make_artifact: MakeArtifact, make_spec: MakeSpec, write_image: WriteImage
) -> None:
    rng, images = random.Random(11), np.random.default_rng(0)
    for index in range(8):
        write_image(tmp_path / "good" / f"{index}.png", part(images, size=(64, 64)))
    known = reference_of([part(images, size=(64, 64)) for _ in range(5)], image_size=(64, 64))
    record = make_spec(reference=known).to_dict()
    for number in range(CASES // 3):
        text, what = mutated_json(record, rng)
        path = make_artifact(tmp_path, metadata=text)
        check(functools.partial(selftest, path, threads=1), f"selftest {number}: {what}")
        check(
            functools.partial(recalibrate, path, [str(tmp_path / "good")], threads=1),
            f"calibrate {number}: {what}",
        )


ENGINE = {
    "machine": {"tensorrt": "10.1.0.0", "gpu": "x", "compute_capability": "8.6", "system": "Linux",
                "cuda": "12"},
    "batch": [1, 1, 8],
    "version_compatible": True,
    "hardware_compatibility": "none",
    "tf32": False,
    "workspace": None,
    "onnx": "model.onnx",
    "onnx_sha256": "a",
    "engine_sha256": "b",
    "format_version": 1,
}  # fmt: skip


def test_engine_records(tmp_path: Path, make_spec: MakeSpec) -> None:
    rng, engine = random.Random(1), tmp_path / "model.engine"
    record = {**ENGINE, "spec": make_spec().to_dict()}
    record_path(engine).write_text(json.dumps(record))
    here = Machine("10.1.0.0", "x", "8.6", "Linux", "12")

    def use() -> None:
        found: EngineRecord = read_record(engine)
        found.machine_problems(here)

    use()
    for number in range(3 * CASES):
        if rng.random() < 0.3:
            data, what = mutated_bytes(json.dumps(record).encode(), rng)
            record_path(engine).write_bytes(data)
        else:
            text, what = mutated_json(record, rng)
            record_path(engine).write_text(text)
        check(use, f"case {number}: {what}")


def test_detector_folders(tmp_path: Path, make_spec: MakeSpec) -> None:
    from generalad.cli.info import read_spec

    rng, file = random.Random(2), tmp_path / "detector.json"
    record = {"spec": make_spec().to_dict(), "config": {}}
    for number in range(3 * CASES):
        if rng.random() < 0.3:
            data, what = mutated_bytes(json.dumps(record).encode(), rng)
            file.write_bytes(data)
        else:
            text, what = mutated_json(record, rng)
            file.write_text(text)
        check(lambda: read_spec(tmp_path), f"case {number}: {what}")


LINE = """
artifact = "model.onnx"
batch = 2
metrics = "9108"

[[stream]]
name = "line-1"
source = "test://washer?size=64&rate=5"
threshold = 0.8
inspect = [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]]
min_area = 40
refused = "reject"
event = { frames = 3, of = 5, release = 0.4 }

[[stream]]
source = "rtsp://me:pw@10.0.0.1/1"

[[sink]]
type = "json"
file = "out.jsonl"

[[sink]]
type = "events"
folder = "events"
max_gb = 1.5
"""


def test_line_files(tmp_path: Path) -> None:
    rng, file = random.Random(3), tmp_path / "line.toml"
    for number in range(5 * CASES):
        text, what = mutated_text(LINE, rng)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        check(lambda: read_line(file), f"case {number}: {what}")
    for number in range(CASES):
        data, what = mutated_bytes(LINE.encode(), rng)
        file.write_bytes(data)
        check(lambda: read_line(file), f"bytes, case {number}: {what}")


def test_the_memory_of_a_watched_folder(tmp_path: Path) -> None:
    from generalad.runtime.cameras.watched_folder import WatchedFolder

    rng, journal = random.Random(4), tmp_path / "watched.jsonl"
    lines = "".join(json.dumps([f"{n}.png", "a" * 64]) + "\n" for n in range(20))
    (tmp_path / "in").mkdir()
    for number in range(3 * CASES):
        data, what = mutated_bytes(lines.encode(), rng)
        if rng.random() < 0.3:
            text, what = mutated_json([["a.png", "b"]], rng)
            data = text.encode() + b"\n"
        journal.write_bytes(data)

        def use() -> None:
            next(iter(WatchedFolder(tmp_path / "in", journal=journal).read()))

        check(use, f"case {number}: {what}")


def test_queues(tmp_path: Path) -> None:
    rng, path = random.Random(5), tmp_path / "q.sqlite"
    outbox = Outbox(path)
    for number in range(5):
        outbox.put(Message(f"m{number}", "event", "line/event", b"{}"))
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    for number in range(2 * CASES):
        mutated, what = mutated_bytes(data, rng)
        for old in tmp_path.iterdir():
            old.unlink()
        path.write_bytes(mutated)

        def use() -> None:
            again = Outbox(path)
            again.put(Message("new", "event", "line/event", b"{}"))
            again.close()

        check(use, f"case {number}: {what}")


def test_specs_of_deep_nesting() -> None:
    for depth in (100, 10_000, 300_000):
        for text in ("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            check(lambda text=text: Spec.from_json(text), f"depth {depth}")  # type: ignore[misc]
