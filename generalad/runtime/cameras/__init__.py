"""Live sources: cameras that hang, break off and come back, without a frame lost unseen.

`Reader` turns an address into frames and says what state it is in; `WatchedFolder` waits for
images that other programs write. `open_live` makes either a source of `infer`.
"""

from generalad.runtime.backoff import Backoff
from generalad.runtime.cameras.address import Address, parse_address
from generalad.runtime.cameras.camera import Camera, CameraFactory, CameraLost, DamagedFrame
from generalad.runtime.cameras.history import Change
from generalad.runtime.cameras.open import open_live
from generalad.runtime.cameras.reader import Reader
from generalad.runtime.cameras.watched_folder import WatchedFolder
from generalad.runtime.sources import State, Status

__all__ = [
    "Address",
    "Backoff",
    "Camera",
    "CameraFactory",
    "CameraLost",
    "Change",
    "DamagedFrame",
    "Reader",
    "State",
    "Status",
    "WatchedFolder",
    "open_live",
    "parse_address",
]
