"""What a collector is: the files it wants, how each is parsed, and which fields come of it.

A collector never reads. The reporter gathers the paths of all collectors, reads them in one call, parses each text
with its parser, and hands `rate` the parsed values of this report and of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from neap.common.units import Seconds

Parser: TypeAlias = Callable[[str], Any]  # raises ValueError or IndexError when the text is not what it should be
Values: TypeAlias = Sequence[Any]  # one per file; None: missing or broken
Wants: TypeAlias = tuple[tuple[str, Parser], ...]
Fields: TypeAlias = Mapping[str, Any]  # of NodeUsage or ContainerUsage; for a node also CPU_OF and FREE_OF

CPU_OF = "cpu_of"  # CPU -> cores busy; summed up per NUMA node by the report
FREE_OF = "free_of"  # NUMA node, or MACHINE -> bytes free
MACHINE = -1


class Scope(StrEnum):
    """What a collector is about."""

    NODE = "node"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Collector:
    """One collector.

    wants: (path, parser) pairs, given the NUMA nodes' numbers; for a container, names within its cgroup.
    rate: (values before, values now, seconds between) -> fields; `before` is None in the first report. Whatever
        cannot be known is None or left out, never 0.
    """

    scope: Scope
    wants: Callable[[Sequence[int]], Wants]
    rate: Callable[[Values | None, Values, Seconds], Fields]


def always(*wants: tuple[str, Parser]) -> Callable[[Sequence[int]], Wants]:
    """The same files on every machine."""
    return lambda _numa: wants


def growth(before: int | None, now: int | None) -> int | None:
    """How much a counter grew; None when it was reset or either end is unknown."""
    return now - before if before is not None and now is not None and now >= before else None
