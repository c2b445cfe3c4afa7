"""The scheduler as its users see it: what is placed, what waits and why, what happens after an eviction."""

from __future__ import annotations

import re

import pytest

from neap.common.contract.catalogue import HEADROOM, PLACEMENTS, WORKLOAD
from neap.common.errors import SettingsError
from neap.common.model.device import DeviceState
from neap.common.model.explanation import ExplainRequest
from neap.common.model.lifecycle import Ended, EndReason, Submitted
from neap.common.model.placement import Checkpoint, Placed, Placement, Released
from neap.common.runtime.machine import Append, Arrived, Count, Decide, Done, Emit, Event, Failed, Gone, Synced, Tick
from neap.scheduler.core.flow.appends import AppendSettings
from neap.scheduler.core.flow.machine import FIRST, SchedulerMachine
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies as wired
from tests.unit.scheduler_world import World, a_guest, a_node, a_usage, an_offer, an_owner, known, policies


def test_a_submitted_workload_is_placed_with_a_reason_that_has_the_numbers_in_it() -> None:
    world = World(a_node("n1"), a_node("n2", cores=1), a_node("n3"))
    world.submit(an_owner("cart", cores=2))
    entry = world.streams.ledger[0]
    assert isinstance(entry, Placed)
    assert entry.node in {"n1", "n3"}
    assert entry.placement.charged == {"cpu": 2000, "memory": 1 << 30}
    why = world.why("cart.1.placed")
    assert why == entry.reason
    assert why.startswith(f"{entry.node}: score ")
    assert "best of 2 nodes that fit; 1 of 3 rejected: 1 fit cpu" in why
    told = world.trail["cart.1.placed"].entry
    assert {number.metric for number in told.numbers} == {"score.load_aware", "score.allocation", "score.gpu_share"}


def test_nothing_is_decided_before_everything_stored_was_read() -> None:
    machine = SchedulerMachine(Settings(), policies())
    silent: list[Event] = [
        Arrived(0.0, a_node()),
        *known(0.0),
        Arrived(0.0, Submitted(at=0.0, source="t", workload=an_owner()), "neap.v1.workload.shop.u1", 1),
        Synced(0.0, WORKLOAD),
        Tick(1.0, "cycle"),
    ]
    assert [list(machine.handle(event)) for event in silent] == [[]] * len(silent)
    assert any(isinstance(item, Append) for item in machine.handle(Synced(1.0, PLACEMENTS)))


def test_a_placement_whose_line_was_lost_in_a_crash_is_told_after_the_restart_under_the_same_id() -> None:
    world = World(a_node("n1"))
    world.submit(an_owner("cart", cores=2))
    entry, seq = world.streams.ledger[0], 1
    reborn = SchedulerMachine(Settings(), policies())
    said = [
        item
        for event in (
            Arrived(9.0, a_node("n1")),
            *known(9.0),
            Arrived(
                9.0, Submitted(at=0.0, source="t", workload=an_owner("cart", cores=2)), "neap.v1.workload.shop.cart", 1
            ),
            Synced(9.0, WORKLOAD),
            Arrived(9.0, entry, "neap.v1.ledger.n1", seq),
            Synced(9.0, PLACEMENTS, seq),
        )
        for item in reborn.handle(event)
    ]
    [again] = [item.entry for item in said if isinstance(item, Decide)]
    first = world.trail["cart.1.placed"].entry
    assert (again.id, again.why, again.at, again.node) == (first.id, first.why, first.at, first.node)


def test_an_evicted_guest_is_released_and_returns_after_a_growing_wait() -> None:
    world = World(a_node())
    world.tell(Arrived(0.0, an_offer()))
    guest = a_guest("g1")
    world.submit(guest)
    assert world.node_of("g1") == "n1"
    world.end(guest, EndReason.EVICTED, detail="memory 97 % > 95 %")
    assert world.node_of("g1") == ""
    assert isinstance(world.streams.ledger[1], Released)
    assert "attempt 1 was evicted on n1 (memory 97 % > 95 %)" in world.why("g1.2.requeued")
    assert [e.workload.attempt for _, e in world.streams.workloads if isinstance(e, Submitted)] == [1, 2]
    world.pass_time(9.0)
    assert world.node_of("g1") == ""
    world.pass_time(2.0)
    assert world.streams.held["n1"]["g1"].workload.attempt == 2
    world.end(guest, EndReason.EVICTED, attempt=2)
    world.pass_time(19.0)
    assert world.node_of("g1") == ""
    world.pass_time(2.0)
    assert world.streams.held["n1"]["g1"].workload.attempt == 3


