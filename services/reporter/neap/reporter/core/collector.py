"""What a collector is: the files it wants, how each is parsed, and which fields come of it.

A collector never reads. The reporter gathers the paths of all collectors that are due, reads them in one call, parses
each text with its parser, and hands `rate` the parsed values of this reading and of the one before. Between two
readings a report repeats what the last one came to, so no number is older than its collector's interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from neap.common.units import KIB, Bytes, Seconds

Parser: TypeAlias = Callable[[str], Any]  # raises ValueError or IndexError when the text is not what it should be
Values: TypeAlias = Sequence[Any]  # one per file; None: missing or broken
Wants: TypeAlias = tuple[tuple[str, Parser], ...]
Fields: TypeAlias = Mapping[str, Any]  # of NodeUsage or ContainerUsage; for a node also the keys below

CPU_OF: Final = "cpu_of"  # CPU -> cores busy; summed up per NUMA node by the report
NUMA: Final = "numa."  # before a field of NumaUsage: NUMA node, or MACHINE -> value
POD: Final = "pod."  # before a field of ContainerUsage: uid -> value, for pods of one container
MACHINE: Final = -1  # stands for the only NUMA node of a machine that names none

OFTEN: Final[Seconds] = 0.0  # in every report
CALM: Final[Seconds] = 5.0  # what costs the kernel a walk over its counters, and nobody reacts to within a second
RARE: Final[Seconds] = 60.0  # what changes when somebody reconfigures the machine


class Scope(StrEnum):
    """What a collector is about."""

    NODE = "node"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a collector may know before it names its files."""

    numa: tuple[int, ...] = ()  # NUMA nodes that sysfs has; not an implied one
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # in directories that were asked for and exist
    caches: tuple[tuple[int, int], ...] = ()  # lowest CPU of each L3 that lies in one NUMA node, and that node

    def listed(self, directory: str) -> tuple[str, ...]:
        """Names in a directory of `lists`; none if it is not there."""
        return self.names.get(directory, ())


@dataclass(frozen=True, slots=True)
class Collector:
    """One collector.

    wants: (path, parser) pairs, given the surroundings; for a container, names within its cgroup.
    rate: (values before, values now, seconds between) -> fields; `before` is None in the first reading. Whatever
        cannot be known is None or left out, never 0. The same values again must give the same fields whatever the
        seconds: then it is not asked again.
    every: seconds between two readings, rounded to whole reports; 0 is every report.
    lists: directories whose names `wants` needs; a `*` stands for every name of the directory before it.
    budget: bytes that one file may have; a longer one is unknown, and named.
    """

    scope: Scope
    wants: Callable[[Surroundings], Wants]
    rate: Callable[[Values | None, Values, Seconds], Fields]
    every: Seconds = OFTEN
    lists: tuple[str, ...] = ()
    budget: Bytes = 64 * KIB


def always(*wants: tuple[str, Parser]) -> Callable[[Surroundings], Wants]:
    """The same files on every machine."""
    return lambda _surroundings: wants


def growth(before: int | None, now: int | None, *, wrap: int = 0, most: float = 0.0) -> int | None:
    """How much a counter grew; None when it was reset or either end is unknown.

    A counter that starts again at `wrap` may have done so if it then grew by no more than `most`; if more, it was
    reset.
    """
    if before is None or now is None:
        return None
    if now >= before:
        return now - before
    wrapped = now + wrap - before
    return wrapped if before < wrap and wrapped <= most else None


def per_second(before: int | None, now: int | None, seconds: Seconds) -> float | None:
    """A counter's growth over the time between."""
    grown = growth(before, now)
    return None if grown is None else grown / seconds


def known_sum(parts: Sequence[Any]) -> Any:
    """The sum if there is a part and every part is known."""
    return sum(parts) if parts and None not in parts else None
