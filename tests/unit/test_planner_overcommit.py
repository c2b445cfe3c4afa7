"""The desk of over-commitment: what is set, what is foreseen, what runs, and who suffers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from neap.common.contract.catalogue import APART, NODES, PLACEMENTS, POLICY, RATIOS, TOPOLOGY, WORKLOAD
from neap.common.model.apart import Apart, Pair
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.policy import Edition, PolicyDocument, Tier
from neap.common.model.qos import QosClass
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage, Pressure, PressureKind
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Delete, Event, Gone, Instruction, Put, Synced, Tick
from neap.common.units import GIB, HOUR, MIB
from neap.foresight.peaks import nsigma, ranges
from neap.foresight.series import Series
from neap.planner.core.cluster import Cluster
from neap.planner.core.machine import PlannerMachine
from neap.planner.core.overcommitting.desk import OvercommitDesk
from neap.planner.core.overcommitting.recent import Recent
from neap.planner.core.record import STEP
from neap.planner.core.wishes import Wishes
from neap.planner.settings import Settings
from neap.planner.wiring import tunable
from tests.unit.scheduler_world import a_node, an_owner

CHANNELS = (POLICY, WORKLOAD, PLACEMENTS, TOPOLOGY, NODES, RATIOS)


class Remembered:
    """A record of plain values: what nodes used, by (node, resource)."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], Series] = {}

    def node(self, node: str, resource: str, how: str = "avg") -> Series | None:
        del how
        return self.nodes.get((node, resource))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the desk asked for {name}")