@pytest.mark.parametrize("reason", [EndReason.FINISHED, EndReason.DELETED])
def test_a_finished_workload_is_released_and_does_not_return(reason: EndReason) -> None:
    world = World(a_node())
    world.submit(an_owner("u1"))
    world.end(an_owner("u1"), reason)
    world.pass_time(1000)
    assert world.node_of("u1") == ""
    assert [type(entry) for entry in world.streams.ledger] == [Placed, Released]


def test_a_workload_deleted_while_it_waits_never_runs() -> None:
    world = World(a_node(cores=1))
    big = an_owner("big", cores=4)
    world.submit(big)
    world.end(big, EndReason.DELETED)
    world.tell(Arrived(1.0, a_node(cores=64, at=1.0)))
    world.pass_time(1.0)
    assert world.streams.ledger == []


def test_waiting_is_explained_once_with_every_class_of_rejected_nodes() -> None:
    world = World(a_node("n1", cores=2), a_node("n2", cores=2), a_node("n3", cores=64, zone="b"))
    world.submit(an_owner("big", cores=4, node_selector={"zone": "a"}))
    sentence = r"none of 3 nodes takes it: 3 node_selector label zone=a \(as n[123]\); wakes on node-added"
    assert re.fullmatch(sentence, world.why("big.1.waiting"))
    world.submit(an_owner("wide", cores=100))
    assert "3 fit cpu (as n" in world.why("wide.1.waiting")
    assert "wakes on free, node-added" in world.why("wide.1.waiting")
    before = len(world.trail)
    for _ in range(5):
        world.pass_time(400)
    assert len(world.trail) == before


def test_a_waiting_workload_wakes_when_what_it_lacks_appears() -> None:
    world = World(a_node(cores=2))
    first, second = an_owner("first", cores=2), an_owner("second", cores=2)
    world.submit(first, second)
    assert (world.node_of("first"), world.node_of("second")) == ("n1", "")
    world.end(first, EndReason.FINISHED)
    world.pass_time(0.2)
    assert world.node_of("second") == "n1"


def test_a_guest_waits_for_an_offer_and_an_offer_that_is_gone_lends_nothing() -> None:
    world = World(a_node())
    world.submit(a_guest("g1", cores=2))
    assert "1 fit neap.io/reclaimed-cpu" in world.why("g1.1.waiting")
    world.tell(Arrived(0.0, an_offer(cores=3)))
    world.pass_time(0.2)
    assert world.node_of("g1") == "n1"
    world.tell(Gone(world.at, HEADROOM, "n1"))
    world.submit(a_guest("g2", cores=1))
    assert world.node_of("g2") == ""


def test_a_stale_offer_lends_nothing() -> None:
    world = World(a_node())
    world.tell(Arrived(0.0, an_offer(cores=3)))
    world.pass_time(181)
    world.submit(a_guest("g1"))
    assert world.node_of("g1") == ""
    world.tell(Arrived(world.at, an_offer(at=world.at)))
    world.pass_time(1)
    assert world.node_of("g1") == "n1"


def test_repeated_and_late_events_change_nothing() -> None:
    world = World(a_node())
    guest = an_owner("u1")
    world.submit(guest)
    world.end(guest, EndReason.EVICTED)
    world.pass_time(11)
    entries = list(world.streams.ledger)
    for subject, event in list(world.streams.workloads):
        world.tell(Arrived(world.at, event, subject, 99))
    world.pass_time(1000)
    assert world.streams.ledger == entries
    assert world.streams.held["n1"]["u1"].workload.attempt == 2


def test_an_end_without_a_placement_is_fine() -> None:
    world = World(a_node())
    world.end(an_owner("ghost"), EndReason.FINISHED)
    world.end(an_owner("other"), EndReason.EVICTED)
    world.submit(an_owner("ghost"))
    assert world.node_of("ghost") == ""


def test_a_workload_known_only_from_the_ledger_returns_when_it_is_evicted() -> None:
    world = World(a_node())
    old = an_owner("old")
    world.submit(old)
    world.streams.workloads.clear()  # older than the stream remembers
    world.start()
    world.end(old, EndReason.EVICTED)
    world.pass_time(11)
    assert world.streams.held["n1"]["old"].workload.attempt == 2


def test_invalid_workloads_are_refused_by_name_and_the_rest_goes_on() -> None:
    world = World(a_node())
    world.submit(an_owner("bad", cores=-1), an_owner("good"))
    ended = [event for _, event in world.streams.workloads if isinstance(event, Ended)]
    assert [(e.uid, e.reason) for e in ended] == [("bad", EndReason.INVALID)]
    assert ended[0].detail == "container 'main' requests: cpu -1000 is negative"
    assert world.why("bad.1.refused") == ended[0].detail
    assert world.node_of("good") == "n1"
    assert Count("neap_scheduler_refused_total", labels={"why": "invalid"}) in world.instructions


