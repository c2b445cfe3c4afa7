"""All nodes as columns: one row per node, one column per fact. Updated in place by every event, never rebuilt.

Whatever changes a row stamps it with the next tick of `clock`, so that a kept evaluation knows which rows it has to
look at again, and names the kind of change in `changes`, so that the queue knows whom to wake. What was *told* of a
row (anything but placements and its ledger) has stamps of its own.

Amounts are whole numbers in float64 (exact up to 2^53): charging and discharging leaves byte-equal columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.model.advice import Headroom
from neap.common.model.apart import Apart
from neap.common.model.evicting import Evicting
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.profile import KINDS, ProfiledKind, ServiceProfile
from neap.common.model.qos import QosClass
from neap.common.model.ratios import NodeRatios
from neap.common.model.resource import MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.tide import TidePool
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.scheduler.core.nodes.cards import Cards
from neap.scheduler.core.nodes.census import Census
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.closures import Closures
from neap.scheduler.core.nodes.columns import Columns, code
from neap.scheduler.core.nodes.devices import Devices
from neap.scheduler.core.nodes.domains import Domains
from neap.scheduler.core.nodes.feuds import Feuds
from neap.scheduler.core.nodes.gang_cards import GangCards
from neap.scheduler.core.nodes.keeper import Keeper, Muted
from neap.scheduler.core.nodes.labels import machine_labels
from neap.scheduler.core.nodes.leavers import Leavers
from neap.scheduler.core.nodes.load import PERIOD, Load, Staleness
from neap.scheduler.core.nodes.locality import Locality
from neap.scheduler.core.nodes.overcommit import Overcommit
from neap.scheduler.core.nodes.portraits import Portraits
from neap.scheduler.core.nodes.sides import Sides
from neap.scheduler.core.nodes.stamps import KeptParts, Stamps
from neap.scheduler.core.nodes.taints import Taints
from neap.scheduler.core.nodes.view import ALL, Rows, View
from neap.scheduler.core.nodes.windows import Windows
from neap.scheduler.core.nodes.zones import ZoneKeeper
from neap.scheduler.core.pods.estimate import Estimate, Guess
from neap.scheduler.core.pods.pod import Pod

PRESENT: Final = "node/present"  # its topology is known
READY: Final = "node/ready"  # its ledger takes another entry now
ORDER: Final = "node/order"  # place in the run's one permutation of nodes
OFFER_AT: Final = "offer/at"
OFFER_FRESH: Final = "offer/fresh"
VERSION: Final = "node/version"
TOLD: Final = "node/told"  # as VERSION, but placements and ledgers do not count
MOST_LABELS: Final = 512  # label keys that get a column; more are not selectable


class NodeTable:
    """See module docstring. `order_seed` picks the permutation that decides between equal nodes."""

    def __init__(
        self,
        *,
        order_seed: int = 0,
        guess: Guess | None = None,
        staleness: Staleness | None = None,
        kinds: Mapping[str, ProfiledKind] = KINDS,
    ) -> None:
        self.columns = Columns()
        self.changes: set[NodeChanged] = set()
        self.rows: dict[str, int] = {}
        self.names: list[str] = []
        self._seed, self._guess, self._staleness = order_seed, guess or Guess(), staleness or Staleness()
        for name in (PRESENT, READY, OFFER_FRESH):
            self.columns.add(name, np.bool_, fill=name == READY)
        self.columns.add(ORDER, np.uint64)
        self._stamps, self._told = Stamps(self.columns, VERSION), Stamps(self.columns, TOLD)
        self._parts = KeptParts(self.columns, self._told)
        self.columns.add(OFFER_AT, np.float64, fill=-np.inf)
        self.load, self.cards = Load(self.columns, self._staleness), Cards(self.columns)
        self._charges: list[dict[str, Placement]] = []
        self._guests: list[dict[str, None]] = []
        self._lent: dict[str, None] = dict.fromkeys((RECLAIMED_CPU, RECLAIMED_MEMORY))
        self._label_keys: set[str] = set()
        self._labels: dict[int, tuple[dict[str, str], dict[str, str]]] = {}  # by row: the machine's, the cluster's
        self.portraits = Portraits(self.columns, self._guess)
        self.gangs = GangCards(self.columns, self.cards)
        self.devices = Devices(self.columns, self.cards, self.gangs)
        self.closures = Closures(self.columns, self.changes)
        self.feuds, self.sides = Feuds(self.columns, self._held), Sides(self.columns, self.changes)
        self.zones, self.overcommit = ZoneKeeper(self.columns, kinds), Overcommit(self.columns, self._held)
        self.keepers = (
            self.zones,
            self.overcommit,
            Windows(self.columns),
            self.portraits,
            self.gangs,
            self.devices,
            Census(self.columns),
            Taints(self.columns),
            Domains(self.columns, self.changes),
            Locality(self.columns),
            Leavers(self.columns),
            self.closures,
            self.feuds,
            self.sides,
        )
        self._unready: dict[int, None] = {}

    def __len__(self) -> int:
        return self.columns.size

    @property
    def clock(self) -> int:
        """Counts every change of a row."""
        return self._stamps.tick

    @property
    def keepers(self) -> tuple[Keeper, ...]:
        """Who keeps columns beside the table's own, in the order in which they are told."""
        return self._keepers

    @keepers.setter
    def keepers(self, keepers: tuple[Keeper, ...]) -> None:
        self._keepers = keepers
        self._of_charges = tuple(keeper for keeper in keepers if type(keeper).charge is not Keeper.charge)
        self._asked = tuple(keeper for keeper in keepers if getattr(keeper.ask, "__func__", None) is not Keeper.ask)

    def view(self, rows: Rows = ALL) -> View:
        """What plugins see."""
        return View(self.columns, rows, self._parts.of)

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

    def label(self, node: str, key: str) -> str:
        """A node's label as text; empty if it has none."""
        machine, cluster = self._labels.get(self.rows.get(node, -1), ({}, {}))
        return cluster.get(key, machine.get(key, ""))

    def charges(self, node: str) -> Mapping[str, Placement]:
        """Everything charged on a node, by uid."""
        return self._charges[self.rows[node]] if node in self.rows else {}

    def changed_since(self, tick: int) -> NDArray[np.intp]:
        """The rows stamped after a tick of the clock, each once."""
        return self._stamps.since(tick)

    def unready(self) -> NDArray[np.intp]:
        """The rows whose ledger takes no entry now."""
        return np.fromiter(self._unready, dtype=np.intp, count=len(self._unready))

    def ask(self, pod: Pod) -> Hashable:
        """What beside its shape decides where a pod may go now; see `Keeper.ask`."""
        return tuple([keeper.ask(pod) for keeper in self._asked])

    def turn_away(self, pod: Pod) -> None:
        """No node takes this pod now: it waits."""
        for keeper in self.keepers:
            keeper.turn_away(pod)

    # -- what was heard ----------------------------------------------------------------------------------------------

    def describe(self, topology: NodeTopology) -> None:
        """A node appeared, or its machine changed."""
        row, columns = self.row(topology.node), self.columns
        columns[PRESENT][row] = True
        for kind in columns.kinds("allocatable"):
            if kind not in self._lent:
                columns[f"allocatable/{kind}"][row] = topology.allocatable.get(kind, 0)
        for kind, amount in topology.allocatable.items():
            if kind not in self._lent:
                self._amounts("allocatable", kind)[row] = amount
        self._amounts("capacity", MEMORY)[row] = topology.capacity.get(MEMORY, topology.allocatable.get(MEMORY, 0))
        self._label(row, machine=machine_labels(topology))
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
        for keeper in self.keepers:
            self._touch_all(keeper.forget(row))
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

    def heed(self, said: Evicting | Apart | NodeRatios | TidePool, at: Seconds) -> None:
        """What a node's evictor says (may guests go there), its advisor (who does not get on), the planner (how much)."""
        if isinstance(said, TidePool):
            self._touch_all(self.sides.tell(said, at))
        elif isinstance(said, Apart):
            self.feuds.tell(self.row(said.node), said, at)
        elif isinstance(said, NodeRatios):
            if self.overcommit.heed(row := self.row(said.node), said):
                self._touch(row, NodeChanged.FREE)
        elif self.closures.tell(row := self.row(said.node), said, at):
            self._touch(row)

    def measure(self, usage: NodeUsage, at: Seconds) -> None:
        """What a node uses right now."""
        row = self.row(usage.node)
        capacity = float(self._amounts("capacity", MEMORY)[row])
        if self.load.report(row, usage, min(usage.at, at), capacity, self._guests[row]):
            self._touch(row, NodeChanged.LOAD)

    def learn(self, profile: ServiceProfile) -> None:
        """What a service is known to use; the one without anything takes back what was said before."""
        self._touch_all(self.portraits.learn(profile))

    def expected(self, workload: Workload) -> Estimate:
        """What a pod will probably use, by its service's portrait or by guess."""
        return self.portraits.expected(workload)

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
            if ready:
                self._unready.pop(row)
            else:
                self._unready[row] = None
            self._move(row, *(NodeChanged.READY,) * ready)

    # -- who owns what -----------------------------------------------------------------------------------------------

    def charge(self, node: str, placement: Placement, at: Seconds, *, now: Seconds = -np.inf) -> None:
        """A workload holds its part of a node since `at`; replaces what it held there before."""
        workload = placement.workload
        row, guest = self.row(node), workload.qos is QosClass.RECLAIMED
        before = self._charges[row].get(workload.uid)
        if before is not None and (before is placement or before == placement):
            return  # reserved here, and now on the ledger
        since = self.load.flying_since(row, workload.uid)
        if before is not None:
            self.discharge(node, workload.uid)
        self._charges[row][workload.uid] = placement
        if guest:
            self._guests[row][workload.uid] = None
        for kind, amount in placement.charged.items():
            self._amounts("requested", kind)[row] += amount
        if placement.gpus:
            self.cards.change(row, placement.gpus, 1)
        for keeper in self._of_charges:
            for other in keeper.charge(row, placement, 1):
                (self._touch if other == row else self._move)(other)
        if before is None or before.workload.attempt != workload.attempt or before.workload.size == workload.size:
            since = None if self.load.is_over(row, at, now) else at
        if since is not None:  # else it was measured, whatever size it has by now
            self.load.take_off(row, workload.uid, since, self.portraits.expected(workload), guest=guest)
        self._move(row)

    def discharge(self, node: str, uid: str) -> None:
        """A workload holds nothing of a node any more; nothing if it held nothing."""
        row = self.row(node)
        placement = self._charges[row].pop(uid, None)
        if placement is None:
            return
        self._guests[row].pop(uid, None)
        for kind, amount in placement.charged.items():
            self._amounts("requested", kind)[row] -= amount
        if placement.gpus:
            self.cards.change(row, placement.gpus, -1)
        for keeper in self._of_charges:
            for other in keeper.charge(row, placement, -1):
                (self._touch if other == row else self._move)(other)
        self.load.land(row, uid)
        self._move(row, NodeChanged.FREE, *(NodeChanged.DEVICE,) * bool(placement.gpus or placement.devices))

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is charged inside and taken off again was only tried: nobody remembers it, and it wakes nobody."""
        keepers, changes = self.keepers, set(self.changes)
        self.keepers = tuple(Muted(keeper) if keeper.remembers else keeper for keeper in keepers)
        try:
            yield
        finally:
            self.keepers = keepers
            self.changes.clear()
            self.changes |= changes

    @contextmanager
    def without(self, node: str, uid: str) -> Iterator[None]:
        """The table as it would be without one charge, to ask something; afterwards everything is as it was."""
        row, placement = self.row(node), self.charges(node).get(uid)
        charges, guests = dict(self._charges[row]), dict(self._guests[row])
        since = self.load.flying_since(row, uid)
        with self.trial():
            self.discharge(node, uid)
            try:
                yield
            finally:
                if placement is not None:
                    self.charge(node, placement, since or 0.0)
                    if since is None:
                        self.load.land(row, uid)
                self._charges[row], self._guests[row] = charges, guests  # the same, in their order

    def validate(self) -> None:
        """The requested columns are the sum of the charges."""
        for kind in [name.partition("/")[2] for name in self.columns.names if name.startswith("requested/")]:
            sums = [sum(p.charged.get(kind, 0) for p in charges.values()) for charges in self._charges]
            assert list(self.columns[f"requested/{kind}"]) == sums, f"requested {kind} is not what was charged"

    def _held(self, row: int) -> Iterable[Placement]:
        return self._charges[row].values()

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
        """Something was told of a row."""
        self._told.stamp(row)
        self._move(row, *changes)

    def _move(self, row: int, *changes: NodeChanged) -> None:
        """A row changed."""
        self._stamps.stamp(row)
        if changes:
            self.changes.update(changes)
