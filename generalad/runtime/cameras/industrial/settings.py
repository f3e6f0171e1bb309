"""Settings of a camera by their GenICam names: applied in order, then read back."""

from __future__ import annotations

import difflib
import math

from generalad.runtime.cameras.camera import CameraLost, Settings, Value
from generalad.runtime.cameras.industrial.device import Device, Feature

_SAME = 1e-6
"""Relative difference of numbers up to which a camera did what it was asked to."""


class SettingRefused(CameraLost):
    """A camera does not take a setting. It gives no frames then: they would be other images."""


def apply(device: Device, settings: Settings) -> list[str]:
    """Make settings, in order.

    Returns:
        Where the camera has another value afterwards, one text each: "Gain is 3.01, not 3".

    Raises:
        SettingRefused: a setting is unknown, out of range, or not accepted.
    """
    for name, wanted in settings.items():
        feature = device.feature(name)
        if feature is None:
            raise SettingRefused(_unknown(name, device))
        value = _value(name, wanted, feature)
        try:
            if feature.kind == "command":
                device.execute(name)
            else:
                device.set(name, value)
        except Exception as error:  # of a library
            raise SettingRefused(f"{name} = {_shown(wanted)} was refused: {error}") from error
    # Now, because a later setting may have moved an earlier one.
    return [said for name, wanted in settings.items() if (said := _moved(device, name, wanted))]


def _unknown(name: str, device: Device) -> str:
    near = difflib.get_close_matches(name, device.names(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"the camera has no setting {name}{hint}"


def _value(name: str, wanted: Value, feature: Feature) -> Value:
    """What to set, of the kind that the feature has."""
    if feature.kind == "command":
        if wanted is not True:
            raise SettingRefused(f"{name} is a command, expected true, found {_shown(wanted)}")
    elif feature.kind == "boolean":
        if not isinstance(wanted, bool):
            raise SettingRefused(f"{name}: expected true or false, found {_shown(wanted)}")
    elif feature.kind == "choice":
        if wanted not in feature.choices:
            known = ", ".join(feature.choices)
            raise SettingRefused(f"{name}: expected one of {known}; found {_shown(wanted)}")
    elif feature.kind == "text":
        if not isinstance(wanted, str):
            raise SettingRefused(f"{name}: expected a text, found {_shown(wanted)}")
    else:
        wanted = _number(name, wanted, feature)
    if not feature.writable:
        raise SettingRefused(f"{name} cannot be set now; another setting may hold it")
    return wanted


def _number(name: str, wanted: Value, feature: Feature) -> Value:
    whole = feature.kind == "integer"
    if (
        isinstance(wanted, bool | str)
        or not math.isfinite(wanted)
        or (whole and wanted != int(wanted))
    ):
        kind = "a whole number" if whole else "a number"
        raise SettingRefused(f"{name}: expected {kind}, found {_shown(wanted)}")
    least, most, unit = feature.least, feature.most, f" {feature.unit}" if feature.unit else ""
    if (least is not None and wanted < least) or (most is not None and wanted > most):
        span = f"{_shown(least)} to {_shown(most)}{unit}"
        raise SettingRefused(f"{name}: expected {span}, found {_shown(wanted)}")
    if whole and feature.step and (int(wanted) - int(least or 0)) % feature.step:
        steps = f"steps of {feature.step} from {_shown(least or 0)}"
        raise SettingRefused(f"{name}: expected {steps}, found {_shown(wanted)}")
    return int(wanted) if whole else float(wanted)


def _moved(device: Device, name: str, wanted: Value) -> str:
    """How a setting differs from what was asked for; empty where it does not."""
    feature = device.feature(name)
    if feature is not None and feature.kind == "command":
        return ""
    if feature is None or feature.value is None:
        return f"{name} cannot be read back"
    found = feature.value
    numbers = not any(isinstance(value, bool | str) for value in (found, wanted))
    same = math.isclose(float(found), float(wanted), rel_tol=_SAME) if numbers else found == wanted
    return "" if same else f"{name} is {_shown(found)}, not {_shown(wanted)}"


def _shown(value: Value | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    return repr(value) if isinstance(value, str) else str(value)
