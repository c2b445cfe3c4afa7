"""Row 5: reporter, advisor and enforcer on a real bus; an owner's load steps up, and the guests make room."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from neap.common.cpuset import format_cpuset
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, RECLAIMED_CPU
from tests.lab.inside.kernel import allowed
from tests.lab.inside.pods import Dial, Kubelet, Pod
from tests.lab.inside.rooms import Agent, an_agent, placed

CALM_CPUS = 4  # of the guests: six are lent, the calm owner needs two
CALM, BUSY = 0.2, 0.9  # of each of the owner's CPUs
GUEST = 0.4  # of each guest task's: where they may run is asked, and the emulating host has to keep up
OWNER_TASKS, GUESTS, GUEST_TASKS = 2, 2, 2
PERIOD = 1.0
PERIODS = 2
PSI_TARGET = 10.0  # percent of the time an owner may wait for a CPU: the advisor's stall_target
WATCHED = 20.0  # seconds: two windows of avg10


def test_guests_make_room_within_two_periods_when_an_owners_load_rises(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    asyncio.run(step(kubelet, journal, figures))


async def step(kubelet: Kubelet, journal: Path, figures: dict[str, Any]) -> None:
    dial = Dial(2)
    dial.turn(0, CALM)
    dial.turn(1, GUEST)
    owner = kubelet.pod("owner-1", "burstable")
    guests = [kubelet.pod(f"guest-{n}", "besteffort") for n in range(GUESTS)]
    for task in range(OWNER_TASKS):
        owner.start(f"task{task}", "spin", dial.path, "0")
    ledger = [placed(owner, QosClass.SHARED, {CPU: 1000 * OWNER_TASKS})]
    ledger += [placed(guest, QosClass.RECLAIMED, {RECLAIMED_CPU: 1000}) for guest in guests]
    async with an_agent(ledger, journal, PERIOD) as agent:
        for guest in guests:
            for task in range(GUEST_TASKS):
                guest.start(f"task{task}", "spin", dial.path, "1")
        await measure(owner, guests, dial, agent, figures)


async def measure(owner: Pod, guests: list[Pod], dial: Dial, agent: Agent, figures: dict[str, Any]) -> None:
    tasks = [pid for guest in guests for pid in guest.cgroup.processes()]
    lent = lambda: frozenset().union(*(allowed(pid) for pid in tasks))  # noqa: E731
    await agent.until(lambda: len(lent()) == CALM_CPUS, "guests have what the calm owner leaves")
    await agent.until(lambda: owner.cgroup.stall("cpu")["avg10"] < PSI_TARGET, "the owner is calm")
    before, began, start = lent(), time.time(), time.monotonic()
    dial.turn(0, BUSY)
    await agent.until(lambda: len(lent()) < len(before), "guests' CPUs shrink", within=30)
    took, after = time.monotonic() - start, lent()
    await agent.until(lambda: agent.first_lending(len(after), began), "the advice that did it is heard")
    advice = agent.first_lending(len(after), began)
    assert advice is not None
    periods = sum(began < at <= advice.at for at in agent.reports)
    worst, end = 0.0, time.monotonic() + WATCHED
    while time.monotonic() < end:
        worst = max(worst, owner.cgroup.stall("cpu")["avg10"])
        await asyncio.sleep(0.1)
    await agent.until(lambda: owner.cgroup.stall("cpu")["avg10"] < PSI_TARGET, "the owner's PSI is back under target")
    figures.update(
        guests_before=format_cpuset(before), guests_after=format_cpuset(after),
        owner_cpus=format_cpuset(owner.cgroup.cpus()), period=PERIOD, decided_by_report=periods,
        decided_after_seconds=round(advice.at - began, 2), kernel_shows_it_after_seconds=round(took, 2),
        of_that_emulation_after_the_decision=round(took - (advice.at - began), 2),
        owner_psi_worst=worst, owner_psi_after=owner.cgroup.stall("cpu")["avg10"], psi_target=PSI_TARGET,
    )  # fmt: skip
    assert periods <= PERIODS, f"it took {periods} reports to decide"
    assert not lent() & owner.cgroup.cpus(), "guests run where the owner does"
