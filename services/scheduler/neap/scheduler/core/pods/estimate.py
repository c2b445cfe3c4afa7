"""What a pod will probably use once it runs, before anyone could measure it.

    a portrait of its service               -> the largest of its 24 hours
    else, per container
      a limit above the request             -> the limit
      a request                             -> request × factor (cpu 0.85, memory 0.70)
      neither                               -> 250 milli-cores, 200 MiB

Whole numbers, so that adding and taking away again leaves no trace. A kind without portrait is guessed, at every hour
the same. Who keeps the portraits is portraits.py.
Source: Koordinator, load-aware scheduling, default estimator; Katalyst LoadAware (PR654) for portraits; requirements
2.4 and 004-33.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.model.resource import CPU, LARGEST, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.units import MIB, Bytes, MilliCores, Ratio

HOURS: Final = 24
KINDS: Final = (CPU, MEMORY)
Factor = Annotated[Ratio, Meta(gt=0, le=10)]


class Guess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests become expected use."""

    cpu: Factor = 0.85  # of the CPU request
    memory: Factor = 0.70  # of the memory request
    cpu_unasked: Annotated[MilliCores, Meta(ge=0, le=1_000_000)] = 250  # of a container that says nothing about CPU
    memory_unasked: Annotated[Bytes, Meta(ge=0, le=1 << 50)] = 200 * MIB  # of one that says nothing about memory


class Portrait(NamedTuple):
    """Expected use of one pod in each hour of the day (UTC), milli-cores and bytes. Lengths 24."""

    cpu: tuple[int, ...]
    memory: tuple[int, ...]


class Estimate(NamedTuple):
    """Expected use of one pod; `portrait` where its service has one."""

    cpu: MilliCores
    memory: Bytes
    portrait: Portrait | None = None

    @property
    def amounts(self) -> tuple[int, int]:
        """Milli-cores and bytes."""
        return self.cpu, self.memory


MOST: Final = LARGEST >> 10  # of one pod, so that sums stay exact in float64 columns


def estimate(workload: Workload, guess: Guess, portrait: Mapping[str, Sequence[float]] | None = None) -> Estimate:
    """See module docstring. `portrait` by kind, as in the service's profile; one that is none counts as absent."""
    cpu = memory = 0
    for container in workload.containers:
        cpu += _one(container, CPU, RECLAIMED_CPU, guess.cpu, guess.cpu_unasked)
        memory += _one(container, MEMORY, RECLAIMED_MEMORY, guess.memory, guess.memory_unasked)
    cpu, memory = min(cpu, MOST), min(memory, MOST)
    if not portrait:
        return Estimate(cpu, memory)
    hours = {kind: whole for kind in KINDS if (whole := _hours(portrait.get(kind, ())))}
    if not hours:
        return Estimate(cpu, memory)
    told = Portrait(hours.get(CPU, (cpu,) * HOURS), hours.get(MEMORY, (memory,) * HOURS))
    return Estimate(max(told.cpu), max(told.memory), told)


def _hours(amounts: Sequence[float]) -> tuple[int, ...]:
    """24 whole amounts, rounded up; empty if this is no portrait."""
    lawful = len(amounts) == HOURS and all(math.isfinite(amount) and 0 <= amount <= MOST for amount in amounts)
    return tuple(map(math.ceil, amounts)) if lawful else ()


def _one(container: Container, owned: str, lent: str, factor: float, unasked: int) -> int:
    requests, limits = container.requests, container.limits
    request = requests.get(owned, 0) + requests.get(lent, 0)
    limit = limits.get(owned, 0) + limits.get(lent, 0) if limits else 0
    if limit > request:
        return limit
    return round(request * factor) if request else unasked
