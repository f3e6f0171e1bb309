"""`StationPlan`: what a station is, before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from generalad.errors import UsageError
from generalad.runtime.backends.open import open_for_pipeline
from generalad.runtime.backends.session import Session
from generalad.runtime.station.cameras import CameraPlan
from generalad.runtime.station.recipes import Opener
from generalad.runtime.station.triggers.http_trigger import HttpTrigger
from generalad.runtime.station.triggers.mqtt_trigger import MqttTrigger
from generalad.runtime.station.triggers.photo_eye import PhotoEye
from generalad.runtime.station.verdict import Safe

By = Literal["camera", "plc", "http", "mqtt", "eye", "call"]
"""What begins a part. "call" is `Station.trigger` of a program alone."""


MOST_SECONDS = 3600.0
"""Of a deadline: nothing in a line waits longer, and clocks have an end."""


@dataclass(frozen=True)
class StationPlan:
    """What a station is, before anything is opened.

    Attributes:
        recipes: artifacts by name, the usual one first; an open session is used as it is.
        cameras: at least one.
        state: folder for what must outlive the process; of this station alone.
        by: what begins a part.
        receiver: where by is "http" or "mqtt".
        eye: where by is "eye": the photo-eye of the camera of that name.
        name: how notifications call the station.
        deadline: seconds from the trigger to the verdict.
        needed: pictures of a part that must pass; None is all.
        safe: what a part without verdict counts as.
        at_once: parts that may be undecided; a trigger beyond that is an overrun.
        window: seconds between a trigger and its picture, where the camera is triggered.
        batch: pictures that share a run of the network, where so many wait.
        open: opens an artifact.
    """

    recipes: Mapping[str, Path | Session]
    cameras: Sequence[CameraPlan]
    state: Path
    by: By = "call"
    receiver: HttpTrigger | MqttTrigger | None = None
    eye: tuple[str, PhotoEye] | None = None
    name: str = "station"
    deadline: float = 0.5
    needed: int | None = None
    safe: Safe = "reject"
    at_once: int = 8
    window: float = 0.05
    batch: int = 1
    open: Opener = field(default=open_for_pipeline)

    def __post_init__(self) -> None:
        names = [camera.stream.name for camera in self.cameras]
        pictures = sum(camera.pictures for camera in self.cameras)
        if not names or not self.recipes:
            raise UsageError("a station needs a camera and an artifact")
        if len(set(names)) < len(names):
            raise UsageError("two cameras have one name", remedy="give each a name of its own")
        if self.eye is not None and self.eye[0] not in names:
            raise UsageError(
                f"photo-eye: no camera {self.eye[0]!r}", remedy=f"one of {', '.join(names)}"
            )
        if self.needed is not None and not 1 <= self.needed <= pictures:
            raise UsageError(f"a part has {pictures} pictures, {self.needed} of them cannot pass")
        if not min(self.deadline, self.window, self.at_once, self.batch) > 0:
            raise UsageError("expected deadline, window, at_once and batch above 0")
        if not max(self.deadline, self.window) <= MOST_SECONDS:
            raise UsageError(f"expected a deadline and window of at most {MOST_SECONDS:.0f} s")
