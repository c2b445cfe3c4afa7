"""The wired service on real virtual hosts: machines from the examples, a naive scheduler, no bus."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

from neap.common.contract.catalogue import DAY_REPORT, PLACEMENTS, WORKLOAD
from neap.common.host.remote import RemoteHost
from neap.common.model.day import DayReport
from neap.common.model.lifecycle import Ended, EndReason, Started, Submitted
from neap.common.model.placement import Placed, Placement
from neap.common.runtime.machine import Arrived, Done, Emit, Event, Put, Stopping, Synced, Tick
from neap.common.units import HOUR
from neap.virtual.settings import Settings
from neap.virtual.wiring import wire_world
from neap.virtual.world import VirtualWorld, make_world
from tests.conftest import SOON

SMALL_DAY = """
length = "2h"
owner = [{ name = "cart", replicas = 2, cpu = "2", memory = "256Mi", curve = "ali2018/5" }]
guest = [{ name = "mine", copies = 3, at = "10m", every = "10m", cpu = "2", memory = "64Mi", duration = "20m" }]
"""


class Stopped:
    """A clock that shows what it is told."""

    speed = 1.0

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    async def sleep_until(self, at: float) -> None:
        self.at = max(self.at, at)


class Naive:
    """Drives the service, places what is submitted on the nodes in turn, and remembers what it heard."""

    def __init__(self, settings: Settings) -> None:
        self.world: VirtualWorld = make_world(settings, Stopped(settings.start))
        self.clock = Stopped(settings.start)
        self.service = wire_world(settings, self.world, self.clock)
        self.inbox: deque[Event] = deque(
            Synced(settings.start, channel) for channel in (WORKLOAD, DAY_REPORT, PLACEMENTS)
        )
        self.ledger: list[Placed] = []
        self.heard: list[Any] = []
        self.report: DayReport | None = None
        self.settings = settings

    def restart(self) -> None:
        """Kill the service and start it again on the same hosts; it reads all histories anew."""
        self.service = wire_world(self.settings, self.world, self.clock)
        at = self.world.hosts["n1"].now
        stored = [
            *((DAY_REPORT, self.report),),
            *((WORKLOAD, m) for m in self.heard),
            *((PLACEMENTS, m) for m in self.ledger),
        ]
        seqs = {PLACEMENTS.pattern: 0, WORKLOAD.pattern: 0, DAY_REPORT.pattern: 0}
        for channel, message in stored:
            seqs[channel.pattern] += 1
            self.inbox.append(Arrived(at, message, seq=seqs[channel.pattern]))
        self.inbox.extend(Synced(at, channel) for channel in (WORKLOAD, DAY_REPORT, PLACEMENTS))

    async def live(self, hours: float, *, since: float = 0.0) -> None:
        for minute in range(int(since * 60) + 1, int(hours * 60) + 1):
            self.inbox.append(Tick(self.settings.start + 60.0 * minute, "advance"))
            await self.settle()

    async def settle(self) -> None:
        while self.inbox:
            event = self.inbox.popleft()
            for act in self.service.machine.handle(event):
                match act:
                    case Emit(message=message):
                        self.hear(message, event.at)
                    case Put(value=DayReport() as value):
                        self.report = value
                    case _ if type(act) in self.service.effects:
                        outcome = await self.service.effects[type(act)](act)
                        if outcome is not None:
                            self.inbox.append(Done(event.at, act, outcome))
            self.service.machine.validate()

    def hear(self, message: Any, at: float) -> None:
        self.heard.append(message)
        self.inbox.append(Arrived(at, message))
        if isinstance(message, Submitted):
            node = sorted(self.world.hosts)[len(self.ledger) % len(self.world.hosts)]
            placement = Placement(workload=message.workload, charged={})
            self.ledger.append(Placed(at=at, source="naive", node=node, placement=placement, reason="in turn"))
            self.inbox.append(Arrived(at, self.ledger[-1], seq=len(self.ledger)))


def a_small_day(folder: Path, **more: Any) -> Naive:
    (folder / "day.toml").write_text(SMALL_DAY)
    return Naive(Settings(nodes=2, file=str(folder / "day.toml"), **more))


async def test_a_hand_made_day_runs_to_its_end_on_real_machines(tmp_path: Path) -> None:
    naive = a_small_day(tmp_path)
    await naive.live(2.0)
    report = naive.report
    assert report is not None
    assert report.over
    assert [m.reason for m in naive.heard if isinstance(m, Ended)] == [EndReason.FINISHED] * 3
    assert abs(report.core_seconds["reclaimed_cores"] - 3 * 2 * HOUR / 3) < 1.0
    assert (report.started, report.finished, report.running["shared_cores"]) == (5, 3, 2)
    assert 230 <= report.service_minutes <= 240
    assert report.capacity_cores == sum(shape.cores for shape in naive.world.shapes)


async def test_a_killed_service_starts_again_what_is_not_over_and_tells_nothing_twice(tmp_path: Path) -> None:
    naive = a_small_day(tmp_path)
    await naive.live(0.4)
    told, before = len(naive.heard), naive.report
    assert before is not None
    naive.restart()
    await naive.live(2.0, since=0.4)
    report = naive.report
    assert report is not None
    assert [type(m) for m in naive.heard[:told]].count(Submitted) == 4
    assert sum(isinstance(m, Submitted) for m in naive.heard) == 5
    assert sum(isinstance(m, Started) for m in naive.heard) == 5
    assert sorted(m.uid for m in naive.heard if isinstance(m, Ended)) == sorted(
        {s.workload.uid for s in naive.world.day.submissions if s.is_guest}
    )
    assert (report.started, report.finished) == (5, 3)
    assert report.service_minutes >= before.service_minutes + 170
    assert report.core_seconds["reclaimed_cores"] > 3 * 2 * HOUR / 3, "a guest's work so far is done again"


async def test_the_same_settings_make_the_same_day_and_the_same_report(tmp_path: Path) -> None:
    reports = []
    for _ in range(2):
        naive = a_small_day(tmp_path)
        await naive.live(0.5)
        reports.append(naive.report)
    assert reports[0] == reports[1]


async def test_the_hosts_are_served_on_the_socket_while_the_service_lives(tmp_path: Path) -> None:
    path = tmp_path / "hosts.sock"
    naive = a_small_day(tmp_path, socket=str(path))
    await naive.settle()
    client = RemoteHost(str(path), "n1", timeout=SOON)
    online = await asyncio.to_thread(client.read, "/sys/devices/system/cpu/online")
    client.close()
    assert online == naive.world.hosts["n1"].read("/sys/devices/system/cpu/online")
    naive.inbox.append(Stopping(naive.settings.start))
    await naive.settle()
    assert not path.exists()
