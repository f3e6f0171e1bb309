"""What clients of the OPC UA server may send: whole values, of the type that is asked for.

The library compares the type of what is written, but takes a list for a value of its elements'
type, a part of a value for the whole, and gives methods whatever arguments come. A list with one
False in it would be a trigger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole

_ITSELF = User(role=UserRole.Admin)


def refuse_lists_and_parts(server: Server) -> None:
    """Answer writes of lists, or to parts of a value, with an error each; others are done."""
    service: Any = server.iserver.attribute_service
    write = service.write

    async def checked(params: ua.WriteParameters, user: User = _ITSELF) -> list[ua.StatusCode]:
        if user.role is UserRole.Admin:  # the server itself; no client is
            return list(await write(params, user))
        answers = [_refusal(one) for one in params.NodesToWrite]
        params.NodesToWrite = [
            one for one, answer in zip(params.NodesToWrite, answers, strict=True) if answer is None
        ]
        done = iter(await write(params, user))
        return [next(done) if answer is None else answer for answer in answers]

    service.write = checked


def with_arguments(
    call: Callable[..., Any], inputs: Sequence[tuple[str, ua.VariantType]]
) -> Callable[..., Any]:
    """A method that is called with as many arguments as it has, each a text or a whole number."""

    async def checked(parent: ua.NodeId, *given: ua.Variant) -> Any:
        if len(given) < len(inputs):
            return ua.StatusCode(ua.StatusCodes.BadArgumentsMissing)
        if len(given) > len(inputs):
            return ua.StatusCode(ua.StatusCodes.BadTooManyArguments)
        if not all(_fits(one, kind) for one, (_, kind) in zip(given, inputs, strict=True)):
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        return await call(parent, *given)

    return checked


def _refusal(asked: ua.WriteValue) -> ua.StatusCode | None:
    if asked.IndexRange:
        return ua.StatusCode(ua.StatusCodes.BadWriteNotSupported)
    if asked.Value.Value is not None and isinstance(asked.Value.Value.Value, list):
        return ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
    return None


def _fits(given: ua.Variant, kind: ua.VariantType) -> bool:
    """Integers of any width will do; a text that is null is an empty one."""
    if kind is ua.VariantType.String:
        return given.Value is None or isinstance(given.Value, str)
    return type(given.Value) is int and 0 <= given.Value < 1 << 32
