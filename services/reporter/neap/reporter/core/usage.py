"""One report: which files it needs, and what their text comes to.

The plan lists all paths once: the node's files, then those of each container, in the order of the collectors. `fold`
walks the texts in the same order and remembers texts and values: for the next report's rates, and because much of
what a calm node shows is what it showed before, and need not be parsed again.
Cost: O(files); about 10 µs per container beside the parsers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neap.common.model.usage import ContainerUsage, NumaUsage
from neap.common.units import Seconds
from neap.reporter.core.collector import CPU_OF, FREE_OF, MACHINE, Collector, Fields, Scope, Values, Wants
from neap.reporter.core.containers import ROOT, Place

UNKNOWN_LIMIT: Final = 32

Cpus = frozenset[int]


@dataclass(frozen=True, slots=True)
class Part:
    """A collector and the files it gets."""

    collector: Collector
    wants: Wants


@dataclass(frozen=True, slots=True)
class Plan:
    """What one report reads."""

    node: tuple[Part, ...]
    container: tuple[Part, ...]
    places: tuple[Place, ...]
    paths: tuple[str, ...]


@dataclass
class Found:
    """What one report came to; `silent` are containers none of whose files was there."""

    node: dict[str, Any] = field(default_factory=dict)
    containers: list[ContainerUsage] = field(default_factory=list)
    silent: list[Place] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    missing: int = 0


def plan(collectors: Iterable[Collector], numa: Sequence[int], places: Iterable[Place]) -> Plan:
    """The files of this report."""
    parts = [Part(collector, collector.wants(numa)) for collector in collectors]
    node = tuple(part for part in parts if part.collector.scope is Scope.NODE)
    container = tuple(part for part in parts if part.collector.scope is Scope.CONTAINER)
    names = [f"/{name}" for part in container for name, _ in part.wants]
    here = tuple(places)
    paths = [path for part in node for path, _ in part.wants]
    for place in here:
        below = f"{ROOT}/{place.cgroup}"
        paths += [below + name for name in names]
    return Plan(node, container, here, tuple(paths))


@dataclass(frozen=True, slots=True)
class Seen:
    """The files of the node or of one container: their texts, and per collector what they came to."""

    texts: Sequence[str | None]
    values: list[Values]


class UsageFold:
    """Remembers what the last report saw; folds the texts of the next one."""

    def __init__(self) -> None:
        self.node: Seen | None = None
        self.containers: dict[str, Seen] = {}  # by cgroup
        self._paths: tuple[str, ...] = ()

    def fold(self, planned: Plan, texts: Sequence[str | None], seconds: Seconds) -> Found:
        """Fields of the node and its containers; with `seconds` <= 0 nothing that needs a rate."""
        found = Found()
        paths = tuple(path for part in planned.node for path, _ in part.wants)
        before = self.node if seconds > 0 and self._paths == paths else None
        self.node, self._paths = _seen(planned.node, texts[: len(paths)], before), paths
        found.node = _fields(planned.node, before, self.node, seconds)
        missing = _missing(planned.node, self.node)
        lacking: dict[str, int] = {}
        earlier, self.containers = self.containers if seconds > 0 else {}, {}
        start, each = len(paths), sum(len(part.wants) for part in planned.container)
        for place in planned.places:
            was = earlier.get(place.cgroup)
            now = _seen(planned.container, texts[start : start + each], was)
            start += each
            if all(value is None for values in now.values for value in values):
                found.silent.append(place)
                continue
            fields = _fields(planned.container, was, now, seconds)
            found.containers.append(
                ContainerUsage(uid=place.uid, container=place.container, cgroup=place.cgroup, **fields)
            )
            self.containers[place.cgroup] = now
            for name in _missing(planned.container, now):
                lacking[name] = lacking.get(name, 0) + 1
        missing += [f"{name} of {count} container{'s' * (count > 1)}" for name, count in sorted(lacking.items())]
        found.missing, found.unknown = len(missing), _capped(missing)
        return found


def numa_usage(cpus_of: Mapping[int, Cpus], node: Fields) -> tuple[NumaUsage, ...]:
    """Per NUMA node: the sum over its CPUs if all are known, and what is free; of an only node, what the machine has."""
    busy_of, free_of = node.get(CPU_OF, {}), node.get(FREE_OF, {})
    otherwise = free_of.get(MACHINE) if len(cpus_of) == 1 else None
    return tuple(
        NumaUsage(
            index=index,
            cpu=sum(busy_of[cpu] for cpu in sorted(cpus)) if busy_of and busy_of.keys() >= cpus else None,
            memory_free=free_of.get(index, otherwise),
        )
        for index, cpus in sorted(cpus_of.items())
    )


def _seen(parts: Iterable[Part], texts: Sequence[str | None], before: Seen | None) -> Seen:
    """One value per file, per collector; missing and broken ones are None."""
    found: list[Values] = []
    start = 0
    for number, part in enumerate(parts):
        end = start + len(part.wants)
        mine = texts[start:end]
        if before is not None and before.texts[start:end] == mine:
            found.append(before.values[number])
        else:
            found.append([_parsed(parse, text) for (_, parse), text in zip(part.wants, mine, strict=True)])
        start = end
    return Seen(texts, found)


def _parsed(parse: Callable[[str], Any], text: str | None) -> Any:
    try:
        return None if text is None else parse(text)
    except (ValueError, IndexError):
        return None


def _fields(parts: Iterable[Part], before: Seen | None, now: Seen, seconds: Seconds) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for number, part in enumerate(parts):
        fields.update(part.collector.rate(before.values[number] if before else None, now.values[number], seconds))
    return fields


def _missing(parts: Iterable[Part], now: Seen) -> list[str]:
    return [
        path
        for part, values in zip(parts, now.values, strict=True)
        if None in values
        for (path, _), value in zip(part.wants, values, strict=True)
        if value is None
    ]


def _capped(unknown: list[str]) -> tuple[str, ...]:
    more = len(unknown) - UNKNOWN_LIMIT
    return tuple(unknown) if more <= 0 else (*unknown[:UNKNOWN_LIMIT], f"and {more} more")
