"""What the heads of H.264 tell: frames that never arrived, and whether there are fields.

A decoder goes on without a word where a frame is missing; their numbers show it. Only what stands
at the start of a packet is read: the number of a frame (`frame_num`) and, in the sequence
parameters, how many bits it has. Frames that others build on count up by one; a frame that nothing
builds on may be missing without harm, and leaves no gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_START = re.compile(rb"\x00\x00\x01")
_SLICE, _KEY_SLICE, _SEQUENCE = 1, 5, 7
_WITH_CHROMA = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_HEAD = 256  # bytes, more than any of these headers needs


class MissingFrames:
    """Says of each packet whether a frame before it is missing."""

    def __init__(self, extradata: bytes) -> None:
        """`extradata` are the parameters known before the first packet.

        If they come without start codes, so do the packets, and nothing is looked for: the lengths
        that stand there instead may look like start codes.
        """
        self._start_codes = extradata[:1] != b"\1"
        self._bits = 0  # of a frame number; 0 while it is unknown or gaps are allowed
        self._planes = False
        self._last: int | None = None
        self.before(extradata)

    def before(self, packet: bytes) -> bool:
        """Whether a frame that this one may build on is missing before it.

        Args:
            packet: one frame.
        """
        missing = False
        for unit in _units(packet) if self._start_codes else ():
            kind, others_build_on_it = unit[0] & 31, bool(unit[0] & 96)
            try:
                if kind == _SEQUENCE:
                    self._read_sequence(Bits(unit[1:]))
                elif kind in (_SLICE, _KEY_SLICE) and self._bits:
                    number = self._frame_number(Bits(unit[1:]))
                    missing |= kind == _SLICE and self._is_gap(number)
                    if others_build_on_it or self._last is None:
                        self._last = number
            except IndexError:  # cut off; the decoder will say so
                continue
        return missing

    def _is_gap(self, number: int) -> bool:
        return self._last is not None and (number - self._last) % (1 << self._bits) > 1

    def _frame_number(self, bits: Bits) -> int:
        for _ in ("first macroblock", "slice type", "image parameters"):
            bits.golomb()
        if self._planes:
            bits.take(2)
        return bits.take(self._bits)

    def _read_sequence(self, bits: Bits) -> None:
        self._planes, size, gaps_are_allowed = _sequence(bits)
        found = 0 if gaps_are_allowed else size
        if found != self._bits:
            self._bits, self._last = found, None


def has_fields(unit: bytes) -> bool:
    """Whether sequence parameters, a unit without its start code, allow interlaced frames.

    Raises:
        IndexError: it is cut off.
    """
    bits = Bits(unit[1:_HEAD])
    _sequence(bits)
    bits.golomb()  # width and height in macroblocks
    bits.golomb()
    return not bits.take(1)


def _sequence(bits: Bits) -> tuple[bool, int, bool]:
    """Separate planes, bits of a frame number, and whether these may have gaps."""
    profile = bits.take(8)
    bits.take(16)  # constraints and level
    bits.golomb()  # number of the sequence parameters
    planes = profile in _WITH_CHROMA and _read_chroma(bits)
    size = bits.golomb() + 4
    _skip_order(bits)
    bits.golomb()  # reference frames
    return planes, size, bool(bits.take(1))


def _units(packet: bytes) -> Iterator[bytes]:
    """The starts of the units of a packet, at most `_HEAD` bytes of each."""
    for match in _START.finditer(packet):
        unit = packet[match.end() : match.end() + _HEAD]
        if unit:
            yield unit


def _read_chroma(bits: Bits) -> bool:
    """Skip the colour format and the scaling lists; whether the planes are separate."""
    form = bits.golomb()
    planes = form == 3 and bool(bits.take(1))
    bits.golomb()  # depths
    bits.golomb()
    bits.take(1)
    if bits.take(1):
        for index in range(8 if form != 3 else 12):
            if bits.take(1):
                _skip_scaling(bits, 16 if index < 6 else 64)
    return planes


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _skip_order(bits: Bits) -> None:
    """Skip how the order of display is told."""
    kind = bits.golomb()
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()


class Bits:
    """Reads bits from the left; raises IndexError at the end."""

    def __init__(self, data: bytes, *, escaped: bool = True) -> None:
        if escaped:  # bytes are inserted so that no start code arises
            data = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        if self._at + count > len(self._bits):
            raise IndexError("end of data")
        found = self._bits[self._at : self._at + count]
        self._at += count
        return int(found, 2) if found else 0

    def golomb(self) -> int:
        """A number in exponential Golomb code."""
        one = self._bits.find("1", self._at)
        if one < 0:
            raise IndexError("end of data")
        zeros = one - self._at
        self._at = one
        return self.take(zeros + 1) - 1

    def signed_golomb(self) -> int:
        """The same with a sign."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
