"""The simulators of the three libraries, as far as they are installed.

EMVA's `viky.cti` (package genicam), pypylon's emulated cameras, and Aravis' arv-fake-gv-camera with
lost packets (Debian's aravis-tools). All on this machine: nothing is searched on a network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from camera_helpers import balanced, until

from generalad.runtime.cameras import Backoff, Reader, State
from generalad.runtime.cameras.camera import Settings, TriggerFailed
from generalad.runtime.cameras.industrial.process_device import ProcessDevice

QUICK = Backoff(first=0.1, cap=0.3, jitter=0.0, good_after=1.0)
GENICAM = importlib.util.find_spec("genicam")
PYPYLON = importlib.util.find_spec("pypylon")
FAKE_GIGE = shutil.which("arv-fake-gv-camera-0.8")

needs_genicam = pytest.mark.skipif(GENICAM is None, reason="the package genicam is not installed")
needs_pypylon = pytest.mark.skipif(PYPYLON is None, reason="the package pypylon is not installed")


def has_aravis() -> bool:
    if FAKE_GIGE is None or importlib.util.find_spec("gi") is None:
        return False
    code = "import gi; gi.require_version('Aravis', '0.8'); from gi.repository import Aravis"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


needs_aravis = pytest.mark.skipif(
    not has_aravis(), reason="Aravis' bindings or arv-fake-gv-camera are not installed"
)


@contextlib.contextmanager
def reading(address: str, settings: Settings | None = None, **more: Any) -> Iterator[Reader]:
    with Reader(address, settings=settings, backoff=QUICK, **more) as reader:
        yield reader
        assert balanced(reader)
    assert reader.close(timeout=10) == ()


def picture(reader: Reader) -> Any:
    """The next frame's pixels."""
    frame = reader.next(timeout=30)
    assert frame is not None, reader.status
    reader.done(frame)
    return frame.image


# --- genicam


def viky() -> str:
    assert GENICAM is not None and GENICAM.origin is not None
    return str(Path(GENICAM.origin).with_name("viky.cti"))


@needs_genicam
def test_a_producer_s_cameras_are_found_in_a_process_of_their_own() -> None:
    with contextlib.closing(ProcessDevice("")) as device:
        found = device.cameras([viky()])
    assert [identity.serial for identity, _ in found] == ["0", "1", "2"]
    assert {rest for _, rest in found} == {f"?producer={viky()}"}
    assert "genicam" not in sys.modules


@needs_genicam
def test_a_producer_s_camera_is_read_with_its_settings() -> None:
    settings: Settings = {"PixelFormat": "Mono8", "Width": 200}
    with reading(f"genicam:VikyTL_DEV_green?producer={viky()}", settings) as reader:
        for _ in range(3):
            image = picture(reader)
            assert image.shape == (400, 200, 3) and (image[..., 0] == image[..., 2]).all()
        assert reader.status.reason == "200 x 400"
        with pytest.raises(TriggerFailed, match="not triggered by software"):
            reader.trigger()


@needs_genicam
def test_what_a_producer_s_camera_does_not_have_is_refused() -> None:
    with reading(f"genicam:0?producer={viky()}", {"Widht": 200}) as reader:
        until(lambda: reader.status.state is State.RECONNECTING)
        assert reader.status.reason == "the camera has no setting Widht; did you mean Width?"


@needs_genicam
def test_a_producer_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.cti").write_bytes(b"no library")
    with reading(f"genicam:0?producer={tmp_path / 'no.cti'}") as reader:
        until(lambda: reader.status.state is State.RECONNECTING)
        assert "no.cti" in reader.status.reason


# --- basler


