"""Row 5: reporter, advisor and enforcer on a real bus; an owner's load steps up, and the guests make room."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import ADVICE, CHANNELS, NODE_USAGE, PLACEMENTS, STREAMS
from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.model.advice import NodeAdvice
from neap.common.model.placement import Placed, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, RECLAIMED_CPU
from neap.common.model.workload import Container, Workload
from neap.common.testing.natsd import NatsServer
from tests.lab.inside.kernel import allowed
from tests.lab.inside.pods import PYTHON, Dial, Kubelet, Pod

CALM_CPUS = 4  # of the guests: six are lent, the calm owner needs two
CALM, BUSY = 0.2, 0.9  # of each of the owner's CPUs
OWNER_TASKS, GUESTS, GUEST_TASKS = 2, 2, 2
PERIOD = 1.0
PERIODS = 2
PSI_TARGET = 10.0  # percent of the time an owner may wait for a CPU: the advisor's stall_target
ROOMS = ("reporter", "advisor", "enforcer")
SERVER = "/neap/nats-server"
SETTLED = 90.0
WATCHED = 20.0  # seconds: two windows of avg10
START = f"from neap.common.runtime.main import main; main(*{ROOMS})"


@asynccontextmanager
async def rooms(url: str, journal: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The three rooms in one process, as an agent has them."""
    words = {
        "process.nats_url": url,
        "process.log_level": "warning",
        "process.health_port": "-1",
        "enforcer.journal_dir": str(journal),
    }
    words |= {f"{room}.node": "lab" for room in ROOMS} | {f"{room}.period": str(PERIOD) for room in ROOMS}
    sets = [part for key, value in words.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen([PYTHON, "-c", START, *sets], stdin=subprocess.DEVNULL)  # noqa: ASYNC220  started while nothing else runs
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, 30)
        finally:
            process.kill()


def placed(pod: Pod, qos: QosClass, kind: str, milli: int) -> Placed:
    """A ledger entry."""
    container = Container(name="main", requests={kind: milli})
    workload = Workload(uid=pod.uid, namespace="lab", name=pod.uid, qos=qos, containers=(container,))
    placement = Placement(workload=workload, charged={kind: milli})
    return Placed(at=time.time(), source="lab", node="lab", placement=placement, reason="the lab puts it here")


class Ear:
    """What the rooms say: when reports were made, the newest one, and all advice."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.reports: list[float] = []
        self.advice: list[NodeAdvice] = []

    async def hear_usage(self) -> None:
        async with self._bus.subscribe(NODE_USAGE.only()) as items:
            async for item in items:
                if isinstance(item, Received):
                    self.reports.append(item.message.at)

    async def hear_advice(self) -> None:
        async with self._bus.watch(ADVICE.only(node="lab")) as items:
            async for item in items:
                if isinstance(item, Received):
                    self.advice.append(item.message)

    def first_lending(self, most: int, after: float) -> NodeAdvice | None:
        """The first advice after a moment that lends no more CPUs than that."""
        later = (advice for advice in self.advice if advice.at > after)
        return next((advice for advice in later if len(lent_by(advice)) <= most), None)


def lent_by(advice: NodeAdvice) -> frozenset[int]:
    """The guests' CPUs."""
    return frozenset().union(*(parse_cpuset(pool.cpus) for pool in advice.pools if pool.name == "reclaimed"))


async def until(asked: Any, what: str, within: float = SETTLED) -> None:
    """As wait.until, without holding up the bus."""
    end = time.monotonic() + within
    while not asked():
        assert time.monotonic() < end, f"not within {within:.0f} s: {what}"
        await asyncio.sleep(0.02)


def test_guests_make_room_within_two_periods_when_an_owners_load_rises(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    asyncio.run(step(kubelet, journal, figures))


async def step(kubelet: Kubelet, journal: Path, figures: dict[str, Any]) -> None:
    dial = Dial(2)
    dial.turn(0, CALM)
    dial.turn(1, 1.0)
    owner = kubelet.pod("owner-1", "burstable")
    guests = [kubelet.pod(f"guest-{n}", "besteffort") for n in range(GUESTS)]
    for task in range(OWNER_TASKS):
        owner.start(f"task{task}", "spin", dial.path, "0")
    async with NatsServer(binary=SERVER) as server:
        bus = await connect(server.url, name="lab", within=20)
        await bus.ensure(STREAMS, CHANNELS)
        entries = [placed(owner, QosClass.SHARED, CPU, 1000 * OWNER_TASKS)]
        entries += [placed(guest, QosClass.RECLAIMED, RECLAIMED_CPU, 1000) for guest in guests]
        for number, entry in enumerate(entries):
            seen = await bus.append(PLACEMENTS.at(node="lab"), entry, seen=number, id=f"lab-{number}")
            assert seen.seq == number + 1  # type: ignore[union-attr]
        ear = Ear(bus)
        hearing = [asyncio.ensure_future(ear.hear_usage()), asyncio.ensure_future(ear.hear_advice())]
        async with rooms(server.url, journal) as agent:
            try:
                await until(lambda: ear.reports or agent.poll() is not None, "the first report", within=120)
                assert agent.poll() is None, f"the rooms ended with {agent.returncode}"
                for guest in guests:
                    for task in range(GUEST_TASKS):
                        guest.start(f"task{task}", "spin", dial.path, "1")
                await measure(owner, guests, dial, ear, agent, figures)
            finally:
                print(ear.advice[-1:])  # noqa: T201  told with a failure
        for listener in hearing:
            listener.cancel()
        await bus.close()


async def measure(
    owner: Pod, guests: list[Pod], dial: Dial, ear: Ear, agent: subprocess.Popen[bytes], figures: dict[str, Any]
) -> None:
    tasks = [pid for guest in guests for pid in guest.cgroup.processes()]
    lent = lambda: frozenset().union(*(allowed(pid) for pid in tasks))  # noqa: E731
    await until(lambda: len(lent()) == CALM_CPUS or agent.poll() is not None, "guests have what the calm owner leaves")
    await until(lambda: owner.cgroup.stall("cpu")["avg10"] < PSI_TARGET, "the owner is calm")
    before, began, start = lent(), time.time(), time.monotonic()
    dial.turn(0, BUSY)
    await until(lambda: len(lent()) < len(before), "guests' CPUs shrink", within=30)
    took, after = time.monotonic() - start, lent()
    await until(lambda: ear.first_lending(len(after), began), "the advice that did it is heard")
    advice = ear.first_lending(len(after), began)
    assert advice is not None
    periods = sum(began < at <= advice.at for at in ear.reports)
    worst, end = 0.0, time.monotonic() + WATCHED
    while time.monotonic() < end:
        worst = max(worst, owner.cgroup.stall("cpu")["avg10"])
        await asyncio.sleep(0.1)
    await until(lambda: owner.cgroup.stall("cpu")["avg10"] < PSI_TARGET, "the owner's PSI is back under target")
    figures.update(
        guests_before=format_cpuset(before), guests_after=format_cpuset(after),
        owner_cpus=format_cpuset(owner.cgroup.cpus()), period=PERIOD, decided_by_report=periods,
        decided_after_seconds=round(advice.at - began, 2), kernel_shows_it_after_seconds=round(took, 2),
        of_that_emulation_after_the_decision=round(took - (advice.at - began), 2),
        owner_psi_worst=worst, owner_psi_after=owner.cgroup.stall("cpu")["avg10"], psi_target=PSI_TARGET,
    )  # fmt: skip
    assert periods <= PERIODS, f"it took {periods} reports to decide"
    assert not lent() & owner.cgroup.cpus(), "guests run where the owner does"
