"""`Geometry`: the record of what of a frame is judged, as it stands in a configuration and a spec.

Polygons are written as those of a stream (`generalad.areas`): corners (x, y) in shares of the
frame, from (0, 0) at the top left to (1, 1) at the bottom right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from generalad.errors import GadError, UsageError

if TYPE_CHECKING:
    from generalad.areas import Areas

Polygon = tuple[tuple[float, float], ...]
"""As `generalad.areas.Polygon`."""

LEAST_SIDE = 0.05
"""Share of each side of the frame that a crop has at least: maps are laid over whole frames."""

MOST_CORNERS = 200
"""Of all polygons together; an artifact may be hostile."""

_BOX = "write a box X,Y,WxH or corners 'X,Y X,Y X,Y' with shares of the frame from 0 to 1"


SIDE = 192
"""Of a template's longer side in pixels; positions are found to about a tenth of one."""

MOST_TEXT = 200_000
"""Letters of the picture; one of the usual size has some 40,000."""


@dataclass(frozen=True)
class Template:
    """How a part is found.

    Attributes:
        png: a grey picture of the part in place (base64), its longer side `finder.SIDE` pixels.
        least: match below which no part was found, -1...1.
        usual: match of the median good image.
        turn: degrees by which parts are turned at most, either way; 0: they are shifted only.
        symmetric: degrees, other than 0, after which the part looks much the same.
    """

    png: str
    least: float
    usual: float
    turn: float = 180.0
    symmetric: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.png) > MOST_TEXT:
            raise ValueError(f"template: a picture of more than {MOST_TEXT} letters")
        if not -1 <= self.least <= self.usual <= 1:
            raise ValueError("template: expected matches -1 <= least <= usual <= 1")
        if not 0 <= self.turn <= 180:
            raise ValueError("template: expected a turn of 0 to 180 degrees")
        if len(self.symmetric) > 72:
            raise ValueError("template: more than 72 turns")

    def in_words(self) -> str:
        """For people, in one line."""
        kind = f"turned by up to {self.turn:.0f} degrees and shifted" if self.turn else "shifted"
        alike = ""
        if self.symmetric:
            turns = ", ".join(f"{angle:.0f}" for angle in self.symmetric)
            alike = f"; it looks alike after {turns} degrees, and the smallest turn is taken"
        return f"{kind} into place where it matches by {self.least:.2f} or more{alike}"


STEP = 32
"""Pixels, of which the sides of tiles, their overlap and the network's input are multiples: the
stride of the deepest level that any head looks at."""

MOST_ENLARGED = 4
"""Times: more costs more, and shows nothing that the camera did not."""

MOST_TILED = 1 << 27
"""Pixels of a frame that is judged in tiles."""


