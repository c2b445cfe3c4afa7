"""Bounds by the clock: requirement 002-51, Katalyst's UJ-16 and AC-21, days with a change of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from neap.common.errors import InputError
from neap.foresight.cron import bounded, in_force, parse_bound, parse_bounds

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


NIGHT = parse_bounds(["23:00 min 4", "07:30 min 10"])


@pytest.mark.parametrize(
    ("when", "least"),
    [
        ("2026-11-20T07:29:59", 4), ("2026-11-20T07:30:00", 10), ("2026-11-20T07:31:00", 10),
        ("2026-11-20T22:59:59", 10), ("2026-11-20T23:00:00", 4), ("2026-11-21T03:00:00", 4),
    ],
)  # fmt: skip
def test_bounds_change_at_the_minute_and_hold_until_the_next(when: str, least: int) -> None:
    """002-51; Katalyst's would be gone a minute later."""
    assert bounded(NIGHT, at(when), 1, 50)[0] == least


def test_a_span_of_minutes_holds_in_them_and_no_longer() -> None:
    """UJ-16: `* 9-18 * * 1-5` min 10."""
    office = parse_bounds(["* 9-18 * * 1-5 min 10"])
    for when, least in (("2026-11-20T08:59", 2), ("2026-11-20T09:00", 10), ("2026-11-20T18:59", 10),
                        ("2026-11-20T19:00", 2), ("2026-11-21T12:00", 2)):  # fmt: skip
        assert bounded(office, at(when), 2, 50)[0] == least, when


def test_zones_are_those_of_people() -> None:
    found = parse_bounds(["0 9 * * * min 5 Europe/Berlin", "0 17 * * * min 1 America/New_York"])
    assert in_force(found, at("2026-07-01T07:00")) is found[0], "nine in Berlin is seven in UTC in summer"
    assert in_force(found, at("2026-07-01T06:59")) is found[1]
    assert in_force(found, at("2026-01-15T08:00")) is found[0]
    assert in_force(found, at("2026-01-15T07:59")) is found[1]
    assert in_force(found, at("2026-07-01T21:00")) is found[1], "seventeen in New York"


def test_an_hour_that_is_left_out_comes_when_it_would_have_begun() -> None:
    """Berlin, 29 March 2026: after 01:59:59 comes 03:00:00."""
    found = parse_bounds(["0 1 * * * min 2", "30 2 * * * min 7"], BERLIN)
    assert bounded(found, at("2026-03-29T00:59:59"), 1, 9)[0] == 2
    assert bounded(found, at("2026-03-29T01:00:00"), 1, 9)[0] == 7, "01:00 UTC is 03:00 there"
    assert bounded(found, at("2026-03-28T02:29", BERLIN), 1, 9)[0] == 2


def test_an_hour_that_comes_twice_comes_the_first_time() -> None:
    """Berlin, 25 October 2026: 02:00 to 02:59 twice."""
    found = parse_bounds(["30 2 * * * min 7", "45 2 * * * min 2"], BERLIN)
    assert bounded(found, at("2026-10-25T02:30", BERLIN), 1, 9)[0] == 7
    assert bounded(found, at("2026-10-25T02:45", BERLIN), 1, 9)[0] == 2
    assert bounded(found, at("2026-10-25T02:30", BERLIN, fold=1), 1, 9)[0] == 2


def test_days_are_counted_as_crontab_does() -> None:
    either = parse_bounds(["0 0 13 * 5 min 9", "0 12 * * * min 1"])  # the 13th, or a Friday
    assert bounded(either, at("2026-11-13T01:00"), 1, 9)[0] == 9
    assert bounded(either, at("2026-11-20T01:00"), 1, 9)[0] == 9
    assert bounded(either, at("2026-11-19T01:00"), 1, 9)[0] == 1
    leap = parse_bound("0 0 29 feb * min 3")
    assert leap.came(at("2027-03-01T00:00")) == datetime(2024, 2, 29, tzinfo=UTC).timestamp()
    assert parse_bound("0 0 * * sun min 1").cron.weekdays == parse_bound("0 0 * * 7 min 1").cron.weekdays == {0}
    assert parse_bound("*/20 1-9/4 * * * min 1").cron.hours == {1, 5, 9}


def test_dates_limit_a_bound() -> None:
    found = parse_bounds(["0 0 * * * min 8 from 2026-12-01 until 2026-12-24", "0 12 1 1 * min 2"])
    assert bounded(found, at("2026-12-01T00:00"), 1, 9)[0] == 8
    assert bounded(found, at("2026-12-23T23:59"), 1, 9)[0] == 8
    assert bounded(found, at("2026-12-24T00:00"), 1, 9)[0] == 2
    assert bounded(found, at("2026-11-30T23:59"), 1, 9)[0] == 2


def test_one_side_that_crosses_the_services_own_takes_it_along() -> None:
    assert bounded(parse_bounds(["0 0 * * * min 30"]), 1e9, 1, 20)[:2] == (30, 30)
    assert bounded(parse_bounds(["0 0 * * * max 3"]), 1e9, 5, 20)[:2] == (3, 3)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "five fields"), ("60 0 * * * min 1", "minute '60'"), ("0 24 * * * min 1", "hour '24'"),
        ("0 0 0 * * min 1", "day '0'"), ("0 0 * 13 * min 1", "month '13'"), ("0 0 * * fri-mon min 1", "weekday"),
        ("0 0 * * x min 1", "weekday 'x'"), ("*/0 * * * * min 1", "minute"), ("1,, * * * * min 1", "minute ''"),
        ("0 0 * * *", "bounds nothing"), ("0 0 * * * min 9 max 3", "min 9 is above max 3"),
        ("0 0 * * * min -1", "no number of replicas"), ("0 0 * * * min", "no number of replicas"),
        ("0 0 * * * min 1 Mars/Olympus", "'Mars/Olympus' is no time zone"), ("0 0 * * * min 1 ../etc", "no time zone"),
        ("0 0 * * * min 1 from yesterday", "no date"), ("25:00 min 1", "five fields"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_named(text: str, names: str) -> None:
    with pytest.raises(InputError, match=names):
        parse_bound(text)
