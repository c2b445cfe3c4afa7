"""Which CPUs each pool gets: sticky, whole cores first, shared pools balanced over NUMA nodes.

Dedicated pods come first and keep what they have; then every shared pool gives up what it has too much; then
every shared pool takes what it lacks, at first from CPUs nobody had; guests get what is left, at first what they
had. So a CPU moves only because some pool changed its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from neap.advisor.core.layout import Layout
from neap.advisor.core.sizing import Sizes

CpuSet = frozenset[int]
NONE: CpuSet = frozenset()
NOWHERE: Final[Mapping[str, CpuSet]] = MappingProxyType({})


@dataclass(frozen=True)
class Cut:
    """The machine, cut up. Sets are disjoint, but for `overlap` ⊆ ∪ shared (and for shared pools told to share).

    And for `alone` ⊆ ∪ dedicated: CPUs of owners that have NUMA nodes alone, and let guests run behind them.
    """

    dedicated: dict[str, CpuSet] = field(default_factory=dict)  # by uid
    shared: dict[str, CpuSet] = field(default_factory=dict)  # by pool
    lent: CpuSet = NONE
    overlap: CpuSet = NONE
    alone: CpuSet = NONE

    @property
    def reclaimed(self) -> CpuSet:
        """Where guests may run."""
        return self.lent | self.overlap | self.alone


@dataclass(frozen=True)
class Stake:
    """A dedicated pod's claim: so many CPUs, best near these NUMA nodes, only inside a set it is bound to."""

    uid: str
    cpus: int
    near: tuple[int, ...] = ()
    inside: CpuSet = NONE  # empty: anywhere


def admit(stakes: Iterable[Stake], before: Cut, layout: Layout, *, keep_one: bool) -> tuple[list[Stake], list[Stake]]:
    """(fit, do not fit) into the lendable CPUs: who already has its CPUs first, then by uid.

    The ledger makes sure that all fit, but CPUs go offline. `keep_one`: somebody else needs a CPU, too.
    """
    fit: list[Stake] = []
    out: list[Stake] = []
    free = len(layout.lendable)
    for stake in sorted(stakes, key=lambda stake: (stake.uid not in before.dedicated, stake.uid)):
        if stake.cpus <= free - (keep_one or bool(out)):
            fit.append(stake)
            free -= stake.cpus
        else:
            out.append(stake)
    if out and not free and fit:  # the demoted ones need at least one CPU to share
        out.append(fit.pop())
    return fit, out


def assign_dedicated(stakes: Sequence[Stake], before: Cut, layout: Layout) -> dict[str, CpuSet]:
    """Exactly the CPUs asked for, each pod its own; the laws of `admit` hold for `stakes`.

    Bound pods come first, the most closely bound before the others, and where there is no other way they move a
    pod that is not bound. What does not fit inside is taken from outside.
    """
    held: dict[str, CpuSet] = {}
    free = set(layout.lendable)
    owned = NONE.union(*before.shared.values())
    bound = sorted((stake for stake in stakes if stake.inside), key=lambda s: (len(s.inside), -s.cpus, s.uid))
    for stake in bound:
        had = before.dedicated.get(stake.uid, NONE)
        if len(had) == stake.cpus and had <= free & stake.inside:
            held[stake.uid] = had
        else:
            others = NONE.union(*(cpus for uid, cpus in sorted(before.dedicated.items()) if uid != stake.uid))
            taken: set[int] = set()
            for part in (free & stake.inside - others, free & stake.inside, free - others, free):
                left = replace(stake, cpus=stake.cpus - len(taken))
                taken.update(_take_packed(layout, set(part - taken), left, owned) if left.cpus else ())
            held[stake.uid] = frozenset(taken)
        free -= held[stake.uid]
    for stake in stakes:
        had = before.dedicated.get(stake.uid, NONE)
        if stake.uid not in held and len(had) == stake.cpus and had <= free:
            held[stake.uid] = had
            free -= had
    for stake in sorted(stakes, key=lambda stake: (-stake.cpus, stake.uid)):
        if stake.uid not in held:
            held[stake.uid] = frozenset(_take_packed(layout, free, stake, owned))
            free -= held[stake.uid]
    return held


