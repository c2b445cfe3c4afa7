"""Scores by which CPU usage pressure prefers a guest: by how much it helps, and by how often its family had to go.

    usage      u = its usage over the CPUs under pressure, g = usage there over the threshold    [ratios]
               −1000 where u ≤ 0.4 · |g| (it cannot help), 60 · (1 − |u − |g|| / 0.3) where nearer than 0.3, else 0
    frequency  r(w) = share of the family evicted in a window of w hours, over w
               f(r) = −10000 · r | 10 · (1 − (r − .3) / .2) | 45 + 10 · (1 − (r − .15) / .15) | 90 + 10 · (1 − r / .15)
                      from .5      from .3                    from .15                          below
               score = Σ f(r(w)) / w  over  Σ 1 / w

The frequency score jumps where its pieces meet (90 to 55, 45 to 10); the order it gives is Katalyst's.
Source: katalyst-core qrm cpueviction/rules/score.go, acceptance case A24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from neap.common.units import Ratio

HELPLESS: Final = -1000.0
TOO_LITTLE: Final[Ratio] = 0.4
NEAR: Final[Ratio] = 0.3
BEST: Final = 60.0
OFTEN: Final = -10_000.0
LIMITS: Final = (0.15, 0.3, 0.5)


def usage_score(usage: Ratio, gap: Ratio) -> int:
    """A guest that uses just what is too much is best."""
    gap = abs(gap)
    if usage <= TOO_LITTLE * gap:
        return round(HELPLESS)
    away = abs(usage - gap)
    return round(BEST * (1 - away / NEAR)) if away < NEAR else 0


def frequency_score(ratios: Mapping[float, Ratio]) -> int:
    """`ratios`: share of the family that was evicted, by hours of the window. Nothing known is as good as never."""
    weights = {hours: 1 / hours for hours in ratios if hours > 0}
    if not weights:
        return 100
    total = sum(_rare(ratios[hours] / hours) * weight for hours, weight in weights.items())
    return round(total / sum(weights.values()))


def _rare(rate: Ratio) -> float:
    few, some, many = LIMITS
    if rate >= many:
        return OFTEN * rate
    if rate >= some:
        return 10 * (1 - (rate - some) / (many - some))
    if rate >= few:
        return 45 + 10 * (1 - (rate - few) / (some - few))
    return 90 + 10 * (1 - rate / few)
