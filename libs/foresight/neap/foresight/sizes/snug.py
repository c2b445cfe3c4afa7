"""A percentile with a margin, drawn in to what the hours really reach, and let out at once when the level has moved.

    cap    = (1 + margin) · percentile of all samples, weights halving every 24 h       [unit of the samples]
    reach  = highest hour of the last day that lies below the cap
    size   = min(cap, (1 + ⅔·margin) · reach)          a margin that no hour of the day came near is given back
           = max(size, (1 + ⅓·margin) · last hour's highest)   if most of the last hour was spent above the size

What is above the cap is a spike that the percentile does not pay for either, so drawing in below it costs nothing the
cap would have held. The last line is the step up: by the percentile alone it takes hours until a tenth of the weight
lies on the new level. Whether that works for *this* series is tested on its own past, hour by hour: the rule keeps
account of the time above its own size and of the time above the plain one (cap, taken over by the same 10 %):

    credit = Σ faded (exceeded(plain) − exceeded(own))                          [hours; halves every 7 d]
    credit < −¼ h:  size = min(1.05 · cap, (1 + margin) · reach)                looser, until the debt is paid

How the constants were chosen: the margins are thirds of the one margin (15 % is the usual one), the window is a whole
day, so that it holds one of every hour, and the quarter of an hour is three samples. They were settled on the 13 series
of the recommendation protocol, with those outside it in sight. Around them the medians hardly move; how many of the 13
series are no worse does with a window shorter than a day (8 instead of 11) and without the step (7): see
`python -m tests.bench sizes`.
Laws: equivariant to scale; all usage larger by a factor gives a size larger by it. Not monotone in one single sample:
an hour that rises above the cap is a spike from then on.
When to use: CPU, the default for it. When not: memory, see `highest`.
Source: Rzadca et al., "Autopilot" (EuroSys 2020) §3.2: moving windows, and judging a rule on the job's own past; the
percentile and its margin are those of the Vertical Pod Autoscaler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from neap.common.units import DAY, HOUR, Ratio, Seconds
from neap.foresight.rule import Advised, Aim, Known, Memory, amount, exceeded, percentile

MOST_HOURS: Final = 14 * 24  # settled at once: after a break the account goes on with what the rings still know


class Account(NamedTuple):
    """What the rule remembers: the last hour it counted, its own size, the plain one, and its credit in hours."""

    hour: float
    own: float
    plain: float
    credit: float


@dataclass(frozen=True)
class Snug:
    """See module docstring. Parts are of the margin."""

    window: Seconds = DAY
    drawn: Ratio = 2 / 3
    step: Ratio = 1 / 3
    most: Ratio = 0.5  # of the last hour
    debt: float = 0.25  # hours
    loose: float = 1.05
    takes: Ratio = 0.10  # a size is taken over if it differs by more
    fades: Seconds = 7 * DAY

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:
        """See Rule."""
        held = percentile(known, aim.percentile)
        cap = (1 + aim.margin) * held
        if not math.isfinite(cap):
            return Advised(math.nan, "nothing is known", memory)
        account = self._settled(known, memory)
        owes = account is not None and account.credit < -self.debt
        value, basis = self._size(known, aim, held, owes=owes)
        hour = round(known.hours_max.end / HOUR)
        own = self._taken(value, account.own if account else math.nan)
        plain = self._taken(cap, account.plain if account else math.nan)
        return Advised(value, basis, Account(hour, own, plain, account.credit if account else 0.0))

    def _size(self, known: Known, aim: Aim, held: float, *, owes: bool) -> tuple[float, str]:
        cap = (1 + aim.margin) * held
        plain = f"{amount(held)} (p{100 * aim.percentile:g}, half-life 24 h) x {1 + aim.margin:.4g}"
        value, basis = (cap * self.loose, f"{plain} x {self.loose} (was short before)") if owes else (cap, plain)
        hours = known.hours(self.window)
        below = hours[hours <= cap]
        if len(below):
            times, reach = 1 + aim.margin * (1 if owes else self.drawn), float(below.max())
            if times * reach < value:
                value, basis = times * reach, f"{amount(reach)} (highest hour of 1 d below {plain}) x {times:.4g}"
        mean, highest = (
            float(ring.values[-1]) if len(ring) else math.nan for ring in (known.hours_avg, known.hours_max)
        )
        raised = (1 + aim.margin * self.step) * highest
        if exceeded(mean, highest, value) >= self.most and raised > value:
            return raised, f"{amount(highest)} (the last hour stayed above {amount(value)}) x {raised / highest:.4g}"
        return value, basis

    def _settled(self, known: Known, memory: Memory) -> Account | None:
        """The account with every hour that closed since."""
        if len(memory) != len(Account._fields) or not all(map(math.isfinite, memory)):
            return None
        account = Account(*memory)
        count = min(round(known.hours_max.end / HOUR - account.hour), MOST_HOURS, len(known.hours_max))
        credit = account.credit
        for mean, highest in zip(known.hours_avg.last(count).values, known.hours_max.last(count).values, strict=False):
            credit *= 0.5 ** (HOUR / self.fades)
            credit += exceeded(mean, highest, account.plain) - exceeded(mean, highest, account.own)
        return account._replace(credit=float(credit))

    def _taken(self, value: float, now: float) -> float:
        return now if math.isfinite(now) and abs(value - now) <= self.takes * now else value


PLUGIN: Final = Snug()
