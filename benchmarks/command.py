"""`gad` of this checkout as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

GAD = (sys.executable, "-c", "from generalad.cli import main; main()")
"""To be started in `ROOT`, with the words of a command after it."""

ROOT = Path(__file__).resolve().parents[1]
