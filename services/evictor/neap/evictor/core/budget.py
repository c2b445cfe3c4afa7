"""How many guests may be asked to leave at once, and how often; who may be at all says neap.common.model.protection.

At most `most` per node and window, and nobody while an earlier eviction is neither confirmed nor given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from neap.common.units import Seconds
from neap.evictor.core.view import Victim


def fewest(ranked: Sequence[Victim], need: int) -> list[Victim]:
    """Victims from the front until `need` is freed, less everybody who turns out not to be needed.

    Minimal: without any one of them less than `need` is freed (or all together do not reach it).
    """
    chosen: list[Victim] = []
    freed = 0
    for victim in ranked:
        if freed >= need:
            break
        chosen.append(victim)
        freed += victim.frees
    for victim in reversed(chosen.copy()):
        if freed - victim.frees >= need:
            chosen.remove(victim)
            freed -= victim.frees
    return chosen


class Budget:
    """Evictions of the last window."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: deque[Seconds] = deque(maxlen=most)

    def left(self, at: Seconds, window: Seconds) -> int:
        """How many more may be asked to leave now."""
        while self._times and self._times[0] <= at - window:
            self._times.popleft()
        return self._most - len(self._times)

    def spend(self, at: Seconds) -> None:
        """One was."""
        assert len(self._times) < self._most, "more evictions than the budget allows"
        self._times.append(at)