def test_a_workload_whose_name_fits_no_subject_is_counted_and_crashes_nothing() -> None:
    world = World(a_node())
    bad = an_owner("u1", name="has blank")
    world.tell(Arrived(0.0, Submitted(at=0.0, source="t", workload=bad), "", 1))
    world.tell(
        Arrived(0.0, Submitted(at=0.0, source="t", workload=an_owner("u2", name="*")), "neap.v1.workload.shop.u2", 2)
    )
    refused = [i for i in world.instructions if isinstance(i, Decide) and i.entry.what == "refused"]
    assert [i.entry.about.name for i in refused] == ["u2"]
    assert world.streams.ledger == []


def test_a_full_queue_tells_the_newest_of_the_lowest_priority() -> None:
    world = World(a_node(cores=1), settings=Settings(queue_limit=2))
    world.submit(an_owner("a", cores=2), an_owner("b", cores=2, priority=-1), an_owner("c", cores=2))
    ended = [event for _, event in world.streams.workloads if isinstance(event, Ended)]
    assert [(e.uid, e.reason) for e in ended] == [("b", EndReason.INVALID)]
    assert ended[0].detail.startswith("queue full: 2 workloads wait")
    assert Count("neap_scheduler_refused_total", labels={"why": "queue-full"}) in world.instructions


def test_explain_answers_for_placed_queued_ended_and_unknown() -> None:
    world = World(a_node(cores=2))
    world.submit(an_owner("in"), an_owner("out", cores=3), an_owner("over"))
    world.end(an_owner("over"), EndReason.FINISHED)
    answer = world.machine.explain(ExplainRequest(namespace="shop", name="in"))
    assert (answer.state, answer.node) == ("placed", "n1")
    assert answer.reason == world.why("in.1.placed")
    answer = world.machine.explain(ExplainRequest(namespace="shop", name="out"))
    assert (answer.state, answer.wakes_on) == ("queued", ("free", "node-added"))
    assert [(v.plugin, v.reason, v.nodes, v.example) for v in answer.rejected] == [("fit", "cpu", 1, "n1")]
    assert world.machine.explain(ExplainRequest(namespace="shop", name="over")).state == "ended"
    assert not world.machine.explain(ExplainRequest(namespace="shop", name="never")).found


def test_a_checkpoint_follows_after_enough_entries_and_restores_the_same_state() -> None:
    world = World(a_node(cores=64), settings=Settings(append=AppendSettings(checkpoint_every=8)))
    for i in range(10):
        world.submit(an_owner(f"u{i}"))
    checkpoints = [entry for entry in world.streams.ledger if isinstance(entry, Checkpoint)]
    assert len(checkpoints) == 1
    assert {p.workload.uid for p in checkpoints[0].placements} == {f"u{i}" for i in range(8)}
    world.streams.ledger[:8] = [world.streams.ledger[8]] * 8  # older entries are gone
    world.start()
    world.submit(an_owner("u10"))
    assert set(world.streams.held["n1"]) == {f"u{i}" for i in range(11)}


def test_a_denied_append_frees_what_it_reserved_and_tries_again_later() -> None:
    machine = SchedulerMachine(Settings(), policies())
    for event in (Arrived(0.0, a_node()), *known(), Synced(0.0, PLACEMENTS), Synced(0.0, WORKLOAD)):
        machine.handle(event)
    out = machine.handle(
        Arrived(0.0, Submitted(at=0.0, source="t", workload=an_owner()), "neap.v1.workload.shop.u1", 1)
    )
    append = next(item for item in out if isinstance(item, Append))
    assert not any(isinstance(i, Append) for i in machine.handle(Failed(0.1, append, "denied", may_retry=False)))
    machine.validate()
    again = [item for item in machine.handle(Tick(6.0, "cycle")) if isinstance(item, Append)]
    assert [item.id for item in again] == ["u1.1.placed"]


def test_an_append_of_unknown_outcome_is_sent_again_and_the_workload_goes_nowhere_else() -> None:
    machine = SchedulerMachine(Settings(), policies())
    begin: list[Event] = [Arrived(0.0, a_node("n1")), Arrived(0.0, a_node("n2"))]
    for event in (*begin, *known(), Synced(0.0, PLACEMENTS), Synced(0.0, WORKLOAD)):
        machine.handle(event)
    out = machine.handle(
        Arrived(0.0, Submitted(at=0.0, source="t", workload=an_owner()), "neap.v1.workload.shop.u1", 1)
    )
    append = next(item for item in out if isinstance(item, Append))
    assert list(machine.handle(Failed(0.1, append, "away", may_retry=True))) == []
    sent = [
        item for at in (0.2, 0.4, 1.0, 9.0) for item in machine.handle(Tick(at, "cycle")) if isinstance(item, Append)
    ]
    assert sent == [append]
    told = machine.handle(Arrived(9.5, append.entry, append.to.subject, 1))
    assert [item.entry.what for item in told if isinstance(item, Decide)] == ["placed"]
    assert list(machine.handle(Done(9.6, append, None))) == []


