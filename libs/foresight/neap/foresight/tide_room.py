"""How much of pods' requests nodes hold: an estimate for what is to come, and a packing of what is there.

    room(node) = max(c - p, c / 2)        c: what the node has for owners, p: the largest pod's part, per resource

Whatever order pods come in, a node that refuses one has more than c - p taken; and first fit leaves at most one node
less than half full. So sums of `room` are what pods of at most p fill without looking ahead. A largest pod bigger than
half a node makes this an estimate: pods that are there are packed one by one instead, see `unplaced`.
Source: Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms" (1974).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neap.common.units import Bytes, MilliCores, Ratio


@dataclass(frozen=True, slots=True)
class Ask:
    """Equal pods: what each asks, and how many. `movable`: they can run on any node of the pool."""

    cpu: MilliCores
    memory: Bytes
    count: int = 1
    movable: bool = True


@dataclass(slots=True)
class Free:
    """What a node has left."""

    cpu: MilliCores
    memory: Bytes


def total(asks: Iterable[Ask]) -> tuple[MilliCores, Bytes]:
    """Sum over all pods."""
    cpu = memory = 0
    for ask in asks:
        cpu += ask.cpu * ask.count
        memory += ask.memory * ask.count
    return cpu, memory


def room(cpu: MilliCores, memory: Bytes, largest: tuple[MilliCores, Bytes], full: Ratio) -> NDArray[np.float64]:
    """Milli-cores and bytes a node holds of pods up to the largest, and cores it may use."""
    by_cpu, by_memory = (max(c - p, c / 2) for c, p in zip((cpu, memory), largest, strict=True))
    return np.array([by_cpu, by_memory, cpu / 1000 * full])


def unplaced(asks: Sequence[Ask], bins: Sequence[Free]) -> list[Ask]:
    """Pack the largest first into the first node that holds them, and take it off `bins`; those left over.

    Cost: O(kinds x nodes).
    """
    most_cpu = max((one.cpu for one in bins), default=0) or 1
    most_memory = max((one.memory for one in bins), default=0) or 1
    left: list[Ask] = []
    for ask in sorted(asks, key=lambda one: (-max(one.cpu / most_cpu, one.memory / most_memory), one.cpu, one.memory)):
        waiting = ask.count
        for one in bins:
            if not waiting:
                break
            holds = min(_times(one.cpu, ask.cpu), _times(one.memory, ask.memory), waiting)
            if holds > 0:
                one.cpu -= holds * ask.cpu
                one.memory -= holds * ask.memory
                waiting -= holds
        if waiting:
            left.append(replace(ask, count=waiting))
    return left


def _times(free: int, part: int) -> int:
    return max(0, free) // part if part > 0 else 1 << 30
