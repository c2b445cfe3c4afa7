"""How many CPUs each pool gets this round: guests shrink at once and grow slowly, owners the other way round.

    want(pool)   = most it needed in the last `calm` rounds, in whole cores; not less than now while its use rises
    reclaimed    = free − Σ want, but at most what it was + step; what it may not have yet stays with who had it
    urgent(pool) = use × (1 + promise margin) + reserve: down to it pools give what was promised to guests
    full node    : want falls back towards the bare need, then needs are normalised; guests overlap an owner's pool
    isolated     = upper for all where needs, uppers and the least of guests fit, else lower for all
    not lending  : guests keep their least; what is left goes to the shared pools in proportion to want
    overlapping  : shared pools get everything in proportion to want; guests run on what they want less, behind them

Source: katalyst-core provisionassembler (normalise: ceil(v·T/Σ), then decrement the highest new/old ratio; sizes of
isolated pools, reclaim off, overlap: reference §4.5, acceptance cases A4, A5);
Koordinator CPUSuppress (shrink fast, grow at most 10 % of the node a step, ignore changes below 1 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from neap.common.errors import InputError


@dataclass(frozen=True)
class Wish:
    """One shared pool's side of it, in CPUs."""

    need: int  # now
    lately: int  # most of the last rounds, this one included
    held: int  # what it has
    rising: bool  # its usage went up since the last report
    most: int | None = None  # CPUs it can have at all, where it is bound to a part of the machine
    urgent: int | None = None  # what it needs without the margin that a promise may spend; None: all of its need

    def clip(self, cpus: int) -> int:
        """No more than it can have."""
        return cpus if self.most is None else min(cpus, self.most)


class Bounds(NamedTuple):
    """What an isolated pool gets, in CPUs: the upper size, or the lower where not all uppers fit."""

    lower: int
    upper: int


NOBODY: Final[Mapping[str, Bounds]] = MappingProxyType({})


@dataclass(frozen=True)
class Rules:
    """Bounds of one round, in CPUs."""

    unit: int  # threads of a whole core; 1: do not round
    pool_minimum: int
    reclaimed_minimum: int
    step: int  # growth of the reclaimed pool
    dead_band: int
    promised: int = 0  # to guests, for a while
    lend: bool = True  # False: guests keep their least, owners get the rest
    overlap: bool = False  # guests run on CPUs of shared pools, behind their owners, instead of on CPUs of their own


@dataclass(frozen=True)
class Sizes:
    """What comes out; what is left of free is spare until the reclaimed pool may grow again."""

    shared: dict[str, int]
    reclaimed: int
    overlap: int  # CPUs of shared pools that guests run on as well
    squeezed: bool = False  # owners need more than there is
    together: bool = False  # more shared pools than CPUs: all of them share all CPUs
    over: Mapping[str, int] | None = None  # `overlap` by pool; None: wherever it disturbs least


def size(
    wishes: Mapping[str, Wish],
    free: int,
    lent: int | None,
    rules: Rules,
    *,
    growing: bool,
    isolated: Mapping[str, Bounds] = NOBODY,
) -> Sizes:
    """Divide `free` CPUs.

    `lent` is the reclaimed pool's size before (None: there was none). Without `growing` (no new report) it
    gets nothing back.

    Laws: the sum is at most free; nobody gets less than its need, as far as it can have it at all, unless all
    needs do not fit; above its minimum the reclaimed pool grows by at most step; a single shared pool never shrinks
    while its usage rises; an isolated pool gets its upper or its lower size, unless not even the lower ones fit.
    """
    if not isolated:
        return _size(wishes, free, lent, rules, growing=growing)
    needs = sum(wish.clip(max(wish.need, rules.pool_minimum)) for wish in wishes.values())
    apart = {name: bounds.upper for name, bounds in isolated.items()}
    if needs + sum(apart.values()) > free - (0 if rules.overlap else rules.reclaimed_minimum):
        apart = {name: bounds.lower for name, bounds in isolated.items()}
    if needs + sum(apart.values()) > free:
        crowd = {name: Wish(cpus, cpus, cpus, rising=False) for name, cpus in apart.items()}
        return _size({**wishes, **crowd}, free, lent, rules, growing=growing)
    sizes = _size(wishes, free - sum(apart.values()), lent, rules, growing=growing)
    shared = {**sizes.shared, **apart}
    lacking = min(rules.reclaimed_minimum, free) - sizes.reclaimed - sizes.overlap
    if lacking <= 0:
        return replace(sizes, shared=shared)
    behind = give(apart, min(lacking, sum(apart.values())))  # guests find nobody else to run behind
    over = None if sizes.over is None else {**sizes.over, **behind}
    return replace(sizes, shared=shared, overlap=sizes.overlap + sum(behind.values()), over=over)


