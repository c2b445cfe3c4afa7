"""How many replicas a service needs: by what it uses now, as the Horizontal Pod Autoscaler counts, and by what is coming.

    native     = now                       if |use / (ready x target) - 1| <= tolerance
                 ceil(use / target)        else; of replicas that still start it is taken that they use nothing yet
    predicted  = ceil(max(expected / target, unlikely / full))     of the highest within [now, now + lead]
    wish       = max(native, predicted)    predicted counts where it is more than native and the tolerance
    desired    = wish                      if it is more than now: at once, by at most max(`pods_up`, `up` x now) more
                 the highest wish of the last `hold` seconds       if that is less, by at most `down` x now less
    always       least <= desired <= most

`target` is what one replica should use, `full` what it can do: a load above ready x full is short of replicas. Aimed at
is the target for what is expected, and enough for what is unlikely (the 99 % band). Prediction only ever adds:
whatever it says, desired is no less than what native alone, held the same, comes to.

Beside an autoscaler (Leeway; who grants it is neap.foresight.manners) its replicas stand for native, and what comes
on top of them has to be paid for: it begins with what lasts for `hold`, moves by more than a little or not at all, and
ends when nothing is left to pay it with.
Units: use, expected, target and full share one (cores, or requests per second); seconds.
Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (algorithm details, tolerance, readiness, configurable
scaling behaviour and its defaults); Katalyst IHPA (native and predicted side by side, the higher wins).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from neap.common.errors import InputError
from neap.common.units import Ratio, Seconds

NEAR: Final = 1e-9  # a quotient this little above a whole number is that number
LARGEST: Final = 1_000_000  # replicas; more is no answer
RISE: Final = 0.5  # of the tolerance: additions grow by more than that, and shrink by more than all of it
ABSURD: Final = 10.0  # a prediction this many times what native needs is flagged, whatever comes of it

BY_MOST: Final = "clamped by most"
BY_LEAST: Final = "raised to least"
BY_STEP: Final = "held back by the rate limit"
BY_WINDOW: Final = "held up by the last minutes"
BY_ALLOWANCE: Final = "held back by the allowance"
IS_ABSURD: Final = "prediction absurd"


@dataclass(frozen=True, slots=True)
class Rules:
    """See module docstring. Defaults of `hold`, `tolerance`, `up`, `pods_up` and `down` are the autoscaler's own."""

    target: float
    full: float
    least: int = 1
    most: int = 100
    tolerance: Ratio = 0.1
    hold: Seconds = 300.0
    up: Ratio = 1.0  # of the replicas there are, in one step
    pods_up: int = 4  # or so many, if that is more
    down: Ratio = 1.0  # of the replicas there are, in one step

    @property
    def flaw(self) -> str:
        """Why nothing can be decided by them; empty: it can."""
        for name, value in (("target", self.target), ("full", self.full)):
            if not (math.isfinite(value) and value > 0):
                return f"{name} of a replica is {value:g}: no share of nothing can be aimed at"
        if not 0 <= self.least <= self.most <= LARGEST:
            return f"least {self.least} and most {self.most} are no bounds"
        return ""


