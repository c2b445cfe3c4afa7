"""The gateway between the API and the bus: who is told, bound, evicted, and what it does when it does not know."""

from __future__ import annotations

import msgspec
import pytest

from neap.common.kube.objects import BUDGETS, JOBS, NODES, PODS, Owner, OwnerReference, PodDisruptionBudget
from neap.common.kube.own import NODE_POOL_POLICIES, NodePoolPolicy
from neap.common.model.explanation import Explanation, NodeClassVerdict
from neap.common.model.lifecycle import Ended, EndReason, Started, Submitted
from neap.common.model.policy import PolicyDocument
from neap.common.runtime.machine import Arrived, Delete, Done, Emit, Failed, Heard, Instruction, Later, Put
from neap.gateway.core.acts import (
    Accepted,
    AlreadyGone,
    AnswerObject,
    AskWhy,
    Bind,
    Evict,
    Impossible,
    LostRace,
    NotNow,
    Refused,
    ResizePod,
    ShowEvent,
    Written,
)
from neap.gateway.core.asking.lease import Follows, Leads
from neap.gateway.core.hearing.reflector import Complete, Removed, Seen, Stale
from neap.gateway.settings import Settings
from tests.unit.gateway_world import World, a_pod, an_eviction, meta

UID = "uid-cart-1"


def bound(world: World, name: str = "cart-1") -> None:
    """A pod that asks for neap, placed and running on n1."""
    world.see(a_pod(name))
    world.place(0)
    world.hear()
    world.act()
    while world.news:
        world.tell(world.news.popleft())
    world.change(f"uid-{name}", phase="Running", container_statuses=a_pod(phase="Running").status.container_statuses)
    world.tell(world.news.popleft())
    world.hear()


def budgeted(world: World) -> None:
    world.tell(Heard(world.at, Complete(BUDGETS, "1", 0)))


def reasons(world: World) -> list[str]:
    return [one.body.get("reason", "series") for one in world.shown]


def test_a_pod_is_told_placed_bound_and_started() -> None:
    world = World()
    world.see(a_pod())
    [submitted] = world.told(Submitted)
    assert (submitted.source, submitted.node, submitted.workload.attempt) == ("gateway", "", 1)
    assert world.trail[0].root
    world.place()
    world.hear()
    world.see(a_pod(metadata={"labels": {"changed": "meanwhile"}}))
    [bind] = world.acts  # one is under way, and no second one
    assert isinstance(bind, Bind)
    assert (bind.uid, bind.node, bind.attempt) == (UID, world.held[UID].node, 1)
    world.act()
    assert [one.entry.what for one in world.trail] == ["submitted", "bound"]
    assert world.trail[1].entry.why == "it fits"  # the scheduler's own words
    assert "Scheduled" in reasons(world)
    assert not world.told(Started)
    world.change(UID, phase="Running", container_statuses=a_pod(phase="Running").status.container_statuses)
    for news in world.news:
        world.tell(news)
    [started] = world.told(Started)
    assert started.containers == {"main": "4f3a"}


def test_a_gate_holds_a_pod_back_until_it_is_taken_away() -> None:
    world = World()
    assert not world.see(a_pod(schedulingGates=[{"name": "quota"}]))
    world.see(a_pod())
    assert len(world.told(Submitted)) == 1


def test_a_pod_of_another_scheduler_is_told_once_it_has_a_node() -> None:
    world = World()
    assert not world.see(a_pod(scheduler="default-scheduler"))
    world.see(a_pod(scheduler="default-scheduler", node="n7", phase="Running"))
    world.see(a_pod(scheduler="default-scheduler", node="n7", phase="Running", metadata={"labels": {"a": "b"}}))
    [found] = world.told(Submitted)
    assert found.node == "n7"
    world.place()
    world.hear()
    assert not world.acts  # nothing to bind
    assert world.told(Started)[0].node == "n7"


def test_who_is_not_understood_is_refused_once_by_field_and_holds_up_nobody() -> None:
    world = World()
    odd = a_pod("odd", metadata={"annotations": {"neap.io/qos-level": "golden_cores"}})
    world.see(odd)
    world.see(odd)
    world.see(a_pod("fine"))
    assert [event.workload.name for event in world.told(Submitted)] == ["fine"]
    [line] = [one.entry for one in world.trail if one.entry.what == "refused"]
    assert "golden_cores" in line.why
    [event] = world.shown
    assert event.body["type"] == "Warning"
    assert "golden_cores" in event.body["note"]
    world.see(a_pod("odd"))  # its annotation was corrected
    assert len(world.told(Submitted)) == 2


