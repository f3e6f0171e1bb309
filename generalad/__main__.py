"""`python -m generalad` is `gad`."""

from generalad.cli import main

main()
