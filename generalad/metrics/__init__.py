"""Image and pixel metrics, their intervals, and the report (numpy and OpenCV only)."""
