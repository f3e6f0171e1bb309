"""`gad verify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from generalad.cli.options import Argument, Option
from generalad.printable import printable


def verify(
    artifact: Annotated[Path, Argument("Exported file, such as model.onnx.")],
    key: Annotated[Path, Option("Public key of Ed25519, PEM.", metavar="FILE")],
) -> None:
    """Check that an artifact was signed with a key and has not been changed since.

    The exit code is 1 if not. Where GAD_VERIFY_KEY names a public key, every command checks each
    artifact that it opens.

    Examples:
        gad verify model.onnx --key gad.pub
    """
    from generalad.runtime.backends.signature import verify as run

    found = run(artifact, key)
    files = ", ".join(found.files)
    sys.stderr.write(printable(f"{artifact}: signed by {found.key[:12]}: {files}\n"))
