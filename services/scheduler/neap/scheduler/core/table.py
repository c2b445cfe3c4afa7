"""All nodes as columns: one row per node, one column per fact. Updated in place by every event, never rebuilt.

Whatever changes a row stamps it with the next tick of `clock`, so that a cached evaluation knows which rows it has
to look at again, and names the kind of change in `changes`, so that the queue knows whom to wake.

Amounts are whole numbers in float64 (exact up to 2^53): charging and discharging leaves byte-equal columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

import numpy as np

from neap.common.model.advice import Headroom
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.units import Seconds
from neap.scheduler.core.cards import Cards
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.columns import Columns, code
from neap.scheduler.core.estimate import Guess, estimate
from neap.scheduler.core.keeper import Keeper
from neap.scheduler.core.load import PERIOD, Load, Staleness
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import ALL, Rows, View

PRESENT: Final = "node/present"  # its topology is known
READY: Final = "node/ready"  # its ledger takes another entry now
ORDER: Final = "node/order"  # place in the run's one permutation of nodes
OFFER_AT: Final = "offer/at"
OFFER_FRESH: Final = "offer/fresh"
VERSION: Final = "node/version"
MOST_LABELS: Final = 512  # label keys that get a column; more are not selectable


class NodeTable:
    """See module docstring. `order_seed` picks the permutation that decides between equal nodes."""

    def __init__(self, *, order_seed: int = 0, guess: Guess | None = None, staleness: Staleness | None = None) -> None:
        self.columns = Columns()
        self.clock = 0
        self.changes: set[NodeChanged] = set()
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self._seed, self._guess, self._staleness = order_seed, guess or Guess(), staleness or Staleness()
        for name in (PRESENT, READY, OFFER_FRESH):
            self.columns.add(name, np.bool_, fill=name == READY)
        self.columns.add(ORDER, np.uint64)
        self.columns.add(VERSION, np.int64)
        self.columns.add(OFFER_AT, np.float64, fill=-np.inf)
        self.load, self.cards = Load(self.columns, self._staleness), Cards(self.columns)
        self._charges: list[dict[str, Placement]] = []
        self._guests: list[dict[str, None]] = []
        self._lent: dict[str, None] = dict.fromkeys((RECLAIMED_CPU, RECLAIMED_MEMORY))
        self._label_keys: set[str] = set()
        self._labels: dict[int, tuple[dict[str, str], dict[str, str]]] = {}  # by row: the machine's, the cluster's
        self.keepers: tuple[Keeper, ...] = ()

    def __len__(self) -> int:
        return self.columns.size

    def view(self, rows: Rows = ALL) -> View:
        """What plugins see."""
        return View(self.columns, rows)

    def row(self, node: str) -> int:
        """The row of a node; a new one, not yet present, for a name never heard."""
        row = self.rows.get(node)
        if row is None:
            row = self.rows[node] = self.columns.append()
            self.names.append(node)
            self._charges.append({})
            self._guests.append({})
            digest = hashlib.blake2b(f"{self._seed}/{node}".encode(), digest_size=8).digest()
            self.columns[ORDER][row] = int.from_bytes(digest)
            self._touch(row)
        return row

    def charges(self, node: str) -> Mapping[str, Placement]:
        """Everything charged on a node, by uid."""
        return self._charges[self.rows[node]] if node in self.rows else {}

    def ask(self, pod: Pod) -> Hashable:
        """What beside its shape decides where a pod may go now; see `Keeper.ask`."""
        return tuple(keeper.ask(pod) for keeper in self.keepers)

    # -- what was heard ----------------------------------------------------------------------------------------------

    def describe(self, topology: NodeTopology) -> None:
        """A node appeared, or its machine changed."""
        row, columns = self.row(topology.node), self.columns
        columns[PRESENT][row] = True
        for kind in [name.partition("/")[2] for name in columns.names if name.startswith("allocatable/")]:
            if kind not in self._lent:
                columns[f"allocatable/{kind}"][row] = topology.allocatable.get(kind, 0)
        for kind, amount in topology.allocatable.items():
            if kind not in self._lent:
                self._amounts("allocatable", kind)[row] = amount
        self._amounts("capacity", MEMORY)[row] = topology.capacity.get(MEMORY, topology.allocatable.get(MEMORY, 0))
        self._label(row, machine=topology.labels)
        taken = [share for placement in self._charges[row].values() for share in placement.gpus]
        self.cards.install(row, topology.cards, taken)
        for keeper in self.keepers:
            self._touch_all(keeper.describe(row, topology, self._charges[row].values()))
        self._touch(row, NodeChanged.NODE_ADDED, NodeChanged.FREE, NodeChanged.DEVICE)

    def register(self, node: NodeObject) -> None:
        """What the cluster says of a node; the empty object when it says nothing any more."""
        row = self.row(node.node)
        self._label(row, cluster=node.labels)
        for keeper in self.keepers:
            self._touch_all(keeper.register(row, node))
        self._touch(row, NodeChanged.NODE_ADDED, NodeChanged.FREE)

    def forget(self, node: str) -> None:
        """A node's topology is gone; what is charged on it stays charged."""
        row = self.row(node)
        self.columns[PRESENT][row] = False
        self._touch(row)

    def offer(self, headroom: Headroom, at: Seconds) -> None:
        """What a node lends from now on; a kind it does not name is not lent."""
        row = self.row(headroom.node)
        said = min(headroom.at, at)  # a clock that runs ahead must not silence what follows
        if said < self.columns[OFFER_AT][row]:
            return
        self._lent |= dict.fromkeys(headroom.offer)
        self.columns[OFFER_AT][row], self.columns[OFFER_FRESH][row] = said, True
        for kind in self._lent:
            self._amounts("allocatable", kind)[row] = max(0, headroom.offer.get(kind, 0))
        self._touch(row, NodeChanged.OFFER)

    def measure(self, usage: NodeUsage, at: Seconds) -> None:
        """What a node uses right now."""
        row = self.row(usage.node)
        capacity = float(self._amounts("capacity", MEMORY)[row])
        if self.load.report(row, usage, min(usage.at, at), capacity, self._guests[row]):
            self._touch(row, NodeChanged.LOAD)

    def expire(self, at: Seconds) -> None:
        """Drop what is too old: usage becomes unknown, offers become nothing. Cost: a few passes over columns."""
        columns = self.columns
        limit = np.maximum(self._staleness.offer, self._staleness.offer_periods * columns[PERIOD])
        stale = np.flatnonzero(columns[OFFER_FRESH] & (at - columns[OFFER_AT] > limit))
        columns[OFFER_FRESH][stale] = False
        for kind in self._lent:
            self._amounts("allocatable", kind)[stale] = 0
        for row in (*map(int, stale), *self.load.expire(at)):
            self._touch(row)
        for keeper in self.keepers:
            self._touch_all(keeper.expire(at))

    def set_ready(self, node: str, ready: bool) -> None:
        """Whether a node's ledger takes another entry now."""
        row = self.row(node)
        if self.columns[READY][row] != ready:
            self.columns[READY][row] = ready
            self._touch(row, *(NodeChanged.READY,) * ready)

    # -- who owns what -----------------------------------------------------------------------------------------------

    def charge(self, node: str, placement: Placement, at: Seconds) -> None:
        """A workload holds its part of a node from now on; replaces what it held there before."""
        workload = placement.workload
        self.discharge(node, workload.uid)
        row, guest = self.row(node), workload.qos is QosClass.RECLAIMED
        self._charges[row][workload.uid] = placement
        if guest:
            self._guests[row][workload.uid] = None
        for kind, amount in placement.charged.items():
            self._amounts("requested", kind)[row] += amount
        self.cards.change(row, placement.gpus, 1)
        for keeper in self.keepers:
            self._touch_all(keeper.charge(row, placement, 1))
        self.load.take_off(row, workload.uid, at, estimate(workload, self._guess), guest=guest)
        self._touch(row)

    def discharge(self, node: str, uid: str) -> None:
        """A workload holds nothing of a node any more; nothing if it held nothing."""
        row = self.row(node)
        placement = self._charges[row].pop(uid, None)
        if placement is None:
            return
        self._guests[row].pop(uid, None)
        for kind, amount in placement.charged.items():
            self._amounts("requested", kind)[row] -= amount
        self.cards.change(row, placement.gpus, -1)
        for keeper in self.keepers:
            self._touch_all(keeper.charge(row, placement, -1))
        self.load.land(row, uid)
        self._touch(row, NodeChanged.FREE, *(NodeChanged.DEVICE,) * bool(placement.gpus))

    def validate(self) -> None:
        """The requested columns are the sum of the charges."""
        for kind in [name.partition("/")[2] for name in self.columns.names if name.startswith("requested/")]:
            sums = [sum(p.charged.get(kind, 0) for p in charges.values()) for charges in self._charges]
            assert list(self.columns[f"requested/{kind}"]) == sums, f"requested {kind} is not what was charged"

    def _amounts(self, prefix: str, kind: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        name = f"{prefix}/{kind}"
        if name not in self.columns:
            self.columns.add(name, np.float64)
        return self.columns[name]

    def _label(
        self, row: int, *, machine: Mapping[str, str] | None = None, cluster: Mapping[str, str] | None = None
    ) -> None:
        old = self._labels.get(row, ({}, {}))
        new = (dict(old[0] if machine is None else machine), dict(old[1] if cluster is None else cluster))
        self._labels[row], labels = new, new[0] | new[1]
        for key in (old[0] | old[1]).keys() - labels.keys() & self._label_keys:  # independent writes: any order
            self.columns[f"label/{key}"][row] = 0
        for key, value in labels.items():
            if key not in self._label_keys and len(self._label_keys) < MOST_LABELS:
                self._label_keys.add(key)
                self.columns.add(f"label/{key}", np.int64)
            if key in self._label_keys:
                self.columns[f"label/{key}"][row] = code(value)

    def _touch_all(self, rows: Iterable[int]) -> None:
        for row in rows:
            self._touch(row)

    def _touch(self, row: int, *changes: NodeChanged) -> None:
        self.clock += 1
        self.columns[VERSION][row] = self.clock
        self.changes.update(changes)
