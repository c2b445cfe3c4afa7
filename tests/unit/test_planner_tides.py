"""The desk of tides: pools switched on by policy turn their nodes, say so, tell the pods, and go on after a restart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from neap.common.contract.catalogue import POLICY, TIDES
from neap.common.model.forecast import CLUSTER_SCOPE, Forecast
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.policy import POOL_LABEL, Edition, PolicyDocument, Tier
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.scheduling import Constraints, Expression, Gang, NodeTerm, Operator
from neap.common.model.tide import LAPSE, Side, TidePool, Turning
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Delete, Event, Instruction, Put, Synced
from neap.common.units import DAY, GIB, HOUR, MINUTE
from neap.foresight.series import Series
from neap.foresight.tide_demand import SLOT
from neap.planner.core.cluster import Cluster
from neap.planner.core.tides.desk import TidesDesk
from neap.planner.core.wishes import Wishes
from neap.planner.settings import Settings
from neap.planner.wiring import tunable
from tests.unit.scheduler_world import a_guest, a_node, an_owner

NOW = 30 * DAY + 20 * HOUR  # in the evening
PATCH = {"tide.enabled": True, "tide.reserve_online": "1", "tide.spare": "0", "tide.most_turning": "50%"}


class Known:
    """What was used and what is foreseen, as plain values."""

    def __init__(self, cores: float | None = 1.0, ahead: Sequence[float] | None = (1.0,) * 300) -> None:
        self.cores, self.ahead, self.wanted = cores, ahead, dict[tuple[str, ...], float]()
        self.start = NOW

    def node(self, _: str, __: str, how: str = "avg") -> Series | None:
        return None if self.cores is None else Series(0.0, 300.0, np.array([self.cores]))

    def want(self, name: tuple[str, str, str, str], horizon: float) -> None:
        self.wanted[name] = horizon

    def of(self, name: tuple[str, str, str, str]) -> Forecast | None:
        if self.ahead is None:
            return None
        values = tuple(self.ahead)
        return Forecast(at=NOW, source="planner", namespace=name[0], kind=name[1], name=name[2], resource=name[3], version="f1",
                        start=self.start, step=300.0, values=values, p90=values)  # fmt: skip


class Room:
    """A desk with what it hears through cluster and wishes, as the planner's machine tells it."""

    def __init__(self, known: Known, patch: dict[str, Any] | None = None) -> None:
        self.known, self.cluster, self.wishes = known, Cluster(), Wishes(tunable(), Settings())
        self.desk = TidesDesk(self.wishes, self.cluster, known, known)  # type: ignore[arg-type]
        edition = Edition(version=1, at=0.0, tier=Tier.POOL, selector="web", patch=patch or PATCH)
        self.tell(
            Arrived(NOW, PolicyDocument(at=0.0, source="console", room="planner", name="tide", editions=(edition,)))
        )
        self.tell(Synced(NOW, POLICY))

    def tell(self, *events: Event) -> None:
        for event in events:
            self.wishes.hear(event)
            self.cluster.hear(event)
            self.desk.hear(event)

    def nodes(self, *names: str, pool: str = "web") -> None:
        for name in names:
            self.tell(Arrived(NOW, a_node(name, cores=4)))
            self.tell(Arrived(NOW, NodeObject(at=NOW, source="gateway", node=name, labels={POOL_LABEL: pool})))

    def place(self, workload: Workload, node: str) -> None:
        placement = Placement(workload=workload, charged=workload.requests)
        self.tell(Arrived(NOW, Placed(at=NOW - HOUR, source="scheduler", node=node, placement=placement, reason="")))

    def release(self, uid: str, node: str) -> None:
        self.tell(Arrived(NOW, Released(at=NOW, source="scheduler", node=node, uid=uid, reason="")))

    def plan(self, at: float = NOW) -> tuple[TidePool | None, Sequence[Instruction]]:
        said = self.desk.plan(at)
        self.desk.validate()
        puts = [one.value for one in said if isinstance(one, Put)]
        return (puts[-1] if puts else None), said


