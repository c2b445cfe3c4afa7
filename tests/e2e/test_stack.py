"""The stack of compose.yaml in real containers: two pods are placed, advised and applied, and everything ends well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from neap.common.bus.nats import NatsBus, connect
from neap.common.bus.port import Received
from neap.common.contract.catalogue import ADVICE, NODE_APPLIED, NODE_USAGE, PLACEMENTS, TRAIL
from neap.common.contract.channel import Pattern
from neap.common.model.advice import Applied, WriteStatus
from neap.common.model.placement import Placed
from neap.common.model.trail import TrailEntry
from neap.common.units import Seconds
from tests.e2e.stack import ROOMS, SERVICES, UNPRIVILEGED, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]  # the first one builds the images

PODS = Path(__file__).with_name("pods.yaml")
SETTLED: Seconds = 90.0  # from submission to the first advice that is true on the host
ACTS = ("submitted", "placed", "started", "advised", "applied")
ACTORS = {"console", "scheduler", "virtual", "advisor", "enforcer"}
FIRST_CPUS = ("cpuset.cpus", "", WriteStatus.WRITTEN)


@asynccontextmanager
async def bus_of(stack: Stack) -> AsyncIterator[NatsBus]:
    bus = await connect(stack.url, name="neap-console")
    try:
        yield bus
    finally:
        await bus.close()


async def stories(bus: NatsBus, *names: str, acts: tuple[str, ...] = ACTS) -> dict[str, dict[str, Any]]:
    """The trail of each pod by act, once every act has been told."""
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    async with asyncio.timeout(SETTLED), bus.follow(TRAIL.only(namespace="e2e")) as items:
        async for item in items:
            if isinstance(item, Received) and item.message.about.name in found:
                found[item.message.about.name].setdefault(item.message.what, item.message)
            if all(set(acts) <= set(story) for story in found.values()):
                return found
    raise AssertionError(f"the trail ended: {found}")


async def first(bus: NatsBus, only: Pattern[Any], wanted: Any) -> Any:
    """The first message heard or stored that is wanted."""
    reading = bus.subscribe(only) if only.channel is NODE_APPLIED else bus.follow(only)
    async with asyncio.timeout(SETTLED), reading as items:
        async for item in items:
            if isinstance(item, Received) and wanted(item.message):
                return item.message
    raise AssertionError(f"{only.subject} ended")


async def shown_as_advised(bus: NatsBus, placed: TrailEntry) -> None:
    """Wait until the host shows the CPUs that the pod's node is advised to give it."""

    async def advised() -> str | None:
        found = await bus.get(ADVICE.at(node=placed.node))
        targets = {cgroup.target: cgroup.knobs.cpus for cgroup in found.message.cgroups} if found else {}
        return targets.get(f"pod/{placed.about.uid}")

    async with asyncio.timeout(SETTLED), bus.subscribe(NODE_USAGE.only(node=placed.node)) as items:
        async for item in items:
            if isinstance(item, Received):
                shown = {container.uid: container.cpuset for container in item.message.containers}
                if shown.get(placed.about.uid) and shown[placed.about.uid] == await advised():
                    return


def gives_cpus_to_new(uid: str) -> Callable[[Applied], bool]:
    """Whether this pod's cgroup got its first cpuset: a cgroup that was just made has none."""
    return lambda applied: any(
        f"pod{uid}" in write.cgroup and (write.knob, write.before, write.status) == FIRST_CPUS
        for write in applied.writes
    )


@pytest.fixture(scope="session")
def submitted(stack: Stack) -> str:
    """What `neap submit` said about the two pods."""
    return stack.neap("submit", "/manifest.yaml", manifest=PODS)


def test_every_room_is_healthy_unprivileged_and_cannot_write_its_image(stack: Stack) -> None:
    containers = stack.containers()
    assert sorted(containers) == sorted(SERVICES)
    for service, container in containers.items():
        assert container["RestartCount"] == 0, service
        assert container["HostConfig"]["CapDrop"] == ["ALL"], service
        assert container["HostConfig"]["ReadonlyRootfs"], service
        uid = stack.inside(service, "stat", "-c", "%u", "/proc/1")
        assert int(uid) == UNPRIVILEGED, service
        left = stack.inside(service, "sh", "-c", "touch /opt/mine 2>&1 || true")
        assert "Read-only file system" in left, service


async def test_pods_are_placed_started_advised_and_applied_and_can_say_why(stack: Stack, submitted: str) -> None:
    assert "submitted e2e/owner (shared_cores)" in submitted
    assert "submitted e2e/guest (reclaimed_cores)" in submitted
    async with bus_of(stack) as bus:
        told = await stories(bus, "owner", "guest")
        for story in told.values():
            assert {entry.source for entry in story.values()} >= ACTORS
            uid, node = story["placed"].about.uid, story["placed"].node
            placed = await first(
                bus,
                PLACEMENTS.only(node=node),
                lambda entry, uid=uid: isinstance(entry, Placed) and entry.placement.workload.uid == uid,
            )
            assert placed.reason == story["placed"].why
            assert story["applied"].node == node
    why = json.loads(await asyncio.to_thread(stack.neap, "why", "pod", "e2e/guest", "-o", "json"))
    order = [act["what"] for act in why]
    assert order[:2] == ["submitted", "placed"]
    assert order.index("started") < order.index("applied") > order.index("advised")
    assert len({act["trace"] for act in why}) == 1


async def test_hosts_that_come_back_empty_get_their_pods_and_knobs_again(stack: Stack, submitted: str) -> None:
    async with bus_of(stack) as bus:
        guest = (await stories(bus, "guest"))["guest"]["placed"].about.uid
        hearing = asyncio.create_task(first(bus, NODE_APPLIED.only(), gives_cpus_to_new(guest)))
        await asyncio.to_thread(stack.engine.docker, "restart", stack.containers()["virtual"]["Id"])
        await hearing
    await asyncio.to_thread(stack.wait_healthy)


async def test_a_stack_that_is_asked_to_stop_ends_cleanly_and_goes_on_where_it_was(
    stack: Stack, submitted: str, tmp_path: Path
) -> None:
    async with bus_of(stack) as bus:
        before = await stories(bus, "owner", "guest")
    stack.compose("stop")
    states = {service: container["State"] for service, container in stack.containers().items()}
    assert {service: state["ExitCode"] for service, state in states.items()} == dict.fromkeys(SERVICES, 0)
    stack.engine.docker("cp", f"{stack.containers()['enforcer']['Id']}:/var/lib/neap", str(tmp_path / "owed"))
    owed = {page.name: json.loads(page.read_text())["originals"] for page in (tmp_path / "owed").iterdir()}
    assert owed == {f"n{number}.restore.json": [] for number in (1, 2, 3, 4)}
    stack.compose("start")
    stack.wait_healthy()
    async with bus_of(stack) as bus:
        after = await stories(bus, "owner", "guest")
        for name, story in after.items():
            assert story["placed"] == before[name]["placed"]
            await shown_as_advised(bus, story["placed"])


def test_the_profile_for_observers_holds(built: Stack) -> None:
    services = built.compose("--profile", "observe", "config", "--services").split()
    assert {"collector", "jaeger", *ROOMS} <= set(services)
