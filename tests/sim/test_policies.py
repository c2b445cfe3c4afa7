"""Lending policies on the same simulated day: all run through the same rooms, and differ in what they lend."""

from __future__ import annotations

from functools import cache

import pytest

from neap.common.model.day import DayReport
from neap.common.model.qos import QosClass
from neap.common.testing.simloop import simulate
from neap.virtual.pace import lean_settings
from neap.virtual.policies import POLICIES
from neap.virtual.simulation import Simulation
from tests.sim.small import small_settings


@cache
def lived(name: str) -> tuple[DayReport, tuple[DayReport, ...]]:
    policy, seen = POLICIES[name], list[DayReport]()
    settings = [*small_settings(), *lean_settings(), *policy.settings]
    last = simulate(Simulation(settings, seed=1, rooms=policy.rooms, validate=True).run_day(seen.append))
    return last, tuple(seen)


@pytest.mark.parametrize("name", list(POLICIES))
def test_owners_get_the_same_under_every_policy(name: str) -> None:
    alone, _ = lived("online-only")
    told, seen = lived(name)
    owners = told.core_seconds[QosClass.SHARED] + told.core_seconds[QosClass.DEDICATED]
    assert owners == pytest.approx(
        alone.core_seconds[QosClass.SHARED] + alone.core_seconds[QosClass.DEDICATED], rel=0.02
    )
    assert told.violation_minutes <= alone.violation_minutes + 0.005 * told.service_minutes
    assert seen[-1] == told
    assert [report.at for report in seen] == sorted(report.at for report in seen)


def test_guests_run_under_every_policy_that_lends() -> None:
    assert lived("online-only")[0].core_seconds[QosClass.RECLAIMED] == 0
    for name in ("neap", "peer", "static"):
        assert lived(name)[0].core_seconds[QosClass.RECLAIMED] > 0, name
