"""The machine: what it is, and what its sensors say: GPU memory and use, temperature, energy.

NVIDIA's library (nvidia-ml-py) for cards, files of the kernel for Jetson and processors. What is
not there is a line in `missing` with the reason, never an exception.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from generalad.bench.report import Machine
from generalad.processor import CPUINFO, read_processor, usable_cores

BUSY = 10.0  # percent of its time that a GPU may work for others before its times mean little

INSTRUCTION_SETS = (
    # x86-64, then ARM: those that networks run several times as fast with.
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""As Linux names them; two machines that differ in one of these run different code."""


def describe_machine(
    threads: int | None = None, gpu: str | None = None, *, cpuinfo: Path = CPUINFO
) -> Machine:
    """What decides how fast a network runs here; `reference` and `noise` are left to the bench.

    `architecture` is the processor's and its instruction sets, such as "x86_64 avx2 avx512f"; where
    the system does not list these (not Linux), it is the processor's alone. Threads are those of
    the network, one for each core it may use by default.
    """
    processor = read_processor(cpuinfo)
    sets = [name for name in INSTRUCTION_SETS if name in processor.flags]
    return Machine(
        cpu=processor.name,
        cores=usable_cores(),
        architecture=" ".join([platform.machine(), *sets]),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        gpu=gpu,
        threads=threads or usable_cores(),
    )


class Counter(NamedTuple):
    """A count of joules that only grows, and at `wraps` joules begins at 0 again (None: never)."""

    joules: float
    wraps: float | None = None


@dataclass
class Sensors:
    """Readings of one moment; None where there is no such sensor, or it was not asked for."""

    time: float  # seconds of a monotonic clock
    gpu: str | None = None  # its name
    gpu_memory: float | None = None  # of the process asked for, megabytes
    gpu_others: tuple[int, ...] = ()  # ids of other processes that compute on it
    gpu_used: float | None = None  # percent of the last moments in which it worked, whoever for
    temperature: float | None = None  # the hottest of GPU and processor, degrees Celsius
    energy: dict[str, Counter] = field(default_factory=dict)  # of whole devices: "gpu", "package-0"
    power: dict[str, float] = field(default_factory=dict)  # watts by rail, where nothing counts
    missing: tuple[str, ...] = ()  # a line for each sensor that is not there, with the reason

    def gpu_is_busy(self) -> str | None:
        """Why times measured on this GPU now would mean little; read while our model is at rest."""
        if self.gpu_used is None or self.gpu_used < BUSY:
            return None
        others = ", ".join(map(str, self.gpu_others)) or "none that can be seen"
        return f"{self.gpu} is busy: {self.gpu_used:.0f} % used (other processes: {others})"

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """What cannot be read within is a line on why it is not there."""
        try:
            yield
        except _Missing as error:
            self.missing += (f"{name}: {error}",)
        except Exception as error:  # a driver's library or a file of the kernel, in any state
            self.missing += (f"{name}: cannot be read ({first_line(error)})",)


class _Missing(Exception):
    """A sensor is not there; its text says why."""


def read_sensors(
    pid: int | None = None, *, gpu: bool = True, sys: Path = Path("/sys"), nvml: Any = None
) -> Sensors:
    """Read everything that is there; a few milliseconds.

    Args:
        pid: the process whose GPU memory is wanted.
        gpu: False where the network runs on the processor, whose energy it then is.
        sys: the folder where the kernel shows devices.
        nvml: the module `pynvml`; None imports it.
    """
    found, degrees = Sensors(time.monotonic()), _thermal(sys)
    if gpu:
        with found.reading("GPU"):
            degrees += _nvidia(found, pid, nvml)
    with found.reading("Jetson"):
        _jetson(found, sys, gpu)
    if not found.energy and not found.power:
        # Else joules are of the device that computes; the processor's would be another quantity.
        with found.reading("energy of the processor"):
            found.energy = _rapl(sys)
    found.temperature = max(degrees, default=None)
    if not degrees:
        found.missing += ("temperature: no sensor is visible here",)
    return found


def energy_between(before: Sensors, after: Sensors) -> tuple[float | None, str]:
    """Joules between two readings, and what they count; or None and why.

    Where only power can be read, it is the mean of both readings times the time between them.
    """
    if counted := [name for name in before.energy if name in after.energy]:
        joules = 0.0
        for name in counted:
            grown = after.energy[name].joules - before.energy[name].joules
            joules += grown if grown >= 0 else grown + (after.energy[name].wraps or 0.0)
        return joules, f"counted by {', '.join(counted)}"
    if rails := [name for name in before.power if name in after.power]:
        watts = sum(before.power[name] + after.power[name] for name in rails) / 2
        return watts * (after.time - before.time), f"from the power of {', '.join(rails)}"
    return None, next((line for line in after.missing if line.startswith("energy")), "no sensor")


