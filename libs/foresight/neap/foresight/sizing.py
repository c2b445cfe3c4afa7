"""From what was used to what should be asked for: one container's sums, with every step of the arithmetic said.

    memory  = max(rule, evidence of every kill within 7 d)            then bounds, then whole units
    cpu     = rule                                                    then bounds, then milli-cores, rounded up
    kill n  : had + 100 MiB, had · 1.2; from the second level on that was not enough: had · 2

A start-up peak never lifts a request: what is needed for minutes would be reserved for ever. CPU may be short while
starting, the start is slower then. Memory may not, it kills: so a memory *limit* holds the peak, and so does a memory
request where it is the limit (guaranteed pods), because a limit cannot stay where a request goes away from it.
Bounds win over everything, evidence included, and a sum says when one of them decided.

Source: katalyst-core pkg/controller/resource-recommend (readiness, OOM evidence, rounding, acceptance AC-14, AC-15;
its bounds are validated and never applied, ours are); requirements 001-09, 002-50, story A1. Differences: memory above
1 Gi is rounded to Mi where whole Gi would add more than 5 %, and a second kill in a row doubles (Kubernetes autoscaler
issue 1574: a recommendation that rises by a fifth loops).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from neap.common.model.recommendation import ContainerSize, Sum
from neap.common.model.resource import CPU, LARGEST, MEMORY, Resources
from neap.common.units import DAY, GIB, KIB, MIB, Bytes, Ratio, Seconds, format_bytes
from neap.foresight.rule import USUAL, Advised, Aim, Known, Memory, Rule, spoken

OOM_MORE: Final[Bytes] = 100 * MIB
OOM_TIMES: Final = 1.2
OOM_AGAIN: Final = 2.0
OOM_COUNTS_FOR: Final[Seconds] = 7 * DAY
SAME_LEVEL: Final = 1.1  # kills with no more than this times as much memory are of one level
LEAST_SPAN: Final[Seconds] = DAY
LONGEST_SILENCE: Final[Seconds] = DAY
GIB_WASTES: Final[Ratio] = 0.05


@dataclass(frozen=True)
class Kill:
    """A replica ran out of memory: when, which one, and how much it had."""

    at: Seconds
    uid: str
    had: Bytes


@dataclass(frozen=True)
class Past:
    """What is known of one resource of a container. `startup`: highest of the first minutes, NaN: none seen."""

    known: Known
    startup: float = math.nan
    worst: str = ""  # uid of the replica that used most


@dataclass(frozen=True)
class Seen:
    """One container of a service over all its replicas. `first` is None before anything was seen."""

    name: str
    first: Seconds | None
    last: Seconds
    cpu: Past
    memory: Past
    kills: Sequence[Kill] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """How one resource is sized. `most` 0: no upper bound. `limit`: times the request; 0: no limit is recommended."""

    name: str
    rule: Rule
    aim: Aim = USUAL
    least: int = 0  # whole units
    most: int = 0
    limit: float = 0.0


def readiness(first: Seconds | None, last: Seconds, at: Seconds, *, least: Seconds = LEAST_SPAN) -> str:
    """Why there is no target yet, or nothing. Times ahead of `at` are somebody's clock, and count as now."""
    if first is None or not math.isfinite(first):
        return "preparing: nothing was seen yet"
    if at - last > LONGEST_SILENCE:
        return f"expired: last seen {spoken(at - last)} ago"
    span = min(last, at) - first
    if span < least:
        return f"insufficient: {spoken(span) if span > 0 else 'nothing'} of {spoken(least)} seen"
    return ""


def confidence(span: Seconds) -> Ratio:
    """1 − 1 / (1 + days): a half after a day, nine tenths after nine. Only how sure it is, the target stays."""
    days = max(span, 0.0) / DAY
    return round(days / (1 + days), 3)


def whole_cpu(cores: float) -> int:
    """Milli-cores, rounded up; a millionth above is the float's error."""
    return min(math.ceil(round(cores * 1000, 6)), LARGEST)