def _size(wishes: Mapping[str, Wish], free: int, lent: int | None, rules: Rules, *, growing: bool) -> Sizes:
    names = sorted(wishes)
    bare = {name: wishes[name].clip(max(wishes[name].need, rules.pool_minimum)) for name in names}
    if sum(bare.values()) > free:
        shared = normalise(bare, free)
        together = len(names) > free
        return Sizes(shared, 0, min(rules.reclaimed_minimum, free), squeezed=True, together=together)
    want = {name: wishes[name].clip(_patient(wishes[name], rules)) for name in names}
    if rules.lend and not rules.overlap:
        _spend(wishes, want, bare, rules.promised - (free - sum(want.values())), rules)
    left = free - sum(bare.values())
    if sum(want.values()) > free:  # patience does not fit: who rises first, then who was most patient
        for name in sorted(names, key=lambda name: (not wishes[name].rising, bare[name] - want[name], name)):
            want[name] = bare[name] + min(left, want[name] - bare[name])
            left -= want[name] - bare[name]
    rest = free - sum(want.values())
    most = rest if lent is None else max(lent + (rules.step if growing else 0), rules.reclaimed_minimum)
    allowed = min(rest, most if rules.lend else rules.reclaimed_minimum)
    if names and rules.lend and rules.overlap:
        return _overlapping(wishes, want, free, allowed, rules)
    if names and not rules.lend:
        want, rest = _filled(wishes, want, free - allowed), allowed
    for name in sorted(names, key=lambda name: (want[name] - wishes[name].held, name)):
        back = max(0, min(rest - allowed, wishes[name].clip(wishes[name].held) - want[name]))
        want[name], rest = want[name] + back, rest - back
    reclaimed = min(allowed, rest)
    overlap = min(max(0, rules.reclaimed_minimum - reclaimed), sum(want.values()))
    return Sizes(want, reclaimed, overlap)


def _spend(wishes: Mapping[str, Wish], want: dict[str, int], bare: dict[str, int], short: int, rules: Rules) -> None:
    """Owners' margins before guests' promises: the pools give, by turns, what they do not need at once.

    A pool whose use rises gives nothing of what it holds.
    """
    spare = {}
    for name, wish in wishes.items():
        least = max(rules.pool_minimum, wish.clip(wish.need if wish.urgent is None else wish.urgent))
        spare[name] = max(0, want[name] - max(least, wish.held if wish.rising else 0))
    for name, less in give(spare, max(0, min(short, sum(spare.values())))).items():
        want[name] -= less
        bare[name] = min(bare[name], want[name])


def _filled(wishes: Mapping[str, Wish], want: Mapping[str, int], total: int) -> dict[str, int]:
    """All of `total` in proportion to want, as far as the pools can have it."""
    return {name: max(want[name], wishes[name].clip(cpus)) for name, cpus in normalise(want, total).items()}


def _overlapping(wishes: Mapping[str, Wish], want: Mapping[str, int], free: int, allowed: int, rules: Rules) -> Sizes:
    """Guests on CPUs of shared pools: on what is more than those want, and on their least of them at any rate."""
    shared = _filled(wishes, want, free)
    over = {name: cpus - want[name] for name, cpus in shared.items()}
    over = {name: over[name] - less for name, less in give(over, max(0, sum(over.values()) - allowed)).items()}
    least = min(rules.reclaimed_minimum, sum(shared.values()))
    if sum(over.values()) < least:
        over = give(shared, least)
    own = min(free - sum(shared.values()), max(0, allowed - sum(over.values())))
    return Sizes(shared, own, sum(over.values()), over=over)


def _patient(wish: Wish, rules: Rules) -> int:
    """Growth at once; shrinking only when it is worth it and not in a round in which the usage rises.

    Past needs that fit into what the pool has make it no larger, not even by the other half of a core: a pool on
    its way down may hold an odd number, and after a restart what it holds stands for what it needed.
    """
    now, want = (_round_up(max(cpus, rules.pool_minimum), rules.unit) for cpus in (wish.need, wish.lately))
    if want > wish.held >= max(now, wish.lately):
        return wish.held
    if want < wish.held and (wish.rising or wish.held - want <= rules.dead_band):
        return wish.held
    return want


def _round_up(cpus: int, unit: int) -> int:
    return -(-cpus // unit) * unit


def normalise(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Shrink proportionally to `total`; never below 1, unless there are more pools than CPUs: then all get all.

    v' = ceil(v × total / Σ v), then the pool with the highest v'/v (ties: the larger, then by name) gives one
    until the sum fits.
    """
    if len(sizes) > total:
        return dict.fromkeys(sizes, total)
    whole = sum(sizes.values())
    shrunk = {name: max(1, math.ceil(value * total / whole)) for name, value in sorted(sizes.items())}
    while sum(shrunk.values()) > total:
        giver = max(
            (name for name in shrunk if shrunk[name] > 1),
            key=lambda name: (shrunk[name] / sizes[name], shrunk[name], name),
        )
        shrunk[giver] -= 1
    return shrunk


def give(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """How many of `count` CPUs each pool gives: one by one from whoever is largest then, ties by name.

    Raises:
        InputError: more than there are.
    """
    if count > sum(sizes.values()):
        raise InputError(f"{count} CPUs are asked for, all pools together have {sum(sizes.values())}")
    left = dict(sorted(sizes.items()))
    for _ in range(count):
        left[max(left, key=lambda name: left[name])] -= 1
    return {name: sizes[name] - cpus for name, cpus in left.items()}