def test_a_refusal_by_the_devices_sends_the_workload_back_to_the_queue() -> None:
    world = World(a_node("n1", cards=1))
    world.submit(an_owner("u1", gpu=(50, 1000)))
    state = DeviceState(at=1.0, source="gpushare", node="n1", ledger_seq=1, cards=(), refused={"u1": "card 0: memory"})
    world.tell(Arrived(1.0, state))
    assert world.node_of("u1") == ""
    assert "refused on n1 (card 0: memory)" in world.why("u1.2.requeued")
    world.pass_time(12)
    assert world.streams.held["n1"]["u1"].workload.attempt == 2


def test_shards_divide_the_workloads_and_share_the_ledger() -> None:
    both = [World(a_node(cores=64), settings=Settings(shards=2, shard=shard)) for shard in (0, 1)]
    workloads = [an_owner(f"u{i}") for i in range(20)]
    for world in both:
        world.submit(*workloads)
    mine, theirs = (set(world.streams.held["n1"]) for world in both)
    assert mine | theirs == {w.uid for w in workloads}
    assert not mine & theirs
    assert mine
    assert theirs


def test_1000_pods_of_one_shape_cost_one_evaluation_per_wake() -> None:
    world = World(a_node(cores=1), settings=Settings(batch=5000))
    world.submit(*(an_owner(f"u{i}", cores=2) for i in range(1000)))
    cycle = world.machine._cycle
    before = cycle.evaluations
    world.tell(Arrived(1.0, a_node(cores=1, at=1.0)))
    world.pass_time(1)
    assert cycle.evaluations - before == 1
    assert len(world.trail) == 1000


def test_usage_of_unknown_nodes_and_useless_reports_change_nothing() -> None:
    world = World(a_node())
    world.tell(
        Arrived(0.0, a_usage("stranger")),
        Arrived(0.0, a_usage("n1", cpu=None)),
        Arrived(0.0, a_usage("n1", cpu=float("nan"))),
    )
    world.submit(an_owner("u1"))
    assert world.node_of("u1") == "n1"


def test_the_plugins_folder_is_wired_by_settings_and_typos_stop_the_start() -> None:
    found = wired(Settings(tune={"allocation.guests": "pack", "load_aware.cpu_limit": 0.5}, weights={"gpu_share": 3.0}))
    assert [policy.name for policy in found] == [*Settings().order, "allocation"]
    by_name = {policy.name: policy for policy in found}
    assert by_name["allocation"].settings.guests == "pack"
    assert by_name["load_aware"].settings.cpu_limit == 0.5
    assert by_name["gpu_share"].weight == 3.0
    with pytest.raises(SettingsError, match=r"no plugin fitt \(there are: allocation, .*fit"):
        wired(Settings(order=("fitt",)))
    with pytest.raises(SettingsError, match="tune of allocation: .*there are: owners, guests, weights"):
        wired(Settings(tune={"allocation.guest": "pack"}))


def test_emits_carry_deterministic_ids() -> None:
    world = World(a_node())
    world.submit(an_owner("bad", cores=-1))
    assert [i.id for i in world.instructions if isinstance(i, Emit)] == ["bad.1.invalid"]


def test_who_was_placed_elsewhere_meanwhile_is_not_placed_here_as_well() -> None:
    machine = SchedulerMachine(Settings(), policies())
    machine.handle(Arrived(0.0, a_node("n1")))
    for channel in FIRST:
        machine.handle(Synced(0.0, channel))
    for number, uid in enumerate(("u1", "u2"), start=1):  # the first append is never answered, the second one waits
        workload = an_owner(uid)
        subject = WORKLOAD.at(namespace=workload.namespace, name=workload.name).subject
        machine.handle(Arrived(1.0, Submitted(at=1.0, source="test", workload=workload), subject, number))
    theirs = Placement(workload=an_owner("u2"), charged=an_owner("u2").requests)
    entry = Placed(at=1.0, source="scheduler", node="n2", placement=theirs, reason="another scheduler's")
    machine.handle(Arrived(2.0, entry, PLACEMENTS.at(node="n2").subject, 1))
    machine.validate()
    assert machine.explain(ExplainRequest(namespace="shop", name="u2")).node == "n2"
    assert machine.explain(ExplainRequest(namespace="shop", name="u1")).node == "n1"
