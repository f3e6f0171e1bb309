"""`Tally`: what each stream did in each hour, kept across restarts for the shift report."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from generalad.errors import GadError
from generalad.files import read_json, write_json
from generalad.progress import Log
from generalad.serve.latest import Latest

_KEPT_HOURS = 24 * 92
_EVERY = 60.0

Key = tuple[int, str, str]
"""Hour since 1970, stream, what is counted."""


class Tally:
    """Takes the counts of `Latest` once a minute and writes them down."""

    def __init__(self, file: Path, latest: Latest, *, log: Log) -> None:
        """Read what there is, and begin; a file that is damaged is moved aside, and it is said."""
        self._file, self._latest, self._log = file, latest, log
        self._lock = threading.Lock()
        self._counts: Counter[Key] = Counter()
        self._ended = threading.Event()
        if file.exists():
            try:
                for hour, stream, what, count in read_json(file):
                    self._counts[int(hour), str(stream), str(what)] += int(count)
            except (GadError, OverflowError, TypeError, ValueError):
                aside = file.with_suffix(".damaged.json")
                file.replace(aside)
                log(f"{file}: damaged, moved to {aside.name}; counting begins anew")
        self._thread = threading.Thread(target=self._work, name="gad-tally", daemon=True)
        self._thread.start()

    def since(self, moment: float) -> dict[Key, int]:
        """Counts of the hours that end after a moment."""
        self._collect()
        with self._lock:
            return {key: n for key, n in self._counts.items() if (key[0] + 1) * 3600 > moment}

    def close(self) -> None:
        """Write down what there is."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(_EVERY):
            self._write()
        self._write()

    def _collect(self) -> None:
        with self._lock:
            self._counts.update(self._latest.hours())

    def _write(self) -> None:
        self._collect()
        oldest = int(time.time()) // 3600 - _KEPT_HOURS
        with self._lock:
            for key in [key for key in self._counts if key[0] < oldest]:
                del self._counts[key]
            rows = [[*key, count] for key, count in sorted(self._counts.items())]
        try:
            write_json(self._file, rows)
        except GadError as error:
            self._log(str(error))
