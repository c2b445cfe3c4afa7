"""What a pod will probably use once it runs, before anyone could measure it.

    per container   a limit above the request          -> the limit
                    a request                           -> request × factor (cpu 0.85, memory 0.70)
                    neither                             -> 250 milli-cores, 200 MiB

Whole numbers, so that adding and taking away again leaves no trace. A profile of the service replaces the guess
when there is one (not yet).
Source: Koordinator, load-aware scheduling, default estimator; requirements 2.4 and 004-33.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.units import MIB, Bytes, MilliCores, Ratio

Factor = Annotated[Ratio, Meta(gt=0, le=10)]


class Guess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests become expected use."""

    cpu: Factor = 0.85  # of the CPU request
    memory: Factor = 0.70  # of the memory request
    cpu_unasked: MilliCores = 250  # of a container that says nothing about CPU
    memory_unasked: Bytes = 200 * MIB  # of a container that says nothing about memory


class Estimate(NamedTuple):
    """Expected use of one pod."""

    cpu: MilliCores
    memory: Bytes


def estimate(workload: Workload, guess: Guess) -> Estimate:
    """Sum over the containers; see module docstring."""
    cpu = memory = 0
    for container in workload.containers:
        cpu += _one(container, (CPU, RECLAIMED_CPU), guess.cpu, guess.cpu_unasked)
        memory += _one(container, (MEMORY, RECLAIMED_MEMORY), guess.memory, guess.memory_unasked)
    return Estimate(cpu, memory)


def _one(container: Container, kinds: tuple[str, ...], factor: float, unasked: int) -> int:
    request = sum(container.requests.get(kind, 0) for kind in kinds)
    limit = sum(container.limits.get(kind, 0) for kind in kinds)
    if limit > request:
        return limit
    return round(request * factor) if request else unasked
