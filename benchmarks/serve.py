"""How much `gad serve` answers, how soon, and what it does beyond that. About four minutes.

    python benchmarks/serve.py model.onnx IMAGES [SECONDS]

Starts the service as a process, with a token, and sends it the PNG images of a folder from another
process on this machine, at loads below and above what it can do, SECONDS (6) each. Arrivals are
random and do not wait for answers (open loop): at most 4000 requests a load, 512 at a time. Both
processes share the cores, so the figures are what is left beside the generator. Three services: a
batch of 1, of 8, and of 1 over TLS with a certificate that openssl makes here.

Prints a table: offered and answered images a second, latency of those answered, what was refused
with 429 or 503, what got no answer, memory of the service; and how many scores were not those of
`gad infer`, bit for bit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from generalad.runtime import Result, infer
from generalad.statistics import quantile

LOADS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
"""Offered images a second, as a share of what one client after another gets answered."""

MOST_REQUESTS, MOST_AT_A_TIME, LOST_AFTER = 4000, 512, 60.0


class Service:
    """`gad serve` as a process of its own."""

    def __init__(self, *arguments: str, trusted: Path | None = None) -> None:
        self.tls = None if trusted is None else ssl.create_default_context(cafile=trusted)
        self.token = secrets.token_urlsafe()
        command = [sys.executable, "-m", "generalad", "serve", *arguments, "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--token", "${GAD_TOKEN}"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GAD_TOKEN": self.token},
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if "serves at" not in line:
            sys.exit(line + self.process.stderr.read())
        self.port = int(line.split(",")[0].rpartition(":")[2])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection."""
        name = None if self.tls is None else "localhost"
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname=name
        )

    def memory(self) -> float:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def end(self) -> int:
        """Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def head(self, method: str, path: str, length: int, *more: str) -> bytes:
        """The head of a request, with the token unless `more` has one."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *more]
        if not any(line.startswith("Authorization") for line in more):
            lines.append(f"Authorization: Bearer {self.token}")
        if not any(line.startswith("Transfer-Encoding") for line in more):
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join([*lines, "", ""])).encode()


@contextlib.contextmanager
def service(*arguments: str, trusted: Path | None = None) -> Iterator[Service]:
    """Start and end one."""
    found = Service(*arguments, trusted=trusted)
    try:
        yield found
    finally:
        found.end()


class Answer(NamedTuple):
    """Status (0 without an answer), body, and seconds."""

    status: int
    body: bytes
    seconds: float


class Pool:
    """Connections to a service that are used again, of one event loop."""

    def __init__(self, served: Service) -> None:
        self._served = served
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> Answer:
        """One request; one that a closed connection swallowed is sent once more, as clients do."""
        began = time.perf_counter()
        for again in (True, False):
            used = again and bool(self._free)
            try:
                reader, writer = self._free.pop() if used else await self._served.connect()
                writer.write(self._served.head(method, path, len(body), *headers) + body)
                status, data = await asyncio.wait_for(_read(reader), LOST_AFTER)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                if used and again:
                    continue
                break
            self._free.append((reader, writer))
            return Answer(status, data, time.perf_counter() - began)
        return Answer(0, b"", time.perf_counter() - began)

    def close(self) -> None:
        """Close them."""
        for _, writer in self._free:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


class Load(NamedTuple):
    """What became of a load."""

    offered: float
    answered: float
    statuses: Mapping[int, int]
    median: float
    p99: float
    wrong: int
    memory: float


async def load(
    served: Service,
    path: str,
    images: Sequence[bytes],
    scores: Sequence[float],
    rate: float,
    seconds: float,
) -> Load:
    """Send images at a rate, in random intervals, whatever the answers do."""
    pool, gate = Pool(served), asyncio.Semaphore(MOST_AT_A_TIME)
    tasks: list[asyncio.Task[None]] = []
    wrong, done = 0, 0.0
    answers: list[Answer] = []

    async def one(number: int) -> None:
        nonlocal wrong, done
        async with gate:
            answer = await pool.ask("POST", path, images[number], "Content-Type: image/png")
        answers.append(answer)
        if answer.status == 200:
            done = time.perf_counter()
            wrong += json.loads(answer.body)["predictions"][0]["score"] != scores[number]

    began, due, chance = time.perf_counter(), 0.0, random.Random(0)
    while due < seconds and len(tasks) < MOST_REQUESTS:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(len(tasks) % len(images))))
        due += chance.expovariate(rate)
    await asyncio.gather(*tasks)
    pool.close()
    times = sorted(a.seconds for a in answers if a.status == 200) or [0.0]
    return Load(
        offered=len(tasks) / due,
        answered=sum(a.status == 200 for a in answers) / max(due, done - began),
        statuses=Counter(a.status for a in answers),
        median=quantile(times, 0.5) * 1000,
        p99=quantile(times, 0.99) * 1000,
        wrong=wrong,
        memory=served.memory(),
    )


async def one_after_another(served: Service, path: str, image: bytes, number: int) -> float:
    """Images a second that one client gets answered."""
    pool = Pool(served)
    await pool.ask("POST", path, image)
    began = time.perf_counter()
    for _ in range(number):
        assert (await pool.ask("POST", path, image)).status == 200
    pool.close()
    return number / (time.perf_counter() - began)


def expected(artifact: Path, folder: Path) -> tuple[list[bytes], list[float]]:
    """Images and the scores that `gad infer` gives them."""
    found: list[Result] = []
    infer(artifact, str(folder), on_result=found.append)
    scores = [result.score for result in found if result.score is not None]
    return [Path(result.path).read_bytes() for result in found], scores


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine, and its key."""
    made, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "30", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def main() -> None:
    """Run and print."""
    artifact, folder = Path(sys.argv[1]), Path(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 6.0
    images, scores = expected(artifact, folder)
    path = f"/v1/models/{artifact.stem}/predict"
    print(
        "| service | offered/s | answered/s | median ms | p99 ms | 429 | 503 | lost | wrong | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        made, key = certificate(Path(name))
        measure("batch 1", service(str(artifact), "--batch", "1"), path, images, scores, seconds)
        measure("batch 8", service(str(artifact), "--batch", "8"), path, images, scores, seconds)
        words = ("--batch", "1", "--tls-cert", str(made), "--tls-key", str(key))
        secured = service(str(artifact), *words, trusted=made)
        measure("batch 1, TLS", secured, path, images, scores, seconds)


def measure(
    name: str,
    begun: contextlib.AbstractContextManager[Service],
    path: str,
    images: Sequence[bytes],
    scores: Sequence[float],
    seconds: float,
) -> None:
    """All loads of one service, a row each."""
    with begun as served:
        alone = asyncio.run(one_after_another(served, path, images[0], 60))
        for share in LOADS:
            one = asyncio.run(load(served, path, images, scores, alone * share, seconds))
            refused = one.statuses
            print(
                f"| {name} | {one.offered:.1f} | {one.answered:.1f} | {one.median:.1f}"
                f" | {one.p99:.1f} | {refused[429]} | {refused[503]} | {refused[0]}"
                f" | {one.wrong} | {one.memory:.0f} |",
                flush=True,
            )
            others = set(refused) - {200, 429, 503, 0}
            assert not others, f"other answers: {others}"


if __name__ == "__main__":
    main()