@dataclass(frozen=True)
class Tiles:
    """How a frame is cut, at its own scale.

    Attributes:
        side: of a square tile in pixels, a multiple of `STEP`.
        overlap: of neighbours in pixels, at least; a multiple of `STEP`.
        frame: (height, width) of the whole frame. Others are refused: their defects would be of
            another size.
        scale: times by which a tile is enlarged for the network, which sees nothing that is smaller
            than a patch.
    """

    side: int
    overlap: int
    frame: tuple[int, int]
    scale: int = 1

    def __post_init__(self) -> None:
        if not (32 <= self.side <= 4096 and self.side % STEP == 0):
            raise ValueError(
                f"tiles: expected a multiple of {STEP} from {STEP} to 4096, found {self.side}"
            )
        if not (0 <= self.overlap <= self.side // 2 and self.overlap % STEP == 0):
            raise ValueError(
                f"tile_overlap: expected a multiple of {STEP} up to half of a tile"
                f" ({self.side // 2}), found {self.overlap}"
            )
        if not (1 <= self.scale <= MOST_ENLARGED and self.side * self.scale <= 4096):
            raise ValueError(
                f"image_size: expected that of a tile, {self.side}, or up to {MOST_ENLARGED} times"
                f" that and 4096, found {self.scale} times"
            )
        if min(self.frame) < 1 or self.frame[0] * self.frame[1] > MOST_TILED:
            raise ValueError(
                f"tiles: a frame of {self.frame[1]} x {self.frame[0]}, expected at most"
                f" {MOST_TILED / 1e6:.0f} megapixels"
            )

    def in_words(self) -> str:
        """For people, in one line."""
        height, width = self.frame
        enlarged = f", enlarged {self.scale} times" if self.scale > 1 else ""
        return (
            f"tiles of {self.side} pixels that overlap by {self.overlap}, of frames of"
            f" {width} x {height}{enlarged}"
        )


@dataclass(frozen=True)
class Geometry:
    """What of a frame is judged.

    Attributes:
        crop: a polygon. The network sees the smallest upright box around it, and what of that box
            lies outside of the polygon is ignored. Empty for the whole frame.
        ignore: polygons whose inside neither teaches nor counts.
        template: how the part is found; None where it is not looked for. Areas are then those of
            the frame in which the part is in place.
        tiles: how the frame is cut; None where it is resized as a whole.

    Raises:
        ValueError: no polygons, or a crop that is too small.
    """

    crop: Polygon = ()
    ignore: tuple[Polygon, ...] = ()
    template: Template | None = None
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        if not self.crop and not self.ignore:
            return
        try:
            areas = self.areas
        except GadError as error:
            raise ValueError(_named_crop(error.message)) from error
        object.__setattr__(self, "crop", areas.inspect[0] if areas.inspect else ())
        object.__setattr__(self, "ignore", areas.ignore)
        if len(self.crop) + sum(map(len, self.ignore)) > MOST_CORNERS:
            raise ValueError(f"crop and ignore have more than {MOST_CORNERS} corners")
        left, top, right, bottom = self.box
        if min(right - left, bottom - top) < LEAST_SIDE - 1e-9:
            raise ValueError(
                f"crop: expected at least {LEAST_SIDE:.0%} of each side of the frame, found"
                f" {right - left:.1%} x {bottom - top:.1%}"
            )

    @property
    def areas(self) -> Areas:
        """What counts, in shares of the frame."""
        from generalad.areas import Areas  # only where there are some

        return Areas((self.crop,) if self.crop else (), self.ignore)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what the network sees, in shares of the frame."""
        if not self.crop:
            return 0.0, 0.0, 1.0, 1.0
        x, y = zip(*self.crop, strict=True)
        return min(x), min(y), max(x), max(y)

    @property
    def ignores(self) -> bool:
        """Whether some places that the network sees do not count."""
        left, top, right, bottom = self.box
        corners = {(left, top), (right, top), (right, bottom), (left, bottom)}
        return bool(self.ignore) or (bool(self.crop) and set(self.crop) != corners)

    @property
    def marks_outside(self) -> bool:
        """Whether places outside of the frame are told, see `geometry.outside`."""
        return self.template is not None and self.tiles is None

    def tiled_size(self) -> tuple[int, int]:
        """(height, width) of the network's input where it is cut: the box, to the next step."""
        assert self.tiles is not None
        left, top, right, bottom = self.box
        height, width = self.tiles.frame
        return tuple(
            max(STEP, round(length / STEP) * STEP)
            for length in (height * (bottom - top), width * (right - left))
        )  # type: ignore[return-value]

    def frame_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the whole frame at the scale at which the box has `size`."""
        left, top, right, bottom = self.box
        return (
            max(size[0], round(size[0] / (bottom - top))),
            max(size[1], round(size[1] / (right - left))),
        )

    def in_words(self) -> str:
        """For people, in one line."""
        left, top, right, bottom = self.box
        parts = []
        if self.crop:
            kind = "polygon in " if len(self.crop) != 4 else ""
            parts.append(f"crop {kind}{left:.4g},{top:.4g},{right - left:.4g}x{bottom - top:.4g}")
        if self.ignore:
            parts.append(f"{len(self.ignore)} ignored area{'s' * (len(self.ignore) != 1)}")
        if self.tiles is not None:
            parts.append(self.tiles.in_words())
        if self.template is not None:
            parts.append(self.template.in_words())
        return "; ".join(parts) or "whole frame"


def _named_crop(message: str) -> str:
    return message.replace("inspect polygon 1", "crop").replace("inspect", "crop")


def polygon_of(value: Any, name: str) -> Polygon:
    """A polygon from what a person writes.

    Args:
        value: corners [[x, y], ...]; or, as on a command line, a box "X,Y,WxH" or corners
            "X,Y X,Y X,Y". Shares of the frame.
        name: of the setting, for errors.

    Raises:
        UsageError: something else, or a place outside of the frame.
    """
    from generalad.areas import Areas

    corners: Any = _from_text(value, name) if isinstance(value, str) else value
    try:
        return Areas(inspect=(corners,)).inspect[0]
    except UsageError as error:
        message = error.message.replace("inspect polygon 1", name)
        raise UsageError(message, remedy=_BOX) from error


def _from_text(text: str, name: str) -> list[list[float]]:
    words = text.split()
    try:
        if len(words) == 1 and "x" in text.lower():
            left, top, size = text.lower().split(",")
            x, y, (width, height) = float(left), float(top), map(float, size.split("x"))
            if not (width > 0 and height > 0 and all(map(math.isfinite, (x, y, width, height)))):
                raise ValueError
            # 0.1 + 0.9 and the like are not exactly 1.
            right, bottom = round(x + width, 9), round(y + height, 9)
            return [[x, y], [right, y], [right, bottom], [x, bottom]]
        pairs = [[float(number) for number in word.split(",")] for word in words]
        if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
            raise ValueError
    except ValueError as error:
        raise UsageError(f"{name}: expected an area, found {text!r}", remedy=_BOX) from error
    return pairs
