"""A test bed for a station: a conveyor with cameras, a PLC that keeps its own book, the process.

The truth is here: which part was defective, when it was triggered, what the PLC took for it. The
station is another process, and knows nothing of it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import numpy as np
from numpy.typing import NDArray
from plc_helpers import PlcProgram
from ports import free_port

from generalad.runtime.delivery.transport import Unavailable
from generalad.runtime.station.plc.modbus_client import ModbusMemory
from generalad.runtime.station.plc.registers import command_registers, station_values
from generalad.runtime.station.plc.signals import COMMANDS, STATION, Value, Values

HOST = "127.0.0.1"
HEAD = struct.Struct("!cII")
CAMERAS = {"top": "line", "side": "line", "code": "software"}
Image = NDArray[np.uint8]


@dataclass
class Record:
    """A part, as the world outside of the station knows it."""

    name: str
    defective: bool
    fault: str
    triggered: float
    id: int | None = None
    refused: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)


class Camera:
    """A camera that the station connects to; it takes the pictures that the conveyor shows it."""

    def __init__(self, image: Callable[[], Image | None]) -> None:
        self._image = image
        self._server = socket.create_server((HOST, 0))
        self.port: int = self._server.getsockname()[1]
        self.away = self.refuse = False
        self._client: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.away or self.refuse:
                if self.refuse:
                    self._try(client, b"R")
                client.close()
                continue
            self._try(client, b"O")
            self._client = client
            threading.Thread(target=self._listen, args=(client,), daemon=True).start()

    def _listen(self, client: socket.socket) -> None:
        """A software trigger: take a picture of what stands there."""
        try:
            while client.recv(1):
                image = self._image()
                if image is not None:
                    self.send(image)
        except OSError:
            pass

    def send(self, image: Image) -> None:
        if self._client is not None:
            head = HEAD.pack(b"P", image.shape[0], image.shape[1])
            self._try(self._client, head + image.tobytes())

    def spoil(self, kind: bytes) -> None:
        if self._client is not None:
            self._try(self._client, HEAD.pack(kind, 0, 0))

    def unplug(self) -> None:
        self.away = True
        self.cut()

    def cut(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # another thread reads it
            client.close()

    def _try(self, client: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            client.sendall(data)


class Conveyor:
    """Brings parts at a rate; a photo-eye fires the PLC and the cameras with a signal."""

    def __init__(self, good: list[Image], bad: list[Image], rate: float, seed: int = 0) -> None:
        self._good, self._bad, self.rate = good, bad, rate
        self._random = random.Random(seed)
        self.records: dict[str, Record] = {}
        self.fault = "none"
        self.pictures = True
        self.spoil = 0.0
        self.hold_back = False
        """The picture of the next part, which is defective, comes after the next trigger."""
        self._held_back: Image | None = None
        self._now: dict[str, Image] = {}
        self.cameras = {name: Camera(functools.partial(self._show, name)) for name in CAMERAS}

    def next_part(self) -> Record:
        number = len(self.records)
        name = f"P{number:07d}"
        bad = self._random.random() < 0.1
        worst = self._random.choice(list(CAMERAS)) if bad else None
        if self.hold_back:
            worst = "top"
        elif self._held_back is not None:
            worst = None
        record = Record(name, worst is not None, self.fault, 0.0)
        self.records[name] = record
        for camera in CAMERAS:
            image = self._random.choice(self._bad if camera == worst else self._good).copy()
            image[0, 0, 0] ^= 1 + number % 3  # no two in a row are the same
            self._now[camera] = image
        return record

    def _show(self, camera: str) -> Image | None:
        return self._now.get(camera) if self.pictures else None

    def fire(self) -> None:
        """The signal reaches the cameras."""
        late, self._held_back = self._held_back, None
        if late is not None:
            self.cameras["top"].send(late)
        if self.hold_back:
            self.hold_back, self._held_back = False, self._now["top"]
            self.cameras["side"].send(self._now["side"])
            return
        for name, how in CAMERAS.items():
            if how == "line" and self.pictures:
                if self._random.random() < self.spoil:
                    self.cameras[name].spoil(self._random.choice([b"D", b"L"]))
                else:
                    self.cameras[name].send(self._now[name])


class BedProgram(PlcProgram):
    """The PLC's program, which triggers whether the station is ready or not, and keeps the book."""

    def __init__(self, conveyor: Conveyor) -> None:
        super().__init__()
        self.conveyor = conveyor
        self.next_at = time.monotonic()
        self.burst = 0
        self.running = True
        self.recipe = ""
        self.loaded: list[str] = []
        self.repeated = 0
        self.ready = False
        self._current: Record | None = None

    def scan(self, station: Values) -> dict[str, Value]:
        before = len(self.taken), len(self.answers), self.last
        if station["ResultValid"] and not self.commands["ResultAcknowledged"] and not self.first:
            self.repeated += int(station["ResultId"]) <= self.last
        self.ready = bool(station["Ready"])
        now = time.monotonic()
        due = self.burst > 0 or now >= self.next_at
        busy = self.commands["Trigger"] or station["TriggerAcknowledged"] or self.first
        if self.running and due and not busy:
            if self.burst:
                self.burst -= 1
            else:
                while self.next_at <= now:  # parts that passed meanwhile are gone
                    self.next_at += 1 / self.conveyor.rate
            self._current = self.conveyor.next_part()
            self.to_trigger = [self._current.name]
            station = {**station, "Ready": True}
        commands = super().scan(station)
        self._recipe(station, commands)
        for values in self.taken[before[0] :]:
            self._took(values)
        for name, id in self.answers[before[1] :]:
            record = self.conveyor.records[name]
            record.id, record.refused = id or None, not id
        return commands

    def _recipe(self, station: Values, commands: dict[str, Value]) -> None:
        if commands["RecipeRequest"]:
            if station["RecipeLoaded"] or station["RecipeRefused"]:
                self.loaded.append("loaded" if station["RecipeLoaded"] else "refused")
                commands["RecipeRequest"] = False
        elif self.recipe and not (station["RecipeLoaded"] or station["RecipeRefused"]):
            commands["RequestedRecipe"], self.recipe = self.recipe, ""
            commands["RecipeRequest"] = True

    def _took(self, values: dict[str, Value]) -> None:
        record = self.conveyor.records.get(str(values["ResultPart"]))
        if record is not None:
            record.results.append({**values, "seen": time.monotonic()})


