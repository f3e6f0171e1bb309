"""What `gad serve` does when it is attacked, while others go on asking. About two minutes.

    python benchmarks/serve_attacks.py model.onnx IMAGES

Starts the service as a process, with a token, on a folder of versions, some of them broken. Each
attack runs for some seconds; meanwhile another client asks five times a second. Prints a table:
attack, what came of it, the longest time that the other client waited, its answers that were not
200, and the largest memory of the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import NamedTuple

from serve import Answer, Pool, Service, service

PREDICT = "/v1/models/washer/predict"
CLIENT_TIMEOUT = 3.0

Attack = Callable[["Target"], Coroutine[None, None, str]]


class Target(NamedTuple):
    """The service, a pool for it, and an image."""

    served: Service
    pool: Pool
    image: bytes

    async def predict(self, body: bytes, *headers: str) -> Answer:
        """Ask for a prediction."""
        return await self.pool.ask(
            "POST", PREDICT, body, *(headers or ("Content-Type: image/png",))
        )

    async def raw(self, sent: bytes, *, wait: float = 30.0) -> bytes:
        """Send bytes; what comes back up to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.served.port)
        found, until = b"", time.monotonic() + wait
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            writer.write(sent)
            while data := await asyncio.wait_for(reader.read(65536), until - time.monotonic()):
                found += data
        writer.close()
        return found


def in_words(answer: Answer) -> str:
    """Status and sentence."""
    said = json.loads(answer.body).get("error", "") if answer.body else "no answer"
    return f"{answer.status} {said}".strip()


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG file of RGB whose packed rows are `data`."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def black(width: int, height: int) -> bytes:
    """A whole black image: the smallest file for its size."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height))
    return png(width, height, rows + packer.flush())


async def oversized(target: Target) -> str:
    """A body that says its size, and one that does not."""
    said = await target.raw(target.served.head("POST", PREDICT, 10**10))
    head = target.served.head("POST", PREDICT, 0, "Transfer-Encoding: chunked")
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    streamed = await target.raw(head + chunk * 64)
    return f"declared: {said[9:12].decode()}; streamed: {streamed[9:12].decode() or 'hung up'}"


async def bombs(target: Target) -> str:
    """24 and 64 megapixels in few bytes, eight at a time; the first are as large as is allowed."""
    found = []
    for side in (4890, 8000):
        image = black(side, side)
        answers = await asyncio.gather(*(target.predict(image) for _ in range(8)))
        statuses = dict(Counter(answer.status for answer in answers))
        found.append(f"{side} x {side} in {len(image) / 1e6:.2f} MB: {statuses}")
    return "; ".join(found)


async def huge(target: Target) -> str:
    return in_words(await target.predict(png(50_000, 50_000, zlib.compress(bytes(1 << 24), 9))))


async def truncated(target: Target) -> str:
    return in_words(await target.predict(target.image[: len(target.image) // 2]))


async def wrong_token(target: Target) -> str:
    """A thousand guesses."""
    statuses: Counter[int] = Counter()
    for number in range(1000):
        answer = await target.pool.ask("GET", "/v1/models", b"", f"Authorization: Bearer {number}")
        statuses[answer.status] += 1
    return str(dict(statuses))


async def slow_heads(target: Target) -> str:
    """600 connections that send a byte of a head each half second."""

    async def one() -> float:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", target.served.port)
            for byte in b"GET /healthz HTTP/1.1\r\n" * 4:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.5)
        return time.monotonic() - began

    held = await asyncio.gather(*(one() for _ in range(600)))
    return f"600 connections hung up after {max(held):.1f} s at most"


async def slow_bodies(target: Target) -> str:
    """50 bodies that stop in the middle."""
    head = target.served.head("POST", PREDICT, 10**6)
    found = await asyncio.gather(*(target.raw(head + bytes(1000)) for _ in range(50)))
    return str(dict(Counter(f[9:12].decode() for f in found)))


async def slow_readers(target: Target) -> str:
    """50 clients that ask 2000 times each and take no answer."""
    ask = target.served.head("GET", "/openapi.json", 0)

    async def one() -> float:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", target.served.port)) as connection:
            connection.setblocking(False)
            while time.monotonic() < began + 60:
                try:
                    connection.send(ask * 2000)
                except BlockingIOError:
                    pass
                except OSError:
                    break
                await asyncio.sleep(0.1)
        return time.monotonic() - began

    held = await asyncio.gather(*(one() for _ in range(50)))
    return f"50 connections hung up after {max(held):.1f} s at most"


async def names(target: Target) -> str:
    """Traversal and script in a file name, and in the name of a model."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="a"; filename="'
        b'../../../etc/<script>alert(1)</script>"\r\n\r\n' + target.image + b"\r\n--b--\r\n"
    )
    answer = await target.predict(body, "Content-Type: multipart/form-data; boundary=b")
    name = json.loads(answer.body)["predictions"][0]["name"]
    other = await target.pool.ask("GET", "/v1/models/..%2f..%2fetc%2fpasswd")
    return f"{answer.status}, JSON repeats {name!r}; model: {in_words(other)}"


