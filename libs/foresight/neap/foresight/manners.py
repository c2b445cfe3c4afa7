"""Which manner of scaling suits a service: each is lived beside the others on the service's own load, and judged.

A manner says how long the highest wish holds, how far a forecast is followed, and how much a burst is allowed for:

    level_t  = level + (1 - exp(-period / lead)) (use - level)                         [a glance of one lead back]
    sway_t^2 = decayed mean of max(0, use_t - level_(t - lead))^2 x 2                  [upper half; half-life SWAY]
    burst    = max(level + band x sway, margin x level x full / target)   kept below `full` per replica

Every manner has a shadow: replicas that exist on paper, start in the measured time and are decided over by the rules.
One of them is the autoscaler's own. All others, and what is done in fact, live within its leeway, kept with two
accounts (half-life `memory`), so that whatever comes none is short of replicas for longer than the autoscaler, and none
costs more than (1 + allowance) times as much, but for what it begins with:

    earned_t = earned + what the autoscaler went short - what this one did                              [seconds]
    saved_t  = saved + ((1 + allowance) x the autoscaler's replicas - this one's) x period              [replica-seconds]
    fewer replicas than the autoscaler's only while earned + credit >= what a mistake costs until it is made good: a
             period, and the periods a start takes
    more     only while saved pays for them; it begins with the allowance of half a day, so that the first rush is met

Of the manners the one that went short least lately is taken, where a load within a tenth of being short counts a tenth of
it (there are many near misses for one miss); one that is not clearly worse and stands earlier in the list is preferred, so
that a forecast that is fit to be followed is followed. Nothing looks ahead: a shadow at t has seen loads until t and
the forecast that stood then.
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
from neap.foresight.scaling import NEAR, Leeway, Load, Rules, StabilizationWindow, follow, native, wish_of

SWAY: Final[Seconds] = 30 * MINUTE  # half-life
BRIM: Final[Ratio] = 0.9  # of what replicas can do: beyond it is a near miss
NEAR_MISS: Final[Ratio] = 0.1  # what one counts
CLEARLY: Final[Ratio] = 0.1  # by so much one manner is better than another
STOCK: Final[Seconds] = DAY / 2  # of allowance, to begin with
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

    def followed(self, load: Load, now: int, ready: int, burst: float) -> Load:
        """The same load on so many replicas, with as much of its forecast as is followed."""
        expected = self.ahead * load.expected if self.ahead and load.expected is not None else None
        unlikely = load.unlikely if self.wary and expected is not None else None
        return Load(load.use, now, ready, expected, unlikely, burst)


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
    missed: float = 0.0  # decayed, seconds; near misses count a tenth
    earned: float = 0.0  # account
    saved: float = 0.0  # account
    went_short: Seconds = 0.0  # since it began
    paid: float = 0.0  # replicas x seconds, since it began
    changes: int = 0
    _starting: deque[tuple[Seconds, int]] = field(default_factory=deque)
    _window: StabilizationWindow = field(default_factory=StabilizationWindow)

    def live(self, at: Seconds, period: Seconds, use: float, rules: Rules, decay: Ratio) -> Seconds:
        """The period that ends at `at` had this load; how much of it went short."""
        while self._starting and self._starting[0][0] <= at - period + NEAR:
            self.ready += self._starting.popleft()[1]
        room = self.ready * rules.full
        short = period if use > room + NEAR else 0.0
        self.missed = self.missed * decay + (short or (period * NEAR_MISS if use > BRIM * room else 0.0))
        self.went_short += short
        self.paid += self.now * period
        return short

    def go(
        self, at: Seconds, load: Load, burst: float, rules: Rules, start: Seconds, leeway: Leeway | None = None
    ) -> None:
        """Decide; what is started now is ready at `at + start`."""
        wish = wish_of(self.manner.followed(load, self.now, self.ready, burst), rules, leeway)
        self._take(at + start, follow(at, wish, self.now, rules, self._window, leeway))

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
    """See module docstring. `memory`, `allowance` and `credit` may change while it lives."""

    def __init__(
        self,
        *,
        manners: Sequence[Manner] = MANNERS,
        memory: Seconds = 3 * DAY,
        allowance: Ratio = 0.04,
        credit: Seconds = 0.0,
        settle: Seconds = HOUR,
    ) -> None:
        self.memory, self.allowance, self.credit, self._settle = memory, allowance, credit, settle
        self.reference = Shadow(AUTOSCALER)
        self.shadows = tuple(Shadow(manner) for manner in manners)
        self.own = Shadow(self.shadows[0].manner)  # lives under the manner in force
        self.glance = Glance()
        self.leeway = Leeway(0, 0, 0, 0)  # of what is done in fact
        self._looked: Seconds = -math.inf

    @property
    def manner(self) -> Manner:
        """The one in force."""
        return self.own.manner

    def begin(self, replicas: int) -> None:
        """So many run, and are ready."""
        for shadow in (self.reference, *self.shadows, self.own):
            shadow.begin(replicas)
            shadow.saved = self.allowance * replicas * STOCK

    def see(self, at: Seconds, period: Seconds, load: Load, rules: Rules, start: Seconds) -> None:
        """The period that ends at `at` had this load. `load.burst`, `now` and `ready` are not read."""
        lead, decay = start + period, 0.5 ** (period / self.memory)
        self.glance.see(load.use, period, lead)
        if at >= self._looked + self._settle:
            self._looked, self.own.manner = at, self._best()
        theirs, before = self.reference, self.reference.now
        short = theirs.live(at, period, load.use, rules, decay)
        theirs.go(at, load, 0.0, rules, start)
        quick, risk = replace(rules, hold=lead), period * (1 + math.ceil(start / period - NEAR))
        for shadow in (*self.shadows, self.own):
            cheaper = (1.0 + self.allowance) * before - shadow.now
            shadow.saved = shadow.saved * decay + cheaper * period
            shadow.earned = shadow.earned * decay + short - shadow.live(at, period, load.use, rules, decay)
            self.leeway = self._leeway(shadow, period, load.use, rules, risk)
            burst, held = self.glance.burst(shadow.manner, rules), quick if shadow.manner.quick else rules
            shadow.go(at, load, burst, held, start, self.leeway)

    def _leeway(self, shadow: Shadow, period: Seconds, use: float, rules: Rules, risk: Seconds) -> Leeway:
        theirs = base = self.reference.now
        if below := shadow.earned + self.credit >= risk - NEAR:
            base = min(base, native(use, shadow.now, shadow.ready, rules))
        spare = max(0.0, shadow.saved + self.allowance * theirs * period)
        lasting, most = (theirs + math.floor(spare / span + NEAR) for span in (max(rules.hold, period), period))
        return Leeway(theirs, base, lasting, most, below)

    def _best(self) -> Manner:
        """Linear in the manners."""
        least = min(shadow.missed for shadow in self.shadows)
        return next(shadow.manner for shadow in self.shadows if shadow.missed * (1.0 - CLEARLY) <= least)
