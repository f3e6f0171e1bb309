"""`AravisDevice`: GigE Vision cameras of any vendor, through Aravis."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from generalad.runtime.cameras.camera import CameraLost, Value
from generalad.runtime.cameras.industrial.device import Buffer, Feature, Packets
from generalad.runtime.cameras.industrial.identity import Identity, choose

_BUFFERS = 8

_VERSION = 0
"""A register that every GigE Vision camera has."""

_PROBLEMS = {
    "MISSING_PACKETS": "packets are missing",
    "TIMEOUT": "packets are missing at the end",
    "SIZE_MISMATCH": "more data than an image has",
    "WRONG_PACKET_ID": "a packet of a wrong number",
    "ABORTED": "it was broken off",
}
"""By the names of Aravis' states of a buffer."""

_searching = threading.Lock()  # the list of cameras is one for the whole library


def _library() -> tuple[Any, Any]:
    """Aravis and GLib, loaded when the first camera is asked for."""
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis, GLib

    return Aravis, GLib


def aravis_cameras() -> list[Identity]:
    """The GigE Vision cameras that answer on this machine's networks."""
    with _searching:
        return [identity for _, identity in _found()]


def _found() -> list[tuple[str, Identity]]:
    """Their names in Aravis, and what they say of themselves."""
    aravis, _ = _library()
    for other in ("Fake", "USB3Vision"):
        aravis.disable_interface(other)
    aravis.update_device_list()
    return [
        (
            aravis.get_device_id(place),
            Identity(
                aravis.get_device_vendor(place) or "",
                aravis.get_device_model(place) or "",
                aravis.get_device_serial_nbr(place) or "",
                "",  # not known before a camera is opened
                tuple(
                    text
                    for text in (
                        aravis.get_device_address(place),
                        aravis.get_device_physical_id(place),
                    )
                    if text
                ),
            ),
        )
        for place in range(aravis.get_n_devices())
    ]


