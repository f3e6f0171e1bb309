"""Live sources: cameras that hang, break off and come back, without a frame lost unseen.

`Reader` turns an address into frames and says what state it is in; `WatchedFolder` waits for
images that other programs write. `open_live` makes either a source of `infer`. `find_cameras` says
what there is, and `try_camera` how well one works; industrial cameras are in `industrial`.
"""

from generalad.runtime.backoff import Backoff
from generalad.runtime.cameras.address import Address, parse_address
from generalad.runtime.cameras.camera import (
    Camera,
    CameraFactory,
    CameraLost,
    DamagedFrame,
    TriggerFailed,
)
from generalad.runtime.cameras.history import Change
from generalad.runtime.cameras.industrial.found_cameras import (
    FoundCamera,
    FoundCameras,
    find_cameras,
)
from generalad.runtime.cameras.open import open_live
from generalad.runtime.cameras.reader import Reader
from generalad.runtime.cameras.try_camera import Trial, try_camera
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
    "FoundCamera",
    "FoundCameras",
    "Reader",
    "State",
    "Status",
    "Trial",
    "TriggerFailed",
    "WatchedFolder",
    "find_cameras",
    "open_live",
    "parse_address",
    "try_camera",
]
