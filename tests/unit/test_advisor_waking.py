"""How an advisor goes on after a restart: what it asks for, what it says of it, and what it does without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.remembered import Memory, PodMemory
from neap.advisor.core.waking import STORED, AskReports
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import PROFILES
from neap.common.cpuset import parse_cpuset
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.apart import Apart, Pair
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import ContainerUsage, NodeUsage, Reports, ReportsRequest
from neap.common.runtime.machine import Arrived, Decide, Done, Failed, Instruction, Put, Synced, Tick
from neap.common.runtime.remembering import TellMemory
from neap.common.units import GIB, KIB
from neap.reporter.core.recent import MOST, PAGE, Recent
from tests.unit.test_advisor_node import POLICIES, a_pod, a_topology

PODS = (a_pod("a", cores=6), a_pod("b", cores=4, pool="batch"))
LEDGER: Sequence[LedgerEntry] = (Checkpoint(at=0.0, source="s", node="n", placements=PODS),)
OWN = a_pod("d", QosClass.DEDICATED, cores=4)


def a_report(at: float, cpu: float = 2.0) -> NodeUsage:
    containers = tuple(
        ContainerUsage(uid=uid, container="c", cgroup=uid, cpu=cpu, working_set=GIB) for uid in ("a", "b")
    )
    return NodeUsage(
        at=at, source="reporter", node="n", seq=int(at), period=1.0, cpu=5.0, memory_available=90 * GIB,
        containers=containers,
    )  # fmt: skip


def an_advisor(
    memory: Memory | None = None,
    *words: NodeAdvice | Headroom | None,
    at: float = 0.0,
    ledger: Sequence[LedgerEntry] = LEDGER,
    topology: NodeTopology | None = None,
) -> tuple[AdvisorMachine, Sequence[Instruction]]:
    machine = AdvisorMachine(Settings(node="n"), POLICIES)
    if memory is not None:
        machine.recall(memory, at)
    machine.handle(Arrived(at, topology or a_topology()))
    for seq, entry in enumerate(ledger, 1):
        machine.handle(Arrived(at, entry, seq=seq))
    for word in words:
        if word is not None:
            machine.handle(Arrived(at, word))
    said = [one for channel in STORED for one in machine.handle(Synced(at, channel))]
    return machine, said


def placed(pod: Placement, at: float) -> Placed:
    return Placed(at=at, source="s", node="n", placement=pod, reason="")


def advised(said: Sequence[Instruction]) -> NodeAdvice | None:
    return next((one.value for one in said if isinstance(one, Put) and isinstance(one.value, NodeAdvice)), None)


def puts(said: Sequence[Instruction], kind: type) -> list[Any]:
    return [one.value for one in said if isinstance(one, Put) and isinstance(one.value, kind)]


def a_life(until: int) -> tuple[AdvisorMachine, NodeAdvice]:
    machine, _ = an_advisor()
    last = None
    for at in range(1, until + 1):
        last = advised(machine.handle(Arrived(float(at), a_report(at)))) or last
    assert last is not None
    return machine, last


def test_the_first_life_of_an_advisor_asks_nobody() -> None:
    assert not [one for one in an_advisor()[1] if isinstance(one, AskReports)]


def test_a_later_life_asks_for_the_reports_after_the_last_one_it_remembers() -> None:
    before, advice = a_life(until=8)
    machine, said = an_advisor(before.memory, advice, at=20.0)
    assert said == [AskReports(ReportsRequest(after=8))]
    assert not machine.handle(Arrived(20.0, a_report(20.0))), "it decides before it knows what it missed"


def test_reports_that_come_while_the_reporter_is_asked_are_not_lost() -> None:
    before, advice = a_life(until=8)
    machine, (asked,) = an_advisor(before.memory, advice, at=20.0)
    machine.handle(Arrived(20.0, a_report(20.0, cpu=9.0)))
    missed = Reports(reports=tuple(a_report(at) for at in range(9, 20)), complete=True)
    said = machine.handle(Done(20.1, asked, missed))
    assert TellMemory("memory.relived", "11 reports since then were lived again") in said
    there = machine.memory.pods["a"].cpu
    assert max(amount for _, amount in there) == 9.0
    steady, _ = a_life(until=19)
    steady.handle(Arrived(20.0, a_report(20.0, cpu=9.0)))
    assert machine.memory.pods == steady.memory.pods


def test_a_report_from_the_future_is_not_lived_again() -> None:
    before, advice = a_life(until=8)
    machine, (asked,) = an_advisor(before.memory, advice, at=20.0)
    machine.handle(Arrived(20.0, a_report(1e6)))
    machine.handle(Done(20.1, asked, Reports(reports=tuple(a_report(at) for at in range(9, 21)), complete=True)))
    reports = machine.memory.pods["a"].reports
    machine.handle(Arrived(21.0, a_report(21)))
    assert machine.memory.pods["a"].reports == reports + 1, "it is deaf until then"


@pytest.mark.parametrize("answered", [True, False], ids=["the reporter is new itself", "nobody answers"])
def test_where_reports_are_missing_it_goes_on_at_once_and_says_so(answered: bool) -> None:
    before, advice = a_life(until=8)
    machine, (asked,) = an_advisor(before.memory, advice, at=20.0)
    machine.handle(Arrived(20.0, a_report(20.0)))
    answer = Done(20.1, asked, Reports()) if answered else Failed(20.1, asked, "nobody serves it", may_retry=True)
    said = machine.handle(answer)
    assert [one.event for one in said if isinstance(one, TellMemory)] == ["memory.gap"]
    assert advised(said) is not None


def test_who_comes_back_after_a_long_silence_of_the_reporter_offers_nothing() -> None:
    """All is known that was said, and that is too old."""
    before, advice = a_life(until=8)
    machine, (asked,) = an_advisor(before.memory, advice, at=300.0)
    said = machine.handle(Done(300.1, asked, Reports(complete=True)))
    again = advised(said)
    assert again is not None
    assert again.stale


def test_a_report_that_comes_before_the_ledger_does_not_hide_how_old_the_rest_is() -> None:
    """The reporter keeps what it said for a minute, and five have passed: who came since then is not known."""
    memory = a_life(until=8)[0].memory
    machine = AdvisorMachine(Settings(node="n"), POLICIES)
    machine.recall(memory, 300.0)
    machine.handle(Arrived(300.0, replace(a_report(300), containers=a_report(300).containers[:1], since=290)))
    for message in (a_topology(), *LEDGER):
        machine.handle(Arrived(300.0, message))
    (asked,) = [one for channel in STORED for one in machine.handle(Synced(300.0, channel))]
    machine.handle(Failed(300.1, asked, "nobody serves it", may_retry=False))
    assert machine.memory.newest is not None, "the report was heard"
    assert not machine.memory.known


def test_what_came_before_the_first_round_is_heard_as_of_when_it_came() -> None:
    """An old report beside a new one is no time in which nobody reported."""
    machine = AdvisorMachine(Settings(node="n"), POLICIES)
    for at in (1.0, 30.0):
        machine.handle(Arrived(at, a_report(at)))
    for message in (a_topology(), *LEDGER):
        machine.handle(Arrived(30.0, message))
    said = [one for channel in STORED for one in machine.handle(Synced(30.2, channel))]
    assert not any(advice.stale for advice in puts(said, NodeAdvice))
    assert not any(offer.stale for offer in puts(said, Headroom))
    assert machine.memory.pods["a"].reports == 2


# -- by another's clock ----------------------------------------------------------------------------------------------


def cpus_of(advice: NodeAdvice, uid: str) -> frozenset[int]:
    return next(
        parse_cpuset(cgroup.knobs.cpus or "") for cgroup in advice.cgroups if cgroup.target.removeprefix("pod/") == uid
    )


@pytest.mark.parametrize("comes", [4, 10], ids=["before the memory was written", "after it was written"])
def test_an_owner_keeps_its_cpus_though_the_scheduler_is_ahead(comes: int) -> None:
    """It was placed a while ago, by a clock that says: just now. Whom it lay beside has gone since, right in time."""
    beside = a_pod("c", QosClass.DEDICATED, cores=4)
    gone = Released(at=comes + 0.5, source="s2", node="n", uid="c", reason="")
    ledger = (Checkpoint(at=0.0, source="s", node="n", placements=(*PODS, beside)), placed(OWN, at=19.5), gone)
    machine, _ = an_advisor(ledger=ledger[:1])
    last, memory = None, machine.memory
    for at in range(1, 13):
        for seq, entry in ((2, ledger[1]), (3, ledger[2])) if at == comes else ():
            last = advised(machine.handle(Arrived(float(at), entry, seq=seq))) or last
        last = advised(machine.handle(Arrived(float(at), a_report(at)))) or last
        memory = machine.memory if at == 8 else memory
    assert last is not None
    again, (asked,) = an_advisor(memory, last, at=20.0, ledger=ledger)
    missed = tuple(a_report(at) for at in range(9, 21))
    said = advised(again.handle(Done(20.1, asked, Reports(reports=missed, complete=True))))
    assert said is not None
    assert cpus_of(said, "d") == cpus_of(last, "d")


def test_the_ledger_comes_in_its_order_whatever_the_clocks_of_schedulers_say() -> None:
    """One placed it with a clock that was ahead; another one, right in time, took it off again."""
    before, advice = a_life(until=8)
    gone = Released(at=10.0, source="s2", node="n", uid="d", reason="")
    machine, (asked,) = an_advisor(before.memory, advice, at=20.0, ledger=(*LEDGER, placed(OWN, at=15.0), gone))
    missed = Reports(reports=tuple(a_report(at) for at in range(9, 21)), complete=True)
    machine.handle(Done(20.1, asked, missed))
    machine.validate()
    assert sorted(machine.memory.pods) == ["a", "b"]


@pytest.mark.parametrize("answered", [True, False], ids=["lived again", "nobody answers"])
def test_nobody_is_advised_before_being_placed(answered: bool) -> None:
    """Reports come every few seconds, and whoever is placed between two of them is not known to the first."""
    before, advice = a_life(until=8)
    machine, (asked,) = an_advisor(before.memory, advice, at=20.0, ledger=(*LEDGER, placed(OWN, at=12.9)))
    reports = tuple(a_report(at) for at in range(9, 21))
    for report in reports:
        machine.handle(Arrived(20.0, report))
    answer = Reports(reports=reports, complete=True)
    done = Done(20.1, asked, answer) if answered else Failed(20.1, asked, "nobody serves it", may_retry=False)
    (line,) = [one.entry for one in machine.handle(done) if isinstance(one, Decide) and one.entry.what == "advised"]
    assert line.about.name == "d"
    assert 12.9 <= line.at <= 20.1


# -- what is kept, and what is said of it ----------------------------------------------------------------------------


def test_it_waits_for_no_profiles_and_goes_on_believing_those_it_has_not_read_yet() -> None:
    """There may be many, and owners cannot wait; a profile that is gone is believed no more."""
    before = a_life(until=8)[0].memory
    memory = replace(before, pods={uid: replace(pod, right=7) for uid, pod in before.pods.items()})
    machine, (asked,) = an_advisor(memory, at=20.0)
    machine.handle(Done(20.1, asked, Reports(reports=(a_report(9.0),), complete=True)))
    assert machine.memory.pods["a"].right == 7
    machine.handle(Synced(20.2, PROFILES))
    machine.handle(Arrived(21.0, a_report(21.0)))
    assert machine.memory.pods["a"].right == 0


def a_pair(until: float) -> dict[str, Pair]:
    return {"o|g": Pair(owner="o", guest="g", until=until, why="")}


def test_a_pair_that_ended_while_nobody_was_there_is_said_to_have_ended() -> None:
    before, advice = a_life(until=8)
    memory = replace(before.memory, neighbours=replace(before.memory.neighbours, pairs=a_pair(until=10.0)))
    machine, (asked,) = an_advisor(memory, advice, at=20.0)
    machine.handle(Done(20.1, asked, Reports(reports=tuple(a_report(at) for at in range(9, 21)), complete=True)))
    (apart,) = puts(machine.handle(Arrived(21.0, a_report(21))), Apart)
    assert not apart.pairs


@pytest.mark.parametrize("late", [0.0, 0.4])
def test_who_disturbs_whom_is_decided_as_of_the_report_and_not_of_its_arrival(late: float) -> None:
    before, advice = a_life(until=8)
    memory = replace(before.memory, neighbours=replace(before.memory.neighbours, pairs=a_pair(until=9.2)))
    machine, (asked,) = an_advisor(memory, advice, at=8.5)
    machine.handle(Done(8.6, asked, Reports(complete=True)))
    machine.handle(Arrived(9.0 + late, a_report(9)))
    assert machine.memory.neighbours.pairs


def test_what_an_earlier_life_remembers_counts_though_the_cpus_of_guests_are_gone() -> None:
    before, advice = a_life(until=8)
    guests = next(pool.cpus for pool in advice.pools if pool.name == "reclaimed")
    left = ",".join(str(cpu) for cpu in sorted(set(range(32)) - parse_cpuset(guests)))
    machine, (asked,) = an_advisor(before.memory, advice, at=10.0, topology=a_topology(usable=left))
    said = machine.handle(Done(10.1, asked, Reports(reports=(a_report(9), a_report(10)), complete=True)))
    machine.validate()
    assert [one.event for one in said if isinstance(one, TellMemory)] == ["memory.relived"]


def test_an_offer_that_moved_by_little_since_it_was_said_is_still_held_against_what_was_said() -> None:
    before, advice = a_life(until=8)
    lending = before.memory.lending
    assert lending is not None
    said = {kind: int(offer * 0.985) for kind, offer in lending.offer.items()}
    word = Headroom(at=7.0, source="advisor", node="n", offer=said, arithmetic={})
    machine, (asked,) = an_advisor(before.memory, advice, word, at=9.2)
    (told,) = puts(machine.handle(Done(9.3, asked, Reports(reports=(a_report(9),), complete=True))), Headroom)
    assert told.offer[RECLAIMED_CPU] > said[RECLAIMED_CPU]


def test_a_time_in_which_no_report_came_ends_promises_also_for_who_lives_it_again() -> None:
    (steady, advice), (before, _) = a_life(until=8), a_life(until=8)
    for at in range(9, 40):
        advice = advised(steady.handle(Tick(float(at), "advise"))) or advice
    machine, (asked,) = an_advisor(before.memory, advice, at=40.0)
    steady.handle(Arrived(40.0, a_report(40)))
    machine.handle(Done(40.1, asked, Reports(reports=(a_report(40),), complete=True)))
    assert steady.memory.lending is not None
    assert machine.memory.lending is not None
    assert machine.memory.lending.highest == steady.memory.lending.highest
    assert machine.memory.lending.offer == steady.memory.lending.offer


def test_a_memory_of_use_without_the_reports_it_came_from_breaks_nothing() -> None:
    before, advice = a_life(until=8)
    odd = replace(before.memory, pods={"a": PodMemory(reports=9, smooth=2.0)})
    machine, (asked,) = an_advisor(odd, advice, at=10.0)
    machine.handle(Failed(10.1, asked, "nobody serves it", may_retry=False))
    machine.handle(Arrived(11.0, a_report(11)))
    machine.validate()


def test_a_reporter_tells_what_it_sent_and_knows_what_it_has_forgotten() -> None:
    recent = Recent()
    assert recent.answer(ReportsRequest(after=3)) == Reports()
    reports = [a_report(at) for at in range(5, 9)]
    for report in reports:
        recent.add(report)
    assert recent.answer(ReportsRequest(after=6)) == Reports(reports=tuple(reports[2:]), complete=True)
    assert recent.answer(ReportsRequest(after=8)) == Reports(complete=True)
    assert not recent.answer(ReportsRequest(after=4)).complete, "another life of it may have sent more"


def test_a_reporter_keeps_so_many_reports_and_tells_them_in_answers_that_a_message_can_hold() -> None:
    recent, large = Recent(), "x" * 100 * KIB
    for at in range(1, 40):
        recent.add(NodeUsage(at=at, source=large, node="n", seq=at, period=1.0))
    oldest = 40 - MOST // (101 * KIB)
    assert not recent.answer(ReportsRequest(after=oldest - 2)).complete
    told, more = [oldest - 1], True
    while more:
        page = recent.answer(ReportsRequest(after=told[-1]))
        assert page.complete
        assert 0 < sum(len(report.source) for report in page.reports) <= PAGE
        told, more = [*told, *(report.seq for report in page.reports)], page.more
    assert told[1:] == list(range(oldest, 40))


def test_an_answer_in_parts_is_asked_for_to_its_end() -> None:
    before, advice = a_life(until=8)
    machine, (asked,) = an_advisor(before.memory, advice, at=20.0)
    first = Reports(reports=tuple(a_report(at) for at in range(9, 12)), complete=True, more=True)
    (again,) = machine.handle(Done(20.1, asked, first))
    assert again == AskReports(ReportsRequest(after=11))
    rest = Reports(reports=tuple(a_report(at) for at in range(12, 20)), complete=True)
    said = machine.handle(Done(20.2, again, rest))
    assert TellMemory("memory.relived", "11 reports since then were lived again") in said
    assert machine.memory.pods == a_life(until=19)[0].memory.pods