@dataclass(frozen=True, slots=True)
class Load:
    """What one decision rests on. `expected` and `unlikely`: the highest within the lead; None: no forecast."""

    use: float  # all replicas together
    now: int  # replicas there are
    ready: int  # of them
    expected: float | None = None
    unlikely: float | None = None
    burst: float = 0.0  # what a short glance back says may come within the lead, to be kept below `full`

    @property
    def flaw(self) -> str:
        """Why nothing can be decided from it; empty: it can."""
        if not (math.isfinite(self.use) and self.use >= 0):
            return f"use is {self.use:g}"
        if not 0 <= self.ready <= self.now <= LARGEST:
            return f"{self.ready} of {self.now} replicas ready"
        for name, value in (("expected", self.expected), ("unlikely", self.unlikely)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                return f"{name} use is {value:g}"
        return ""


@dataclass(frozen=True, slots=True)
class Leeway:
    """How far one may differ from the autoscaler, replicas."""

    autoscaler: int  # what it would have
    base: int  # stands for native: the autoscaler's, or fewer where fewer were earned
    lasting: int  # up to here additions begin, beyond it they only stay
    most: int  # beyond it they end
    below: bool = False  # whether fewer than the autoscaler's are left too, when the wish falls


@dataclass(frozen=True, slots=True)
class Decision:
    """Replicas, and how they were come by."""

    desired: int
    native: int
    predicted: int | None
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class StabilizationWindow:
    """The highest wish of the last `hold` seconds. Of any two the later is kept, and the earlier only if it was higher."""

    _kept: deque[tuple[Seconds, int]] = field(default_factory=deque)

    def add(self, at: Seconds, wish: int, hold: Seconds) -> int:
        """Remember a wish; the highest of (at - hold, at]. O(1) on average."""
        kept = self._kept
        while kept and kept[-1][1] <= wish:
            kept.pop()
        kept.append((at, wish))
        while kept[0][0] <= at - hold and len(kept) > 1:
            kept.popleft()
        return kept[0][1]


def replicas_for(load: float, each: float) -> int:
    """The fewest replicas of which none takes more than `each`."""
    needed = load / each
    return LARGEST if needed >= LARGEST else math.ceil(needed - NEAR)


def native(use: float, now: int, ready: int, rules: Rules) -> int:
    """What the Horizontal Pod Autoscaler would ask for, before bounds, window and rate.

    With no replica ready there is nothing to measure, and what there is stays.
    """
    if ready <= 0:
        return now
    ratio = use / (ready * rules.target)
    return now if abs(ratio - 1.0) <= rules.tolerance + NEAR else replicas_for(use, rules.target)


def predicted(load: Load, rules: Rules) -> int | None:
    """What the expected load needs; None without a forecast."""
    if load.expected is None:
        return None
    return max(replicas_for(load.expected, rules.target), replicas_for(load.unlikely or 0.0, rules.full))


def decide(
    at: Seconds, load: Load, rules: Rules, window: StabilizationWindow, leeway: Leeway | None = None
) -> Decision:
    """See module docstring.

    Raises:
        InputError: load or rules do not hold; names what.
    """
    if flaw := load.flaw or rules.flaw:
        raise InputError(flaw)
    own = native(load.use, load.now, load.ready, rules)
    ahead, wish = predicted(load, rules), wish_of(load, rules, leeway)
    held = _held(at, wish, rules, window, leeway)
    stepped = _stepped(wish, held, load.now, rules)
    desired = _within(stepped, rules, leeway)
    goal = wish if wish > load.now else held
    said = (
        (IS_ABSURD, ahead is not None and ahead > ABSURD * max(own, load.now, 1)),
        (BY_STEP, stepped < goal if goal > load.now else stepped > goal and goal < load.now),
        (BY_WINDOW, wish < min(load.now, held)),
        (BY_ALLOWANCE, leeway is not None and max(leeway.lasting, desired) < _wanted(load, rules, leeway.base)),
        (BY_MOST, max(goal, stepped) > rules.most),
        (BY_LEAST, rules.least > stepped),
    )
    return Decision(desired, own, ahead, tuple(flag for flag, holds in said if holds))


def wish_of(load: Load, rules: Rules, leeway: Leeway | None = None) -> int:
    """What is wished for before window, rate and bounds."""
    base = leeway.base if leeway is not None else native(load.use, load.now, load.ready, rules)
    wanted = _wanted(load, rules, base)
    if leeway is None or wanted == base:
        return wanted
    goal = max(base, min(wanted, max(load.now, leeway.lasting)))
    still = rules.tolerance * load.now
    calm = load.now >= base and -still - NEAR <= goal - load.now <= RISE * still + NEAR
    return load.now if calm else goal


def follow(
    at: Seconds, wish: int, now: int, rules: Rules, window: StabilizationWindow, leeway: Leeway | None = None
) -> int:
    """Where a wish leads: held, stepped, bounded."""
    return _within(_stepped(wish, _held(at, wish, rules, window, leeway), now, rules), rules, leeway)


def look_ahead(start: Seconds, step: Seconds, values: Sequence[float], at: Seconds, lead: Seconds) -> float | None:
    """The highest value a forecast has within [at, at + lead]; None if it does not reach there.

    `values[i]` covers [start + i x step, start + (i + 1) x step).
    """
    first, last = math.floor((at - start) / step), math.floor((at + lead - start) / step)
    if first < 0 or last >= len(values):
        return None
    return max(values[first : last + 1])


def _wanted(load: Load, rules: Rules, base: int) -> int:
    """The highest of what is there anyway, what is predicted and what a burst needs.

    A prediction counts only beyond the tolerance, so that its noise moves nothing.
    """
    ahead = predicted(load, rules) or 0
    counts = ahead > base + rules.tolerance * base + NEAR
    return max(base, ahead if counts else 0, replicas_for(load.burst, rules.full))


def _within(stepped: int, rules: Rules, leeway: Leeway | None) -> int:
    desired = min(max(stepped, rules.least), rules.most)
    if leeway is None:
        return desired
    if desired > leeway.most:
        return leeway.autoscaler
    return desired if leeway.below else max(desired, leeway.autoscaler)


def _held(at: Seconds, wish: int, rules: Rules, window: StabilizationWindow, leeway: Leeway | None) -> int:
    """The highest of the last wishes; what the autoscaler has, it has held already."""
    theirs = leeway is not None and not leeway.below and wish == leeway.base
    return max(wish, window.add(at, 0 if theirs else wish, rules.hold))


def _stepped(wish: int, held: int, now: int, rules: Rules) -> int:
    """From now towards the wish, as far as one step goes."""
    if wish > now:
        return min(wish, now + max(rules.pods_up, math.floor(rules.up * now + NEAR)))
    return min(now, max(held, now - max(1, math.floor(rules.down * now + NEAR))))
