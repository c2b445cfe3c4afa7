"""The ledgers of all nodes, folded: who holds what where.

The table is charged with exactly this, plus what this scheduler has reserved and not yet appended. An entry is folded
once, whether it was heard or came back as the answer to an own append: `seq` decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.protection import family, minimum
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import Shape, gang_lane


@dataclass(frozen=True, slots=True)
class Held:
    """One placement as its node's ledger has it."""

    placement: Placement
    seq: int  # of the entry it was last seen in
    reason: str = ""
    at: Seconds = 0.0  # of the entry that placed it; 0 when only a checkpoint told

    @property
    def attempt(self) -> int:
        """Of the workload."""
        return self.placement.workload.attempt


@dataclass(slots=True)
class Flock:
    """The members of one gang that are held. `whole`: as many as the gang's least were, since the first of these came.

    The ledgers show that as far back as they go; who is known only from a checkpoint is old enough to count as whole.
    """

    held: dict[str, str] = field(default_factory=dict)  # node by uid
    whole: bool = False


@dataclass(slots=True)
class Ledger:
    """One node's ledger up to `seq`, the last sequence of its subject."""

    node: str
    seq: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    since_checkpoint: int = 0
    ahead: int = 0  # the last sequence of its subject, as a lost race told

    def passed(self, followed: int) -> bool:
        """Whether an entry nobody can read stands at `ahead`: the stream was heard further, and it was not there."""
        if not self.seq < self.ahead <= followed:
            return False
        self.seq = self.ahead
        return True


class Ledgers:
    """See module docstring."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._of: dict[str, Ledger] = {}
        self._node_of: dict[str, str] = {}
        self.flocks: dict[Shape, Flock] = {}  # by lane of the gang
        self.families: dict[str, dict[str, None]] = {}  # uids of guests of which some must stay, by family
        self.followed = 0  # the stream's sequence up to which every entry was heard

    def of(self, node: str) -> Ledger:
        """A node's ledger, empty if nothing was heard."""
        ledger = self._of.get(node)
        if ledger is None:
            ledger = self._of[node] = Ledger(node)
        return ledger

    def find(self, uid: str) -> tuple[str, Held] | None:
        """Where a workload is."""
        node = self._node_of.get(uid)
        return (node, self._of[node].held[uid]) if node is not None else None

    def uids(self) -> tuple[str, ...]:
        """Everything held anywhere."""
        return tuple(self._node_of)

    def fold(self, entry: LedgerEntry, seq: int, now: Seconds = -inf) -> tuple[str, ...] | None:
        """Take one entry over; returns the uids it changed, None if it was folded before."""
        ledger = self.of(entry.node)
        if seq <= ledger.seq:
            return None
        ledger.seq = seq
        ledger.since_checkpoint += 1
        match entry:
            case Placed(placement=placement, at=at, reason=reason):
                self._gain(ledger, placement, at, Held(placement, seq, reason, at), now)
                return (placement.workload.uid,)
            case Released(uid=uid):
                self._lose(ledger, uid)
                return (uid,)
            case Checkpoint():
                return self._replace(ledger, entry, seq, now)

    def validate(self) -> None:
        """Nobody is held twice, and everything held is charged."""
        seen: dict[str, str] = {}
        for node, ledger in self._of.items():
            for uid, held in ledger.held.items():
                assert uid not in seen, f"{uid} is placed on {seen[uid]} and on {node}"
                assert self._table.charges(node).get(uid) == held.placement, f"{uid} on {node} is charged otherwise"
                seen[uid] = node
        assert seen == self._node_of
        gangs = {uid for uid, node in seen.items() if self._of[node].held[uid].placement.workload.gang is not None}
        kin = {uid for uid, node in seen.items() if minimum(self._of[node].held[uid].placement.workload)}
        assert kin == {uid for uids in self.families.values() for uid in uids}, "a family has lost count"
        assert gangs == {uid for flock in self.flocks.values() for uid in flock.held}, "a gang has lost count"

    def _replace(self, ledger: Ledger, entry: Checkpoint, seq: int, now: Seconds) -> tuple[str, ...]:
        fresh = {placement.workload.uid: placement for placement in entry.placements}
        changed = [uid for uid in ledger.held if uid not in fresh]
        for uid in changed:
            self._lose(ledger, uid)
        for uid, placement in fresh.items():
            before = ledger.held.get(uid)
            if before is None or before.placement != placement:
                self._gain(ledger, placement, entry.at, Held(placement, seq), now)
                changed.append(uid)
        ledger.since_checkpoint = 0
        return tuple(changed)

    def _gain(self, ledger: Ledger, placement: Placement, at: Seconds, held: Held, now: Seconds) -> None:
        uid = placement.workload.uid
        ledger.held[uid], self._node_of[uid] = held, ledger.node
        if minimum(placement.workload):
            self.families.setdefault(family(placement.workload), {})[uid] = None
        gang = placement.workload.gang
        if gang is not None:
            flock = self.flocks.setdefault(gang_lane(placement.workload), Flock())
            flock.held[uid] = ledger.node
            flock.whole |= len(flock.held) >= gang.least or (held.reason == "" and held.at == 0.0)
        self._table.charge(ledger.node, placement, at, now=now)

    def _lose(self, ledger: Ledger, uid: str) -> None:
        lost = ledger.held.pop(uid, None)
        if lost is not None:
            if self._node_of.get(uid) == ledger.node:
                del self._node_of[uid]
                self._leave_gang(lost.placement.workload)
                self._leave_family(lost.placement.workload)
            self._table.discharge(ledger.node, uid)

    def _leave_family(self, workload: Workload) -> None:
        name = family(workload)
        if minimum(workload) and name in self.families:
            self.families[name].pop(workload.uid, None)
            if not self.families[name]:
                del self.families[name]

    def _leave_gang(self, workload: Workload) -> None:
        lane = gang_lane(workload)
        if workload.gang is not None and lane in self.flocks:
            self.flocks[lane].held.pop(workload.uid, None)
            if not self.flocks[lane].held:
                del self.flocks[lane]
