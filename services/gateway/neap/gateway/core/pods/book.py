"""What the bus knows of pods: what was told of their runs (WORKLOAD), and what the ledgers hold (PLACEMENTS).

Both are folds of stored channels. What the gateway says itself is folded when it is said, not when it is heard back,
so nothing is said twice in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Started, Submitted
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources
from neap.common.model.workload import Size, Workload
from neap.gateway.core.pods.facts import KUBE, ORIGIN, SAFE_TO_EVICT
from neap.gateway.core.pods.given import mark_of

SOURCE: Final = "gateway"
STAYING: Final = frozenset({"", "DaemonSet", "Node"})  # owners of pods that nobody makes anew elsewhere
AGAIN: Final = frozenset({EndReason.EVICTED, EndReason.REFUSED})  # the scheduler tries once more


class Run:
    """What was told of a pod. `attempt` is the one that counts now; `size` a mark of the size that was told last."""

    __slots__ = ("adopted", "attempt", "name", "namespace", "ours", "size", "sized_at", "started", "submitted")

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace, self.name, self.ours = namespace, name, False
        self.attempt = 1
        self.submitted = self.adopted = self.started = 0  # the last attempt told so
        self.size, self.sized_at = 0, 0.0

    def learn(self, size: Size | None, at: float) -> None:
        """What was told of its size; a word of before changes nothing."""
        if size is not None and at > self.sized_at:
            self.size, self.sized_at = mark_of(size.containers), at


class Runs:
    """By uid; those that are over are remembered up to a limit, so that nobody is told of twice."""

    def __init__(self, remember: int) -> None:
        self.open: dict[str, Run] = {}
        self._over: OrderedDict[str, None] = OrderedDict()
        self._remember = remember

    def over(self, uid: str) -> bool:
        """Whether no further run of it is expected."""
        return uid in self._over

    def fold(self, event: LifecycleEvent, namespace: str, name: str) -> str:
        """Take one event over; whom it is about."""
        uid = event.workload.uid if isinstance(event, Submitted) else event.uid
        if uid in self._over:
            return uid
        run = self.open.get(uid)
        if run is None:
            run = self.open[uid] = Run(namespace, name)
        match event:
            case Submitted(workload=workload, node=node):
                run.ours |= event.source == SOURCE or workload.annotations.get(ORIGIN) == KUBE
                run.attempt = max(run.attempt, workload.attempt)
                run.submitted = max(run.submitted, workload.attempt)
                run.adopted = max(run.adopted, workload.attempt) if node else run.adopted
                run.learn(workload.size, event.at)
            case Started(attempt=attempt, size=size):
                run.started = max(run.started, attempt)
                run.learn(size, event.at)
            case Ended(reason=reason, attempt=attempt) if reason in AGAIN:
                run.attempt = max(run.attempt, attempt + 1)
            case Ended(attempt=attempt, reason=reason) if attempt >= run.attempt or reason is not EndReason.FINISHED:
                self.close(uid)
        return uid

    def close(self, uid: str) -> None:
        """Nothing more is to be told of it."""
        self.open.pop(uid, None)
        self._over[uid] = None
        while len(self._over) > self._remember:
            self._over.popitem(last=False)

    def forget_all_but(self, alive: Iterable[str]) -> None:
        """Of those that are over, only these can be asked about: what the API or a ledger still has."""
        kept = set(alive)
        self._over = OrderedDict((uid, None) for uid in self._over if uid in kept)


class Hold(NamedTuple):
    """One pod on one ledger. `zones` and `charged` are kept of those that are bound to NUMA nodes."""

    node: str
    attempt: int
    namespace: str
    name: str
    ours: bool
    why: str = ""  # of the placement, until the pod is bound
    zones: tuple[int, ...] = ()
    charged: Resources = {}  # noqa: RUF012  never changed
    moves: bool = False  # an owner's pod that is made anew if it is asked to leave
    size: int = 0  # a mark of what it is charged by


def may_move(workload: Workload) -> bool:
    """Whether it may be asked to leave its node for another one, since somebody makes it anew there."""
    owner = workload.owner.partition("/")[0]
    stays = owner in STAYING or workload.qos in (QosClass.RECLAIMED, QosClass.SYSTEM)
    return not stays and workload.annotations.get(SAFE_TO_EVICT) != "false"


class Holds:
    """All ledgers, as far as the gateway needs them."""

    def __init__(self) -> None:
        self.on: dict[str, dict[str, Hold]] = {}  # node -> uid
        self._where: dict[str, tuple[str, ...]] = {}  # uid -> nodes
        self._seq: dict[str, int] = {}

    @property
    def uids(self) -> Iterable[str]:
        """Whoever is held."""
        return self._where.keys()

    def of(self, uid: str) -> list[Hold]:
        """Where it is held: once, but for moments."""
        return [self.on[node][uid] for node in self._where.get(uid, ())]

    def zoned(self, node: str) -> dict[str, Hold]:
        """Those of a node that are bound to some of its NUMA nodes, by uid."""
        return {uid: hold for uid, hold in self.on.get(node, {}).items() if hold.zones}

    def settle(self, uid: str) -> None:
        """It is bound: why it was placed is of no more use."""
        for node in self._where.get(uid, ()):
            self.on[node][uid] = self.on[node][uid]._replace(why="")

    def fold(self, entry: LedgerEntry, seq: int) -> tuple[str, ...]:
        """Take one entry over; who is touched by it."""
        if 0 < seq <= self._seq.get(entry.node, 0):
            return ()
        self._seq[entry.node] = seq
        match entry:
            case Placed(placement=placement, reason=reason):
                self._put(entry.node, placement, reason)
                return (placement.workload.uid,)
            case Released(uid=uid):
                self._take(entry.node, uid)
                return (uid,)
            case Checkpoint(placements=placements):
                before = self.on.get(entry.node, {})
                kept = {placement.workload.uid: placement for placement in placements}
                gone = [uid for uid in before if uid not in kept]
                for uid in gone:
                    self._take(entry.node, uid)
                fresh = [
                    uid
                    for uid, placement in kept.items()
                    if uid not in before or _differs(before[uid], placement.workload)
                ]
                for uid in fresh:
                    self._put(entry.node, kept[uid], "")
                return (*gone, *fresh)

    def _put(self, node: str, placement: Placement, why: str) -> None:
        workload = placement.workload
        ours = workload.annotations.get(ORIGIN) == KUBE
        zones, charged = placement.numa, placement.charged if placement.numa else {}
        names = workload.namespace, workload.name
        size = mark_of(workload.containers)
        hold = Hold(node, workload.attempt, *names, ours, why, zones, charged, may_move(workload), size)
        self.on.setdefault(node, {})[workload.uid] = hold
        where = self._where.get(workload.uid, ())
        self._where[workload.uid] = where if node in where else (*where, node)

    def _take(self, node: str, uid: str) -> None:
        self.on.get(node, {}).pop(uid, None)
        where = tuple(one for one in self._where.get(uid, ()) if one != node)
        if where:
            self._where[uid] = where
        else:
            self._where.pop(uid, None)

    def validate(self) -> None:
        """Both views agree."""
        for uid, nodes in self._where.items():
            assert nodes, f"{uid} is held nowhere and listed"
            assert all(uid in self.on[node] for node in nodes), f"{uid} is not on {nodes}"
        assert sum(map(len, self.on.values())) == sum(map(len, self._where.values())), "ledgers and pods disagree"


def _differs(hold: Hold, workload: Workload) -> bool:
    return (hold.attempt, hold.size) != (workload.attempt, mark_of(workload.containers))
