"""How much more than it has a node may sell, from the peak that is foreseen of what runs there.

    room    = original − owned              owned: cores nobody else runs on; neither sold twice nor part of the peak
    asked   = requested − owned
    load    = min(1, max(least, peak / asked))      what comes will use of what it asks for
    sold    = asked + (room · target − peak) / load     so that peak + load · (sold − asked) = target of the room
    foreseen = max(1, sold / room); 1 where nothing is asked: then nothing is known

Where load is what is measured, this is "peak · sold / asked <= target · room". With what is used now instead of the
peak it is Katalyst's realtime ratio. `running` is the ratio below which somebody would run on what is not sold: no
ratio in force is ever below it, so the node stops selling, and nobody has to leave.

In force: falls at once, to a multiple of `step`; rises by one step when a step more than that is borne (what
trembles about a step does not flap), and not before step / rise hours have passed. Units: any, ratios are shares.
Source: Katalyst overcommitmentaware/realtime (formula, AC-19); requirements 001-08, 002-53.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from neap.common.units import HOUR, Ratio, Seconds

GRAIN: Final[Ratio] = 1e-9  # of a step: float's error
MOST: Final[Ratio] = 1000.0  # a machine that could sell more has next to nothing


@dataclass(frozen=True)
class Demand:
    """One kind on one node, in the kind's units."""

    original: float  # what the machine has
    requested: float  # by all that runs there
    owned: float = 0.0  # of both: CPUs that nobody else runs on

    @property
    def room(self) -> float:
        """What may be sold more than once."""
        return max(0.0, self.original - self.owned)

    @property
    def asked(self) -> float:
        """Of that, by those who run there."""
        return max(0.0, self.requested - self.owned)

    @property
    def running(self) -> Ratio:
        """The ratio at which all that runs is just sold; at least 1."""
        return max(1.0, self.asked / self.room) if self.room > 0 else 1.0


@dataclass(frozen=True)
class Pace:
    """How a ratio in force moves."""

    step: Ratio = 0.05
    rise: Ratio = 0.1  # an hour


def foreseen(demand: Demand, peak: float, *, target: Ratio, least: Ratio) -> Ratio:
    """What the peak (of what is not owned) would bear; see module docstring. Peaks that are none bear nothing."""
    if demand.room <= 0 or demand.asked <= 0 or not 0 <= peak < math.inf:
        return 1.0
    load = min(1.0, max(least, peak / demand.asked))
    return min(MOST, max(1.0, (demand.asked + (demand.room * target - peak) / load) / demand.room))


def on_step(ratio: Ratio, step: Ratio) -> Ratio:
    """The multiple of `step` at or below it, at least 1."""
    return max(1.0, round(math.floor(ratio / step + GRAIN) * step, 6))


def moved(force: Ratio | None, bears: Ratio, allowed: Ratio, waited: Seconds, pace: Pace) -> Ratio:
    """The next ratio in force.

    Args:
        force: the one before; None: there was none.
        bears: what is foreseen to be borne; 1 while the node is watched.
        allowed: what the administrator allows.
        waited: since it moved last.
        pace: how it moves.
    """
    bound = max(1.0, min(allowed, on_step(bears, pace.step)))
    if force is None or bound <= force:
        return bound
    above = min(allowed, on_step(force, pace.step) + pace.step)
    may = waited * pace.rise >= pace.step * HOUR and bears >= above + pace.step - GRAIN
    return above if may else force


def in_steps(ratio: Ratio) -> Ratio:
    """A ratio that is not lower, in hundredths: of what runs, for people."""
    return math.ceil(ratio * 100 - 1e-6) / 100
