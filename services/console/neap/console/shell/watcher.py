"""Reads a running day off the bus: progress for the eye, every stored message for the journal, times for the table."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgspec

from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import DAY_REPORT, HEADROOM, PLACEMENTS, TRAIL, WORKLOAD
from neap.common.model.day import DayReport
from neap.common.model.lifecycle import Ended, Submitted
from neap.common.model.placement import Placed
from neap.common.model.qos import QosClass
from neap.common.model.resource import GPU_CORE
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.console.core.progress import Progress


@dataclass
class Placing:
    """How long first attempts waited (seconds of the day, from `begin` on), and how many were placed in each real second."""

    begin: Seconds = 0.0
    waiting: dict[str, tuple[Seconds, str]] = field(default_factory=dict)  # by uid: since when, and its kind
    waited: dict[str, list[Seconds]] = field(default_factory=dict)  # by kind of workload
    per_second: Counter[int] = field(default_factory=Counter)

    def see(self, message: Any, stopwatch: Seconds) -> None:
        """Fold one stored message."""
        match message:
            case Submitted(at=at, workload=workload):
                if workload.attempt == 1:
                    self.waiting.setdefault(workload.uid, (max(at, self.begin), _kind(workload)))
            case Ended(uid=uid):
                self.waiting.pop(uid, None)
            case Placed(at=at, placement=placement):
                self.per_second[int(stopwatch)] += 1
                found = self.waiting.pop(placement.workload.uid, None)  # once: a pod that is resized is placed anew
                if found is not None:
                    self.waited.setdefault(found[1], []).append(max(0.0, at - found[0]))

    def waits(self, until: Seconds) -> dict[str, tuple[Seconds, Seconds]]:
        """p50 and p99 of the waits by kind of workload; who still waits has waited until then."""
        waits = {kind: list(waited) for kind, waited in self.waited.items()}
        for since, kind in self.waiting.values():
            waits.setdefault(kind, []).append(max(0.0, until - since))
        return {kind: _percentiles(waited) for kind, waited in sorted(waits.items())}


def _kind(workload: Workload) -> str:
    if workload.qos is QosClass.RECLAIMED:
        return "guests"
    return "GPU pods" if GPU_CORE in workload.requests else "owners"


def _percentiles(waited: Sequence[Seconds]) -> tuple[Seconds, Seconds]:
    """Nearest-rank p50 and p99."""
    ranked = sorted(waited)
    return ranked[len(ranked) // 2], ranked[int(0.99 * len(ranked))]


@dataclass
class Watcher:
    """Follows one day until its report says that it is over."""

    bus: Bus
    stopwatch: Callable[[], Seconds]
    journal: BinaryIO | None = None
    progress: Progress = field(default_factory=Progress)
    placing: Placing = field(default_factory=Placing)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> DayReport:
        """Until the day is over; returns its last report."""
        sources = (
            self.bus.watch(DAY_REPORT.only()),
            self.bus.watch(HEADROOM.only()),
            self.bus.follow(WORKLOAD.only()),
            self.bus.follow(PLACEMENTS.only()),
            self.bus.follow(TRAIL.only()),
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._read(source)) for source in sources]
            await self.over.wait()
            for task in tasks:
                task.cancel()
        if self.progress.report is None:
            raise RuntimeError("a day is over that never was reported")
        return self.progress.report

    async def _read(self, source: AbstractAsyncContextManager[Any]) -> None:
        async with source as items:
            async for item in items:
                if isinstance(item, Received):
                    self._see(item)

    def _see(self, item: Received[Any]) -> None:
        message = item.message
        self.progress.see(message)
        self.placing.see(message, self.stopwatch())
        if isinstance(message, DayReport):
            if message.over:
                self.over.set()
        elif self.journal is not None and item.subject.startswith("neap."):
            line = {"seq": item.seq, "subject": item.subject, "message": message}
            self.journal.write(msgspec.json.encode(line) + b"\n")
