"""One round: pods and their usage -> requirements -> sizes -> CPU sets -> pools, with the arithmetic of each.

Pure: everything remembered between rounds is in `Recall`, which goes in and comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from neap.advisor.core.alone import Behind, behind
from neap.advisor.core.assign import NONE, CpuSet, Cut, Stake, admit, assign, assign_dedicated
from neap.advisor.core.binding import Binding, bind, node_of, pool_of
from neap.advisor.core.isolation import Part, Runner, Watch, isolate
from neap.advisor.core.isolation import Rules as Loudness
from neap.advisor.core.layout import Layout
from neap.advisor.core.pod import DEDICATED, ISOLATED, RECLAIMED, SHARE, SYSTEM, Pod, Track
from neap.advisor.core.policy import Chosen, PoolView, Requirement
from neap.advisor.core.sizing import Bounds, Rules, Wish, normalise, size
from neap.advisor.settings import Settings
from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.model.advice import NodeAdvice, PoolAdvice
from neap.common.units import Cores

OWN_POOLS: Final = frozenset({DEDICATED, RECLAIMED, SYSTEM})


@dataclass(frozen=True)
class PoolRecall:
    """What is remembered of a shared pool."""

    needs: tuple[int, ...] = ()  # of the last rounds, newest last
    usage: Cores = 0.0
    policy: Any = None


@dataclass(frozen=True)
class Recall:
    """What a round leaves to the next one."""

    cut: Cut = field(default_factory=Cut)
    pools: dict[str, PoolRecall] = field(default_factory=dict)
    lent: int | None = None  # size of the reclaimed pool; None: there was no round yet
    watches: dict[str, Watch] = field(default_factory=dict)  # of loud owners, by uid


@dataclass(frozen=True)
class Plan:
    """What a round comes to. `pool_of` says where a pod really is (a dedicated pod may not have fitted)."""

    cut: Cut
    squeezed: bool  # owners need more than there is
    pool_of: dict[str, str]
    requirements: dict[str, Requirement]
    recall: Recall
    binding: Binding = field(default_factory=Binding)
    held: Cut = field(default_factory=Cut)  # before this round
    behind: Behind = field(default_factory=Behind)  # owners that have NUMA nodes alone

    @property
    def cpus_of(self) -> dict[str, int]:
        """How many CPUs each pod may run on, by uid."""
        sizes = {name: len(cpus) for name, cpus in self.cut.shared.items()}
        sizes[RECLAIMED] = len(self.cut.reclaimed)
        own = self.cut.dedicated
        return {uid: len(own[uid]) if uid in own else sizes.get(pool, 0) for uid, pool in self.pool_of.items()}

    @property
    def estimate(self) -> Cores:
        """Cores all shared pools are expected to use."""
        return sum(requirement.estimate for _, requirement in sorted(self.requirements.items()))

    @property
    def wanted(self) -> Cores:
        """The same with margins, without reserves."""
        return sum(need.cores - need.reserve for _, need in sorted(self.requirements.items()))

    @property
    def reserve(self) -> Cores:
        """Σ reserves of the shared pools."""
        return sum(requirement.reserve for _, requirement in sorted(self.requirements.items()))


@dataclass(frozen=True)
class Round:
    """What one round decides on. `pods` is sorted by uid.

    `fresh`: a report came; `stale`: none that counts; not `known`: only of some pods, so no pool may shrink.
    """

    layout: Layout
    pods: Sequence[Pod]
    tracks: Mapping[str, Track]
    fresh: bool
    stale: bool
    known: bool = True
    promised: int = 0  # CPUs guests were promised, and still are


def plan(view: Round, recall: Recall, chosen: Chosen, settings: Settings) -> Plan:
    """Laws: see assign and size; a function of its arguments. Cost: O(pods + CPUs that move × cores).

    Where owners need more than there is, nobody is isolated this round.
    """
    watches = _listen(view, recall, settings)
    apart = frozenset(uid for uid, watch in watches.items() if watch.isolated)
    made = _divide(view, recall, chosen, settings, apart)
    if made.squeezed and apart:
        made = _divide(view, recall, chosen, settings, frozenset())
    return replace(made, recall=replace(made.recall, watches=watches))


def _listen(view: Round, recall: Recall, settings: Settings) -> dict[str, Watch]:
    """Who is too loud, after one more report."""
    if not settings.isolate:
        return {}
    known = {pod.uid for pod in view.pods if pod.pool not in OWN_POOLS}
    if not view.fresh:
        return {uid: watch for uid, watch in recall.watches.items() if uid in known}
    runners = [
        Runner(pod.uid, pod.pool, (Part(view.tracks[pod.uid].load, max(pod.limit or 0.0, pod.request)),))
        for pod in view.pods
        if pod.uid in known
    ]
    return isolate(runners, recall.watches, _loudness(settings))


def _loudness(settings: Settings) -> Loudness:
    return Loudness(
        ratio=settings.isolate_ratio,
        surplus=settings.isolate_surplus,
        lock_in=settings.isolate_after,
        lock_out=settings.isolate_until,
        most_room=settings.isolate_room,
        most_pods=settings.isolate_pods,
        spared=frozenset(settings.isolate_never),
    )


def _divide(view: Round, recall: Recall, chosen: Chosen, settings: Settings, apart: frozenset[str]) -> Plan:
    """One round, with pools of their own for `apart`."""
    binding = bind(view.pods, view.layout)
    where, dedicated = _settle_dedicated(view, recall, binding)
    for uid in sorted(apart):
        node = node_of(where[uid])
        where[uid] = f"{ISOLATED}{uid}" + ("" if node is None else f"@numa{node}")
    inside = _settle_bound(view, where, dedicated, binding)
    members = _members(view, where)
    left = view.layout.lendable.difference(*dedicated.values())
    places = {name: inside.get(name, left) for name in members}
    needs, pools = _requirements(view, members, places, recall, chosen, settings)
    twice = recall.cut.overlap if settings.overlap else NONE  # guests run there, so no owner holds them to itself
    most = _most(inside, {name: max(pools[name].needs[-1], settings.pool_minimum) for name in members})
    wishes = {
        name: Wish(
            need=pools[name].needs[-1],
            lately=max(pools[name].needs),
            held=len(recall.cut.shared.get(name, NONE) - twice),
            rising=view.fresh and name in recall.pools and pools[name].usage > recall.pools[name].usage,
            most=most.get(name),
            urgent=_urgent(view, members[name], needs[name].reserve, settings),
        )
        for name in members
    }
    bounds = {name: _bounds(members[name][0], most.get(name)) for name in wishes if name.startswith(ISOLATED)}
    shared = {name: wish for name, wish in wishes.items() if name not in bounds}
    free = len(view.layout.lendable) - sum(map(len, dedicated.values()))
    alone = _behind(view, dedicated, binding, recall.cut, chosen, settings)
    rules = _rules(view, settings, len(alone.cpus))
    sizes = size(shared, free, recall.lent, rules, growing=view.fresh, isolated=bounds)
    cut = replace(assign(dedicated, sizes, recall.cut, view.layout, inside), alone=alone.cpus)
    return Plan(
        cut=cut,
        squeezed=sizes.squeezed,
        pool_of=where,
        requirements=needs,
        recall=Recall(cut, pools, sizes.reclaimed + (sizes.overlap if rules.overlap else 0)),
        binding=binding,
        held=recall.cut,
        behind=alone,
    )


def _behind(
    view: Round,
    dedicated: Mapping[str, CpuSet],
    binding: Binding,
    before: Cut,
    chosen: Chosen,
    settings: Settings,
) -> Behind:
    """Guests' places behind owners that have NUMA nodes alone, and let them."""
    lending = set(binding.exclusive.values()) if settings.lend else set[str]()
    owners = {
        pod.uid: view.tracks[pod.uid].view(pod, settings.settle, stale=view.stale)
        for pod in view.pods
        if pod.uid in lending and view.tracks[pod.uid].lends
    }
    return behind(owners, dedicated, before, view.layout, chosen, step=settings.grow_step, growing=view.fresh)


