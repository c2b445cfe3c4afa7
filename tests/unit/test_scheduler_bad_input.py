"""Input that does not hold: refused or retried with a reason that names what and where, and the scheduler goes on."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from neap.common.bus.port import LostRace
from neap.common.contract.catalogue import TOPOLOGY, WORKLOAD
from neap.common.errors import InputError, WireError
from neap.common.model.advice import Headroom
from neap.common.model.device import DeviceState
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.node import NodeObject
from neap.common.model.profile import ServiceProfile
from neap.common.model.resource import CPU, LARGEST, MEMORY, RECLAIMED_CPU, parse_amount
from neap.common.model.scheduling import Constraints, NodeTerm, Spread
from neap.common.model.topology import NodeTopology, NumaNode
from neap.common.model.usage import ContainerUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Append, Arrived, Count, Done, Gone, Instruction, Synced, Tick
from neap.common.units import GIB
from neap.scheduler.core.flow.machine import FIRST, SchedulerMachine
from neap.scheduler.core.flow.sound import Refusals
from neap.scheduler.core.nodes.load import FRESH, PERIOD, USED, USED_BY_OWNERS
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.settings import Settings
from tests.unit.scheduler_world import World, a_card, a_guest, a_node, a_usage, an_offer, an_owner, policies

BEYOND = LARGEST + 1


def topology(**more: Any) -> NodeTopology:
    return msgspec.structs.replace(a_node("n1"), **more)


def numa(index: int, memory: int = GIB) -> NumaNode:
    return NumaNode(index=index, cpus="0-3", memory=memory)


def offer(amount: int) -> Headroom:
    return Headroom(at=0.0, source="advisor", node="n1", offer={RECLAIMED_CPU: amount}, arithmetic={})


def node_object(**more: Any) -> NodeObject:
    return NodeObject(at=0.0, source="gateway", node="n1", **more)


REFUSED = [
    (topology(allocatable={CPU: -5}), "NodeTopology of n1 refused: allocatable cpu -5 is negative"),
    (topology(capacity={MEMORY: BEYOND}), f"capacity memory is beyond {LARGEST}"),
    (topology(allocatable={f"k{i}": 1 for i in range(300)}), "300 allocatable (allowed: 256)"),
    (topology(numa=(numa(0), numa(1), numa(1))), "numa 1 is told 2 times"),
    (topology(numa=(numa(-1),)), "index of numa -1 is negative"),
    (topology(numa=(numa(0, -GIB),)), "memory of numa 0 -1073741824 is negative"),
    (topology(cards=(a_card(0), a_card(0))), "cards 0 is told 2 times"),
    (topology(cards=(a_card(0, memory=10**30),)), "memory of cards 0 is beyond"),
    (topology(labels={f"k{i}": "v" for i in range(2000)}), "2000 labels (allowed: 1024)"),
    (offer(-1), "Headroom of n1 refused: offer neap.io/reclaimed-cpu -1 is negative"),
    (offer(10**400), "offer neap.io/reclaimed-cpu is beyond"),
    (offer(math.nan), "offer neap.io/reclaimed-cpu is beyond"),  # type: ignore[arg-type]  # no decoder lets it through
    (Headroom(at=0, source="a", node="n1", offer={CPU: 0}, arithmetic={}), "offer cpu: it cannot be lent"),
    (node_object(ratios={CPU: math.nan}), "NodeObject of n1 refused: ratio of cpu nan is not within 0..1000"),
    (node_object(ratios={CPU: 1e308}), "ratio of cpu 1e+308 is not within"),
    (node_object(original={CPU: -1}), "original cpu -1 is negative"),
    (node_object(images={"img": -1}), "images img -1 is negative"),
]


@pytest.mark.parametrize(("message", "said"), REFUSED, ids=[said[-40:] for _, said in REFUSED])
def test_nonsense_about_a_node_is_refused_counted_and_the_last_good_word_stays(message: Any, said: str) -> None:
    world = World(a_node("n1"))
    world.tell(Arrived(0.0, an_offer("n1")))
    world.tell(Arrived(1.0, message))
    (count,) = [item for item in world.instructions if isinstance(item, Count) and "refused_input" in item.metric]
    assert count.labels["message"] == type(message).__name__
    world.submit(an_owner("u1"), a_guest("g1"))
    assert {world.node_of("u1"), world.node_of("g1")} == {"n1"}
    refused = Refusals().judge(message)
    assert refused is not None
    assert said in refused.said


def test_who_waits_is_told_what_was_refused_until_something_better_comes() -> None:
    world = World()
    world.tell(Arrived(0.0, topology(allocatable={CPU: -5})))
    world.submit(an_owner("u1"))
    ask = ExplainRequest(namespace="shop", name="u1")
    assert "NodeTopology of n1 refused: allocatable cpu -5 is negative" in world.machine.explain(ask).reason
    world.tell(Arrived(0.0, topology(node="n2", numa=(numa(1), numa(1)))))
    assert "NodeTopology of n2 refused: numa 1 is told 2 times (and 1 more)" in world.machine.explain(ask).reason
    world.tell(Arrived(1.0, a_node("n1")))
    world.pass_time(1.0)
    assert world.node_of("u1") == "n1"


def test_a_node_that_has_nothing_is_lawful_and_takes_nobody() -> None:
    world = World(topology(allocatable={CPU: 0, MEMORY: 0}, capacity={}))
    world.tell(Arrived(0.0, offer(0)), Arrived(1.0, a_usage("n1", free=0)))
    world.submit(an_owner("u1"), a_guest("g1"))
    assert world.node_of("u1") == world.node_of("g1") == ""
    assert "1 fit cpu" in world.why("u1.1.waiting")
    assert "1 fit neap.io/reclaimed-cpu" in world.why("g1.1.waiting")


@pytest.mark.parametrize("text", ["NaN", "nan", "-1", "inf", "1e999", "1" * 400, "0.0001", ""])
def test_amounts_that_are_none_are_refused_where_they_are_written(text: str) -> None:
    with pytest.raises(InputError, match=r"container main: (cpu|.*1e999)"):
        parse_amount(CPU, text, where="container main")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1.5", '"7"', "1" * 5000])
def test_no_decoder_lets_what_is_no_whole_number_into_a_request(number: str) -> None:
    subject = WORKLOAD.at(namespace="shop", name="u1").subject
    payload = WORKLOAD.encode(Submitted(at=0.0, source="t", workload=an_owner("u1"))).decode()
    with pytest.raises(WireError, match="shop.u1"):
        WORKLOAD.decode(payload.replace('"cpu":1000', f'"cpu":{number}').encode(), subject)


def refusal_of(workload: Workload) -> str:
    """What a workload's owner hears; the scheduler then still places another."""
    world = World(a_node("n1"))
    world.submit(workload, an_owner("next"))
    assert world.node_of("next") == "n1"
    (ended,) = [event for _, event in world.streams.workloads if isinstance(event, Ended)]
    assert ended.reason is EndReason.INVALID
    return ended.detail


