"""The program of a camera's own process: does what `ProcessDevice` asks, one request at a time.

Requests and answers are pickles, on stdin and on what was stdout when it started; what a producer
prints goes to stderr. It ends with stdin.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path


def main(key: str, producer: str) -> None:
    """Serve a camera that is called `key`, see `GenicamDevice`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from generalad.runtime.cameras.industrial.genicam_device import GenicamDevice

    device = GenicamDevice(key, producer)
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = True, getattr(device, name)(*arguments)
        except Exception as error:
            answer = False, str(error) or type(error).__name__
        pickle.dump(answer, answers, protocol=5)
        answers.flush()
    device.close()


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[4])  # the package that started this
    main(*sys.argv[1:])