def whole_memory(amount: float) -> Bytes:
    """Rounded up to the largest fitting unit: 1100 -> 2 Ki, 2.66 Mi -> 3 Mi; whole Gi only if that adds little."""
    count = min(math.ceil(round(amount, 6)), LARGEST)
    for unit in (GIB, MIB, KIB):
        rounded = -(-count // unit) * unit
        if count >= unit and (unit < GIB or rounded <= (1 + GIB_WASTES) * count):
            return rounded
    return count


def whole(resource: str, value: float) -> int:
    """In whole units of the resource."""
    return whole_memory(value) if resource == MEMORY else whole_cpu(value)


def fresh_of(kills: Sequence[Kill], at: Seconds) -> list[Kill]:
    """Those of the last 7 days, in their order; times ahead of `at` are somebody's clock, and count as now."""
    return sorted((kill for kill in kills if at - kill.at <= OOM_COUNTS_FOR), key=lambda kill: kill.at)


def evidence(kills: Sequence[Kill], at: Seconds) -> tuple[Bytes, str]:
    """How much memory the kills of the last 7 days ask for, whichever replica it was, and why; 0 without any."""
    fresh = fresh_of(kills, at)
    if not fresh:
        return 0, ""
    level, levels = fresh[0].had, 1
    for kill in fresh:
        if kill.had > SAME_LEVEL * level:
            levels += 1
        level = max(level, kill.had)
    times = OOM_TIMES if levels == 1 else OOM_AGAIN
    needed = max(level + OOM_MORE, math.ceil(level * times))
    again = f", {levels} sizes in a row were not enough" if levels > 1 else ""
    return needed, f"{len(fresh)} OOM kills in 7 d, last with {format_bytes(level)}{again}"


def sized(seen: Seen, ways: Sequence[Way], at: Seconds, memories: Mapping[str, Memory]) -> ContainerSize:
    """One container: its requests, and its limits on wish. A resource of which nothing is known has no sum."""
    requests: list[Sum] = []
    limits: list[Sum] = []
    pasts = {CPU: seen.cpu, MEMORY: seen.memory}
    for way in ways:
        past = pasts[way.name]
        advised = way.rule.advise(past.known, way.aim, memories.get(way.name, ()))
        asked = request(seen, way, past, advised, at)
        if asked is not None:
            requests.append(asked)
            if way.limit > 0:
                limits.append(limit(way, past, asked, seen.limits.get(way.name)))
    fresh = fresh_of(seen.kills, at)
    return ContainerSize(
        name=seen.name,
        requests=tuple(requests),
        limits=tuple(limits),
        startup={
            name: whole(name, past.startup)
            for name, past in pasts.items()
            if math.isfinite(past.startup) and past.startup > 0
        },
        oom_kills=len(fresh),
        worst_replica=max(fresh, key=lambda kill: (kill.had, kill.at)).uid if fresh else seen.memory.worst,
        least={way.name: way.least for way in ways if way.least},
        most={way.name: way.most for way in ways if way.most},
    )


def request(seen: Seen, way: Way, past: Past, advised: Advised, at: Seconds) -> Sum | None:
    """What to ask for of one resource, with the arithmetic; None where nothing is known of it."""
    value, basis = advised.value, advised.basis
    if way.name == MEMORY:
        value, basis = _survived(seen, past, value, basis, at)
    if not math.isfinite(value) or value < 0:
        return None
    amount = whole(way.name, value)
    target, bound = within(amount, way.least, way.most)
    said = f"{shown(way.name, target)} = {basis}"
    if bound:
        edge = f"at {'least' if bound == 'min' else 'most'} {shown(way.name, target)} by bound"
        said = f"{shown(way.name, target)}: {edge}, else {shown(way.name, amount)} = {basis}"
    return Sum(
        resource=way.name,
        now=seen.requests.get(way.name),
        target=target,
        arithmetic=said,
        confidence=confidence(min(seen.last, at) - (seen.first if seen.first is not None else at)),
        bound=bound,
        memory=advised.memory,
    )


def _survived(seen: Seen, past: Past, value: float, basis: str, at: Seconds) -> tuple[float, str]:
    """Memory that neither the kills of the last days nor a start that the limit has to hold can break."""
    needed, why = evidence(seen.kills, at)
    if needed and not value >= needed:  # NaN as well
        value, basis = float(needed), f"{why}: {format_bytes(needed)}"
    is_limit = MEMORY in seen.limits and seen.limits[MEMORY] == seen.requests.get(MEMORY)
    if is_limit and math.isfinite(past.startup) and past.startup > value:
        value, basis = (
            past.startup,
            f"{format_bytes(math.ceil(past.startup))} (start-up peak, the request is the limit)",
        )
    return value, basis


def limit(way: Way, past: Past, asked: Sum, now: int | None) -> Sum:
    """A limit on wish: so many times the request; of memory never below the start-up peak with its margin."""
    value, basis = asked.target * way.limit, f"{shown(way.name, asked.target)} x {way.limit:g}"
    peak = past.startup * (1 + way.aim.margin) * (1000 if way.name == CPU else 1)
    if way.name == MEMORY and math.isfinite(peak) and peak > value:
        value, basis = peak, f"{format_bytes(math.ceil(past.startup))} (start-up peak) x {1 + way.aim.margin:.4g}"
    target = whole_memory(value) if way.name == MEMORY else min(math.ceil(round(value, 6)), LARGEST)
    target, bound = within(target, way.least, max(way.most, asked.target) if way.most else 0)
    return Sum(
        resource=way.name, now=now, target=target, arithmetic=f"{shown(way.name, target)} = {basis}",
        confidence=asked.confidence, bound=bound,
    )  # fmt: skip


def within(amount: int, least: int, most: int) -> tuple[int, str]:
    """An amount held within bounds, and which of them decided."""
    if most and amount > most:
        return most, "max"
    return (least, "min") if amount < least else (amount, "")


def shown(resource: str, amount: int) -> str:
    """An amount as people read it: 2.9 cores, 300m, 1.5Gi."""
    if resource == MEMORY:
        return format_bytes(amount)
    return f"{amount / 1000:.4g} cores" if amount >= 1000 else f"{amount}m"


def differs(before: int | None, target: int, share: Ratio) -> bool:
    """Whether a target is another one than what is in force, and not just a tremble."""
    return before is None or abs(target - before) > share * before


def saved(sizes: Sequence[ContainerSize], replicas: int) -> Resources:
    """What all replicas together ask for less; where nothing was asked for, nothing is saved."""
    total: Resources = {}
    for size in sizes:
        for each in size.requests:
            if each.now is not None:
                total[each.resource] = total.get(each.resource, 0) + (each.now - each.target) * replicas
    return total
