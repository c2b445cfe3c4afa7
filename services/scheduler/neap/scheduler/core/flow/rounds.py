"""Gangs over time: they gather, are decided in one go, and are whole within a bounded time or undone.

    gathering   fewer than `least` members stand in line: they wait, and hold nothing
    forming     decided and charged together; their appends are under way. Who lost its append is decided again in the
                same domain, with the others kept
    whole       `least` members are held, or were: from now on members come and go one by one. When one ends or is
                evicted the others keep running, and the lost one is placed again near them (hard: in their domain)
    undone      not whole when `patience` is over: every member that is held is ended (refused) and so released by a
                compensating entry; all return to the queue after their back-off

A finished member counts as found for those that come back later. While a gang waits it holds nothing, so two gangs
never wait for each other's halves, and it sleeps in its own lane, so nobody waits behind it. After a restart a gang of
which some members are held and which was never whole (the ledgers show it, see Flock) is forming again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from neap.common.model.placement import Placed
from neap.common.model.scheduling import Gang
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Count
from neap.common.units import Seconds, format_duration
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.gang import GangSettings, Search
from neap.scheduler.core.flow.desk import Desk
from neap.scheduler.core.flow.settle import Settler
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.pods.pod import Pod, Shape, gang_lane
from neap.scheduler.core.why import tell

REMEMBERED: Final = 10_000  # gangs whose finished members are counted
MOST_DOUBLINGS: Final = 16


@dataclass(slots=True)
class Round:
    """A gang of which members are held or under way, and that is not whole yet."""

    gang: Gang
    until: Seconds
    sent: dict[str, None] = field(default_factory=dict)  # members whose append is under way, or was
    undone: bool = False
    ended: set[tuple[str, int]] = field(default_factory=set)  # uid, attempt: told


class Rounds:
    """See module docstring."""

    def __init__(self, desk: Desk, settler: Settler, cycle: Cycle, settings: GangSettings) -> None:
        self._desk, self._settler, self._cycle, self._settings = desk, settler, cycle, settings
        self._rounds: dict[Shape, Round] = {}
        self._refused: dict[Shape, int] = {}  # times in a row
        self._finished: OrderedDict[Shape, set[str]] = OrderedDict()

    def decide(self, head: Pod, at: Seconds) -> int:
        """Decide for a gang whose head is next in line (and left it); returns the number of decisions it took."""
        gang, lane, queue = head.workload.gang, head.lane, self._desk.queue
        assert gang is not None
        round_, here = self._rounds.get(lane), self._here(lane)
        if round_ is not None and round_.undone:
            self._gather(head, f"gang {gang.name}: is being undone, {len(here)} members still hold a node", at)
            return 1
        is_whole, waiting = self._is_whole(lane), queue.mates_count(lane) + 1
        missing = 0 if is_whole else max(0, gang.least - len(here) - self._done(lane))
        if not here and waiting < missing:
            self._gather(head, f"gang {gang.name}: {waiting} of the {missing} members it needs are in the queue", at)
            return 1
        pods = sorted((head, *queue.mates(lane)), key=lambda pod: pod.uid != head.uid)
        search = Search(self._desk.table, self._cycle, gang, self._settings.domains, at)
        found = search.find(pods, 0 if here else missing, self._domain(gang, here))
        for decision in found.decisions:
            queue.leave(decision.pod.uid)
            self._settler.place(decision, at)
        if found.decisions and not is_whole:
            if round_ is None:
                round_ = self._rounds[lane] = Round(gang, at + self._settings.patience)
            round_.sent |= dict.fromkeys(decision.pod.uid for decision in found.decisions)
        self._count(found.decisions, found.left)
        if found.verdict is not None:
            rest = self._rest(lane, refused=not found.decisions)
            pod = head if head in found.left else found.left[0]
            self._settler.tell_waiting(queue.sleep(pod, found.verdict, until=at + rest), found.verdict, at)
        else:
            self._refused.pop(lane, None)
        return len(pods)

    def finished(self, workload: Workload) -> None:
        """A member ended as it should."""
        lane = gang_lane(workload)
        self._finished.setdefault(lane, set()).add(workload.uid)
        self._finished.move_to_end(lane)
        while len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)
        self._desk.queue.rouse(lane)

    def heard(self, workload: Workload, at: Seconds) -> None:
        """A ledger changed about a member, or was read to its end: a gang that is not whole has so long to become so."""
        lane, gang = gang_lane(workload), workload.gang
        if gang is None or lane not in self._desk.ledgers.flocks or lane in self._rounds:
            return
        if not self._is_whole(lane) and self._desk.is_mine(workload.uid):
            self._rounds[lane] = Round(gang, at + self._settings.patience)

    def tick(self, at: Seconds) -> None:
        """Close what is whole or gone, undo what is late."""
        for lane, round_ in list(self._rounds.items()):
            here = self._here(lane)
            if not here or (self._is_whole(lane) and not round_.undone):
                del self._rounds[lane]
                self._desk.queue.rouse(lane)
            elif round_.undone or at >= round_.until:
                self._undo(lane, round_, here, at)

    def validate(self) -> None:
        """A gang that is held in part and was never whole has a deadline."""
        for lane, flock in self._desk.ledgers.flocks.items():
            is_mine = self._desk.is_mine(next(iter(flock.held)))
            assert not is_mine or self._is_whole(lane) or lane in self._rounds, f"{lane}: held in part for ever"

    # ----------------------------------------------------------------------------------------------------------------

    def _here(self, lane: Shape) -> dict[str, str]:
        """Members that hold a node or are about to, by uid."""
        flock, round_ = self._desk.ledgers.flocks.get(lane), self._rounds.get(lane)
        here = dict(flock.held) if flock is not None else {}
        for uid in round_.sent if round_ is not None else ():
            op = self._desk.appends.of(uid)
            if op is not None and isinstance(op.entry, Placed):
                here.setdefault(uid, op.node)
        return here

    def _done(self, lane: Shape) -> int:
        return len(self._finished.get(lane, ()))

    def _is_whole(self, lane: Shape) -> bool:
        """Whether as many as needed are held or were; finished ones count."""
        flock = self._desk.ledgers.flocks.get(lane)
        if flock is None:
            return False
        flock.whole |= len(flock.held) + self._done(lane) >= lane[2].least
        return flock.whole

    def _domain(self, gang: Gang, here: dict[str, str]) -> str:
        """Where most of the members are."""
        values = [self._desk.table.label(node, gang.domain) for node in here.values()] if gang.domain else []
        known = sorted(value for value in values if value)
        return max(known, key=known.count, default="")

    def _gather(self, head: Pod, why: str, at: Seconds) -> None:
        """Not its turn yet: it wakes when a member joins, or when what holds it back is over."""
        verdict = Decision(head, why=(why,))
        for pod in self._desk.queue.sleep(head, verdict):
            record = self._desk.book.records[pod.uid]
            if record.gathered < pod.workload.attempt:
                record.gathered = pod.workload.attempt
                self._desk.out.append(tell.gathering(pod.workload, why, at))

    def _rest(self, lane: Shape, *, refused: bool) -> Seconds:
        """Before the next try: 0.5 s, 1 s, 2 s, ... with up to half as much again, by name, so that gangs part ways."""
        if not refused:
            self._refused.pop(lane, None)
            return 0.0
        times = self._refused[lane] = min(self._refused.get(lane, 0) + 1, MOST_DOUBLINGS)
        rest: Seconds = min(self._settings.rest_most, self._settings.rest_first * 2 ** (times - 1))
        return rest * (1 + code(f"{lane[1]}/{lane[2].name}") % 64 / 128)

    def _undo(self, lane: Shape, round_: Round, here: dict[str, str], at: Seconds) -> None:
        """End every member that is held; what was not sent is taken back, what travels is ended when it arrives."""
        desk, gang = self._desk, round_.gang
        if not round_.undone:
            round_.undone = True
            desk.out.append(Count("neap_scheduler_gangs_undone_total"))
        for uid, node in here.items():
            if desk.appends.cancel(uid) is not None:
                desk.table.discharge(node, uid)
                self._settler.settle(uid, at)
        held = desk.ledgers.flocks[lane].held if lane in desk.ledgers.flocks else {}
        wait = format_duration(self._settings.patience)
        why = f"gang {gang.name}: {len(held)} of {gang.least} members had a node after {wait}, so none keeps one"
        for uid in tuple(held):
            record, place = desk.book.records.get(uid), desk.ledgers.find(uid)
            assert place is not None
            attempt = place[1].attempt
            if record is not None and not record.over(attempt) and (uid, attempt) not in round_.ended:
                round_.ended.add((uid, attempt))
                desk.out.append(tell.given_back(place[1].placement.workload, place[0], why, at, "gang-undone"))

    def _count(self, placed: Sequence[Decision], left: Sequence[Pod]) -> None:
        for outcome, some in (("reserved", placed), ("waiting", left)):
            if some:
                labels = {"outcome": outcome}
                self._desk.out.append(Count("neap_scheduler_decisions_total", float(len(some)), labels))
