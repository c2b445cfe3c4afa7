"""How memory is given out: limits, reclaim of page cache, and the OOM killer. There is no swap.

Each leaf wants anonymous memory and page cache. Page cache is what is left over: below memory.high and memory.max
of every cgroup above, and within the machine; where it does not fit, leaves give it up in proportion to what they
have (on the machine's behalf only what memory.low and then memory.min do not protect: protection.py). Anonymous memory
hardly grows while its cgroup or one above is beyond memory.high; above memory.max, or when the machine is full, the
OOM killer takes the leaf with the largest anonymous memory + oom_score_adj / 1000 of the machine.

    some = (wanted − held) / wanted, full = some / 2       memory pressure of a leaf [share of time]

A model of the outcome, not of the kernel's LRU lists: a leaf is stalled as much as it lacks what it wants.
Source: Linux mm/memcontrol.c, mm/oom_kill.c (badness), cgroup-v2.rst "Memory" (meaning of the limits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.units import MIB, Bytes
from neap.virtual.cgroup import PAGE, Cgroup
from neap.virtual.protection import protected

CREEP: Final[Bytes] = MIB  # growth above memory.high in one step: tasks sleep up to 2 s for each batch of pages


def settle(root: Cgroup, room: Bytes, machine: Bytes) -> list[Cgroup]:
    """Set what every leaf holds; returns the leaves the OOM killer took.

    Args:
        root: of the tree.
        room: bytes all leaves together may hold.
        machine: bytes of the machine, for badness.
    """
    killed: list[Cgroup] = []
    had = {leaf: leaf.anon for leaf in root.leaves()}
    _fit(root, machine, had, killed)
    leaves = [leaf for leaf in root.leaves() if leaf.pids]
    while sum([leaf.anon for leaf in leaves]) > room:
        _kill(_worst(leaves, machine), killed)
        leaves = [leaf for leaf in leaves if leaf.pids]
    over = sum([leaf.anon + leaf.file for leaf in leaves]) - room
    for protection in (("low", "min"), ("min",), ()):
        if over > 0:
            kept = [protected(root, name) for name in protection]
            over -= _cut(leaves, over, [max([part[leaf] for part in kept], default=0) for leaf in leaves])
    return killed


def stall(leaf: Cgroup) -> float:
    """The share of time a leaf waits for memory, from what it lacks."""
    wanted = leaf.wants_anon + leaf.wants_file
    lacking = wanted - leaf.anon - leaf.file
    return lacking / wanted if lacking >= PAGE else 0.0


def _fit(cgroup: Cgroup, machine: Bytes, had: Mapping[Cgroup, Bytes], killed: list[Cgroup]) -> None:
    """Bring a cgroup and all below under their own limits, children first."""
    high, most = cgroup.limits["high"], cgroup.limits["max"]
    if not cgroup.below:
        cgroup.anon, cgroup.file = cgroup.wants_anon, cgroup.wants_file
    for child in cgroup.below.values():
        _fit(child, machine, had, killed)
    if high is None and most is None:
        return
    leaves = [leaf for leaf in cgroup.leaves() if leaf.pids]
    if high is not None:
        _slow(leaves, high, had)
    while most is not None and leaves and sum([leaf.anon for leaf in leaves]) > most:
        cgroup.count("max")
        cgroup.count("oom")
        _kill(_worst(leaves, machine), killed)
        leaves = [leaf for leaf in leaves if leaf.pids]
    for event, limit in (("max", most), ("high", high)):
        held = sum([leaf.anon + leaf.file for leaf in leaves])
        if limit is not None and held > limit:
            cgroup.count(event)
            _cut(leaves, held - limit, [0] * len(leaves))


def _slow(leaves: Sequence[Cgroup], high: Bytes, had: Mapping[Cgroup, Bytes]) -> None:
    """Of the growth above memory.high only a little happens; each leaf gets that part of its own."""
    growths = {leaf: max(0, leaf.anon - had[leaf]) for leaf in leaves}
    grown = sum(growths.values())
    over = min(grown, sum([leaf.anon for leaf in leaves]) - high)
    kept = grown - over + min(over, CREEP)
    if over <= CREEP:
        return
    for leaf, growth in growths.items():
        leaf.anon += growth * kept // grown // PAGE * PAGE - growth


def _cut(leaves: Sequence[Cgroup], over: Bytes, guarded: Sequence[Bytes]) -> Bytes:
    """Take `over` bytes of page cache, in proportion to what is not guarded; returns what was taken."""
    free = [max(0, min(leaf.file, leaf.anon + leaf.file - guard)) for leaf, guard in zip(leaves, guarded, strict=True)]
    total = sum(free)
    taken = 0
    for leaf, part in zip(leaves, free, strict=True):
        piece = part if over >= total else min(part, -(-over * part // total // PAGE) * PAGE)
        leaf.file -= piece
        leaf.reclaimed += piece
        taken += piece
    return taken


def _worst(leaves: Sequence[Cgroup], machine: Bytes) -> Cgroup:
    return max(leaves, key=lambda leaf: (leaf.anon + leaf.oom_score_adj * machine // 1000, leaf.path))


def _kill(leaf: Cgroup, killed: list[Cgroup]) -> None:
    """All processes of a container at once, as kubelet sets memory.oom.group."""
    leaf.count("oom_kill")
    leaf.count("oom_group_kill")
    leaf.anon = leaf.file = leaf.wants_anon = leaf.wants_file = 0
    leaf.pids = []
    leaf.tree.move()
    killed.append(leaf)
