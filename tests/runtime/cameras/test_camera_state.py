"""Addresses and their secrets, the count of frames under random interleavings, waiting times."""

from __future__ import annotations

import random
import threading

import pytest
from camera_helpers import image
from hypothesis import given, settings
from hypothesis import strategies as st

from generalad.errors import UsageError
from generalad.runtime.cameras import Backoff, parse_address
from generalad.runtime.cameras.latest_frame import LatestFrame
from generalad.runtime.secrets import redacted
from generalad.runtime.sources import Frame


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rtsp://camera/1", "rtsp"),
        ("RTSPS://u:p@camera:322/1", "rtsp"),
        ("http://camera/video.mjpg", "http"),
        ("https://camera/", "http"),
        ("usb:0", "usb"),
        ("/dev/video12", "usb"),
        ("/dev/v4l/by-id/usb-cam-index0", "usb"),
        ("test://washer?rate=5", "test"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert parse_address(text).kind == kind


def test_number_of_a_usb_camera() -> None:
    assert parse_address("usb:3").number == 3
    assert parse_address("/dev/video3").number is None


@pytest.mark.parametrize(
    "text", ["", "camera", "ftp://me:secret@host/1", "usb:", "usb:x", "/dev/null", "parts/*.png"]
)
def test_unknown_forms(text: str) -> None:
    with pytest.raises(UsageError, match="known: rtsp://") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["rtsp://", "http:///path", "test://", "test://?rate=1"])
def test_without_a_host(text: str) -> None:
    with pytest.raises(UsageError, match="missing"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("rtsp://camera:554/1?channel=2", "rtsp://camera:554/1?channel=2"),
        ("rtsp://camera/live@2", "rtsp://camera/live@2"),
        ("rtsp://me:s3cr3t@camera:554/1", "rtsp://***@camera:554/1"),
        ("rtsp://s3cr3t@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:s3@cr3t@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:s3/cr3t@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:s3?cr3t@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:12/cr3t@camera/1", "rtsp://***@camera/1"),
        ("http://c/v?Password=s3cr3t&fps=5", "http://c/v?Password=***&fps=5"),
        ("http://c/v?fps=5&access_token=s3cr3t", "http://c/v?fps=5&access_token=***"),
        ("http://c/v?loginuse=s3cr3t&loginpas=s3cr3t", "http://c/v?loginuse=***&loginpas=***"),
        ("rtsp://c/user=s3cr3t&password=s3cr3t&channel=1", "rtsp://c/user=***&password=***&channel=1"),
        ("usb:0", "usb:0"),
    ],
)  # fmt: skip
def test_redacted(text: str, shown: str) -> None:
    assert redacted(text) == shown
    address = parse_address(text)
    assert str(address) == shown and "cr3t" not in repr(address)


PASSWORD = st.text(st.characters(codec="ascii", exclude_characters="\r\n \t"), min_size=1)


@given(PASSWORD)
@settings(max_examples=200, deadline=None)
def test_no_password_is_shown(password: str) -> None:
    secret = f"<{password}>"
    address = parse_address(f"rtsp://me:{secret}@camera/1")
    for text in (str(address), repr(address), address.clean(f"cannot open {address.text}: no")):
        assert secret not in text


def test_secrets_are_hidden_in_foreign_texts() -> None:
    address = parse_address("http://me:s%40cr3t@camera/v?token=t0ken")
    text = address.clean("401 for me:s@cr3t\n  at http://camera/v?token=t0ken, s%40cr3t, s@cr3t")
    assert not any(secret in text for secret in ("s@cr3t", "s%40cr3t", "t0ken")), text
    assert "\n" not in text and text.startswith("401 for")


def captured(index: int) -> Frame:
    return Frame("camera", index, 0.0, "", f"{index}.jpg", image(), captured_at=0.0)


STEPS = st.lists(
    st.sampled_from(["add", "add", "take", "take", "done", "again", "drop", "refuse", "clear"]),
    max_size=60,
)


@given(STEPS, st.booleans(), st.randoms())
@settings(max_examples=200, deadline=None)
def test_nothing_is_lost_or_invented(
    steps: list[str], producer_waits: bool, chance: random.Random
) -> None:
    latest = LatestFrame()
    held: list[Frame] = []
    given_back: list[Frame] = []
    seen: list[int] = []
    for step in steps:
        if step == "add" and not (producer_waits and latest.waiting):
            latest.put(captured(latest.next_index()))
        elif step == "take" and (frame := latest.take()) is not None:
            held.append(frame)
            seen.append(frame.index)
        elif step in ("done", "drop") and held:
            frame = held.pop(chance.randrange(len(held)))
            assert latest.done(frame, "operator" if step == "drop" else None)
            given_back.append(frame)
        elif step == "again" and given_back:
            assert not latest.done(chance.choice(given_back))
        elif step == "refuse":
            latest.refuse("late")
        elif step == "clear":
            latest.drop_waiting("closed")
        counts = latest.counts()
        assert counts.captured == (
            counts.processed + sum(counts.dropped.values()) + counts.in_flight
        )
        assert counts.in_flight == len(held) + latest.waiting
        assert not (producer_waits and "newer frame" in counts.dropped)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("producer_waits", [False, True])
def test_the_counts_balance_while_threads_work(producer_waits: bool) -> None:
    latest = LatestFrame()
    producing = threading.Event()
    producing.set()

    def produce() -> None:
        while latest.next_index() < 300:
            if not (producer_waits and latest.waiting):
                latest.put(captured(latest.next_index()))
        producing.clear()

    def consume() -> None:
        while producing.is_set() or latest.waiting:
            frame = latest.take()
            if frame is not None:
                latest.done(frame, "odd" if frame.index % 2 else None)

    threads = [threading.Thread(target=work) for work in (produce, consume, consume)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counts = latest.counts()
        total = counts.processed + sum(counts.dropped.values()) + counts.in_flight
        assert counts.captured == total
    assert latest.counts().captured == 300 and latest.counts().in_flight == 0
    if producer_waits:
        assert latest.counts().dropped == {"odd": 150}


@given(st.integers(1, 10_000_000), st.floats(0, 1), st.floats(0, 1))
def test_waiting_times_stay_within_their_bounds(
    failures: int, chance: float, jitter: float
) -> None:
    backoff = Backoff(first=0.5, cap=30.0, jitter=jitter)
    longest = Backoff(first=0.5, cap=30.0, jitter=0.0).delay(failures, 0.0)
    assert longest == min(30.0, 0.5 * 2 ** min(failures - 1, 40))
    assert longest * (1 - jitter) - 1e-9 <= backoff.delay(failures, chance) <= longest


@pytest.mark.parametrize("wrong", [{"first": 0}, {"first": 40}, {"jitter": 2}, {"good_after": -1}])
def test_wrong_waiting_times(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="first"):
        Backoff(**wrong)
