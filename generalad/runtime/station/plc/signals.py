"""The signals between station and PLC: one table, from which servers, clients and the map come.

A block of registers goes each way. Registers count from the base address; one holds 16 bits. The
word with the bits is the last of its block: who writes a block in ascending order writes it last.
OPC UA has the same signals as variables, and a few texts that registers have no room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Kind = Literal["bit", "uint16", "uint32", "float32", "text"]
Value = bool | int | float | str
Values = Mapping[str, Value]
"""By the name of the signal."""

SIZES: dict[Kind, int] = {"bit": 1, "uint16": 1, "uint32": 2, "float32": 2, "text": 16}
"""In registers; a text has 32 ASCII characters, the rest of it is NUL."""
LETTERS = 2 * SIZES["text"]


class Signal(NamedTuple):
    """One value.

    Attributes:
        name: also that of the OPC UA variable.
        kind: how it is written.
        register: of its first word, from the base address; None is only in OPC UA.
        bit: within the register, 0 the least significant; None where it is no bit.
        meaning: one line.
    """

    name: str
    kind: Kind
    register: int | None
    bit: int | None
    meaning: str


def _word(register: int, *bits: tuple[str, str]) -> tuple[Signal, ...]:
    return tuple(
        Signal(name, "bit", register, bit, meaning) for bit, (name, meaning) in enumerate(bits)
    )


STATUS_WORD = 93
COMMAND_WORD = 132
STATION = range(94)
"""Registers that the station writes; those up to `RESULT_END` stay while a result is valid."""
RESULT_END = 44
COMMANDS = range(100, 133)
"""Registers that the PLC writes."""

TO_PLC: tuple[Signal, ...] = (
    Signal("ResultId", "uint32", 0, None, "part that the result is of: the id of its trigger"),
    Signal("Outcome", "uint16", 2, None, "1 pass, 2 reject, 3 no verdict; 0 before the first"),
    Signal("Reason", "uint16", 3, None, "of no verdict: see the codes; 0 none"),
    Signal("CountsAs", "uint16", 4, None, "what the gate is to do: 1 pass, 2 reject"),
    Signal("Score", "float32", 6, None, "0 to 1, the threshold at 0.5; -1 where there is none"),
    Signal("Milliseconds", "float32", 8, None, "from the trigger to the verdict"),
    Signal("ResultPart", "text", 10, None, "what the PLC called the part"),
    Signal("ResultRecipe", "text", 26, None, "recipe that judged it"),
    Signal("ResultIdEnd", "uint32", 42, None, "ResultId again: both are equal in a whole result"),
    Signal("TriggerId", "uint32", 44, None, "id of the trigger that is acknowledged; 0 if refused"),
    Signal("Starts", "uint16", 46, None, "how often the station has started; wraps at 65536"),
    Signal("Waiting", "uint16", 47, None, "results that wait behind this one"),
    Signal("Parts", "uint32", 48, None, "triggers that got an id, since the station started"),
    Signal("Passed", "uint32", 50, None, "of these: pass"),
    Signal("Rejected", "uint32", 52, None, "of these: reject"),
    Signal("NoVerdict", "uint32", 54, None, "of these: no verdict"),
    Signal("Refused", "uint32", 56, None, "triggers that got no id"),
    Signal("Lost", "uint32", 58, None, "results that found no room, because nobody took them"),
    Signal("Recipe", "text", 60, None, "recipe that is loaded"),
    Signal("Model", "text", 76, None, "its model"),
    Signal("HeartbeatCount", "uint16", 92, None, "1 to 65534, another one every half second"),
    *_word(
        STATUS_WORD,
        ("Ready", "a trigger now would be inspected"),
        ("Busy", "at least one part has no verdict yet"),
        ("Error", "the station cannot inspect"),
        ("Heartbeat", "changes every half second while the station is well"),
        ("TriggerAcknowledged", "the trigger was seen; TriggerId, Missed, Overrun are its answer"),
        ("Missed", "the trigger was refused: there will be no result"),
        ("Overrun", "the trigger came too fast"),
        ("ResultValid", "the result may be read"),
        ("RecipeLoaded", "answer: the requested recipe is loaded and passed its self-test"),
        ("RecipeRefused", "answer: it is not, and the one before is in use"),
        ("StartedAnew", "the station was killed or lost its power, until StartAcknowledged"),
        ("ResultsLost", "Lost is not 0"),
    ),
    Signal("ErrorText", "text", None, None, "why the station cannot inspect"),
    Signal("ResultText", "text", None, None, "why there is no verdict, in words"),
    Signal("RecipeText", "text", None, None, "why the recipe was refused"),
)

FROM_PLC: tuple[Signal, ...] = (
    Signal("TriggerPart", "text", 100, None, "what to call the part; may be empty"),
    Signal("RequestedRecipe", "text", 116, None, "recipe to load"),
    *_word(
        COMMAND_WORD,
        ("Trigger", "a part is in place; stays until TriggerAcknowledged"),
        ("ResultAcknowledged", "the result is taken; stays until ResultValid is gone"),
        ("RecipeRequest", "load RequestedRecipe; stays until the answer"),
        ("StartAcknowledged", "StartedAnew is seen; stays until it is gone"),
    ),
)

VALID = 1 << next(signal.bit or 0 for signal in TO_PLC if signal.name == "ResultValid")
"""Mask of ResultValid in the status word."""

NO_COMMANDS: dict[str, Value] = {
    signal.name: "" if signal.kind == "text" else False for signal in FROM_PLC
}
