"""Ctrl-C and SIGTERM at any time: one line and the exit code of the signal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from camera_helpers import until
from training_helpers import start_python

# At the import of a module. Hidden: where an exception has nowhere to go, as in a callback.
LOADING = """
import os, signal, sys
class Hidden:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            HIDDEN or os.kill(os.getpid(), signal.SIGINT)
            Hidden()
sys.meta_path.insert(0, Stop())
from generalad.cli import main
main()
"""


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("module", ["generalad.cli.commands", "numpy", "cv2", "onnxruntime"])
def test_ctrl_c_while_modules_load(tmp_path: Path, module: str, hidden: bool) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    program = LOADING.replace("HIDDEN", str(hidden)).replace("MODULE", module)
    process = start_python(program, "infer", "model.onnx", str(tmp_path / "a.png"))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "gad: interrupted\n")


HANGING = """
import ctypes, signal, sys
from generalad.runtime import interrupt
interrupt.END_AFTER = 0.05
lock = ctypes.create_string_buffer(256)
wait = ctypes.CDLL(None).pthread_mutex_lock
with interrupt.on_interrupt(lambda number: None):
    wait(lock)
    print("hangs", flush=True)
    wait(lock)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a lock of its C library")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_process_whose_main_thread_hangs(number: signal.Signals) -> None:
    process = start_python(HANGING)
    assert process.stdout is not None
    assert process.stdout.readline() == "hangs\n"
    main = Path(f"/proc/{process.pid}/task/{process.pid}/stat")
    until(lambda: main.read_text().rpartition(")")[2].split()[0] == "S")  # it sleeps
    process.send_signal(number)
    process.send_signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, 143)
