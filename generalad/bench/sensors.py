"""What sensors say at one moment: GPU memory, who else is on the GPU, temperature, energy.

    before = read_sensors(pid); ...; after = read_sensors(pid)
    joules, why = energy_between(before, after)

NVIDIA's library (nvidia-ml-py) for cards, files of the kernel for Jetson and processors. What is
not there is a line in `missing` with the reason, never an exception.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYS = Path("/sys")

BUSY = 10.0
"""Percent of its time that a GPU may work for others before its times mean little."""


@dataclass(frozen=True)
class Counter:
    """A count of joules that only grows, and at `wraps` joules begins at 0 again (None: never)."""

    joules: float
    wraps: float | None = None


@dataclass(frozen=True)
class Sensors:
    """Readings of one moment.

    Attributes:
        time: seconds of a monotonic clock.
        gpu: name of the GPU, None where there is none or it was not asked for.
        gpu_memory: of the process asked for, megabytes; None without a GPU or a reading.
        gpu_others: ids of other processes that compute on the GPU.
        gpu_used: percent of the last moments in which the GPU worked, whoever for.
        temperature: the hottest of GPU and processor, degrees Celsius.
        energy: counters by name ("gpu", "package-0"), of the whole device.
        power: watts at this moment, by name of the rail, where nothing counts energy.
        missing: one line for each sensor that is not there, with the reason.
    """

    time: float
    gpu: str | None = None
    gpu_memory: float | None = None
    gpu_others: tuple[int, ...] = ()
    gpu_used: float | None = None
    temperature: float | None = None
    energy: dict[str, Counter] = field(default_factory=dict)
    power: dict[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def gpu_is_busy(self) -> str | None:
        """Why times measured on this GPU now would mean little, in one line; None if they would.

        Read it while the bench's own model is at rest.
        """
        if self.gpu_used is None or self.gpu_used < BUSY:
            return None
        others = ", ".join(map(str, self.gpu_others)) or "none that can be seen"
        return f"{self.gpu} is busy: {self.gpu_used:.0f} % used (other processes: {others})"


def read_sensors(
    pid: int | None = None, *, gpu: bool = True, sys: Path = SYS, nvml: Any = None
) -> Sensors:
    """Read everything that is there; a few milliseconds.

    Args:
        pid: the process whose GPU memory is wanted.
        gpu: False where the network runs on the processor: the GPU is then not looked at, and the
            energy is the processor's.
        sys: the folder where the kernel shows devices.
        nvml: the module `pynvml`; None imports it.
    """
    found = _Found()
    if gpu:
        _read(found, "GPU", lambda: _nvidia(found, pid, nvml))
    _read(found, "Jetson", lambda: _jetson(found, sys, gpu))
    _read(found, "energy of the processor", lambda: _rapl(found, sys))
    _read(found, "temperature", lambda: _thermal(found, sys))
    hottest = max(found.temperatures, default=None)
    if hottest is None:
        found.missing.append("temperature: no sensor is visible here")
    return Sensors(
        time=time.monotonic(),
        temperature=hottest,
        missing=tuple(found.missing),
        **found.values,
    )


def energy_between(before: Sensors, after: Sensors) -> tuple[float | None, str]:
    """Joules between two readings, all counters together, and what they count.

    Where only power can be read, it is the mean of both readings times the time between them.

    Returns:
        Joules, or None; and in words what they are, or why there are none.
    """
    counted = [name for name in before.energy if name in after.energy]
    if counted:
        joules = sum(_grown(before.energy[name], after.energy[name]) for name in counted)
        return joules, f"counted by {', '.join(counted)}"
    rails = [name for name in before.power if name in after.power]
    if rails:
        watts = sum(before.power[name] + after.power[name] for name in rails) / 2
        return watts * (after.time - before.time), f"from the power of {', '.join(rails)}"
    return None, next((line for line in after.missing if line.startswith("energy")), "no sensor")


def _grown(before: Counter, after: Counter) -> float:
    grown = after.joules - before.joules
    return grown if grown >= 0 or after.wraps is None else grown + after.wraps


class _Found:
    """What has been read so far."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"energy": {}, "power": {}}
        self.temperatures: list[float] = []
        self.missing: list[str] = []


class _Missing(Exception):
    """A sensor is not there; its text says why."""


def _read(found: _Found, name: str, read: Callable[[], None]) -> None:
    try:
        read()
    except _Missing as error:
        found.missing.append(f"{name}: {error}")
    except Exception as error:  # a driver's library or a file of the kernel, in any state
        found.missing.append(f"{name}: cannot be read ({_line(error)})")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# NVIDIA cards


def _nvidia(found: _Found, pid: int | None, nvml: Any) -> None:
    if nvml is None:
        nvml = _library()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _Missing(f"no NVIDIA card or driver ({_line(error)})") from error
    try:
        _card(found, nvml, _first_card(nvml), pid)
    finally:
        nvml.nvmlShutdown()