async def broken_swaps(target: Target) -> str:
    """Versions that are cut off, whose golden samples differ, of names that are paths."""
    found = []
    for version in ("0-cut.onnx", "0-changed.onnx", "../washer/1.onnx"):
        body = json.dumps({"version": version}).encode()
        answer = await target.pool.ask("POST", "/v1/models/washer/swap", body)
        found.append(f"{version}: {in_words(answer)[:90]}")
    model = json.loads((await target.pool.ask("GET", "/v1/models/washer")).body)
    return "; ".join(found) + f"; {model['version']} serves"


async def garbage(target: Target) -> str:
    """What is no HTTP."""
    sent = [b"\x16\x03\x01" + bytes(500), b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000, b"\r\n" * 1000]
    sent.append(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
    sent.append(
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    found = [await target.raw(each) for each in sent]
    return str(dict(Counter(each[9:12].decode() or "hung up" for each in found)))


ATTACKS: dict[str, Attack] = {
    "oversized body": oversized,
    "decompression bombs": bombs,
    "50,000 x 50,000 PNG": huge,
    "truncated image": truncated,
    "wrong tokens": wrong_token,
    "slow heads": slow_heads,
    "slow bodies": slow_bodies,
    "slow readers": slow_readers,
    "traversal, script in names": names,
    "swap to broken versions": broken_swaps,
    "no HTTP": garbage,
}


async def run(name: str, target: Target) -> None:
    """One attack, with the other client beside it."""
    attack = asyncio.create_task(ATTACKS[name](target))
    others, most = [], 0.0
    while True:
        others.append(await target.predict(target.image))
        most = max(most, target.served.memory())
        if attack.done():
            break
        await asyncio.sleep(0.2)
    failed = sum(other.status != 200 for other in others)
    longest = max(other.seconds for other in others)
    print(
        f"| {name} | {attack.result()} | {longest:.2f} s | {failed} of {len(others)}"
        f" | {most:.0f} MB |",
        flush=True,
    )


async def all_attacks(served: Service, image: bytes) -> None:
    """One after the other."""
    pool = Pool(served)
    target = Target(served, pool, image)
    await target.predict(image)
    print(
        "| attack | outcome | longest wait of another | not 200 | memory |\n|---|---|---|---|---|"
    )
    for name in ATTACKS:
        await run(name, target)
    pool.close()


def main() -> None:
    """Run and print."""
    artifact, folder = Path(sys.argv[1]), Path(sys.argv[2])
    image = min(folder.glob("*.png")).read_bytes()
    with tempfile.TemporaryDirectory() as name:
        versions = Path(name) / "washer"
        versions.mkdir()
        shutil.copy(artifact, versions / "1.onnx")
        whole = artifact.read_bytes()
        (versions / "0-cut.onnx").write_bytes(whole[: len(whole) // 2])
        middle = len(whole) // 2
        changed = whole[:middle] + bytes(1000) + whole[middle + 1000 :]
        (versions / "0-changed.onnx").write_bytes(changed)
        with service(str(versions), "--client-timeout", str(CLIENT_TIMEOUT)) as served:
            asyncio.run(all_attacks(served, image))


if __name__ == "__main__":
    main()
