"""The OPC UA server, against the library's own client."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from plc_helpers import HOST, PATIENCE, READY, FakeStation, PlcProgram, check_taken, until, verdict

from generalad.errors import UsageError
from generalad.runtime.secrets import Secret
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.interface import Refused
from generalad.runtime.station.plc.opcua_server import (
    NO_SUCH_RESULT,
    NOT_READY,
    OK,
    OVERRUN,
    OpcUaServer,
)
from generalad.runtime.station.plc.signals import FROM_PLC, TO_PLC, Value
from generalad.runtime.station.verdict import StationState

asyncua = pytest.importorskip("asyncua", reason="needs asyncua")

Talk = Callable[["Opened"], Coroutine[Any, Any, Any]]


class Opened:
    """A connected client, by the names of the map."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def node(self, name: str) -> Any:
        return self.client.get_node(f"ns=2;s={name}")

    async def read(self, *names: str) -> list[Any]:
        values: list[Any] = await self.client.read_values([self.node(name) for name in names])
        return values

    async def write(self, values: dict[str, Value]) -> None:
        await self.client.write_values(
            [self.node(name) for name in values], [asyncua.ua.Variant(v) for v in values.values()]
        )

    async def call(self, parent: str, method: str, *arguments: Any) -> Any:
        return await self.node(parent).call_method(f"2:{method}", *arguments)

    async def until(self, name: str, value: Value) -> None:
        end = time.monotonic() + PATIENCE
        while (await self.read(name))[0] != value:
            assert time.monotonic() < end
            await asyncio.sleep(0.005)

    async def subscribe(self, handler: Any) -> None:
        subscription = await self.client.create_subscription(5, handler)
        kind = await self.client.nodes.base_event_type.get_child(["2:ResultReadyEventType"])
        await subscription.subscribe_events(self.node("VisionSystem"), kind)


