"""Well-formed messages that cannot be true: what one of them says is bounded, and the next true one counts again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import LostRace
from neap.common.contract.catalogue import CHANNELS, EVICTIONS, PLACEMENTS, STREAMS, TOPOLOGY
from neap.common.cpuset import LARGEST_CPU
from neap.common.errors import InputError
from neap.common.host.memory import MemoryHost
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Submitted
from neap.common.model.qos import KubeQos
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.usage import Stall
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.machine import Append, Arrived, Decide, Done, Event, Failed, Instruction, Synced, Tick
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside, Service, consume
from neap.common.telemetry.span import NoTracer
from neap.scheduler.core.flow.machine import FIRST, SchedulerMachine
from neap.scheduler.core.nodes.load import USED
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.settings import Settings
from neap.virtual.kubelet import StartPod, StopPod
from neap.virtual.parts import Day
from neap.virtual.pod import VirtualContainer, VirtualPod
from neap.virtual.wiring import Hardware
from neap.virtual.world import VirtualWorld
from tests.conftest import SOON
from tests.contract.test_bus import eviction
from tests.unit.evictor_world import World as Evicting
from tests.unit.evictor_world import a_guest, shows
from tests.unit.scheduler_world import a_card, a_node, a_usage, an_owner, policies
from tests.unit.test_enforcer_machine import World as Enforcing
from tests.unit.test_enforcer_machine import advice, for_pod

LATER = 1e12
BEYOND = 17 * 10**307


# -- the evictor -----------------------------------------------------------------------------------------------------


def test_a_report_from_the_future_does_not_deafen_the_evictor() -> None:
    world = Evicting(a_guest("new"))
    world.report(100.0)
    world.report(LATER, late=101.0 - LATER)
    assert world.report(102.0, shows("new"), memory_available=0) != [], "the next report counts"


def test_an_offer_from_the_future_does_not_outlive_the_next_one() -> None:
    world = Evicting(a_guest("new"))
    world.live(Arrived(99.0, Headroom(at=LATER, source="x", node="n1", offer={RECLAIMED_CPU: 10**9}, arithmetic={})))
    assert [command.uid for command in world.oversold(1.0, 100, 104)] == ["new"]


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_available": -1},
        {"memory_stall": Stall(full10=1e308)},
        {"memory_stall": Stall(full10=-1.0)},
    ],
)
def test_what_no_machine_measures_is_no_pressure(fields: dict[str, Any]) -> None:
    world = Evicting(a_guest("new"))
    assert [at for at in range(100, 110) if world.report(float(at), shows("new"), **fields)] == []


@pytest.mark.parametrize("offer", [-BEYOND, -1, BEYOND])
def test_an_offer_no_node_has_is_read_as_all_or_nothing(offer: int) -> None:
    world = Evicting(a_guest("new"))
    for at in range(100, 110):
        world.live(
            Arrived(float(at), Headroom(at=at, source="x", node="n1", offer={RECLAIMED_CPU: offer}, arithmetic={}))
        )
        world.report(float(at))
    assert bool(world.commands) == (offer < 0)


# -- the enforcer ----------------------------------------------------------------------------------------------------


def test_advice_from_the_future_does_not_outdo_the_next_one() -> None:
    world = Enforcing().hear(advice(1, for_pod("g-1", cpu_weight=2)))
    world.live(Arrived(2.0, advice(9, for_pod("g-1", cpu_weight=9), at=LATER)))
    world.live(Arrived(3.0, advice(3, for_pod("g-1", cpu_weight=3))))
    assert world.host.read("/sys/fs/cgroup/kubepods/besteffort/podg-1/cpu.weight").strip() == "3"
    assert world.counted["neap_enforcer_advice_refused_total"] == 1


def test_clocks_that_differ_a_little_are_no_future() -> None:
    world = Enforcing().hear(advice(1, for_pod("g-1", cpu_weight=2)), at=0.5)
    assert world.host.read("/sys/fs/cgroup/kubepods/besteffort/podg-1/cpu.weight").strip() == "2"


# -- the scheduler ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpu", [-1.0, LARGEST_CPU + 1.0, 1e308])
def test_a_load_no_machine_has_is_not_believed(cpu: float) -> None:
    table = NodeTable()
    table.describe(a_node("n1"))
    table.measure(a_usage("n1", at=1.0, cpu=2.0), 1.0)
    table.measure(a_usage("n1", at=2.0, cpu=cpu), 2.0)
    assert table.columns[USED[0]][table.row("n1")] == 2000.0
    assert np.isfinite(table.columns[USED[0]]).all()


def test_a_card_larger_than_any_is_still_a_cell() -> None:
    table = NodeTable()
    node = a_node("n1")
    cards = (a_card(0, memory=BEYOND),)
    table.describe(type(node)(**{name: getattr(node, name) for name in node.__struct_fields__} | {"cards": cards}))
    assert table.cards.rooms(table.row("n1"))[0].memory_free_mib > 0


class Scheduling:
    """One machine with one node, ready, and a workload whose append is under way."""

    def __init__(self) -> None:
        self.machine = SchedulerMachine(Settings(), policies())
        for channel in FIRST:
            if channel is TOPOLOGY:
                self.tell(Arrived(0.0, a_node("n1")))
            self.tell(Synced(0.0, channel))
        submitted = Submitted(at=0.0, source="t", workload=an_owner())
        [self.append] = self.tell(Arrived(0.0, submitted, "neap.v1.workload.shop.u1", 1))

    def tell(self, *events: Event) -> list[Append]:
        told: list[Instruction] = []
        for event in events:
            told += self.machine.handle(event)
            self.machine.validate()
        return [each for each in told if isinstance(each, Append)]


def test_a_race_lost_to_an_entry_nobody_could_read_goes_on_behind_it_at_once() -> None:
    world = Scheduling()
    world.tell(Synced(0.1, PLACEMENTS, 7))  # the reader says how far it read, past what it could not read
    [again] = world.tell(Done(0.2, world.append, LostRace(0, 7)))
    assert (again.seen, again.entry.node) == (7, "n1")


def test_a_race_lost_to_an_entry_not_yet_heard_waits_until_it_was_heard_or_passed() -> None:
    world = Scheduling()
    assert world.tell(Done(0.1, world.append, LostRace(0, 7)), Tick(0.2, "cycle")) == []
    assert world.tell(Synced(0.3, PLACEMENTS, 6), Tick(0.4, "cycle")) == []
    [again] = world.tell(Synced(0.5, PLACEMENTS, 7), Tick(0.6, "cycle"))
    assert again.seen == 7


def test_a_race_lost_to_nobody_knows_what_waits_as_before() -> None:
    world = Scheduling()
    assert world.tell(Done(0.1, world.append, LostRace(0)), Synced(0.2, PLACEMENTS, 9), Tick(0.3, "cycle")) == []


# -- the driver, and the virtual nodes -------------------------------------------------------------------------------


class Telling:
    """Tells of every command something no subject can carry."""

    def __init__(self) -> None:
        self.failed: asyncio.Queue[Failed] = asyncio.Queue()

    def handle(self, event: Event) -> Sequence[Instruction]:
        if isinstance(event, Failed):
            self.failed.put_nowait(event)
        if isinstance(event, Arrived):
            about = ObjectRef(namespace="No Such", name="x", uid="u")
            return [Decide(TrailEntry(at=0.0, source="s", id="i", about=about, what="seen", why="so"))]
        return []

    def validate(self) -> None:
        pass


async def test_what_no_subject_can_carry_is_told_to_the_machine_counted_and_not_tried_for_ever() -> None:
    broker, counted = MemoryBroker(), list[tuple[str, dict[str, str]]]()
    bus = broker.bus("probe")
    await bus.ensure(STREAMS, CHANNELS)
    machine, stop = Telling(), asyncio.Event()
    service = Service("probe", "n1", machine=machine, routes=(consume(EVICTIONS.only(), durable="probe"),))
    outside = Outside(bus=bus, clock=wall_clock(), host=MemoryHost(), tracer=NoTracer())
    running = Running(service, outside, count=lambda metric, _, labels: counted.append((metric, labels)))
    task = asyncio.ensure_future(running.run(stop))
    await bus.emit(EVICTIONS.at(node="n1"), eviction("u"), id="one")
    async with asyncio.timeout(SOON):
        told = await machine.failed.get()
    assert "not usable in a subject: 'No Such'" in told.error
    assert not told.may_retry
    assert ("neap_effects_failed_total", {"effect": "Decide"}) in counted
    async with asyncio.timeout(SOON):  # what is tried again stays
        while broker.logs["NEAP_EVICTIONS"].entries:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(task, SOON)


async def test_a_placement_on_no_virtual_node_is_refused_with_its_name() -> None:
    day = Day(name="empty", start=0.0, length=1.0, submissions=())
    world = VirtualWorld(hosts={}, day=day, shapes=(), curves={})
    hardware = Hardware("", world, wall_clock())
    pod = VirtualPod(uid="u", qos=KubeQos.BURSTABLE, containers=(VirtualContainer(id="c"),))
    with pytest.raises(InputError, match="ghost is no virtual node"):
        await hardware.start(StartPod("ghost", 1, pod))
    await hardware.stop(StopPod("ghost", "u"))
