"""`IndustrialCamera`: a `Device` as a camera that a reader opens, free running or triggered."""

from __future__ import annotations

import queue
import time
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras.camera import (
    LOST,
    WITHOUT_TRIGGER,
    CameraLost,
    DamagedFrame,
    NoPicture,
    NothingYet,
    Settings,
    TriggerFailed,
)
from generalad.runtime.cameras.industrial.device import Buffer, Device, Packets
from generalad.runtime.cameras.industrial.pixel_formats import (
    pixel_format,
    to_rgb,
    unread,
)
from generalad.runtime.cameras.industrial.settings import apply

Trigger = Literal["free", "software", "line"]
"""How frames begin: by themselves, when they are asked for, or by a signal at the camera."""

_SLICE = 0.5
"""Seconds after which reading looks up: whether the camera answers, and whether to go on."""

_POLL = 0.001
"""Seconds between questions whether a camera is ready for a trigger."""

_MANY = 1000
"""Frames missing in a row are rather a counter that began anew."""


class Facts(NamedTuple):
    """What is known of an open camera.

    Attributes:
        trigger: how frames begin.
        pixel_format: name of the last frame's format, empty before the first one.
        packets: lost and resent, None where they are not counted.
    """

    trigger: Trigger = "free"
    pixel_format: str = ""
    packets: Packets | None = None


class IndustrialCamera:
    """One attempt at an industrial camera."""

    def __init__(self, device: Device, settings: Settings | None = None) -> None:
        """`settings` are made whenever the camera is opened."""
        self._device = device
        self._settings = dict(settings or {})
        self._requests: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._asked: tuple[float, float] | None = None  # timeout and end of the trigger to send
        self._late = False  # a picture that is not wanted any more may still come
        self._started = False
        self._tells_ready = False
        self._number: int | None = None
        self._held: Buffer | None = None  # came together with the news that others are missing
        self.note = ""
        self.facts = Facts()

    def open(self) -> None:
        """Connect, make the settings and begin.

        Raises:
            SettingRefused: the camera does not take one.
            CameraLost: it is not there, or in use.
        """
        self._device.open()
        mode = self._device.feature("AcquisitionMode")
        if mode is not None and mode.writable and "Continuous" in mode.choices:
            self._device.set("AcquisitionMode", "Continuous")
        self.note = "; ".join(apply(self._device, self._settings))
        self.facts = Facts(trigger_of(self._device))
        self._tells_ready = self.facts.trigger == "software" and _tells_ready(self._device)
        self._device.start()
        self._started = True

    def read(self) -> NDArray[np.uint8]:
        """See `Camera.read`; (H, W, 3) uint8 RGB."""
        held, self._held = self._held, None
        if held is not None:
            return self._image(held)
        if self.facts.trigger == "software":
            return self._image(self._triggered())
        buffer = self._fetch(_SLICE)
        if buffer is None:
            self._device.check()
            raise NothingYet(armed=self.facts.trigger == "line")
        return self._image(buffer)

    def trigger(self, timeout: float) -> None:
        """See `TriggeredCamera.trigger`."""
        if self.facts.trigger != "software":
            raise TriggerFailed(
                "the camera is not triggered by software: set TriggerMode to On and TriggerSource"
                " to Software"
            )
        self._requests.put(timeout)

    def close(self) -> None:
        """Free the camera."""
        try:
            if self._started:
                self._device.stop()
        finally:
            self._device.close()

    def _triggered(self) -> Buffer:
        """The picture of the next trigger."""
        if self._late:
            # The only way to be sure that it is not taken for that of the next trigger.
            self._device.stop()
            self._device.start()
            self._late, self._number = False, None
        if self._asked is None:
            try:
                timeout = self._requests.get(timeout=_SLICE)
            except queue.Empty:
                self._refuse_others()
                self._device.check()
                raise NothingYet(armed=True) from None
            self._asked = timeout, time.monotonic() + timeout
        timeout, until = self._asked
        ready = self._is_ready(until)
        self._refuse_others()  # this one is sent at the next call then
        self._asked = None
        if not ready:
            raise NoPicture(f"the camera was not ready for a trigger within {timeout:g} s")
        try:
            self._device.execute("TriggerSoftware")
        except Exception as error:  # of a library
            self._device.check()
            raise NoPicture(f"the camera refused the trigger: {error}") from error
        buffer = self._fetch(max(0.0, until - time.monotonic()))
        if buffer is None:
            self._late = True
            self._device.check()
            raise NoPicture(f"no picture within {timeout:g} s of the trigger")
        return buffer

    def _is_ready(self, until: float) -> bool:
        """Wait until the camera takes a trigger; one that comes too early is lost, unsaid."""
        while self._tells_ready:
            status = self._device.feature("AcquisitionStatus")
            if status is None or status.value is not False:
                break
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL)
        return True

    def _refuse_others(self) -> None:
        """Raises DamagedFrame for a picture that nobody asked for."""
        buffer = self._device.fetch(0.0)
        if buffer is not None:
            self._number = buffer.number
            raise DamagedFrame("a picture without a trigger", dropped=WITHOUT_TRIGGER)

    def _fetch(self, timeout: float) -> Buffer | None:
        """The next buffer; raises DamagedFrame once for those that are missing before it."""
        buffer = self._device.fetch(timeout)
        if buffer is not None and (missing := self._missing(buffer.number)):
            self._held = buffer
            raise DamagedFrame(f"{missing} frames were lost", dropped=LOST, count=missing)
        return buffer

    def _missing(self, number: int | None) -> int:
        """Frames between the last one and this one."""
        last, self._number = self._number, number
        if last is None or number is None or not 1 < number - last <= _MANY:
            return 0
        return number - last - 1

    def _image(self, buffer: Buffer) -> NDArray[np.uint8]:
        """The pixels of a whole buffer."""
        self.facts = self.facts._replace(packets=self._device.packets())
        if buffer.problem:
            raise DamagedFrame(buffer.problem)
        form = pixel_format(buffer.pixel_format)
        if form is None:
            said = getattr(self._device.feature("PixelFormat"), "value", None)
            raise CameraLost(unread(buffer.pixel_format, str(said or "")))
        self.facts = self.facts._replace(pixel_format=form.name)
        return to_rgb(buffer.data, buffer.width, buffer.height, form, padding=buffer.padding)


def trigger_of(device: Device) -> Trigger:
    """How frames begin.

    A camera with several triggers is asked for the selected one, and then for that of frames, which
    stays selected where it is on: TriggerSoftware means the selected one.
    """
    trigger = _selected_trigger(device)
    selector = device.feature("TriggerSelector")
    if trigger != "free" or selector is None or selector.value is None or not selector.writable:
        return trigger
    if selector.value == "FrameStart" or "FrameStart" not in selector.choices:
        return trigger
    device.set("TriggerSelector", "FrameStart")
    trigger = _selected_trigger(device)
    if trigger == "free":
        device.set("TriggerSelector", selector.value)
    return trigger


def _tells_ready(device: Device) -> bool:
    """Whether the camera says that it waits for a trigger; it is asked for that from now on."""
    selector = device.feature("AcquisitionStatusSelector")
    if selector is None or "FrameTriggerWait" not in selector.choices:
        return False
    if selector.value != "FrameTriggerWait":
        device.set("AcquisitionStatusSelector", "FrameTriggerWait")
    return device.feature("AcquisitionStatus") is not None


def _selected_trigger(device: Device) -> Trigger:
    mode, source = device.feature("TriggerMode"), device.feature("TriggerSource")
    if mode is None or mode.value != "On":
        return "free"
    return "software" if source is not None and source.value == "Software" else "line"