class BedPlc(threading.Thread):
    """The PLC: scans, and is away, restarted or in the middle of a handshake when it is told so."""

    def __init__(self, program: BedProgram, port: int, scan: float, away: float) -> None:
        super().__init__(daemon=True)
        self.program, self.port, self._scan, self._away = program, port, scan, away
        self.over = self.leave_at_trigger = False
        self.away_until = 0.0

    def run(self) -> None:
        while not self.over:
            memory = ModbusMemory(HOST, self.port, timeout=1.0)
            try:
                if time.monotonic() >= self.away_until:
                    memory.connect()
                    self._talk(memory)
                else:
                    time.sleep(0.02)
            except (Unavailable, OSError):
                time.sleep(0.05)
            finally:
                memory.close()

    def _talk(self, memory: ModbusMemory) -> None:
        written: list[int] = []
        while not self.over and time.monotonic() >= self.away_until:
            station = station_values(memory.read(STATION.start, len(STATION)), "big")
            triggered = self.program.commands["Trigger"]
            commands = self.program.scan(station)
            words = command_registers(commands, "big")
            fires = commands["Trigger"] and not triggered
            if fires and self.program._current is not None:
                self.program._current.triggered = time.monotonic()
            if words != written:
                memory.write(COMMANDS.start, words)
                written = words
            if fires:
                self.program.conveyor.fire()
                # Parts lie apart on a belt, however late the PLC was for this one.
                apart = 0.9 / self.program.conveyor.rate
                self.program.next_at = max(self.program.next_at, time.monotonic() + apart)
                if self.leave_at_trigger:
                    self.leave_at_trigger = False
                    self.away_until = time.monotonic() + self._away
            time.sleep(self._scan)


class Process:
    """The station under test, which can be killed and comes back."""

    def __init__(self, file: Path, conveyor: Conveyor, log: Path) -> None:
        cameras = {name: (how, conveyor.cameras[name].port) for name, how in CAMERAS.items()}
        script = Path(__file__).with_name("station_process.py")
        self._words = [sys.executable, str(script), str(file), json.dumps(cameras)]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, stderr=log, cwd=Path(__file__).parents[1]
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def write_file(
    folder: Path,
    recipes: dict[str, Path],
    *,
    opcua: bool,
    deadline: float,
    window: float,
    threads: int | None,
) -> tuple[Path, int, int]:
    """The station's file, and the ports of Modbus and OPC UA."""
    modbus, port = free_port(), free_port()
    text = f"""
        state = "state"
        {"" if threads is None else f"threads = {threads}"}
        [station]
        name = "bed"
        deadline_ms = {deadline * 1000:g}
        window_ms = {window * 1000:g}
        [trigger]
        by = "plc"
        [[plc]]
        type = "modbus-server"
        address = "{HOST}:{modbus}"
        [[stream]]
        name = "top"
        source = "test://washer"
        [[sink]]
        type = "json"
        file = "parts.jsonl"
        [[sink]]
        type = "events"
        folder = "rejects"
        max_gb = 0.002
        """
    if opcua:
        text += f'[[plc]]\ntype = "opcua"\naddress = "{HOST}:{port}"\nacknowledge = false\n'
    for name, path in recipes.items():
        text += f'[[recipe]]\nname = "{name}"\nartifact = "{path}"\n'
    file = folder / "station.toml"
    file.write_text(text)
    return file, modbus, port
