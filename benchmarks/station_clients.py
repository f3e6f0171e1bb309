"""OPC UA clients of the test bed of `station.py`: one that listens, and one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"
spawn = multiprocessing.get_context("spawn")


def listen(port: int, stack: contextlib.ExitStack) -> Callable[[], str]:
    """Listen to events in a process of its own; returns what says what was heard."""
    queue: Any = spawn.Queue()
    process = spawn.Process(target=_listen, args=(port, queue), daemon=True)
    process.start()
    stack.callback(process.kill)

    def heard() -> str:
        ids = []
        while not queue.empty():
            ids.append(queue.get())
        steps = list(itertools.pairwise(ids))
        doubled, falling = sum(a == b for a, b in steps), sum(a > b for a, b in steps)
        return f"OPC UA: {len(ids)} events, {doubled} doubled, {falling} out of order"

    return heard


def hang(port: int) -> Any:
    """A client that subscribes and then reads nothing any more."""
    subscribed = spawn.Event()
    process = spawn.Process(target=_hang, args=(port, subscribed), daemon=True)
    process.start()
    subscribed.wait(10)
    os.kill(process.pid or 0, signal.SIGSTOP)
    return process


def _hang(port: int, subscribed: Any) -> None:
    asyncio.run(_subscribe(port, lambda id: None, subscribed))


def _listen(port: int, queue: Any) -> None:
    while True:
        with contextlib.suppress(Exception):
            asyncio.run(_subscribe(port, queue.put, None))
        time.sleep(0.2)


async def _subscribe(port: int, on_id: Callable[[int], None], subscribed: Any) -> None:
    """Until the connection is lost."""
    from asyncua import Client

    class Events:
        def event_notification(self, event: Any) -> None:
            on_id(int(event.ResultId))

    async with Client(f"opc.tcp://{HOST}:{port}/generalad", timeout=1) as client:
        subscription = await client.create_subscription(50, Events())
        kind = await client.nodes.base_event_type.get_child(["2:ResultReadyEventType"])
        await subscription.subscribe_events(client.get_node("ns=2;s=VisionSystem"), kind)
        if subscribed is not None:
            subscribed.set()
        while True:
            await asyncio.sleep(0.5)
            await client.check_connection()
