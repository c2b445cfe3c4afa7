"""What no scheduler would have appended: such an entry of a ledger is refused by every reader alike, as poison.

A ledger is read again after every restart, so an entry that breaks a room would break it for ever. Only what an entry
says of itself is judged here; whether it fits the node is the law of the ledger, and not for a decoder to tell.
The scheduler refuses a workload for the same reasons before it places it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from neap.common.contract.channel import escape
from neap.common.errors import InputError
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement
from neap.common.model.resource import LARGEST
from neap.common.model.workload import UID, Workload

MOST_CONTAINERS: Final = 64
MOST_ATTEMPTS: Final = 1 << 31


def entry_flaw(entry: LedgerEntry) -> str:
    """Why no scheduler would have appended this; empty if nothing speaks against it."""
    match entry:
        case Placed(placement=placement):
            return next(_flaws(placement), "")
        case Checkpoint(placements=placements):
            return next((flaw for placement in placements for flaw in _flaws(placement)), "")
    return ""


def name_flaw(workload: Workload) -> str:
    """Why a workload of this namespace, name and uid can be on no ledger; empty if nothing speaks against it."""
    return next(_wrong_names(workload), "")


def common_flaw(workload: Workload) -> str:
    """The same of everything else, which replicas have in common."""
    return next(_wrong_rest(workload), "")


def _flaws(placement: Placement) -> Iterator[str]:
    yield from _wrong_names(placement.workload)
    yield from _wrong_rest(placement.workload)
    yield from _wrong(placement.charged, "charged")
    for share in placement.gpus:
        yield from _wrong({"core": share.core, "memory_mib": share.memory_mib}, f"share of card {share.card}")


def _wrong_names(workload: Workload) -> Iterator[str]:
    for what, name in (("namespace", workload.namespace), ("name", workload.name)):
        try:
            escape(name)
        except InputError as error:
            yield f"{what} {error}"
    if not UID.fullmatch(workload.uid):
        yield f"uid {workload.uid[:64]!r} must be 1..128 letters, digits, '-', '_' and '.'"


def _wrong_rest(workload: Workload) -> Iterator[str]:
    if not 1 <= workload.attempt < MOST_ATTEMPTS:
        yield f"attempt {workload.attempt} is out of bounds"
    if not 1 <= len(workload.containers) <= MOST_CONTAINERS:
        yield f"{len(workload.containers)} containers (allowed: 1..{MOST_CONTAINERS})"
    yield from _wrong(workload.init_requests, "init containers")
    for container in workload.containers:
        where = f"container {container.name[:64]!r}"
        yield from _wrong(container.requests, f"{where} requests")
        yield from _wrong(container.limits, f"{where} limits")


def _wrong(amounts: Mapping[str, int], where: str) -> Iterator[str]:
    for kind, amount in sorted(amounts.items()):
        if amount < 0:
            yield f"{where}: {kind[:64]} {amount} is negative"
        if amount > LARGEST:
            yield f"{where}: {kind[:64]} is beyond {LARGEST}"
