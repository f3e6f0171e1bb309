"""Where results go: JSON lines, CSV, a folder of overlays, an annotated video.

What grows in a finite run does so in a file named like the final one with ".part" before its
suffix, and takes its own name when the run ends or is interrupted with Ctrl-C. A killed or failed
run leaves the part. Live sources have no such end: their files have their names from the start, go
on after a restart, and are bounded.
"""
