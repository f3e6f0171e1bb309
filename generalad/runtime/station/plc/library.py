"""Libraries of protocols: asked for where they are needed, and without a word of their own."""

from __future__ import annotations

import logging

from generalad.errors import require_extra


def need(needed_for: str, extra: str, module: str) -> None:
    """Refuse work whose library is not installed, and keep that library off stderr.

    What goes wrong is a state with a reason; a library that also says it would say it for every
    attempt. A program that configures logging still sees it.

    Raises:
        MissingExtraError: naming the pip command.
    """
    require_extra(needed_for, extra, module)
    logging.getLogger(module).addHandler(logging.NullHandler())