def test_a_pod_waits_shortly_for_its_job_to_be_known() -> None:
    world = World()
    job = OwnerReference(kind="Job", name="night-281", uid="job", controller=True)
    world.see(a_pod(owner=job))
    assert not world.told(Submitted)
    cron = OwnerReference(kind="CronJob", name="night", uid="c", controller=True)
    world.tell(Heard(world.at, Seen(JOBS, Owner(metadata=meta("night-281", "job", cron)), "1")))
    world.pass_time(1.0)
    assert world.told(Submitted)[0].workload.owner == "CronJob/night"
    world.see(a_pod("late", owner=OwnerReference(kind="Job", name="x", uid="x", controller=True)))
    world.pass_time(1.0)
    assert len(world.told(Submitted)) == 1
    world.pass_time(2.0)
    assert world.told(Submitted)[1].workload.owner == "Job/x"  # bounded


def test_somebody_elses_binding_wins_and_is_taken_over() -> None:
    world = World()
    world.see(a_pod())
    world.place()
    world.hear()
    ours = world.held[UID].node
    world.tell(Done(world.at, world.acts.popleft(), LostRace("n9 has it", "n9")))
    [ended] = world.told(Ended)
    assert (ended.reason, ended.node, ended.attempt) == (EndReason.REFUSED, ours, 1)
    world.see(a_pod(node="n9"))
    found = world.told(Submitted)[-1]
    assert (found.node, found.workload.attempt) == ("n9", 2)


def test_a_node_that_the_api_shows_first_ends_the_attempt_elsewhere() -> None:
    world = World()
    world.see(a_pod())
    world.place()
    world.hear()
    world.see(a_pod(node="n9"))
    [ended] = world.told(Ended)
    assert (ended.reason, ended.attempt) == (EndReason.REFUSED, 1)
    assert world.told(Submitted)[-1].node == "n9"


def test_who_the_scheduler_refused_for_ever_is_not_told_again() -> None:
    world = World()
    world.see(a_pod())
    subject = world.life[0][0]
    invalid = Ended(at=world.at, source="scheduler", uid=UID, node="", attempt=1, reason=EndReason.INVALID)
    world.life.append((subject, invalid))
    world.hear()
    before = len(world.said)
    world.see(a_pod(metadata={"labels": {"a": "b"}}))
    world.start()
    world.pass_time(5.0)
    assert not [one for one in world.said[before:] if isinstance(one, Emit)]
    world.remove(UID)
    assert world.told(Ended) == [invalid]


def test_a_ledger_entry_that_comes_again_is_not_news() -> None:
    world = World()
    bound(world)
    placed = world.ledger[0]
    world.remove(UID)
    world.place()
    world.hear()
    assert UID not in world.held
    world.tell(Arrived(world.at, placed, seq=1))
    for _ in range(40):
        world.pass_time(1.0)
    assert len(world.told(Ended)) == 1


def test_what_the_api_refuses_goes_back_to_the_queue_and_what_it_cannot_be_asked_is_asked_again() -> None:
    world = World()
    world.see(a_pod())
    world.place()
    world.hear()
    bind = world.acts.popleft()
    world.tell(Failed(world.at, bind, "no answer", may_retry=True))
    assert not world.told(Ended)
    assert not world.acts
    world.pass_time(1.5)
    [again] = world.acts
    assert again == bind
    world.acts.clear()
    world.tell(Failed(world.at, bind, "no answer", may_retry=True))
    world.pass_time(1.5)
    assert not world.acts  # twice as long
    world.pass_time(1.0)
    world.tell(Done(world.at, world.acts.popleft(), Refused("no such node")))
    assert world.told(Ended)[0].reason is EndReason.REFUSED
    assert world.told(Ended)[0].detail.endswith("no such node")


def test_a_deleted_pod_is_over_for_ever_and_a_finished_one_finished() -> None:
    world = World()
    bound(world)
    node = world.held[UID].node
    world.remove(UID)
    [ended] = world.told(Ended)
    assert (ended.reason, ended.node, ended.attempt) == (EndReason.DELETED, node, 1)
    bound(world, "job-1")
    world.change("uid-job-1", phase="Failed")
    world.tell(world.news.popleft())
    world.remove("uid-job-1")
    assert [one.reason for one in world.told(Ended, "uid-job-1")] == [EndReason.FINISHED]


def test_a_ledger_entry_of_an_unknown_pod_is_not_bound_and_given_up_after_a_while() -> None:
    world = World()
    world.see(a_pod())
    world.place()
    world.api.clear()
    world.machine = type(world.machine)(world.settings)
    world.start()
    assert not world.acts
    world.pass_time(10.0)
    assert not world.told(Ended)
    world.pass_time(25.0)
    assert world.told(Ended)[0].reason is EndReason.DELETED


