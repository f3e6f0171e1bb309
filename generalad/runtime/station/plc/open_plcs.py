"""PLCs as [[plc]] tables of a line's file describe them.

A kind of PLC is one class here: its keys with their types and defaults, and how it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from generalad.errors import ConfigError, GadError, UsageError
from generalad.progress import Log
from generalad.runtime.hosts import is_loopback
from generalad.runtime.station.plc.handshake import Handshake
from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.plc.registers import WordOrder
from generalad.runtime.station.plc.signals import COMMANDS

if TYPE_CHECKING:
    from generalad.runtime.station.plc.opcua_security import Security

MODBUS_PORT, OPCUA_PORT, S7_PORT = 502, 4840, 102


class Place(NamedTuple):
    """Where the signals are, for the map.

    Attributes:
        where: the address as it was written.
        register: of the first signal over Modbus, or None.
        db: number of an S7's data block, or None.
        byte: of the first signal in it.
        opcua: whether signals are nodes.
    """

    where: str
    register: int | None = None
    db: int | None = None
    byte: int = 0
    opcua: bool = False


class PlcTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """What every kind of PLC can do; the key `type` says which one it is."""

    address: str
    acknowledge: bool = True

    def open(self, here: Path, log: Log) -> Plc:
        """The PLC, which opens nothing yet; `here` is the folder that paths are relative to."""
        raise NotImplementedError

    def place(self) -> Place:
        """Where its signals are."""
        raise NotImplementedError

    def memory(self) -> tuple[tuple[object, ...], range]:
        """What the signals lie in, and where in it: no other [[plc]] may be there."""
        raise NotImplementedError


class ModbusClientTable(PlcTable, frozen=True, kw_only=True, tag="modbus-client"):
    """The PLC is a Modbus TCP server, and the station reads and writes its registers."""

    register: int = 0
    unit: int = 1
    word_order: WordOrder = "big"
    poll_ms: float = 10.0
    timeout_ms: float = 1000.0

    def open(self, here: Path, log: Log) -> Plc:
        """See `PlcTable`."""
        from generalad.runtime.station.plc.modbus_client import ModbusMemory
        from generalad.runtime.station.plc.polled import PolledPlc

        host, port = _host_and_port(self.address, MODBUS_PORT)
        _check_modbus(self.register, self.unit)
        memory = ModbusMemory(
            host,
            port,
            address=self.register,
            unit=self.unit,
            timeout=_seconds("timeout_ms", self.timeout_ms),
        )
        return PolledPlc(
            memory,
            Handshake(acknowledge=self.acknowledge),
            order=self.word_order,
            poll=_seconds("poll_ms", self.poll_ms),
            log=log,
        )

    def place(self) -> Place:
        """See `PlcTable`."""
        return Place(self.address, register=self.register)

    def memory(self) -> tuple[tuple[object, ...], range]:
        """See `PlcTable`."""
        server = _host_and_port(self.address, MODBUS_PORT)
        return ("modbus", *server, self.unit), _block(self.register, COMMANDS.stop)


class ModbusServerTable(PlcTable, frozen=True, kw_only=True, tag="modbus-server"):
    """The station is a Modbus TCP server that PLCs ask; unit 0 is any."""

    address: str = "127.0.0.1"
    register: int = 0
    unit: int = 0
    word_order: WordOrder = "big"

    def open(self, here: Path, log: Log) -> Plc:
        """See `PlcTable`."""
        from generalad.runtime.station.plc.modbus_server import ModbusServer

        host, port = _host_and_port(self.address, MODBUS_PORT)
        _check_modbus(self.register, self.unit)
        return ModbusServer(
            host,
            port,
            Handshake(acknowledge=self.acknowledge),
            address=self.register,
            unit=self.unit,
            order=self.word_order,
        )

    def place(self) -> Place:
        """See `PlcTable`."""
        return Place(self.address, register=self.register)

    def memory(self) -> tuple[tuple[object, ...], range]:
        """See `PlcTable`."""
        return _port(*_host_and_port(self.address, MODBUS_PORT))


class S7Table(PlcTable, frozen=True, kw_only=True, tag="s7"):
    """A Siemens S7 whose data block the station reads and writes."""

    db: int
    byte: int = 0
    rack: int = 0
    slot: int = 1
    poll_ms: float = 10.0
    timeout_ms: float = 1000.0

    def open(self, here: Path, log: Log) -> Plc:
        """See `PlcTable`."""
        from generalad.runtime.station.plc.polled import PolledPlc
        from generalad.runtime.station.plc.s7_client import S7Memory

        host, port = _host_and_port(self.address, S7_PORT)
        _check("db", self.db, 1, 65535)
        _check("byte", self.byte, 0, 65535 - 2 * COMMANDS.stop)
        _check("rack", self.rack, 0, 7)
        _check("slot", self.slot, 0, 31)
        memory = S7Memory(
            host,
            port,
            db=self.db,
            start=self.byte,
            rack=self.rack,
            slot=self.slot,
            timeout=_seconds("timeout_ms", self.timeout_ms),
        )
        return PolledPlc(
            memory,
            Handshake(acknowledge=self.acknowledge),
            poll=_seconds("poll_ms", self.poll_ms),
            log=log,
        )

    def place(self) -> Place:
        """See `PlcTable`."""
        return Place(self.address, db=self.db, byte=self.byte)

    def memory(self) -> tuple[tuple[object, ...], range]:
        """See `PlcTable`."""
        server = _host_and_port(self.address, S7_PORT)
        block = _block(self.byte, 2 * COMMANDS.stop)
        return ("s7", *server, self.rack, self.slot, self.db), block


class OpcUaTable(PlcTable, frozen=True, kw_only=True, tag="opcua"):
    """The station is an OPC UA server; without a certificate it is for this machine only."""

    address: str = "127.0.0.1"
    certificate: str | None = None
    key: str | None = None
    trusted: str | None = None
    user: str | None = None
    password: str | None = None
    insecure: bool = False

    def open(self, here: Path, log: Log) -> Plc:
        """See `PlcTable`."""
        from generalad.runtime.station.plc.library import need
        from generalad.runtime.station.plc.opcua_server import OpcUaServer

        host, port = _host_and_port(self.address, OPCUA_PORT)
        self._check_security(host)
        need("OPC UA", "opcua", "asyncua")
        return OpcUaServer(
            host,
            port,
            Handshake(acknowledge=self.acknowledge, known=True),
            security=self._security(here),
        )

    def place(self) -> Place:
        """See `PlcTable`."""
        return Place(self.address, opcua=True)

    def memory(self) -> tuple[tuple[object, ...], range]:
        """See `PlcTable`."""
        return _port(*_host_and_port(self.address, OPCUA_PORT))

    def _check_security(self, host: str) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError("expected certificate and key, found one of them")
        if (self.user is None) != (self.password is None):
            raise UsageError("expected user and password, found one of them")
        if self.trusted is not None and self.certificate is None:
            raise UsageError("trusted needs certificate and key")
        if self.certificate is None and not (self.insecure or is_loopback(host)):
            raise UsageError(
                f"{host} can be reached from other machines, and nothing is encrypted",
                remedy="name certificate and key, or set insecure = true",
            )
        if self.certificate is not None and self.trusted is None and self.user is None:
            raise UsageError(
                "expected trusted, or user and password, beside certificate",
                remedy="encryption alone lets everybody in",
            )

    def _security(self, here: Path) -> Security:
        from generalad.runtime.secrets import expand
        from generalad.runtime.station.plc.opcua_security import Security

        def path(written: str | None) -> Path | None:
            return None if written is None else here / written

        password = None if self.password is None else expand(self.password)
        return Security(
            path(self.certificate), path(self.key), path(self.trusted), self.user, password
        )


AnyPlcTable = ModbusClientTable | ModbusServerTable | S7Table | OpcUaTable


def open_plcs(tables: Sequence[PlcTable], here: Path, log: Log) -> tuple[Plc, ...]:
    """The PLCs that are asked for, in their order. Nothing is opened yet.

    Args:
        tables: from a line's file.
        here: its folder.
        log: told in one line of PLCs that come and go.

    Raises:
        ConfigError: a value that cannot be, or packages for a PLC that are not installed.
    """
    found, taken = [], list[tuple[tuple[object, ...], range, int]]()
    for number, table in enumerate(tables, start=1):
        try:
            memory, place = table.memory()
            for other, there, earlier in taken:
                if other == memory and place.start < there.stop and there.start < place.stop:
                    raise UsageError(
                        f"its signals lie where those of number {earlier} are",
                        remedy="give each [[plc]] registers, bytes or a port of its own",
                    )
            taken.append((memory, place, number))
            found.append(table.open(here, log))
        except GadError as error:
            if type(error).exit_code != ConfigError.exit_code:
                raise
            where = f"[[plc]] number {number}"
            raise ConfigError(f"{where}: {error.message}", remedy=error.remedy) from error
    return tuple(found)


def _host_and_port(address: str, default: int) -> tuple[str, int]:
    """Of "host", "host:port", "::1" or "[::1]:port"."""
    host, _, port = address.rpartition(":")
    if not host or (":" in host and not host.endswith("]")):
        host, port = address, str(default)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535 or set("/ \t") & set(host):
        raise UsageError(f"address: expected host or host:port, found {address!r}")
    return host, int(port)


def _port(host: str, port: int) -> tuple[tuple[object, ...], range]:
    return ("port", host, port), range(port > 0)  # 0 is any free one


def _block(first: int, length: int) -> range:
    return range(first, first + length)


def _check_modbus(register: int, unit: int) -> None:
    _check("register", register, 0, 65536 - COMMANDS.stop)
    _check("unit", unit, 0, 255)


def _check(key: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{key}: expected {least} to {most}, found {value}")


def _seconds(key: str, milliseconds: float) -> float:
    if not 1 <= milliseconds <= 60_000:
        raise UsageError(f"{key}: expected 1 to 60000 milliseconds, found {milliseconds:g}")
    return milliseconds / 1000
