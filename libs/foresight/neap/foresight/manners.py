"""Which manner of scaling suits a service: each is lived beside the others on the service's own load, and judged.

A manner says how long the highest wish holds, how far a forecast is followed, and how much a burst is allowed for:

    level_t  = level + (1 - exp(-period / lead)) (use - level)                         [a glance of one lead back]
    sway_t^2 = decayed mean of max(0, use_t - level_(t - lead))^2 x 2                  [upper half; half-life SWAY]
    burst    = max(level + band x sway, margin x level x full / target)   kept below `full` per replica

Every manner has a shadow: replicas that exist on paper, start in the measured time and are decided over by the rules.
Of a shadow two decayed sums are kept (half-life `memory`): replicas x time, and what went short, where a load within
a tenth of being short counts a tenth of it (there are many near misses for one miss). The first manner is the
autoscaler's own. A manner is affordable if it costs at most (1 + allowance) times as much as that, or at most
(1 + LENT) times while what was paid lately, and in all, stays below (1 + allowance). Of those the one that went short least is
taken; one that is not clearly worse and stands earlier in the list is preferred, so that a forecast that is fit to be
followed is followed. Nothing looks ahead: a shadow at t has seen loads until t and the forecast that stood then.
Source: "follow the best expert" with discounted losses (Cesa-Bianchi and Lugosi, Prediction, Learning, and Games, 2006,
section 2.11); near misses as evidence of rare events (Heinrich).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from neap.common.units import DAY, HOUR, MINUTE, Ratio, Seconds
from neap.foresight.scaling import NEAR, Load, Rules, StabilizationWindow, follow, predicted, wish_of

SWAY: Final[Seconds] = 30 * MINUTE  # half-life
BRIM: Final[Ratio] = 0.9  # of what replicas can do: beyond it is a near miss
NEAR_MISS: Final[Ratio] = 0.1  # what one counts
CLEARLY: Final[Ratio] = 0.1  # by so much one manner is better than another
LENT: Final[Ratio] = 0.3  # what a manner may cost more while there are savings to spend
MODEST: Final[Ratio] = 1 / 1.1  # a forecast followed as far as the autoscaler's tolerance


@dataclass(frozen=True, slots=True)
class Manner:
    """See module docstring."""

    name: str
    quick: bool = False  # the highest wish holds for one lead, not for `hold`
    ahead: Ratio = 0.0  # how much of a forecast that is fit to be followed counts; 0: it is not
    wary: bool = False  # of what is unlikely (the 99 % band) as well
    band: float = 0.0
    margin: float = 0.0

    def followed(self, load: Load) -> Load:
        """The load with as much of its forecast as is followed."""
        if not self.ahead or load.expected is None:
            return Load(load.use, load.now, load.ready, burst=load.burst)
        unlikely = load.unlikely if self.wary else None
        return Load(load.use, load.now, load.ready, self.ahead * load.expected, unlikely, load.burst)


AUTOSCALER: Final = Manner("as the autoscaler")
# In the order in which they are preferred where none is clearly better.
MANNERS: Final = (
    Manner("forecast, quick", quick=True, ahead=1.0),
    Manner("forecast, quick, modest", quick=True, ahead=MODEST),
    Manner("forecast, quick, a tenth more", quick=True, ahead=1.0, margin=1.1),
    Manner("forecast, quick, wary", quick=True, ahead=1.0, wary=True),
    Manner("forecast", ahead=1.0),
    Manner("quick", quick=True),
    Manner("quick, a tenth more", quick=True, margin=1.1),
    Manner("quick, band 2", quick=True, band=2.0),
    Manner("quick, band 3", quick=True, band=3.0),
    AUTOSCALER,
)


@dataclass(slots=True)
class Glance:
    """What the last minutes say about the next one."""

    level: float = math.nan
    _sway: float = 0.0
    _weight: float = 0.0
    _levels: deque[float] = field(default_factory=deque)

    def see(self, use: float, period: Seconds, lead: Seconds) -> None:
        """One more value."""
        if math.isnan(self.level):
            self.level = use
        self._levels.append(self.level)
        if len(self._levels) > max(1, round(lead / period)):
            gain = 1.0 - 0.5 ** (period / SWAY)
            above = max(0.0, use - self._levels.popleft())
            self._sway += gain * (2.0 * above * above - self._sway)
            self._weight += gain * (1.0 - self._weight)
        self.level += (1.0 - math.exp(-period / lead)) * (use - self.level)

    def burst(self, manner: Manner, rules: Rules) -> float:
        """What may come within a lead; 0: the manner allows for none."""
        sway = math.sqrt(self._sway / self._weight) if self._weight > 0 else 0.0
        by_band = self.level + manner.band * sway if manner.band > 0 else 0.0
        return max(by_band, manner.margin * self.level * rules.full / rules.target)


@dataclass(slots=True)
class Shadow:
    """Replicas on paper, under one manner."""

    manner: Manner
    now: int = 0
    ready: int = 0
    short: float = 0.0  # decayed, seconds; near misses count a tenth
    cost: float = 0.0  # decayed, replicas x seconds
    went_short: Seconds = 0.0  # seconds, since it began
    paid: float = 0.0  # replicas x seconds, since it began
    changes: int = 0
    _starting: deque[tuple[Seconds, int]] = field(default_factory=deque)
    _window: StabilizationWindow = field(default_factory=StabilizationWindow)

    def live(self, at: Seconds, period: Seconds, load: Load, rules: Rules, start: Seconds, decay: Ratio) -> None:
        """The period that ends at `at` had this load; then the decision. `load.now` and `load.ready` are not read."""
        while self._starting and self._starting[0][0] <= at - period + NEAR:
            self.ready += self._starting.popleft()[1]
        room = self.ready * rules.full
        missed = period if load.use > room + NEAR else period * NEAR_MISS if load.use > BRIM * room else 0.0
        self.short, self.cost = self.short * decay + missed, self.cost * decay + self.now * period
        self.went_short += missed if missed == period else 0.0
        self.paid += self.now * period
        self._take(at + start, self._desired(at, load, rules))

    def _desired(self, at: Seconds, load: Load, rules: Rules) -> int:
        ahead = predicted(self.manner.followed(load), rules)
        wish = wish_of(load.use, self.now, self.ready, ahead, load.burst, rules)
        return follow(at, wish, self.now, rules, self._window)

    @property
    def starting(self) -> int:
        """Replicas that are not ready yet."""
        return sum(more for _, more in self._starting)

    def begin(self, replicas: int) -> None:
        """So many run, and are ready."""
        self.now = self.ready = replicas

    def _take(self, ready_at: Seconds, desired: int) -> None:
        more = desired - self.now
        self.changes += more != 0
        self.now = desired
        if more > 0:
            self._starting.append((ready_at, more))
        while more < 0 and self._starting:  # those that start are the first to go
            when, starting = self._starting.pop()
            gone = min(starting, -more)
            more += gone
            if starting > gone:
                self._starting.append((when, starting - gone))
        self.ready += min(more, 0)


class Judge:
    """See module docstring. `memory` and `allowance` may change while it lives."""

    def __init__(
        self,
        *,
        manners: Sequence[Manner] = MANNERS,
        memory: Seconds = 3 * DAY,
        allowance: Ratio = 0.03,
        settle: Seconds = HOUR,
    ) -> None:
        self.memory, self.allowance, self._settle = memory, allowance, settle
        self.shadows = tuple(Shadow(manner) for manner in manners)
        self.glance = Glance()
        self.own = Shadow(manners[0])  # lives under the manner in force
        self.reference = next(shadow for shadow in self.shadows if shadow.manner == AUTOSCALER)
        self._looked: Seconds = -math.inf

    @property
    def manner(self) -> Manner:
        """The one in force."""
        return self.own.manner

    def begin(self, replicas: int) -> None:
        """So many run, and are ready."""
        for shadow in (*self.shadows, self.own):
            shadow.begin(replicas)

    def see(self, at: Seconds, period: Seconds, load: Load, rules: Rules, start: Seconds) -> None:
        """The period that ends at `at` had this load. `load.burst`, `now` and `ready` are not read."""
        lead = start + period
        self.glance.see(load.use, period, lead)
        if at >= self._looked + self._settle:
            self._looked, self.own.manner = at, self._best()
        decay = 0.5 ** (period / self.memory)
        quick = replace(rules, hold=lead)
        for shadow in (*self.shadows, self.own):
            manner = shadow.manner
            told = replace(load, burst=self.glance.burst(manner, rules)) if manner.band or manner.margin else load
            shadow.live(at, period, told, quick if manner.quick else rules, start, decay)

    def _best(self) -> Manner:
        """Linear in the manners."""
        own, base, share = self.own, self.reference, 1.0 + self.allowance
        saved = own.cost <= share * base.cost and own.paid <= share * base.paid
        most = (1.0 + LENT if saved else share) * base.cost
        fit = [shadow for shadow in self.shadows if shadow.cost <= most and shadow.short <= self.reference.short]
        least = min(shadow.short for shadow in fit)
        return next(shadow.manner for shadow in fit if shadow.short * (1.0 - CLEARLY) <= least)
