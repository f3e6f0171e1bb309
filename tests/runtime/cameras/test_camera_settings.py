"""Settings by their GenICam names: made in order, read back, and refused in one line."""

from __future__ import annotations

import pytest
from fake_device import FakeCamera, FakeDevice

from generalad.runtime.cameras.camera import Settings, Value
from generalad.runtime.cameras.industrial.device import Feature
from generalad.runtime.cameras.industrial.settings import SettingRefused, apply


def camera() -> FakeCamera:
    return FakeCamera(
        ExposureTime=Feature("float", 1000.0, least=10.0, most=1e6, unit="us"),
        Gain=Feature("float", 0.0, least=0.0, most=24.0),
        Width=Feature("integer", 640, least=16, most=1920, step=4),
        TriggerMode=Feature("choice", "Off", choices=("Off", "On")),
        ReverseX=Feature("boolean", False),
        DeviceUserID=Feature("text", ""),
        UserSetLoad=Feature("command"),
        BlackLevel=Feature("integer", 0, writable=False),
    )


def made(
    settings: Settings, of: FakeCamera | None = None
) -> tuple[list[str], list[tuple[str, Value]]]:
    of = of or camera()
    return apply(FakeDevice(of), settings), list(of.made)


def test_settings_are_made_in_their_order_and_in_the_camera_s_kind() -> None:
    settings: dict[str, Value] = {
        "UserSetLoad": True,
        "TriggerMode": "On",
        "ExposureTime": 5000,
        "Width": 644.0,
        "ReverseX": True,
        "DeviceUserID": "top",
    }
    said, calls = made(settings)
    assert said == []
    assert calls == list({**settings, "ExposureTime": 5000.0, "Width": 644}.items())
    assert [type(value) for _, value in calls[2:4]] == [float, int]


def test_a_difference_is_said_and_rounding_is_none() -> None:
    of = camera()
    of.rounds = {"ExposureTime": 5003.5, "Gain": 3.0 + 1e-9, "TriggerMode": "Off"}
    said, _ = made({"ExposureTime": 5000, "Gain": 3, "TriggerMode": "On"}, of)
    assert said == ["ExposureTime is 5003.5, not 5000", "TriggerMode is 'Off', not 'On'"]


def test_settings_are_read_back_after_the_last_one() -> None:
    of = camera()

    class Moves(FakeDevice):
        """Selecting a trigger moves the exposure time."""

        def set(self, name: str, value: Value) -> None:
            super().set(name, value)
            if name == "TriggerMode":
                super().set("ExposureTime", 20.0)

    assert apply(Moves(of), {"ExposureTime": 5000.0, "TriggerMode": "On"}) == [
        "ExposureTime is 20, not 5000"
    ]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ExposureTim", 1, "the camera has no setting ExposureTim; did you mean ExposureTime?"),
        ("Zzz", 1, "the camera has no setting Zzz"),
        ("ExposureTime", 2e6, "ExposureTime: expected 10 to 1000000 us, found 2000000"),
        ("ExposureTime", float("nan"), "ExposureTime: expected a number, found nan"),
        ("ExposureTime", "long", "ExposureTime: expected a number, found 'long'"),
        ("ExposureTime", True, "ExposureTime: expected a number, found true"),
        ("Width", 640.5, "Width: expected a whole number, found 640.5"),
        ("Width", 642, "Width: expected steps of 4 from 16, found 642"),
        ("TriggerMode", "on", "TriggerMode: expected one of Off, On; found 'on'"),
        ("TriggerMode", True, "TriggerMode: expected one of Off, On; found true"),
        ("ReverseX", 1, "ReverseX: expected true or false, found 1"),
        ("DeviceUserID", 5, "DeviceUserID: expected a text, found 5"),
        ("UserSetLoad", False, "UserSetLoad is a command, expected true, found false"),
        ("BlackLevel", 3, "BlackLevel cannot be set now; another setting may hold it"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name: str, value: Value, words: str) -> None:
    of = camera()
    with pytest.raises(SettingRefused) as refused:
        apply(FakeDevice(of), {name: value})
    assert str(refused.value) == words
    assert of.made == []


def test_what_the_camera_itself_refuses_is_said_in_its_words() -> None:
    of = camera()
    of.refuses["Gain"] = "access denied"
    with pytest.raises(SettingRefused, match=r"^Gain = 3 was refused: access denied$"):
        apply(FakeDevice(of), {"Gain": 3})


def test_what_cannot_be_read_back_is_said() -> None:
    of = camera()
    of.rounds["Gain"] = None  # type: ignore[assignment]
    assert apply(FakeDevice(of), {"Gain": 3}) == ["Gain cannot be read back"]
