"""The advisor of one node, seen from its wire: what it says to what it hears."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.policy import Policy
from neap.advisor.core.refusing import Complain
from neap.advisor.core.waking import STORED
from neap.advisor.metrics import IGNORED, METRICS, REFUSED, STALE
from neap.advisor.settings import Settings
from neap.advisor.wiring import wire
from neap.common.contract.catalogue import ADVICE, HEADROOM, POLICY
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import CgroupAdvice, Headroom, NodeAdvice
from neap.common.model.placement import Checkpoint, GpuShare, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import Card, NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Event, Failed, Gone, Instruction, Put, Synced, Tick
from neap.common.runtime.plugins import load
from neap.common.runtime.remembering import RememberingMachine
from neap.common.runtime.tuning import TellPolicy
from neap.common.units import GIB
from tests.unit.policy_world import a_policy, an_edition

POLICIES = load("neap.advisor.plugins", Policy)
PERIOD = 60.0
DEDICATED, SHARED, RECLAIMED, SYSTEM = QosClass.DEDICATED, QosClass.SHARED, QosClass.RECLAIMED, QosClass.SYSTEM


def a_topology(cpus: int = 32, system: str = "0-1", usable: str = "", smt: bool = False) -> NodeTopology:
    """Two NUMA nodes, a card on the second, 128 GiB; with SMT, CPUs 2k and 2k + 1 are one core."""
    half = cpus // 2
    return NodeTopology(
        at=0,
        source="reporter",
        node="n",
        machine=Zone(kind=ZoneKind.MACHINE, index=0, cpus=usable or f"0-{cpus - 1}"),
        numa=tuple(NumaNode(index=i, cpus=f"{i * half}-{i * half + half - 1}", memory=64 * GIB) for i in (0, 1)),
        cards=(Card(index=0, uuid="g0", model="T4", memory_mib=15360, numa=1),),
        capacity={MEMORY: 128 * GIB},
        allocatable={MEMORY: 126 * GIB},
        system_cpus=system,
        siblings={cpu: f"{cpu & ~1}-{cpu | 1}" for cpu in range(cpus)} if smt else {},
    )


def a_pod(
    uid: str, qos: QosClass = SHARED, cores: float = 4, pool: str = "", gpu: bool = False, attempt: int = 1
) -> Placement:
    guest = qos is RECLAIMED
    requests = {RECLAIMED_CPU if guest else CPU: int(cores * 1000), RECLAIMED_MEMORY if guest else MEMORY: 4 * GIB}
    workload = Workload(
        uid=uid,
        namespace="shop",
        name=uid,
        qos=qos,
        pool=pool,
        attempt=attempt,
        containers=(Container(name="main", requests=requests),),
    )
    shares = (GpuShare(container="main", card=0, core=50, memory_mib=1000),) if gpu else ()
    return Placement(workload=workload, charged=requests, gpus=shares)


class Node:
    """An advisor and the clock around it."""

    def __init__(
        self,
        *pods: Placement,
        topology: NodeTopology | None = None,
        last: NodeAdvice | None = None,
        at: float = 0.0,
        **tuning: Any,
    ) -> None:
        self.machine = AdvisorMachine(Settings(node="n", period=PERIOD, **tuning), POLICIES)
        self.at, self.advice, self.headroom = at, cast("NodeAdvice", None), cast("Headroom", None)
        self.lines: list[TrailEntry] = []
        self.counts: list[tuple[str, dict[str, str]]] = []
        self.complaints: list[Complain] = []
        self.refused: list[TellPolicy] = []
        self.hear(topology or a_topology())
        self.hear(Checkpoint(at=0, source="s", node="n", placements=pods))
        if last is not None:
            self.hear(last)
        for channel in STORED:
            self.tell(Synced(at, channel))

    def tell(self, event: Event) -> list[Instruction]:
        said = list(self.machine.handle(event))
        self.machine.validate()
        for instruction in said:
            match instruction:
                case Put(value=NodeAdvice() as advice):
                    self.advice = advice
                case Put(value=Headroom() as headroom):
                    self.headroom = headroom
                case Decide(entry=entry):
                    self.lines.append(entry)
                case Count(metric=metric, labels=labels):
                    self.counts.append((metric, labels))
                case TellPolicy(event="policy.refused"):
                    self.refused.append(instruction)
                case Complain():
                    self.complaints.append(instruction)
        return said

    def hear(self, message: Any, subject: str = "") -> list[Instruction]:
        return self.tell(Arrived(self.at, message, subject))

    def report(
        self,
        rounds: int = 1,
        *,
        memory: float = 1,
        stall: float = 0.0,
        other: float = 0.5,
        late: float = 0.0,
        **cores: float | None,
    ) -> list[Instruction]:
        said: list[Instruction] = []
        for _ in range(rounds):
            self.at += PERIOD
            containers = tuple(
                ContainerUsage(
                    uid=uid,
                    container="c",
                    cgroup="c",
                    cpu=cpu,
                    working_set=int(memory * GIB),
                    cpu_stall=Stall(some10=stall),
                )
                for uid, cpu in cores.items()
            )
            used = sum(cpu or 0 for cpu in cores.values()) + other
            free = 126 * GIB - int(memory * GIB) * len(containers)
            said = self.hear(
                NodeUsage(
                    at=self.at - late,
                    source="r",
                    node="n",
                    seq=1,
                    period=PERIOD,
                    cpu=used,
                    memory_available=free,
                    containers=containers,
                )
            )
        return said

    def cpus(self, name: str) -> frozenset[int]:
        return next((parse_cpuset(part.cpus) for part in self.advice.pools if part.name == name), frozenset())

    def why(self, name: str) -> str:
        return next(part.reason for part in self.advice.pools if part.name == name)

    def knobs(self, target: str) -> CgroupAdvice:
        return next(cgroup for cgroup in self.advice.cgroups if cgroup.target == target)


# -- pools -----------------------------------------------------------------------------------------------------------


def test_pools_of_different_business_types_are_disjoint_and_sized_by_their_own_use() -> None:
    node = Node(a_pod("w", pool="web"), a_pod("b", pool="batchlike"))
    node.report(8, w=6.0, b=1.0)
    web, batch = node.cpus("web"), node.cpus("batchlike")
    assert not web & batch
    assert len(web) > 2 * len(batch) > 0
    assert node.knobs("pod/w").knobs.cpus == next(part.cpus for part in node.advice.pools if part.name == "web")


def test_system_cpus_are_only_for_system_pods() -> None:
    node = Node(a_pod("agent", SYSTEM, 1), a_pod("d", DEDICATED, 8), a_pod("s"), a_pod("g", RECLAIMED))
    node.report(3, agent=0.1, d=7.0, s=20.0, g=1.0)
    assert node.cpus("system") == {0, 1}
    assert node.knobs("pod/agent").knobs.cpus == "0-1"
    assert not any(node.cpus(name) & {0, 1} for name in ("dedicated", "share", "reclaimed"))


def test_a_dedicated_pod_gets_its_request_near_its_card_and_keeps_it() -> None:
    node = Node(a_pod("d", DEDICATED, 6, gpu=True), a_pod("s"))
    node.report(s=3.0, d=5.0)
    mine = parse_cpuset(node.knobs("pod/d").knobs.cpus or "")
    assert len(mine) == 6
    assert mine <= set(range(16, 32)), "the card is on the second NUMA node"
    node.hear(Placed(at=node.at, source="s", node="n", placement=a_pod("e", DEDICATED, 10), reason=""))
    node.report(3, s=9.0, d=5.0, e=9.0)
    assert parse_cpuset(node.knobs("pod/d").knobs.cpus or "") == mine


def test_dedicated_pods_do_not_straddle_numa_nodes_while_one_has_room() -> None:
    node = Node(*(a_pod(uid, DEDICATED, 8) for uid in "abc"))
    node.report(a=1.0, b=1.0, c=1.0)
    for uid in "abc":
        assert len({cpu // 16 for cpu in parse_cpuset(node.knobs(f"pod/{uid}").knobs.cpus or "")}) == 1


def test_owners_get_whole_cores_from_all_numa_nodes_alike_and_share_none_with_guests() -> None:
    node = Node(a_pod("s"), a_pod("w", pool="web"), topology=a_topology(smt=True))
    node.report(15, s=4.0, w=3.3)
    for name in ("share", "web"):
        owners = node.cpus(name)
        assert {cpu ^ 1 for cpu in owners} == owners, "half a core"
        first = sum(cpu < 16 for cpu in owners)
        assert abs(2 * first - len(owners)) <= 4


def test_a_pool_gives_back_only_after_some_calm_reports_also_after_a_restart() -> None:
    pods = a_pod("s"), a_pod("t", cores=20)
    node = Node(*pods, grow_step=1.0)
    node.report(15, s=2.0, t=8.0)
    held = len(node.cpus("share"))
    again = Node(pods[0], grow_step=1.0, last=node.advice, at=node.at)
    node.hear(Released(at=node.at, source="s", node="n", uid="t", reason=""))
    for life in (node, again):
        life.report(2, s=2.0)
        assert len(life.cpus("share")) == held
        life.report(3, s=1.9)
        assert len(life.cpus("share")) < held / 2


def test_a_shared_pod_cannot_name_itself_into_a_pool_of_another_class() -> None:
    node = Node(a_pod("s", pool="reclaimed"), a_pod("t", pool="system"))
    node.report(s=1.0, t=1.0)
    assert node.knobs("pod/s").pool == node.knobs("pod/t").pool == "share"


def test_on_a_full_node_guests_overlap_an_owners_pool_and_it_is_said() -> None:
    node = Node(a_pod("s", cores=10), a_pod("g", RECLAIMED))
    node.report(2, s=29.0, g=0.1)
    assert len(node.cpus("share")) == 30
    assert len(node.cpus("reclaimed")) == 2
    assert "behind their owners" in node.why("reclaimed")
    assert "the node is full" in node.why("share")
    assert node.headroom.offer[RECLAIMED_CPU] == 0
    assert "because" in node.headroom.arithmetic[RECLAIMED_CPU]


def test_when_everything_is_dedicated_guests_are_held_still_until_there_is_a_cpu() -> None:
    node = Node(a_pod("d", DEDICATED, 30), a_pod("g", RECLAIMED))
    node.report(d=20.0, g=1.0)
    assert node.cpus("reclaimed") == frozenset()
    assert "not one CPU is left" in node.why("reclaimed")
    assert node.knobs("pod/g").knobs.cpu_max == 0.05
    assert node.knobs("pod/g").knobs.cpus is None
    node.hear(Released(at=node.at, source="s", node="n", uid="d", reason=""))
    assert len(node.cpus("reclaimed")) == 2
    assert node.knobs("pod/g").knobs.cpu_max == 32.0, "no limit any more"


def test_a_dedicated_pod_that_lost_its_cpus_to_hotplug_is_shared_until_they_are_back() -> None:
    node = Node(a_pod("d", DEDICATED, 8), a_pod("e", DEDICATED, 8), topology=a_topology(18))
    node.report(d=4.0, e=4.0)
    assert {node.knobs("pod/d").pool, node.knobs("pod/e").pool} == {"dedicated"}
    node.hear(a_topology(18, usable="0-13"))
    assert node.knobs("pod/d").pool == "dedicated"
    assert node.knobs("pod/e").pool == "share"
    node.hear(a_topology(18))
    assert node.knobs("pod/e").pool == "dedicated"


def test_pressure_grows_a_pool_that_utilisation_would_not() -> None:
    calm, stalled = Node(a_pod("s")), Node(a_pod("s"))
    calm.report(9, s=4.0)
    stalled.report(9, s=4.0, stall=0.5)
    assert len(stalled.cpus("share")) > len(calm.cpus("share"))
    assert "50% of the time waiting for CPU" in stalled.why("share")


def test_guests_shrink_at_once_and_grow_a_tenth_of_the_node_a_round() -> None:
    node = Node(a_pod("s"), a_pod("g", RECLAIMED), promise_margin=10.0)
    node.report(20, s=2.0, g=4.0)
    most = len(node.cpus("reclaimed"))
    node.report(s=12.0, g=4.0)
    least = len(node.cpus("reclaimed"))
    assert most - least > 10
    sizes = []
    for _ in range(30):
        node.report(s=2.0, g=4.0)
        sizes.append(len(node.cpus("reclaimed")))
    assert max(b - a for a, b in pairwise([least, *sizes])) <= 3
    assert sizes[-1] == most


# -- headroom --------------------------------------------------------------------------------------------------------


def test_online_heavy_in_cpu_and_light_in_memory_offers_more_memory_than_cpu() -> None:
    node = Node(a_pod("s", cores=19))
    node.report(20, s=12.0, memory=25)
    assert node.headroom.offer[RECLAIMED_MEMORY] / (128 * GIB) > 2 * node.headroom.offer[RECLAIMED_CPU] / 32_000 > 0


def test_more_is_offered_at_night_than_in_the_evening_though_requests_stay() -> None:
    night, evening = Node(a_pod("s", cores=16)), Node(a_pod("s", cores=16))
    night.report(40, s=3.0)
    evening.report(40, s=14.0)
    gap = night.headroom.offer[RECLAIMED_CPU] - evening.headroom.offer[RECLAIMED_CPU]
    assert gap >= (14.0 - 3.0) * 1000


def test_an_offer_falls_at_once_rises_in_steps_and_is_not_said_for_small_change() -> None:
    node = Node(a_pod("s"), offer_rise=0.10, offer_drop=1.0, publish_change=0.05)
    node.report(22, s=2.0)
    high = node.headroom.offer[RECLAIMED_CPU]
    assert not node.report(s=2.01), "nothing worth saying"
    node.report(s=10.0)
    low = node.headroom.offer[RECLAIMED_CPU]
    assert low < high - 9_000
    node.report(14, s=2.0)  # the peak has just left the window
    assert low < node.headroom.offer[RECLAIMED_CPU] <= low + 14 * 3200
    assert "in steps, to" in node.headroom.arithmetic[RECLAIMED_CPU]


def test_what_runs_beside_the_ledger_is_not_lent() -> None:
    quiet, busy = (Node(a_pod("s"), offer_rise=1.0, publish_change=0.0) for _ in range(2))
    quiet.report(20, s=2.0)
    busy.report(20, s=2.0, other=10.0)
    assert quiet.headroom.offer[RECLAIMED_CPU] - busy.headroom.offer[RECLAIMED_CPU] == pytest.approx(8000, abs=500)


# -- time: stale, expiry, restart ------------------------------------------------------------------------------------


def test_without_usage_the_node_is_advised_by_requests_and_lends_nothing() -> None:
    node = Node(a_pod("s", cores=12), a_pod("g", RECLAIMED))
    node.report(20, s=2.0, g=1.0)
    assert len(node.cpus("share")) < 12
    node.at += 11 * PERIOD
    node.tell(Tick(node.at, "advise"))
    assert "no usage for 11m, more than 10 periods of 1m" in node.advice.stale
    assert len(node.cpus("share")) >= 12
    assert node.headroom.offer == {RECLAIMED_CPU: 0, RECLAIMED_MEMORY: 0}
    assert "no usage" in node.headroom.arithmetic[RECLAIMED_CPU]
    assert (STALE, {}) in node.counts
    node.report(s=2.0, g=1.0)
    assert not node.advice.stale
    assert 0 < node.headroom.offer[RECLAIMED_CPU] <= 1000 * len(node.cpus("reclaimed"))


def test_a_node_that_never_reports_is_advised_by_requests_after_a_while() -> None:
    node = Node(a_pod("s", cores=12))
    assert not node.tell(Tick(5 * PERIOD, "advise")), "the first report may still come"
    node.tell(Tick(11 * PERIOD, "advise"))
    assert node.advice.stale
    assert len(node.cpus("share")) == 13


def test_unchanged_advice_is_renewed_at_half_its_life_only() -> None:
    node = Node(a_pod("s"))
    node.report(12, s=2.0)
    said_at = node.advice.at
    seqs = {node.advice.seq}
    while node.at < said_at + 30 * PERIOD:
        node.report(s=2.0)
        seqs.add(node.advice.seq)
    assert len(seqs) == 3
    assert node.advice.at >= said_at + 30 * PERIOD
    assert node.advice.expires == node.advice.at + 30 * PERIOD


def test_advice_the_bus_did_not_take_or_lost_is_said_again() -> None:
    node = Node(a_pod("s"))
    node.report(12, s=2.0)
    put = Put(ADVICE.at(node="n"), node.advice)
    node.tell(Failed(node.at, put, "no answer", may_retry=True))
    node.tell(Failed(node.at, Put(HEADROOM.at(node="n"), node.headroom), "no answer", may_retry=True))
    assert [type(i.value) for i in node.report(s=2.0) if isinstance(i, Put)] == [NodeAdvice, Headroom]
    for channel, said in ((ADVICE, NodeAdvice), (HEADROOM, Headroom)):
        node.tell(Gone(node.at, channel, "n"))
        assert [type(i.value) for i in node.report(s=2.0) if isinstance(i, Put)] == [said]


def test_reports_twice_out_of_order_or_from_the_future_are_counted_and_ignored() -> None:
    node = Node(a_pod("s"))
    node.report(2, s=2.0)
    for at in (node.at, node.at - 1, node.at + 1e6):
        report = NodeUsage(at=at, source="r", node="n", seq=9, period=PERIOD, cpu=30.0)
        assert node.hear(report) == [Count(IGNORED)]


def test_a_report_that_comes_too_late_is_stale_and_gives_guests_nothing() -> None:
    node = Node(a_pod("s"), a_pod("g", RECLAIMED))
    node.report(6, s=12.0, g=1.0)
    node.report(12, s=2.0, g=1.0)  # guests are getting their CPUs back
    before = len(node.cpus("reclaimed"))
    node.at += 20 * PERIOD
    node.report(late=15 * PERIOD, s=2.0, g=1.0)
    assert node.advice.stale
    assert len(node.cpus("reclaimed")) <= before
    assert node.headroom.offer[RECLAIMED_CPU] == 0


def test_one_absurd_report_is_forgotten_with_the_window() -> None:
    node, sane = Node(a_pod("s")), Node(a_pod("s"))
    node.report(s=1e9)
    node.report(40, s=2.0)
    sane.report(41, s=2.0)
    assert len(node.cpus("share")) == len(sane.cpus("share"))


def test_the_sequence_goes_on_after_a_restart_even_if_the_clock_or_the_bucket_does_not() -> None:
    node = Node(a_pod("s"))
    node.report(30, s=2.0)
    behind, forgotten = Node(a_pod("s"), last=node.advice), Node(a_pod("s"), at=node.at)
    for life in (behind, forgotten):
        life.report(s=2.0)
        assert life.advice.seq > node.advice.seq


@pytest.mark.parametrize("cpu", [None, -1.0, float("nan")])
def test_unknown_or_absurd_usage_counts_as_the_request(cpu: float | None) -> None:
    node = Node(a_pod("s", cores=9))
    node.report(12, s=cpu)
    assert len(node.cpus("share")) == 10


# -- bad input, live policy ------------------------------------------------------------------------------------------


def test_live_policy_applies_per_node_over_the_cluster_and_ends_when_it_is_removed() -> None:
    node = Node(a_pod("s"))
    node.hear(a_policy("all", an_edition({"reclaimed_minimum": 7, "tune": {"provision_canonical.reserve": 3}})))
    node.hear(a_policy("mine", an_edition({"reclaimed_minimum": 5}, "node=n")))
    node.report(s=29.0)
    assert len(node.cpus("reclaimed")) == 5
    node.tell(Gone(node.at, POLICY, "advisor.mine"))
    node.report(s=29.0)
    assert len(node.cpus("reclaimed")) == 7
    assert not node.refused


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"grow_step": 7}, "policy mine v2: grow_step = 7: Expected `float` <= 1.0"),
        ({"grow_stepp": 0.1}, "did you mean 'grow_step'"),
        ({"node": "m"}, "node cannot change while advisor runs"),
        ({"provision": "headroom_canonical"}, "no provision policy"),
        ({"tune": {"provision_canonical.marginn": 1}}, "marginn"),
        ({"tune.provision_canonical.margin": -1}, "margin"),
        ({"peak_reports": "many"}, "peak_reports"),
    ],
)
def test_invalid_policy_is_refused_by_name_and_the_last_good_one_stays(patch: dict[str, Any], says: str) -> None:
    node, good = Node(a_pod("s")), an_edition({"reclaimed_minimum": 5})
    node.hear(a_policy("mine", good))
    node.hear(a_policy("mine", an_edition(patch, version=2), good))
    assert node.counts[-1] == ("neap_policy_refused_total", {"service": "advisor"})
    assert says in node.refused[-1].why
    node.report(s=29.0)
    assert len(node.cpus("reclaimed")) == 5


def test_a_service_gets_a_margin_of_its_own_and_its_neighbours_do_not() -> None:
    sizes = {}
    for margin in (0.0, 1.0):
        node = Node(a_pod("s", pool="one"), a_pod("t", pool="two"))
        node.hear(a_policy("careful", an_edition({"pod_margin": margin}, "service=shop/s")))
        node.report(12, s=4.0, t=4.0)
        assert not node.refused
        sizes[margin] = len(node.cpus("one")), len(node.cpus("two"))
    assert sizes[1.0][0] > sizes[0.0][0]
    assert sizes[1.0][1] == sizes[0.0][1]


def test_a_topology_that_does_not_parse_is_refused_and_the_last_one_stays() -> None:
    node = Node(a_pod("s"))
    node.hear(a_topology(usable="0-3-9"))
    assert node.counts[-1] == (REFUSED, {"channel": "topology"})
    assert "topology of n" in node.complaints[-1].what
    node.report(s=2.0)
    assert node.cpus("share")


# -- knobs and trail -------------------------------------------------------------------------------------------------


def test_guests_inherit_their_pool_and_yield_to_everybody() -> None:
    node = Node(a_pod("s", cores=4), a_pod("d", DEDICATED, 4), a_pod("g", RECLAIMED, 4), a_pod("y", SYSTEM, 1))
    node.report(s=2.0, d=2.0, g=2.0, y=0.1)
    group, guest = node.knobs("class/besteffort").knobs, node.knobs("pod/g").knobs
    assert group.cpus == guest.cpus == next(part.cpus for part in node.advice.pools if part.name == "reclaimed")
    assert group.cpu_idle
    assert group.cpu_weight is None, "the kernel refuses a weight on an idle group"
    assert (guest.memory_max, guest.memory_high) == (int(4.8 * GIB), int(int(4.8 * GIB) * 0.95))
    owner = node.knobs("pod/s").knobs
    assert (owner.cpu_weight, guest.cpu_weight) == (157, 15)
    assert owner.memory_max is owner.cpu_max is None
    scores = [node.knobs(f"pod/{uid}").knobs.oom_score_adj or 0 for uid in "gsdy"]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


def test_without_idle_guests_get_the_least_weight() -> None:
    node = Node(a_pod("s"), idle=False)
    node.report(s=1.0)
    group = node.knobs("class/besteffort").knobs
    assert (group.cpu_idle, group.cpu_weight) == (False, 1)


def test_every_pod_is_told_once_where_it_runs_and_guests_what_is_left() -> None:
    node = Node(a_pod("s"), a_pod("g", RECLAIMED))
    node.report(s=2.0, g=1.0)
    assert [(line.id, line.what) for line in node.lines] == [("g.1.advised", "advised"), ("s.1.advised", "advised")]
    guest, owner = node.lines
    assert guest.why.startswith(f"pool reclaimed {node.knobs('pod/g').knobs.cpus}; ")
    assert " = 32.0 capacity − 2.0 system − " in guest.why
    assert "CPUs for" in owner.why
    assert guest.cause == "g.1.placed"
    assert node.knobs("pod/g").about == guest.about
    assert len(guest.trace) == 32


def test_a_guest_is_told_that_its_pool_shrank_but_not_in_every_round() -> None:
    node = Node(a_pod("s"), a_pod("g", RECLAIMED), squeeze_every=60)
    node.report(60, s=2.0, g=1.0)
    for _ in range(15):
        node.report(s=18.0, g=1.0)
        node.report(12, s=2.0, g=1.0)
    squeezed = [line for line in node.lines if line.what == "squeezed"]
    assert len(squeezed) >= 2
    assert all(b.at - a.at >= 60 * PERIOD for a, b in pairwise(squeezed))
    first = squeezed[0].numbers[0]
    assert first.value <= 0.75 * first.threshold
    assert f"{first.value:.0f} CPUs instead of {first.threshold:.0f}" in squeezed[0].why


# -- the table -------------------------------------------------------------------------------------------------------


async def test_the_table_wires_a_machine_with_every_plugin_and_a_voice_for_complaints() -> None:
    service = wire(Settings(node="n"), cast("Any", None))
    assert isinstance(service.machine, RememberingMachine)
    assert isinstance(service.machine.machine, AdvisorMachine)
    assert await service.effects[Complain](Complain("policy advisor.n", "because")) is None


def test_everything_counted_is_in_the_table() -> None:
    assert {metric.name for metric in METRICS} >= {IGNORED, REFUSED, STALE}
