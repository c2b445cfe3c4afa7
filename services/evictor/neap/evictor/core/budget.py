"""How many guests may be asked to leave at once, and how often; who may be at all says neap.common.model.protection.

At most `most` per node and window, and nobody while an earlier eviction is neither confirmed nor given up. What
namespaces, workloads and the cluster bear is counted over all nodes: tokens.py.
"""

from __future__ import annotations

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


def recent(times: Sequence[Seconds], at: Seconds, window: Seconds) -> tuple[Seconds, ...]:
    """Those inside the window that ends now."""
    return tuple(time for time in times if time > at - window)
