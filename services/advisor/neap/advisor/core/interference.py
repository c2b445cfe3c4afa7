"""Who suffers, and from whom: an owner that is worse off than it ever is at that load, and the guest that goes with it.

    usual      mean m and deviation s of a signal, per owner, at loads within a factor of 1.5 of each other
               (exponentially forgotten over `span` reports; an outlier counts as the limit, and as one of `span`)
    outlier    value > max(floor, worse × m, m + sigmas × s)          nobody is judged before `enough` reports
    suffers    an outlier in `hits` of the last `of` reports
    goes with  r = corr(value − m, a guest's use) ≥ `least` over the window, of at least `samples` reports
    stands out its covariance is `share` or more of all that of the guests near
    else       nobody in particular; also where the owner's own load goes with it at least as well

    signal        what of the guest      near
    cpu stall     cores                  on CPUs of the owner's, or their siblings
    wait          cores                  the same                 run delay / (run delay + cores)
    cpi           bandwidth, or cores    on its NUMA nodes
    memory stall  working set            on the machine
    disk stall    bytes read, written    on the machine

A guest that was not here used nothing. A correlation is a suspicion: what curbing.py does about it is the proof.
Source: Zhang et al., CPI²: CPU performance isolation for shared compute clusters (EuroSys 2013): outliers of a task's
own history, antagonists by correlation, proof by capping them. On purpose otherwise: history by load, other signals
than cycles, plain correlation, and a share, so that of two that rise together neither is blamed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.units import Cores, Ratio, Seconds

STALL, WAIT, CPI, MEMORY, DISK = "cpu stall", "wait", "cpi", "memory stall", "disk stall"
CORES, BANDWIDTH, WORKING_SET, TRAFFIC = "cores", "bandwidth", "working set", "disk traffic"
STEP: Final = math.log(1.5)  # loads within this factor are alike
LEAST_LOAD: Final[Cores] = 0.05

Share: TypeAlias = Annotated[Ratio, Meta(ge=0, le=1)]
Reports: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]


class Interference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an owner suffers, when a guest is the reason, and how it is held back. Reports are usage reports."""

    on: bool = True  # guests that disturb an owner are named and held back; whether they leave: evictor.interference
    worse: Annotated[Ratio, Meta(ge=1, le=100)] = 1.3  # times what is usual at that load: less is no outlier
    sigmas: Annotated[float, Meta(ge=0, le=100)] = 3.0  # deviations above what is usual: less is no outlier
    floor: Share = 0.05  # of the time stalled or waiting: less is no outlier
    enough: Reports = 30  # of an owner at a load, before it is judged there
    span: Reports = 1000  # over which what is usual is forgotten
    hits: Reports = 5  # outliers among the last `of` reports that make it suffer
    of: Reports = 8  # reports looked at for that
    window: Annotated[int, Meta(ge=4, le=240)] = 30  # reports that are correlated
    samples: Annotated[int, Meta(ge=4, le=240)] = 15  # of them that must be known of both
    least: Share = 0.7  # correlation from which a guest is suspected
    share: Share = 0.5  # of the covariance of all guests near that must be its own

    cut: Annotated[Ratio, Meta(gt=0, lt=1)] = 0.25  # of the cores a suspect uses, then of its quota: what it keeps
    least_quota: Annotated[Cores, Meta(gt=0, le=64)] = 0.1  # it is never held to less
    trial: Reports = 10  # after a cut, before it is asked whether that helped
    relief: Share = 0.3  # of what was too much: by so much it must fall to be the suspect's doing
    tries: Annotated[int, Meta(ge=1, le=10)] = 2  # cuts without relief after which a suspect is let go as innocent
    calm: Reports = 30  # on end without an outlier, after which the quota is lifted
    grace: Reports = 60  # at the least quota with the owner still suffering, before the guest is asked to leave
    lapses: Annotated[int, Meta(ge=1, le=100)] = 3  # times it had to be held back again, before it is asked to leave
    watch: Reports = 1800  # after it was let go, in which a lapse counts, or its innocence
    apart: Annotated[Seconds, Meta(gt=0, le=604800)] = 21600.0  # for which a pair is not to be placed together