def test_nothing_counts_as_gone_while_nothing_is_heard() -> None:
    world = World()
    world.see(a_pod())
    world.place()
    world.api.clear()
    world.start()
    world.tell(Heard(world.at, Stale(PODS, world.at, "cut")))
    for _ in range(10):
        world.pass_time(60.0)
    assert not world.told(Ended)
    world.tell(Heard(world.at, Complete(PODS, "2", 0)))
    world.pass_time(1.0)
    assert len(world.told(Ended)) == 1


def test_who_follows_says_and_does_nothing_and_takes_over_where_the_other_stopped() -> None:
    world = World(Settings())
    world.see(a_pod())
    world.see(a_pod("found", node="n2", scheduler="default-scheduler"))
    assert not world.said
    [later] = world.tell(Arrived(world.at, an_eviction(at=world.at)))
    assert isinstance(later, Later)
    world.tell(Heard(world.at, Leads(7, world.at + 15)))
    assert sorted(event.workload.name for event in world.told(Submitted)) == ["cart-1", "found"]
    world.place()
    world.hear()
    assert [act.token for act in world.acts if isinstance(act, Bind)] == [7]
    before = len(world.said)
    world.tell(Heard(world.at, Leads(7, world.at + 20)))  # renewed
    assert len(world.said) == before
    world.tell(Heard(world.at, Follows("other")))
    world.see(a_pod("more"))
    world.pass_time(5.0)
    assert len(world.told(Submitted)) == 2
    world.tell(Heard(world.at, Leads(9, world.at + 1)))
    assert len(world.told(Submitted)) == 3
    world.at += 2  # not renewed in time
    world.see(a_pod("last"))
    assert len(world.told(Submitted)) == 3


# -- evictions


def ask(world: World, **what: object) -> list[Instruction]:
    return list(world.tell(Arrived(world.at, an_eviction(node=world.held[UID].node, at=world.at, **what))))  # type: ignore[arg-type]


def test_an_eviction_is_asked_told_and_ends_with_its_reason() -> None:
    world = World()
    budgeted(world)
    bound(world)
    [evict, later] = ask(world)
    assert isinstance(evict, Evict)
    assert evict.grace == 30.0
    assert isinstance(later, Later)  # the command stays on the bus until it is done
    world.tell(Done(world.at, evict, Accepted()))
    assert "Evicted" in reasons(world)
    assert "memory_pressure" in world.trail[-1].entry.why
    assert not ask(world)  # done: acknowledged
    world.remove(UID)
    assert world.told(Ended)[0].detail == "evicted: memory_pressure: memory 0.97 above 0.9"


def test_a_budget_without_room_holds_back_the_pod_and_all_others_under_it() -> None:
    world = World()
    budget = msgspec.convert({"metadata": {"name": "b", "namespace": "shop"}, "spec": {"selector": {"matchLabels": {"app": "cart"}}}}, PodDisruptionBudget)  # fmt: skip
    world.tell(Heard(world.at, Seen(BUDGETS, budget, "1")))
    budgeted(world)
    bound(world)
    bound(world, "cart-2")
    evict, _ = ask(world)
    world.tell(Done(world.at, evict, NotNow(0.0, "needs 2")))
    assert "EvictionRefused" in reasons(world)
    [held] = ask(world)
    assert isinstance(held, Later)
    assert held.delay == pytest.approx(5.0)
    other = an_eviction("uid-cart-2", name="cart-2", node=world.held["uid-cart-2"].node, at=world.at)
    [held] = world.tell(Arrived(world.at, other))
    assert isinstance(held, Later), "the budget is full for everybody under it"
    room = msgspec.structs.replace(budget, status=msgspec.structs.replace(budget.status, disruptions_allowed=1))
    world.tell(Heard(world.at, Seen(BUDGETS, room, "2")))
    assert isinstance(world.tell(Arrived(world.at, other))[0], Evict)
    world.at += 6
    evict, _ = ask(world)
    world.tell(Done(world.at, evict, NotNow(0.0, "needs 2")))
    assert ask(world)[0].delay == pytest.approx(10.0)  # type: ignore[attr-defined]
    assert reasons(world).count("EvictionRefused") == 1


def test_what_can_never_be_is_said_once_and_left_and_what_is_too_late_is_dropped() -> None:
    world = World()
    budgeted(world)
    bound(world)
    evict, _ = ask(world)
    world.tell(Done(world.at, evict, Impossible("two budgets")))
    assert "EvictionImpossible" in reasons(world)
    assert not ask(world)
    late = world.tell(Arrived(world.at, an_eviction("nobody", at=world.at)))
    assert not any(isinstance(one, Evict | Later) for one in late)
    old = an_eviction(node=world.held[UID].node, at=world.at - 5000, attempt=2)
    assert not any(isinstance(one, Evict | Later) for one in world.tell(Arrived(world.at, old)))
    assert world.trail[-1].entry.what == "not evicted"


