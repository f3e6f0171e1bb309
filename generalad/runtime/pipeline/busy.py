"""`Busy`: for how long a stage has been at one item, from any thread."""

from __future__ import annotations

import time


class Busy:
    """A block that notes when it began; `seconds` is 0 outside of it."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    @property
    def seconds(self) -> float:
        """Since the block began."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since
