"""What the service says: predictions, models and errors as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from generalad.printable import json_printable
from generalad.records import to_json

if TYPE_CHECKING:
    from generalad.prediction import Prediction


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A value as JSON; numbers that are not finite are refused by it."""
    text = json_printable(to_json(value))
    return Response(text, status, headers, media_type="application/json")


def error_answer(
    status: int, message: str, *, remedy: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Why a request was not done, and what to do."""
    return json_answer({"error": message, "remedy": remedy}, status, headers)


def prediction(found: Prediction, name: str, *, with_map: bool) -> dict[str, Any]:
    """What was found in an image, with the fields of a line of `gad infer`.

    The place of a file there is the name that the client gave here.
    """
    values = found.to_dict()
    for field in ("source", "path", "time"):
        del values[field]
    if values["match"] is None:  # only artifacts that align parts have it
        del values["match"]
    values = {"name": name, **values}
    if with_map:
        values["map"] = None if found.raw_map is None else map_as_png(found.raw_map)
    return values


def map_as_png(values: NDArray[np.float32]) -> dict[str, Any]:
    """A raw map (h, w) as a grey PNG of 16 bits, with what its least and greatest value stand for.

    raw = minimum + pixel / 65535 * (maximum - minimum)
    """
    low, high = float(values.min()), float(values.max())
    scale = 65535 / (high - low) if high > low else 0.0
    levels = np.rint((values.astype(np.float64) - low) * scale).astype(np.uint16)
    _, data = cv2.imencode(".png", levels)
    return {
        "png": base64.b64encode(data.tobytes()).decode("ascii"),
        "minimum": low,
        "maximum": high,
    }
