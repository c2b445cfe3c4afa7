"""One step of feedback: a reading, what it should be, and the knob that was in force when it was read -> the knob.

    x       = ln reading, smoothed:  x ← x + smoothing × (ln reading − x)
    e       = x − ln target                          > 0: too high, the knob goes up; relative, so any unit will do
    act     only if  e^e − 1 > above  or  < −below;  inside the dead band the knob in force is the answer, exactly
    adjust  = (rise or fall) × e × scale + brake × Δx × scale          [unit of the knob]   Δx: of the measurement
    total   = clip(total + shy × adjust, −down, +up)      a step not yet realised by a knob that only moves in whole units
    knob'   = clip(knob + total, low, high)

The knob is the integral, so `rise` and `fall` act as integral gains, and `brake`, on the measurement and not on the
error (a new target is no jump), as the proportional one. Nothing winds up: what counts is the knob in force and not
what was asked; at a bound, `total` holds no more than what is left to the bound; and it is forgotten once the knob
moves, the error turns or the reading is back inside the band.

Plants differ. A reading that comes out on the other side after an act says that the act was too much, so `shy` halves
(down to `shyest`), and grows back by `recovery` in every reading inside the band: a plant with ten times the expected
gain or a dead time oscillates once or twice, and not for ever. Readings outside by less than `doubt` bands are
believed when the one before was outside on the same side.

What was done is not seen at once: there is dead time, and nobody says how much. So a run of acts to one side waits once
it has spent enough for the steepest plant to be cured by, until the reading answers, or `answer` readings have passed:

    spent    = Σ |ln(knob / knob before)| in this run            waits while  spent × steepest ≥ |e|
    answered   once x moved by a band towards the target; then the run goes on as it sees fit

A plant of one third of that elasticity is late by no more than the wait, one of all of it is not overshot blindly.

Bad input (None, NaN, negative): the knob in force, and the step says why.
Source: katalyst-core provisionpolicy/policy_rama.go (logarithmic error, asymmetric band and gains, bounded total;
reference §4.4, acceptance case A1); Åström & Hägglund, Advanced PID Control, §3.5 (tracking what is in force
against wind-up); Smith 1957 (dead time: act on what was done and not yet felt); Riedmiller & Braun 1993, RPROP (halve
the step when the sign turns).
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from neap.common.units import Ratio

LEAST: Final = 1e-6  # of a move that is an answer
FARTHEST: Final = 10.0  # |e|: a reading of nothing, or 22,000 times the target
Gain = Annotated[float, Meta(ge=0, le=100)]


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a loop reacts. The defaults have no memory of turns and no filter: one reading, one step."""

    rise: Gain = 0.1  # of the scale per unit of error, while too high
    fall: Gain = 0.04  # the same while too low: what is given back can hurt
    brake: Gain = 0.0  # of the scale per unit of change of the measurement
    above: Annotated[Ratio, Meta(ge=0)] = 0.05  # dead band over the target, relative
    below: Annotated[Ratio, Meta(ge=0, le=1)] = 0.2  # and under it
    up: Annotated[float, Meta(ge=0)] = 10.0  # most the knob goes up in a step, in its unit
    down: Annotated[float, Meta(ge=0)] = 2.0
    smoothing: Annotated[Ratio, Meta(gt=0, le=1)] = 1.0  # weight of the newest reading
    doubt: Annotated[float, Meta(ge=1)] = 1.0  # bands within which one reading is not enough; 1: it always is
    shyest: Annotated[Ratio, Meta(gt=0, le=1)] = 1.0  # 1: turns change nothing
    patience: Annotated[int, Meta(ge=1)] = 6  # acts on one side, each counted by shyness, after which it was wrong
    courage: Annotated[Ratio, Meta(ge=0, le=1)] = 0.25  # per act after that
    recovery: Annotated[Ratio, Meta(ge=0, le=1)] = 0.02  # per reading inside the band
    steepest: Annotated[float, Meta(gt=0, le=100)] = 2.0  # elasticity that acts not yet answered are enough for
    answer: Annotated[int, Meta(ge=0, le=60)] = 0  # readings an answer is waited for; 0: not at all


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop remembers from one reading to the next."""

    level: float | None = None  # x; None: nothing was read yet, or lately
    knob: float | None = None  # in force at the last reading
    total: float = 0.0
    acts: int = 0  # so many in a row on the side of the last one: > 0 up, < 0 down
    outside: int = 0  # side of the last reading
    shy: Ratio = 1.0
    first: float | None = None  # x when the run of acts began; None: it was answered
    spent: float = 0.0  # change of the knob in this run, ln
    waited: int = 0  # readings for the answer


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """What is turned: its value in force, its bounds, and what gains refer to."""

    now: float
    low: float
    high: float
    scale: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `acts` is False where the knob should stay as it is."""

    knob: float
    error: float = 0.0
    acts: bool = False
    bad: str = ""  # why nothing could be said


