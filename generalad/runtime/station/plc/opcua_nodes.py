"""The address space of the OPC UA server: a state machine, its methods, and the signals.

Names follow OPC 40100-1, Machine Vision; its NodeSet is not loaded, so types are plain ones.

    VisionSystem                 emits ResultReady
        VisionStateMachine       CurrentState: Preoperational, Halted, Error, Operational
            SelectModeAutomation, Stop
            AutomationMode       CurrentState: Initialized, Ready, SingleExecution,
                                 ContinuousExecution; empty unless Operational
                StartSingleJob
        RecipeManagement         PrepareRecipe
        ResultManagement         AcknowledgeResult
        Signals                  every signal of the map, as a variable
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from asyncua import Server, ua

from generalad.runtime.station.plc.opcua_requests import refuse_lists_and_parts, with_arguments
from generalad.runtime.station.plc.signals import FROM_PLC, TO_PLC, Kind, Signal, Value

NAMESPACE = "urn:generalad:station"

TYPES: dict[Kind, ua.VariantType] = {
    "bit": ua.VariantType.Boolean,
    "uint16": ua.VariantType.UInt16,
    "uint32": ua.VariantType.UInt32,
    "float32": ua.VariantType.Float,
    "text": ua.VariantType.String,
}

EVENT_FIELDS = (
    *("ResultId", "Outcome", "Reason", "CountsAs", "Score", "Milliseconds"),
    *("ResultPart", "ResultRecipe", "ResultText"),
)
"""Signals that a ResultReady event holds."""


class Method(NamedTuple):
    """A method that clients may call.

    Attributes:
        name: of the node.
        parent: name of the object that it belongs to.
        call: a coroutine function: the object's id and the arguments.
        inputs: name and type of each argument.
        outputs: likewise.
    """

    name: str
    parent: str
    call: Callable[..., Any]
    inputs: Sequence[tuple[str, ua.VariantType]] = ()
    outputs: Sequence[tuple[str, ua.VariantType]] = ()


class Nodes(NamedTuple):
    """What the server writes to.

    Attributes:
        signals: node of each signal to the PLC.
        vision_state: CurrentState of the outer state machine.
        automation_state: CurrentState of the inner one.
        results: generator of ResultReady events.
    """

    signals: dict[str, ua.NodeId]
    vision_state: ua.NodeId
    automation_state: ua.NodeId
    results: Any


async def build(
    server: Server, methods: Sequence[Method], write: Callable[[str, Value], None]
) -> Nodes:
    """Make all nodes; `write` is called with what a client has written, in the server's thread."""
    refuse_lists_and_parts(server)
    space = await server.register_namespace(NAMESPACE)
    system = await server.nodes.objects.add_object(
        _id("VisionSystem", space), _name("VisionSystem", space)
    )
    objects = {"VisionSystem": system}
    for name, parent in (
        ("VisionStateMachine", "VisionSystem"),
        ("AutomationMode", "VisionStateMachine"),
        ("RecipeManagement", "VisionSystem"),
        ("ResultManagement", "VisionSystem"),
        ("Signals", "VisionSystem"),
    ):
        objects[name] = await objects[parent].add_object(_id(name, space), _name(name, space))
    for method in methods:
        await objects[method.parent].add_method(
            _id(method.name, space),
            _name(method.name, space),
            with_arguments(method.call, method.inputs),
            [_argument(*each) for each in method.inputs],
            [_argument(*each) for each in method.outputs],
        )
    states = [
        await objects[name].add_variable(
            _id(f"{name}.CurrentState", space),
            _name("CurrentState", space),
            "",
            ua.VariantType.String,
        )
        for name in ("VisionStateMachine", "AutomationMode")
    ]
    signals = {signal.name: await _add(objects["Signals"], signal, space) for signal in TO_PLC}
    for signal in FROM_PLC:
        node = await _add(objects["Signals"], signal, space, writable=True)
        server.set_attribute_value_setter(node, _setter(signal.name, write))
    return Nodes(
        signals, states[0].nodeid, states[1].nodeid, await _result_events(server, system, space)
    )


async def _add(parent: Any, signal: Signal, space: int, *, writable: bool = False) -> ua.NodeId:
    zeros: dict[Kind, Value] = {"bit": False, "float32": 0.0, "text": ""}
    zero = zeros.get(signal.kind, 0)
    node = await parent.add_variable(
        _id(signal.name, space), _name(signal.name, space), zero, TYPES[signal.kind]
    )
    await node.write_attribute(
        ua.AttributeIds.Description,
        ua.DataValue(ua.Variant(ua.LocalizedText(signal.meaning))),
    )
    if writable:
        await node.set_writable()
    found: ua.NodeId = node.nodeid
    return found


def _setter(name: str, write: Callable[[str, Value], None]) -> Callable[..., None]:
    def keep(node: Any, attribute: ua.AttributeIds, value: ua.DataValue) -> None:
        given = value.Value
        held = None if given is None else given.Value
        if held is None and given is not None and given.VariantType is ua.VariantType.String:
            held = ""  # as OPC UA has it; the name of the part before would be wrong
        if held is None:  # a bad status has none
            return
        node.attributes[attribute].value = value
        write(name, held)

    return keep


async def _result_events(server: Server, system: Any, space: int) -> Any:
    kinds = {signal.name: TYPES[signal.kind] for signal in TO_PLC}
    kind = await server.create_custom_event_type(
        space,
        "ResultReadyEventType",
        ua.ObjectIds.BaseEventType,
        [(name, kinds[name]) for name in EVENT_FIELDS],
    )
    return await server.get_event_generator(kind, system)


def _id(name: str, space: int) -> ua.NodeId:
    return ua.NodeId(name, space)


def _name(name: str, space: int) -> ua.QualifiedName:
    return ua.QualifiedName(name, space)


def _argument(name: str, kind: ua.VariantType) -> ua.Argument:
    return ua.Argument(Name=name, DataType=ua.NodeId(kind.value), ValueRank=-1, ArrayDimensions=[])
