"""A part of every day, on some days of the week, by the clock on a wall somewhere: "22:00-06:00 fri,sat +02:00".

    local   = at + zone                                 [seconds since the epoch; 1970-01-01 was a Thursday]
    open    = some day d of `days`:  d + start <= local < d + end   (+ one day if end <= start)

A window past midnight belongs to the day on which it begins. Zones are fixed offsets: no summer time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.errors import InputError
from neap.common.units import DAY, Seconds

Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE: Final = "22:00-06:00 fri,sat +02:00"
FIRST: Final = 3  # what day of the week 1970-01-01 was
HourMinute: TypeAlias = Annotated[str, Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
Zone: TypeAlias = Annotated[str, Meta(pattern=r"^[+-](0\d|1[0-4]):[0-5]\d$")]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    start: HourMinute
    end: HourMinute
    days: Annotated[tuple[Weekday, ...], Meta(max_length=7)] = ()  # on which it begins; empty: every day
    zone: Zone = "+00:00"  # east of UTC

    def __str__(self) -> str:
        days = f" {','.join(self.days)}" if self.days else ""
        return f"{self.start}-{self.end}{days} {self.zone}"

    @property
    def flaw(self) -> str:
        """Why it cannot be meant; empty if it can."""
        return f"schedule: {self.start}-{self.end} has no length" if self.start == self.end else ""

    def holds(self, at: Seconds) -> bool:
        """Whether it is open."""
        local = at + self._offset
        return any(start <= local < end for start, end in self._around(local))

    def changes_after(self, at: Seconds) -> Seconds:
        """Not later than when it next opens or shuts."""
        local = at + self._offset
        edges = (edge for pair in self._around(local) for edge in pair if edge > local)
        return min(edges, default=math.inf) - self._offset

    def _around(self, local: Seconds) -> Iterator[tuple[Seconds, Seconds]]:
        """The openings of the day before, and of the next eight."""
        start, end = _seconds(self.start), _seconds(self.end)
        today = math.floor(local / DAY)
        for day in range(today - 1, today + 9):
            if not self.days or WEEK[(day + FIRST) % 7] in self.days:
                yield day * DAY + start, day * DAY + end + (DAY if end <= start else 0)

    @property
    def _offset(self) -> Seconds:
        return _seconds(self.zone[1:]) * (-1 if self.zone[0] == "-" else 1)


def parse_window(text: str) -> Window:
    """Parse "22:00-06:00", "22:00-06:00 fri,sat +02:00".

    Raises:
        InputError: the text is no window.
    """
    span, *rest = text.split() or [""]
    start, _, end = span.partition("-")
    zone = next((part for part in rest if part[0] in "+-"), "+00:00")
    days = [day for part in rest if part[0] not in "+-" for day in part.split(",") if day]
    try:
        window = msgspec.convert({"start": start, "end": end, "days": days, "zone": zone}, Window)
    except msgspec.ValidationError as error:
        raise InputError(f"not a window of the day: {text[:64]!r}: {error} (example: {EXAMPLE})") from None
    if window.flaw:
        raise InputError(window.flaw)
    return window


def _seconds(text: str) -> Seconds:
    hours, minutes = text.split(":")
    return int(hours) * 3600.0 + int(minutes) * 60.0
