"""Time from a verdict to the PLC on the wire, and what one cycle costs.

    python benchmarks/plc.py [--parts 1000]

The station and a PLC are two processes on one machine. `seen` is from `deliver` to the moment at
which the other process holds the result; `part` is a whole part: trigger, answer, result,
acknowledgement, with a PLC that looks again at once.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import numpy as np
from plc_helpers import HOST, READY, PlcProgram, verdict
from plc_servers import ModbusPlc
from ports import free_port

from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.interface import Accepted, Plc, Refused
from generalad.runtime.station.plc.modbus_client import ModbusMemory
from generalad.runtime.station.plc.modbus_server import ModbusServer
from generalad.runtime.station.plc.opcua_server import OpcUaServer
from generalad.runtime.station.plc.polled import PolledPlc
from generalad.runtime.station.plc.registers import command_registers, station_values
from generalad.runtime.station.plc.signals import COMMANDS, STATION

QUANTILES = (0.5, 0.99, 0.999, 1.0)


class AnsweringStation:
    """Gives the verdict with the trigger; `delivered` has when."""

    def __init__(self) -> None:
        self.delivered: list[float] = []
        self.plc: Plc | None = None

    def trigger(self, part: str | None) -> Accepted | Refused:
        id = len(self.delivered) + 1
        self.delivered.append(time.monotonic())
        assert self.plc is not None
        self.plc.deliver(verdict(id))
        return Accepted(id)

    def select_recipe(self, name: str) -> None:
        raise NotImplementedError

    def acknowledge(self, id: int) -> None:
        return


class TimedProgram(PlcProgram):
    """Notes when it sees each result."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.to_trigger = [str(number) for number in range(parts)]

    def scan(self, station: Any) -> Any:
        commands = super().scan(station)
        if len(self.taken) > len(self.seen):
            self.seen.append(time.monotonic())
        return commands


def asking_modbus(port: int, parts: int, pipe: Connection) -> None:
    """The PLC of a Modbus server."""
    program, memory = TimedProgram(parts), ModbusMemory(HOST, port)
    memory.connect()
    while len(program.seen) < parts:
        words = memory.read(STATION.start, len(STATION))
        asked = command_registers(program.scan(station_values(words, "big")), "big")
        memory.write(COMMANDS.start, asked)
    memory.close()
    pipe.send(program.seen)


def asked_modbus(port: int, parts: int, pipe: Connection) -> None:
    """The PLC of a Modbus client."""
    program = TimedProgram(parts)
    with ModbusPlc(program, port):
        while len(program.seen) < parts:
            time.sleep(0.01)
    pipe.send(program.seen)


def subscribed_opcua(port: int, parts: int, pipe: Connection) -> None:
    """A client that starts jobs, hears of results by events and acknowledges them."""
    from asyncua import Client, ua

    seen: list[float] = []

    async def main() -> None:
        heard = asyncio.Event()

        class Events:
            def event_notification(self, event: Any) -> None:
                seen.append(time.monotonic())
                heard.set()

        async with Client(f"opc.tcp://{HOST}:{port}/generalad") as client:
            subscription = await client.create_subscription(1, Events())
            kind = await client.nodes.base_event_type.get_child(["2:ResultReadyEventType"])
            await subscription.subscribe_events(client.get_node("ns=2;s=VisionSystem"), kind)
            jobs = client.get_node("ns=2;s=AutomationMode")
            results = client.get_node("ns=2;s=ResultManagement")
            for id in range(1, parts + 1):
                await jobs.call_method("2:StartSingleJob", str(id))
                await asyncio.wait_for(heard.wait(), 10)
                heard.clear()
                number = ua.Variant(id, ua.VariantType.UInt32)
                await results.call_method("2:AcknowledgeResult", number)

    asyncio.run(main())
    pipe.send(seen)


def measure(
    name: str, parts: int, plc: Plc, port: int, other: Callable[[int, int, Connection], None]
) -> None:
    """Print one row."""
    station = AnsweringStation()
    station.plc = plc
    plc.start(station)
    plc.publish(READY)
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(
        target=other,
        args=(port or plc.port, parts, theirs),  # type: ignore[attr-defined]
    )
    worker.start()
    began = 0.0
    while not ours.poll(0.5):
        plc.publish(READY)
        began = began or (station.delivered[0] if station.delivered else 0.0)
        if not worker.is_alive() and not ours.poll():
            raise SystemExit(f"{name}: the PLC's process has failed")
    seen = np.array(ours.recv())
    worker.join()
    plc.close()
    delays = 1000 * (seen - np.array(station.delivered[: len(seen)]))
    cells = [f"{value:.2f}" for value in np.quantile(delays, QUANTILES)]
    whole = 1000 * (seen[-1] - station.delivered[0]) / max(1, len(seen) - 1)
    print(f"| {name} | {' | '.join(cells)} | {whole:.2f} |", flush=True)


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=1000)
    parts = parser.parse_args().parts
    print("| | seen p50 | p99 | p99.9 | longest | a part |\n|---|---|---|---|---|---|")
    measure("modbus-server", parts, ModbusServer(HOST, 0, Handshake()), 0, asking_modbus)
    for poll in (0.01, 0.001):
        port = free_port()
        client = PolledPlc(ModbusMemory(HOST, port), Handshake(), poll=poll)
        measure(f"modbus-client, poll {1000 * poll:g} ms", parts, client, port, asked_modbus)
    opcua = OpcUaServer(HOST, 0, Handshake(known=True))
    measure("opcua, method and event", parts, opcua, 0, subscribed_opcua)
    cycle = Handshake(known=True)
    cycle.deliver(verdict(1))
    began = time.perf_counter()
    from generalad.runtime.station.plc.registers import station_registers

    for _ in range(1000):
        station_registers(cycle.signals(), "big")
    print(f"\none look at all signals, as registers: {time.perf_counter() - began:.3f} ms")


if __name__ == "__main__":
    main()
