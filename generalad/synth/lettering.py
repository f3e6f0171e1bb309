"""A stroke font for silkscreen and laser marks; drawn here so that no font is needed."""

from __future__ import annotations

import cv2
import numpy as np

from generalad.synth.noise import Float

# Strokes on a grid 0...4 wide and 0...6 high (y down), "xyxyxy" for each stroke.
_GLYPHS: dict[str, tuple[str, ...]] = {
    "0": ("103041453616050110",),
    "1": ("112026", "1636"),
    "2": ("01103041420646",),
    "3": ("0110304142334445361605", "1333"),
    "4": ("36300444",),
    "5": ("400003334445361605",),
    "6": ("4130100105163645443303",),
    "7": ("00404126",),
    "8": ("1030414233130201101304051636454433",),
    "9": ("051636454130100102133343",),
    "A": ("0602204246", "0444"),
    "B": ("06003041423303", "3344453606"),
    "C": ("4130100105163645",),
    "D": ("06003041453606",),
    "E": ("40000646", "0333"),
    "F": ("400006", "0333"),
    "L": ("000646",),
    "M": ("0600234046",),
    "P": ("06003041423303",),
    "R": ("06003041423303", "2346"),
    "S": ("413010010213334445361605",),
    "T": ("0040", "2026"),
    "U": ("000516364540",),
    "V": ("002640",),
    "X": ("0046", "4006"),
    "Y": ("002340", "2326"),
    "+": ("2125", "0343"),
    "-": ("0343",),
}


def write(
    image: Float, text: str, centre: tuple[float, float], height: float, width: float
) -> Float:
    """Raise `image` (H, W) to 1 along `text`; `height` and stroke `width` in pixels."""
    unit = height / 6
    advance = 5.6 * unit
    left = centre[0] - (len(text) * advance - 1.6 * unit) / 2
    top = centre[1] - height / 2
    canvas = np.zeros(image.shape, dtype=np.uint8)
    for place, letter in enumerate(text):
        for stroke in _GLYPHS.get(letter, ()):
            points = np.array(list(stroke), dtype=np.float32).reshape(-1, 2) * unit
            points += (left + place * advance, top)
            fixed = np.round(points * 16).astype(np.int32)
            cv2.polylines(canvas, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    ink: Float = canvas.astype(np.float32) / np.float32(255)
    return np.maximum(image, ink, out=ink)