def _library() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise _Missing("pip install 'generalad[bench]' to read NVIDIA cards") from error
    return pynvml


def _first_card(nvml: Any) -> Any:
    """The card that CUDA calls 0. NVML counts all cards, whatever this process may see.

    Where cards of several kinds are in one machine, CUDA's numbers are NVML's only with
    CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    return nvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)


def _card(found: _Found, nvml: Any, card: Any, pid: int | None) -> None:
    """Each reading by itself: a card or a container may lack any of them."""
    name = nvml.nvmlDeviceGetName(card)
    found.values["gpu"] = name.decode() if isinstance(name, bytes) else str(name)

    def processes() -> None:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(card)
        found.values["gpu_others"] = tuple(sorted(p.pid for p in running if p.pid != pid))
        own = [p.usedGpuMemory for p in running if p.pid == pid]
        if pid is not None and not own:
            raise _Missing("it is not seen on the card, as in most containers")
        if own and own[0] is not None:
            found.values["gpu_memory"] = own[0] / 1e6

    def used() -> None:
        found.values["gpu_used"] = float(nvml.nvmlDeviceGetUtilizationRates(card).gpu)

    def temperature() -> None:
        kind = nvml.NVML_TEMPERATURE_GPU
        found.temperatures.append(float(nvml.nvmlDeviceGetTemperature(card, kind)))

    def energy() -> None:
        millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(card)
        found.values["energy"]["gpu"] = Counter(millijoules / 1e3)

    _read(found, "memory of the process on the GPU", processes)
    _read(found, "use of the GPU", used)
    _read(found, "temperature of the GPU", temperature)
    _read(found, "energy of the GPU", energy)


# Jetson


def _jetson(found: _Found, sys: Path, gpu: bool) -> None:
    """Rails of the board's power monitor and the load of its GPU, which NVML does not show."""
    # JetPack 5, where gpu.0 may be a link; JetPack 6.
    places = ("gpu.0", "platform/*gpu*", "platform/*.ga10b", "platform/bus@0/*gpu*")
    loads = [path for place in places for path in sys.glob(f"devices/{place}/load")]
    rails = _rails(sys)
    if not loads and not rails:
        return  # another machine: nothing is missing
    if gpu:
        found.values.setdefault("gpu", "Jetson")
    if gpu and loads:
        found.values["gpu_used"] = _number(loads[0]) / 10  # of 1000
    for name, watts in rails:
        found.values["power"][name] = watts
    if not rails:
        raise _Missing("its power monitor (INA3221) is not visible here")


def _rails(sys: Path) -> Sequence[tuple[str, float]]:
    """Name and watts of the rails of INA3221 monitors that no other rail feeds."""
    rails = []
    for label in sorted(sys.glob("bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[1-3]_label")):
        channel = label.name[len("in") : -len("_label")]
        try:
            volts = _number(label.with_name(f"in{channel}_input")) / 1e3
            amperes = _number(label.with_name(f"curr{channel}_input")) / 1e3
        except (OSError, ValueError):
            continue  # a channel that is switched off, or not connected
        rails.append((label.read_text().strip(), volts * amperes))
    # Orin NX and Nano: the module's input feeds all the others. AGX Orin has no such rail; its
    # memory is fed by the 5 V rail.
    inputs = [rail for rail in rails if rail[0] == "VDD_IN"]
    return inputs or [rail for rail in rails if not rail[0].startswith("VDDQ")]


# Processors


def _rapl(found: _Found, sys: Path) -> None:
    """Energy counters of processor packages (RAPL)."""
    if "gpu" in found.values["energy"] or found.values["power"]:
        # Joules of the device that computes; the processor's would be another quantity.
        return
    packages = [
        folder
        for folder in sorted(sys.glob("class/powercap/intel-rapl:*"))
        if folder.name.count(":") == 1
    ]
    if not packages:
        raise _Missing("no energy counters (RAPL), as in most virtual machines")
    for folder in packages:
        try:
            microjoules = _number(folder / "energy_uj")
        except PermissionError as error:
            raise _Missing(f"only root may read {folder / 'energy_uj'}") from error
        wraps = _number(folder / "max_energy_range_uj") / 1e6
        name = (folder / "name").read_text().strip()
        found.values["energy"][name] = Counter(microjoules / 1e6, wraps)


def _thermal(found: _Found, sys: Path) -> None:
    """Thermal zones and the processors' own sensors."""
    names = ("class/thermal/thermal_zone*/temp", "class/hwmon/hwmon*/temp*_input")
    for path in sorted(path for name in names for path in sys.glob(name)):
        try:
            celsius = _number(path) / 1e3
        except (OSError, ValueError):
            continue  # a zone that is switched off answers with an error
        if 0 < celsius < 150:
            found.temperatures.append(celsius)


def _number(path: Path) -> float:
    return float(path.read_text())
