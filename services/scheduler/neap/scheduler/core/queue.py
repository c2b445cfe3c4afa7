"""Who waits, and for what: lanes of pods by shape, woken by what changed, never by polling.

    backing off   not before `ready_at`; then into its lane
    active        its lane is awake; the best pod over all awake lanes is next
    asleep        a pod of this shape was rejected; the lane wakes when something changes that the rejection named

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
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.cycle import Decision
from neap.scheduler.core.pod import Pod, Shape

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

    def leave(self, uid: str) -> None:
        """Wait no longer; nothing if it did not."""
        self._pods.pop(uid, None)

    def ripen(self, at: Seconds) -> None:
        """Whose back-off is over lines up."""
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

    def sleep(self, pod: Pod, verdict: Decision) -> list[Pod]:
        """Put a rejected pod back and its lane to sleep; returns who came since it last slept: they now wait for this."""
        self.push(pod)
        lane = self._lanes[pod.lane]
        lane.verdict, lane.wakes = verdict, verdict.wakes
        if verdict.busy:  # a node would take it in a moment: not worth a word
            return []
        fresh, lane.fresh = sorted(set(lane.fresh)), []
        return [waiting for place in fresh if (waiting := self._valid(place)) is not None]

    def wake(self, changes: Iterable[NodeChanged]) -> int:
        """Wake the lanes that sleep for one of these changes; returns how many."""
        happened, woken = frozenset(changes), 0
        for lane in self._lanes.values() if happened else ():
            if lane.asleep and lane.wakes & happened:
                lane.verdict, woken = None, woken + 1
                self._show(lane)
        return woken

    def flush(self) -> int:
        """Wake every lane, whatever it waits for, and forget who left."""
        for shape, lane in list(self._lanes.items()):
            lane.line = [place for place in lane.line if self._valid(place) is not None]
            heapify(lane.line)
            if not lane.line:
                del self._lanes[shape]
        self._heads.clear()
        self._last = [_reversed(place) for _, place in self._pods.values()]
        heapify(self._last)
        asleep = sum(lane.asleep for lane in self._lanes.values())
        for lane in self._lanes.values():
            lane.verdict = None
            self._show(lane)
        return asleep

    def validate(self) -> None:
        """Everybody waits somewhere, and an awake lane that is not empty shows its head."""
        lined = {place for lane in self._lanes.values() for place in lane.line}
        lined |= {place for _, place in self._backing_off}
        assert {place for _, place in self._pods.values()} <= lined, "a pod waits nowhere"
        shown = {(place, id(lane)) for place, _, lane in self._heads}
        for lane in self._lanes.values():
            assert lane.asleep or not lane.line or (lane.line[0], id(lane)) in shown, "an awake lane shows no head"
        assert len(self._pods) <= self._limit, "the queue is over its limit"

    def _line_up(self, pod: Pod, place: Place) -> None:
        lane = self._lanes.setdefault(pod.lane, Lane())
        heappush(lane.line, place)
        if not lane.asleep:
            lane.fresh.append(place)
        if lane.line[0] == place:
            self._show(lane)

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
