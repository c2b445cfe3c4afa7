"""What each pod used in the last ten hours, on the nodes that are asked about: in steps of 300 s.

CPU as the mean of a step, memory (working set) as its highest; NaN where nothing was seen. A step is written once it
is over, in 16 bits. Half a KiB a pod; a report costs one look at each container it lists.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Final

import numpy as np

from neap.common.model.resource import CPU, MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.units import Seconds
from neap.foresight.peaking import LONGEST
from neap.foresight.series import Values
from neap.planner.core import lean
from neap.planner.core.history.codes import Codes, coded, decoded
from neap.planner.core.record import STEP

PLACE: Final[Mapping[str, int]] = {CPU: 0, MEMORY: 1}
READ: Final = ("cpu", "memory", "working_set")
MOST_PODS: Final = 2000  # of one node
LARGEST: Final = float(1 << 53)


class _Pod:
    """One pod: closed steps in a ring, and the sum of the open one."""

    __slots__ = ("cpu", "memory", "reports", "ring")

    def __init__(self) -> None:
        self.ring: Codes = np.zeros((len(PLACE), LONGEST), np.uint16)
        self.cpu, self.reports, self.memory = 0.0, 0, math.nan

    def close(self, place: int) -> None:
        self.ring[0, place] = coded(self.cpu / self.reports, CPU) if self.reports else 0
        self.ring[1, place] = coded(self.memory, MEMORY)
        self.cpu, self.reports, self.memory = 0.0, 0, math.nan


class _Node:
    __slots__ = ("pods", "step")

    def __init__(self, step: int) -> None:
        self.step = step
        self.pods: dict[str, _Pod] = {}


class Recent:
    """See module docstring."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._whole = lean.Whole(READ)

    def watch(self, node: str, at: Seconds) -> None:
        """A node is asked about from now on."""
        if node not in self._nodes:
            self._nodes[node] = _Node(int(at // STEP))

    def forget(self, node: str) -> None:
        """It is not any more."""
        self._nodes.pop(node, None)
        self._whole.forget(node)

    def hear(self, report: NodeUsage, at: Seconds) -> Mapping[str, int]:
        """Fold a report heard at a time; what of it could not be used, by why."""
        known = self._nodes.get(report.node)
        if known is None:
            return {}
        whole = self._whole.of(report)
        step = int(min(report.at, at) // STEP)
        if whole is None or step < known.step:
            return {"late": 1} if step < known.step else {}
        self._turn(known, step)
        flaws: Counter[str] = Counter()
        used: dict[str, tuple[float | None, float | None]] = {}
        for container in whole.containers:
            cpu, memory = _usable(container.cpu, flaws), _usable(_held(container), flaws)
            before = used.get(container.uid)
            used[container.uid] = (cpu, memory) if before is None else (_add(before[0], cpu), _add(before[1], memory))
        for uid, (cpu, memory) in used.items():
            self._add(known, uid, cpu, memory, flaws)
        return flaws

    def of(self, node: str, uids: Sequence[str], kind: str) -> Values:
        """Closed steps, oldest first, by pod; a pod never seen is NaN throughout. Shape (pods, LONGEST)."""
        known, never = self._nodes.get(node), np.zeros(LONGEST, np.uint16)
        if known is None or not uids:
            return np.full((len(uids), LONGEST), np.nan)
        order = (known.step + np.arange(LONGEST)) % LONGEST
        rows = [known.pods[uid].ring[PLACE[kind]] if uid in known.pods else never for uid in uids]
        return decoded(np.stack(rows)[:, order], kind)

    def keep(self, node: str, uids: Sequence[str], at: Seconds) -> None:
        """Time has passed, and only these are there."""
        known = self._nodes.get(node)
        if known is not None:
            known.pods = {uid: known.pods[uid] for uid in uids if uid in known.pods}
            self._turn(known, int(at // STEP))

    @staticmethod
    def _turn(known: _Node, step: int) -> None:
        """Close the open step, and say of those between that nothing was seen."""
        if step <= known.step:
            return
        empty = [passed % LONGEST for passed in range(max(known.step + 1, step - LONGEST), step)]
        for pod in known.pods.values():
            pod.close(known.step % LONGEST)
            if empty:
                pod.ring[:, empty] = 0
        known.step = step

    @staticmethod
    def _add(known: _Node, uid: str, cpu: float | None, memory: float | None, flaws: Counter[str]) -> None:
        pod = known.pods.get(uid)
        if pod is None:
            if len(known.pods) >= MOST_PODS:
                flaws["too many"] += 1
                return
            pod = known.pods[intern(uid)] = _Pod()
        if cpu is not None:
            pod.cpu, pod.reports = pod.cpu + cpu, pod.reports + 1
        if memory is not None:
            pod.memory = memory if math.isnan(pod.memory) else max(pod.memory, memory)


def _held(container: ContainerUsage) -> int | None:
    return container.working_set if container.working_set is not None else container.memory


def _usable(value: float | None, flaws: Counter[str]) -> float | None:
    if value is None or 0 <= value <= LARGEST:
        return value
    flaws["negative" if value < 0 else "beyond"] += 1  # NaN as well
    return None


def _add(left: float | None, right: float | None) -> float | None:
    return right if left is None else left if right is None else left + right
