"""Row 6 with the rooms: what guests may hold is decided by the advisor from reports, and the kernel holds them to it.

The guests read and write files until the machine's free memory would be used up, then one allocates more than all of
them may have together. Their own limits are put out of the way (a tolerance of ten times the request), so that the
limit of their class, the advisor's memory_guard, is what stops them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from tests.lab.inside.kernel import Cgroup, node_event
from tests.lab.inside.pods import Kubelet, Pod
from tests.lab.inside.rooms import Agent, an_agent, placed

MIB = 1 << 20
PERIOD = 1.0
WORK, WORK_MIB, REST = Path("/mnt/work"), 40, "0.5"  # what the owner reads again and again
OWNER_MIB, OWNER_REQUEST = 100, 256 * MIB
ARCHIVE, ARCHIVE_MIB = Path("/mnt/records"), 1900  # sparse: more than guests may hold
LOG, LOG_MIB = Path("/mnt/log"), 120
GUEST_REQUEST = 200 * MIB
BEYOND_MIB = 32  # what the allocating guest wants beyond what all guests may hold; memory.max lies 64 MiB beyond
GUARD = "memory of all guests up to"  # how memory_guard begins
SLACK = 48 * MIB  # above memory.high, which slows down and does not stop; and stocks of the counters, 2 MiB a cgroup
FILLED = 0.7  # of what guests may hold: they have met the limit or the reaper by then
SETTLING = (
    PERIOD  # seconds a lowered memory.high has: it is there at once, and the kernel takes back while it is written
)
LEAST_AVAILABLE = 0.05  # of the machine's memory, at any moment: what the advisor keeps in reserve at the least
OWNER_MOVES = 0.05  # of what the owner holds
OWNER_STALLS = 0.01  # of the time: PSI memory some
WATCHED = 10.0  # seconds


@dataclass
class Node:
    """What the kernel says while guests are at work: the extremes of all looks."""

    owner: Cgroup
    guests: Cgroup  # their class
    held: int = 0  # by the owner, before the guests came
    looks: int = 0
    moved: int = 0
    over: int = -(1 << 60)  # guests above the highest memory.high of the last SETTLING seconds
    most: int = 0  # by the guests
    available: int = 1 << 60
    free: int = 1 << 60
    highs: list[int] = field(default_factory=list)  # memory.high as it was changed
    _recent: deque[tuple[float, int]] = field(default_factory=deque)  # when looked, and memory.high then

    def look(self) -> int:
        """What guests hold."""
        before, current, after = self.high(), self.guests.number("memory.current"), self.high()
        now, table, self.looks = time.monotonic(), meminfo(), self.looks + 1
        self._recent.append((now, after))
        while self._recent[0][0] < now - SETTLING:
            self._recent.popleft()
        self.moved = max(self.moved, abs(self.owner.number("memory.current") - self.held))
        self.over = max(self.over, current - max(before, *(high for _, high in self._recent)))
        self.most = max(self.most, current)
        self.available = min(self.available, table["MemAvailable"])
        self.free = min(self.free, table["MemFree"])
        if after not in self.highs[-1:]:
            self.highs.append(after)
        return current

    def high(self) -> int:
        said = self.guests.read("memory.high")
        return 1 << 60 if said == "max" else int(said)

    async def watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            await asyncio.sleep(0.05)


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {name.rstrip(":"): int(value) * 1024 for name, value, *_ in lines}


def test_the_advisors_limit_holds_guests_that_take_all_memory_and_the_owner_notices_nothing(
    kubelet: Kubelet, journal: Path, figures: dict[str, Any]
) -> None:
    for file, mebibytes in ((WORK, WORK_MIB), (ARCHIVE, ARCHIVE_MIB)):
        file.touch()
        os.truncate(file, mebibytes * MIB)
    try:
        asyncio.run(greed(kubelet, journal, figures))
    finally:
        for path in (WORK, ARCHIVE, LOG):
            path.unlink(missing_ok=True)  # and their page cache goes with the guests


async def greed(kubelet: Kubelet, journal: Path, figures: dict[str, Any]) -> None:
    owner = kubelet.pod("owner-1", "burstable")
    files, hog = (kubelet.pod(uid, "besteffort") for uid in ("guest-files", "guest-hog"))
    owner.start("main", "hold", str(OWNER_MIB), "again")
    owner.start("reader", "read", str(WORK), str(WORK_MIB), REST)
    ledger = [placed(owner, QosClass.SHARED, {CPU: 2000, MEMORY: OWNER_REQUEST})]
    asked = {RECLAIMED_CPU: 1000, RECLAIMED_MEMORY: GUEST_REQUEST}
    ledger += [placed(guest, QosClass.RECLAIMED, asked) for guest in (files, hog)]
    node, kills = Node(owner.cgroup, kubelet.class_cgroup("besteffort")), node_event("oom_kill")
    async with an_agent(ledger, journal, PERIOD, advisor__memory_tolerance="10") as agent:
        assert "memory_recursiveprot" in Path("/proc/mounts").read_text(), (
            "what protects a pod would not its containers"
        )
        await agent.until(lambda: node.high() < 1 << 60, "the guests have a limit")
        working = lambda: owner.cgroup.number("memory.current") - owner.cgroup.table("memory.stat")["inactive_file"]  # noqa: E731
        await agent.until(
            lambda: owner.cgroup.number("memory.low") >= working(), "the owner's working set is protected"
        )
        await measure(owner, files, hog, node, agent, figures)
    figures["oom_kills"] = node_event("oom_kill") - kills
    for cgroup in (kubelet.root, owner.cgroup, hog.cgroup, files.cgroup):
        assert cgroup.table("memory.events")["oom_kill"] == 0, f"somebody in {cgroup.path} was killed"
    assert node_event("oom_kill") == kills, "somebody was killed"


async def measure(owner: Pod, files: Pod, hog: Pod, node: Node, agent: Agent, figures: dict[str, Any]) -> None:
    node.held = owner.cgroup.number("memory.current")
    start, stalled = time.monotonic(), owner.cgroup.stall("memory")["total"]
    cached = await fill(files, node, agent)
    limit, ended = await allocate(hog, node, agent)
    stall = (owner.cgroup.stall("memory")["total"] - stalled) / 1e6
    share = stall / (time.monotonic() - start)
    await agent.until(lambda: node.high() in limits(agent), "the limit that holds is one of the advisor's")
    reasons = "; ".join(pool.reason for pool in agent.advice[-1].pools).split("; ")
    total, events = meminfo()["MemTotal"], node.guests.table("memory.events")
    figures.update(
        machine_mib=total >> 20, guests_request_mib=2 * GUEST_REQUEST >> 20, guests_cache_mib=cached >> 20,
        memory_high_mib=limit >> 20, memory_high_first_to_last_mib=[high >> 20 for high in node.highs][:12],
        guests_most_mib=node.most >> 20, guests_over_high_mib=round(node.over / MIB, 1), slack_mib=SLACK >> 20,
        guests_allocated_mib=ended >> 20, high_events=events["high"],
        guests_stalled_s=round(node.guests.stall("memory")["total"] / 1e6, 1),
        least_available_mib=node.available >> 20, least_available_share=round(node.available / total, 3),
        least_free_mib=node.free >> 20, owner_mib=node.held >> 20, owner_moved_kib=node.moved >> 10,
        owner_protected_mib=owner.cgroup.number("memory.low") >> 20, owner_stalled_ms=round(stall * 1000, 2),
        owner_stalled_share=round(share, 5), looks=node.looks,
        advisor=[reason for reason in reasons if "memory" in reason or "cache" in reason],
    )  # fmt: skip
    assert any(GUARD in reason for reason in reasons), f"memory_guard does not say that it is its limit: {reasons}"
    assert events["high"] > 0, "the limit never acted"
    assert node.over <= SLACK, f"guests held {node.over >> 20} MiB more than memory.high"
    assert node.available >= LEAST_AVAILABLE * total, f"only {node.available >> 20} MiB were available"
    assert node.moved <= OWNER_MOVES * node.held, f"the owner's {node.held >> 20} MiB moved by {node.moved >> 10} KiB"
    assert share <= OWNER_STALLS, f"the owner waited for memory for {share:.1%} of the time"


def limits(agent: Agent) -> set[int | None]:
    """Every memory.high of the guests' class that was advised."""
    cgroups = (cgroup for advice in agent.advice for cgroup in advice.cgroups)
    return {cgroup.knobs.memory_high for cgroup in cgroups if cgroup.target == "class/besteffort"}


async def fill(files: Pod, node: Node, agent: Agent) -> int:
    """The page cache grows as far as it is let; the most of it."""
    files.start("reader", "read", str(ARCHIVE), str(ARCHIVE_MIB))
    files.start("writer", "write", str(LOG), str(LOG_MIB))
    await agent.until(lambda: node.look() >= FILLED * node.high(), "guests have filled the page cache")
    await node.watch(WATCHED)
    return node.most


async def allocate(hog: Pod, node: Node, agent: Agent) -> tuple[int, int]:
    """One guest wants more than all may have; memory.high at that time, and what it got."""
    most = node.high()
    task = hog.start("main", "hold", str(most // MIB + BEYOND_MIB), "again", ready=False)
    anonymous = lambda: node.look() and hog.cgroup.table("memory.stat")["anon"]  # noqa: E731
    await agent.until(lambda: anonymous() >= most - SLACK - 2 * LOG_MIB * MIB, "the guest has taken what there is")
    await node.watch(WATCHED)
    assert task.poll() is None, "the guest was to be slowed down, not killed"
    return node.high(), hog.cgroup.table("memory.stat")["anon"]
