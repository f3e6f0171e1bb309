"""`TokenBucket`: no more than so many messages a minute, in bursts of ten seconds' worth."""

from __future__ import annotations

from generalad.errors import UsageError

BURST_SECONDS = 10.0


class TokenBucket:
    """Fills at a steady rate up to a burst; every message takes one token. For one thread."""

    def __init__(self, per_minute: float | None) -> None:
        """None is no limit."""
        if per_minute is not None and not 0 < per_minute < float("inf"):
            raise UsageError(f"expected more than 0 messages a minute, found {per_minute}")
        self._rate = None if per_minute is None else per_minute / 60
        self._burst = max(1.0, (self._rate or 0) * BURST_SECONDS)
        self._tokens = self._burst
        self._filled: float | None = None

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        if self._rate is None:
            return 0.0
        if self._filled is not None and now > self._filled:
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        # Sums of small steps may stay a hair below the whole token.
        missing = 1 - self._tokens
        return missing / self._rate if missing > 1e-9 else 0.0

    def take(self) -> None:
        """Use the token that `wait` found."""
        if self._rate is not None:
            self._tokens -= 1
