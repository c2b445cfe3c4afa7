"""Service profiles end to end: requirements 1.5 and our cases MB-1 .. MB-5, pod by pod through the real cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from neap.common.contract.catalogue import PROFILES
from neap.common.model.placement import Placement
from neap.common.model.profile import (
    DISK_IO,
    KINDS,
    MEMORY_BANDWIDTH,
    NETWORK,
    POWER,
    MachineType,
    MachineTypes,
    Observation,
    ProfiledKind,
    Scope,
    ServiceProfile,
    Window,
    class_key,
)
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.model.topology import NodeTopology
from neap.common.runtime.machine import Arrived, Gone
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.demand import demands_of, profiled
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import profile_rating
from neap.scheduler.settings import Settings
from tests.unit.numa_world import ALONE, BIND, a_machine, a_pod, a_table, policies
from tests.unit.scheduler_world import World, an_owner

MACHINES = {
    name: MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed})
    for name, speed in {"M1": 1000.0, "M2": 2000.0, "M3": 4000.0}.items()
}
M1 = {"neap.io/machine-type": "M1"}


def a_profile(
    key: str = "shop/Deployment/w", version: str = "1", **amounts: Mapping[str, float] | float
) -> ServiceProfile:
    """By kind (mb, power, ...): what is used, per core where the kind is, by machine type (or on M1)."""
    names = {"mb": MEMORY_BANDWIDTH, "power": POWER, "disk": DISK_IO, "net": NETWORK}
    seen = [
        Observation(kind=names.get(kind, kind), machine=machine, windows=(Window(start=0, containers={"c": amount}),))
        for kind, by_machine in amounts.items()
        for machine, amount in (by_machine if isinstance(by_machine, Mapping) else {"M1": by_machine}).items()
    ]
    return ServiceProfile(at=0, source="planner", key=key, version=version, observations=tuple(seen))


def a_node(name: str, limits: list[int], **more: Any) -> NodeTopology:
    kinds = {MEMORY_BANDWIDTH: limits}
    return a_machine(name, *[(16, 64)] * len(limits), kinds=kinds, **({"labels": M1} | more))


class Town:
    """Nodes and a cycle; a pod of one core uses what its profile says."""

    def __init__(self, *nodes: NodeTopology, **settings: Any) -> None:
        self.table = a_table(*nodes)
        rating = profile_rating.Settings(**settings)
        self.cycle = Cycle(self.table, policies("fit", "numa", "profile_rating", profile_rating=rating))
        self.count = 0

    def place(self, amount: float, only: str = "", *, zones: int = 0, **more: Any) -> Decision:
        """A pod that uses so much memory bandwidth; `only`: on this node."""
        self.count += 1
        for name in self.table.names if only else ():
            self.table.set_ready(name, name == only)
        workload = a_pod(f"u{self.count}", (1, 1), **({"qos": QosClass.SHARED} | more))
        pod = pod_of(workload)
        demands = demands_of(a_profile(mb=amount), pod, KINDS, MACHINES)
        decision = self.cycle.decide(profiled(pod, demands, zones, "shop/Deployment/w version 1"))
        for name in self.table.names:
            self.table.set_ready(name, True)
        return decision

    def fill(self, node: str, *amounts: int) -> None:
        """Somebody uses so much bandwidth of each NUMA node, and no CPU."""
        for number, amount in enumerate(amounts):
            workload = an_owner(f"{node}.{number}", cores=0, gib=0)
            placement = Placement(workload=workload, charged={MEMORY_BANDWIDTH: amount}, numa=(number,))
            self.table.charge(node, placement, 0.0)

    def left(self, node: str) -> list[float]:
        """Per NUMA node."""
        row, columns = self.table.rows[node], self.table.columns
        count = int(columns["zones/count"][row])
        limit, charged = (columns[f"zone/{what}/{MEMORY_BANDWIDTH}"][row, :count] for what in ("limit", "charged"))
        return list((limit - charged).tolist())


def numa_of(decision: Decision) -> tuple[int, ...]:
    assert decision.placement is not None, decision.rejected
    return decision.placement.numa


def a_and_b(large: tuple[int, int] = (2400, 2400), fourth: tuple[int, int] = (500, 1200), limit: int = 2000) -> Town:
    """Three larges and a fourth pod on each, one by one."""
    town = Town(a_node("A", [limit] * 4), a_node("B", [limit] * 4))
    for name, big, small in zip("AB", large, fourth, strict=True):
        for step in range(3):
            assert numa_of(town.place(big, name)) == (step,)
        assert numa_of(town.place(small, name)) == (3,)
    return town


def test_004_21_to_23_the_base_case_pod_by_pod() -> None:
    town = a_and_b()
    assert town.left("A") == [-400, -400, -400, 1500]
    assert town.left("B") == [-400, -400, -400, 800]
    small = town.place(500)
    assert (small.node, numa_of(small)) == ("A", (3,))
    assert town.left("A")[3] == 1000
    assert "most-left NUMA: A=1500 B=800" in small.why
    assert f"profile shop/Deployment/w version 1 predicts 500 bytes/s {MEMORY_BANDWIDTH} on NUMA 3" in small.why
    assert small.placement is not None
    assert small.placement.charged[MEMORY_BANDWIDTH] == 500


def test_004_24_the_discriminating_case() -> None:
    town = a_and_b((4200, 3400), (700, 1900), 3200)
    assert (sum(town.left("A")), sum(town.left("B"))) == (-500, 700), "a sum over NUMA nodes would send it to B"
    small = town.place(1500)
    assert (small.node, numa_of(small), town.left("A")[3]) == ("A", (3,), 1000)
    assert "most-left NUMA: A=2500 B=1300" in small.why


def test_004_27_spread_or_pack() -> None:
    town = a_and_b()
    town.cycle = Cycle(
        town.table, policies("fit", "profile_rating", profile_rating=profile_rating.Settings(owners="pack"))
    )
    small = town.place(500)
    assert (small.node, numa_of(small), town.left("B")[3]) == ("B", (3,), 300)


def test_004_28_an_empty_node_is_kept_for_larges_if_that_is_wished() -> None:
    for keep, node in ((False, "C"), (True, "A")):
        town = Town(a_node("A", [2000, 2000]), a_node("C", [2000, 2000]), keep_empty=keep)
        town.place(500, "A")
        town.place(2400, "A")
        assert town.place(500).node == node


def test_004_29_the_order_of_arrival_leaves_the_same() -> None:
    town = Town(a_node("A", [2000] * 4))
    for amount in (500, 2400, 2400, 2400):
        town.place(amount, "A")
    assert sorted(town.left("A")) == [-400, -400, -400, 1500]


def test_004_19_and_30_a_pod_that_may_span_is_divided_evenly() -> None:
    town = Town(a_node("A", [2000, 2000]))
    town.fill("A", 0, 600)
    assert town.place(3000, zones=2).node == "", "1400 − 1500 < 0"
    wide = Town(a_node("A", [2000, 2000]))
    assert numa_of(wide.place(2400, asks={"neap.io/numa-nodes": "2"})) == (0, 1)
    assert wide.left("A") == [800, 800]


def test_004_13b_mixed_generations_are_rated_after_placement() -> None:
    old = a_node("m1", [1000], labels={"neap.io/machine-type": "M1"})
    new = a_node("m3", [4000], labels={"neap.io/machine-type": "M3"})
    town = Town(old, new)
    town.place(300, "m1")
    town.place(2900 / 4, "m3")
    assert (town.left("m1"), town.left("m3")) == ([700], [1100])
    pod = pod_of(an_owner("w", cores=1))
    demands = demands_of(a_profile(mb={"M2": 360}), pod, KINDS, MACHINES)
    decision = town.cycle.decide(profiled(pod, demands))
    assert decision.node == "m1"
    assert town.left("m1") == [520]


def test_004_01_an_unknown_machine_type_is_taken_at_ratio_1_and_said() -> None:
    town = Town(a_node("dark", [1000], labels={}))
    decision = town.place(400)
    assert decision.placement is not None
    assert decision.placement.charged[MEMORY_BANDWIDTH] == 400
    assert any("machine type unknown, ratio 1" in why for why in decision.why)


def test_004_12_a_node_without_a_limit_is_named_and_rated_0() -> None:
    town = Town(a_node("A", [1000]), a_machine("dark", (16, 64), labels=M1))
    decision = town.place(400)
    assert decision.node == "A"
    assert "most-left NUMA: A=1000; unknown: dark" in decision.why
    dark = town.place(700)
    assert (dark.node, numa_of(dark)) == ("dark", ())
    assert f"limit of {MEMORY_BANDWIDTH} unknown" in dark.why


def test_mb_1_packing_keeps_a_whole_numa_node_for_a_medium() -> None:
    town = Town(
        *(a_machine(n, *[(16, 64)] * 8, packages=2, kinds={MEMORY_BANDWIDTH: [1000] * 8}, labels=M1) for n in "AB"),
        owners="pack",
    )
    for name in "AB":
        for step in range(3):
            assert numa_of(town.place(1600, name, zones=2)) == (2 * step, 2 * step + 1)
    town.place(300, "A")
    town.place(750, "B")
    assert (sum(town.left("A")), sum(town.left("B"))) == (2900, 2450)
    small = town.place(300)
    assert (small.node, numa_of(small)) == ("A", (6,))
    assert town.left("A") == [200] * 6 + [400, 1000]
    assert [town.place(750).node for _ in range(3)].count("") == 1, "two more mediums find a NUMA node"


def test_mb_2_a_node_whose_sum_would_do_is_refused() -> None:
    town = Town(a_node("X", [1000] * 8), a_node("Y", [1000] * 8))
    town.fill("X", *[700] * 8)
    town.fill("Y", 0, 800, *[1000] * 6)
    medium = town.place(750)
    assert medium.node == "Y"
    assert [(v.plugin, v.nodes) for v in medium.rejected] == [("profile_rating", 1)]


def test_mb_3_and_mb_5_what_is_predicted() -> None:
    def charged(machine: str, cores: int, **amounts: Any) -> int:
        table = a_table(a_node("n", [100_000], labels={"neap.io/machine-type": machine}))
        pod = pod_of(an_owner("w", cores=cores))
        decision = Cycle(table, policies()).decide(
            profiled(pod, demands_of(a_profile(**amounts), pod, KINDS, MACHINES))
        )
        assert decision.placement is not None
        return decision.placement.charged[MEMORY_BANDWIDTH]

    assert [charged(machine, 8, mb=80 / 8) for machine in ("M1", "M2", "M3")] == [80, 160, 320]
    assert charged("M1", 8, mb={"M3": 40}) == 80
    assert charged("M1", 8, mb={"M3": 40, "M1": 7}) == 56, "what was seen on the type itself wins"
    windows = (Window(start=0, containers={"a": 10, "b": 10}), Window(start=3600, containers={"a": 20, "b": 20}))
    seen = Observation(kind=MEMORY_BANDWIDTH, machine="M1", windows=windows)
    parity = ServiceProfile(at=0, source="planner", key="k", version="1", observations=(seen,))
    pod = pod_of(an_owner("w", cores=10))
    (demand,) = demands_of(parity, pod, KINDS, MACHINES)
    assert demand.elsewhere == 400


DUMMY = ProfiledKind(name="example.com/glue", unit="drops", per_core=False, scope=Scope.NODE)


@pytest.mark.parametrize("kind", [POWER, DISK_IO, NETWORK, DUMMY.name])
def test_004_42_any_kind_is_served_from_data(kind: str) -> None:
    kinds = {**KINDS, DUMMY.name: DUMMY}
    table = NodeTable(kinds=kinds)
    table.describe(a_machine("n", (16, 64), whole={kind: 400_000}))
    cycle = Cycle(table, policies())

    def decide(uid: str, amount: float) -> Decision:
        pod = pod_of(an_owner(uid, cores=1))
        return cycle.decide(profiled(pod, demands_of(a_profile(**{kind: amount}), pod, kinds, {})))

    refused = decide("a", 420_000)
    assert [v.reason for v in refused.rejected] == [f"{kind}: 420000 {kinds[kind].unit} predicted"]
    placed = decide("b", 300_000)
    assert placed.placement is not None
    assert (placed.placement.numa, placed.placement.charged[kind]) == ((), 300_000)
    assert decide("c", 100_001).node == ""
    table.discharge("n", "b")
    assert decide("c", 100_001).node == "n"


def test_a_bound_pod_gets_one_numa_node_for_all_it_needs() -> None:
    town = Town(a_node("A", [300, 1000, 2000]))
    town.place(900, "A", qos=QosClass.DEDICATED, asks=BIND)
    assert numa_of(town.place(800, qos=QosClass.DEDICATED, asks=BIND)) == (1,), "most bandwidth left: 2 has 1100"


def test_a_numa_node_that_somebody_has_alone_serves_no_profile() -> None:
    town = Town(a_node("A", [1000, 1000]))
    alone = town.place(100, asks=ALONE, qos=QosClass.DEDICATED)
    assert numa_of(alone) == (0,)
    assert alone.placement is not None
    assert (alone.placement.charged[CPU], alone.placement.charged[MEMORY_BANDWIDTH]) == (16_000, 100)
    assert numa_of(town.place(100)) == (1,)
    assert town.place(950).node == ""


def test_cpu_memory_and_profile_must_fit_on_the_same_numa_node() -> None:
    town = Town(a_machine("A", (4, 8), (4, 8), kinds={MEMORY_BANDWIDTH: [2000, 2000]}, labels=M1))
    town.fill("A", 1500)
    assert numa_of(town.place(100, asks=BIND, qos=QosClass.DEDICATED)) == (1,)
    pod = pod_of(a_pod("p", (4, 1), qos=QosClass.SHARED))
    refused = town.cycle.decide(profiled(pod, demands_of(a_profile(mb=150), pod, KINDS, MACHINES)))
    assert [v.reason for v in refused.rejected] == [f"{MEMORY_BANDWIDTH}, cpu, memory on the same 1 NUMA node"]


# -- as the scheduler hears them -------------------------------------------------------------------------------------


def a_world(*nodes: NodeTopology, **settings: Any) -> World:
    speeds = {name: machine.speeds for name, machine in MACHINES.items()}
    return World(*nodes, settings=Settings(machines=speeds, **settings), names=NAMES)


NAMES = ("fit", "numa", "profile_rating")


def charged(world: World, uid: str) -> int:
    return next(held[uid].charged.get(MEMORY_BANDWIDTH, 0) for held in world.streams.held.values() if uid in held)


def test_a_profile_that_was_heard_places_charges_and_names_its_version() -> None:
    world = a_world(a_node("A", [1000]))
    world.tell(Arrived(0.0, a_profile(version="7", mb=300)))
    world.submit(an_owner("u1", cores=2, owner="Deployment/w"), an_owner("u2", cores=1))
    assert (charged(world, "u1"), charged(world, "u2")) == (600, 0)
    assert world.streams.held["A"]["u1"].numa == (0,)
    assert "profile shop/Deployment/w version 7 predicts 600 bytes/s" in world.why("u1.1.placed")


def test_a_waiting_pod_is_looked_at_again_when_its_profile_changes() -> None:
    world = a_world(a_node("A", [1000]))
    world.tell(Arrived(0.0, a_profile(mb=300)))
    world.submit(*(an_owner(f"u{i}", cores=2, owner="Deployment/w") for i in range(3)))
    assert sorted(world.streams.held["A"]) == ["u0"]
    world.tell(Arrived(1.0, a_profile(version="2", mb=100)))
    world.pass_time(1)
    assert sorted(world.streams.held["A"]) == ["u0", "u1", "u2"]
    assert (charged(world, "u0"), charged(world, "u1")) == (600, 200), "what is placed stays charged as it was"
    world.submit(an_owner("u3", cores=2, owner="Deployment/w"))
    world.tell(Gone(2.0, PROFILES, PROFILES.at(namespace="shop", kind="Deployment", name="w").subject))
    world.pass_time(1)
    assert charged(world, "u3") == 0, "without a profile nothing is charged beside what it asks for"


def test_profiles_are_bounded() -> None:
    world = a_world(a_node("A", [1000]), profiles=2)
    for name in "abc":
        world.tell(Arrived(0.0, a_profile(f"shop/Deployment/{name}", mb=10)))
    world.submit(*(an_owner(name, owner=f"Deployment/{name}") for name in "abc"))
    assert [charged(world, name) for name in "abc"] == [0, 10, 10]
    assert world.streams.held["A"]["a"].charged[CPU] == 1000


def test_a_kind_from_the_settings_has_its_limit_per_numa_node() -> None:
    glue = ProfiledKind(name="example.com/glue", unit="drops", scope=Scope.NUMA)
    node = a_machine("A", (16, 64), (16, 64), kinds={glue.name: [10, 30]}, labels=M1)
    world = a_world(node, kinds={glue.name: glue})
    world.tell(Arrived(0.0, a_profile(**{glue.name: 20})))
    world.submit(*(an_owner(f"u{i}", cores=1, owner="Deployment/w") for i in range(2)))
    assert world.streams.held["A"]["u0"].numa == (1,)
    assert world.node_of("u1") == "", "10 and 10 are left, 20 are predicted"
    assert "example.com/glue: 20 drops predicted on 1 NUMA node" in world.why("u1.1.waiting")


def test_a_service_nobody_measured_is_charged_what_its_class_uses_and_it_is_said() -> None:
    world = a_world(a_node("A", [1000]))
    of_class = class_key(QosClass.SHARED)
    world.tell(Arrived(0.0, a_profile(of_class, version="c1", mb=50)))
    world.submit(an_owner("new", cores=2, owner="Deployment/new"))
    assert charged(world, "new") == 100
    assert f"profile none, that of its class {of_class} version c1 predicts 100 bytes/s" in world.why("new.1.placed")
    world.tell(Arrived(1.0, a_profile("shop/Deployment/new", version="1", mb=300)))
    world.submit(an_owner("later", cores=1, owner="Deployment/new"))
    assert charged(world, "later") == 300, "its own, once there is one"


def test_a_profile_with_nothing_but_a_baseline_leaves_the_class_in_place() -> None:
    world = a_world(a_node("A", [1000]))
    world.tell(Arrived(0.0, a_profile(class_key(QosClass.SHARED), mb=50)))
    world.tell(Arrived(0.0, ServiceProfile(at=0, source="gateway", key="shop/Deployment/w", version="g1")))
    world.submit(an_owner("u1", cores=2, owner="Deployment/w"))
    assert charged(world, "u1") == 100


def test_a_waiting_pod_is_looked_at_again_when_its_class_changes() -> None:
    world = a_world(a_node("A", [1000]))
    world.tell(Arrived(0.0, a_profile(class_key(QosClass.SHARED), mb=300)))
    world.submit(*(an_owner(f"u{i}", cores=2, owner="Deployment/w") for i in range(2)))
    assert sorted(world.streams.held["A"]) == ["u0"]
    world.tell(Arrived(1.0, a_profile(class_key(QosClass.SHARED), version="2", mb=100)))
    world.pass_time(1)
    assert sorted(world.streams.held["A"]) == ["u0", "u1"]


def test_the_table_of_machine_types_that_the_planner_tells_takes_the_place_of_the_settings() -> None:
    world = a_world(a_node("A", [1000], labels={"neap.io/machine-type": "M4"}))
    world.tell(Arrived(0.0, a_profile(mb=100)))
    world.submit(an_owner("before", cores=1, owner="Deployment/w"))
    assert charged(world, "before") == 100, "a type that is in no table is ratio 1"
    row = MachineType(name="M4", speeds={MEMORY_BANDWIDTH: 3000.0})
    world.tell(Arrived(1.0, MachineTypes(at=1.0, source="planner", types=(MACHINES["M1"], row))))
    world.submit(an_owner("after", cores=1, owner="Deployment/w"))
    assert charged(world, "after") == 300


def test_a_decision_by_a_portrait_alone_names_the_version_of_the_profile() -> None:
    world = a_world(a_node("A", [1000]))
    hours = {CPU: (500.0,) * 24}
    told = ServiceProfile(at=0, source="planner", key="shop/Deployment/w", version="3f2a", portrait=hours)
    world.tell(Arrived(0.0, told))
    world.submit(an_owner("u1", owner="Deployment/w"), an_owner("u2", owner="Deployment/other"))
    assert "its use is expected by the portrait of profile shop/Deployment/w version 3f2a" in world.why("u1.1.placed")
    assert "profile" not in world.why("u2.1.placed")
    assert charged(world, "u1") == 0
