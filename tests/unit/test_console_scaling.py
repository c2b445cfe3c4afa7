"""`neap scaling` (story A3): now, native, predicted at, would have acted at; a chart as text."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from neap.common.model.forecast import Forecast
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.console.core.scaled import as_json, chart, table
from neap.console.shell.scaling import is_meant

SEVEN = datetime(2026, 11, 20, 19, 0, tzinfo=UTC).timestamp()
PLAN = ScalingPlan(
    at=SEVEN, source="planner", namespace="shop", kind="Deployment", name="feed", mode=ScaleMode.PREVIEW, now=6,
    desired=6, native=5, predicted=6, least=1, most=20, lead=195.0, expected=4.2, target=0.7, forecast="1-ab",
    arithmetic="3.30 cores ... -> 6", manner="forecast, quick", peak=9, peak_at=SEVEN + 3600.0,
    acts_at=SEVEN + 3405.0, short=30.0, paid=36000.0, autoscaler_short=600.0, autoscaler_paid=36000.0,
)  # fmt: skip
FORECAST = Forecast(
    at=SEVEN, source="planner", namespace="shop", kind="Deployment", name="feed", resource="cpu", version="1-ab",
    start=SEVEN, step=300.0, values=(4.2,) * 12 + (6.3,) * 12,
)  # fmt: skip


def test_the_story_of_the_rush() -> None:
    told = chart(PLAN, FORECAST)
    assert "preview: nothing is done" in told
    assert "now 6   native 5   predicted 6   desired 6   within 1..20" in told
    assert "predicted 9 at 20:00, would have acted at 19:56:45 (lead 3m15s)" in told
    assert "short 30s, 10.0 replica-hours; the autoscaler's own rule: short 10m, 10.0" in told
    bars = [line for line in told.splitlines() if line.startswith(("19:", "20:"))]
    assert bars[0].split() == ["19:00", "6", "#" * 27]
    assert bars[-1].split()[1:] == ["9", "#" * 27 + "+" * 13]


def test_without_a_forecast_it_says_so() -> None:
    blind = replace(PLAN, predicted=None, peak=None, peak_at=None, acts_at=None, flags=("prediction off: no forecast",))
    told = chart(blind, None)
    assert "predicted -" in told
    assert "! prediction off: no forecast" in told


def test_a_line_for_each_service() -> None:
    assert table([]).startswith("no service is scaled")
    head, line = table([PLAN]).splitlines()
    assert head.split()[0] == "service"
    assert line.split() == ["shop/Deployment/feed", "preview", "6", "5", "6", "6", "1..20", "9", "at", "20:00"]


def test_json_has_all_of_it() -> None:
    (found,) = as_json([PLAN], FORECAST)
    assert found["desired"] == 6
    assert found["foretold"]["values"][0] == 4.2


def test_people_name_services_as_they_like() -> None:
    for written in ("", "feed", "shop/feed", "shop/Deployment/feed"):
        assert is_meant(PLAN, written), written
    assert not is_meant(PLAN, "shop/StatefulSet/feed")