def _bounds(pod: Pod, most: int | None) -> Bounds:
    """Whole CPUs for what it asked for, and for what it may use at most."""
    lower = max(1, math.ceil(pod.request - 1e-9))
    upper = max(lower, math.ceil((pod.limit or 0.0) - 1e-9))
    return Bounds(lower, upper) if most is None else Bounds(min(lower, most), min(upper, most))


def adopt(advice: NodeAdvice, layout: Layout, calm_rounds: int, memory: Any, *, behind: bool = False) -> Recall:
    """What an earlier life left, read from its last advice; CPUs that are gone since then are left out.

    `behind`: guests run on CPUs of shared pools, so those are lent as well.

    Raises:
        InputError: the advice has a malformed CPU list.
    """
    pools = {pool.name: parse_cpuset(pool.cpus) & layout.lendable for pool in advice.pools}
    shared = {name: cpus for name, cpus in pools.items() if name not in OWN_POOLS}
    dedicated = {
        cgroup.target.removeprefix("pod/"): parse_cpuset(cgroup.knobs.cpus or "")
        for cgroup in advice.cgroups
        if cgroup.pool == DEDICATED
    }
    guests = pools.get(RECLAIMED, NONE)
    overlap, alone = guests & NONE.union(*shared.values()), guests & NONE.union(*dedicated.values())
    cut = Cut(dedicated, shared, guests - overlap - alone, overlap, alone)
    lent = overlap if behind else NONE
    recall = {name: PoolRecall((len(cpus - lent),) * calm_rounds, policy=memory) for name, cpus in shared.items()}
    return Recall(cut, recall, len(cut.lent | lent))


