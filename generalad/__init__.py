"""Visual anomaly detection from a folder of good images to a camera on a production line."""

__version__ = "0.1.0"