class Neighbour(NamedTuple):
    """One pod in one report; what is not known is left out."""

    uid: str
    owner: bool
    load: Cores | None
    cores: frozenset[int] = frozenset()  # physical cores it may run on; empty: not known
    numa: frozenset[int] = frozenset()  # the NUMA nodes of these
    feels: Mapping[str, float] = {}  # by signal; higher is worse
    uses: Mapping[str, float] = {}


class Signal(NamedTuple):
    """What a guest may do to it, and which guests may."""

    uses: tuple[str, ...]
    near: str = ""  # "cores", "numa"; empty: anywhere on the machine
    own: bool = True  # its own load may explain it


SIGNALS: Final[Mapping[str, Signal]] = {
    STALL: Signal((CORES,), "cores"),
    WAIT: Signal((CORES,), "cores"),
    CPI: Signal((BANDWIDTH, CORES), "numa", own=False),  # what takes more cycles uses more cores
    MEMORY: Signal((WORKING_SET,)),
    DISK: Signal((TRAFFIC,)),
}


class Habit(msgspec.Struct, frozen=True):
    """What a signal of one owner is like at one load."""

    count: int = 0
    mean: float = 0.0
    square: float = 0.0  # variance

    def after(self, value: float, span: int, *, slowly: bool = False) -> Habit:
        """One more report; `slowly` as if so many had been heard that one more hardly counts."""
        part = 1.0 / span if slowly else max(1.0 / (self.count + 1), 1.0 / span)
        off = value - self.mean
        return Habit(min(self.count + 1, span), self.mean + part * off, (1 - part) * (self.square + part * off * off))

    def limit(self, signal: str, rules: Interference) -> float:
        """Above it a value is an outlier."""
        floor = 0.0 if signal == CPI else rules.floor
        return max(floor, rules.worse * self.mean, self.mean + rules.sigmas * math.sqrt(self.square))


class Row(msgspec.Struct, frozen=True):
    """One report, for correlations: what owners felt beyond what is usual, and what everybody used; by uid."""

    felt: dict[str, dict[str, float]] = {}
    used: dict[str, dict[str, float]] = {}


class Known(msgspec.Struct, frozen=True):
    """What is remembered of a node's pods, by uid."""

    habits: dict[str, dict[str, dict[int, Habit]]] = {}  # uid, signal, step of load
    outliers: dict[str, dict[str, tuple[bool, ...]]] = {}  # uid, signal; newest last
    rows: tuple[Row, ...] = ()  # newest last


class Feeling(NamedTuple):
    """A signal of an owner in the newest report, beside what is usual for it."""

    value: float
    usual: float
    limit: float
    hits: int  # outliers among the last reports

    @property
    def excess(self) -> float:
        """Beyond what is usual."""
        return self.value - self.usual

    @property
    def is_outlier(self) -> bool:
        """Beyond its limit."""
        return self.value > self.limit


Felt: TypeAlias = dict[tuple[str, str], Feeling]  # by uid and signal


class Suspect(NamedTuple):
    """A guest that goes with an owner's suffering."""

    guest: Neighbour
    use: str
    r: float
    share: Ratio
    samples: int


def step_of(load: Cores) -> int:
    """Loads of one step are comparable."""
    return math.floor(math.log(max(load, LEAST_LOAD)) / STEP)


def heard(known: Known, here: Sequence[Neighbour], rules: Interference) -> tuple[Known, Felt]:
    """What is known after one more report, and how owners feel. Cost: O(pods × signals)."""
    habits: dict[str, dict[str, dict[int, Habit]]] = {}
    outliers: dict[str, dict[str, tuple[bool, ...]]] = {}
    felt: Felt = {}
    row = Row({}, {one.uid: dict(one.uses) for one in here})
    for one in here:
        if not one.owner:
            continue
        before, recent = known.habits.get(one.uid, {}), known.outliers.get(one.uid, {})
        mine, last = habits.setdefault(one.uid, dict(before)), outliers.setdefault(one.uid, {})
        for signal, value in one.feels.items() if one.load is not None else ():
            step = step_of(one.load or 0.0)
            by_step = before.get(signal, {})
            habit, limit = usual(by_step, step, rules.enough), math.inf
            if habit is not None:
                limit = habit.limit(signal, rules)
                last[signal] = (*recent.get(signal, ()), value > limit)[-rules.of :]
                feeling = felt[one.uid, signal] = Feeling(value, habit.mean, limit, sum(last[signal]))
                row.felt.setdefault(one.uid, {})[signal] = feeling.excess
            known_here = by_step.get(step, Habit())
            habit_here = known_here.after(min(value, limit), rules.span, slowly=value > limit and known_here.count > 0)
            mine[signal] = by_step | {step: habit_here}
    return Known(habits, outliers, (*known.rows, row)[-rules.window :]), felt


