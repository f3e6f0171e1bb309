"""What of a frame is judged, and at which scale: crop, ignored areas, alignment, tiles.

A `Geometry` is part of an artifact's spec. `placement.prepare` applies it, the same in training,
calibration, verification and production; ignored areas and tiles are in the graph itself.
"""
