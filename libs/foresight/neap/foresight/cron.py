"""Bounds that follow the clock on a wall: "0 23 * * 1-5 min 4 max 20 Europe/Berlin", "07:30 min 10", "* 9-18 * * * min 8".

    a point   its minute field is not "*": it holds from its minute until the next point of the list comes
    a span    its minute field is "*": it holds in the minutes it names, over the points
    in force  the last span of the list that names this minute; else the point that came last, of several that came
              together the last of the list; before any point ever came: none, and the service's own bounds hold

So at every instant exactly one set of bounds is in force. A point in an hour that a change of the clocks leaves out
comes when that hour would have begun; one in an hour that comes twice comes the first time. A bound says what it
changes: without `min` or `max` the service's own one stays. `from` and `until` (dates in its zone) limit it.

The fields are minute, hour, day of month, month, day of week (0 and 7: Sunday), of numbers, names, "*", lists, ranges
and steps; with both days restricted either may match.
Source: crontab(5) (fields, the rule of the two days); Debian cron (changes of the clocks); Katalyst IHPA timeBounds,
where every bound holds only in its very minute, so that "0 9 * * *" is gone at 9:01 (ours: until the next one), and
where the local offset is added to the time before it is compared with bounds in UTC (ours: by the zone's own rules).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from neap.common.errors import InputError
from neap.common.units import MINUTE, Seconds

EXAMPLE: Final = "0 23 * * 1-5 min 4 max 20 Europe/Berlin"
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: Final = (("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day", 1, 31, ()), ("month", 1, 12, MONTHS),
                 ("weekday", 0, 7, DAYS))  # fmt: skip
TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
LONGEST: Final = 8 * 366 + 1  # days looked back: a 29 February may be eight years away
MOST_BOUNDS: Final = 64
MOST_REPLICAS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Cron:
    """When something comes, in local time."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0: Sunday
    either: bool  # of the two kinds of days one is enough
    is_span: bool  # every minute of the hours it names

    def names_day(self, day: date) -> bool:
        """Whether it comes on that day."""
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_day or by_weekday if self.either else by_day and by_weekday)

    def names(self, local: datetime) -> bool:
        """Whether it comes in that minute."""
        return local.minute in self.minutes and local.hour in self.hours and self.names_day(local.date())


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound; None: the service's own stays."""

    text: str
    cron: Cron
    zone: ZoneInfo
    least: int | None = None
    most: int | None = None
    begins: date | None = None
    ends: date | None = None

    def holds_on(self, day: date) -> bool:
        """Whether that day is within `from` and `until`."""
        return (self.begins is None or day >= self.begins) and (self.ends is None or day < self.ends)

    def came(self, at: Seconds) -> Seconds | None:
        """When it came last, at or before that time; None: never."""
        today = _local(at, self.zone).date()
        for back in range(LONGEST):
            day = today - timedelta(days=back)
            if self.holds_on(day) and self.cron.names_day(day):
                found = max((when for when in self._times(day) if when <= at), default=None)
                if found is not None:
                    return found
        return None

    def names(self, at: Seconds) -> bool:
        """Whether it comes in the minute of that time."""
        local = _local(at, self.zone)
        return self.holds_on(local.date()) and self.cron.names(local)

    def _times(self, day: date) -> Iterator[Seconds]:
        for hour in self.cron.hours:
            for minute in self.cron.minutes:
                yield _instant(datetime.combine(day, time(hour, minute)), self.zone)


def parse_bound(text: str, zone: str = "UTC") -> Bound:
    """Parse one bound; `zone` holds where it names none.

    Raises:
        InputError: names the part that does not hold.
    """
    words = text.split()
    if words and TIME.fullmatch(words[0]):
        hour, minute = words[0].split(":")
        words = [str(int(minute)), str(int(hour)), "*", "*", "*", *words[1:]]
    if len(words) < 5:
        raise InputError(f"bound {text[:80]!r}: five fields or HH:MM come first (example: {EXAMPLE})")
    bound = Bound(text, _cron(words[:5], text), _zone(zone, text))
    rest = iter(words[5:])
    for word in rest:
        match word:
            case "min":
                bound = replace(bound, least=_count(next(rest, ""), word, text))
            case "max":
                bound = replace(bound, most=_count(next(rest, ""), word, text))
            case "from":
                bound = replace(bound, begins=_date(next(rest, ""), text))
            case "until":
                bound = replace(bound, ends=_date(next(rest, ""), text))
            case _:
                bound = replace(bound, zone=_zone(word, text))
    if bound.least is None and bound.most is None:
        raise InputError(f"bound {text[:80]!r}: it bounds nothing (min N, max N, or both)")
    if bound.least is not None and bound.most is not None and bound.least > bound.most:
        raise InputError(f"bound {text[:80]!r}: min {bound.least} is above max {bound.most}")
    return bound