def test_nobody_is_evicted_on_hearsay() -> None:
    world = World()
    budgeted(world)
    bound(world)
    world.tell(Heard(world.at, Stale(PODS, world.at - 31, "cut")))
    said = ask(world)
    assert not any(isinstance(one, Evict) for one in said)
    assert any(isinstance(one, Later) for one in said)
    world.tell(Heard(world.at, Complete(PODS, "2", 1)))
    assert isinstance(ask(world)[0], Evict)


def test_an_eviction_that_could_not_be_asked_comes_again() -> None:
    world = World()
    budgeted(world)
    bound(world)
    evict, _ = ask(world)
    assert not any(isinstance(one, Evict) for one in ask(world))  # under way
    world.tell(Failed(world.at, evict, "no answer", may_retry=True))
    assert isinstance(ask(world)[0], Evict)
    world.tell(Done(world.at, evict, AlreadyGone()))


# -- why it waits, sizes, our kinds


def test_a_pod_that_waits_shows_the_schedulers_reasons() -> None:
    world = World()
    world.see(a_pod())
    [ask_why] = [one for _ in range(12) for one in world.pass_time(1.0) if isinstance(one, AskWhy)]
    verdict = NodeClassVerdict(plugin="fit", reason="cpu", nodes=3, example="n1", nearest="n2: 1.5 short")
    why = Explanation(found=True, state="queued", nodes=3, rejected=(verdict,), wakes_on=("free",))
    world.tell(Done(world.at, ask_why, why))
    assert world.shown[-1].body["reason"] == "FailedScheduling"
    assert world.shown[-1].body["note"] == "0 of 3 nodes take it: 3 fit cpu (nearest: n2: 1.5 short); wakes on free"
    bound(world, "cart-2")
    world.place()
    world.hear()
    assert not [
        one for _ in range(400) for one in world.pass_time(1.0) if isinstance(one, AskWhy) and one.uid == "uid-cart-2"
    ]


def test_a_running_pod_is_resized_in_place_once() -> None:
    world = World()
    tell = Heard(world.at, Complete(PODS, "1", 1))
    bound(world)
    world.tell(tell)
    wish = {"annotations": {"neap.io/resize": '{"main": {"requests": {"cpu": "2"}}}'}}
    pod = a_pod(node=world.held[UID].node, phase="Running", metadata=wish)
    [act] = [one for one in world.see(pod) if isinstance(one, ResizePod)]
    assert act.resources == {"main": {"resources": {"requests": {"cpu": "2"}}}}
    assert act.uid == UID
    assert not [one for one in world.see(pod) if isinstance(one, ResizePod)]
    world.tell(Done(world.at, act, Written()))
    assert "Resized" in reasons(world)
    bad = a_pod(node=world.held[UID].node, phase="Running", metadata={"annotations": {"neap.io/resize": "{"}})
    world.see(bad)
    assert "ResizeRefused" in reasons(world)


def policy(value: float, name: str = "calm") -> NodePoolPolicy:
    document = {
        "metadata": {"name": name, "generation": 1},
        "spec": {"rooms": {"evictor": {"grace": value}}, "selector": "batch"},
    }
    return msgspec.convert(document, NodePoolPolicy)


def test_a_policy_that_people_apply_is_an_edition_and_is_taken_back_when_they_delete_it() -> None:
    world = World()

    def documents(said: list[Instruction]) -> list[PolicyDocument]:
        return [one.value for one in said if isinstance(one, Put) and isinstance(one.value, PolicyDocument)]

    said = world.tell(Heard(world.at, Seen(NODE_POOL_POLICIES, policy(60), "1")))
    [document] = documents(said)
    assert (document.room, document.now.patch) == ("evictor", {"grace": 60})
    [answer] = [one for one in said if isinstance(one, AnswerObject)]
    assert answer.status["conditions"][0]["reason"] == "Honoured"
    assert not documents(world.tell(Heard(world.at, Seen(NODE_POOL_POLICIES, policy(60), "2"))))
    [document] = documents(world.tell(Heard(world.at, Seen(NODE_POOL_POLICIES, policy(90), "3"))))
    assert [edition.patch["grace"] for edition in document.editions] == [90, 60]
    said = world.tell(Heard(world.at, Removed(NODE_POOL_POLICIES, "calm", "")))
    assert [one.key.subject for one in said if isinstance(one, Delete)] == ["evictor.npp_calm"]


def test_a_kind_that_is_gone_for_a_moment_takes_nothing_away() -> None:
    world = World()
    bound(world)
    before = len(world.said)
    for kind in (PODS, NODES):
        world.tell(Heard(world.at, Stale(kind, world.at - 100, "the API server is away")))
    for _ in range(100):
        world.pass_time(10.0)
    said = [one for one in world.said[before:] if not isinstance(one, ShowEvent)]
    assert not [one for one in said if isinstance(one, Delete | Bind | Evict)]
    assert not world.told(Ended)
