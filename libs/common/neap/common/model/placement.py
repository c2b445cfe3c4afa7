"""Entries of a node's ledger: who owns what there.

The state of a node is the fold of its entries; a Checkpoint carries the whole state, so older entries may be
dropped. Only the scheduler appends; the expected sequence is the only lock.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from neap.common.model.resource import Resources
from neap.common.model.workload import Workload


class GpuShare(msgspec.Struct, frozen=True, kw_only=True):
    """What one container gets of one card."""

    container: str
    card: int
    core: int  # percent of the card
    memory_mib: int


class DeviceShare(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod gets of one device beside cards: a network card's bandwidth, in percent."""

    address: str
    percent: int


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One workload on one node, with the parts it was charged."""

    workload: Workload
    charged: Resources
    numa: tuple[int, ...] = ()  # NUMA nodes it is bound to; empty: not bound
    gpus: tuple[GpuShare, ...] = ()
    devices: tuple[DeviceShare, ...] = ()
    exclusive: bool = False  # nobody else owns CPUs of these NUMA nodes


class Placed(msgspec.Struct, frozen=True, kw_only=True, tag="placed"):
    """The workload belongs to this node from here on."""

    at: float
    source: str
    node: str
    placement: Placement
    reason: str
    score: float = 0.0


class Released(msgspec.Struct, frozen=True, kw_only=True, tag="released"):
    """The workload left the node; what it held is free again."""

    at: float
    source: str
    node: str
    uid: str
    reason: str


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint"):
    """Everything placed on this node, in full."""

    at: float
    source: str
    node: str
    placements: tuple[Placement, ...]


LedgerEntry: TypeAlias = Placed | Released | Checkpoint


def fold(held: dict[str, Placement], entry: LedgerEntry) -> dict[str, Placement]:
    """The node's placements by uid after one more entry."""
    match entry:
        case Placed(placement=placement):
            return held | {placement.workload.uid: placement}
        case Released(uid=uid):
            return {key: placement for key, placement in held.items() if key != uid}
        case Checkpoint(placements=placements):
            return {placement.workload.uid: placement for placement in placements}