def _settle_dedicated(view: Round, recall: Recall, binding: Binding) -> tuple[dict[str, str], dict[str, CpuSet]]:
    """(pool by uid, CPUs by uid of dedicated pods); a dedicated pod that does not fit is shared."""
    where = {pod.uid: pool_of(pod, binding) for pod in view.pods}
    stakes = [_stake(pod, view.layout, binding) for pod in view.pods if pod.pool == DEDICATED]
    has_shared = any(pool not in OWN_POOLS for pool in where.values())
    fit, out = admit(stakes, recall.cut, view.layout, keep_one=has_shared)
    for stake in out:
        where[stake.uid] = SHARE
        binding.drop(stake.uid, "not bound: it does not fit among the CPUs that are left")
    dedicated = assign_dedicated(fit, recall.cut, view.layout)
    for stake in fit:
        if stake.inside and (astray := dedicated[stake.uid] - stake.inside):
            nodes = format_cpuset(binding.nodes[stake.uid])
            binding.notes[stake.uid] = f"CPUs {format_cpuset(astray)} are outside NUMA node {nodes}, which is full"
    return where, dedicated


def _stake(pod: Pod, layout: Layout, binding: Binding) -> Stake:
    nodes = binding.nodes.get(pod.uid)
    if nodes is None:
        near = tuple(sorted({layout.card_numa.get(card, -1) for card in pod.cards}))
        return Stake(pod.uid, pod.whole, pod.numa or near)
    inside = layout.within(nodes)
    alone = pod.uid in binding.exclusive.values()
    return Stake(pod.uid, len(inside) if alone else pod.whole, tuple(sorted(nodes)), inside)


def _settle_bound(
    view: Round, where: dict[str, str], dedicated: Mapping[str, CpuSet], binding: Binding
) -> dict[str, CpuSet]:
    """CPUs each bound pool can have; where a node has fewer CPUs left than pools, its pods are not bound."""
    left = view.layout.lendable.difference(*dedicated.values())
    names = sorted({pool for pool in where.values() if node_of(pool) is not None})
    inside = {name: left & view.layout.within(frozenset({node_of(name) or 0})) for name in names}
    for cpus in dict.fromkeys(inside.values()):
        crowd = [name for name in names if inside[name] == cpus]
        if len(crowd) <= len(cpus):
            continue
        for pod in view.pods:
            if where[pod.uid] in crowd:
                where[pod.uid] = pod.pool
                binding.drop(pod.uid, f"not bound: its NUMA node has {len(cpus)} CPUs left for {len(crowd)} pools")
        inside = {name: part for name, part in inside.items() if name not in crowd}
    return inside


def _most(inside: Mapping[str, CpuSet], needs: Mapping[str, int]) -> dict[str, int]:
    """CPUs of its node for each bound pool: all of them, or its part where several are bound there."""
    most: dict[str, int] = {}
    for cpus in dict.fromkeys(inside[name] for name in sorted(inside)):
        most |= normalise({name: needs[name] for name in sorted(inside) if inside[name] == cpus}, len(cpus))
    return most


def _members(view: Round, pool_of: Mapping[str, str]) -> dict[str, list[Pod]]:
    """Shared pools with somebody in them, by name."""
    members: dict[str, list[Pod]] = {}
    for pod in view.pods:
        if (pool := pool_of[pod.uid]) not in OWN_POOLS:
            members.setdefault(pool, []).append(pod)
    return dict(sorted(members.items()))