class World:
    """A planner with this desk alone, on node n9 of 32 cores and 128 GiB in the pool web."""

    def __init__(self, **ratios: float) -> None:
        self.at = 1_000_000 * STEP
        self.record, wishes, cluster = Remembered(), Wishes(tunable(), Settings()), Cluster()
        self.desk = OvercommitDesk(wishes, cluster, self.record, {"ranges": ranges.PLUGIN, "nsigma": nsigma.PLUGIN})
        self.machine = PlannerMachine(wishes, cluster, {"overcommitting": self.desk}, CHANNELS)
        self.said: list[Instruction] = []
        self.running: dict[str, float] = {}  # cores in use, by uid
        self.tell(Arrived(self.at, a_node("n9", cores=32, gib=128)))
        self.register(ratios)
        self.tell(*(Synced(self.at, channel) for channel in CHANNELS))

    def tell(self, *events: Event) -> None:
        for event in events:
            self.said += self.machine.handle(event)
            self.machine.validate()

    def register(self, ratios: dict[str, float], **more: Any) -> None:
        labels = {"neap.io/pool": "web"}
        node = NodeObject(at=self.at, source="gateway", node="n9", labels=labels, ratios=ratios, **more)
        self.tell(Arrived(self.at, node))

    def policy(self, tier: str = "pool=web", **patch: Any) -> None:
        scope, _, selector = tier.partition("=")
        patch = {f"overcommit.{key}": value for key, value in patch.items()}
        edition = Edition(version=1, at=self.at, tier=Tier(scope), selector=selector, patch=patch)
        document = PolicyDocument(at=self.at, source="console", room="planner", name="sale", editions=(edition,))
        self.tell(Arrived(self.at, document, POLICY.at(room="planner", name="sale").subject))

    def place(self, *workloads: Workload, used: float = 0.0) -> None:
        for workload in workloads:
            placement = Placement(workload=workload, charged=workload.requests)
            entry = Placed(at=self.at, source="scheduler", node="n9", placement=placement, reason="")
            self.tell(Arrived(self.at, entry))
            self.running[workload.uid] = used

    def report(self, **more: Any) -> None:
        containers = tuple(
            ContainerUsage(uid=uid, container=uid, cgroup=uid, cpu=cpu, working_set=GIB)
            for uid, cpu in self.running.items()
        )
        told: dict[str, Any] = {"at": self.at, "node": "n9", "seq": 1, "period": 60.0, "containers": containers} | more
        self.tell(Arrived(self.at, NodeUsage(source="reporter", **told)))

    def live(self, hours: float, *, wobble: float = 0.0) -> None:
        """Reports every minute, a tick every five."""
        steady = dict(self.running)
        for minute in range(int(hours * 60)):
            self.at += 60.0
            self.running = {uid: cpu * (1 + wobble * (-1) ** (minute // 5)) for uid, cpu in steady.items()}
            self.report()
            if minute % 5 == 4:
                self.tell(Tick(self.at, "overcommitting"))
        self.running = steady

    @property
    def ratios(self) -> NodeRatios | None:
        """What was said last."""
        last = next((s for s in reversed(self.said) if isinstance(s, Put | Delete) and s.key.channel == RATIOS), None)
        return last.value if isinstance(last, Put) else None

    def kind(self, kind: str = CPU) -> KindRatio:
        assert self.ratios is not None
        return next(one for one in self.ratios.kinds if one.resource == kind)

    def counted(self) -> list[Count]:
        return [said for said in self.said if isinstance(said, Count)]


def pods(count: int, cores: float) -> Sequence[Workload]:
    return [an_owner(f"p{number}", cores=cores) for number in range(count)]


def test_a_node_of_which_nobody_names_a_ratio_costs_nothing() -> None:
    world = World()
    world.place(*pods(4, 5), used=2)
    world.live(3)
    assert world.ratios is None
    assert world.desk._recent.of("n9", ["p0"], CPU).shape == (1, 120)
    assert np.isnan(world.desk._recent.of("n9", ["p0"], CPU)).all()


def test_nothing_is_said_before_two_hours_are_known_and_then_with_the_arithmetic() -> None:
    world = World(cpu=2.0)
    world.place(*pods(6, 5), used=2)
    world.live(1.9)
    assert world.ratios is None, "what is set stays in force"
    world.live(0.4)
    found = world.kind()
    assert found.foreseen == pytest.approx(0.75 * 30 / 12, rel=0.01), "peak 12 of 30 asked, 75 % of the room"
    assert (found.ratio, found.set, found.peak, found.requested) == (1.85, 2.0, 12_000, 30_000)
    assert found.arithmetic == (
        "1.85 = min(2.00 set, 1.88 foreseen); 30.0 of 32.0 cores asked, peak 12.0 (ranges 0.8, 2 h)"
    )


def test_the_lowest_word_counts_whoever_says_it() -> None:
    world = World(cpu=1.8)
    world.place(*pods(6, 5), used=2)
    world.live(2.5)
    assert world.kind().ratio == 1.8
    world.policy(cpu=1.4)
    world.live(0.1)
    assert (world.kind().set, world.kind().ratio) == (1.4, 1.4)
    world.register({})
    world.live(0.1)
    assert world.kind().ratio == 1.4, "without a word of the node's object the policy's counts"
    world.tell(Gone(world.at, POLICY, POLICY.at(room="planner", name="sale").subject))
    world.live(0.1)
    assert isinstance(world.said[-1], Delete), "nobody names one any more"


def test_below_what_runs_it_never_goes() -> None:
    world = World(cpu=2.0)
    world.place(*pods(9, 5), used=4)
    world.live(2.5)
    found = world.kind()
    assert found.foreseen == 1.0, "36 of 32 cores in use"
    assert found.ratio == 1.41, "45 / 32, rounded up"
    assert "not below what runs: 45.0 of 32.0 asked" in found.arithmetic
    world.tell(Arrived(world.at, Released(at=world.at, source="scheduler", node="n9", uid="p0", reason="")))
    del world.running["p0"]
    world.live(0.2)
    assert world.kind().ratio == 1.25


def test_guests_and_owners_of_cpus_are_no_part_of_the_room() -> None:
    world = World(cpu=2.0)
    world.place(*pods(4, 5), used=2)
    world.place(an_owner("own", cores=8, qos=QosClass.DEDICATED), used=8)
    world.place(an_owner("guest", cores=0, qos=QosClass.RECLAIMED), used=10)
    world.live(2.5)
    found = world.kind()
    assert (found.peak, found.requested) == (8_000, 28_000)
    assert found.foreseen == pytest.approx((20 + (24 * 0.75 - 8) / 0.4) / 24, rel=0.01)
    assert "24.0 cores (8.0 owned)" in found.arithmetic


def test_it_falls_at_once_and_rises_slowly() -> None:
    world = World(cpu=1.8)
    world.place(*pods(6, 5), used=2)
    world.live(2.5)
    assert world.kind().ratio == 1.8
    world.running = dict.fromkeys(world.running, 3.2)
    world.live(0.2)
    fallen = world.kind().ratio
    assert fallen < 1.3
    world.running = dict.fromkeys(world.running, 2.0)
    world.live(11)
    ratios = [s.value.kinds[0].ratio for s in world.said if isinstance(s, Put) and s.key.channel == RATIOS]
    risen = ratios[ratios.index(fallen) :]
    assert risen[-1] > fallen
    assert max(b - a for a, b in pairwise(risen)) == pytest.approx(0.05)


def test_what_trembles_is_not_said_again_and_again() -> None:
    world = World(cpu=3.0)
    world.place(*pods(6, 5), used=2)
    world.live(12)
    before = len(world.said)
    world.live(5, wobble=0.03)
    assert len(world.said) - before <= 7, "once an hour, and a step or two"


def test_a_static_node_sells_what_is_set() -> None:
    world = World(cpu=1.5)
    world.policy(mode="static")
    world.place(*pods(6, 5), used=5)
    world.live(0.1)
    assert world.kind().ratio == 1.5
    world.policy(mode="off")
    world.live(0.1)
    assert world.ratios is None


def test_an_owner_that_suffers_stops_the_sale_until_the_pair_ends() -> None:
    world = World(cpu=1.8)
    world.place(*pods(4, 5), used=2)
    world.live(2.5)
    until = world.at + HOUR
    pair = Pair(owner="shop/cart", guest="batch/etl", until=until, why="CPI 2.1 over 1.4 for 3 samples")
    world.tell(Arrived(world.at, Apart(at=world.at, source="advisor", node="n9", pairs=(pair,))))
    world.live(0.1)
    assert (world.kind().ratio, world.ratios and world.ratios.lowered[:30]) == (1.0, "batch/etl slows shop/cart down")
    assert "held down by the interference watch" in world.kind().arithmetic
    assert world.ratios is not None
    assert " UTC" in world.ratios.lowered
    world.live(1.5)
    assert world.ratios.lowered == ""
    assert 1.0 < world.kind().ratio < 1.2, "and rises slowly"
    world.tell(Gone(world.at, APART, APART.at(node="n9").subject))


def test_one_spike_of_pressure_changes_nothing_and_one_that_lasts_does() -> None:
    world = World(cpu=1.8)
    world.place(*pods(4, 5), used=2)
    world.live(2.5)
    press(world, risen=True)
    world.at += 30
    press(world, risen=False)
    world.live(0.2)
    assert world.kind().ratio == 1.8
    press(world, risen=True)
    world.live(0.2)
    assert world.kind().ratio == 1.0
    assert world.ratios is not None
    assert "cpu is short, some10 0.7 over 0.5, and still is" in world.ratios.lowered
    press(world, risen=False)
    world.live(0.4)
    assert world.kind().ratio == 1.0, "half an hour after it"
    world.live(1.3)
    assert world.kind().ratio > 1.0


def press(world: World, *, risen: bool) -> None:
    told = Pressure(
        at=world.at, source="reporter", node="n9", kind=PressureKind.CPU, metric="some10", value=0.7, threshold=0.5,
        risen=risen,
    )  # fmt: skip
    world.tell(Arrived(world.at, told))


def test_the_next_life_goes_on_from_what_was_said_and_from_the_record() -> None:
    world = World(cpu=1.8)
    world.place(*pods(6, 5), used=2)
    was = NodeRatios(at=world.at - HOUR, source="planner", node="n9", kinds=(KindRatio(
        resource=CPU, ratio=1.2, set=1.8, foreseen=1.3, peak=1, requested=1, original=32_000, arithmetic=""),))  # fmt: skip
    world.tell(Arrived(world.at, was))
    world.live(0.2)
    assert world.ratios is None, "it stands on the bus already"
    world.record.nodes["n9", CPU] = Series(world.at - 100 * STEP, STEP, np.full(100, 12.0))
    world.live(0.1)
    assert world.kind().ratio == 1.25, "a step up from 1.20, not at once to 1.80"
    assert "of the node's total" in world.kind().arithmetic


def test_a_pod_that_just_came_is_reckoned_with_what_it_asks_for() -> None:
    world = World(cpu=2.0)
    world.place(*pods(4, 5), used=2)
    world.live(2.5)
    before = world.kind().peak
    world.place(an_owner("new", cores=4), used=0.1)
    world.policy(tier="cluster", margin=0.8)
    world.live(0.1)
    assert world.kind().peak >= before + 4000
    assert "1 new by request" in world.kind().arithmetic


def test_bad_samples_are_counted_and_left_out() -> None:
    world = World(cpu=1.8)
    world.place(*pods(6, 5), used=2)
    world.live(2.5)
    before = world.kind()
    world.running = {"p0": -5.0, "p1": float("nan"), "p2": 1e300, **dict.fromkeys(("p3", "p4", "p5"), 2.0)}
    world.live(0.5)
    assert world.kind().ratio == before.ratio
    assert {count.labels["why"] for count in world.counted() if "overcommit" in count.metric} == {"negative", "beyond"}
    world.report(at=world.at - 10 * HOUR)
    assert world.counted()[-1].labels == {"why": "late"}


def test_a_gap_of_ten_years_is_a_new_beginning() -> None:
    world = World(cpu=1.8)
    world.place(*pods(6, 5), used=2)
    world.live(2.5)
    said = world.ratios
    world.at += 10 * 365 * 24 * HOUR
    world.live(0.2)
    assert world.ratios == said, "nothing is known of now, so nothing new is said"
    world.live(2.2)
    assert world.kind().ratio == 1.8


def test_steps_are_means_of_cores_and_the_highest_of_memory() -> None:
    recent = Recent()
    recent.watch("n", 0.0)
    for at, cpu, memory in ((10.0, 1.0, 5), (20.0, 3.0, 9), (30.0, None, 7), (310.0, 8.0, 1), (1000.0, 4.0, 2)):
        seen = (ContainerUsage(uid="u", container="c", cgroup="c", cpu=cpu, working_set=memory * MIB),)
        recent.hear(NodeUsage(at=at, source="r", node="n", seq=1, period=1.0, containers=seen), at)
    assert recent.of("n", ["u"], CPU)[0, -3:].tolist()[:2] == [2.0, 8.0]
    assert np.isnan(recent.of("n", ["u"], CPU)[0, -1]), "nothing was seen from 600 to 900"
    assert recent.of("n", ["u"], MEMORY)[0, -3] == pytest.approx(9 * MIB, rel=2e-4)
