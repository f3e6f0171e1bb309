"""`GenicamDevice`: any vendor's cameras, through its GenTL producer and EMVA's `genicam` bindings.

It lives in a process of its own (`device_process`, `process_device`): the bindings hold Python's
lock while they wait, so that one camera would stop all others and the watchdog, and a producer is a
vendor's library that may hang or crash.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from generalad.runtime.cameras.camera import CameraLost, Value
from generalad.runtime.cameras.industrial.device import Buffer, Feature, FeatureKind, Packets
from generalad.runtime.cameras.industrial.identity import Identity, choose

PATH = "GENICAM_GENTL64_PATH"
"""Environment variable with the folders of producers."""

_BUFFERS = 8
_SEARCH = 1000
"""Milliseconds in which an interface must say which cameras it has."""

_LOCAL, _FILE = 0, 2  # where a camera's description is: in the camera, or on this machine

_KINDS: dict[str, FeatureKind] = {
    "IInteger": "integer",
    "IFloat": "float",
    "IBoolean": "boolean",
    "IEnumeration": "choice",
    "IString": "text",
    "ICommand": "command",
}


def producer_files() -> list[str]:
    """The producers of the environment."""
    folders = [Path(folder) for folder in os.environ.get(PATH, "").split(os.pathsep) if folder]
    return sorted({str(file) for folder in folders for file in folder.glob("*.cti")})


def _library() -> tuple[Any, Any]:
    """`genicam.genapi` and `genicam.gentl`."""
    from genicam import genapi, gentl

    return genapi, gentl


def _registers(genapi: Any, port: Any) -> Any:
    """The camera's registers, as the bindings ask for them."""

    class Registers(genapi.AbstractPort):  # type: ignore[misc]  # the bindings have no types
        def get_access_mode(self) -> Any:
            return genapi.EAccessMode.RW

        def is_open(self) -> bool:
            return True

        def read(self, address: int, size: int) -> Any:
            return port.read(address, size)[1]

        def write(self, address: int, data: bytes) -> None:
            port.write(address, data)

    return Registers()


