"""`Device`: what a library of industrial cameras must give; the rest is written once.

A device is used by one thread, which also closes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from generalad.runtime.cameras.camera import Value

FeatureKind = Literal["boolean", "integer", "float", "choice", "text", "command"]


class Feature(NamedTuple):
    """A feature of a camera by its GenICam name, as it is now.

    Attributes:
        kind: what its value is.
        value: None where it cannot be read, as that of a command.
        writable: whether it can be set, or executed, now.
        least: smallest number that is allowed now, None where none is told.
        most: largest.
        step: of a whole number, between values that are allowed.
        unit: of a number, such as "us".
        choices: of an enumeration, those that are allowed now.
    """

    kind: FeatureKind
    value: Value | None = None
    writable: bool = True
    least: float | None = None
    most: float | None = None
    step: int | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()


class Buffer(NamedTuple):
    """What a camera sent for one frame.

    Attributes:
        data: (N,) uint8 as sent; may be overwritten when the next one is fetched.
        width: in pixels.
        height: in pixels.
        pixel_format: PFNC number.
        padding: bytes behind each row.
        problem: why it is no whole image, such as lost packets; empty where it is one.
        number: the camera's count of frames; None where it does not count.
    """

    data: NDArray[np.uint8]
    width: int
    height: int
    pixel_format: int
    padding: int = 0
    problem: str = ""
    number: int | None = None


class Device(Protocol):
    """One camera, opened once. What its library raises is the reason why a camera was lost."""

    def open(self) -> None:
        """Find the camera and take control of it; nothing is changed on it."""

    def feature(self, name: str) -> Feature | None:
        """A feature as it is now; None where the camera has none of this name."""

    def names(self) -> Sequence[str]:
        """The names of features, for finding what a misspelt one could mean."""

    def set(self, name: str, value: Value) -> None:
        """Set a feature, by a value of its kind."""

    def execute(self, name: str) -> None:
        """Execute a command."""

    def start(self) -> None:
        """Begin to take frames, or to wait for triggers."""

    def fetch(self, timeout: float) -> Buffer | None:
        """The next frame; None after `timeout` seconds without one."""

    def stop(self) -> None:
        """Take no more frames, and forget those that nobody fetched."""

    def check(self) -> None:
        """Ask the camera itself for something; raises if it does not answer."""

    def packets(self) -> Packets | None:
        """Counts since `start`, None where they are not counted."""

    def close(self) -> None:
        """Free everything, whatever state it is in."""


class Packets(NamedTuple):
    """Packets of a network camera.

    Attributes:
        lost: never arrived.
        resent: arrived after they had been asked for again.
    """

    lost: int
    resent: int