@pytest.fixture
def basler(monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an emulated camera; others are not searched."""
    monkeypatch.setenv("PYLON_CAMEMU", "2")  # read when the library is loaded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its wrapper
        from pypylon import pylon

        from generalad.runtime.cameras.industrial import basler_device

    emulated = pylon.DeviceInfo()
    emulated.SetDeviceClass("BaslerCamEmu")
    factory = pylon.TlFactory.GetInstance()
    monkeypatch.setattr(basler_device, "_infos", lambda: list(factory.EnumerateDevices([emulated])))
    return "basler:0815-0001"


@needs_pypylon
def test_failed_buffers_are_damaged_frames(basler: str) -> None:
    settings: Settings = {"ForceFailedBufferCount": 5, "ForceFailedBuffer": True}
    with reading(basler, settings) as reader:
        assert picture(reader).shape == (1040, 1024, 3)
        assert reader.status.dropped["damaged"] == 5
        assert "lost" not in reader.status.dropped


@needs_pypylon
@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12", "RGB8Packed", "BayerRG8"])
def test_own_images_arrive_as_they_are(basler: str, pixel_format: str, tmp_path: Path) -> None:
    shown = np.zeros((64, 96, 3), np.uint8)
    shown[:, :48] = (200, 200, 200) if pixel_format.startswith("Mono") else (200, 100, 50)
    cv2.imwrite(str(tmp_path / "part.png"), shown[..., ::-1])
    settings: Settings = {
        "PixelFormat": pixel_format,
        "Width": 96,
        "Height": 64,
        "ImageFilename": str(tmp_path),
        "ImageFileMode": "On",
        "TestImageSelector": "Off",
    }
    with reading(basler, settings) as reader:
        image = picture(reader)
    assert reader.status.resolution == (64, 96)
    inner = np.s_[4:-4, 4:44]
    assert np.abs(image[inner].astype(int) - shown[inner]).max() <= 1
    assert image[4:-4, 52:-4].max() == 0


@needs_pypylon
def test_software_triggers_of_an_emulated_camera(basler: str) -> None:
    settings: Settings = {"TriggerMode": "On", "TriggerSource": "Software", "ExposureTime": 1000}
    with reading(basler, settings) as reader:
        until(lambda: reader.status.state is State.LIVE)
        assert reader.next(timeout=0.1) is None
        for _ in range(5):
            reader.done(reader.trigger(timeout=10))
        assert reader.status.captured == 5


@needs_pypylon
def test_a_trigger_without_picture_of_an_emulated_camera(basler: str) -> None:
    settings: Settings = {"TriggerMode": "On", "TriggerSource": "Software"}
    with reading(basler, settings) as reader:
        until(lambda: reader.status.state is State.LIVE)
        for _ in range(3):
            with pytest.raises(TriggerFailed, match="no picture within"):
                reader.trigger(timeout=0.001)  # it takes ten times as long
            reader.done(reader.trigger(timeout=10))
        assert reader.status.processed == 3


@needs_pypylon
def test_exposure_refused_by_an_emulated_camera(basler: str) -> None:
    with reading(basler, {"ExposureTime": 1e9}) as reader:
        until(lambda: reader.status.state is State.RECONNECTING)
        assert reader.status.reason.startswith("ExposureTime: expected 1 to 10000000 us, found")
        assert reader.status.captured == 0


# --- gige


class FakeGige:
    """Small images, so that a busy machine loses no packets of its own."""

    address = "gige:127.0.0.1"

    def __init__(self) -> None:
        self.settings: Settings = {"Width": 128, "Height": 128, "AcquisitionFrameRate": 100.0}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, lost: int = 0) -> None:
        assert FAKE_GIGE is not None
        command = [FAKE_GIGE, "-i", "127.0.0.1", "-s", "SN7", "-r", str(lost)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def gige() -> Iterator[FakeGige]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the bindings
        from generalad.runtime.cameras.industrial import aravis_device

        aravis_device._library()
    camera = FakeGige()
    yield camera
    camera.kill()


@needs_aravis
def test_lost_packets_are_damaged_frames(gige: FakeGige) -> None:
    gige.start(lost=50)
    with reading(gige.address, gige.settings) as reader:
        until(lambda: reader.status.dropped.get("damaged", 0) >= 3)
        assert picture(reader).shape == (128, 128, 3)


@needs_aravis
def test_a_gige_camera_that_is_unplugged_comes_back(gige: FakeGige) -> None:
    gige.start()
    settings: Settings = {**gige.settings, "ExposureTimeAbs": 5000, "PixelFormat": "BayerRG8"}
    with reading(gige.address, settings, stall_after=1.0) as reader:
        picture(reader)
        gige.kill()
        until(lambda: reader.status.state is not State.LIVE)
        gige.start()
        until(lambda: reader.status.reconnects == 1)
        assert reader.status.reason == "128 x 128"


@needs_aravis
def test_software_triggers_of_a_gige_camera(gige: FakeGige) -> None:
    gige.start()
    settings: Settings = {**gige.settings, "TriggerMode": "On", "TriggerSource": "Software"}
    with reading(gige.address, settings) as reader:
        until(lambda: reader.status.state is State.LIVE)
        for _ in range(5):
            with contextlib.suppress(TriggerFailed):  # UDP promises nothing
                reader.done(reader.trigger(timeout=10))
        assert reader.status.captured >= 5 and reader.status.in_flight == 0
        assert reader.next(timeout=0) is None