ABSURD = [
    (an_owner("u1", cores=-1), "container 'main' requests: cpu -1000 is negative"),
    (an_owner("u1", containers=(Container(name="c", requests={CPU: 10**400}),)), "requests of cpu"),
    (an_owner("u1", annotations={"note": "x" * 10_000_000}), "annotations have 10000004 bytes"),
    (an_owner("u1", labels={f"k{i}": "v" for i in range(5000)}), "labels: 5000 of them"),
    (an_owner("u1", node_selector={f"k{i}": "v" for i in range(100)}), "more than 64 selected labels"),
    (an_owner("u1", constraints=Constraints(node_preferred=(NodeTerm(weight=10**30),))), "weight 1000000000"),
    (an_owner("u1", constraints=Constraints(spread=(Spread(topology="zone", skew=-1),))), "maxSkew -1"),
    (an_owner("u1", containers=tuple(Container(name=f"c{i}", requests={}) for i in range(1000))), "1000 containers"),
]


@pytest.mark.parametrize(("workload", "said"), ABSURD, ids=[said for _, said in ABSURD])
def test_absurd_workloads_are_refused_with_what_and_where_and_the_next_one_is_placed(
    workload: Workload, said: str
) -> None:
    detail = refusal_of(workload)
    assert said in detail
    assert len(detail) < 2000, "a reason is no copy of the input"


# -- usage -----------------------------------------------------------------------------------------------------------


def measured(**more: Any) -> NodeTable:
    table = NodeTable()
    table.describe(a_node("n1", cores=8, gib=32))
    table.measure(msgspec.structs.replace(a_usage("n1", cpu=2.0, free=30 * GIB), **more), 1.0)
    return table


@pytest.mark.parametrize("cpu", [math.nan, math.inf, -1.0, 1e30, None])
def test_a_report_whose_cpu_cannot_be_is_as_good_as_none(cpu: float | None) -> None:
    assert measured(cpu=cpu).columns[FRESH].tolist() == [False]


