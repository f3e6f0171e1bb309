"""Sensors: fake libraries and fake folders of the kernel; what is missing is no exception."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generalad.bench.machine import Counter, Sensors, energy_between, read_sensors


class NVMLError(Exception):
    """As the library raises it."""


class Card:
    """A library with one card; `broken` functions raise."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *, broken: tuple[str, ...] = (), used: float = 3.0) -> None:
        self.broken, self.used = broken, used
        self.open = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "broken"):

            def refuse(*_: Any) -> None:
                raise NVMLError("Not Supported\nmore")

            return refuse
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetName(self, card: int | str) -> bytes:
        return b"NVIDIA L4" + (f" ({card})".encode() if card else b"")

    def nvmlDeviceGetComputeRunningProcesses(self, card: int) -> list[Any]:
        pairs = ((7, 250_000_000), (9, 1), (8, None))
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in pairs]

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Any:
        return SimpleNamespace(gpu=self.used)

    def nvmlDeviceGetTemperature(self, card: int, kind: int) -> int:
        return 61

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:
        return 5_000


def write(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


@pytest.fixture(autouse=True)
def all_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "NVIDIA L4"),
        ("", "NVIDIA L4"),
        ("2,0", "NVIDIA L4 (2)"),
        ("GPU-8932f937,0", "NVIDIA L4 (GPU-8932f937)"),
        ("MIG-4fcb7a1e", "NVIDIA L4 (MIG-4fcb7a1e)"),
    ],
)
def test_the_card_is_the_first_that_cuda_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, name: str
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert read_sensors(7, sys=tmp_path, nvml=Card()).gpu == name


def test_a_card(tmp_path: Path) -> None:
    card = Card()
    found = read_sensors(7, sys=tmp_path, nvml=card)
    assert (found.gpu, found.gpu_memory, found.gpu_others) == ("NVIDIA L4", 250.0, (8, 9))
    assert (found.temperature, found.energy) == (61.0, {"gpu": Counter(5.0)})
    assert found.missing == ()
    assert card.open == 0


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("nvmlInit", "GPU: no NVIDIA card or driver (Not Supported)"),
        ("nvmlDeviceGetName", "GPU: cannot be read (Not Supported)"),
        ("nvmlDeviceGetTemperature", "temperature of the GPU: cannot be read (Not Supported)"),
        (
            "nvmlDeviceGetTotalEnergyConsumption",
            "energy of the GPU: cannot be read (Not Supported)",
        ),
        ("nvmlDeviceGetUtilizationRates", "use of the GPU: cannot be read (Not Supported)"),
    ],
)
def test_what_a_card_lacks_is_a_line(function: str, line: str, tmp_path: Path) -> None:
    card = Card(broken=(function,))
    found = read_sensors(7, sys=tmp_path, nvml=card)
    assert line in found.missing
    assert card.open == 0


def test_a_card_that_is_not_used_is_not_claimed(tmp_path: Path) -> None:
    """A network on the processor: its energy is the processor's, and nothing is said of the GPU."""
    package(tmp_path, 0, 1_000_000)
    write(tmp_path / "class/thermal/thermal_zone0", temp=48500)
    found = read_sensors(7, gpu=False, sys=tmp_path, nvml=Card())
    assert (found.gpu, found.gpu_memory, found.gpu_used, found.gpu_others) == (None, None, None, ())
    assert (found.temperature, set(found.energy)) == (48.5, {"package-0"})
    assert found.missing == ()


def test_a_process_that_is_not_seen(tmp_path: Path) -> None:
    found = read_sensors(1, sys=tmp_path, nvml=Card())
    assert found.gpu_memory is None
    assert "memory of the process on the GPU: it is not seen on the card" in found.missing[0]


@pytest.mark.parametrize(("used", "busy"), [(3.0, False), (80.0, True)])
def test_a_busy_card(used: float, busy: bool, tmp_path: Path) -> None:
    words = read_sensors(7, sys=tmp_path, nvml=Card(used=used)).gpu_is_busy()
    if busy:
        assert words == "NVIDIA L4 is busy: 80 % used (other processes: 8, 9)"
    else:
        assert words is None


def test_without_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *rest: Any, **named: Any) -> Any:
        if name == "pynvml":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", blocked)
    found = read_sensors(7, sys=tmp_path)
    assert len(found.missing) == 3
    assert "generalad[bench]" in found.missing[0]
    assert all("\n" not in line for line in found.missing)
    assert energy_between(found, found)[0] is None
    assert "RAPL" in energy_between(found, found)[1]


def package(sys: Path, number: int, microjoules: int) -> None:
    folder = sys / "class/powercap" / f"intel-rapl:{number}"
    write(
        folder,
        energy_uj=microjoules,
        max_energy_range_uj=262_000_000,
        name=f"package-{number}",
    )
    write(folder.with_name(f"intel-rapl:{number}:0"), energy_uj=1, name="core")