def a_room(known: Known | None = None, reserve: str = "1") -> Room:
    room = Room(known or Known(), PATCH | {"tide.reserve_online": reserve})
    room.nodes("n1", "n2", "n3")
    room.tell(Synced(NOW, TIDES))
    for uid, node in (("c1", "n1"), ("c2", "n1"), ("c3", "n2")):
        room.place(an_owner(uid, owner="ReplicaSet/cart"), node)
    return room


def sides(pool: TidePool | None) -> dict[str, tuple[Side, Turning]]:
    assert pool is not None
    return {node.node: (node.side, node.turning) for node in pool.nodes}


def lines(said: Sequence[Instruction]) -> list[tuple[str, str]]:
    return [(one.entry.about.name, one.entry.why) for one in said if isinstance(one, Decide)]


def test_a_pool_that_is_switched_on_lends_its_emptiest_node_and_others_are_left_alone() -> None:
    room = a_room()
    room.nodes("x1", "x2", pool="other")
    pool, _ = room.plan()
    assert pool is not None
    assert pool.pool == "web"
    assert sides(pool)["n3"] == (Side.OFFLINE, Turning.DRAINING)
    assert sides(pool)["n1"] == (Side.ONLINE, Turning.STEADY)
    assert room.known.wanted == {(CLUSTER_SCOPE, "NodePool", "web", CPU): DAY}
    assert pool.forecast == "f1"
    assert pool.wanted_online == 1
    later, _ = room.plan(NOW + MINUTE)
    assert sides(later)["n3"] == (Side.OFFLINE, Turning.STEADY), "it was empty"


def test_pods_on_a_node_that_turns_are_told_once_why() -> None:
    room = a_room()
    room.place(an_owner("d1", cores=0.1, owner="ReplicaSet/cart"), "n3")
    _, said = room.plan()
    ((name, why),) = [line for line in lines(said) if line[0] == "d1"]
    assert why.startswith("n3 of pool web turns offline: not needed")
    assert not lines(room.plan(NOW + MINUTE)[1])
    (entry,) = [one.entry for one in said if isinstance(one, Decide) and one.entry.about.name == name]
    assert entry.id == f"d1.1.tide.{NOW:.0f}"


def test_guests_hold_a_return_until_they_have_left_and_are_named() -> None:
    room = a_room(reserve="2")
    room.plan()
    room.plan(NOW + MINUTE)
    guest = a_guest("g1", owner="Job/train")
    room.place(guest, "n3")
    room.known.ahead = (9.0,) * 300
    back, said = room.plan(NOW + 2 * HOUR)
    assert sides(back)["n3"] == (Side.ONLINE, Turning.DRAINING)
    assert ("g1", "n3 of pool web turns online") in [(name, why.partition(":")[0]) for name, why in lines(said)]
    late, _ = room.plan(NOW + 2 * HOUR + 16 * MINUTE)
    assert sides(late)["n3"] == (Side.ONLINE, Turning.BLOCKED)
    assert late is not None
    assert late.alerts == ("n3 does not come back: 1 guests did not leave within 15m: batch/g1",)
    room.release("g1", "n3")
    done, _ = room.plan(NOW + 2 * HOUR + 17 * MINUTE)
    assert sides(done)["n3"] == (Side.ONLINE, Turning.STEADY)
    assert done is not None
    assert not done.alerts


def test_an_online_pod_that_waits_brings_a_node_back_and_one_that_was_placed_or_ended_does_not() -> None:
    room = a_room()
    room.plan()
    room.plan(NOW + MINUTE)
    pods = [an_owner(f"w{i}", cores=3.5, owner="ReplicaSet/cart") for i in range(3)]
    for pod in pods:
        room.tell(Arrived(NOW, Submitted(at=NOW, source="gateway", workload=pod)))
    room.place(pods[1], "n1")
    room.release("w1", "n1")
    room.tell(Arrived(NOW, Ended(at=NOW, source="gateway", uid="w2", node="", attempt=1, reason=EndReason.DELETED)))
    pool, _ = room.plan(NOW + HOUR)
    assert sides(pool)["n3"] == (Side.ONLINE, Turning.DRAINING)
    room.place(pods[0], "n3")
    assert room.plan(NOW + HOUR + MINUTE)[0] is not None