def parse_bounds(texts: Sequence[str], zone: str = "UTC") -> tuple[Bound, ...]:
    """Parse a list of them.

    Raises:
        InputError: see `parse_bound`; or too many.
    """
    if len(texts) > MOST_BOUNDS:
        raise InputError(f"{len(texts)} bounds: at most {MOST_BOUNDS}")
    return tuple(parse_bound(text, zone) for text in texts)


def in_force(bounds: Sequence[Bound], at: Seconds) -> Bound | None:
    """The one that holds at that time; None: the service's own bounds. See module docstring."""
    span = next((bound for bound in reversed(bounds) if bound.cron.is_span and bound.names(at)), None)
    if span is not None:
        return span
    points = (
        (bound.came(at), place)
        for place, bound in enumerate(bounds)
        if not bound.cron.is_span and bound.holds_on(_local(at, bound.zone).date())
    )
    last = max(((when, place) for when, place in points if when is not None), default=None)
    return None if last is None else bounds[last[1]]


def bounded(bounds: Sequence[Bound], at: Seconds, least: int, most: int) -> tuple[int, int, str]:
    """The bounds at that time, over the service's own, and which one said so.

    Where only one side is bound and would cross the service's own other side, that one gives way to it.
    """
    bound = in_force(bounds, at)
    if bound is None:
        return least, most, ""
    if bound.least is not None and bound.most is not None:
        return bound.least, bound.most, bound.text
    if bound.most is not None:
        return min(least, bound.most), bound.most, bound.text
    assert bound.least is not None
    return bound.least, max(most, bound.least), bound.text


# -- reading ---------------------------------------------------------------------------------------------------------


def _cron(words: Sequence[str], text: str) -> Cron:
    sets = [_numbers(word.lower(), *field, text) for word, field in zip(words, FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = sets
    either = not (words[2].startswith("*") or words[4].startswith("*"))
    return Cron(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either, words[0] == "*")


def _numbers(word: str, name: str, low: int, high: int, names: Sequence[str], text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            start = low if span == "*" else _number(first, low, names)
            end = high if span == "*" or (slash and not dash) else _number(last, low, names) if dash else start
            every = int(step) if slash else 1
        except ValueError:
            raise InputError(f"bound {text[:80]!r}: {name} {part!r} is no number, name, range or step") from None
        if not (low <= start <= end <= high and every >= 1):
            raise InputError(f"bound {text[:80]!r}: {name} {part!r} is not within {low}-{high}")
        found.update(range(start, end + 1, every))
    return frozenset(found)


def _number(word: str, low: int, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word) + low
    if not word.isascii() or not word.isdigit():
        raise ValueError(word)
    return int(word)


def _count(word: str, name: str, text: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word) <= MOST_REPLICAS):
        raise InputError(f"bound {text[:80]!r}: {name} {word!r} is no number of replicas")
    return int(word)


def _date(word: str, text: str) -> date:
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise InputError(f"bound {text[:80]!r}: {word!r} is no date (2026-12-24)") from None


def _zone(name: str, text: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # no such key, or one that leads elsewhere; ZoneInfoNotFoundError is a KeyError
        pass
    except KeyError:
        pass
    raise InputError(f"bound {text[:80]!r}: {name!r} is no time zone (Europe/Berlin, UTC)")


# -- the clock on the wall -------------------------------------------------------------------------------------------


def _local(at: Seconds, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at // MINUTE * MINUTE, tz=zone)


@lru_cache(4096)
def _instant(wall: datetime, zone: ZoneInfo) -> Seconds:
    """When a clock there first shows that time; where it never does, when it jumps over it."""
    early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if early.astimezone(zone).replace(tzinfo=None) == wall:
        return early.timestamp()
    low, high = wall.replace(tzinfo=zone, fold=1).astimezone(UTC).timestamp(), early.timestamp()
    before = _offset(low, zone)
    while high - low > 1.0:  # the jump lies between; clocks jump at whole seconds
        middle = float((low + high) // 2)
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return high


def _offset(at: Seconds, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(at, tz=zone).utcoffset()
