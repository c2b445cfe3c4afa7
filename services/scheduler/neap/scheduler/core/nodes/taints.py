"""Taints of nodes as one column: the number of the set a node has, 0 for none. Sets are few; verdicts are per set.

A cordoned node has Kubernetes' own taint for it. Pods of one class and one list of tolerations get one verdict, kept
until a set comes or goes. Live sets are at most the nodes; verdicts are forgotten beyond MOST_VERDICTS.
Source: Kubernetes, "Taints and Tolerations"; a taint may be meant for some QoS classes only (Katalyst, CNR taints).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

import numpy as np

from neap.common.model.node import NodeObject
from neap.common.model.scheduling import Effect, Taint, Toleration
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.nodes.view import Mask, Numbers
from neap.scheduler.core.pods.pod import Pod

TAINTS: Final = "taints"  # the fact by which plugins find it
COLUMN: Final = "taint/set"
CORDON: Final = Taint(key="node.kubernetes.io/unschedulable", effect=Effect.NO_SCHEDULE)
MOST_VERDICTS: Final = 1024
MOST_NAMED: Final = 8  # taints with a rule of their own; what further ones reject is said as one


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a toleration matches a taint: an empty key or effect matches any."""
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return toleration.exists or toleration.value == taint.value


def minded(taints: Iterable[Taint], pod: Pod) -> list[Taint]:
    """The taints that are meant for a pod's class and that it does not tolerate."""
    wish, qos = pod.workload.constraints, pod.workload.qos
    return [
        taint
        for taint in taints
        if (not taint.qos or qos in taint.qos) and not any(tolerates(one, taint) for one in wish.tolerations)
    ]


class Verdict(NamedTuple):
    """Of one kind of pod, by number of the set."""

    hard: tuple[tuple[Taint, Mask], ...]  # per taint that keeps it away, the sets that do not have it
    others: Mask | None  # sets with none of the taints that have no rule of their own
    soft: Numbers | None  # score, where a taint only asks to be avoided


class Taints(Keeper):
    """See module docstring."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        columns.facts[TAINTS] = self
        columns.add(COLUMN, np.int32)
        self.sets: list[frozenset[Taint]] = [frozenset()]
        self._numbers: dict[frozenset[Taint], int] = {frozenset(): 0}
        self._nodes: list[int] = [0]  # that have a set, by number
        self._free: list[int] = []
        self._verdicts: dict[Hashable, Verdict] = {}

    def register(self, row: int, node: NodeObject) -> Iterable[int]:
        """The taints of a node; a taint that says nothing twice is one."""
        taints = frozenset(node.taints) | ({CORDON} if node.cordoned else set())
        cells = self._columns[COLUMN]
        old = int(cells[row])
        if self.sets[old] == taints:
            return ()
        cells[row] = self._enter(taints)
        if old:
            self._nodes[old] -= 1
            if not self._nodes[old]:
                del self._numbers[self.sets[old]]
                self.sets[old] = frozenset()
                self._free.append(old)
                self._verdicts.clear()
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """Which taints keep it away, and whether some ask to be avoided; the rest is each node's own."""
        if len(self._numbers) == 1:
            return None
        found = self.verdict(pod)
        return tuple(taint for taint, _ in found.hard), found.others is None, found.soft is None

    def verdict(self, pod: Pod) -> Verdict:
        """Of a pod, by set."""
        name = (pod.workload.qos, pod.workload.constraints.tolerations)
        found = self._verdicts.get(name)
        if found is None:
            if len(self._verdicts) >= MOST_VERDICTS:
                self._verdicts.clear()
            found = self._verdicts[name] = self._judge(pod)
        return found

    def _enter(self, taints: frozenset[Taint]) -> int:
        number = self._numbers.get(taints)
        if number is None:
            self._verdicts.clear()
            if self._free:
                number = self._free.pop()
                self.sets[number] = taints
            else:
                number = len(self.sets)
                self.sets.append(taints)
                self._nodes.append(0)
            self._numbers[taints] = number
        if number:
            self._nodes[number] += 1
        return number

    def _judge(self, pod: Pod) -> Verdict:
        minds = [minded(taints, pod) for taints in self.sets]
        hard = [[taint for taint in some if taint.effect is not Effect.PREFER_NO_SCHEDULE] for some in minds]
        avoid = np.array([len(some) - len(firm) for some, firm in zip(minds, hard, strict=True)])
        known = sorted({taint for some in hard for taint in some}, key=written)
        named, rest = known[:MOST_NAMED], set(known[MOST_NAMED:])
        return Verdict(
            tuple((taint, np.array([taint not in some for some in hard])) for taint in named),
            np.array([rest.isdisjoint(some) for some in hard]) if rest else None,
            100.0 / (1 + avoid) if avoid.any() else None,
        )


def written(taint: Taint) -> str:
    """As people write it: "gpu=true:NoSchedule", with the classes it is for."""
    value = f"={taint.value}" if taint.value else ""
    classes = f" for {', '.join(taint.qos)}" if taint.qos else ""
    return f"{taint.key}{value}:{taint.effect}{classes}"
