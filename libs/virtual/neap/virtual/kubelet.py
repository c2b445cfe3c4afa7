"""The kubelet of all virtual nodes, and the clockwork of their model. Pure.

The ledger says what belongs to a node; this machine starts it there, stops it when it is released, evicted or done,
and tells. Nothing is started before the histories (ledger, workload events, last report) are read to their end, and no attempt
of a workload runs twice: an attempt that ended is never started again, and a workload is on one node at a time.
A virtual pod stops at once: the grace of an eviction is not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from neap.common.contract.catalogue import DAY_REPORT, PLACEMENTS, WORKLOAD
from neap.common.errors import InputError
from neap.common.model.day import DayReport
from neap.common.model.lifecycle import Ended, EndReason, Eviction, Measured, Started
from neap.common.model.placement import Checkpoint, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Decide,
    Done,
    Emit,
    Event,
    Failed,
    Instruction,
    Later,
    Put,
    Synced,
    Tick,
)
from neap.common.units import Seconds
from neap.virtual import pod as virtual
from neap.virtual.behaviour import Curves, Origin, is_service, saved, virtual_pod
from neap.virtual.parts import Day
from neap.virtual.settings import Settings
from neap.virtual.tally import Step, Tally
from neap.virtual.trail import RETURNS, line

UNTIL_SYNCED: Seconds = 1.0
UP_WITHIN: Seconds = 600.0  # after it is due a service may take so long to run for the first time


@dataclass(frozen=True, slots=True)
class StartPod(Instruction):
    """Start this pod on the node's virtual host. Answers Done."""

    node: str
    attempt: int
    pod: virtual.VirtualPod


@dataclass(frozen=True, slots=True)
class StopPod(Instruction):
    """Stop it and remove its cgroup."""

    node: str
    uid: str


@dataclass(frozen=True, slots=True)
class AdvanceHosts(Instruction):
    """Let all virtual hosts live until `to`. Answers Done with a Step."""

    to: Seconds


@dataclass(slots=True)
class Run:
    """One attempt of a workload on its node. `left` are its containers that have work to do."""

    node: str
    workload: Workload
    containers: frozenset[str] = frozenset()
    left: set[str] = field(default_factory=set)
    runs: bool = False  # the host has it
    fresh: bool = False  # started after the hosts set out on the step that is on its way

    @property
    def attempt(self) -> int:
        """Which attempt of the workload this is."""
        return self.workload.attempt


class KubeletMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, day: Day, curves: Curves, origin: Origin, tally: Tally) -> None:
        self._settings, self._day, self._curves, self._origin, self._tally = settings, day, curves, origin, tally
        self._unread = {PLACEMENTS.pattern, WORKLOAD.pattern, DAY_REPORT.pattern}
        self._held: dict[str, dict[str, Placement]] = {}  # uid -> node -> placement
        self._sequence: dict[str, int] = {}  # node -> last ledger entry folded
        self._runs: dict[str, Run] = {}
        self._started: dict[str, int] = {}  # uid -> last attempt told as started
        self._ended: dict[str, int] = {}  # uid -> last attempt that is over
        self._saved: dict[str, float] = {}  # uid -> core-seconds kept of the attempts before
        self._due = {s.workload.uid: day.start + s.at for s in day.submissions if is_service(s.workload)}
        self._advancing = self._over = False
        self._steps = 0

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        match event:
            case Arrived(message=Placed() | Released() | Checkpoint()):
                return self._fold(event)
            case Arrived(message=Started(uid=uid, attempt=attempt)):
                self._remember(self._started, uid, attempt)
            case Arrived(message=Ended(uid=uid, attempt=attempt, reason=reason)):
                self._remember(self._ended, uid, attempt)
                if reason not in RETURNS:
                    self._due.pop(uid, None)
                return self._reconcile(uid, event.at)
            case Arrived(message=Eviction() as eviction):
                return self._evict(eviction, event.at)
            case Arrived(message=DayReport() as report) if self._unread:
                self._tally.resume(report)
            case Synced(channel=channel) if channel.pattern in self._unread:
                self._unread.discard(channel.pattern)
                return [act for uid in sorted(self._held) for act in self._reconcile(uid, event.at)]
            case Tick(name="advance") if not (self._unread or self._advancing):
                self._advancing = True
                return [AdvanceHosts(event.at // self._settings.step * self._settings.step)]
            case Done(instruction=StartPod() as start):
                return self._has_started(start, event.at)
            case Done(instruction=AdvanceHosts(to=to), outcome=Step() as step):
                return self._stepped(to, step, event.at)
            case Failed(instruction=StartPod() as start, error=error):
                return self._not_started(start, error, event.at)
            case Failed(instruction=AdvanceHosts()):
                self._advancing = False
        return ()

    def validate(self) -> None:
        """Every run is what the ledger says, and no workload is alive on two nodes.

        Raises:
            AssertionError: it is not so.
        """
        for uid, run in self._runs.items():
            held = self._held.get(uid, {}).get(run.node)
            attempt = held.workload.attempt if held else 0
            assert attempt == run.attempt, f"{uid} runs on {run.node} as {run.attempt}, the ledger says {attempt}"
            assert run.attempt > self._ended.get(uid, 0), f"{uid} attempt {run.attempt} is over and still runs"
        if not self._unread:
            twice = {uid: sorted(self._alive(uid)) for uid in self._held if len(self._alive(uid)) > 1}
            assert not twice, f"placed on two nodes at once: {twice}"

    # -- the ledger --------------------------------------------------------------------------------------------------

    def _fold(self, event: Arrived[Placed | Released | Checkpoint]) -> Sequence[Instruction]:
        entry = event.message
        if event.seq and event.seq <= self._sequence.get(entry.node, 0):
            return ()
        self._sequence[entry.node] = event.seq
        match entry:
            case Placed(placement=placement):
                touched = [placement.workload.uid]
                self._held.setdefault(touched[0], {})[entry.node] = placement
            case Released(uid=uid):
                touched = [uid]
                self._let_go(uid, entry.node)
            case Checkpoint(placements=placements):
                kept = {placement.workload.uid: placement for placement in placements}
                touched = sorted({uid for uid, nodes in self._held.items() if entry.node in nodes} | set(kept))
                for uid in touched:
                    self._let_go(uid, entry.node)
                for uid, placement in kept.items():
                    self._held.setdefault(uid, {})[entry.node] = placement
        return [act for uid in touched for act in self._reconcile(uid, event.at)]

    def _let_go(self, uid: str, node: str) -> None:
        nodes = self._held.get(uid, {})
        nodes.pop(node, None)
        if not nodes:
            self._held.pop(uid, None)

    def _alive(self, uid: str) -> dict[str, Workload]:
        """Where the ledger holds an attempt of it that is not over."""
        over = self._ended.get(uid, 0)
        held = self._held.get(uid, {})
        return {node: p.workload for node, p in held.items() if p.workload.attempt > over}

    def _reconcile(self, uid: str, at: Seconds) -> list[Instruction]:
        """Make one workload what the ledger says: stop what is not held, start what is held and not over."""
        if self._unread:
            return []
        acts: list[Instruction] = []
        alive, run = self._alive(uid), self._runs.get(uid)
        if run is not None and (run.node not in alive or alive[run.node].attempt != run.attempt):
            acts += self._stop(uid)
            run = None
        if len(alive) > 1:
            acts.append(Count("neap_virtual_placements_refused_total", len(alive) - 1, {"reason": "second-node"}))
        if run is None and alive:
            acts += self._start(*min(alive.items(), key=lambda item: (item[1].attempt, item[0])), at)
        return acts

    # -- starting and ending -----------------------------------------------------------------------------------------

    def _start(self, node: str, workload: Workload, at: Seconds) -> list[Instruction]:
        run = Run(node, workload)
        try:
            pod = virtual_pod(workload, self._curves, self._origin, self._saved.get(workload.uid, 0.0))
        except InputError as error:
            refused = Count("neap_virtual_placements_refused_total", 1, {"reason": "invalid"})
            return [
                refused,
                *self._end(run, at, reason=EndReason.INVALID, what="refused", why=str(error), detail=str(error)),
            ]
        run.containers, run.fresh = frozenset(container.id for container in pod.containers), self._advancing
        run.left = {container.id for container in pod.containers if isinstance(container.demand, virtual.Work)}
        self._runs[workload.uid] = run
        return [StartPod(node, workload.attempt, pod)]

    def _has_started(self, start: StartPod, at: Seconds) -> list[Instruction]:
        uid = start.pod.uid
        run = self._runs.get(uid)
        if run is None or run.attempt != start.attempt or run.node != start.node:
            return []  # stopped again before the host answered
        run.runs = True
        if self._started.get(uid, 0) >= run.attempt:
            return []  # started before this process was restarted, and told then
        self._remember(self._started, uid, run.attempt)
        self._tally.count_start()
        workload = run.workload
        names = zip(workload.containers, start.pod.containers, strict=True)
        started = Started(
            at=at,
            source="virtual",
            uid=uid,
            node=run.node,
            attempt=run.attempt,
            containers={asked.name: running.id for asked, running in names},
        )
        size = ", ".join(f"{kind} {amount}" for kind, amount in sorted(workload.requests.items()))
        why = f"{run.node} runs attempt {run.attempt} of {workload.key} ({workload.qos}): {size}"
        to = WORKLOAD.at(namespace=workload.namespace, name=workload.name)
        return [
            Emit(to, started, f"{uid}.{run.attempt}.started"),
            Decide(line(at, workload, "started", why, node=run.node)),
        ]

    def _not_started(self, start: StartPod, error: str, at: Seconds) -> Sequence[Instruction]:
        run = self._runs.get(start.pod.uid)
        if run is None or run.attempt != start.attempt:
            return ()
        del self._runs[start.pod.uid]
        why = f"{run.node} could not start it: {error}"
        return self._end(run, at, reason=EndReason.REFUSED, what="refused", why=why, detail=error)

    def _stop(self, uid: str) -> list[Instruction]:
        run = self._runs.pop(uid)
        self._tally.forget(uid)
        return [StopPod(run.node, uid)]

    def _end(
        self,
        run: Run,
        at: Seconds,
        *,
        reason: EndReason,
        what: str,
        why: str,
        detail: str = "",
        numbers: tuple[Measured, ...] = (),
    ) -> list[Instruction]:
        """Tell that an attempt is over; what runs of it is stopped."""
        workload = run.workload
        self._remember(self._ended, workload.uid, run.attempt)
        ended = Ended(
            at=at,
            source="virtual",
            uid=workload.uid,
            node=run.node,
            attempt=run.attempt,
            reason=reason,
            detail=detail[:400],
        )
        to = WORKLOAD.at(namespace=workload.namespace, name=workload.name)
        return [
            *(self._stop(workload.uid) if workload.uid in self._runs else ()),
            Emit(to, ended, f"{workload.uid}.{run.attempt}.ended"),
            Decide(line(at, workload, what, why, node=run.node, numbers=numbers)),
        ]

    def _evict(self, eviction: Eviction, at: Seconds) -> Sequence[Instruction]:
        if self._unread:
            return [Later(UNTIL_SYNCED)]
        run = self._runs.get(eviction.uid)
        if run is None or run.node != eviction.node or run.attempt != eviction.attempt:
            return [Count("neap_virtual_evictions_late_total", 1, {"rule": eviction.rule})]
        lost = self._lose(run)
        self._tally.count_eviction(eviction.rule)
        why = f"{eviction.node} stopped it, rule {eviction.rule}: {eviction.reason}; {lost:.0f} core-seconds are lost"
        return self._end(
            run,
            at,
            reason=EndReason.EVICTED,
            what="evicted",
            why=why,
            detail=f"{eviction.rule}: {eviction.reason}",
            numbers=eviction.measured,
        )

    def _lose(self, run: Run) -> float:
        """Core-seconds that are lost with this attempt; what it saved, the next one need not do."""
        if not run.left:
            return 0.0  # a service has no work that could be lost
        uid, before = run.workload.uid, self._saved.get(run.workload.uid, 0.0)
        done = self._tally.done_by(uid)
        if kept := saved(run.workload, before + done) - before:
            self._saved[uid] = before + kept
        self._tally.count_lost(uid, kept)
        return done - kept

    # -- the clockwork -----------------------------------------------------------------------------------------------

    def _stepped(self, to: Seconds, step: Step, at: Seconds) -> Sequence[Instruction]:
        self._advancing = False
        self._steps += 1
        classes = {uid: run.workload.qos for uid, run in self._runs.items() if not run.fresh}
        self._tally.step(step, classes, down=self._down(to))
        for run in self._runs.values():
            run.fresh = False
        acts = [act for finished in step.finished for act in self._finished(finished, at)]
        over = to >= self._day.end
        if not self._over and to >= self._day.start and (over or self._steps % self._settings.report_every == 0):
            self._over = over
            report = self._tally.report(at=to, behind=at - to, running=self._running())
            acts.append(Put(DAY_REPORT.at(cluster=self._settings.cluster), report))
        return acts

    def _down(self, to: Seconds) -> int:
        """Services that nobody serves: they ran and were ended, or were due long ago and never ran."""
        return sum(
            uid not in self._runs and (uid in self._started or to - due > UP_WITHIN) for uid, due in self._due.items()
        )

    def _finished(self, finished: virtual.Finished, at: Seconds) -> Sequence[Instruction]:
        run = self._runs.get(finished.uid)
        if run is None or finished.container not in run.containers:
            return ()
        done = self._tally.done_by(finished.uid)
        if finished.reason == virtual.EndReason.OOM:
            why = f"{run.node} ran out of memory in it; {self._lose(run):.0f} core-seconds are lost"
            return self._end(run, at, reason=EndReason.REFUSED, what="refused", why=why, detail="oom")
        run.left.discard(finished.container)
        if run.left:
            return ()
        if run.workload.qos is QosClass.RECLAIMED:
            self._tally.count_finish()
        self._saved.pop(finished.uid, None)
        why = f"{run.node} finished it: {done:.0f} core-seconds of work done"
        return self._end(run, at, reason=EndReason.FINISHED, what="finished", why=why)

    def _running(self) -> dict[str, int]:
        counts = dict.fromkeys(map(str, QosClass), 0)
        for run in self._runs.values():
            counts[run.workload.qos] += run.runs
        return counts

    def _remember(self, attempts: dict[str, int], uid: str, attempt: int) -> None:
        """Keep the highest attempt per workload, of the newest `remember` workloads."""
        attempts[uid] = max(attempt, attempts.pop(uid, 0))
        if len(attempts) > self._settings.remember:
            attempts.pop(next(iter(attempts)))
