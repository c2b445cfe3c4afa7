"""What every node is to one workload, said in little: codes and scores by node, and each obstacle told once.

5,000 nodes are about 60 kB, whatever they are called; with their names, and at the most, 0.8 MB: one NATS message.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.model.workload import Workload

MOST_WEIGHED: Final = 5_000  # nodes in one answer
FITS: Final = 0
UNKNOWN: Final = -1


class WeighRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What are these nodes to this workload, were it submitted now? Nothing is placed, and nothing waits."""

    workload: Workload
    nodes: Annotated[tuple[str, ...], Meta(max_length=MOST_WEIGHED)] = ()  # empty: all, the best ones first


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Why nodes do not take it: the first rule, in the plugins' order, that each of them fails."""

    plugin: str
    reason: str
    resolvable: bool  # waiting, or evicting who runs there, could help; else only another node or another workload
    brief: bool = False  # over in a moment: another placement there is just being stored


class Weighing(msgspec.Struct, frozen=True, kw_only=True):
    """By node, in the order of the question."""

    codes: tuple[
        int, ...
    ] = ()  # FITS, UNKNOWN (the scheduler does not know the node), or the place of its obstacle + 1
    scores: tuple[
        float, ...
    ] = ()  # 0..100, more is better; 0 where it does not fit. What fits but for a moment has one
    obstacles: tuple[Obstacle, ...] = ()
    nodes: tuple[str, ...] = ()  # their names, if all were asked about
    left_out: int = 0  # of all, for want of room: never better ones than those that are here
    best: str = ""  # which the workload would be placed on if nobody but these were there; empty: none takes it now

    def obstacle(self, code: int) -> Obstacle | None:
        """Behind a code; None if it fits, or nothing is known."""
        return self.obstacles[code - 1] if 0 < code <= len(self.obstacles) else None