@pytest.mark.parametrize("free", [-1, 10**400, -(10**400)])
def test_a_mad_amount_of_memory_is_unknown_and_the_rest_of_the_report_holds(free: int) -> None:
    table = measured(memory_available=free)
    assert [table.columns[name][0] for name in USED] == [2000, 0]


@pytest.mark.parametrize("period", [-1.0, math.nan, math.inf, 1e308])
def test_a_mad_period_does_not_keep_a_report_fresh(period: float) -> None:
    table = measured(period=period)
    assert table.columns[PERIOD][0] == 0
    table.expire(1000.0)
    assert table.columns[FRESH].tolist() == [False]


@pytest.mark.parametrize(("cpu", "memory"), [(-5.0, -(10**400)), (1e308, 10**400), (math.nan, -1)])
def test_what_a_guest_is_said_to_use_never_makes_owners_use_more_than_the_node(cpu: float, memory: int) -> None:
    world = World(a_node("n1", cores=8, gib=32))
    world.tell(Arrived(0.0, an_offer("n1")))
    world.submit(a_guest("g1"))
    seen = (ContainerUsage(uid="g1", container="c", cgroup="c", cpu=cpu, memory=memory),)
    world.tell(Arrived(1.0, msgspec.structs.replace(a_usage("n1", cpu=2.0, free=30 * GIB), containers=seen)))
    columns = world.machine._table.columns
    assert all(0 <= columns[name][0] <= columns[total][0] for name, total in zip(USED_BY_OWNERS, USED, strict=True))


# -- nodes that come and go ------------------------------------------------------------------------------------------


def test_a_node_that_vanishes_between_filter_and_append_costs_one_retry() -> None:
    machine = SchedulerMachine(Settings(), policies(), seed=1)
    for channel in FIRST:
        machine.handle(Synced(0.0, channel))
    machine.handle(Arrived(0.0, a_node("n1")))
    subject = WORKLOAD.at(namespace="shop", name="u1").subject
    said = machine.handle(Arrived(1.0, Submitted(at=1.0, source="t", workload=an_owner("u1")), subject, 1))
    (append,) = [item for item in said if isinstance(item, Append)]
    machine.handle(Gone(1.1, TOPOLOGY, "n1"))
    machine.handle(Done(1.2, append, LostRace(0)))
    machine.validate()
    machine.handle(Arrived(1.3, a_node("n2")))
    later: list[Instruction] = []
    for tick in range(400):
        later += machine.handle(Tick(2.0 + tick * 0.2, "cycle"))
        machine.validate()
    again = [item for item in later if isinstance(item, Append)]
    assert [item.entry.node for item in again[:1]] == ["n2"]


def test_a_node_that_vanishes_after_its_ledger_took_the_pod_keeps_the_charge_and_takes_no_more() -> None:
    world = World(a_node("n1"))
    world.submit(an_owner("u1", cores=2))
    world.tell(Gone(1.0, TOPOLOGY, "n1"))
    world.submit(an_owner("u2"))
    assert (world.node_of("u1"), world.node_of("u2")) == ("n1", "")
    world.tell(Arrived(2.0, a_node("n1", cores=2)))
    world.pass_time(1.0)
    assert world.node_of("u2") == "", "what u1 holds is still held"


def test_device_states_of_nodes_and_pods_nobody_knows_change_nothing() -> None:
    world = World(a_node("n1"))
    refused = {"nobody": "because", "u1": "no such card"}
    for seq in (0, -1, 1 << 70):
        state = DeviceState(at=0.0, source="gpushare", node="elsewhere", ledger_seq=seq, cards=(), refused=refused)
        world.tell(Arrived(0.0, state))
    world.submit(an_owner("u1"))
    assert world.node_of("u1") == "n1"
    assert not [item for item in world.instructions if "refused" in str(getattr(item, "id", ""))]


def test_a_profile_with_mad_numbers_changes_no_column() -> None:
    world = World(a_node("n1"))
    bad: dict[str, tuple[float, ...]] = {CPU: (1e308,) * 24, MEMORY: (-1.0,) * 24, "x" * 300: (1.0,)}
    profile = ServiceProfile(at=0.0, source="p", key="shop/Deployment/web", version="1", portrait=bad)
    world.tell(Arrived(0.0, profile))
    world.submit(an_owner("u1", owner="Deployment/web"))
    assert world.node_of("u1") == "n1"
