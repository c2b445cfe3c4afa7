"""CPUs the owners of a shared pool need, found by feedback: several indicators, each with a loop; the most wins.

    loop(i)      = PID(reading(i), target(i), CPUs held)               see core/pid; relative to what the pool holds
    floor        = Σ need(pod) without margin: 1.25 × usage, or peak × (1 + growth); requests where those count
    requirement  = max(floor, max over i of loop(i))                                                    [cores]

An indicator inside its dead band answers what the pool holds, so a pool shrinks only when *every* indicator is below
its band. One that was measured before and is missing now holds the pool where it is; one this machine never had
abstains. Without any, or in a pool that holds nothing yet, the estimate with its margin decides. A saturated pool
gets what was asked for at once (its readings do not know what it wants), feedback or not.
A pool of n CPUs cannot be held nearer than 1/n, so the band under the target is at least `grain` CPUs wide, and as
wide as the band over it again: else a small pool would take a CPU and give it back for ever.
The reason names the indicator that won: its reading, its target, CPUs before and after.

Use where the service's sweet point is known better than its usage: by a stated target, or one learned by core/knee.
Source: katalyst-core provisionpolicy/policy_rama.go (one PID per indicator, maximum for the requirement; reference
§4.4, A1); kernel Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.advisor.core.estimate import is_saturated, need, used
from neap.advisor.core.indicators import CPI, READINGS, STALL, USAGE, WAIT
from neap.advisor.core.pid import Knob, Step, Terms, step
from neap.advisor.core.pid import Memory as Loop
from neap.advisor.core.policy import PoolView, ProvisionPolicy, Requirement
from neap.common.units import Cores, Ratio

WIDE: Final[Ratio] = 0.8  # band under targets of waiting: it is nothing for long and much at once


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Targets (0: the indicator is not used), and how the loops react, in shares of what the pool holds."""

    usage: Annotated[Ratio, Meta(ge=0, le=1)] = 0.65  # of the CPUs of a pool in use
    stall: Annotated[Ratio, Meta(ge=0, le=1)] = 0.10  # of the time a pod's task waits for a CPU
    wait: Annotated[Ratio, Meta(ge=0, le=1)] = 0.10  # of the runnable time spent waiting
    cpi: Annotated[float, Meta(ge=0, le=1000)] = 0.0  # cycles per instruction: every service has its own

    rise: Annotated[Ratio, Meta(ge=0, le=10)] = 0.3  # more CPUs per unit of error (ln reading/target)
    fall: Annotated[Ratio, Meta(ge=0, le=10)] = 0.3  # fewer CPUs, the same
    brake: Annotated[Ratio, Meta(ge=0, le=10)] = 0.5  # against the change of the reading
    above: Annotated[Ratio, Meta(ge=0, le=1)] = 0.03  # dead band over a target
    below: Annotated[Ratio, Meta(ge=0, le=1)] = 0.03  # and under it
    up: Annotated[Ratio, Meta(gt=0, le=10)] = 0.20  # most a pool grows by in a report; a grain at any rate
    down: Annotated[Ratio, Meta(gt=0, le=1)] = 0.15  # most it shrinks by
    grain: Annotated[Cores, Meta(ge=0, le=64)] = 2.0  # CPUs a pool changes by: a whole core of two threads
    doubt: Annotated[float, Meta(ge=1, le=100)] = 2.0  # bands within which one reading is not believed
    shyest: Annotated[Ratio, Meta(gt=0, le=1)] = 0.05  # of a step that is left after many turns
    steepest: Annotated[float, Meta(gt=0, le=100)] = 2.0  # elasticity that CPUs not yet felt are enough for
    answer: Annotated[int, Meta(ge=0, le=60)] = 3  # reports until CPUs are felt, at most

    growth: Annotated[Ratio, Meta(ge=0, le=10)] = 0.10  # on top of the recent peak
    margin: Annotated[Ratio, Meta(ge=0, le=10)] = 0.35  # on the estimate where no indicator speaks
    full: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of the CPUs of a pool in use: it is saturated


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One loop per indicator that ever spoke, and what came out last."""

    loops: dict[str, Loop] = {}
    cores: Cores = 0.0


START: Final = Memory()


def advise(view: PoolView, settings: Settings, memory: Memory) -> tuple[Requirement, Memory]:
    """The pool's requirement and the next memory.

    Laws: at least the floor; with every reading inside its band exactly what the pool holds, or the floor; a reading
    over its target never makes it smaller. Cost: O(pods × indicators).
    """
    if not view.pods:
        return Requirement(cores=0.0, estimate=0.0, ratio=1.0, reserve=0.0, reason="nobody is in it"), START
    saturated = is_saturated(view, settings.full)
    guess, floor = _sum(view, settings, 1.0, saturated=saturated)
    steps, loops = _loops(view, settings, memory) if view.fresh and view.held else ({}, memory.loops)
    spoke = {name: one for name, one in steps.items() if not one.bad or name in memory.loops}
    if spoke:
        best = max(spoke, key=lambda name: (spoke[name].knob, spoke[name].error, name))
        cores, why = spoke[best].knob, _why(best, spoke[best], view, settings)
    elif view.fresh or not memory.cores:
        _, cores = _sum(view, settings, 1 + settings.margin, saturated=saturated)
        why = f"{guess:.1f} estimated x {1 + settings.margin:.2f}, because no indicator speaks"
    else:
        cores, why = memory.cores, "as before, because there is no new report"
    if floor > cores:
        cramped = f": {used(view):.1f} of {view.held} CPUs in use, so requests count" if saturated else ""
        why = f"{floor:.1f} estimated at the least{cramped}; {why}"
        cores = floor
    ratio = cores / guess if guess > 0 else 1.0
    made = Requirement(
        cores=cores,
        estimate=guess if guess > 0 else cores,
        ratio=ratio,
        reserve=0.0,
        reason=f"{cores:.1f} = {why}",
    )
    return made, Memory(loops=loops, cores=cores)


def _sum(view: PoolView, settings: Settings, ratio: Ratio, *, saturated: bool) -> tuple[Cores, Cores]:
    needs = [need(pod, settings.growth, ratio, saturated=saturated) for pod in view.pods]
    return sum(pair[0] for pair in needs), sum(pair[1] for pair in needs)


def _loops(view: PoolView, settings: Settings, memory: Memory) -> tuple[dict[str, Step], dict[str, Loop]]:
    """One step of every indicator that has a target, and the loops that spoke now or before."""
    held = float(view.held)
    knob = Knob(now=held, low=min(1.0, held), high=max(held, float(view.most or math.inf)), scale=held)
    steps: dict[str, Step] = {}
    loops: dict[str, Loop] = {}
    for name, target in _targets(view, settings).items():
        reading, before = READINGS[name](view), memory.loops.get(name, Loop())
        steps[name], loop = step(reading, target, knob, terms(name, held, settings), before)
        if not steps[name].bad or name in memory.loops:
            loops[name] = loop
    return steps, loops


def _targets(view: PoolView, settings: Settings) -> dict[str, float]:
    own = {USAGE: settings.usage, STALL: settings.stall, WAIT: settings.wait, CPI: settings.cpi}
    stated: Mapping[str, float] = {name: at for name, at in view.targets.items() if 0 < at < math.inf}
    return {name: at for name in READINGS if (at := stated.get(name, own[name])) > 0}


def terms(name: str, held: Cores, settings: Settings) -> Terms:
    """Of a pool of this size. A grain less must not bring the reading from below the band to above it."""
    coarse = 1 - (1 - settings.below) * max(0.0, 1 - settings.grain / held)
    return Terms(
        rise=settings.rise,
        fall=settings.fall,
        brake=settings.brake,
        above=settings.above,
        below=max(coarse, WIDE) if name in (STALL, WAIT) else coarse,
        up=max(1.0, settings.grain, settings.up * held),
        down=max(1.0, settings.grain, settings.down * held),
        doubt=settings.doubt,
        shyest=settings.shyest,
        steepest=settings.steepest,
        answer=settings.answer,
    )


def _why(name: str, one: Step, view: PoolView, settings: Settings) -> str:
    target = _targets(view, settings)[name]
    if one.bad:
        return f"{view.held} held: {name} is {one.bad}"
    seen = f"{name} {READINGS[name](view):.3g} for {target:.3g}"
    if not one.acts:
        return f"{view.held} held: {seen}"
    change = one.knob - view.held
    return f"{view.held} held {'+' if change >= 0 else '−'} {abs(change):.1f}: {seen}"


PLUGIN: Final = ProvisionPolicy(settings=Settings, advise=advise, start=START)
