"""A node's report, read: whose container is whose, which numbers are numbers, what memory killed.

taken       the first full report of a node in each `spacing` seconds of the clock, whatever order they come in
a container by uid -> the pod in the ledger -> its service; by the runtime's id -> its name, as it was told when it
            started; where that was not told, a pod's only container. A container of several without a name counts
            for its service, and for no container: which one it is would be a guess
refused     time: ahead of ours by more than `skew`, no number, or older than the rings; value: below zero, no
            number or above any machine; pod: not in the ledger, not there; twice: listed before; late: an hour after
            the node's newest; name: see above; full: no row is left. Each is counted, nothing else changes
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.units import Bytes, Seconds
from neap.planner.core import lean
from neap.planner.core.cluster import Cluster, Pod
from neap.planner.core.history.codes import MOST
from neap.planner.core.history.containers import KEPT, Containers
from neap.planner.core.history.open_window import Listed
from neap.planner.core.history.rows import NO_ROW
from neap.planner.core.history.settings import Settings
from neap.planner.core.history.totals import Totals

SLOTS: Final = 64  # of a node that are remembered as taken
UNKNOWN: Final = math.nan


@dataclass(slots=True)
class Heard:
    """What is remembered of one node's reports."""

    newest: int = 0  # slot
    taken: int = 0  # bit i: slot newest - i was folded
    kills: dict[str, int] = field(default_factory=dict)  # container -> OOM kills, where there were any
    is_known: bool = False  # whether a report was folded before

    def take(self, slot: int) -> bool:
        """Whether a slot, one of the last SLOTS, was not folded yet; it is, from now on."""
        ahead = slot - self.newest
        if ahead > 0:
            self.newest, self.taken = slot, (self.taken << ahead if ahead < SLOTS else 0) & ((1 << SLOTS) - 1) | 1
            return True
        if self.taken >> -ahead & 1:
            return False
        self.taken |= 1 << -ahead
        return True


class Line(NamedTuple):
    """A container of a report: rows of it (NO_ROW: nobody knows which it is) and of its service; use, NaN: unknown."""

    row: int
    service: int
    cpu: float
    memory: float
    uid: str
    is_first: bool  # of its pod
    is_owner: bool
    is_starting: bool


EMPTY: Final = ((),) * len(Line._fields)  # columns of a report without containers