def _requirements(
    view: Round,
    members: Mapping[str, Sequence[Pod]],
    places: Mapping[str, CpuSet],
    recall: Recall,
    chosen: Chosen,
    settings: Settings,
) -> tuple[dict[str, Requirement], dict[str, PoolRecall]]:
    needs: dict[str, Requirement] = {}
    pools: dict[str, PoolRecall] = {}
    for name, pods in members.items():
        before = recall.pools.get(name, PoolRecall(policy=chosen.provision.start))
        told = [pod for pod in pods if view.known or not before.needs or view.tracks[pod.uid].smooth is not None]
        views = tuple(view.tracks[pod.uid].view(pod, settings.settle, stale=view.stale) for pod in told)
        lent = recall.cut.lent & places[name]
        pool = PoolView(
            name=name,
            pods=views,
            held=len(recall.cut.shared.get(name, ())),
            fresh=view.fresh,
            node=node_of(name),
            most=len(places[name]),
            lent=len(lent),
            guests=_guests(view, len(lent), len(recall.cut.lent | recall.cut.alone)),
        )
        needs[name], memory = chosen.provision.advise(pool, chosen.provision_settings, before.policy)
        need = math.ceil(needs[name].cores - 1e-9)
        if view.fresh or not before.needs:
            history = (*before.needs, need)[-settings.calm_rounds :]
            usage = sum(pod.now for pod in views if pod.now is not None)
        else:  # the same report again: only a higher need is news
            history, usage = (*before.needs[:-1], max(before.needs[-1], need)), before.usage
        pools[name] = PoolRecall(history, usage, memory)
    return needs, pools


def _guests(view: Round, here: int, lent: int) -> Cores | None:
    """What guests use on so many of the CPUs lent, as if they used all alike; None while not all of it is known."""
    used = [None if view.stale else view.tracks[pod.uid].now for pod in view.pods if not pod.is_owner]
    if None in used or (used and not lent):
        return None
    return sum(cores for cores in used if cores is not None) * here / lent if lent else 0.0


def _urgent(view: Round, pods: Sequence[Pod], reserve: Cores, settings: Settings) -> int | None:
    """What a pool needs whatever was promised; None (all of its need) where use is not known, or somebody waits."""
    tracks = [view.tracks[pod.uid] for pod in pods]
    if view.stale or not view.known or any(track.reports < settings.settle for track in tracks):
        return None
    if any(track.now is None or (track.stall or 0.0) >= settings.offer_stall for track in tracks):
        return None
    return math.ceil(sum(track.now or 0.0 for track in tracks) * (1 + settings.promise_margin) + reserve)


def _rules(view: Round, settings: Settings, alone: int) -> Rules:
    count, layout = len(view.layout.usable), view.layout
    return Rules(
        unit=layout.threads if settings.whole_cores else 1,
        pool_minimum=settings.pool_minimum,
        reclaimed_minimum=settings.reclaimed_minimum,
        step=max(1, int(settings.grow_step * count)),
        dead_band=int(settings.dead_band * count),
        promised=max(0, view.promised - alone),
        lend=settings.lend,
        overlap=settings.overlap,
    )


def pools(made: Plan, layout: Layout, memory: str = "") -> tuple[PoolAdvice, ...]:
    """System, dedicated, the shared pools by name, reclaimed; each with the arithmetic behind it.

    `memory` is the arithmetic of what guests may hold, told with their pool.
    """
    cut = made.cut
    given = NONE.union(*cut.dedicated.values())
    short = " (the node is full: every pool got its share)" if made.squeezed else ""
    parts = [_pool(SYSTEM, layout.system, len(layout.system), "reserved for the system, never lent")]
    if cut.dedicated:
        pods = f"{len(cut.dedicated)} pod{'s' if len(cut.dedicated) > 1 else ''}"
        alone = f"; alone on NUMA node {format_cpuset(made.binding.exclusive)}" if made.binding.exclusive else ""
        reason = f"{len(given)} CPUs requested by {pods}, each its own{alone}"
        parts.append(_pool(DEDICATED, given, len(given), reason))
    for name, cpus in sorted(cut.shared.items()):
        need = made.requirements[name]
        full = " (its NUMA node has no more)" if node_of(name) is not None and len(cpus) < need.cores else short
        parts.append(_pool(name, cpus, need.cores, f"{len(cpus)} CPUs for {need.reason}{full}"))
    owned = len(NONE.union(*cut.shared.values()))
    reason = f"{len(cut.lent)} of {len(layout.lendable)} lendable − {len(given)} dedicated − {owned} shared"
    if cut.overlap:
        reason += f"; also on CPUs {format_cpuset(cut.overlap)} of shared pools, behind their owners"
    elif not cut.lent and not cut.alone:
        reason += "; not one CPU is left for guests"
    if cut.alone:
        sums = ", ".join(made.behind.sums.values())
        reason += f"; also on CPUs {format_cpuset(cut.alone)}, behind who has NUMA nodes alone: {sums}"
    reason += f"; {memory}" if memory else ""
    parts.append(_pool(RECLAIMED, cut.reclaimed, 0.0, reason))
    return tuple(parts)


def _pool(name: str, cpus: frozenset[int], requirement: Cores, reason: str) -> PoolAdvice:
    return PoolAdvice(name=name, cpus=format_cpuset(cpus), requirement=float(requirement), reason=reason)
