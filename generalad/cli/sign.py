"""`gad sign`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from generalad.cli.options import Argument, Option
from generalad.printable import printable


def sign(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    key: Annotated[Path, Option("Private key of Ed25519, PEM.", metavar="FILE")],
) -> None:
    """Sign an artifact, so that devices can tell who made it.

    Writes ARTIFACT.sig beside it, over the hashes of all its files. Sign under the final name:
    the names of the files are signed too. What gad calibrate writes is a new artifact.

    Examples:
        openssl genpkey -algorithm ed25519 -out gad.key
        openssl pkey -in gad.key -pubout -out gad.pub
        gad sign model.onnx --key gad.key
        gad verify model.onnx --key gad.pub
        GAD_VERIFY_KEY=gad.pub gad serve model.onnx
    """
    from generalad.runtime.backends.signature import sign as run

    path = run(artifact, key)
    sys.stderr.write(printable(f"{path}: written\n"))
