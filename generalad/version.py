"""The version of the package; `pip` and the changelog say the same."""

__version__ = "0.2.0"
