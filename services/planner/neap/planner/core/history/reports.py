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
from typing import Final

import numpy as np

from neap.common.model.qos import QosClass
from neap.common.model.usage import ContainerUsage, NodeUsage, completed
from neap.common.units import Bytes, Seconds
from neap.planner.core.cluster import Cluster, Pod
from neap.planner.core.history.codes import MOST
from neap.planner.core.history.containers import KEPT, Containers
from neap.planner.core.history.open_window import Listed
from neap.planner.core.history.rows import NO_ROW
from neap.planner.core.history.settings import Settings
from neap.planner.core.history.totals import Totals

SLOTS: Final = 64  # of a node that are remembered as taken
MEMORY: Final = "memory"
UNKNOWN: Final = math.nan


@dataclass(slots=True)
class Heard:
    """What is remembered of one node's reports."""

    newest: int = 0  # slot
    taken: int = 0  # bit i: slot newest - i was folded
    full: NodeUsage | None = None  # only where reports are so rare that short ones are needed too
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


class Lines:
    """Columns of one report, as they are filled."""

    def __init__(self) -> None:
        self.containers: list[int] = []
        self.services: list[int] = []
        self.cpu: list[float] = []
        self.memory: list[float] = []
        self.uids: list[str] = []
        self.pods: list[float] = []
        self.owners: list[bool] = []
        self.starting: list[bool] = []


class Reports:
    """See module docstring."""

    def __init__(self, settings: Settings, cluster: Cluster, containers: Containers, totals: Totals) -> None:
        self._settings, self._cluster = settings, cluster
        self._containers, self._totals = containers, totals
        self._nodes: dict[str, Heard] = {}
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
        whole, slot = self._whole(report, node), math.floor(at / settings.spacing)
        if slot <= node.newest - SLOTS:
            self.skipped["late"] += 1
        elif whole is not None and node.take(slot):
            self._fold(whole, node, now)
        return ""

    def forget(self, nodes: Sequence[str]) -> None:
        """Nodes that are gone."""
        for node in nodes:
            self._nodes.pop(node, None)

    @property
    def nodes(self) -> Sequence[str]:
        """Whose reports were heard."""
        return tuple(self._nodes)

    def _whole(self, report: NodeUsage, node: Heard) -> NodeUsage | None:
        """The report with all its containers; short ones only where full ones may be further apart than `spacing`."""
        if report.period * 10 < self._settings.spacing:
            return None if report.since else report
        if not report.since:
            node.full = report
        return completed(report, node.full)

    def _fold(self, report: NodeUsage, node: Heard, now: Seconds) -> None:
        lines, uids, listed = Lines(), set[str](), set[tuple[str, str]]()
        kills: dict[str, int] = {}
        for used in report.containers:
            pod, name = self._cluster.pods.get(used.uid), (used.uid, used.container)
            if pod is None or pod.node != report.node or name in listed:
                self.skipped["twice" if name in listed else "pod"] += 1
                continue
            row = self._line(used, pod, report.at, lines, is_first=used.uid not in uids)
            uids.add(used.uid)
            listed.add(name)
            if used.oom_kills:
                kills[used.container] = used.oom_kills
                if node.is_known and used.oom_kills > node.kills.get(used.container, 0) and row >= 0:
                    self._containers.note_oom(row, report.at, used.uid, self._had(used, pod, row, report.at))
        node.kills, node.is_known = kills, True
        self._spread(report, lines, now)

    def _line(self, used: ContainerUsage, pod: Pod, at: Seconds, lines: Lines, *, is_first: bool) -> int:
        """One container's line; its row."""
        workload = pod.workload
        key = pod.key
        service = self._totals.services.take(key)
        if service == NO_ROW:
            self.skipped["full"] += 1
            return NO_ROW
        name = pod.containers.get(used.container) or (
            workload.containers[0].name if len(workload.containers) == 1 else ""
        )
        row = self._containers.take((key, name)) if name else NO_ROW
        if row == NO_ROW:
            self.skipped["full" if name else "name"] += 1
        lines.containers.append(row)
        lines.services.append(service)
        lines.cpu.append(self._amount(used.cpu, "cpu"))
        lines.memory.append(self._amount(used.memory if used.working_set is None else used.working_set, MEMORY))
        lines.uids.append(workload.uid)
        lines.pods.append(float(is_first))
        lines.owners.append(workload.qos is not QosClass.RECLAIMED)
        lines.starting.append(0 < pod.started_at <= at < pod.started_at + self._settings.startup)
        return row

    def _amount(self, told: float | None, kind: str) -> float:
        if told is None:
            return UNKNOWN
        if 0 <= told <= MOST[kind]:
            return float(told)
        self.skipped["value"] += 1
        return UNKNOWN

    def _spread(self, report: NodeUsage, lines: Lines, now: Seconds) -> None:
        rows, cpu, memory = np.array(lines.containers, np.intp), np.array(lines.cpu), np.array(lines.memory)
        starting = np.array(lines.starting, np.bool_)
        services, pods = np.array(lines.services, np.intp), np.array(lines.pods)
        self._totals.fold(
            report.node, Listed(services, cpu, memory, pods, np.array(lines.owners, np.bool_)), report.at, now
        )
        for place in np.flatnonzero(starting & (rows >= 0)).tolist():
            self._containers.fold_startup(int(rows[place]), cpu[place], memory[place], report.at, now)
        steady = (rows >= 0) & ~starting & ~(np.isnan(cpu) & np.isnan(memory))
        uids = [uid for uid, is_steady in zip(lines.uids, steady.tolist(), strict=True) if is_steady]
        values = {"cpu": cpu[steady], MEMORY: memory[steady]}
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
