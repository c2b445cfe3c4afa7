"""The auditor finds every kind of breach, and nothing where nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from neap.common.bus.port import Received
from neap.common.contract.catalogue import PLACEMENTS, TRAIL, WORKLOAD
from neap.common.model.lifecycle import Ended, EndReason, Started, Submitted
from neap.common.model.placement import Checkpoint, GpuShare, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, RECLAIMED_CPU
from neap.common.model.topology import Card, NodeTopology, Zone, ZoneKind
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Container, Workload
from neap.virtual.audit import History, audit, held_by, unsettled

CARD = Card(index=0, uuid="GPU-0", model="T4", memory_mib=15360)


def a_node(name: str, *, cores: int = 4) -> NodeTopology:
    has = {CPU: cores * 1000, GPU_CORE: 100, GPU_MEMORY: 15360}
    machine = Zone(kind=ZoneKind.MACHINE, index=0)
    return NodeTopology(at=0.0, source="reporter", node=name, machine=machine, numa=(), cards=(CARD,), allocatable=has)


def a_pod(uid: str = "u1", *, attempt: int = 1, **requests: int) -> Workload:
    asks = {
        {"cpu": CPU, "lent": RECLAIMED_CPU, "gpu": GPU_CORE}[kind]: amount for kind, amount in requests.items()
    } or {CPU: 1000}
    containers = (Container(name="main", requests=asks),)
    return Workload(
        uid=uid, namespace="shop", name=f"pod-{uid}", qos=QosClass.SHARED, containers=containers, attempt=attempt
    )


def placed(workload: Workload, node: str = "n1", *, at: float = 2.0, shares: Sequence[GpuShare] = ()) -> Placed:
    placement = Placement(workload=workload, charged=workload.requests, gpus=tuple(shares))
    return Placed(at=at, source="scheduler", node=node, placement=placement, reason="best")


def submitted(workload: Workload, at: float = 1.0) -> Submitted:
    return Submitted(at=at, source="virtual", workload=workload)


def started(workload: Workload, node: str = "n1", at: float = 3.0) -> Started:
    return Started(at=at, source="virtual", uid=workload.uid, node=node, attempt=workload.attempt)


def ended(workload: Workload, reason: EndReason = EndReason.FINISHED, at: float = 9.0, node: str = "n1") -> Ended:
    return Ended(at=at, source="virtual", uid=workload.uid, node=node, attempt=workload.attempt, reason=reason)


def released(workload: Workload, node: str = "n1") -> Released:
    return Released(at=10.0, source="scheduler", node=node, uid=workload.uid, reason="finished")


def history(
    ledger: Sequence[LedgerEntry] = (), events: Sequence[Any] = (), trail: Sequence[str] = (), **queued: str
) -> History:
    about = ObjectRef(namespace="shop", name="pod", uid="u1")
    lines = [TrailEntry(at=0.0, source="scheduler", id=id, about=about, what="placed", why="it fits") for id in trail]
    return History(
        workloads=[
            Received(WORKLOAD.at(namespace="shop", name="pod").subject, event, n) for n, event in enumerate(events, 1)
        ],
        ledger=[Received(PLACEMENTS.at(node=entry.node).subject, entry, n) for n, entry in enumerate(ledger, 1)],
        trail=[Received(TRAIL.at(namespace="shop", name="pod").subject, line, n) for n, line in enumerate(lines, 1)],
        nodes={"n1": a_node("n1"), "n2": a_node("n2")},
        queued=queued,
    )


def one_breach(told: History, *words: str, patience: float = 0.0, now: float = float("inf")) -> None:
    breaches = audit(told, now=now, patience=patience)
    assert len(breaches) == 1, breaches
    assert all(word in breaches[0] for word in words), breaches[0]


POD = a_pod()
BEGIN = (submitted(POD), started(POD))


def test_a_whole_life_breaks_nothing() -> None:
    evicted, again = a_pod("u2", lent=9000), a_pod("u2", attempt=2, lent=9000)
    told = history(
        ledger=[
            placed(POD),
            placed(evicted, "n2"),
            released(evicted, "n2"),
            placed(again, at=12.0),
            Checkpoint(at=13.0, source="scheduler", node="n1", placements=(placed(POD).placement, placed(again).placement)),
            released(POD),
        ],
        events=[
            *BEGIN, submitted(evicted), started(evicted, "n2"), ended(evicted, EndReason.EVICTED, node="n2"),
            started(again), ended(POD), submitted(a_pod("u3")),
        ],
        trail=["u1.1.placed", "u1.1.started"],
        u3="none of 2 nodes takes it",
    )  # fmt: skip
    assert audit(told) == []
    assert list(held_by(told.ledger)["n1"]) == ["u2"]
    assert [workload.uid for workload in unsettled(told)] == ["u3"]


def test_a_pod_that_was_resized_in_place_is_charged_anew_and_that_breaks_nothing() -> None:
    larger = POD.sized(a_pod(cpu=2000).size)
    resized = history(ledger=[placed(POD), placed(larger, at=5.0), released(larger)], events=[*BEGIN, ended(POD)])
    assert audit(resized) == []
    moved = history(ledger=[placed(POD), placed(larger, "n2", at=5.0)], events=BEGIN)
    assert any("held by n1" in breach for breach in audit(moved, now=4.0))


def test_a_node_that_gives_more_than_it_has_is_found_at_the_entry_that_does_it() -> None:
    pods = [a_pod(f"u{n}", cpu=1500) for n in range(3)]
    told = history([placed(pod) for pod in pods], [event for pod in pods for event in (submitted(pod), started(pod))])
    one_breach(told, "ledger 3 of n1", "4500 of 4000 cpu")


def test_lent_cores_are_not_held_against_what_the_machine_has() -> None:
    pod = a_pod(lent=64_000)
    assert audit(history([placed(pod)], [submitted(pod), started(pod)])) == []


def test_a_card_given_twice_is_found_by_compute_and_by_memory_and_so_is_a_card_that_is_not_there() -> None:
    def two(*shares: tuple[int, int, int]) -> History:
        pods = [a_pod(f"u{n}", gpu=core) for n, (_, core, _) in enumerate(shares)]
        given = [GpuShare(container="main", card=card, core=core, memory_mib=memory) for card, core, memory in shares]
        ledger = [placed(pod, shares=[share]) for pod, share in zip(pods, given, strict=True)]
        return history(ledger, [event for pod in pods for event in (submitted(pod), started(pod))])

    assert audit(two((0, 50, 7000), (0, 50, 8000))) == []
    breaches = audit(two((0, 60, 1000), (0, 60, 1000)))
    assert any("card 0" in breach and "120 %" in breach for breach in breaches)
    one_breach(two((0, 10, 8000), (0, 10, 8000)), "16000 MiB of card 0, which has 15360 MiB")
    one_breach(two((3, 10, 100)), "card 3", "not there")


def test_a_pod_that_has_other_cards_than_it_is_charged_for_is_found() -> None:
    pod = a_pod(gpu=40)
    share = GpuShare(container="main", card=0, core=30, memory_mib=10)
    one_breach(
        history([placed(pod, shares=[share])], [submitted(pod), started(pod)]), "has 30 % of cards and is charged 40"
    )


def test_a_pod_charged_less_than_it_asks_for_is_found() -> None:
    entry = placed(POD)
    cheap = msgspec.structs.replace(entry, placement=msgspec.structs.replace(entry.placement, charged={CPU: 10}))
    one_breach(history([cheap], BEGIN), "charged less", CPU)


def test_a_pod_on_two_nodes_or_placed_twice_is_found() -> None:
    twice = audit(history([placed(POD), placed(POD, "n2")], BEGIN))
    assert any("held by n1" in breach for breach in twice)
    assert any("a second time" in breach for breach in twice)
    one_breach(
        history([placed(POD), released(POD), placed(POD, at=11.0)], BEGIN), "ledger 3", "a second time, first on n1"
    )


def test_a_placement_without_a_submission_before_it_is_found() -> None:
    one_breach(history([placed(POD, at=0.5)], BEGIN), "was not submitted before")
    assert any("was not submitted before" in breach for breach in audit(history([placed(POD)], [started(POD)])))


def test_a_second_attempt_needs_a_first_that_was_evicted_or_refused() -> None:
    again = a_pod(attempt=2)
    events = [submitted(POD), started(again)]
    one_breach(history([placed(again)], events), "attempt 1 was neither evicted nor refused")
    assert audit(history([placed(again, at=10.0)], [*events, ended(POD, EndReason.REFUSED)])) == []


def test_a_release_of_nobody_and_a_checkpoint_that_tells_something_else_are_found() -> None:
    one_breach(history([placed(POD), released(POD, "n2")], BEGIN), "ledger 2 of n2", "was not held")
    empty = Checkpoint(at=3.0, source="scheduler", node="n1", placements=())
    assert any(
        "checkpoint has 0 placements, not the 1" in breach for breach in audit(history([placed(POD), empty], BEGIN))
    )


def test_an_attempt_that_starts_elsewhere_than_it_was_placed_is_found() -> None:
    one_breach(history([placed(POD)], [submitted(POD), started(POD, "n2")]), "started on n2 and was placed on n1")


def test_a_workload_that_is_nowhere_is_lost() -> None:
    one_breach(history(events=[submitted(POD)]), "shop/pod-u1", "is lost")
    assert audit(history(events=[submitted(POD)], u1="4 nodes fit")) == []
    one_breach(history([placed(POD), released(POD)], [*BEGIN, ended(POD, EndReason.EVICTED)]), "is lost")


def test_what_is_over_and_still_held_and_what_is_held_and_never_started_is_found_after_a_while() -> None:
    over = history([placed(POD)], [*BEGIN, ended(POD)])
    one_breach(over, "n1 still holds shop/pod-u1: finished")
    assert audit(over, now=12.0, patience=5.0) == []
    idle = history([placed(POD)], [submitted(POD)])
    one_breach(idle, "n1 holds shop/pod-u1 since 2 and never started it")
    assert audit(idle, now=4.0, patience=5.0) == []


def test_an_attempt_submitted_started_or_ended_twice_is_found() -> None:
    told = [*BEGIN, ended(POD)]
    for number, event in enumerate(told):
        one_breach(history([placed(POD), released(POD)], [*told, event]), "workloads 4", f"before, at {number + 1}")


def test_a_line_of_the_trail_told_twice_is_found() -> None:
    one_breach(history(trail=["u1.1.placed", "u1.1.started", "u1.1.placed"]), "trail 3", "u1.1.placed", "before, at 1")


def test_an_entry_under_the_subject_of_another_node_is_found() -> None:
    told = history([placed(POD)], BEGIN)
    wrong = [Received(PLACEMENTS.at(node="n2").subject, item.message, item.seq) for item in told.ledger]
    one_breach(History(told.workloads, wrong, told.trail, told.nodes), "stored under", "n2")
