"""Opens the session of a pipeline, alone or while the rest of the program is still loading."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from generalad.runtime.backends import ort
from generalad.runtime.session import Session, open_session


def open_for_pipeline(
    artifact: str | Path, *, threads: int | None = None, device: str | None = None
) -> Session:
    """A session that shares its cores with decoding and drawing; see `open_session`."""
    # Spinning threads would take the cores from decoding: a third of a video's speed.
    return open_session(artifact, threads=threads, device=device, spinning=False)


def open_in_background(
    artifact: Path, *, threads: int | None, device: str | None
) -> Callable[[], Session]:
    """Start to open a session in a thread, which leaves the interpreter to others meanwhile.

    Returns:
        What waits for the session and returns it, or raises what `open_session` raised.
    """
    opened: list[Session] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            opened.append(open_for_pipeline(artifact, threads=threads, device=device))
        except BaseException as error:
            failed.append(error)

    if artifact.suffix.lower() == ".onnx":
        # Importing the library needs the interpreter, as all else that is loaded now; only what
        # follows does not. So the sooner it is through, the more goes on side by side.
        ort.library()
    thread = threading.Thread(target=work, name="gad-open", daemon=True)
    thread.start()

    def session() -> Session:
        thread.join()
        if failed:
            raise failed[0]
        return opened[0]

    return session
