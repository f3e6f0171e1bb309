"""`OpcUaServer`: the station as an OPC UA server, see `opcua_nodes` for what is in it.

One thread with an event loop serves all clients. The station only rings a bell; the thread then
writes what has changed, all of it before any client is answered, so that one request to read
sees one moment. A client gets as many notifications as it has asked for, and its queues are
bounded: one that hangs holds up nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from generalad.errors import GadError, UsageError
from generalad.runtime.delivery.transport import network_reason
from generalad.runtime.station.plc.handshake import (
    BEAT_SECONDS,
    MOST_WAITING,
    Handshake,
    result_signals,
)
from generalad.runtime.station.plc.interface import Accepted, PlcStatus, Requests
from generalad.runtime.station.plc.library import bind_once, in_address, need
from generalad.runtime.station.plc.signals import NO_COMMANDS, TO_PLC, Value
from generalad.runtime.station.verdict import MOST_NAME, StationState, Verdict

if TYPE_CHECKING:
    from generalad.runtime.station.plc.opcua_nodes import Method, Nodes
    from generalad.runtime.station.plc.opcua_security import Security

MOST_CLIENTS = 32
OK, NOT_READY, OVERRUN, NO_SUCH_RESULT = 0, 1, 2, 3
"""Values of the output argument Error."""

_START_SECONDS = 60.0
_MOST_JOBS = 1000


class OpcUaServer:
    """See `Plc`."""

    def __init__(
        self,
        host: str,
        port: int,
        handshake: Handshake,
        *,
        security: Security | None = None,
    ) -> None:
        """Nothing is opened before `start`; the handshake must have `known` commands.

        Args:
            host: address to listen on.
            port: 0 is any free one, see `port`.
            handshake: of this server alone.
            security: None is none.

        Raises:
            MissingExtraError: asyncua is not installed.
        """
        need("OPC UA", "opcua", "asyncua")
        self.port = port
        self._host = in_address(host)
        self._handshake = handshake
        self._security = security
        self._requests: Requests | None = None
        self._state: StationState | None = None
        self._closing = False
        self._stopped = False
        self._jobs: dict[int, None] = {}
        self._newest = 0  # of the verdicts
        self._problem = ""
        self._commands: dict[str, Value] = dict(NO_COMMANDS)
        self._look_due = False
        self._written: dict[Any, Value] = {}
        self._failure: GadError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: asyncio.Event | None = None
        self._server: Any = None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gad-opcua", daemon=True)
        self._shown: deque[Verdict] = deque(maxlen=MOST_WAITING)
        handshake.changed, handshake.on_shown = self._ring, self._shown.append

    def start(self, requests: Requests) -> None:
        """See `Plc`."""
        self._requests = requests
        self._handshake.start(requests)
        self._thread.start()
        self._listening.wait(_START_SECONDS)
        if self._failure is not None:
            raise self._failure

    def publish(self, state: StationState) -> None:
        """See `Plc`."""
        self._state = state
        self._handshake.publish(state)

    def deliver(self, verdict: Verdict) -> None:
        """See `Plc`."""
        self._newest = verdict.id
        self._jobs.pop(verdict.id, None)
        self._handshake.deliver(verdict)

    @property
    def status(self) -> PlcStatus:
        """See `Plc`."""
        server = self._server
        connected = bool(server is not None and server.bserver and server.bserver.clients)
        reason = self._problem or ("connected" if connected else "no client")
        return self._handshake.status(
            f"opc.tcp://{self._host}:{self.port}", connected=connected, reason=reason
        )

    def close(self) -> None:
        """See `Plc`."""
        self._closing = True
        self._handshake.close()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _ring(self) -> None:
        if self._loop is not None and self._bell is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._bell.set)

    # The thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except GadError as error:
            self._failure = error
        except Exception as error:  # of a library; its text may hold anything
            self._failure = UsageError(
                f"cannot listen on {self._host}:{self.port}: {network_reason(error)}",
                remedy="name another address, or end what holds this one",
            )
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        from generalad.runtime.station.plc import opcua_nodes, opcua_security

        self._loop, self._bell = asyncio.get_running_loop(), asyncio.Event()
        # Bound once before what takes seconds; the library's server binds again.
        self.port = bind_once(self._host.strip("[]"), self.port)
        security = self._security or opcua_security.Security()
        server = self._server = opcua_security.make_server(security)
        await server.init()
        server.iserver.max_connections = MOST_CLIENTS
        server.set_server_name("generalad station")
        server.set_endpoint(f"opc.tcp://{self._host}:{self.port}/generalad")
        await opcua_security.secure(server, security)
        nodes = await opcua_nodes.build(server, self._methods(), self._command)
        await self._show(nodes)
        async with server:
            self._listening.set()
            while not self._closing:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._bell.wait(), BEAT_SECONDS / 2)
                self._bell.clear()
                try:
                    await self._show(nodes)
                    self._problem = ""
                except Exception as error:  # of a library; the server must go on
                    self._problem = f"unexpected error ({type(error).__name__})"

    async def _show(self, nodes: Nodes) -> None:
        """Write what has changed; nothing in here lets another task run."""
        # Before the signals, which are then at least as new as the events.
        shown = [self._shown.popleft() for _ in range(len(self._shown))]
        signals = self._handshake.signals()
        for signal in TO_PLC:  # ResultValid comes behind the result
            value = signals.get(signal.name)
            if value is not None:
                await self._write(nodes.signals[signal.name], value, signal.kind)
        outer, inner = self._vision_state()
        await self._write(nodes.vision_state, outer, "text")
        await self._write(nodes.automation_state, inner, "text")
        for verdict in shown:
            event = nodes.results.event
            for name, value in result_signals(verdict).items():
                if hasattr(event, name):
                    setattr(event, name, value)
            await nodes.results.trigger(message=f"result of part {verdict.id}")

    async def _write(self, node: Any, value: Value, kind: Any) -> None:
        from asyncua import ua

        from generalad.runtime.station.plc.opcua_nodes import TYPES

        if self._written.get(node) != value:
            self._written[node] = value
            now = datetime.datetime.now(datetime.timezone.utc)
            held = ua.DataValue(ua.Variant(value, TYPES[kind]), SourceTimestamp=now)
            await self._server.write_attribute_value(node, held)

    def _vision_state(self) -> tuple[str, str]:
        state = self._state
        if self._closing:
            return "Halted", ""
        if state is None:
            return "Preoperational", ""
        if state.error:
            return "Error", ""
        if self._stopped or not (state.ready or state.busy):
            return "Operational", "Initialized"
        if not state.busy:
            return "Operational", "Ready"
        return "Operational", "SingleExecution" if self._jobs else "ContinuousExecution"

    # From clients

    def _command(self, name: str, value: Value) -> None:
        """A client has written a command; several in one request count together."""
        self._commands[name] = value
        if not self._look_due and self._loop is not None:
            self._look_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._look_due = False
        self._handshake.look(self._commands)
        self._ring()

    def _methods(self) -> list[Method]:
        from asyncua import ua

        from generalad.runtime.station.plc.opcua_nodes import Method

        error = [("Error", ua.VariantType.Int32)]
        text, number = ua.VariantType.String, ua.VariantType.UInt32
        mode = "VisionStateMachine"
        return [
            Method("SelectModeAutomation", mode, self._select_automation, (), error),
            Method("Stop", mode, self._stop, (), error),
            Method(
                "StartSingleJob",
                "AutomationMode",
                self._start_job,
                [("PartId", text)],
                [("JobId", number), *error],
            ),
            Method("PrepareRecipe", "RecipeManagement", self._prepare, [("RecipeId", text)], error),
            Method(
                "AcknowledgeResult",
                "ResultManagement",
                self._acknowledge,
                [("ResultId", number)],
                error,
            ),
        ]

    async def _select_automation(self, parent: Any) -> Any:
        self._stopped = False
        self._ring()
        return _answer(OK)

    async def _stop(self, parent: Any) -> Any:
        """Jobs that run get their results; others are refused until automation is selected."""
        self._stopped = True
        self._ring()
        return _answer(OK)

    async def _start_job(self, parent: Any, part: Any) -> Any:
        from asyncua import ua

        if self._stopped or self._closing or self._requests is None:
            return [ua.Variant(0, ua.VariantType.UInt32), *_answer(NOT_READY)]
        answer = self._requests.trigger(str(part.Value or "")[:MOST_NAME] or None)
        self._ring()
        if isinstance(answer, Accepted):
            if len(self._jobs) < _MOST_JOBS:
                self._jobs[answer.id] = None
            if answer.id <= self._newest:  # its verdict was quicker
                self._jobs.pop(answer.id, None)
            return [ua.Variant(answer.id, ua.VariantType.UInt32), *_answer(OK)]
        error = OVERRUN if answer.reason == "overrun" else NOT_READY
        return [ua.Variant(0, ua.VariantType.UInt32), *_answer(error)]

    async def _prepare(self, parent: Any, recipe: Any) -> Any:
        """The answer is in Recipe and RecipeText; asked says that it is not known yet."""
        if self._requests is None:
            return _answer(NOT_READY)
        self._requests.select_recipe(str(recipe.Value or "")[:MOST_NAME])
        return _answer(OK)

    async def _acknowledge(self, parent: Any, id: Any) -> Any:
        taken = self._handshake.take(int(id.Value or 0))
        self._ring()
        return _answer(OK if taken else NO_SUCH_RESULT)


def _answer(error: int) -> list[Any]:
    from asyncua import ua

    return [ua.Variant(error, ua.VariantType.Int32)]
