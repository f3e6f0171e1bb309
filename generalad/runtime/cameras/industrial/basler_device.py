"""`BaslerDevice`: Basler's cameras, through pypylon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from generalad.runtime.cameras.camera import CameraLost, Value
from generalad.runtime.cameras.industrial.device import Buffer, Feature, FeatureKind, Packets
from generalad.runtime.cameras.industrial.identity import Identity, choose

_BUFFERS = 8

_KINDS: dict[str, FeatureKind] = {
    "IntegerParameter": "integer",
    "FloatParameter": "float",
    "BooleanParameter": "boolean",
    "EnumParameter": "choice",
    "StringParameter": "text",
    "CommandParameter": "command",
}


def basler_cameras() -> list[Identity]:
    """The cameras that pylon finds."""
    return [_identity(info) for info in _infos()]


def _library() -> tuple[Any, Any]:
    """`pypylon.pylon` and `pypylon.genicam`, loaded when the first camera is asked for."""
    from pypylon import genicam, pylon

    return pylon, genicam


def _infos() -> list[Any]:
    pylon, _ = _library()
    return list(pylon.TlFactory.GetInstance().EnumerateDevices())


def _identity(info: Any) -> Identity:
    return Identity(
        vendor=info.GetVendorName(),
        model=info.GetModelName(),
        serial=info.GetSerialNumber(),
        name=info.GetUserDefinedName(),
        network=tuple(
            text
            for known, text in (
                (info.IsIpAddressAvailable(), info.GetIpAddress),
                (info.IsMacAddressAvailable(), info.GetMacAddress),
            )
            if known
            for text in (text(),)
        ),
    )


class BaslerDevice:
    """One connection to a camera."""

    def __init__(self, key: str) -> None:
        """`key` is what the camera is called by."""
        self._key = key
        self._pylon, self._genicam = _library()
        self._camera: Any = None
        self._nodes: Any = None

    def open(self) -> None:
        """See `Device`."""
        infos = _infos()
        info = infos[choose(self._key, [_identity(info) for info in infos])]
        self._camera = self._pylon.InstantCamera(
            self._pylon.TlFactory.GetInstance().CreateDevice(info)
        )
        # In place of pylon's default, which would turn the trigger off.
        self._camera.RegisterConfiguration(
            self._pylon.ConfigurationEventHandler(),
            self._pylon.RegistrationMode_ReplaceAll,
            self._pylon.Cleanup_Delete,
        )
        self._camera.Open()
        self._camera.MaxNumBuffer.Value = _BUFFERS
        self._nodes = self._camera.GetNodeMap()

    def feature(self, name: str) -> Feature | None:
        """See `Device`."""
        node = self._nodes.GetNode(name)
        kind = _KINDS.get(type(node).__name__)
        if kind is None or not self._genicam.IsImplemented(node):
            return None
        found = Feature(kind, writable=bool(self._genicam.IsWritable(node)))
        if kind != "command" and self._genicam.IsReadable(node):
            found = found._replace(value=node.GetValue())
        if kind == "choice":
            found = found._replace(choices=tuple(node.GetSettableValues()))
        elif kind in ("integer", "float") and self._genicam.IsAvailable(node):
            found = found._replace(least=node.GetMin(), most=node.GetMax(), unit=node.GetUnit())
            if kind == "integer":
                found = found._replace(step=node.GetInc())
        return found

    def names(self) -> Sequence[str]:
        """See `Device`."""
        nodes = (node.GetNode() for node in self._nodes.GetNodes())
        return [str(node.GetName()) for node in nodes if node.IsFeature()]

    def set(self, name: str, value: Value) -> None:
        """See `Device`."""
        self._nodes.GetNode(name).SetValue(value)

    def execute(self, name: str) -> None:
        """See `Device`."""
        self._nodes.GetNode(name).Execute()

    def start(self) -> None:
        """See `Device`."""
        self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)

    def fetch(self, timeout: float) -> Buffer | None:
        """See `Device`."""
        result = self._camera.RetrieveResult(
            round(timeout * 1000), self._pylon.TimeoutHandling_Return
        )
        if not result.IsValid():
            return None
        try:
            if not result.GrabSucceeded():
                problem = " ".join(str(result.GetErrorDescription()).split())
                number = result.GetBlockID()
                return Buffer(np.empty(0, np.uint8), 0, 0, 0, 0, problem or "damaged", number)
            return Buffer(
                np.frombuffer(result.GetBuffer(), np.uint8),
                result.GetWidth(),
                result.GetHeight(),
                result.GetPixelType(),
                result.GetPaddingX(),
                number=result.GetBlockID(),
            )
        finally:
            result.Release()

    def stop(self) -> None:
        """See `Device`."""
        self._camera.StopGrabbing()

    def check(self) -> None:
        """See `Device`."""
        if self._camera.IsCameraDeviceRemoved():
            raise CameraLost("the camera was removed")

    def packets(self) -> Packets | None:
        """See `Device`."""
        nodes = self._camera.GetStreamGrabberNodeMap()
        counts = [nodes.GetNode(f"Statistic_{name}_Packet_Count") for name in ("Failed", "Resend")]
        if not all(self._genicam.IsReadable(count) for count in counts):
            return None
        return Packets(*(int(count.GetValue()) for count in counts))

    def close(self) -> None:
        """See `Device`."""
        if self._camera is not None:
            self._camera.Close()
