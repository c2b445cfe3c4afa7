"""What evictors say beside their commands: who has taken what of the shared budgets, and which node is closed."""

from __future__ import annotations

import msgspec


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of a shared budget, taken for one guest until `until`; written only over a slot that is free."""

    at: float
    source: str
    scope: str  # "cluster", "namespace", "workload"
    name: str  # which of them, as one token of a subject
    slot: int
    of: str  # the same for people
    until: float
    node: str
    uid: str  # of the guest
    attempt: int


class Closure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a node takes no guests now."""

    rule: str
    why: str
    until: float


class Evicting(msgspec.Struct, frozen=True, kw_only=True):
    """How a node's evictor stands. Nobody is to place guests there before `until`, if there is a closure."""

    at: float
    source: str
    node: str
    closed: tuple[Closure, ...] = ()
    until: float = 0.0
    paused_until: float = 0.0  # nobody is evicted before; 0: not paused
    pause_reason: str = ""
