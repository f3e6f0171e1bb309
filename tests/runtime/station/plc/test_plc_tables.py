"""[[plc]] tables: what is said of a PLC, and what cannot be."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from generalad.errors import ConfigError
from generalad.progress import no_log
from generalad.records import from_toml
from generalad.runtime.station.plc.interface import Plc
from generalad.runtime.station.plc.open_plcs import AnyPlcTable, open_plcs


class File(msgspec.Struct, forbid_unknown_fields=True):
    plc: tuple[AnyPlcTable, ...] = ()


def opened(folder: Path, text: str) -> Sequence[Plc]:
    file = folder / "line.toml"
    file.write_text(text, encoding="utf-8")
    return open_plcs(from_toml(file, File).plc, folder, no_log)


def table(kind: str, **values: Any) -> str:
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in values.items()
    ]
    return "\n".join(["[[plc]]", f'type = "{kind}"', *lines, ""])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (table("modbus-client", address="10.0.0.5"), "modbus://10.0.0.5:502"),
        (
            table("modbus-client", address="[fe80::1]:1502", unit=0, word_order="little"),
            "modbus://[fe80::1]:1502",
        ),
        (table("modbus-server"), "modbus server 127.0.0.1:502"),
        (
            table("modbus-server", address="0.0.0.0:1502", register=400),
            "modbus server 0.0.0.0:1502",
        ),
        (table("s7", address="10.0.0.7", db=7, byte=10, slot=2), "s7://10.0.0.7:102/DB7"),
        (table("opcua"), "opc.tcp://127.0.0.1:4840"),
        (table("opcua", address="::1"), "opc.tcp://[::1]:4840"),
        (table("opcua", address="0.0.0.0:4841", insecure=True), "opc.tcp://0.0.0.0:4841"),
        (
            table("opcua", address="10.0.0.9", certificate="a.pem", key="b.pem", trusted="plcs"),
            "opc.tcp://10.0.0.9:4840",
        ),
    ],
)
def test_a_table_is_a_plc_that_opens_nothing_yet(tmp_path: Path, text: str, name: str) -> None:
    pytest.importorskip("pymodbus")
    pytest.importorskip("asyncua")
    pytest.importorskip("snap7")
    (plc,) = opened(tmp_path, text)
    assert plc.status.name == name and not plc.status.connected
    plc.close()


def test_several_plcs_keep_their_order(tmp_path: Path) -> None:
    pytest.importorskip("pymodbus")
    text = table("modbus-server") + table("modbus-client", address="10.0.0.5")
    assert [plc.status.name.split(":")[0] for plc in opened(tmp_path, text)] == [
        "modbus server 127.0.0.1",
        "modbus",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table("modbus-client", address="a", unti=1), "unti"),
        (table("modbus-client", address="a", unit=256), "unit: expected 0 to 255, found 256"),
        (table("modbus-client", address="a", register=65500), "register: expected 0 to 65403"),
        (table("modbus-client", address="a", poll_ms=0), "poll_ms: expected 1 to 60000"),
        (table("modbus-client", address="tcp://a:5"), "address: expected host or host:port"),
        (table("modbus-client", address="a:70000"), "address: expected host or host:port"),
        (table("modbus-client", address=""), "address: expected host or host:port"),
        (table("modbus-client", address=" 10.0.0.5"), "address: expected host or host:port"),
        (table("modbus-client"), "address"),
        (table("modbus-client", address="a", word_order="middle"), "word_order"),
        (table("profinet", address="a"), "type"),
        (table("s7", address="a"), "db"),
        (table("s7", address="a", db=0), "db: expected 1 to 65535, found 0"),
        (table("opcua", address="0.0.0.0"), "0.0.0.0 can be reached from other machines"),
        (table("opcua", user="gad"), "expected user and password, found one of them"),
        (table("opcua", certificate="a.pem"), "expected certificate and key, found one of them"),
        (table("opcua", trusted="plcs"), "trusted needs certificate and key"),
        (
            table("opcua", certificate="a.pem", key="b.pem"),
            "expected trusted, or user and password, beside certificate",
        ),
        (table("opcua", user="gad", password="${GAD_NO_SUCH}"), "GAD_NO_SUCH"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    pytest.importorskip("pymodbus")
    pytest.importorskip("asyncua")
    pytest.importorskip("snap7")
    with pytest.raises(ConfigError) as found:
        opened(tmp_path, text)
    assert message in str(found.value) and "\n" not in str(found.value)
    assert "plc" in str(found.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            table("modbus-client", address="a", register=100),
            table("modbus-client", address="a:502", register=232),
        ),
        (table("modbus-server"), table("modbus-server", register=500)),
        (table("opcua", address="127.0.0.1:502"), table("modbus-server")),
        (table("s7", address="a", db=7), table("s7", address="a", db=7, byte=200)),
    ],
    ids=["registers", "server", "kinds", "bytes"],
)
def test_two_plcs_in_one_place_are_refused(tmp_path: Path, first: str, second: str) -> None:
    for name in ("pymodbus", "asyncua", "snap7"):
        pytest.importorskip(name)
    with pytest.raises(ConfigError, match="number 2: its signals lie where those of number 1 are"):
        opened(tmp_path, first + second)
    apart = second.replace("232", "233").replace("200", "266").replace("register = 500", "unit = 1")
    if apart != second and "server" not in first:
        assert len(opened(tmp_path, first + apart)) == 2


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean unit\?"):
        opened(tmp_path, table("modbus-client", address="a", unti=1))


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("modbus-client", "modbus"), ("modbus-server", "modbus"), ("s7", "s7"), ("opcua", "opcua")],
)
def test_a_library_that_is_missing_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, extra: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    values = {"address": "127.0.0.1", **({"db": 1} if kind == "s7" else {})}
    with pytest.raises(ConfigError) as found:
        opened(tmp_path, table(kind, **values))
    assert str(found.value).startswith("[[plc]] number 1: ")
    assert str(found.value).endswith(f"pip install 'generalad[{extra}]'")
