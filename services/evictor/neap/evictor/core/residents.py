"""Who is on one node of those that may be asked to leave: the guests, folded from its ledger, and nobody else.

A run of a guest begins when it is placed. A further entry for the same attempt is the same run with another size, and a
checkpoint makes nobody younger. A ledger may begin with a checkpoint: then `started` of an earlier life says how old
the guests in it are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import Resources
from neap.common.model.workload import Workload
from neap.common.units import Seconds


class Resident(NamedTuple):
    """A placed guest and when it came."""

    workload: Workload
    requests: Resources
    started: Seconds
    numa: tuple[int, ...] = ()  # it is bound to

    @property
    def attempt(self) -> int:
        """Which run of it this is."""
        return self.workload.attempt


class Residents:
    """See module docstring. `here` is by uid; `synced`: the ledger was read to its end."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.here: dict[str, Resident] = {}
        self.synced = False
        self._seq = 0
        self._known: Mapping[str, tuple[int, Seconds]] = {}  # what an earlier life knew, until the ledger is read

    @property
    def started(self) -> dict[str, tuple[int, Seconds]]:
        """Attempt of each and when it was placed, by uid."""
        return {uid: (guest.attempt, guest.started) for uid, guest in self.here.items()}

    def recall(self, started: Mapping[str, tuple[int, Seconds]]) -> None:
        """What an earlier life knew."""
        self._known = started

    def read(self) -> list[str]:
        """The ledger is read to its end; of whom an earlier life knew an earlier run, or who is gone."""
        self.synced, over = True, []
        for uid, (attempt, started) in self._known.items():
            guest = self.here.get(uid)
            if guest is not None and guest.attempt == attempt:
                self.here[uid] = guest._replace(started=min(started, guest.started))
            else:
                over.append(uid)
        self._known = {}
        return over

    def hear(self, entry: LedgerEntry, seq: int) -> str:
        """One more entry, once; the uid of the guest whose run it begins, if it does."""
        if entry.node != self._node or 0 < seq <= self._seq:
            return ""
        self._seq, before = seq, self.here
        match entry:
            case Placed(placement=placement):
                uid = placement.workload.uid
                self.here = _without(before, uid) | _resident(placement, before, entry.at)
                is_new = uid in self.here and (uid not in before or before[uid].attempt != self.here[uid].attempt)
                return uid if is_new else ""
            case Released(uid=uid):
                self.here = _without(before, uid)
            case Checkpoint(placements=placements):
                self.here = {}
                for placement in placements:
                    self.here |= _resident(placement, before, entry.at)
        return ""


def _without(held: Mapping[str, Resident], uid: str) -> dict[str, Resident]:
    return {key: resident for key, resident in held.items() if key != uid}


def _resident(placement: Placement, held: Mapping[str, Resident], at: Seconds) -> dict[str, Resident]:
    workload = placement.workload
    if workload.qos is not QosClass.RECLAIMED:
        return {}
    known = held.get(workload.uid)
    started = known.started if known is not None and known.attempt == workload.attempt else at
    return {workload.uid: Resident(workload, workload.requests, started, placement.numa)}
