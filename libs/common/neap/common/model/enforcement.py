"""How far advice reaches on a node: by which door, which knobs not, and whether it is being followed now."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Rung(StrEnum):
    """The hook ladder, best first."""

    NRI = "nri"  # the container runtime asks before a container starts
    CGROUP = "cgroup"  # cgroups are written once the container is there
    ADVISE_ONLY = "advise-only"  # nothing can be written; advice is only shown


class Stance(StrEnum):
    """What the enforcer is doing."""

    WAITING = "waiting"  # no advice yet
    FOLLOWING = "following"  # the last advice holds
    SAFE = "safe"  # no valid advice: the node is back, or on its way, to what kubelet would run


class NodeEnforcement(msgspec.Struct, frozen=True, kw_only=True):
    """One node's enforcement, put when it changes."""

    at: float
    source: str
    node: str
    rung: Rung
    stance: Stance
    why: str  # of the stance, in words with numbers: "advice 812 lapsed 10 s ago"
    probes: dict[Rung, str] = {}  # every rung tried -> what the probe found
    unsupported: dict[str, str] = {}  # knob -> why this kernel does not take it
