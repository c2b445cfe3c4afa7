"""What the parts of the scheduler's machine share: everything it knows, and what it says in answer to one event."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from neap.common.model.workload import Workload
from neap.common.runtime.machine import Instruction
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.flow.appends import Appends
from neap.scheduler.core.flow.book import Book
from neap.scheduler.core.flow.ledger import Ledgers
from neap.scheduler.core.flow.queue import Queue
from neap.scheduler.core.flow.sound import Refusals
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.profiles import Profiles
from neap.scheduler.settings import Settings


@dataclass(slots=True)
class Desk:
    """See module docstring."""

    settings: Settings
    table: NodeTable
    cycle: Cycle
    queue: Queue
    book: Book
    ledgers: Ledgers
    appends: Appends
    profiles: Profiles
    out: list[Instruction] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)  # of input
    nominated: dict[str, tuple[str, int]] = field(default_factory=dict)  # uid -> node and attempt a place is kept for

    def say(self, instructions: Iterable[Instruction]) -> None:
        """Have these done once the event is handled."""
        self.out += instructions

    def workload(self, uid: str) -> Workload | None:
        """As far as anybody told."""
        record, place = self.book.records.get(uid), self.ledgers.find(uid)
        return (record.workload if record else None) or (place[1].placement.workload if place else None)

    def is_mine(self, uid: str) -> bool:
        """Whether this scheduler is the one that decides about a workload; the members of a gang have one scheduler."""
        shards = self.settings.shards
        if shards == 1:
            return True
        workload = self.workload(uid)
        name = uid if workload is None or workload.gang is None else f"{workload.namespace}/{workload.gang.name}"
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % shards == self.settings.shard
