"""The virtual kubelet: what it starts and stops, what it tells, and how the day adds up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from neap.common.contract.catalogue import DAY_REPORT, PLACEMENTS, WORKLOAD
from neap.common.model.day import DayReport
from neap.common.model.lifecycle import Ended, EndReason, Eviction, Measured, Started
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.model.trail import TrailEntry
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Decide,
    Done,
    Emit,
    Failed,
    Instruction,
    Later,
    Put,
    Synced,
    Tick,
)
from neap.virtual.behaviour import Origin
from neap.virtual.kubelet import AdvanceHosts, KubeletMachine, StartPod, StopPod
from neap.virtual.parts import Day, Submission
from neap.virtual.pod import ContainerState, Finished, Observation, ServiceState
from neap.virtual.pod import EndReason as PodEnd
from neap.virtual.settings import Settings
from neap.virtual.tally import Step, Tally, condense

START, END = 600.0, 6000.0


def a_workload(uid: str = "u1", attempt: int = 1, qos: QosClass = QosClass.RECLAIMED, **annotations: str) -> Workload:
    told = {f"virtual.neap.io/{name}": value for name, value in annotations.items()}
    requests = {RECLAIMED_CPU: 2000} if qos == QosClass.RECLAIMED else {"cpu": 2000}
    container = Container(name="main", requests=requests)
    return Workload(
        uid=uid,
        namespace="batch",
        name=uid,
        qos=qos,
        containers=(container,),
        attempt=attempt,
        annotations=told,
        owner="Job/j",
    )


def placed(workload: Workload, node: str = "n1") -> Placed:
    return Placed(
        at=0, source="scheduler", node=node, placement=Placement(workload=workload, charged={}), reason="fits"
    )


def released(uid: str = "u1", node: str = "n1") -> Released:
    return Released(at=0, source="scheduler", node=node, uid=uid, reason="over")


def eviction(uid: str = "u1", attempt: int = 1, node: str = "n1") -> Eviction:
    measured = (Measured(metric="psi", value=0.4, threshold=0.2),)
    return Eviction(
        at=0, source="evictor", node=node, uid=uid, namespace="batch", name=uid, attempt=attempt,
        rule="memory-pressure", reason="0.4 > 0.2", measured=measured, ranking="largest", grace=5.0,
    )  # fmt: skip


class Bench:
    """A kubelet with what a test wants to ask it."""

    def __init__(
        self, *, synced: bool = True, settings: Settings | None = None, submissions: Sequence[Submission] = ()
    ) -> None:
        day = Day("test", START, END - START, tuple(submissions))
        self.tally = Tally(day, nodes=2, capacity=64.0, step=60.0)
        self.machine = KubeletMachine(settings or Settings(), day, {}, Origin(START, 300.0, 1), self.tally)
        self.at = START
        if synced:
            self.sync()

    def sync(self) -> list[Instruction]:
        return [
            act
            for channel in (WORKLOAD, DAY_REPORT, PLACEMENTS)
            for act in self.machine.handle(Synced(self.at, channel))
        ]

    def hears(self, *messages: object) -> list[Instruction]:
        acts = [act for message in messages for act in self.machine.handle(Arrived(self.at, message))]
        self.machine.validate()
        return acts

    def runs(self, entry: LedgerEntry) -> list[Instruction]:
        """Folds an entry and lets the host start what it leads to."""
        acts = self.hears(entry)
        return [
            act
            for start in acts
            if isinstance(start, StartPod)
            for act in self.machine.handle(Done(self.at, start, True))
        ]

    def steps(self, to: float, **seen: object) -> list[Instruction]:
        (advance,) = self.machine.handle(Tick(to + 0.01, "advance"))
        assert advance == AdvanceHosts(to)
        step = Step(at=to, **({"core_seconds": {}, "services": (), "violated": ()} | seen))
        acts = list(self.machine.handle(Done(to + 0.5, advance, step)))
        self.machine.validate()
        return acts


def emitted(acts: Sequence[Instruction]) -> list[tuple[str, object]]:
    return [(act.id, act.message) for act in acts if isinstance(act, Emit)]


def trail(acts: Sequence[Instruction]) -> list[TrailEntry]:
    return [act.entry for act in acts if isinstance(act, Decide)]


def report(acts: Sequence[Instruction]) -> DayReport:
    (put,) = [act for act in acts if isinstance(act, Put)]
    assert isinstance(put.value, DayReport)
    return put.value


def test_what_the_ledger_places_is_started_and_told() -> None:
    bench = Bench()
    (start,) = bench.hears(placed(a_workload()))
    assert isinstance(start, StartPod)
    assert (start.node, start.attempt) == ("n1", 1)
    acts = list(bench.machine.handle(Done(START, start, True)))
    ((identity, started),) = emitted(acts)
    assert identity == "u1.1.started"
    assert isinstance(started, Started)
    assert started.containers == {"main": start.pod.containers[0].id}
    assert len(started.containers["main"]) == 64
    (entry,) = trail(acts)
    assert (entry.what, entry.node, entry.parent) == ("started", "n1", "Job/j")


def test_nothing_is_started_before_all_histories_are_read() -> None:
    bench = Bench(synced=False)
    assert bench.hears(placed(a_workload("u1")), placed(a_workload("u2")), placed(a_workload("u3"))) == []
    assert bench.hears(released("u3")) == []
    assert bench.hears(Ended(at=0, source="virtual", uid="u2", node="n1", attempt=1, reason=EndReason.FINISHED)) == []
    assert list(bench.machine.handle(Tick(700.0, "advance"))) == []
    assert [act.pod.uid for act in bench.sync() if isinstance(act, StartPod)] == ["u1"]


def test_after_a_restart_a_pod_is_started_again_but_not_told_again() -> None:
    bench = Bench(synced=False)
    bench.hears(placed(a_workload()), Started(at=0, source="virtual", uid="u1", node="n1", attempt=1))
    (start,) = bench.sync()
    assert list(bench.machine.handle(Done(START, start, True))) == []


def test_an_eviction_stops_the_pod_and_says_what_is_lost() -> None:
    bench = Bench()
    bench.runs(placed(a_workload()))
    bench.steps(660.0, core_seconds={"u1": 90.0})
    acts = bench.hears(eviction())
    assert acts[0] == StopPod("n1", "u1")
    ((identity, ended),) = emitted(acts)
    assert isinstance(ended, Ended)
    assert (identity, ended.reason, ended.detail) == ("u1.1.ended", EndReason.EVICTED, "memory-pressure: 0.4 > 0.2")
    (entry,) = trail(acts)
    assert entry.what == "evicted"
    assert "90 core-seconds are lost" in entry.why
    assert entry.numbers[0].value == 0.4
    told = report(bench.steps(720.0))
    assert (told.evictions, told.lost_core_seconds) == ({"memory-pressure": 1}, 90.0)


@pytest.mark.parametrize("late", [eviction("stranger"), eviction(attempt=2), eviction(node="n2")])
def test_an_eviction_of_what_does_not_run_here_is_counted_and_forgotten(late: Eviction) -> None:
    bench = Bench()
    bench.runs(placed(a_workload()))
    assert bench.hears(late) == [Count("neap_virtual_evictions_late_total", 1, {"rule": "memory-pressure"})]


def test_an_eviction_before_the_histories_are_read_comes_back_later() -> None:
    (later,) = Bench(synced=False).hears(eviction())
    assert isinstance(later, Later)


def test_a_guest_that_did_its_work_is_finished() -> None:
    bench = Bench()
    bench.runs(placed(a_workload(demand="work", width="2", work="100")))
    done = Finished(at=650.0, uid="u1", container=runtime(bench), reason=PodEnd.DONE, core_seconds=100.0)
    acts = bench.steps(660.0, core_seconds={"u1": 100.0}, finished=(done,))
    assert acts[0] == StopPod("n1", "u1")
    ((_, ended),) = emitted(acts)
    assert isinstance(ended, Ended)
    assert ended.reason == EndReason.FINISHED
    assert (report(acts).finished, report(acts).core_seconds["reclaimed_cores"]) == (1, 100.0)
    assert bench.hears(placed(a_workload())) == [], "an attempt that is over does not run again"
    assert [act.attempt for act in bench.hears(placed(a_workload(attempt=2))) if isinstance(act, StartPod)] == [2]


def runtime(bench: Bench) -> str:
    (run,) = bench.machine._runs.values()
    (container,) = run.containers
    return container


def test_a_pod_that_ran_out_of_memory_is_refused_and_goes_back() -> None:
    bench = Bench()
    bench.runs(placed(a_workload()))
    killed = Finished(at=650.0, uid="u1", container=runtime(bench), reason=PodEnd.OOM, core_seconds=30.0)
    acts = bench.steps(660.0, core_seconds={"u1": 30.0}, finished=(killed,))
    ((_, ended),) = emitted(acts)
    assert isinstance(ended, Ended)
    assert (ended.reason, ended.detail) == (EndReason.REFUSED, "oom")
    assert report(acts).lost_core_seconds == 30.0


def test_a_bad_annotation_ends_the_workload_as_invalid_with_the_key_named() -> None:
    acts = Bench().hears(placed(a_workload(demand="dance")))
    ((_, ended),) = emitted(acts)
    assert isinstance(ended, Ended)
    assert ended.reason == EndReason.INVALID
    assert "virtual.neap.io/demand" in ended.detail
    assert not [act for act in acts if isinstance(act, StartPod)]


def test_a_host_that_cannot_start_a_pod_refuses_it() -> None:
    bench = Bench()
    (start,) = bench.hears(placed(a_workload()))
    ((_, ended),) = emitted(list(bench.machine.handle(Failed(START, start, "no such host", may_retry=False))))
    assert isinstance(ended, Ended)
    assert (ended.reason, ended.detail) == (EndReason.REFUSED, "no such host")


def test_what_is_released_or_ended_elsewhere_or_missing_from_a_checkpoint_is_stopped() -> None:
    for message in (
        released(),
        Ended(at=0, source="gateway", uid="u1", node="n1", attempt=1, reason=EndReason.DELETED),
        Checkpoint(at=0, source="scheduler", node="n1", placements=()),
    ):
        bench = Bench()
        bench.runs(placed(a_workload()))
        assert bench.hears(message) == [StopPod("n1", "u1")]


def test_a_second_node_is_refused_counted_and_caught_by_validate() -> None:
    bench = Bench()
    bench.runs(placed(a_workload()))
    with pytest.raises(AssertionError, match="two nodes at once"):
        bench.hears(placed(a_workload(), node="n2"))
    acts = bench.machine.handle(Arrived(START, placed(a_workload(attempt=2), node="n2")))
    assert acts == [Count("neap_virtual_placements_refused_total", 1, {"reason": "second-node"})]
    (stop, start) = bench.hears(released())
    assert stop == StopPod("n1", "u1")
    assert isinstance(start, StartPod), "it starts there once the first node let go"
    assert start.node == "n2"


def test_the_day_adds_up_service_minutes_and_cores_by_class() -> None:
    bench = Bench()
    bench.runs(placed(a_workload("s1", qos=QosClass.SHARED)))
    bench.steps(660.0, core_seconds={"s1": 60.0}, services=("s1",))
    told = report(bench.steps(720.0, core_seconds={"s1": 180.0}, services=("s1",), violated=("s1",)))
    assert (told.service_minutes, told.violation_minutes, told.started) == (2, 1, 1)
    assert (told.core_seconds["shared_cores"], told.recent_cores["shared_cores"]) == (180.0, 2.0)
    assert told.running == {"dedicated_cores": 0, "shared_cores": 1, "reclaimed_cores": 0, "system_cores": 0}
    assert told.behind == pytest.approx(0.5)


def test_only_guests_are_counted_as_finished_guests_and_a_service_has_no_work_to_lose() -> None:
    bench = Bench()
    bench.runs(placed(a_workload("job", qos=QosClass.SHARED, demand="work", width="2", work="100")))
    (container,) = bench.machine._runs["job"].containers
    done = Finished(at=650.0, uid="job", container=container, reason=PodEnd.DONE, core_seconds=100.0)
    assert report(bench.steps(660.0, core_seconds={"job": 100.0}, finished=(done,))).finished == 0
    bench.runs(placed(a_workload("web", qos=QosClass.SHARED)))
    (container,) = bench.machine._runs["web"].containers
    killed = Finished(at=710.0, uid="web", container=container, reason=PodEnd.OOM, core_seconds=90.0)
    assert report(bench.steps(720.0, core_seconds={"web": 90.0}, finished=(killed,))).lost_core_seconds == 0


def test_a_service_that_was_killed_is_in_violation_until_it_runs_again() -> None:
    service = a_workload("s1", qos=QosClass.SHARED, mean="0.01", objective="0.2")
    bench = Bench(submissions=[Submission(0.0, service)])
    bench.runs(placed(service))
    killed = Finished(at=650.0, uid="s1", container=runtime(bench), reason=PodEnd.OOM, core_seconds=30.0)
    first = bench.steps(660.0, core_seconds={"s1": 30.0}, services=("s1",), violated=("s1",), finished=(killed,))
    bench.hears(*(message for _, message in emitted(first)))
    told = report(bench.steps(840.0))
    assert (told.service_minutes, told.violation_minutes) == (4, 4), "nobody answers for three minutes"
    bench.runs(placed(msgspec.structs.replace(service, attempt=2)))
    told = report(bench.steps(900.0, services=("s1",)))
    assert (told.service_minutes, told.violation_minutes) == (5, 4)


def test_a_service_that_finds_no_node_is_in_violation_ten_minutes_after_it_is_due() -> None:
    service = a_workload("s1", qos=QosClass.SHARED, mean="0.01", objective="0.2")
    bench = Bench(submissions=[Submission(60.0, service), Submission(0.0, a_workload("g1"))])
    assert report(bench.steps(START + 660.0)).violation_minutes == 0
    told = report(bench.steps(START + 780.0))
    assert (told.service_minutes, told.violation_minutes) == (2, 2)
    deleted = Ended(at=0, source="gateway", uid="s1", node="", attempt=1, reason=EndReason.DELETED)
    bench.hears(deleted)
    assert report(bench.steps(START + 900.0)).violation_minutes == 2, "it is not wanted any more"


def test_a_new_attempt_started_while_the_hosts_advance_is_not_charged_with_the_old_ones_work() -> None:
    bench = Bench()
    bench.runs(placed(a_workload()))
    bench.steps(660.0, core_seconds={"u1": 60.0})
    (advance,) = bench.machine.handle(Tick(720.0, "advance"))
    bench.hears(eviction())
    bench.runs(placed(a_workload(attempt=2)))
    step = Step(at=720.0, core_seconds={"u1": 120.0}, services=(), violated=())
    assert report(bench.machine.handle(Done(720.0, advance, step))).core_seconds["reclaimed_cores"] == 60.0
    assert report(bench.steps(780.0, core_seconds={"u1": 10.0})).core_seconds["reclaimed_cores"] == 70.0


def test_a_ledger_entry_delivered_again_changes_nothing() -> None:
    bench = Bench()
    first = Arrived(START, placed(a_workload()), seq=7)
    (start,) = bench.machine.handle(first)
    assert isinstance(start, StartPod)
    assert list(bench.machine.handle(Arrived(START, released(), seq=8))) == [StopPod("n1", "u1")]
    assert list(bench.machine.handle(first)) == []


@pytest.mark.parametrize("reason", list(PodEnd))
def test_an_old_attempts_end_is_not_taken_for_the_new_ones(reason: PodEnd) -> None:
    bench = Bench()
    bench.runs(placed(a_workload(demand="work", width="2", work="100")))
    old = Finished(at=650.0, uid="u1", container=runtime(bench), reason=reason, core_seconds=100.0)
    bench.hears(eviction())
    bench.runs(placed(a_workload(attempt=2, demand="work", width="2", work="100")))
    assert emitted(bench.steps(660.0, core_seconds={"u1": 100.0}, finished=(old,))) == []


def test_the_day_is_over_once_and_sums_stop_there() -> None:
    bench = Bench()
    bench.runs(placed(a_workload("s1", qos=QosClass.SHARED)))
    assert not report(bench.steps(END - 60, core_seconds={"s1": 10.0}, services=("s1",))).over
    last = report(bench.steps(END, core_seconds={"s1": 20.0}, services=("s1",)))
    assert last.over
    assert not [act for act in bench.steps(END + 60, core_seconds={"s1": 30.0}) if isinstance(act, Put)]


def test_a_restart_goes_on_from_the_last_report() -> None:
    before = Bench()
    before.runs(placed(a_workload()))
    told = report(before.steps(660.0, core_seconds={"u1": 60.0}))
    after = Bench(synced=False)
    after.hears(placed(a_workload()), Started(at=0, source="virtual", uid="u1", node="n1", attempt=1), told)
    after.sync()
    told = report(after.steps(1260.0, core_seconds={"u1": 5.0}))
    assert (told.core_seconds["reclaimed_cores"], told.started) == (65.0, 1)


def test_a_step_is_condensed_from_what_the_hosts_saw() -> None:
    def state(uid: str, done: float) -> ContainerState:
        return ContainerState(uid=uid, container=uid, wanted=1, used=1, core_seconds=done, memory=0)

    slow = ServiceState(uid="a", offered=1, used=1, cores=1, p99=0.3, objective=0.2)
    good = msgspec.structs.replace(slow, uid="b", p99=0.1)
    seen = Observation(
        at=1, cpus=8, used=2, containers=(state("a", 3), state("a", 4), state("b", 5)), services=(slow, good)
    )
    step = condense(1.0, [seen], [])
    assert step.core_seconds == {"a": 7.0, "b": 5.0}
    assert (step.services, step.violated) == (("a", "b"), ("a",))
