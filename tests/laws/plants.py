"""What a feedback loop is tried on: how a latency follows from CPUs, with inertia, dead time and noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from neap.advisor.core.indicators import USAGE
from neap.advisor.core.pid import Knob, Memory, Step, step
from neap.advisor.plugins.provision_rama import Settings, terms

Curve = Callable[[float], float]


def power(target: float, at: float, elasticity: float) -> Curve:
    """latency = target × (at / CPUs)^elasticity."""
    return lambda cpus: target * math.pow(at / cpus, elasticity)


def inverse(target: float, at: float, still: float) -> Curve:
    """A share of the latency no CPU changes, the rest goes by 1/CPUs."""
    return lambda cpus: target * (still + (1 - still) * at / cpus)


def queue(service: float, load: float) -> Curve:
    """Mean latency of M/M/c, c = CPUs: service time + waiting, in the approximation of Sakasegawa 1977.

    An overloaded queue is as slow as one at 99.5 %: requests are turned away.
    """

    def latency(cpus: float) -> float:
        busy = min(load / cpus, 0.995)
        return service * (1 + math.pow(busy, math.sqrt(2 * (cpus + 1)) - 1) / (cpus * (1 - busy)))

    return latency


def elasticity(curve: Curve, cpus: float) -> float:
    """−d ln latency / d ln CPUs."""
    return (math.log(curve(cpus / 1.01)) - math.log(curve(cpus * 1.01))) / (2 * math.log(1.01))


@dataclass
class Plant:
    """One service. `dead`: reports until a change of CPUs is felt; `lag`: time constant in reports after that."""

    curve: Curve
    cpus: float
    target: float
    dead: int = 0
    lag: float = 0.0
    noise: float = 0.0  # relative, uniform to either side
    seed: int = 0
    low: float = 1.0
    high: float = 1000.0
    truth: list[float] = field(default_factory=list)  # latencies without noise
    knobs: list[float] = field(default_factory=list)
    said: list[Step] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)

    def run(self, rounds: int, settings: Settings) -> Plant:
        """Close the loop with the terms that provision_rama gives it."""
        rng, memory = random.Random(self.seed), Memory()
        before = [self.cpus] * (self.dead + 1)
        level = math.log(self.curve(self.cpus))
        share = 1.0 if self.lag <= 0 else 1 - math.exp(-1 / self.lag)
        for _ in range(rounds):
            level += share * (math.log(self.curve(before[-1 - self.dead])) - level)
            reading = math.exp(level) * (1 + self.noise * rng.uniform(-1, 1))
            knob = Knob(now=self.cpus, low=self.low, high=self.high, scale=self.cpus)
            said, memory = step(reading, self.target, knob, terms(USAGE, self.cpus, settings), memory)
            self.truth.append(math.exp(level))
            self.knobs.append(self.cpus)
            self.said.append(said)
            self.seen.append(reading)
            self.cpus = said.knob
            before.append(self.cpus)
        return self

    @property
    def settled(self) -> int:
        """Steps after which the latency stays within 5 % of the target."""
        off = [index for index, latency in enumerate(self.truth) if abs(latency / self.target - 1) > 0.05]
        return off[-1] + 1 if off else 0

    def swing(self, rounds: int) -> float:
        """Largest over smallest knob of the last rounds, minus 1."""
        late = self.knobs[-rounds:]
        return max(late) / min(late) - 1
