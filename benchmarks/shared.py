"""What several benchmarks share: `gad` of this checkout as a process, artifacts made for them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from tiny_artifacts import planted_artifact, tiny_artifact

ROOT = Path(__file__).resolve().parents[1]
GAD = (sys.executable, "-c", "from generalad.cli import main; main()")
"""To be started in `ROOT`, with the words of a command after it."""

__all__ = ["GAD", "ROOT", "planted_artifact", "tiny_artifact"]