class Reports:
    """See module docstring."""

    def __init__(self, settings: Settings, cluster: Cluster, containers: Containers, totals: Totals) -> None:
        self._settings, self._cluster = settings, cluster
        self._containers, self._totals = containers, totals
        self._nodes: dict[str, Heard] = {}
        self._whole = lean.Whole((CPU, MEMORY, "working_set", "oom_kills"), settings.spacing)
        self.skipped: Counter[str] = Counter()  # why -> how many; whoever reads them clears them
        self.samples = 0

    def fold(self, report: NodeUsage, now: Seconds) -> str:
        """Take one report; why it was refused as a whole."""
        at, settings = report.at, self._settings
        if not math.isfinite(at) or not now - KEPT < at <= now + settings.skew:
            self.skipped["time"] += max(1, len(report.containers))
            return "time"
        node = self._nodes.get(report.node)
        if node is None:
            if len(self._nodes) >= settings.most_nodes:
                self.skipped["full"] += 1
                return "full"
            node = self._nodes[report.node] = Heard()
        whole, slot = self._whole.of(report), math.floor(at / settings.spacing)
        if slot <= node.newest - SLOTS:
            self.skipped["late"] += 1
        elif whole is not None and node.take(slot):
            self._fold(whole, node, now, is_newest=slot == node.newest)
        return ""

    def forget(self, nodes: Sequence[str]) -> None:
        """Nodes that are gone."""
        for node in nodes:
            self._nodes.pop(node, None)
            self._whole.forget(node)

    @property
    def nodes(self) -> Sequence[str]:
        """Whose reports were heard."""
        return tuple(self._nodes)

    def _fold(self, report: NodeUsage, node: Heard, now: Seconds, *, is_newest: bool) -> None:
        lines, uids, listed = list[Line](), set[str](), set[tuple[str, str]]()
        kills: dict[str, int] = {}
        for used in report.containers:
            pod, name = self._cluster.pods.get(used.uid), (used.uid, used.container)
            if pod is None or pod.node != report.node or name in listed:
                self.skipped["twice" if name in listed else "pod"] += 1
                continue
            line = self._line(used, pod, report.at, is_first=used.uid not in uids)
            lines += [line] if line is not None else []
            uids.add(used.uid)
            listed.add(name)
            if used.oom_kills and is_newest:
                kills[used.container] = used.oom_kills
                is_new = node.is_known and used.oom_kills > node.kills.get(used.container, 0)
                if is_new and line is not None and line.row != NO_ROW:
                    self._containers.note_oom(line.row, report.at, used.uid, self._had(used, pod, line.row, report.at))
        if is_newest:  # an older one knows of fewer kills: those noted would be noted again
            node.kills, node.is_known = kills, True
        self._spread(report, lines, now)

    def _line(self, used: ContainerUsage, pod: Pod, at: Seconds, *, is_first: bool) -> Line | None:
        """One container's line; None: there is no room for its service."""
        workload, service = pod.workload, self._totals.services.take(pod.key)
        if service == NO_ROW:
            self.skipped["full"] += 1
            return None
        only = workload.containers[0].name if len(workload.containers) == 1 else ""
        name = pod.containers.get(used.container) or only
        row = self._containers.take((pod.key, name)) if name else NO_ROW
        if row == NO_ROW:
            self.skipped["full" if name else "name"] += 1
        cpu = self._amount(used.cpu, CPU)
        memory = self._amount(used.memory if used.working_set is None else used.working_set, MEMORY)
        is_starting = 0 < pod.started_at <= at < pod.started_at + self._settings.startup
        return Line(
            row, service, cpu, memory, workload.uid, is_first, workload.qos is not QosClass.RECLAIMED, is_starting
        )

    def _amount(self, told: float | None, kind: str) -> float:
        if told is None:
            return UNKNOWN
        if 0 <= told <= MOST[kind]:
            return float(told)
        self.skipped["value"] += 1
        return UNKNOWN

    def _spread(self, report: NodeUsage, lines: Sequence[Line], now: Seconds) -> None:
        row, service, used, held, uid, is_first, is_owner, is_starting = zip(*lines, strict=True) if lines else EMPTY
        rows, cpu, memory = np.array(row, np.intp), np.array(used, float), np.array(held, float)
        firsts, owners, starting = np.array(is_first, float), np.array(is_owner, bool), np.array(is_starting, bool)
        self._totals.fold(report.node, Listed(np.array(service, np.intp), cpu, memory, firsts, owners), report.at, now)
        for place in np.flatnonzero(starting & (rows >= 0)).tolist():
            self._containers.fold_startup(int(rows[place]), cpu[place], memory[place], report.at, now)
        steady = (rows >= 0) & ~starting & ~(np.isnan(cpu) & np.isnan(memory))
        uids = [each for each, is_steady in zip(uid, steady.tolist(), strict=True) if is_steady]
        values = {CPU: cpu[steady], MEMORY: memory[steady]}
        self._containers.fold(rows[steady], values, report.at, now, uids)
        self.samples += len(rows)

    def _had(self, used: ContainerUsage, pod: Pod, row: int, at: Seconds) -> Bytes:
        """How much memory a killed container had: its limit; without one, the most that was seen of late."""
        name = pod.containers.get(used.container, "")
        limits = [each.limits.get(MEMORY, 0) for each in pod.workload.containers if each.name == name or not name]
        if len(limits) == 1 and limits[0] > 0:
            return limits[0]
        seen = (self._containers.highest_now(row, at), float(used.memory or 0), float(used.working_set or 0))
        return int(max(value for value in seen if not math.isnan(value)))
