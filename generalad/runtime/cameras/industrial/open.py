"""Loads the library of a kind of industrial camera, only when it is asked for."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Sequence

from generalad.errors import UsageError, require_extra
from generalad.runtime.cameras.address import Address, Kind
from generalad.runtime.cameras.camera import CameraFactory, Settings
from generalad.runtime.cameras.industrial.device import Device
from generalad.runtime.cameras.industrial.identity import Identity
from generalad.runtime.cameras.industrial.industrial_camera import IndustrialCamera


def industrial_factory(address: Address, settings: Settings) -> CameraFactory:
    """What makes the cameras of an address, one for each attempt.

    Raises:
        MissingExtraError, UsageError: the library is not installed.
    """
    require_library(address.kind)
    make: Callable[[], Device]
    if address.kind == "genicam":
        from generalad.runtime.cameras.industrial.process_device import ProcessDevice

        make = lambda: ProcessDevice(address.camera, address.producer)  # noqa: E731
    elif address.kind == "basler":
        from generalad.runtime.cameras.industrial.basler_device import BaslerDevice

        make = lambda: BaslerDevice(address.camera)  # noqa: E731
    else:
        from generalad.runtime.cameras.industrial.aravis_device import AravisDevice

        make = lambda: AravisDevice(address.camera)  # noqa: E731
    return lambda: IndustrialCamera(make(), settings)


def listed(kind: Kind, producers: Sequence[str]) -> list[tuple[Identity, str]]:
    """The cameras of a library, and what their address needs beside the key.

    Raises:
        MissingExtraError, UsageError: the library is not installed.
    """
    require_library(kind)
    if kind == "genicam":
        from generalad.runtime.cameras.industrial.process_device import ProcessDevice

        with contextlib.closing(ProcessDevice("")) as device:
            return device.cameras(producers)
    if kind == "basler":
        from generalad.runtime.cameras.industrial.basler_device import basler_cameras

        return [(identity, "") for identity in basler_cameras()]
    from generalad.runtime.cameras.industrial.aravis_device import aravis_cameras

    return [(identity, "") for identity in aravis_cameras()]


def require_library(kind: Kind) -> None:
    """Refuse work whose library is not installed.

    Raises:
        MissingExtraError, UsageError: saying what to install.
    """
    if kind == "genicam":
        require_extra("a genicam: camera", "genicam", "genicam")
    elif kind == "basler":
        require_extra("a basler: camera", "basler", "pypylon")
    elif not _has_aravis():
        raise UsageError(
            "a gige: camera needs Aravis 0.8 and its Python bindings, which are not installed",
            remedy="apt install gir1.2-aravis-0.8 and pip install 'generalad[gige]'",
        )


def _has_aravis() -> bool:
    if importlib.util.find_spec("gi") is None:
        return False
    import gi

    try:
        gi.require_version("Aravis", "0.8")
    except ValueError:  # what it raises where the library is not there
        return False
    return True
