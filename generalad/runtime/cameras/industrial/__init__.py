"""Industrial cameras: GenICam, through one of three libraries.

`IndustrialCamera` is the `Camera` that a reader opens; it works on a `Device`, of which each
library has one: `genicam_device` (any vendor's GenTL producer), `basler_device` (pypylon) and
`aravis_device` (GigE Vision). What they share is here once: settings (`settings`), pixels
(`pixel_formats`), and how one camera is found among several (`found_cameras`).
"""
