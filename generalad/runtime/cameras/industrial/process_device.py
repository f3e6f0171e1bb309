"""`ProcessDevice`: a `GenicamDevice` in a process of its own, which can be ended when it hangs."""

from __future__ import annotations

import contextlib
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generalad.runtime.cameras.camera import CameraLost, Value
from generalad.runtime.cameras.industrial.device import Buffer, Feature, Packets
from generalad.runtime.cameras.industrial.identity import Identity

PROGRAM = Path(__file__).with_name("device_process.py")

_PATIENCE = 20.0
"""Seconds after which a producer hangs for good; the watchdog has given it up long before."""

_CLOSING = 3.0


class ProcessDevice:
    """See `Device`; every call is one request to the process."""

    def __init__(self, key: str, producer: str = "", *, patience: float = _PATIENCE) -> None:
        """See `GenicamDevice`; the process starts with the first request."""
        self._command = [sys.executable, str(PROGRAM), key, producer]
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[tuple[bool, Any] | None] = queue.SimpleQueue()

    def cameras(self, producers: Sequence[str]) -> list[tuple[Identity, str]]:
        """All cameras, and what their address needs beside the key."""
        return self._ask("cameras", list(producers))  # type: ignore[no-any-return]

    def open(self) -> None:
        """See `Device`."""
        self._ask("open")

    def feature(self, name: str) -> Feature | None:
        """See `Device`."""
        return self._ask("feature", name)  # type: ignore[no-any-return]

    def names(self) -> Sequence[str]:
        """See `Device`."""
        return self._ask("names")  # type: ignore[no-any-return]

    def set(self, name: str, value: Value) -> None:
        """See `Device`."""
        self._ask("set", name, value)

    def execute(self, name: str) -> None:
        """See `Device`."""
        self._ask("execute", name)

    def start(self) -> None:
        """See `Device`."""
        self._ask("start")

    def fetch(self, timeout: float) -> Buffer | None:
        """See `Device`."""
        return self._ask("fetch", timeout, patience=timeout + self._patience)  # type: ignore[no-any-return]

    def stop(self) -> None:
        """See `Device`."""
        self._ask("stop")

    def check(self) -> None:
        """See `Device`."""
        self._ask("check")

    def packets(self) -> Packets | None:
        """See `Device`."""
        return None

    def close(self) -> None:
        """See `Device`; ends the process, whatever it does."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()  # it frees the camera and ends
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_CLOSING)
        process.kill()
        process.wait()

    def _ask(self, name: str, *arguments: Any, patience: float | None = None) -> Any:
        """Raises CameraLost with what the producer says, or where it says nothing."""
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        try:
            pickle.dump((name, arguments), process.stdin)
            process.stdin.flush()
            answer = self._answers.get(timeout=patience or self._patience)
        except queue.Empty:
            process.kill()
            raise CameraLost("the producer hangs; its process was ended") from None
        except OSError:
            answer = None
        if answer is None:
            raise CameraLost("the producer's process has ended by itself")
        done, value = answer
        if not done:
            raise CameraLost(" ".join(str(value).split()))
        return value

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(
            target=self._listen, args=(process.stdout,), name="gad-producer", daemon=True
        ).start()
        return process

    def _listen(self, stream: Any) -> None:
        """Take answers as they come, so that waiting for one can have an end."""
        with stream:
            while True:
                try:
                    self._answers.put(pickle.load(stream))
                except (EOFError, OSError, pickle.UnpicklingError):
                    self._answers.put(None)
                    return