def assign(
    dedicated: Mapping[str, CpuSet], sizes: Sizes, before: Cut, layout: Layout, inside: Mapping[str, CpuSet] = NOWHERE
) -> Cut:
    """Cut up what dedicated pods leave. `inside`: where a pool is bound to; there it comes before the other pools.

    Laws: a shared pool gains at most what its size grew by, and loses at most what it shrank by and what
    dedicated pods and bound pools took; the order of pods and pools does not matter.
    """
    free = set(layout.lendable).difference(*dedicated.values())
    if sizes.together:
        everything = frozenset(free)
        overlap = _overlap(layout, dict.fromkeys(sizes.shared, everything), before, sizes)
        return Cut(dict(dedicated), dict.fromkeys(sizes.shared, everything), NONE, overlap)
    shared: dict[str, set[int]] = {}
    for names in (sorted(sizes.shared.keys() & inside.keys()), sorted(sizes.shared.keys() - inside.keys())):
        for name in names:
            mine = set(before.shared.get(name, NONE)) & free & inside.get(name, layout.lendable)
            mine -= set(_release(layout, mine, len(mine) - sizes.shared[name]))
            shared[name] = mine
            free -= mine
        for name in names:
            _grow(name, shared, free, sizes, before, layout, inside)
    kept = layout.ordered(free & before.lent)[: sizes.reclaimed]
    lent = frozenset(kept) | _take_balanced(layout, free - set(kept), sizes.reclaimed - len(kept), set(kept), NONE)
    cut = {name: frozenset(cpus) for name, cpus in shared.items()}
    return Cut(dict(dedicated), cut, lent, _overlap(layout, cut, before, sizes))


def _grow(
    name: str,
    shared: dict[str, set[int]],
    free: set[int],
    sizes: Sizes,
    before: Cut,
    layout: Layout,
    inside: Mapping[str, CpuSet],
) -> None:
    """Take what a pool lacks out of `free`; a bound one rather from nobody or from guests than from other pools."""
    where = free & inside.get(name, layout.lendable)
    owned = NONE.union(*before.shared.values()) if name in inside else NONE
    for part in (where - owned, where & owned):
        gained = _take_balanced(layout, part, sizes.shared[name] - len(shared[name]), shared[name], before.lent)
        shared[name] |= gained
        free -= gained


def _take_balanced(layout: Layout, free: set[int], count: int, held: set[int], avoid: CpuSet) -> set[int]:
    """`count` CPUs out of `free`, so as to disturb nobody.

    First the other halves of cores held in part; then whole cores before single threads, CPUs nobody had before
    those of `avoid`, the NUMA node least filled, the L3 most held.
    """
    halves = [cpu for index in sorted({layout.core_of[cpu] for cpu in held}) for cpu in layout.cores[index].cpus]
    taken = set([cpu for cpu in halves if cpu in free][: max(count, 0)])
    for whole in (True, False):
        for clean in (True, False):
            while (left := count - len(taken)) > 0:
                core = _best_core(layout, free - taken, held | taken, avoid, left if whole else 0, clean=clean)
                if not core:
                    break
                taken.update(core[:left])
    return taken


def _best_core(
    layout: Layout, free: set[int], held: set[int], avoid: CpuSet, whole: int, *, clean: bool
) -> tuple[int, ...]:
    """The free threads of the best core, or nothing. `whole` > 0: only full cores of at most that many threads."""
    numas: dict[int, int] = {}
    caches: dict[int, int] = {}
    for cpu in held:
        core = layout.cores[layout.core_of[cpu]]
        numas[core.numa] = numas.get(core.numa, 0) + 1
        caches[core.l3] = caches.get(core.l3, 0) + 1
    best: tuple[tuple[float, ...], tuple[int, ...]] | None = None
    for index, core in enumerate(layout.cores):
        threads = tuple(cpu for cpu in core.cpus if cpu in free and not (clean and cpu in avoid))
        if not threads or (whole and (len(threads) < len(core.cpus) or len(threads) > whole)):
            continue
        broken = len(core.cpus) - len(threads)
        fill = numas.get(core.numa, 0) / layout.numa_size[core.numa]
        rank = (0 if whole else -broken, fill, -caches.get(core.l3, 0), index)
        if best is None or rank < best[0]:
            best = (rank, threads)
    return best[1] if best else ()