@pytest.mark.parametrize(
    "workload",
    [
        an_owner("b", cores=0.1),  # nobody makes it anew
        an_owner("b", cores=0.1, owner="ReplicaSet/x", node_selector={"kubernetes.io/hostname": "n3"}),
        an_owner("b", cores=0.1, owner="ReplicaSet/x", annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}),
        an_owner("b", cores=0.1, owner="Job/x", gang=Gang(name="x", least=2)),
        an_owner("b", cores=0.1, owner="ReplicaSet/x", gpu=(50, 1024)),
        an_owner("b", cores=0.1, owner="ReplicaSet/x", constraints=Constraints(node_required=(
            NodeTerm(expressions=(Expression(key="disk", operator=Operator.IN, values=("ssd",)),)),))),
    ],
)  # fmt: skip
def test_a_node_with_a_pod_that_cannot_be_made_elsewhere_is_not_lent(workload: Workload) -> None:
    room = a_room()
    room.place(workload, "n3")
    assert sides(room.plan()[0])["n3"] == (Side.ONLINE, Turning.STEADY)


def test_daemons_stay_and_their_share_is_nobodys() -> None:
    room = a_room()
    for place, node in enumerate(("n1", "n2", "n3")):
        room.place(an_owner(f"a{place}", cores=2, owner="DaemonSet/agent"), node)
        room.place(an_owner(f"s{place}", cores=0.5, qos=QosClass.SYSTEM), node)
    pool, said = room.plan()
    assert sides(pool)["n3"][0] is Side.ONLINE, "1.5 cores are left of each node: three pods of one core need them all"
    room.release("c3", "n2")
    room.release("c2", "n1")
    pool, said = room.plan(NOW + MINUTE)
    assert [state.node for state in pool.nodes if state.side is Side.OFFLINE] != [] if pool else False
    assert not [name for name, _ in lines(said) if name[0] in "as"]


def test_nothing_new_is_said_once_and_again_after_a_while() -> None:
    room = a_room()
    room.plan()
    room.plan(NOW + MINUTE)
    assert room.plan(NOW + 2 * MINUTE)[0] is None
    again, _ = room.plan(NOW + 12 * MINUTE)
    assert again is not None
    assert again.at == NOW + 12 * MINUTE
    assert again.at - NOW < LAPSE


def test_the_next_life_goes_on_where_this_one_was() -> None:
    room = a_room(reserve="2")
    room.plan()
    pool, _ = room.plan(NOW + MINUTE)
    assert pool is not None
    known = Known(ahead=None)
    other = Room(known, PATCH | {"tide.reserve_online": "2"})
    other.nodes("n1", "n2", "n3")
    for uid, node in (("c1", "n1"), ("c2", "n1"), ("c3", "n2")):
        other.place(an_owner(uid, owner="ReplicaSet/cart"), node)
    assert other.desk.plan(NOW) == (), "not before what is stored was read"
    other.tell(Arrived(NOW, pool), Synced(NOW, TIDES))
    kept, said = other.plan(NOW + 2 * MINUTE)
    assert sides(kept) == sides(pool), "without a forecast nothing is turned for a while"
    assert not any(isinstance(one, Count) for one in said)
    assert kept is not None
    assert kept.nodes[2].flips == pool.nodes[2].flips
    late, said = other.plan(NOW + 2 * MINUTE + 30 * MINUTE)
    assert sides(late)["n3"] == (Side.ONLINE, Turning.STEADY) or sides(late)["n3"][1] is Turning.DRAINING
    assert any(isinstance(one, Count) for one in said)


