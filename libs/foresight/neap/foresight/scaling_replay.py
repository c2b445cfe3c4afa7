"""A load lived through by the scaling rules: what would have been short, what would have been paid.

loads[i] is the mean over (i x period, (i + 1) x period]; the decision is at its end and knows loads until there and the
forecast of then. What is started at t is ready at t + start; replicas count from the moment they are asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from neap.common.units import HOUR, MINUTE, Seconds
from neap.foresight.manners import Judge, Shadow
from neap.foresight.scaling import Load, Rules

# (time of the decision, seconds ahead) -> the highest expected and unlikely use; None: no forecast that may drive
Outlook: TypeAlias = Callable[[Seconds, Seconds], tuple[float, float] | None]


@dataclass(frozen=True)
class Lived:
    """What one way of scaling came to."""

    short: float  # minutes
    paid: float  # replica-hours
    changes: int


@dataclass(frozen=True)
class Rehearsal:
    """Ours beside the autoscaler's own, and every manner by itself."""

    own: Lived
    autoscaler: Lived
    manners: Mapping[str, Lived]
    taken: Mapping[str, int]  # periods under each manner


def blind(_: Seconds, __: Seconds) -> None:
    """Nothing is foretold."""


def rehearse(
    loads: Sequence[float], period: Seconds, rules: Rules, start: Seconds, outlook: Outlook, judge: Judge
) -> Rehearsal:
    """See module docstring. It begins with what the first load needs, ready."""
    judge.begin(max(rules.least, math.ceil(loads[0] / rules.target - 1e-9)))
    taken: Counter[str] = Counter()
    for place, use in enumerate(loads):
        at = (place + 1) * period
        told = outlook(at, start + period)
        expected, unlikely = told if told is not None else (None, None)
        judge.see(at, period, Load(use, 0, 0, expected, unlikely), rules, start)
        taken[judge.manner.name] += 1
    manners = {shadow.manner.name: _lived(shadow) for shadow in (*judge.shadows, judge.reference)}
    return Rehearsal(_lived(judge.own), _lived(judge.reference), manners, taken)


def _lived(shadow: Shadow) -> Lived:
    return Lived(shadow.went_short / MINUTE, shadow.paid / HOUR, shadow.changes)
