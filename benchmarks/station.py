"""A station of three cameras, a Modbus PLC and OPC UA clients, with faults; the truth is outside.

    python benchmarks/station.py [--parts 10000] [--rate 5] [--artifact edge.onnx] [--state DIR]

Each fault is injected again and again until so many parts have come. Prints, for each fault, what
became of the parts that came while it lasted, and from trigger to verdict on the wire: from the
moment at which the PLC sends its trigger to the one at which it holds the result. Without
--artifact the network is arithmetic. `--state` is a small file system, such as a
tmpfs of 40 MB, that can be filled; without it the full disk is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from station_bed import HOST, BedPlc, BedProgram, Conveyor, Process, Record, write_file
from station_clients import hang, listen
from station_images import images, prepare_recipes

CALM = "none"
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


class Bed(NamedTuple):
    """All that a fault may touch."""

    conveyor: Conveyor
    program: BedProgram
    plc: BedPlc
    process: Process
    opcua: int
    state: Path


class Fault(NamedTuple):
    """Something that goes wrong for a while; `end` may do nothing."""

    name: str
    begin: Callable[[Bed], object]
    end: Callable[[Bed], object] = lambda bed: None
    seconds: float = 3.0


def unplug(bed: Bed) -> None:
    bed.conveyor.cameras["side"].unplug()


def plug(bed: Bed) -> None:
    camera = bed.conveyor.cameras["side"]
    camera.away = camera.refuse = False


def refuse(bed: Bed) -> None:
    bed.conveyor.cameras["top"].refuse = True
    bed.conveyor.cameras["top"].cut()


def accept(bed: Bed) -> None:
    bed.conveyor.cameras["top"].refuse = False


def without_trigger(bed: Bed) -> None:
    """Between two parts, so that no window of a part catches them."""
    bed.program.running = False
    time.sleep(0.3)
    for _ in range(3):
        for camera in ("top", "side"):
            bed.conveyor.cameras[camera].send(np.full((64, 64, 3), 9, np.uint8))
        time.sleep(0.2)
    bed.program.next_at = time.monotonic() + 0.2
    bed.program.running = True


def restart_plc(bed: Bed) -> None:
    bed.program.restart()
    bed.plc.away_until = time.monotonic() + 0.3


def garbage(bed: Bed) -> None:
    for _ in range(30):
        with contextlib.suppress(OSError), socket.create_connection((HOST, bed.plc.port)) as other:
            other.sendall(os.urandom(200))


def hang_client(bed: Bed) -> None:
    hanging.append(hang(bed.opcua))


def let_go(bed: Bed) -> None:
    for process in hanging:
        os.kill(process.pid or 0, signal.SIGCONT)
        process.kill()
    hanging.clear()


hanging: list[Any] = []


def kill(bed: Bed) -> None:
    """Between a trigger and its verdict, which waits for its pictures."""
    bed.conveyor.pictures = False
    answers = len(bed.program.answers)
    until = time.monotonic() + 5
    while len(bed.program.answers) == answers and time.monotonic() < until:
        time.sleep(0.0005)
    bed.process.kill()
    bed.conveyor.pictures = True
    bed.process.start()


def fill(bed: Bed) -> None:
    with contextlib.suppress(OSError), (bed.state / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * 65536):
            pass


def drain(bed: Bed) -> None:
    (bed.state / "ballast").unlink()


def spoil(share: float) -> Callable[[Bed], None]:
    return lambda bed: setattr(bed.conveyor, "spoil", share)


def choose(name: str) -> Callable[[Bed], None]:
    return lambda bed: setattr(bed.program, "recipe", name)


FAULTS = (
    Fault("camera unplugged and back", unplug, plug),
    Fault("buffers lost, one in three", spoil(0.33), spoil(0.0)),
    Fault("exposure refused", refuse, accept),
    Fault(
        "trigger without picture",
        lambda bed: setattr(bed.conveyor, "pictures", False),
        lambda bed: setattr(bed.conveyor, "pictures", True),
        2.0,
    ),
    Fault("picture without trigger", without_trigger, seconds=0.5),
    Fault(
        "picture after the next trigger",
        lambda bed: setattr(bed.conveyor, "hold_back", True),
        seconds=1.0,
    ),
    Fault("burst of 20 triggers", lambda bed: setattr(bed.program, "burst", 20), seconds=1.0),
    Fault(
        "PLC gone in mid-handshake",
        lambda bed: setattr(bed.plc, "leave_at_trigger", True),
        seconds=3.5,
    ),
    Fault("PLC restarted", restart_plc, seconds=1.0),
    Fault("OPC UA client hangs", hang_client, let_go),
    Fault("Modbus garbage", garbage, seconds=1.0),
    Fault(
        "clock jumps by a day",
        lambda bed: bed.process.tell("clock 86400"),
        lambda bed: bed.process.tell("clock -86400"),
        1.0,
    ),
    Fault("artifact swap", choose("other"), choose("washer"), 2.0),
    Fault("artifact refused", choose("broken"), seconds=1.0),
    Fault("disk full", fill, drain),
    Fault("process killed", kill, seconds=1.0),
)


@dataclass
class Found:
    """What became of the parts of one fault."""

    times: int = 0
    parts: int = 0
    judged: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    recovery: float = 0.0


REASONS = ("", "camera fault", "picture lost", "late", "overrun", "restart")


def run(given: argparse.Namespace, bed: Bed, faults: Sequence[Fault]) -> list[tuple[str, float]]:
    """Let parts come, with one fault after another; the fault and the moment of its end."""
    conveyor = bed.conveyor
    ends: list[tuple[str, float]] = []
    while not faults and len(conveyor.records) < given.parts:
        time.sleep(0.1)
    while len(conveyor.records) < given.parts or (not given.parts and len(ends) < len(faults)):
        conveyor.fault = CALM
        time.sleep(given.calm)
        fault = faults[len(ends) % len(faults)]
        print(f"{len(conveyor.records)} parts, {fault.name}", flush=True)
        conveyor.fault = fault.name
        fault.begin(bed)
        time.sleep(fault.seconds * given.pace)
        fault.end(bed)
        ends.append((fault.name, time.monotonic()))
        until = time.monotonic() + 30
        while not _recovered(conveyor, ends[-1][1]) and time.monotonic() < until:
            time.sleep(0.02)
    conveyor.fault = CALM
    bed.program.running = False
    time.sleep(2.0 * given.pace)
    return ends


def _recovered(conveyor: Conveyor, end: float) -> bool:
    recent = list(conveyor.records.values())[-20:]
    return any(r.triggered > end and r.results and _outcome(r) == 1 for r in recent)


def _outcome(record: Record) -> int:
    return int(record.results[0]["Outcome"])


def judge(conveyor: Conveyor, ends: list[tuple[str, float]]) -> dict[str, Found]:
    """Compare what the PLC took with the truth."""
    found: dict[str, Found] = {name: Found() for name in [CALM, *dict.fromkeys(n for n, _ in ends)]}
    for record in conveyor.records.values():
        one = found[record.fault or CALM]
        one.parts += 1
        one.refused += record.refused
        one.lost += record.id is not None and not record.results
        one.doubled += len(record.results) > 1
        if record.results:
            outcome = _outcome(record)
            reason = REASONS[int(record.results[0]["Reason"])]
            one.judged += outcome in (1, 2)
            one.reasons[reason] += outcome == 3
            wrong = outcome in (1, 2) and (outcome == 2) != record.defective
            wrong = wrong or record.id not in (None, int(record.results[0]["ResultId"]))
            one.wrong += wrong
            if wrong:
                print(f"wrong: {record}")
    good = [  # a reject needs one camera only
        (r.triggered, r.results[0]["seen"])
        for r in conveyor.records.values()
        if r.results and _outcome(r) == 1
    ]
    for name, end in ends:
        one = found[name]
        one.times += 1
        after = [seen - end for triggered, seen in good if triggered > end]
        one.recovery = max(one.recovery, after[0] if after else float("inf"))
    return found


def table(found: dict[str, Found], out_of_order: int) -> str:
    """Markdown."""
    lines = [
        "| Fault | Times | Parts | Judged | No verdict | Refused | Late | Lost | Doubled | Wrong"
        " | Back |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        words = ", ".join(f"{count} {reason}" for reason, count in one.reasons.items() if count)
        back = f"{one.recovery:.2f} s" if one.times else ""
        lines.append(
            f"| {name} | {one.times or ''} | {one.parts} | {one.judged} | {words} | {one.refused}"
            f" | {one.reasons['late']} | {one.lost} | {one.doubled} | {one.wrong} | {back} |"
        )
    return "\n".join([*lines, "", f"Out of order: {out_of_order}."])


def times(conveyor: Conveyor, lines: Path) -> str:
    """From trigger to verdict without a fault, and where it goes."""
    told = {}
    for line in lines.read_text().splitlines():
        row = json.loads(line)
        if row.get("notice") == "verdict" and row["pictures"]:  # not one that is told again
            told[row["part"]] = row
    rows: dict[str, list[float]] = {"on the wire": [], "station": [], "camera": [], "network": []}
    for record in conveyor.records.values():
        row = told.get(record.name)
        if record.fault == CALM and record.results and row and _outcome(record) in (1, 2):
            pictures = [p for p in row["pictures"] if "network_ms" in p]
            rows["on the wire"].append(1000 * (record.results[0]["seen"] - record.triggered))
            rows["station"].append(row["milliseconds"])
            rows["camera"].append(max(p["arrived_ms"] for p in pictures))
            rows["network"].append(sum(p["network_ms"] for p in pictures))
    rows["PLC, both ways"] = list(np.subtract(rows["on the wire"], rows["station"]))
    lines_ = [
        f"| ms of {len(rows['station'])} parts | {' | '.join(QUANTILES)} |",
        "|---|---|---|---|---|",
    ]
    for name, values in rows.items():
        cells = " | ".join(f"{np.quantile(values, q):.1f}" for q in QUANTILES.values())
        lines_.append(f"| {name} | {cells} |")
    return "\n".join(lines_)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bed; 1 if a verdict was lost, doubled, wrong or out of order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=10_000, help="0: each fault once")
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--calm", type=float, default=8.0, help="seconds between two faults")
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--deadline", type=float, default=0.5)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--scan", type=float, default=2.0, help="of the PLC, ms")
    parser.add_argument("--pace", type=float, default=1.0, help="how long faults last, 1 as usual")
    parser.add_argument(
        "--only", default="", help="faults whose name this expression finds, - for none"
    )
    parser.add_argument("--without-opcua", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = given.state or Path(place)
        recipes = prepare_recipes(Path(place), given.artifact)
        good, bad = images(given.artifact)
        file, modbus, opcua = write_file(
            folder,
            recipes,
            opcua=not given.without_opcua,
            deadline=given.deadline,
            window=0.45 / given.rate,
            threads=None if given.artifact else 1,
        )
        conveyor = Conveyor(good, bad, given.rate)
        program = BedProgram(conveyor)
        program.running = False
        plc = BedPlc(program, modbus, given.scan / 1000, 3.0 * given.pace)
        process = Process(file, conveyor, Path(place) / "log.txt")
        stack.callback(process.close)
        bed = Bed(conveyor, program, plc, process, opcua, folder)
        plc.start()
        wait_until_ready(program)
        heard = None if given.without_opcua else listen(opcua, stack)
        program.next_at, program.running = time.monotonic(), True
        chosen = [f for f in FAULTS if _possible(f, given)]
        ends = run(given, bed, chosen)
        plc.over = True
        stack.callback(let_go, bed)
        found = judge(conveyor, ends)
        ids = [int(values["ResultId"]) for values in program.taken]
        out_of_order = sum(a >= b for a, b in itertools.pairwise(ids))
        print(table(found, out_of_order), flush=True)
        print(
            f"\nTold again under their ids: {program.repeated}; recipes: {Counter(program.loaded)}"
        )
        if heard is not None:
            print(heard())
        print(f"\n{times(conveyor, folder / 'parts.jsonl')}")
    bad_parts = sum(one.lost + one.doubled + one.wrong for one in found.values())
    return 1 if bad_parts or out_of_order else 0


def _possible(fault: Fault, given: argparse.Namespace) -> bool:
    if given.only == "-" or not re.search(given.only, fault.name):
        return False
    if fault.name == "disk full":
        return given.state is not None
    return not (given.without_opcua and fault.name.startswith("OPC UA"))


def wait_until_ready(program: BedProgram) -> None:
    """Until the station would inspect a part."""
    until = time.monotonic() + 60
    while not program.ready and time.monotonic() < until:
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
