"""Procedural industrial parts with defects and exact masks: demo data without a download.

`parts` knows the categories and photographs one part; `dataset` and `conveyor` write many. A
category is drawn by its own module (`washer`, `fabric`, `board`), its defects by the module beside
it, from the textures of `noise` and the shapes of `marks`; `scene` is the lamp and the camera.
"""

from __future__ import annotations

from generalad.synth.conveyor import write_conveyor
from generalad.synth.dataset import write_dataset
from generalad.synth.parts import CATEGORIES, render_part
from generalad.synth.scene import Category

__all__ = ["CATEGORIES", "Category", "render_part", "write_conveyor", "write_dataset"]
