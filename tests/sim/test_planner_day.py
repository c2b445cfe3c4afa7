"""A day with the planner: what was told of the days before bounds what is held back, and every decision names it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import ADVICE, DAY_REPORT, HEADROOM, PROFILES
from neap.common.contract.channel import Channel
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.day import DayReport
from neap.common.model.profile import ServiceProfile
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.runtime.clock import loop_clock
from neap.common.testing.simloop import simulate
from neap.common.units import HOUR
from neap.virtual.pace import day_settings, lean_settings
from neap.virtual.policies import POLICIES
from neap.virtual.simulation import LEAD, Simulation
from tests.conftest import HANG
from tests.sim.small import examples

LENGTH = 1.5 * HOUR


class Lived:
    """One day: its last report, and what the bus held at its end."""

    def __init__(self, policy: str, journal: Path) -> None:
        self.journal = journal
        self.advice: list[NodeAdvice] = []
        self.offers: list[Headroom] = []
        self.profiles: dict[str, ServiceProfile] = {}
        self.versions: set[str] = set()  # ever told
        chosen = POLICIES[policy]
        settings = [*day_settings(nodes=3, seed=1, length=LENGTH), *lean_settings(), *chosen.settings]
        with journal.open("wb") as out:
            world = Simulation(
                [*settings, f"virtual.examples={examples()}"], seed=1, rooms=chosen.rooms, journal=out, validate=True
            )
            self.report = simulate(self._live(world))

    async def _live(self, world: Simulation) -> DayReport:
        clock = loop_clock(asyncio.get_running_loop(), epoch=world.virtual.start - LEAD)
        async with world.running(clock) as bus, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch(bus, channel)) for channel in (ADVICE, HEADROOM, PROFILES)]
            report = await self._end(bus)
            for task in tasks:
                task.cancel()
        return report

    async def _end(self, bus: Bus) -> DayReport:
        async with bus.watch(DAY_REPORT.only()) as reports:
            async for item in reports:
                if isinstance(item, Received) and item.message.over:
                    return item.message
        raise AssertionError("the day did not end")

    async def _watch(self, bus: Bus, channel: Channel[Any]) -> None:
        async with bus.watch(channel.only()) as items:
            async for item in items:
                match item.message if isinstance(item, Received) else None:
                    case NodeAdvice() as advice:
                        self.advice.append(advice)
                    case Headroom() as offer:
                        self.offers.append(offer)
                    case ServiceProfile() as profile:
                        self.profiles[profile.key] = profile
                        self.versions.add(profile.version)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planner")


@cache
def lived(policy: str, folder: Path) -> Lived:
    return Lived(policy, folder / f"{policy}.jsonl")


@pytest.fixture(scope="module")
def planned(folder: Path) -> Lived:
    return lived("neap+planner", folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Lived:
    return lived("neap", folder)


def why(day: Lived, pod: str) -> str:
    """The real command."""
    command = [sys.executable, "-m", "neap.console", "why", "pod", pod, "--journal", str(day.journal)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, cwd=day.journal.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pods(day: Lived, source: str, what: str) -> dict[str, str]:
    """The sentences of one kind of act, by pod."""
    lines = (json.loads(line) for line in day.journal.read_text().splitlines())
    acts = (line["message"] for line in lines if "about" in line["message"])
    told = (act for act in acts if (act["source"], act["what"]) == (source, what))
    return {f"{act['about']['namespace']}/{act['about']['name']}": act["why"] for act in told}


def test_day_one_is_not_blind(planned: Lived) -> None:
    services = {key: profile for key, profile in planned.profiles.items() if "/Deployment/" in key}
    assert services
    for key, profile in services.items():
        assert len(profile.portrait["cpu"]) == len(profile.swing["cpu"]) == 24, key
    assert min(profile.at for profile in services.values()) <= planned.report.day_start + HOUR


def test_why_pod_shows_the_version_the_scheduler_placed_it_by(planned: Lived) -> None:
    placed = {pod: said for pod, said in pods(planned, "scheduler", "placed").items() if "profile" in said}
    assert placed, "owners are placed by what their service is known to use"
    pod, said = next(iter(placed.items()))
    version = next(version for version in planned.versions if version in said)
    assert version in why(planned, pod)


def test_the_advisor_says_by_which_versions_it_holds_back_less(planned: Lived) -> None:
    reasons = [pool.reason for advice in planned.advice for pool in advice.pools if "by profiles" in pool.reason]
    sums = [
        offer.arithmetic[RECLAIMED_CPU] for offer in planned.offers if "by profiles" in offer.arithmetic[RECLAIMED_CPU]
    ]
    assert reasons
    assert sums
    for said in (*reasons, *sums):
        assert any(version in said for version in planned.versions), said
    guests = {pod: said for pod, said in pods(planned, "advisor", "advised").items() if "by profiles" in said}
    assert guests, "a guest is told by what its place was measured"
    assert "by profiles" in why(planned, next(iter(guests)))


def test_more_is_lent_and_no_owner_pays(planned: Lived, plain: Lived) -> None:
    used = {day: day.report.core_seconds[QosClass.RECLAIMED] for day in (planned, plain)}
    assert used[planned] > used[plain]
    assert planned.report.violation_minutes <= plain.report.violation_minutes


def test_without_a_planner_nothing_is_told_and_nothing_is_cited(plain: Lived) -> None:
    assert plain.profiles == {}
    assert not any("profile" in pool.reason for advice in plain.advice for pool in advice.pools)
