"""How much more than it has a node may sell just now, as the planner foresees its peak."""

from __future__ import annotations

import msgspec


class KindRatio(msgspec.Struct, frozen=True, kw_only=True):
    """One resource kind, whole units."""

    resource: str
    ratio: float  # in force; at least 1
    set: float  # what the administrator allows
    foreseen: float  # what the predicted peak would bear
    peak: int  # predicted, of all that runs there
    requested: int
    original: int
    arithmetic: str  # "1.42 = min(1.50 set, 1.42 foreseen); peak 18.2 of 32 cores (5 sigma, 2 h)"


class NodeRatios(msgspec.Struct, frozen=True, kw_only=True):
    """A node's ratios in force. A kind that is not named sells what it has."""

    at: float
    source: str
    node: str
    kinds: tuple[KindRatio, ...] = ()
    lowered: str = ""  # by the interference watch: why, and until when