def test_processors_count_energy_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    missing = Card(broken=("nvmlInit",))
    package(tmp_path, 0, 1_000_000)
    package(tmp_path, 1, 261_000_000)
    before = read_sensors(sys=tmp_path, nvml=missing)
    package(tmp_path, 0, 3_000_000)
    package(tmp_path, 1, 1_000_000)  # wrapped at 262 J
    after = read_sensors(sys=tmp_path, nvml=missing)
    assert energy_between(before, after) == (4.0, "counted by package-0, package-1")


@given(start=st.floats(0, 262), used=st.floats(0, 261))
def test_a_wrapped_counter(start: float, used: float) -> None:
    end = (start + used) % 262
    before, after = (Sensors(0.0, energy={"p": Counter(value, 262.0)}) for value in (start, end))
    assert energy_between(before, after)[0] == pytest.approx(used, abs=1e-6)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_energy_that_only_root_may_read(tmp_path: Path) -> None:
    package(tmp_path, 0, 1)
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").chmod(0)
    found = read_sensors(sys=tmp_path, nvml=Card(broken=("nvmlInit",)))
    assert any("only root may read" in line for line in found.missing)


def jetson(sys: Path, *, rails: bool = True) -> None:
    write(sys / "devices/gpu.0", load=250)
    if rails:
        monitor = sys / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
        write(
            monitor,
            in1_label="VDD_IN",
            in1_input=5000,
            curr1_input=2000,
            in2_label="VDD_CPU_GPU_CV",
            in2_input=5000,
            curr2_input=1000,
        )


def test_a_jetson(tmp_path: Path) -> None:
    jetson(tmp_path)
    write(tmp_path / "class/thermal/thermal_zone0", temp=48500)
    write(tmp_path / "class/thermal/thermal_zone1", temp=51000)
    found = read_sensors(sys=tmp_path, nvml=Card(broken=("nvmlInit",)))
    assert (found.gpu, found.gpu_used, found.temperature) == ("Jetson", 25.0, 51.0)
    assert found.power == {"VDD_IN": 10.0}  # which feeds the other rail
    later = Sensors(found.time + 2.0, power={"VDD_IN": 20.0})
    joules, words = energy_between(found, later)
    assert joules == pytest.approx(30.0)
    assert words == "from the power of VDD_IN"


def test_a_jetson_whose_gpu_is_not_used(tmp_path: Path) -> None:
    jetson(tmp_path)
    found = read_sensors(gpu=False, sys=tmp_path)
    assert (found.gpu, found.gpu_used, found.power) == (None, None, {"VDD_IN": 10.0})


@pytest.mark.parametrize(
    "place", ["gpu.0", "platform/gpu.0", "platform/17000000.gpu", "platform/bus@0/17000000.gpu"]
)
def test_where_jetsons_show_the_load_of_their_gpu(place: str, tmp_path: Path) -> None:
    write(tmp_path / "devices" / place, load=730)
    found = read_sensors(sys=tmp_path, nvml=Card(broken=("nvmlInit",)))
    assert (found.gpu, found.gpu_used) == ("Jetson", 73.0)


def test_rails_of_an_agx_orin(tmp_path: Path) -> None:
    """Two monitors without an input rail; one feeds the memory, and channels are switched off."""
    drivers = tmp_path / "bus/i2c/drivers/ina3221"
    monitors = {
        "1-0040/hwmon/hwmon3": (("VDD_GPU_SOC", 3), ("VDD_CPU_CV", 2), ("VIN_SYS_5V0", 5)),
        "1-0041/hwmon/hwmon4": (("NC", None), ("VDDQ_VDD2_1V8AO", 1), ("NC", None)),
    }
    for place, channels in monitors.items():
        for number, (name, watts) in enumerate(channels, start=1):
            volts = "" if watts is None else 5000
            readings = {f"in{number}_input": volts, f"curr{number}_input": 200 * (watts or 0)}
            write(drivers / place, **{f"in{number}_label": name}, **readings)
    found = read_sensors(sys=tmp_path, nvml=Card(broken=("nvmlInit",)))
    assert found.power == pytest.approx({"VDD_GPU_SOC": 3, "VDD_CPU_CV": 2, "VIN_SYS_5V0": 5})


def test_a_jetson_without_a_monitor(tmp_path: Path) -> None:
    jetson(tmp_path, rails=False)
    found = read_sensors(sys=tmp_path, nvml=Card(broken=("nvmlInit",)))
    assert any("INA3221" in line for line in found.missing)


def test_a_zone_that_is_off_or_absurd_is_left_out(tmp_path: Path) -> None:
    for number, value in enumerate(("", "-273200", "40000", "999000")):
        write(tmp_path / f"class/thermal/thermal_zone{number}", temp=value)
    assert read_sensors(sys=tmp_path, nvml=Card(broken=("nvmlInit",))).temperature == 40.0


def test_here() -> None:
    found = read_sensors(os.getpid())
    assert all(line.count("\n") == 0 and ": " in line for line in found.missing)