class GenicamDevice:
    """One connection to a camera."""

    def __init__(self, key: str, producer: str) -> None:
        """`key` is what the camera is called by; an empty producer means all of them."""
        self._key = key
        self._genapi, self._gentl = _library()
        self._producers = [producer] if producer else producer_files()
        self._open: list[Any] = []  # producers, systems and interfaces, in the order of opening
        self._device: Any = None
        self._nodes: Any = None
        self._registers: Any = None
        self._address = 0  # of something that every camera can be asked for
        self._stream: Any = None
        self._event: Any = None
        self._buffers: list[Any] = []

    def cameras(self, producers: Sequence[str]) -> list[tuple[Identity, str]]:
        """All cameras, and what their address needs beside the key."""
        known = producer_files()
        files = [*known, *(file for file in producers if file not in known)]
        return [
            (_identity(info), "" if file in known else f"?producer={file}")
            for file, info in self._search(files)
        ]

    def open(self) -> None:
        """See `Device`."""
        found = [info for _, info in self._search(self._producers)]
        info = found[choose(self._key, [_identity(info) for info in found])]
        device = info.create_device()
        device.open(self._gentl.DEVICE_ACCESS_FLAGS_LIST.DEVICE_ACCESS_EXCLUSIVE)
        self._device = device
        self._registers = _registers(self._genapi, device.remote_port)
        self._nodes = self._genapi.NodeMap()
        self._nodes.load_xml_from_string(self._description(device.remote_port))
        self._nodes.connect(self._registers, device.remote_port.name)

    def _search(self, files: Sequence[str]) -> list[tuple[str, Any]]:
        """What can be opened, by producer; each stays open until `close`."""
        if not files:
            raise CameraLost(f"no GenTL producer: set {PATH}, or name one with ?producer=FILE")
        found: list[tuple[str, Any]] = []
        failures = []
        for file in files:
            try:
                producer = self._gentl.GenTLProducer.create_producer()
                producer.open(file)
                self._open.append(producer)
                system = producer.create_system()
                system.open()
                self._open.append(system)
                system.update_interface_info_list(_SEARCH)
                for entry in system.interface_info_list:
                    interface = entry.create_interface()
                    interface.open()
                    self._open.append(interface)
                    interface.update_device_info_list(_SEARCH)
                    found += [(file, info) for info in interface.device_info_list]
            except Exception as error:  # of one vendor's library; others may have the camera
                failures.append(f"{file}: {error}")
        if failures and not found:
            raise CameraLost("; ".join(failures))
        return found

    def _description(self, port: Any) -> str:
        """The XML text of the features."""
        info = port.url_info_list[0]
        if info.scheme == _LOCAL:
            self._address = info.file_register_address
            data, name = port.read(self._address, info.file_size)[1], info.file_name
        elif info.scheme == _FILE:
            name = unquote(urlsplit(info.url).path)
            data = Path(name).read_bytes()
        else:
            raise CameraLost(f"the camera's description is elsewhere: {info.url}")
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(archive.namelist()[0])
        return str(data.decode("utf-8", "replace").rstrip("\0"))

    def feature(self, name: str) -> Feature | None:
        """See `Device`."""
        if not self._nodes.has_node(name):
            return None
        node = self._nodes.get_node(name)
        kind = _KINDS.get(type(node).__name__)
        if kind is None or not self._genapi.is_implemented(node):
            return None
        found = Feature(kind, writable=bool(self._genapi.is_writable(node)))
        if kind != "command" and self._genapi.is_readable(node):
            found = found._replace(value=node.value)
        if kind == "choice":
            available = [e for e in node.entries if self._genapi.is_available(e)]
            found = found._replace(choices=tuple(entry.symbolic for entry in available))
        elif kind in ("integer", "float") and self._genapi.is_available(node):
            found = found._replace(least=node.min, most=node.max, unit=node.unit)
            if kind == "integer":
                found = found._replace(step=node.inc)
        return found

    def names(self) -> Sequence[str]:
        """See `Device`."""
        return [str(node.node.name) for node in self._nodes.nodes if node.node.is_feature()]

    def set(self, name: str, value: Value) -> None:
        """See `Device`."""
        self._nodes.get_node(name).value = value

    def execute(self, name: str) -> None:
        """See `Device`."""
        self._nodes.get_node(name).execute()

    def start(self) -> None:
        """See `Device`."""
        stream = self._device.create_data_stream()
        stream.open(self._device.data_stream_ids[0])
        self._stream = stream
        size = (
            stream.payload_size
            if stream.defines_payload_size()
            else self._nodes.get_node("PayloadSize").value
        )
        for number in range(max(_BUFFERS, stream.buffer_announce_min)):
            announced = stream.announce_buffer(self._gentl.BufferToken(bytes(size), number))
            self._buffers.append(announced)
            stream.queue_buffer(announced)
        token = stream.register_event(self._gentl.EVENT_TYPE_LIST.EVENT_NEW_BUFFER)
        self._event = self._gentl.EventManagerNewBuffer(token)
        stream.start_acquisition(self._gentl.ACQ_START_FLAGS_LIST.ACQ_START_FLAGS_DEFAULT)
        self._lock(1)
        self.execute("AcquisitionStart")

    def _lock(self, value: int) -> None:
        """Features that must not change while frames are sent; not every camera has this."""
        with contextlib.suppress(Exception):
            self._nodes.get_node("TLParamsLocked").value = value

    def fetch(self, timeout: float) -> Buffer | None:
        """See `Device`."""
        try:
            self._event.update_event_data(round(timeout * 1000))
        except self._gentl.TimeoutException:
            return None
        filled = self._event.buffer
        try:
            return _buffer(filled)
        finally:
            self._stream.queue_buffer(filled)

    def stop(self) -> None:
        """See `Device`."""
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        with contextlib.suppress(Exception):  # a camera that is gone takes no command
            self.execute("AcquisitionStop")
        self._lock(0)
        stream.stop_acquisition(self._gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_DEFAULT)
        stream.flush_buffer_queue(self._gentl.ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD)
        self._event.unregister_event()
        for announced in self._buffers:
            stream.revoke_buffer(announced)
        self._buffers = []
        stream.close()

    def check(self) -> None:
        """See `Device`."""
        self._device.remote_port.read(self._address, 4)

    def packets(self) -> Packets | None:
        """GenTL has no count of packets."""
        return None

    def close(self) -> None:
        """See `Device`."""
        with contextlib.suppress(Exception):
            self.stop()
        for opened in (self._device, *reversed(self._open)):
            if opened is not None:
                with contextlib.suppress(Exception):
                    opened.close()


def _identity(info: Any) -> Identity:
    def text(name: str) -> str:
        try:
            return str(getattr(info, name))
        except Exception:  # not every producer knows everything
            return ""

    serial, name = text("serial_number"), text("user_defined_name")
    return Identity(text("vendor"), text("model"), serial, name, (text("id_"),))


def _buffer(filled: Any) -> Buffer:
    number = int(filled.frame_id)
    problem = ""
    if not filled.is_complete() or filled.has_received_larger_payload():
        problem = "an incomplete buffer"
    elif not filled.contains_image():
        problem = "a buffer without an image"
    if problem:
        return Buffer(np.empty(0, np.uint8), 0, 0, 0, problem=problem, number=number)
    start, end = filled.image_offset, filled.size_filled
    return Buffer(
        np.frombuffer(filled.raw_buffer, np.uint8)[start:end].copy(),
        filled.width,
        filled.height,
        filled.pixel_format,
        filled.padding_x,
        number=number,
    )
