"""An RTSP server for tests, for a Python with GStreamer: camera_rtsp_server.py PORT KEY=VALUE

Serves a red image at /cam, 15 times a second, and prints its port when it listens. Keys:
size=WxH; user=NAME:PASSWORD; tls=FILE with certificate and key, only with a user; udp=1 offers
nothing but UDP; codec=h265; noise=1 makes images that need many packets each; inband=1 sends the
parameters of the codec with the frames too; sound=1 adds a sound track, announced first.
"""

from __future__ import annotations

import sys
from typing import Any

SETTINGS = dict(item.split("=", 1) for item in sys.argv[2:])


def main() -> None:
    import gi  # type: ignore[import-not-found,import-untyped,unused-ignore]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        Gio,
        GLib,
        Gst,
        GstRtsp,
        GstRtspServer,
    )

    Gst.init(None)
    width, height = SETTINGS.get("size", "320x240").split("x")
    server: Any = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory: Any = GstRtspServer.RTSPMediaFactory()
    codec = SETTINGS.get("codec", "h264")
    pattern = "snow" if "noise" in SETTINGS else "red"
    inband = -1 if "inband" in SETTINGS else 0
    # The payloader would send the parameters between the slices of a frame, which breaks it up.
    slices = "threads=1" if inband and codec == "h264" else ""
    sound = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8 "
    factory.set_launch(
        f"( {sound if 'sound' in SETTINGS else ''}"
        f"videotestsrc is-live=true pattern={pattern} "
        f"! video/x-raw,width={width},height={height},framerate=15/1 "
        f"! x{codec[1:]}enc tune=zerolatency speed-preset=ultrafast key-int-max=15 {slices} "
        f"! rtp{codec}pay name=pay{int('sound' in SETTINGS)} pt=96 config-interval={inband} )"
    )
    if "udp" in SETTINGS:
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    # Each client has its own pipeline: a shared one that is taken down while the next client plays
    # ends the server with a failed assertion (GStreamer 1.22, about once in thirty under load).
    factory.set_shared(False)
    if user := SETTINGS.get("user"):
        name, password = user.split(":")
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
        if file := SETTINGS.get("tls"):
            auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(file))
        server.set_auth(auth)
        role = Gst.Structure.new_from_string(
            "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
        )
        factory.add_role_from_structure(role)
    server.get_mount_points().add_factory("/cam", factory)
    assert server.attach(None), "cannot listen"
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
