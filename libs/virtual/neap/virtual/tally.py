"""The sums of a day: what the virtual hosts did, added up step by step into a DayReport.

core-seconds of a class += Σ over its pods of (core-seconds since start now − at the step before)
service-minutes         += pods with a service model × step, whether they run or are down (kubelet.UP_WITHIN)
in violation             = those whose modelled p99 is above their objective, and those that are down
A replica counts as a service of its own: it has its own cores and its own latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from neap.common.model.day import DayReport
from neap.common.model.qos import QosClass
from neap.common.units import MINUTE, Cores, Seconds
from neap.virtual.parts import Day
from neap.virtual.pod import Finished, Observation


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What all hosts came to at `at`, without what nobody adds up. Core-seconds count from each pod's start."""

    at: Seconds
    core_seconds: dict[str, float]  # by uid
    services: tuple[str, ...]  # uids observed
    violated: tuple[str, ...]  # those above their objective
    finished: tuple[Finished, ...] = ()


def condense(at: Seconds, seen: Sequence[Observation], finished: Sequence[Finished]) -> Step:
    """One step out of what the hosts observed."""
    core_seconds: dict[str, float] = {}
    for observation in seen:
        for state in observation.containers:
            core_seconds[state.uid] = round(core_seconds.get(state.uid, 0.0) + state.core_seconds, 6)
    services = [state for observation in seen for state in observation.services]
    return Step(
        at=at,
        core_seconds=core_seconds,
        services=tuple(state.uid for state in services),
        violated=tuple(state.uid for state in services if state.violated),
        finished=tuple(finished),
    )


class Tally:
    """See module docstring. Counts only what happens between the day's start and its end."""

    def __init__(self, day: Day, *, nodes: int, capacity: Cores, step: Seconds) -> None:
        self._day, self._nodes, self._capacity, self._step = day, nodes, capacity, step
        self._seen: dict[str, float] = {}  # core-seconds by uid at the last step
        self._at: Seconds | None = None  # of the last step of this process
        self._core_seconds = dict.fromkeys(map(str, QosClass), 0.0)
        self._recent = dict.fromkeys(map(str, QosClass), 0.0)
        self._service_seconds = self._violation_seconds = self._lost = 0.0
        self._started = self._finished = 0
        self._evictions: dict[str, int] = {}

    def resume(self, report: DayReport) -> None:
        """Go on from a report of this day, written before a restart."""
        if report.day_start != self._day.start or report.over:
            return
        self._core_seconds |= report.core_seconds
        self._service_seconds = report.service_minutes * MINUTE
        self._violation_seconds = report.violation_minutes * MINUTE
        self._started, self._finished = report.started, report.finished
        self._evictions, self._lost = dict(report.evictions), report.lost_core_seconds

    def step(self, step: Step, classes: Mapping[str, QosClass], *, down: int = 0) -> None:
        """Add one step; `classes` by uid of the pods that ran in it, `down`: services that should have and did not."""
        since = step.at - self._step if self._at is None else self._at
        elapsed = min(step.at, self._day.end) - max(since, self._day.start)
        gained = dict.fromkeys(self._core_seconds, 0.0)
        now = {uid: total for uid, total in step.core_seconds.items() if uid in classes}
        for uid, total in now.items():
            gained[classes[uid]] += total - self._seen.get(uid, 0.0)
        self._seen = now
        self._at = step.at
        if elapsed <= 0:
            return
        for name, amount in gained.items():
            self._core_seconds[name] += amount
            self._recent[name] = amount / elapsed
        self._service_seconds += (len(step.services) + down) * elapsed
        self._violation_seconds += (len(step.violated) + down) * elapsed

    def done_by(self, uid: str) -> float:
        """Core-seconds a pod had done at the last step."""
        return self._seen.get(uid, 0.0)

    def forget(self, uid: str) -> None:
        """The pod is gone from its host; a next run of it starts at zero."""
        self._seen.pop(uid, None)

    def count_start(self) -> None:
        """A pod was started for the first time in its attempt."""
        self._started += 1

    def count_finish(self) -> None:
        """A guest did all its work."""
        self._finished += 1

    def count_eviction(self, rule: str) -> None:
        """A guest was stopped on command."""
        self._evictions[rule] = self._evictions.get(rule, 0) + 1

    def count_lost(self, uid: str, kept: float = 0.0) -> None:
        """Its work so far has to be done again, but for what it kept of it."""
        self._lost += self.done_by(uid) - kept

    def report(self, *, at: Seconds, behind: Seconds, running: Mapping[str, int]) -> DayReport:
        """The sums so far."""
        return DayReport(
            at=at,
            source="virtual",
            day_start=self._day.start,
            day_end=self._day.end,
            nodes=self._nodes,
            capacity_cores=self._capacity,
            core_seconds={name: round(amount, 3) for name, amount in self._core_seconds.items()},
            recent_cores={name: round(amount, 3) for name, amount in self._recent.items()},
            service_minutes=int(self._service_seconds / MINUTE),
            violation_minutes=int(self._violation_seconds / MINUTE),
            started=self._started,
            finished=self._finished,
            evictions=dict(sorted(self._evictions.items())),
            lost_core_seconds=round(self._lost, 3),
            running=dict(running),
            behind=round(max(0.0, behind), 3),
            over=at >= self._day.end,
        )
