"""A command as a process: exit codes, one line for what goes wrong, a fast start and end."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from generalad.errors import GadError
from generalad.printable import indented
from generalad.runtime import interrupt
from generalad.runtime.malloc import keep_freed_memory

FAILED, INTERRUPTED = 1, 130
_SIGNALLED = 128
"""Added to the number of a signal, as shells do: 130 after Ctrl-C, 143 after SIGTERM."""

_EXPECTED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENXIO),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENODEV),
)
"""What a disk, a share or the name of a file may be the reason of, and no fault of ours."""


_PATHLIB = ("embedded null byte", "Symlink loop")


def escape_what_cannot_be_written(stream: Any) -> None:
    r"""Let a stream that is not UTF-8 write every letter, those it lacks as JSON does: \\u00e9.

    Where it leads to a file or another program, all but ASCII: JSON is in UTF-8, which that fits.
    """
    import codecs
    import json

    def escaped(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return json.dumps(error.object[error.start : error.end])[1:-1], error.end

    codecs.register_error("gad-json", escaped)
    with contextlib.suppress(AttributeError, OSError):  # a test, or a program that replaced it
        stream.reconfigure(encoding=None if stream.isatty() else "ascii", errors="gad-json")


def exit_code_of(command: Callable[[], int], *, debug: bool) -> int:
    """Call `command`; returns its exit code, or that of its failure after a line on stderr."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except GadError as error:
        return _failed(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt as interruption:
        number = getattr(interruption, "signal_number", INTERRUPTED - _SIGNALLED)
        return _failed("interrupted", _SIGNALLED + number, debug=False)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does. Python would complain about it once
        # more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if _by_interrupt(error):
            return _failed("interrupted", INTERRUPTED, debug=False)
        return _other_failure(error, debug=debug)


def _other_failure(error: Exception, *, debug: bool) -> int:
    """The exit code of a failure that is no `GadError`, after its line; raises what is no such."""
    if isinstance(error, MemoryError):
        return _failed("out of memory → use fewer or smaller images", FAILED, debug=debug)
    if isinstance(error, OSError) and error.errno in _EXPECTED:
        where = f": {error.filename}" if error.filename else ""
        remedy = " → check the path" if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else ""
        return _failed(f"{error.strerror}{where}{remedy}", FAILED, debug=debug)
    if str(error).startswith(_PATHLIB):  # before Python 3.13, an error without a class of its own
        return _failed(f"no path of a file: {error} → check the path", FAILED, debug=debug)
    raise error


def _by_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries that are being loaded make one of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def own_process() -> None:
    """The process is a command's alone: a second signal ends it, whatever it hangs in."""
    interrupt.END_AFTER = 3.0


def start_fast() -> None:
    """Prepare a process that should be ready soon and work fast; before NumPy is imported."""
    # Both bring a BLAS, which this command never calls. Its threads would keep the other cores busy
    # for the first 0.1 s, while the network is loaded there.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    keep_freed_memory()
    gc.disable()  # modules are no garbage; until `collect_garbage`


def collect_garbage() -> None:
    """Collect garbage from now on, but not among the modules that `start_fast` let load."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def exit_at_once(code: int) -> NoReturn:
    """End the process at once, without taking apart what the system takes back as a whole.

    For a command that has closed all it opened. Of a run of one image, taking interpreter and
    libraries apart would be a tenth.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # already told, or closed
            stream.flush()
    os._exit(code)


def _failed(text: str, code: int, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"gad: {indented(text)}\n")
    return code
