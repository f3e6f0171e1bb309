"""A Motion JPEG server with faults, for tests: python camera_http_server.py PORT KEY=VALUE ...

Sends a red image 20 times a second and prints its port when it listens. Keys:
size=WxH; resize=N halves it after N frames; half=N sends half of frame N and closes; cut=N sends
half of frame N as a whole part and goes on; trickle=N sends frame N byte by byte; lengths=0 leaves
the Content-Length out; user=NAME:PASSWORD (basic) or digest=NAME:PASSWORD; end=N ends properly.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

SETTINGS = dict(item.split("=", 1) for item in sys.argv[2:])
CHALLENGE = 'Digest realm="camera", nonce="n0nce", qop="auth"'


def jpeg(width: int, height: int) -> bytes:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 220  # red, in OpenCV's order
    image[::4, ::4] = 90
    return bytes(cv2.imencode(".jpg", image)[1])


def number(key: str) -> int:
    return int(SETTINGS.get(key, -1))


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if user := SETTINGS.get("user"):
            return given == "Basic " + base64.b64encode(user.encode()).decode()
        if user := SETTINGS.get("digest"):
            name, password = user.split(":")
            fields = dict(re.findall(r'(\w+)="?([^",]+)"?', given))

            def md5(*parts: str) -> str:
                return hashlib.md5(":".join(parts).encode()).hexdigest()

            return "response" in fields and fields["response"] == md5(
                md5(name, "camera", password),
                fields["nonce"],
                fields["nc"],
                fields["cnonce"],
                fields["qop"],
                md5("GET", fields["uri"]),
            )
        return True

    def do_GET(self) -> None:
        if not self.allowed():
            self.send_response(401)
            scheme = CHALLENGE if "digest" in SETTINGS else 'Basic realm="camera"'
            self.send_header("WWW-Authenticate", scheme)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.stream()

    def stream(self) -> None:
        width, height = map(int, SETTINGS.get("size", "64x48").split("x"))
        for index in itertools.count():
            if index == number("end"):
                self.wfile.write(b"--frame--\r\n")
                return
            if index == number("resize"):
                width, height = width // 2, height // 2
            data = jpeg(width, height)
            if index == number("cut"):
                data = data[: len(data) // 2]
            head = b"--frame\r\nContent-Type: image/jpeg\r\n"
            if SETTINGS.get("lengths") != "0":
                head += f"Content-Length: {len(data)}\r\n".encode()
            self.wfile.write(head + b"\r\n")
            if index == number("half"):
                self.wfile.write(data[: len(data) // 2])
                return
            if index == number("trickle"):
                for i in range(len(data)):
                    self.wfile.write(data[i : i + 1])
                    time.sleep(0.05)
            self.wfile.write(data + b"\r\n")
            time.sleep(0.05)


if __name__ == "__main__":
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
