"""From pictures to decisions with an exported artifact; never imports torch."""

from generalad.runtime.session import Outputs, Session, open_session

__all__ = ["Outputs", "Session", "open_session"]
