"""What replicas use just now: of each followed pod the mean CPU since the last look.

A value holds until the next report of its node; a short report leaves out what has not changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from neap.common.model.usage import NodeUsage
from neap.common.units import Cores, Seconds

FUTURE: Final[Seconds] = 60.0  # a report from further ahead is of a clock that is wrong


@dataclass(slots=True)
class Use:
    """One pod."""

    node: str
    containers: dict[str, Cores] = field(default_factory=dict)
    since: Seconds = 0.0  # of the area
    until: Seconds = 0.0
    area: float = 0.0  # cores x seconds

    def tell(self, at: Seconds) -> None:
        """What holds, held until then."""
        if at > self.until:
            self.area += math.fsum(self.containers.values()) * (at - self.until)
            self.until = at

    def take(self) -> Cores:
        """The mean since the last look; where nothing came since, what holds."""
        passed = self.until - self.since
        mean = self.area / passed if passed > 0 else math.fsum(self.containers.values())
        self.since, self.area = self.until, 0.0
        return mean


class Gauge:
    """See module docstring."""

    def __init__(self) -> None:
        self._followed: set[str] = set()
        self._pods: dict[str, Use] = {}
        self._nodes: dict[str, Seconds] = {}  # when each was heard of last
        self.left_out = 0  # values that cannot be

    def follow(self, uids: Iterable[str]) -> None:
        """These pods, and no others."""
        self._followed = set(uids)
        for uid in [uid for uid in self._pods if uid not in self._followed]:
            del self._pods[uid]
        theirs = {use.node for use in self._pods.values()}
        self._nodes = {node: at for node, at in self._nodes.items() if node in theirs}

    def hear(self, usage: NodeUsage, at: Seconds) -> None:
        """One report. O(its containers)."""
        if usage.at > at + FUTURE:
            self.left_out += 1
            return
        self._nodes[usage.node] = at
        whole = not usage.since
        seen: set[str] = set()
        for container in usage.containers:
            uid, cpu = container.uid, container.cpu
            if uid not in self._followed or cpu is None:
                continue
            if not (math.isfinite(cpu) and cpu >= 0):
                self.left_out += 1
                continue
            use = self._pods.get(uid)
            if use is None or use.node != usage.node:
                use = self._pods[uid] = Use(usage.node, since=at, until=at)
            if uid not in seen:
                use.tell(at)
                if whole:
                    use.containers = {}
                seen.add(uid)
            use.containers[container.container] = cpu

    def read(self, uid: str, at: Seconds, stale: Seconds) -> Cores | None:
        """What a pod used since the last look; None: nothing is known, or its node has fallen silent."""
        use = self._pods.get(uid)
        if use is None or at - self._nodes.get(use.node, -math.inf) > stale:
            return None
        use.tell(at)
        return use.take()
