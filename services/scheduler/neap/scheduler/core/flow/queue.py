"""Who waits, and for what: lanes of pods by shape, woken by what changed, never by polling.

    backing off   not before `ready_at`; then into its lane
    active        its lane is awake; the best pod over all awake lanes is next
    asleep        a pod of this shape was rejected; the lane wakes when something changes that the rejection named
    resting       as asleep, but what changes wakes it only when its rest is over: gangs, whose tries cost much

A gang is one lane: its head stands in line for all its members, and a member that joins wakes it.

Order: priority, highest first; then submission time; then attempt; then uid. One rejected pod puts its whole lane to
sleep, so 1,000 pods of one shape cost one evaluation per wake. A safety flush wakes every lane once in a long while.

Bounded: beyond `limit` the newest pod of the lowest priority is pushed out and handed back to the caller.
Cost: O(log pods) per push and pop; leaving is O(1), what left is skipped later and swept by the flush.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from neap.common.units import Seconds
from neap.scheduler.core.choice.cycle import Decision
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.pods.pod import Pod, Shape

Place: TypeAlias = tuple[int, float, int, str]


def place_of(pod: Pod) -> Place:
    """Where a pod stands in line; smaller is earlier."""
    return (-pod.workload.priority, pod.submitted_at, pod.workload.attempt, pod.uid)


def _reversed(place: Place) -> Place:
    return (-place[0], -place[1], -place[2], place[3])


@dataclass(slots=True)
class Lane:
    """Pods of one shape. `verdict` is why it sleeps, `fresh` who came since it last fell asleep."""

    line: list[Place] = field(default_factory=list)
    fresh: list[Place] = field(default_factory=list)
    verdict: Decision | None = None
    wakes: frozenset[NodeChanged] = frozenset()
    mates: dict[str, None] = field(default_factory=dict)  # of a gang: who stands in line
    rests_until: Seconds = 0.0
    stirred: bool = False  # woken while it rests

    @property
    def asleep(self) -> bool:
        """Whether its shape was rejected and nothing named has changed since."""
        return self.verdict is not None


class Queue:
    """See module docstring."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._pods: dict[str, tuple[Pod, Place]] = {}
        self._lanes: dict[Shape, Lane] = {}
        self._heads: list[tuple[Place, int, Lane]] = []  # at least one valid entry per awake lane that is not empty
        self._pushed = 0
        self._backing_off: list[tuple[Seconds, Place]] = []
        self._last: list[Place] = []  # reversed: the worst pod first
        self._resting: list[tuple[Seconds, int, Lane]] = []  # lanes that were stirred
        self._at: Seconds = 0.0

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    def pod(self, uid: str) -> Pod | None:
        """A waiting pod."""
        return self._pods[uid][0] if uid in self._pods else None

    def verdict(self, pod: Pod) -> Decision | None:
        """Why its lane sleeps; None while it is awake or the pod is backing off."""
        lane = self._lanes.get(pod.lane)
        return lane.verdict if lane is not None else None

    def push(self, pod: Pod, *, ready_at: Seconds = 0.0, at: Seconds = 0.0) -> Pod | None:
        """Line up; a pod with the same uid is replaced. Returns the pod pushed out when there is no room."""
        place = place_of(pod)
        self._pods[pod.uid] = (pod, place)
        heappush(self._last, _reversed(place))
        if ready_at > at:
            heappush(self._backing_off, (ready_at, place))
        else:
            self._line_up(pod, place)
        return self._push_out() if len(self._pods) > self._limit else None

    def waiting(self) -> list[Pod]:
        """Everybody who waits."""
        return [pod for pod, _ in self._pods.values()]

    def renew(self, pod: Pod) -> None:
        """A waiting pod wants something else than before: it lines up anew, at its old place; its back-off stays."""
        before, place = self._pods[pod.uid]
        self._pods[pod.uid] = (pod, place)
        if any(place == waits for _, waits in self._backing_off):
            return
        if pod.lane != before.lane:
            self._line_up(pod, place)
        else:
            self.rouse(pod.lane)

    def leave(self, uid: str) -> None:
        """Wait no longer; nothing if it did not."""
        pod, _ = self._pods.pop(uid, (None, None))
        if pod is not None and pod.workload.gang is not None and pod.lane in self._lanes:
            self._lanes[pod.lane].mates.pop(uid, None)

    def ripen(self, at: Seconds) -> None:
        """Whose back-off is over lines up; which lane has rested wakes, if it was stirred."""
        self._at = max(self._at, at)
        while self._resting and self._resting[0][0] <= self._at:
            lane = heappop(self._resting)[2]
            if lane.stirred:
                self._rouse(lane)
        while self._backing_off and self._backing_off[0][0] <= at:
            _, place = heappop(self._backing_off)
            pod = self._valid(place)
            if pod is not None:
                self._line_up(pod, place)

    def pop(self) -> Pod | None:
        """The next pod of an awake lane; it no longer waits."""
        while self._heads:
            place, _, lane = heappop(self._heads)
            if lane.asleep or not lane.line or lane.line[0] != place:
                continue
            heappop(lane.line)
            self._show(lane)
            pod = self._valid(place)
            if pod is not None:
                self.leave(pod.uid)
                return pod
        return None

    def mates(self, lane: Shape) -> list[Pod]:
        """The members of a gang that stand in line, in their order."""
        there = self._lanes[lane].mates if lane in self._lanes else ()
        return sorted((self._pods[uid][0] for uid in there), key=place_of)

    def mates_count(self, lane: Shape) -> int:
        """How many members of a gang stand in line."""
        return len(self._lanes[lane].mates) if lane in self._lanes else 0

    def sleep(self, pod: Pod, verdict: Decision, *, until: Seconds = 0.0) -> list[Pod]:
        """Put a rejected pod back and its lane to sleep; returns who came since it last slept: they now wait for this.

        Nothing wakes the lane before `until`.
        """
        self.push(pod)
        lane = self._lanes[pod.lane]
        lane.verdict, lane.wakes, lane.rests_until, lane.stirred = verdict, verdict.wakes, until, False
        if verdict.busy:  # a node would take it in a moment: not worth a word
            return []
        fresh, lane.fresh = sorted(set(lane.fresh)), []
        return [waiting for place in fresh if (waiting := self._valid(place)) is not None]

    def wake(self, changes: Iterable[NodeChanged]) -> int:
        """Wake the lanes that sleep for one of these changes; returns how many."""
        happened, woken = frozenset(changes), 0
        for lane in self._lanes.values() if happened else ():
            if lane.asleep and lane.wakes & happened:
                woken += self._rouse(lane)
        return woken

    def rouse(self, lane: Shape) -> None:
        """Wake one lane, if there is one, for a reason nobody's columns show."""
        if lane in self._lanes and self._lanes[lane].asleep:
            self._rouse(self._lanes[lane])

    def flush(self) -> int:
        """Wake every lane, whatever it waits for, and forget who left."""
        for shape, lane in list(self._lanes.items()):
            lane.line = [place for place in lane.line if (pod := self._valid(place)) is not None and pod.lane == shape]
            heapify(lane.line)
            if not lane.line:
                del self._lanes[shape]
        self._heads.clear()
        self._last = [_reversed(place) for _, place in self._pods.values()]
        heapify(self._last)
        asleep = sum(lane.asleep for lane in self._lanes.values())
        for lane in self._lanes.values():
            lane.verdict, lane.stirred = None, False
            self._show(lane)
        return asleep

    def validate(self) -> None:
        """Everybody waits somewhere, and an awake lane that is not empty shows its head."""
        lined = {place for lane in self._lanes.values() for place in lane.line}
        lined |= {place for _, place in self._backing_off}
        assert {place for _, place in self._pods.values()} <= lined, "a pod waits nowhere"
        shown = {(place, id(lane)) for place, _, lane in self._heads}
        resting = {id(lane) for _, _, lane in self._resting}
        for lane in self._lanes.values():
            assert not lane.stirred or id(lane) in resting, "a lane that was stirred will never wake"
            assert lane.mates.keys() <= self._pods.keys(), "a gang counts members that do not wait"
            assert lane.asleep or not lane.line or (lane.line[0], id(lane)) in shown, "an awake lane shows no head"
        assert len(self._pods) <= self._limit, "the queue is over its limit"

    def _line_up(self, pod: Pod, place: Place) -> None:
        lane = self._lanes.setdefault(pod.lane, Lane())
        heappush(lane.line, place)
        if pod.workload.gang is not None:
            lane.mates[pod.uid] = None
            if lane.asleep:
                lane.fresh.append(place)
                self._rouse(lane)
                return
        if not lane.asleep:
            lane.fresh.append(place)
        if lane.line[0] == place:
            self._show(lane)

    def _rouse(self, lane: Lane) -> bool:
        """Wake a lane that sleeps, or have it woken when its rest is over."""
        if self._at >= lane.rests_until:
            lane.verdict, lane.stirred = None, False
            self._show(lane)
        elif not lane.stirred:
            lane.stirred, self._pushed = True, self._pushed + 1
            heappush(self._resting, (lane.rests_until, self._pushed, lane))
        return not lane.asleep

    def _show(self, lane: Lane) -> None:
        if lane.line and not lane.asleep:
            self._pushed += 1
            heappush(self._heads, (lane.line[0], self._pushed, lane))

    def _valid(self, place: Place) -> Pod | None:
        pod, current = self._pods.get(place[3], (None, None))
        return pod if current == place else None

    def _push_out(self) -> Pod | None:
        while self._last:
            place = _reversed(heappop(self._last))
            pod = self._valid(place)
            if pod is not None:
                self.leave(pod.uid)
                return pod
        return None
