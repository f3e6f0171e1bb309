"""A line for a long time: memory, threads and files of `gad infer` while cameras and broker fail.

    python benchmarks/soak.py model.onnx MINUTES [SECONDS]

Runs examples/line.toml against a real RTSP server and a real MQTT broker on this machine. The RTSP
server is killed every SECONDS (30) and comes back after a sixth of that; every fourth time the
network to the broker is cut as well. The server's image is no part, so faults are not looked for.

Every 10 s prints one line of JSON; at the end the slope of the memory with its 95 % interval (the
first fifth, in which libraries are loaded and images drawn, is left out), what was delivered, and
whether all frames add up. Needs the packages of the tests of RTSP and MQTT.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from camera_servers import SYSTEM_PYTHON, Server
from delivery_helpers import Broker, Gate, Subscriber

from generalad.statistics import slope

ROOT = Path(__file__).resolve().parents[1]
EVERY = 10.0  # seconds between lines


def main() -> None:
    """Run and print."""
    artifact, minutes = Path(sys.argv[1]).resolve(), float(sys.argv[2])
    period = float(sys.argv[3]) if len(sys.argv) > 3 else 30.0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        camera = Server(SYSTEM_PYTHON, "camera_rtsp_server.py")
        camera.start("user=gad:right")
        stack.callback(camera.kill)
        broker = Broker(folder).start()
        stack.callback(broker.kill)
        network = Gate(broker.port)
        network.open()
        stack.callback(network.close)
        subscriber = Subscriber(broker.port)
        stack.callback(subscriber.close)
        line = write_line(folder, artifact, camera.port, network.port)
        log = stack.enter_context((folder / "gad.log").open("w"))
        run = subprocess.Popen(
            [sys.executable, "-m", "generalad", "infer", "--config", str(line)],
            stderr=log,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "LINE1_PASSWORD": "right", "MQTT_PASSWORD": "any"},
        )
        stack.callback(run.kill)
        samples = list(watch(run, camera, network, minutes * 60, period))
        run.send_signal(signal.SIGTERM)
        run.wait(timeout=60)
        print_end(folder, samples, run.returncode, subscriber)


def write_line(folder: Path, artifact: Path, camera: int, broker: int) -> Path:
    """The example with the addresses of this machine, and a camera that breaks off all the time."""
    text = (ROOT / "examples" / "line.toml").read_text(encoding="utf-8")
    text = text.replace("192.0.2.21", f"127.0.0.1:{camera}")
    text = text.replace("192.0.2.5:1883", f"127.0.0.1:{broker}")
    text = text.replace('"9108"', '"0.0.0.0:39108"').replace('"model.onnx"', f'"{artifact}"')
    faults = ",".join(f"disconnect@{30 * n}+2" for n in range(1, 400))
    text = re.sub(r"fault=disconnect@30\+2", f"fault={faults}", text)
    for name in ("line-1", "line-2"):
        text = text.replace(f'name = "{name}"', f'name = "{name}"\ncamera_faults = false')
    line = folder / "line.toml"
    line.write_text(text, encoding="utf-8")
    return line


def watch(
    run: subprocess.Popen[bytes], camera: Server, network: Gate, seconds: float, period: float
) -> Iterator[dict[str, float]]:
    """Fail what is to fail, and measure; yields each line that is printed."""
    began = time.monotonic()
    next_line, next_kill, kills = began + EVERY, began + period, 0
    while (now := time.monotonic()) < began + seconds:
        if run.poll() is not None:
            sys.exit(f"gad ended with {run.returncode}")
        if now >= next_kill:
            kills += 1
            camera.kill()
            if kills % 4 == 0:
                network.close()
            time.sleep(period / 6)
            camera.start("user=gad:right")
            if kills % 4 == 0:
                network.open()
            next_kill += period
        if now >= next_line:
            line = {"seconds": round(now - began), **measure(run.pid), **metrics()}
            print(json.dumps(line), flush=True)
            yield line
            next_line += EVERY
        time.sleep(0.1)


def measure(pid: int) -> dict[str, float]:
    """Resident memory in MB, threads and open files of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "rss_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def metrics() -> dict[str, float]:
    """Sums over all streams and sinks; `missing` frames must be 0."""
    with urllib.request.urlopen("http://127.0.0.1:39108/metrics", timeout=10) as answer:
        text = answer.read().decode()

    def total(name: str) -> float:
        return sum(float(n) for n in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))

    captured, processed = total("gad_frames_captured_total"), total("gad_frames_processed_total")
    dropped, flying = total("gad_frames_dropped_total"), total("gad_frames_in_flight")
    return {
        "processed": processed,
        "dropped": dropped,
        "missing": captured - processed - dropped - flying,
        "reconnects": total("gad_reconnects_total"),
        "events": total("gad_events_total"),
        "waiting": total("gad_sink_waiting"),
    }


def print_end(
    folder: Path, samples: list[dict[str, float]], code: int, subscriber: Subscriber
) -> None:
    """Slope of the memory, counts before and after, events written and delivered."""
    kept = samples[len(samples) // 5 :]
    hours = [sample["seconds"] / 3600 for sample in kept]
    memory = slope(hours, [sample["rss_mb"] for sample in kept])
    lines = (folder / "results" / "results.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    told = {row["id"] for row in rows if row.get("notice") == "event"}
    received = {content["id"] for topic, content, _ in subscriber.received if "/event" in topic}
    print(
        json.dumps(
            {
                "exit": code,
                "slope_mb_per_hour": dataclasses.asdict(memory),
                "threads": [kept[0]["threads"], kept[-1]["threads"]],
                "files": [kept[0]["files"], kept[-1]["files"]],
                "missing_frames": max(sample["missing"] for sample in samples),
                "event_notifications": len(told),
                "delivered": len(told & received),
                "event_folders": sum(1 for f in (folder / "events").iterdir() if f.is_dir()),
                "log_lines": len((folder / "gad.log").read_text().splitlines()),
            }
        )
    )


if __name__ == "__main__":
    main()
