"""What memory.low and memory.min keep for each leaf: no more than every cgroup above keeps for it.

    claim(child)     = min(used, setting)                                                            [bytes]
    effective(child) = claim                                              where the claims fit the parent's part
                     = claim × effective(parent) / Σ claims               where they do not
                     + the rest of the parent's part × (used − claim) / (used(parent) − Σ claims)

The last line is the mount option memory_recursiveprot, which a virtual host's /proc/mounts names: what children do
not claim is shared out among what they use beyond their claims. A cgroup below the root claims from nobody.
Source: Linux mm/page_counter.c (effective_protection); Documentation/admin-guide/cgroup-v2.rst (memory.low).
"""

from __future__ import annotations

from neap.common.units import Bytes
from neap.virtual.cgroup import Cgroup


def protected(root: Cgroup, name: str) -> dict[Cgroup, Bytes]:
    """Protected bytes of every leaf below `root`, by "low" or "min". Cost: O(cgroups × depth)."""
    kept: dict[Cgroup, Bytes] = {}
    for child in root.below.values():
        used = sum(child.memory())
        _descend(child, name, used, _claim(child, name, used), kept)
    if not root.below:
        kept[root] = 0
    return kept


def _claim(cgroup: Cgroup, name: str, used: Bytes) -> Bytes:
    setting = cgroup.limits[name]
    return used if setting is None else min(used, setting)  # "max" protects everything


def _descend(cgroup: Cgroup, name: str, used: Bytes, effective: Bytes, kept: dict[Cgroup, Bytes]) -> None:
    if not cgroup.below:
        kept[cgroup] = effective
        return
    uses = {child: sum(child.memory()) for child in cgroup.below.values()}
    claims = {child: _claim(child, name, uses[child]) for child in uses}
    claimed = sum(claims.values())
    rest, beyond = effective - claimed, used - claimed
    for child, claim in claims.items():
        part = claim * effective // claimed if claimed > effective else claim
        if rest > 0 and beyond > 0:
            part += rest * (uses[child] - claim) // beyond
        _descend(child, name, uses[child], part, kept)