def _take_packed(layout: Layout, free: set[int], stake: Stake, owned: CpuSet) -> list[int]:
    """CPUs close together: near nodes first, one NUMA node if it fits, one L3 if it fits, cores nobody owns."""
    room: dict[int, int] = {}
    cache_room: dict[int, int] = {}
    for cpu in free:
        core = layout.cores[layout.core_of[cpu]]
        room[core.numa] = room.get(core.numa, 0) + 1
        cache_room[core.l3] = cache_room.get(core.l3, 0) + 1

    def rank(index: int) -> tuple[float, ...]:
        core = layout.cores[index]
        threads = [cpu for cpu in core.cpus if cpu in free]
        return (
            stake.near != () and core.numa not in stake.near,
            _tightness(room[core.numa], stake.cpus),
            core.numa,
            len(threads) < len(core.cpus),
            sum(cpu in owned for cpu in threads),
            _tightness(cache_room[core.l3], stake.cpus),
            index,
        )

    order = sorted({layout.core_of[cpu] for cpu in free}, key=rank)
    return [cpu for index in order for cpu in layout.cores[index].cpus if cpu in free][: stake.cpus]


def _tightness(room: int, need: int) -> float:
    """Places that fit before places that do not; of those that fit the smallest, of the others the largest."""
    return room if room >= need else 1e9 - room


def _release(layout: Layout, held: set[int], count: int) -> list[int]:
    """`count` CPUs to give up: threads of cores held in part first, then of the NUMA node most filled, last first.

    No core is broken as long as a smaller one can be given up whole (the sibling of a system CPU is one).
    """
    released: list[int] = []
    while len(released) < count:
        left = held.difference(released)
        numas: dict[int, int] = {}
        for cpu in left:
            numa = layout.cores[layout.core_of[cpu]].numa
            numas[numa] = numas.get(numa, 0) + 1

        def rank(index: int, left: set[int] = left, numas: dict[int, int] = numas) -> tuple[float, ...]:
            core = layout.cores[index]
            breaks = len(left.intersection(core.cpus)) > count - len(released)
            return (left.issuperset(core.cpus), breaks, -numas[core.numa] / layout.numa_size[core.numa], -index)

        core = layout.cores[min({layout.core_of[cpu] for cpu in left}, key=rank)]
        mine = [cpu for cpu in reversed(core.cpus) if cpu in left]
        released.extend(mine[: count - len(released)])
    return released


def _overlap(layout: Layout, shared: Mapping[str, CpuSet], before: Cut, sizes: Sizes) -> CpuSet:
    """CPUs of shared pools on which guests run as well: where they already do, else the end of the largest pool."""
    if sizes.over is not None:
        parts = (end_of(layout, shared[name], before, count) for name, count in sorted(sizes.over.items()))
        return NONE.union(*parts)
    count = sizes.overlap
    chosen = layout.ordered(before.reclaimed.intersection(NONE.union(*shared.values())))[:count]
    while len(chosen) < count:
        name = max(sorted(shared), key=lambda name: len(shared[name].difference(chosen)))
        chosen.append(layout.ordered(shared[name].difference(chosen))[-1])
    return frozenset(chosen)


def end_of(layout: Layout, cpus: CpuSet, before: Cut, count: int) -> CpuSet:
    """`count` of a pool's CPUs for guests: where they already run, else from its end."""
    had = layout.ordered(cpus & before.reclaimed)[-count:] if count else []
    rest = [cpu for cpu in reversed(layout.ordered(cpus)) if cpu not in had]
    return frozenset([*had, *rest[: count - len(had)]])


def check(cut: Cut, layout: Layout) -> None:
    """Raise AssertionError naming the law that a cut breaks."""
    shared = list({cpus: None for _, cpus in sorted(cut.shared.items())})  # pools told to share all are one
    parts = [*cut.dedicated.values(), *shared, cut.lent]
    union = NONE.union(*parts)
    assert union <= layout.lendable, f"CPUs {sorted(union - layout.lendable)} are not to lend"
    assert sum(map(len, parts)) == len(union), f"pools overlap: {cut}"
    assert cut.overlap <= NONE.union(*shared), f"guests on CPUs of nobody: {cut.overlap}"
    assert cut.alone <= NONE.union(*cut.dedicated.values()), f"guests behind nobody: {cut.alone}"
    if layout.lendable - NONE.union(*cut.dedicated.values()):
        assert cut.reclaimed, "the reclaimed pool is empty although not everything is dedicated"