class AravisDevice:
    """One connection to a camera."""

    def __init__(self, key: str) -> None:
        """`key` is what the camera is called by."""
        self._key = key
        self._aravis, self._glib = _library()
        self._camera: Any = None
        self._device: Any = None
        self._stream: Any = None
        self._gone = False

    def open(self) -> None:
        """See `Device`."""
        self._camera = self._aravis.Camera.new(self._name())
        if not self._camera.is_gv_device():
            raise CameraLost("not a GigE Vision camera")
        self._device = self._camera.get_device()
        # Raw sockets need rights that a service should not have.
        self._camera.gv_set_stream_options(self._aravis.GvStreamOption.PACKET_SOCKET_DISABLED)
        # The largest packets that arrive; with others nothing may.
        self._camera.gv_auto_packet_size()

    def _name(self) -> str:
        """What Aravis calls the camera."""
        try:
            return str(ipaddress.ip_address(self._key))  # asked directly, which is quick
        except ValueError:
            pass
        with _searching:
            found = _found()
        try:
            return found[choose(self._key, [identity for _, identity in found])][0]
        except CameraLost:
            # Aravis knows user names without telling them.
            try:
                self._aravis.Camera.new(self._key)
            except self._glib.Error:
                pass
            else:
                return self._key
            raise

    def feature(self, name: str) -> Feature | None:
        """See `Device`."""
        node = self._device.get_feature(name)
        if node is None or not node.is_implemented():
            return None
        writable = bool(node.is_available()) and not node.is_locked()
        readable = node.get_actual_access_mode() != self._aravis.GcAccessMode.WO
        if isinstance(node, self._aravis.GcCommand):
            return Feature("command", writable=writable)
        writable = writable and node.get_actual_access_mode() != self._aravis.GcAccessMode.RO
        readable = readable and bool(node.is_available())
        if isinstance(node, self._aravis.GcEnumeration):
            value = node.get_string_value() if readable else None
            choices = tuple(node.dup_available_string_values())
            return Feature("choice", value, writable, choices=choices)
        if isinstance(node, self._aravis.GcBoolean):
            return Feature("boolean", bool(node.get_value()) if readable else None, writable)
        if isinstance(node, self._aravis.GcFloat):
            least, most = self._device.get_float_feature_bounds(name)
            value = node.get_value() if readable else None
            return Feature("float", value, writable, least, most, unit=node.get_unit() or "")
        if isinstance(node, self._aravis.GcInteger):
            least, most = self._device.get_integer_feature_bounds(name)
            step = self._device.get_integer_feature_increment(name)
            value = node.get_value() if readable else None
            return Feature("integer", value, writable, least, most, step, node.get_unit() or "")
        if isinstance(node, self._aravis.GcString):
            return Feature("text", node.get_value() if readable else None, writable)
        return None

    def names(self) -> Sequence[str]:
        """See `Device`."""
        found: list[str] = []
        categories = ["Root"]
        while categories:
            node = self._device.get_feature(categories.pop())
            for name in node.get_features() if isinstance(node, self._aravis.GcCategory) else ():
                inner = isinstance(self._device.get_feature(name), self._aravis.GcCategory)
                (categories if inner else found).append(name)
        return found

    def set(self, name: str, value: Value) -> None:
        """See `Device`."""
        if isinstance(value, bool):
            self._device.set_boolean_feature_value(name, value)
        elif isinstance(value, int):
            self._device.set_integer_feature_value(name, value)
        elif isinstance(value, float):
            self._device.set_float_feature_value(name, value)
        else:
            self._device.set_string_feature_value(name, value)

    def execute(self, name: str) -> None:
        """See `Device`."""
        self._device.execute_command(name)

    def start(self) -> None:
        """See `Device`."""
        self._stream = self._camera.create_stream(None, None)
        # Room for a whole frame, as far as the system allows (net.core.rmem_max on Linux).
        self._stream.set_property("socket-buffer", self._aravis.GvStreamSocketBuffer.AUTO)
        size = self._camera.get_payload()
        for _ in range(_BUFFERS):
            self._stream.push_buffer(self._aravis.Buffer.new_allocate(size))
        self._camera.start_acquisition()

    def fetch(self, timeout: float) -> Buffer | None:
        """See `Device`."""
        filled = (
            self._stream.timeout_pop_buffer(round(timeout * 1e6))
            if timeout > 0
            else self._stream.try_pop_buffer()
        )
        if filled is None:
            return None
        try:
            return self._buffer(filled)
        finally:
            self._stream.push_buffer(filled)

    def stop(self) -> None:
        """See `Device`."""
        if self._stream is None:
            return
        if not self._gone:
            self._stream = None  # with what nobody fetched
            self._camera.stop_acquisition()

    def check(self) -> None:
        """See `Device`."""
        try:
            self._device.read_register(_VERSION)
        except self._glib.Error as error:
            self._gone = True
            raise CameraLost(f"the camera does not answer: {error.message}") from error

    def packets(self) -> Packets | None:
        """See `Device`."""
        if self._stream is None:
            return None
        lost = self._stream.get_info_uint64_by_name("n_missing_packets")
        return Packets(lost, self._stream.get_info_uint64_by_name("n_resent_packets"))

    def close(self) -> None:
        """See `Device`."""
        # Aravis frees what nobody refers to. It takes leave of the camera then, and waits for
        # seconds for the answer of one that is gone.
        held = [self._stream, self._device, self._camera]
        self._stream = self._device = self._camera = None
        if self._gone:
            threading.Thread(target=held.clear, name="gad-aravis", daemon=True).start()

    def _buffer(self, filled: Any) -> Buffer:
        number, status = filled.get_frame_id(), filled.get_status()
        if status != self._aravis.BufferStatus.SUCCESS:
            name = status.value_name.removeprefix("ARV_BUFFER_STATUS_")
            problem = _PROBLEMS.get(name, "an incomplete buffer")
            return Buffer(np.empty(0, np.uint8), 0, 0, 0, problem=problem, number=number)
        return Buffer(
            np.frombuffer(filled.get_image_data(), np.uint8),
            filled.get_image_width(),
            filled.get_image_height(),
            filled.get_image_pixel_format() & 0xFFFFFFFF,
            filled.get_image_padding().x_padding,
            number=number,
        )
