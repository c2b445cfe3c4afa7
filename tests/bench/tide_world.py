"""Two weeks of a pool in virtual time: services that follow a load by replicas, nodes that drain, guests that linger.

    load(t)  = days of a measured curve in a drawn order, joined around low water, each with its own height (6 %) and shift
               (15 min), free days (0.6 on Saturdays and Sundays, one holiday of 0.5), one day an hour early; AR(1) noise 2 %
    replicas = ceil(use / (0.6 x request)), down only to the highest of the last 15 minutes, never below a minimum
    drains   guests: 90 % of nodes within 1-8 min, 8 % within 8-14, 2 % not for 1-4 hours; owners: Eviction API per service,
             max(1, 10 %) unavailable at once, and now and then (once in 200 service-hours) a budget that allows nothing
             for 1-4 hours

Steps of STEP; within one: load, replicas, leaving, scheduling (emptiest node first), the policy's pass. A pod that finds
no node in the step in which it is wanted has waited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neap.common.model.tide import Side, TideNode, Turning
from neap.common.units import DAY, GIB, HOUR, MINUTE, Seconds

STEP: Final[Seconds] = 300.0
PER_DAY: Final = round(DAY / STEP)
NODES, CORES, MEMORY = 100, 64_000, 256 * GIB
FULL_AT_PEAK: Final = 0.62  # of the pool's cores are asked at the highest load: the static split holds it
CURVES: Final = Path(__file__).resolve().parents[2] / "examples" / "curves"
HPA_TARGET: Final = 0.6
SEAM: Final[Seconds] = 8 * HOUR
LOW_WATER: Final = 4  # o'clock: the curves do not say what time it was, so their mean day is lowest then
Numbers: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]


@cache
def curve(name: str) -> Numbers:
    """Shape (7, 288), as a share of its highest value; a day begins at low water."""
    rows = np.loadtxt(CURVES / f"{name}.csv", delimiter=",", skiprows=1)[:, 2]
    lowest = int(rows.reshape(7, PER_DAY).mean(axis=0).argmin())
    return np.asarray(np.roll(rows, -lowest).reshape(7, PER_DAY) / rows.max())


def load(name: str, days: int, seed: int, *, noise: float = 1.0) -> Numbers:
    """See module docstring; 1 is the highest value of the curve. From midnight, so the first part of a day is cut off."""
    chance, source = np.random.default_rng(seed), curve(name)
    holiday, early = chance.choice(np.arange(4, days), size=2, replace=False)
    first = int(chance.integers(7))  # day of the week on which it begins
    parts = []
    for day in range(days + 1):
        shape = source[chance.integers(7)]
        height = 1 + 0.06 * noise * chance.standard_normal()
        height *= 0.6 if (day + first) % 7 >= 5 else 1.0
        height *= 0.5 if day == holiday else 1.0
        shift = round((15 * noise * chance.standard_normal() - 60 * (day == early)) * MINUTE / STEP)
        parts.append(np.roll(shape, shift) * height)
    begin = PER_DAY - LOW_WATER * PER_DAY // 24
    whole = _joined(np.concatenate(parts))[begin : begin + days * PER_DAY]
    wander, drift = np.empty(len(whole)), 0.0
    for place, shock in enumerate(chance.standard_normal(len(whole))):
        drift = 0.9 * drift + 0.02 * noise * np.sqrt(1 - 0.81) * shock
        wander[place] = drift
    return np.asarray(np.maximum(whole * (1 + wander), 0.01))


def _joined(days: Numbers) -> Numbers:
    """Days that follow each other without a step: what they differ by where they meet is spread over SEAM around it."""
    around, logs = round(SEAM / 2 / STEP), np.log(np.maximum(days, 0.01))
    for seam in range(PER_DAY, len(logs), PER_DAY):
        step = logs[seam] - logs[seam - 1]
        logs[seam - around : seam] += step / 2 * np.arange(1, around + 1) / around
        logs[seam : seam + around] -= step / 2 * np.arange(around, 0, -1) / around
    return np.asarray(np.exp(logs))


@dataclass(frozen=True)
class Services:
    """Columns, a row per service."""

    cpu: Whole
    memory: Whole
    share: Numbers  # of the load
    least: Whole


def services(seed: int, count: int = 12) -> Services:
    """Sizes of 1, 2, 4 and 8 cores, 2 or 4 GiB per core; shares within a factor of five."""
    chance = np.random.default_rng(seed + 1_000_003)
    cpu = chance.choice([1000, 2000, 4000, 8000], size=count)
    memory = cpu // 1000 * chance.choice([2, 4], size=count) * GIB * 3 // 4
    share = chance.uniform(1, 5, size=count)
    return Services(cpu, memory, share / share.sum(), np.full(count, 2))


@dataclass
class World:
    """The pool between two steps."""

    name: str
    days: int = 14
    seed: int = 0
    reserved_offline: int = 0
    at: int = 0  # step
    served: Services = field(init=False)
    on: Whole = field(init=False)  # pods, a row per node, a column per service
    waiting: Whole = field(init=False)
    nodes: list[TideNode] = field(init=False)
    violations: int = 0  # pods that left although their budget did not allow it

    def __post_init__(self) -> None:
        self.served = services(self.seed)
        self.sizes = tuple(zip(self.served.cpu.tolist(), self.served.memory.tolist(), strict=True))
        self.load = load(self.name, self.days, self.seed)
        peak_cores = FULL_AT_PEAK * NODES * CORES / 1000
        self.use = self.load[:, None] * self.served.share * peak_cores * HPA_TARGET / self.load.max()
        self.desired = self._replicas()
        self.on = np.zeros((NODES, len(self.served.cpu)), dtype=np.int64)
        self.waiting = np.zeros(len(self.served.cpu), dtype=np.int64)
        self.nodes = [TideNode(node=f"n{place:03}", side=Side.ONLINE) for place in range(NODES)]
        self.chance = np.random.default_rng(self.seed + 7)
        self.guests_until = np.full(NODES, -1.0)  # when those of a draining node will have left; -1: none are there
        self.closed_until = np.zeros(len(self.served.cpu))  # budgets that allow nothing

    @property
    def now(self) -> Seconds:
        """Virtual time; a Monday's midnight is 0."""
        return self.at * STEP

    def _replicas(self) -> Whole:
        wanted = np.ceil(self.use / (self.served.cpu / 1000 * HPA_TARGET)).astype(np.int64)
        wanted = np.maximum(wanted, self.served.least)
        held = wanted.copy()
        for back in (1, 2, 3):
            held[back:] = np.maximum(held[back:], wanted[:-back])
        return np.asarray(held)

    def is_online(self) -> NDArray[np.bool_]:
        """Nodes that take online pods."""
        return np.array([node.side is Side.ONLINE and node.turning is Turning.STEADY for node in self.nodes])

    def free(self) -> tuple[Whole, Whole]:
        """Milli-cores and bytes left for online pods, whatever side a node is on."""
        return CORES - self.on @ self.served.cpu, MEMORY - self.on @ self.served.memory

    def follow_load(self) -> None:
        """Autoscalers: more pods wait to be placed, or some are gone."""
        have = self.on.sum(axis=0) + self.waiting
        for service in np.flatnonzero(self.desired[self.at] != have):
            change = int(self.desired[self.at, service] - have[service])
            if change > 0:
                self.waiting[service] += change
                continue
            spared = min(int(self.waiting[service]), -change)
            self.waiting[service] -= spared
            places = np.repeat(np.arange(NODES), self.on[:, service])
            for place in self.chance.choice(places, size=-change - spared, replace=False):
                self.on[place, service] -= 1

    def leave(self, *, by_budget: bool = True) -> None:
        """Owners' pods leave nodes that are drained for guests."""
        hours = STEP / HOUR
        shut = self.chance.random(len(self.closed_until)) < hours / 200
        self.closed_until[shut] = self.now + self.chance.uniform(1, 4, size=int(shut.sum())) * HOUR
        draining = [
            place for place, node in enumerate(self.nodes) if node.side is Side.OFFLINE and self.on[place].any()
        ]
        if not draining:
            return
        desired, closed = self.desired[self.at], self.closed_until > self.now
        allowed = np.where(closed, 0, np.maximum(1, desired // 10)) - (desired - self.on.sum(axis=0))
        for place in draining:
            leaving = np.minimum(self.on[place], np.maximum(allowed, 0)) if by_budget else self.on[place].copy()
            self.violations += int(np.maximum(leaving - np.maximum(allowed, 0), 0).sum())
            allowed -= leaving
            self.on[place] -= leaving
            self.waiting += leaving

    def schedule(self) -> int:
        """Place who waits, the largest first, on the emptiest node; how many find none."""
        cpu, memory = self.free()
        online = np.flatnonzero(self.is_online())
        for service in sorted(np.flatnonzero(self.waiting), key=lambda one: -self.served.cpu[one]):
            asks_cpu, asks_memory = int(self.served.cpu[service]), int(self.served.memory[service])
            while self.waiting[service] and len(online):
                fits = online[(cpu[online] >= asks_cpu) & (memory[online] >= asks_memory)]
                if not len(fits):
                    break
                batch = fits[np.argsort(-cpu[fits], kind="stable")][
                    : max(1, min(int(self.waiting[service]), len(fits) // 4))
                ]
                self.on[batch, service] += 1
                cpu[batch] -= asks_cpu
                memory[batch] -= asks_memory
                self.waiting[service] -= len(batch)
        return int(self.waiting.sum())

    def guests_begin_to_leave(self, place: int) -> None:
        """Draws how long they take."""
        draw = self.chance.random()
        minutes = self.chance.uniform(1, 8) if draw < 0.9 else self.chance.uniform(8, 14)
        if draw >= 0.98:
            minutes = self.chance.uniform(60, 240)
        self.guests_until[place] = self.now + minutes * MINUTE

    def has_guests(self, place: int) -> bool:
        """Whether some are there still."""
        return bool(self.guests_until[place] > self.now)


Policy: TypeAlias = Callable[[World], None]