def _nvidia(found: Sensors, pid: int | None, nvml: Any) -> list[float]:
    """Read the card that CUDA calls 0, and return its temperature; a container may lack any of it.

    NVML counts all cards, whatever this process may see. Where they are of several kinds, CUDA's
    numbers are NVML's only with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    try:
        if nvml is None:
            import pynvml

            nvml = pynvml
        nvml.nvmlInit()
    except ImportError as error:
        raise _Missing("pip install 'generalad[bench]' to read NVIDIA cards") from error
    except nvml.NVMLError as error:
        raise _Missing(f"no NVIDIA card or driver ({first_line(error)})") from error
    degrees: list[float] = []
    with contextlib.ExitStack() as stack:
        stack.callback(nvml.nvmlShutdown)
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if first.startswith(("GPU-", "MIG-")):
            card = nvml.nvmlDeviceGetHandleByUUID(first)
        else:
            card = nvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)
        name = nvml.nvmlDeviceGetName(card)
        found.gpu = name.decode() if isinstance(name, bytes) else str(name)
        with found.reading("memory of the process on the GPU"):
            running = nvml.nvmlDeviceGetComputeRunningProcesses(card)
            found.gpu_others = tuple(sorted(p.pid for p in running if p.pid != pid))
            own = [p.usedGpuMemory for p in running if p.pid == pid]
            if pid is not None and not own:
                raise _Missing("it is not seen on the card, as in most containers")
            found.gpu_memory = own[0] / 1e6 if own and own[0] is not None else None
        with found.reading("use of the GPU"):
            found.gpu_used = float(nvml.nvmlDeviceGetUtilizationRates(card).gpu)
        with found.reading("temperature of the GPU"):
            degrees = [float(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))]
        with found.reading("energy of the GPU"):
            joules = nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3
            found.energy["gpu"] = Counter(joules)
    return degrees


def _jetson(found: Sensors, sys: Path, gpu: bool) -> None:
    """Rails of the board's power monitor and the load of its GPU, which NVML does not show."""
    # JetPack 5, where gpu.0 may be a link; JetPack 6.
    names = ("gpu.0", "platform/*gpu*", "platform/*.ga10b", "platform/bus@0/*gpu*")
    loads = [path for name in names for path in sys.glob(f"devices/{name}/load")]
    rails: dict[str, float] = {}
    monitor = "bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
    for label in sorted(sys.glob(f"{monitor}/in[1-3]_label")):
        channel = label.name[len("in") : -len("_label")]
        with contextlib.suppress(OSError, ValueError):  # switched off, or not connected
            volts = float(label.with_name(f"in{channel}_input").read_text()) / 1e3
            amperes = float(label.with_name(f"curr{channel}_input").read_text()) / 1e3
            rails[label.read_text().strip()] = volts * amperes
    if not loads and not rails:
        return  # another machine: nothing is missing
    if gpu:
        found.gpu = found.gpu or "Jetson"
    if gpu and loads:
        found.gpu_used = float(loads[0].read_text()) / 10  # of 1000
    # Orin NX and Nano: the module's input feeds all the others. AGX Orin has no such rail; its
    # memory is fed by the 5 V rail.
    inputs = {name: watts for name, watts in rails.items() if name == "VDD_IN"}
    found.power = inputs or {n: w for n, w in rails.items() if not n.startswith("VDDQ")}
    if not rails:
        raise _Missing("its power monitor (INA3221) is not visible here")


def _rapl(sys: Path) -> dict[str, Counter]:
    """Energy counters of processor packages (RAPL), without those of their parts."""
    counters = {}
    for folder in sorted(sys.glob("class/powercap/intel-rapl:*")):
        if folder.name.count(":") > 1:
            continue
        try:
            joules = float((folder / "energy_uj").read_text()) / 1e6
        except PermissionError as error:
            raise _Missing(f"only root may read {folder / 'energy_uj'}") from error
        wraps = float((folder / "max_energy_range_uj").read_text()) / 1e6
        counters[(folder / "name").read_text().strip()] = Counter(joules, wraps)
    if not counters:
        raise _Missing("no energy counters (RAPL), as in most virtual machines")
    return counters


def _thermal(sys: Path) -> list[float]:
    """Degrees of thermal zones and of the processors' own sensors."""
    degrees = []
    for name in ("class/thermal/thermal_zone*/temp", "class/hwmon/hwmon*/temp*_input"):
        for path in sys.glob(name):
            with contextlib.suppress(OSError, ValueError):  # a zone that is switched off
                degrees.append(float(path.read_text()) / 1e3)
    return [celsius for celsius in degrees if 0 < celsius < 150]


def first_line(error: Exception) -> str:
    """What an error of a library says first, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
