"""Submits the day's workloads when they are due, each once. Pure.

What was submitted before a restart is known from the workload events themselves. Guests are held back while too many
wait for a node: an endless backlog would only fill the queue. They keep their order.

A day that passes quickly may have its first owners `ahead` of it: a cluster's owners are there before midnight, and a
second in which they all start is a quarter of an hour of such a day.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from neap.common.contract.catalogue import WORKLOAD
from neap.common.model.lifecycle import Ended, Started, Submitted
from neap.common.runtime.machine import Arrived, Decide, Emit, Event, Instruction, Synced, Tick
from neap.common.units import Seconds, format_duration
from neap.virtual.parts import Day, Submission
from neap.virtual.settings import Settings
from neap.virtual.trail import RETURNS, line


class SubmitterMachine:
    """See module docstring. `waiting` are guests that are submitted and not on a node."""

    def __init__(self, settings: Settings, day: Day) -> None:
        self._settings, self._day = settings, day
        wanted = [s for s in day.submissions if settings.guests or not s.is_guest]
        self._guests = {s.workload.uid for s in wanted if s.is_guest}
        self._ahead = deque(wanted)
        self._held_back: deque[Submission] = deque()
        self._known: set[str] = set()
        self._waiting: set[str] = set()
        self._synced = False

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        match event:
            case Arrived(message=Submitted(workload=workload)):
                self._note(workload.uid, waits=True)
            case Arrived(message=Started(uid=uid)):
                self._note(uid, waits=False)
            case Arrived(message=Ended(uid=uid, reason=reason)):
                self._note(uid, waits=reason in RETURNS)
            case Synced(channel=channel) if channel.pattern == WORKLOAD.pattern:
                self._synced = True
            case Tick(name="advance") if self._synced and event.at < self._day.end:
                return self._submit(event.at)
        return ()

    @property
    def is_new(self) -> bool:
        """Whether nothing was submitted yet, in this life or an earlier one."""
        return not self._known

    def validate(self) -> None:
        """Raises AssertionError when something waits that was never submitted."""
        assert self._waiting <= self._known & self._guests, "a guest waits that was not submitted"

    def _submit(self, at: Seconds) -> list[Instruction]:
        acts: list[Instruction] = []
        most = 2 * self._settings.submit_burst  # two instructions each
        while self._ahead and self._due(self._ahead[0]) <= at and len(acts) < most:
            submission = self._ahead.popleft()
            if submission.workload.uid in self._known:
                continue
            if submission.is_guest:
                self._held_back.append(submission)
            else:
                acts += self._told(submission, at)
        while self._held_back and len(self._waiting) < self._settings.pending_guests and len(acts) < most:
            acts += self._told(self._held_back.popleft(), at)
        return acts

    def _due(self, submission: Submission) -> Seconds:
        first = submission.at <= self._settings.settle and not submission.is_guest
        return self._day.start + submission.at - self._settings.ahead * first

    def _told(self, submission: Submission, at: Seconds) -> list[Instruction]:
        workload = submission.workload
        self._note(workload.uid, waits=True)
        size = ", ".join(f"{kind} {amount}" for kind, amount in sorted(workload.requests.items()))
        why = f"{self._day.name}: {workload.qos}, due {format_duration(submission.at)} after the start, asks {size}"
        to = WORKLOAD.at(namespace=workload.namespace, name=workload.name)
        submitted = Submitted(at=at, source="virtual", workload=workload)
        return [
            Emit(to, submitted, f"{workload.uid}.{workload.attempt}.submitted"),
            Decide(line(at, workload, "submitted", why), root=True),
        ]

    def _note(self, uid: str, *, waits: bool) -> None:
        self._known.add(uid)
        if uid in self._guests:
            self._waiting.add(uid) if waits else self._waiting.discard(uid)