def usual(by_step: Mapping[int, Habit], step: int, enough: int) -> Habit | None:
    """What is known at this load, or one step beside it, the higher first; None: not enough."""
    for near in (step, step + 1, step - 1):
        habit = by_step.get(near)
        if habit is not None and habit.count >= enough:
            return habit
    return None


def sufferings(felt: Felt, rules: Interference) -> list[tuple[str, str]]:
    """Owners that suffer now, by uid and signal: how much first."""
    found = [key for key, feeling in felt.items() if feeling.is_outlier and feeling.hits >= rules.hits]
    return sorted(found, key=lambda key: (-felt[key].excess / max(felt[key].limit, 1e-9), key))


def suspect(
    known: Known, owner: Neighbour, signal: str, guests: Iterable[Neighbour], rules: Interference
) -> Suspect | None:
    """Whose doing it may be; None: nobody in particular. Cost: O(guests near × window)."""
    kind = SIGNALS[signal]
    near = [guest for guest in guests if is_near(owner, guest, kind.near)]
    use = next((use for use in kind.uses if any(use in guest.uses for guest in near)), None)
    if use is None:
        return None
    found: list[tuple[float, Suspect]] = []
    total = 0.0
    for guest in near:
        pairs = list(_pairs(known.rows, (owner.uid, signal), (guest.uid, use)))
        r, together = correlation(pairs, least=rules.samples)
        total += max(0.0, together)
        if r >= rules.least and use in guest.uses:
            found.append((together, Suspect(guest, use, r, 0.0, len(pairs))))
    together, best = max(found, key=lambda pair: (pair[0], pair[1].guest.uid), default=(0.0, None))
    if best is None or together < rules.share * total:
        return None
    if kind.own:
        own = correlation(list(_pairs(known.rows, (owner.uid, signal), (owner.uid, CORES))), least=rules.samples)
        if own[0] >= best.r:
            return None
    return best._replace(share=together / total)


def is_near(owner: Neighbour, guest: Neighbour, near: str) -> bool:
    """Whether a guest can reach an owner that way; who does not say where it runs cannot be blamed."""
    if near == "cores":
        return bool(owner.cores & guest.cores)
    return not near or bool(owner.numa & guest.numa)


def correlation(pairs: Sequence[tuple[float, float]], *, least: int) -> tuple[float, float]:
    """(Pearson's r, covariance); zeros where there are too few, or one side does not move."""
    if len(pairs) < least:
        return 0.0, 0.0
    ones, others = [one for one, _ in pairs], [other for _, other in pairs]
    mean_one, mean_other = math.fsum(ones) / len(pairs), math.fsum(others) / len(pairs)
    together = math.fsum((one - mean_one) * (other - mean_other) for one, other in pairs) / len(pairs)
    spreads = _deviation(ones) * _deviation(others)
    return (max(-1.0, min(1.0, together / spreads)), together) if spreads > 1e-12 else (0.0, 0.0)


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values) if values else 0.0
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)) if values else 0.0


def _pairs(rows: Sequence[Row], feels: tuple[str, str], uses: tuple[str, str]) -> Iterable[tuple[float, float]]:
    for row in rows:
        felt = row.felt.get(feels[0], {}).get(feels[1])
        used = row.used[uses[0]].get(uses[1]) if uses[0] in row.used else 0.0
        if felt is not None and used is not None:
            yield felt, used