def step(reading: float | None, target: float, knob: Knob, terms: Terms, memory: Memory) -> tuple[Step, Memory]:
    """One reading.

    Laws: low ≤ knob' ≤ high; −down ≤ knob' − knob ≤ up, but for bounds that moved; inside the dead band knob' = knob;
    finite; memory is bounded by the terms, however long the knob was not free to follow.
    """
    now = min(max(knob.now, knob.low), knob.high)
    if (why := _refused(reading, target)) or reading is None:
        return Step(knob=now, bad=why), replace(memory, level=None, total=0.0, outside=0)
    level, rate = _filtered(math.log(max(reading, target * math.exp(-FARTHEST))), terms, memory.level)
    error = min(max(level - math.log(target), -FARTHEST), FARTHEST)
    side = _side(error, terms, 1.0)
    seen = replace(memory, level=level, knob=knob.now, outside=side)
    if not side:
        shy = min(1.0, memory.shy * (1 + terms.recovery))
        return Step(knob=now, error=error), replace(seen, total=0.0, shy=shy)
    if side != memory.outside and not _side(error, terms, terms.doubt):
        return Step(knob=now, error=error), replace(seen, total=0.0)
    shy, acts = _shy(side, terms, memory)
    seen, waits = _run(seen, level, abs(error), terms, memory, begins=acts == side)
    if waits:
        return Step(knob=now, error=error), replace(seen, total=0.0)
    total = memory.total if knob.now == memory.knob and memory.total * side >= 0 else 0.0
    adjust = ((terms.rise if side > 0 else terms.fall) * error + terms.brake * rate) * knob.scale
    total = min(max(total + shy * adjust, -terms.down), terms.up)
    total = min(max(total, knob.low - now), knob.high - now)
    if total * side < 0:  # the brake stops a knob, it does not turn it back
        total = 0.0
    return Step(knob=now + total, error=error, acts=True), replace(seen, total=total, acts=acts, shy=shy)


def _refused(reading: float | None, target: float) -> str:
    if not 0 < target < math.inf:
        return f"a target of {target} is none"
    if reading is None:
        return "not measured"
    return "" if 0 <= reading < math.inf else f"{reading} is no reading"


def _filtered(newest: float, terms: Terms, before: float | None) -> tuple[float, float]:
    """(x, Δx)."""
    if before is None:
        return newest, 0.0
    level = before + terms.smoothing * (newest - before)
    return level, level - before


def _shy(side: int, terms: Terms, memory: Memory) -> tuple[Ratio, int]:
    """(shy, acts) of an act on this side."""
    if memory.acts * side < 0:
        return max(terms.shyest, memory.shy / 2), side
    acts = memory.acts + side
    return (min(1.0, memory.shy * (1 + terms.courage)) if abs(acts) * memory.shy > terms.patience else memory.shy), acts


def _run(seen: Memory, level: float, size: float, terms: Terms, before: Memory, *, begins: bool) -> tuple[Memory, bool]:
    """(memory, whether to wait for an answer); see module docstring."""
    if begins:
        return replace(seen, first=level, spent=0.0, waited=0), False
    if before.first is None or seen.knob is None:
        return seen, False
    if (before.first - level) * before.acts >= abs(before.acts) * max(
        terms.above, LEAST
    ) or before.waited >= terms.answer:
        return replace(seen, first=None), False
    moved = math.log(seen.knob / before.knob) if seen.knob > 0 and before.knob is not None and before.knob > 0 else 0.0
    seen = replace(seen, spent=before.spent + abs(moved))
    waits = seen.spent * terms.steepest >= size
    return replace(seen, waited=before.waited + waits), waits


def _side(error: float, terms: Terms, times: float) -> int:
    """Outside of so many bands: 1 above, −1 below, else 0."""
    off = math.expm1(error)
    return 1 if off > times * terms.above else -1 if off < -times * terms.below else 0