def test_a_foreseen_return_is_begun_in_time_though_the_forecast_is_gone() -> None:
    room = a_room(reserve="2")
    room.plan()
    room.known.ahead = (1.0,) * 48 + (9.0,) * 252  # a ramp in four hours
    room.plan(NOW + MINUTE)
    pool, _ = room.plan(NOW + 12 * MINUTE)
    assert pool is not None
    assert pool.ready_by > 0
    room.known.ahead = None
    assert sides(room.plan(pool.next_change - 60)[0] or pool)["n3"][0] is Side.OFFLINE
    room.known.ahead = (1.0,) * 48 + (9.0,) * 252
    room.plan(pool.next_change - 30)
    room.known.ahead = None
    back, _ = room.plan(pool.next_change + 1)
    assert sides(back)["n3"][0] is Side.ONLINE


def test_a_pool_that_is_switched_off_is_forgotten() -> None:
    room = a_room()
    room.plan()
    edition = Edition(version=2, at=1.0, tier=Tier.POOL, selector="web", patch={"tide.enabled": False})
    room.tell(
        Arrived(NOW, PolicyDocument(at=1.0, source="console", room="planner", name="tide", editions=(edition,), last=2))
    )
    _, said = room.plan(NOW + MINUTE)
    assert [one.key.subject for one in said if isinstance(one, Delete)] == ["web"]


def test_a_pool_whose_name_no_subject_can_have_is_counted_and_the_others_go_on() -> None:
    room = a_room()
    everywhere = Edition(version=1, at=0.0, tier=Tier.CLUSTER, patch=PATCH)
    room.tell(
        Arrived(NOW, PolicyDocument(at=0.0, source="console", room="planner", name="all", editions=(everywhere,)))
    )
    room.nodes("g1", "g2", pool="gpu_a100")
    pool, said = room.plan()
    assert pool is not None
    assert pool.pool == "web"
    assert [one.metric for one in said if isinstance(one, Count)][:1] == ["neap_planner_tide_unnameable_total"]


@pytest.mark.parametrize(
    "known",
    [Known(cores=None), Known(ahead=(math.nan,) * 300), Known(ahead=()), Known(cores=math.inf), Known(ahead=None)],
)
def test_what_cannot_be_read_speaks_for_online_services_and_is_counted(known: Known) -> None:
    room = a_room(known)
    pool, said = room.plan()
    assert all(side is Side.ONLINE for side, _ in sides(pool).values())
    assert [one.labels for one in said if isinstance(one, Count)] == [{"pool": "web"}]
    assert pool is not None
    assert "all but guests' reserve" in pool.arithmetic


def test_what_was_asked_by_the_half_hour_and_the_peak_are_kept_in_what_is_said() -> None:
    room = a_room()
    first, _ = room.plan()
    assert first is not None
    assert (first.asked, first.asked_from) == ((3000,), math.floor(NOW / SLOT) * SLOT)
    assert (first.peak_used, first.peak_asked, first.peak_at) == (3.0, 3000, NOW)
    room.release("c3", "n2")
    room.known.cores = 0.5
    later, _ = room.plan(NOW + SLOT)
    assert later is not None
    assert later.asked == (3000, 2000)
    assert (later.peak_used, later.peak_at) == (3.0, NOW)
    assert len(later.ahead) >= 40
    assert len(later.course) == 2


def test_a_node_that_is_cordoned_or_gone_holds_nothing_and_is_not_turned() -> None:
    room = a_room()
    room.tell(Arrived(NOW, NodeObject(at=NOW, source="gateway", node="n3", labels={POOL_LABEL: "web"}, cordoned=True)))
    pool, _ = room.plan()
    assert sides(pool)["n3"] == (Side.ONLINE, Turning.STEADY)
    assert MEMORY in a_node("n3").allocatable
    assert a_node("n3").allocatable[MEMORY] == 32 * GIB
