"""Runs one command and turns what can go wrong into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from generalad.errors import GadError

INTERRUPTED = 130


def run(name: str, command: Any, arguments: Sequence[str], *, debug: bool) -> int:
    """Call a command function, or a Typer application of several, with `arguments`.

    Returns:
        The exit code, see docs/exit-codes in the README.
    """
    if isinstance(command, typer.Typer):
        app = command
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(context_settings={"help_option_names": ["--help", "-h"]})(command)
    try:
        # Standalone mode would turn Ctrl-C into exit code 1.
        result = typer.main.get_command(app).main(
            list(arguments), prog_name=f"gad {name}", standalone_mode=False
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except GadError as error:
        return _failed(error, error.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("gad: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does; nothing is left to be told.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except typer.Exit as error:
        return int(error.exit_code)
    except MemoryError as error:
        return _failed(error, 1, debug=debug, text="out of memory → use fewer or smaller images")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        where = f": {error.filename}" if error.filename else ""
        return _failed(error, 1, debug=debug, text=f"{error.strerror}{where}")
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # wrong usage, found by Typer
            error.show()
            return int(error.exit_code)
        raise


def _failed(error: BaseException, code: int, *, debug: bool, text: str = "") -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"gad: {text or error}\n")
    return code
