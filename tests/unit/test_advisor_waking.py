"""How an advisor goes on after a restart: what it asks for, what it says of it, and what it does without an answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.remembered import Memory
from neap.advisor.core.waking import STORED, AskReports
from neap.advisor.settings import Settings
from neap.common.model.advice import NodeAdvice
from neap.common.model.placement import Checkpoint
from neap.common.model.usage import ContainerUsage, NodeUsage, Reports, ReportsRequest
from neap.common.runtime.machine import Arrived, Done, Failed, Instruction, Put, Synced
from neap.common.runtime.remembering import TellMemory
from neap.common.units import GIB, KIB
from neap.reporter.core.recent import MOST, Recent
from tests.unit.test_advisor_node import POLICIES, a_pod, a_topology

PODS = (a_pod("a", cores=6), a_pod("b", cores=4, pool="batch"))


def a_report(at: float, cpu: float = 2.0) -> NodeUsage:
    containers = tuple(
        ContainerUsage(uid=uid, container="c", cgroup=uid, cpu=cpu, working_set=GIB) for uid in ("a", "b")
    )
    return NodeUsage(
        at=at, source="reporter", node="n", seq=int(at), period=1.0, cpu=5.0, memory_available=90 * GIB,
        containers=containers,
    )  # fmt: skip


def an_advisor(
    memory: Memory | None = None, advice: NodeAdvice | None = None, at: float = 0.0
) -> tuple[AdvisorMachine, Sequence[Instruction]]:
    machine = AdvisorMachine(Settings(node="n"), POLICIES)
    if memory is not None:
        machine.recall(memory, at)
    for message in (a_topology(), Checkpoint(at=0.0, source="s", node="n", placements=PODS), advice):
        if message is not None:
            machine.handle(Arrived(at, message))
    said = [one for channel in STORED for one in machine.handle(Synced(at, channel))]
    return machine, said


def advised(said: Sequence[Instruction]) -> NodeAdvice | None:
    return next((one.value for one in said if isinstance(one, Put) and isinstance(one.value, NodeAdvice)), None)


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


def test_a_reporter_tells_what_it_sent_and_knows_what_it_has_forgotten() -> None:
    recent = Recent()
    assert recent.answer(ReportsRequest(after=3)) == Reports()
    reports = [a_report(at) for at in range(5, 9)]
    for report in reports:
        recent.add(report)
    assert recent.answer(ReportsRequest(after=6)) == Reports(reports=tuple(reports[2:]), complete=True)
    assert recent.answer(ReportsRequest(after=8)) == Reports(complete=True)
    assert not recent.answer(ReportsRequest(after=4)).complete, "another life of it may have sent more"


def test_the_reports_a_reporter_keeps_fit_into_one_answer() -> None:
    recent, large = Recent(), "x" * 100 * KIB
    for at in range(1, 40):
        recent.add(NodeUsage(at=at, source=large, node="n", seq=at, period=1.0))
    kept = recent.answer(ReportsRequest(after=0))
    assert sum(len(report.source) for report in kept.reports) <= MOST
    assert kept.reports[-1].seq == 39
    oldest = kept.reports[0].seq
    assert recent.answer(ReportsRequest(after=oldest - 1)).complete
    assert not recent.answer(ReportsRequest(after=oldest - 2)).complete