class Events:
    """Collects ResultReady events."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.found.append(event)

    async def until(self, count: int) -> None:
        end = time.monotonic() + PATIENCE
        while len(self.found) < count:
            assert time.monotonic() < end
            await asyncio.sleep(0.005)


class Served:
    """One server, which takes seconds to start, with a fresh handshake for each test."""

    def __init__(self) -> None:
        self.server = OpcUaServer(HOST, 0, Handshake(known=True))
        self.station = FakeStation()
        self.server.start(self)

    def __getattr__(self, name: str) -> Any:  # what is asked goes to the test's own station
        return getattr(self.station, name)

    def fresh(self) -> None:
        self.station.__init__(first=self.station.next)  # type: ignore[misc]
        self.server.publish(READY)

    def talk(self, talk: Talk) -> None:
        run(self.server.port, talk)


def run(port: int, talk: Talk, prepare: Callable[[Any], Awaitable[None]] | None = None) -> None:
    async def main() -> None:
        client = asyncua.Client(f"opc.tcp://{HOST}:{port}/generalad")
        if prepare is not None:
            await prepare(client)
        async with client:
            await talk(Opened(client))

    asyncio.run(main())


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    served = Served()
    yield served
    served.server.close()


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    shared.fresh()
    yield shared
    assert shared.server.status.waiting == 0  # each test takes what it delivers


def test_a_job_gets_its_result_as_an_event(served: Served) -> None:
    first = served.station.next

    async def talk(opened: Opened) -> None:
        events = Events()
        await opened.subscribe(events)
        for id in range(first, first + 3):
            answer = await opened.call("AutomationMode", "StartSingleJob", f"part {id}")
            assert answer == [id, OK]
            served.server.publish(StationState(ready=True, busy=True))
            await opened.until("AutomationMode.CurrentState", "SingleExecution")
            served.server.deliver(verdict(id, detail="why"))
            served.server.publish(READY)
            await opened.until("AutomationMode.CurrentState", "Ready")
            number = asyncua.ua.Variant(id, asyncua.ua.VariantType.UInt32)
            await opened.until("ResultValid", True)
            assert await opened.call("ResultManagement", "AcknowledgeResult", number) == OK
        await events.until(3)
        number = asyncua.ua.Variant(first, asyncua.ua.VariantType.UInt32)
        again = await opened.call("ResultManagement", "AcknowledgeResult", number)
        assert again == NO_SUCH_RESULT
        assert [event.ResultId for event in events.found] == [first, first + 1, first + 2]
        assert [event.ResultPart for event in events.found] == [
            f"part {id}" for id in range(first, first + 3)
        ]
        assert events.found[0].ResultText == "why"
        assert events.found[1].Score == pytest.approx(1 / (2 + first))

    served.talk(talk)
    assert served.station.acknowledged == [first, first + 1, first + 2]


def test_a_plc_that_reads_and_writes_gets_every_verdict_once(served: Served) -> None:
    first, parts = served.station.next, 5
    program = PlcProgram()
    program.last = first - 1
    program.to_trigger = [f"part {id}" for id in range(first, first + parts)]
    names = [signal.name for signal in TO_PLC]

    async def talk(opened: Opened) -> None:
        delivered, end = first - 1, time.monotonic() + PATIENCE
        while time.monotonic() < end:
            values = dict(zip(names, await opened.read(*names), strict=True))
            await opened.write(program.scan(values))
            while delivered < served.station.next - 1:
                delivered += 1
                served.server.deliver(verdict(delivered))
            if len(program.taken) == parts and not values["ResultValid"]:
                break
        assert await opened.read("Starts", "Recipe", "Model") == [3, "washer", "washer-2"]

    served.talk(talk)
    check_taken(program, list(range(first, first + parts)))
    assert program.answers == [(f"part {id}", id) for id in range(first, first + parts)]


def test_two_clients_that_call_at_once_get_parts_of_their_own(served: Served) -> None:
    first = served.station.next

    async def talk(opened: Opened) -> None:
        async with asyncua.Client(f"opc.tcp://{HOST}:{served.server.port}/generalad") as other:
            both = [opened, Opened(other)]
            calls = [both[n % 2].call("AutomationMode", "StartSingleJob", f"{n}") for n in range(8)]
            answers = await asyncio.gather(*calls)
            assert sorted(id for id, _ in answers) == list(range(first, first + 8))
            assert {error for _, error in answers} == {OK}
            # A verdict is taken once, whoever asks, and whoever asks again.
            for id in range(first, first + 8):
                served.server.deliver(verdict(id))
                number = asyncua.ua.Variant(id, asyncua.ua.VariantType.UInt32)
                taken = [c.call("ResultManagement", "AcknowledgeResult", number) for c in both * 2]
                assert sorted(await asyncio.gather(*taken)) == [OK, *[NO_SUCH_RESULT] * 3]

    served.talk(talk)
    assert served.station.acknowledged == list(range(first, first + 8))
    parts = served.station.parts
    assert sorted(str(parts[id]) for id in parts) == [str(n) for n in range(8)]


def test_a_client_writes_commands_only_and_of_their_type(served: Served) -> None:
    ua = asyncua.ua

    async def talk(opened: Opened) -> None:
        for signal in TO_PLC:
            (value,) = await opened.read(signal.name)
            with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
                await opened.node(signal.name).write_value(value)
        for signal in FROM_PLC:
            with pytest.raises(ua.UaStatusCodeError, match="BadTypeMismatch"):
                await opened.node(signal.name).write_value(ua.Variant(1.5, ua.VariantType.Double))
        with pytest.raises(ua.UaStatusCodeError):
            await opened.node("Signals").add_variable(2, "mine", 1)

    served.talk(talk)
    assert served.station.parts == {}


def test_lists_parts_and_nothing_are_no_values(served: Served) -> None:
    ua = asyncua.ua
    kinds = ua.VariantType

    async def talk(opened: Opened) -> None:
        for name, values in (
            ("Trigger", ([True], [False], [], [[True], [False]])),
            ("TriggerPart", (["a", "b"],)),
        ):
            kind = kinds.Boolean if name == "Trigger" else kinds.String
            for value in values:
                with pytest.raises(ua.UaStatusCodeError, match="BadTypeMismatch"):
                    await opened.node(name).write_value(ua.Variant(value, kind))
        part = ua.WriteValue(
            NodeId=opened.node("TriggerPart").nodeid,
            AttributeId=ua.AttributeIds.Value,
            IndexRange="0:1",
            Value=ua.DataValue(ua.Variant("b")),
        )
        whole = dataclasses.replace(part, IndexRange=None, Value=ua.DataValue(ua.Variant("a")))
        asked = ua.WriteParameters(NodesToWrite=[part, whole, part])
        answers = await opened.client.uaclient.write(asked)
        refused = "BadWriteNotSupported"
        assert [answer.name for answer in answers] == [refused, "Good", refused]
        assert await opened.read("TriggerPart") == ["a"]
        await opened.node("TriggerPart").write_value(ua.Variant(None, kinds.String))
        await opened.write({"Trigger": True})
        await opened.until("TriggerAcknowledged", True)
        await opened.write({"Trigger": False})
        await opened.until("TriggerAcknowledged", False)

    served.talk(talk)
    assert list(served.station.parts.values()) == [None]


@pytest.mark.parametrize(
    ("parent", "method", "arguments", "error"),
    [
        ("AutomationMode", "StartSingleJob", [], "BadArgumentsMissing"),
        ("AutomationMode", "StartSingleJob", ["a", "b"], "BadTooManyArguments"),
        ("AutomationMode", "StartSingleJob", [["a", "b"]], "BadInvalidArgument"),
        ("AutomationMode", "StartSingleJob", [5], "BadInvalidArgument"),
        ("RecipeManagement", "PrepareRecipe", [b"washer"], "BadInvalidArgument"),
        ("ResultManagement", "AcknowledgeResult", [1.9], "BadInvalidArgument"),
        ("ResultManagement", "AcknowledgeResult", [True], "BadInvalidArgument"),
        ("ResultManagement", "AcknowledgeResult", [-1], "BadInvalidArgument"),
        ("ResultManagement", "AcknowledgeResult", ["1"], "BadInvalidArgument"),
    ],
)
def test_a_method_has_its_arguments(
    served: Served, parent: str, method: str, arguments: list[Any], error: str
) -> None:
    async def talk(opened: Opened) -> None:
        with pytest.raises(asyncua.ua.UaStatusCodeError, match=error):
            await opened.call(parent, method, *arguments)

    served.talk(talk)
    assert served.station.parts == {}


def test_who_says_admin_is_none(served: Served) -> None:
    async def prepare(client: Any) -> None:
        client.set_user("admin")

    with pytest.raises(Exception, match="BadIdentityTokenRejected"):
        run(served.server.port, lambda _: asyncio.sleep(0), prepare)


@pytest.mark.parametrize(("refusal", "error"), [("not ready", NOT_READY), ("overrun", OVERRUN)])
def test_a_job_that_is_refused_has_no_id(served: Served, refusal: Any, error: int) -> None:
    served.station.refuse = Refused(refusal)

    async def talk(opened: Opened) -> None:
        assert await opened.call("AutomationMode", "StartSingleJob", "a") == [0, error]

    served.talk(talk)


def test_the_state_machine_follows_the_station(served: Served) -> None:
    async def talk(opened: Opened) -> None:
        async def becomes(outer: str, inner: str) -> None:
            await opened.until("VisionStateMachine.CurrentState", outer)
            await opened.until("AutomationMode.CurrentState", inner)

        await becomes("Operational", "Ready")
        served.server.publish(StationState(ready=True, busy=True))
        await becomes("Operational", "ContinuousExecution")
        served.server.publish(StationState(error="camera top: no frame"))
        await becomes("Error", "")
        assert await opened.read("Error", "ErrorText") == [True, "camera top: no frame"]
        served.server.publish(StationState())
        await becomes("Operational", "Initialized")
        served.server.publish(READY)
        assert await opened.call("VisionStateMachine", "Stop") == OK
        await becomes("Operational", "Initialized")
        assert await opened.call("AutomationMode", "StartSingleJob", "a") == [0, NOT_READY]
        assert await opened.call("VisionStateMachine", "SelectModeAutomation") == OK
        await becomes("Operational", "Ready")

    served.talk(talk)
    assert served.station.parts == {}


def test_a_recipe_is_asked_for_by_method_and_by_variable(served: Served) -> None:
    async def talk(opened: Opened) -> None:
        assert await opened.call("RecipeManagement", "PrepareRecipe", "nut") == OK
        await opened.write({"RecipeRequest": True, "RequestedRecipe": "bolt"})  # one request
        await asyncio.to_thread(until, lambda: served.station.recipes == ["nut", "bolt"])
        served.server.publish(StationState(recipe="nut", asked="bolt"))
        served.server.publish(StationState(recipe="nut", refused="bolt: no such recipe"))
        await opened.until("RecipeRefused", True)
        assert await opened.read("RecipeText", "Recipe") == ["bolt: no such recipe", "nut"]
        await opened.write({"RecipeRequest": False})
        await opened.until("RecipeRefused", False)

    served.talk(talk)


def test_a_client_that_hangs_holds_up_nobody(served: Served) -> None:
    first = served.station.next
    count = 300
    hanging, release = threading.Event(), threading.Event()

    async def hang(opened: Opened) -> None:
        await opened.subscribe(Events())
        hanging.set()
        release.wait(PATIENCE)  # its event loop stands still: it reads nothing any more

    thread = threading.Thread(target=run, args=(served.server.port, hang))
    thread.start()
    assert hanging.wait(PATIENCE)

    async def talk(opened: Opened) -> None:
        for id in range(first, first + count):
            served.server.deliver(verdict(id))
        number = asyncua.ua.VariantType.UInt32
        for id in range(first, first + count):
            while await opened.call(
                "ResultManagement", "AcknowledgeResult", asyncua.ua.Variant(id, number)
            ):
                await asyncio.sleep(0.001)

    try:
        served.talk(talk)
    finally:
        release.set()
        thread.join(PATIENCE)
    assert served.station.acknowledged == list(range(first, first + count))
    served.station.next = first + count


def test_a_port_that_is_taken_is_said(served: Served) -> None:
    port = served.server.port
    with pytest.raises(UsageError, match=f"cannot listen on {HOST}:{port}: "):
        OpcUaServer(HOST, port, Handshake(known=True)).start(FakeStation())


def certificate(folder: Path, name: str, uri: str) -> tuple[Path, Path]:
    """A certificate signed by itself, and its key."""
    from asyncua.crypto.cert_gen import setup_self_signed_certificate
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key, cert = folder / f"{name}.key.pem", folder / f"{name}.der"
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    asyncio.run(setup_self_signed_certificate(key, cert, uri, HOST, uses, {}))
    return cert, key


async def intrude(port: int, files: tuple[Path, Path] | None) -> None:
    """A client that knows the password, and leaves out what would give it away.

    Without `files` it asks for a channel without encryption, which no endpoint offers; with them it
    does not say its certificate when it asks for a session.
    """
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

    ua, client = asyncua.ua, asyncua.Client(f"opc.tcp://{HOST}:{port}/generalad")
    if files is not None:
        await client.set_security(SecurityPolicyBasic256Sha256, *map(str, files))
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        asked = ua.CreateSessionParameters(ClientNonce=b"0" * 32)
        session = await client.uaclient.create_session(asked)
        token = ua.UserNameIdentityToken(UserName="gad", Password=b"right")
        wanted = ua.ActivateSessionParameters(UserIdentityToken=token)
        policy = client.security_policy
        wanted.ClientSignature.Signature = policy.asymmetric_cryptography.signature(
            (policy.peer_certificate or b"") + session.ServerNonce
        )
        await client.uaclient.activate_session(wanted)
    finally:
        client.disconnect_socket()


def test_an_encrypted_server_lets_in_whom_it_trusts_with_the_password(tmp_path: Path) -> None:
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

    from generalad.runtime.station.plc.opcua_security import Security

    trusted = tmp_path / "trusted"
    trusted.mkdir()
    cert, key = certificate(tmp_path, "station", "urn:station")
    plc_cert, plc_key = certificate(trusted, "plc", "urn:plc")
    plc_key = plc_key.rename(tmp_path / "plc.key.pem")
    security = Security(cert, key, trusted, "gad", Secret("right"))
    server = OpcUaServer(HOST, 0, Handshake(known=True), security=security)
    server.start(FakeStation())
    server.publish(READY)

    def attempt(password: str, files: tuple[Path, Path] | None) -> list[Any]:
        seen: list[Any] = []

        async def prepare(client: Any) -> None:
            client.set_user("gad")
            client.set_password(password)
            if files is not None:
                client.application_uri = "urn:plc" if files[0] == plc_cert else "urn:station"
                await client.set_security(SecurityPolicyBasic256Sha256, *map(str, files))

        async def talk(opened: Opened) -> None:
            seen.extend(await opened.read("Model"))

        try:
            run(server.port, talk, prepare)
        except Exception as error:  # the library has many
            seen.append(error)
        return seen

    try:
        assert attempt("right", (plc_cert, plc_key)) == ["washer-2"]
        asyncio.run(intrude(server.port, (plc_cert, plc_key)))  # is one that is let in
        for files in (None, (cert, key)):
            with pytest.raises(Exception, match="BadUserAccessDenied"):
                asyncio.run(intrude(server.port, files))
        for refused in (
            attempt("wrong", (plc_cert, plc_key)),
            attempt("right", (cert, key)),
            attempt("right", None),
        ):
            assert len(refused) == 1 and isinstance(refused[0], Exception)
    finally:
        server.close()
