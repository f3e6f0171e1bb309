"""Live sources: cameras that hang, break off and come back, without a frame lost unseen.

`Reader` turns an address into frames and says what state it is in; `WatchedFolder` waits for
images that other programs write. `open_live` makes either a source of `infer`.
"""

from generalad.runtime.cameras.address import Address, parse_address, redacted
from generalad.runtime.cameras.camera import Camera, CameraFactory
from generalad.runtime.cameras.lost import CameraLost, DamagedFrame
from generalad.runtime.cameras.open import open_live
from generalad.runtime.cameras.reader import Reader
from generalad.runtime.cameras.state import Captured, Change, Policy, State, Status
from generalad.runtime.cameras.timing import Backoff, Clock, SystemClock
from generalad.runtime.cameras.watch import Arrived, WatchedFolder

__all__ = [
    "Address",
    "Arrived",
    "Backoff",
    "Camera",
    "CameraFactory",
    "CameraLost",
    "Captured",
    "Change",
    "Clock",
    "DamagedFrame",
    "Policy",
    "Reader",
    "State",
    "Status",
    "SystemClock",
    "WatchedFolder",
    "open_live",
    "parse_address",
    "redacted",
]
