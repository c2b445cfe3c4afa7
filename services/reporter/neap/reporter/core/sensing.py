"""What is read for a report, and what the text comes to.

A *part* is a collector on this machine: its files and its interval in rounds. A *subject* is the node or one
container; for every part it keeps what it last saw. `plan` lists the files that are due, `fold` takes their texts in
the same order. A file whose text did not change is not parsed again, and a container none of whose fields changed is
the same object as in the report before.
Cost: O(files due) + O(parts × containers) comparisons; a few µs per container beside the parsers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from neap.common.model.usage import ContainerUsage, NumaUsage
from neap.common.units import Seconds
from neap.reporter.core.collector import (
    CPU_OF,
    MACHINE,
    NUMA,
    POD,
    Collector,
    Fields,
    Scope,
    Surroundings,
    Values,
    Wants,
)
from neap.reporter.core.containers import ROOT, Place

UNKNOWN_LIMIT: Final = 32

Cpus = frozenset[int]


class Part:
    """A collector on this machine."""

    __slots__ = ("collector", "lacking", "name", "read_bytes", "rounds", "saw", "too_long", "wants")

    def __init__(self, name: str, collector: Collector, rounds: int, around: Surroundings) -> None:
        self.name, self.collector, self.rounds = name, collector, rounds
        self.saw = _view(collector, around)
        self.wants: Wants = collector.wants(around)
        self.lacking = [path for path in collector.lists[:1] if path not in around.names]
        self.read_bytes = self.too_long = 0  # since somebody asked


def _view(collector: Collector, around: Surroundings) -> object:
    """What of the surroundings decides this collector's files."""
    if collector.scope is Scope.CONTAINER and not collector.lists:
        asks = collector.wants(around) != collector.wants(Surroundings())  # most read the same files everywhere
        return around.numa if asks else None
    stems = tuple(pattern.partition("/*")[0] for pattern in collector.lists)
    names = {path: names for path, names in around.names.items() if path.startswith(stems)} if stems else {}
    return (around.numa, around.caches, names)


class Kept:
    """What one part last saw of one subject."""

    __slots__ = ("at", "due", "fields", "missing", "part", "paths", "still", "texts", "values")

    def __init__(self, part: Part, below: str, due: int) -> None:
        self.part, self.due = part, due
        self.paths = [below + path for path, _ in part.wants]
        self.texts: Sequence[str | None] = ()
        self.values: Values | None = None
        self.fields: Fields = {}
        self.missing: Sequence[str] = ()
        self.at: Seconds = 0.0
        self.still = False  # the last two readings were the same

    def take(self, texts: Sequence[str | None], at: Seconds) -> bool:
        """Fold one reading; whether the fields are others than before."""
        seconds, self.at = at - self.at, at
        before = self.values if seconds > 0 else None
        for text in texts:
            if text is not None:
                self.part.read_bytes += len(text)
        if self.values is not None and texts == self.texts:
            if self.still and before is not None:
                return False
            values, self.still = self.values, before is not None
        else:
            values, self.texts, self.still = self._parsed(texts), texts, False
        self.values = values
        fields = self.part.collector.rate(before, values, seconds)
        if fields == self.fields:
            return False
        self.fields = fields
        return True

    def _parsed(self, texts: Sequence[str | None]) -> list[Any]:
        part, values, missing = self.part, list[Any](), list[str]()
        for (path, parse), text in zip(part.wants, texts, strict=True):
            value = None
            if text is not None:
                if len(text) <= part.collector.budget:
                    try:
                        value = parse(text)
                    except (ValueError, IndexError):
                        value = None
                else:
                    part.too_long += 1
            if value is None:
                missing.append(path)
            values.append(value)
        self.missing = missing
        return values


class Subject:
    """The node, or one container. The first reading of what is read rarely is at once, the second one is spread."""

    __slots__ = ("kept", "place", "usage")

    def __init__(self, parts: Iterable[Part], place: Place | None, turn: int) -> None:
        below = "" if place is None else f"{ROOT}/{place.cgroup}/"
        self.place = place
        self.kept = [Kept(part, below, turn) for part in parts]
        self.usage: ContainerUsage | None = None

    def fields(self) -> dict[str, Any]:
        """Everything known about it."""
        found: dict[str, Any] = {}
        for kept in self.kept:
            found.update(kept.fields)
        return found


@dataclass
class Found:
    """What one report came to; `silent` are containers none of whose files was there."""

    node: dict[str, Any] = field(default_factory=dict)
    containers: list[ContainerUsage] = field(default_factory=list)
    silent: list[Place] = field(default_factory=list)
    unknown: Sequence[str] = ()
    missing: int = 0
    lost: bool = False  # a file of the node that was there is not there any more


class Senses:
    """See module docstring. `rounds` says how many reports lie between two readings, by collector."""

    def __init__(self, collectors: Mapping[str, Collector], rounds: Mapping[str, int]) -> None:
        self._collectors, self._rounds = collectors, rounds
        self.lists = tuple(sorted({path for each in collectors.values() for path in each.lists}))
        self._parts: dict[str, Part] = {}
        self._node = Subject((), None, 0)
        self._containers: dict[str, Subject] = {}  # by cgroup
        self._asked: list[tuple[Subject, list[Kept]]] = []
        self._turn = 0
        self.surround(Surroundings())

    def surround(self, around: Surroundings) -> None:
        """Name the files anew; a collector whose files stay the same goes on, the others start afresh."""
        old = self._parts
        self._parts = {
            name: old[name]
            if name in old and old[name].saw == _view(each, around)
            else Part(name, each, self._rounds[name], around)
            for name, each in self._collectors.items()
        }
        self._renew(self._node, Scope.NODE)
        for subject in self._containers.values():
            self._renew(subject, Scope.CONTAINER)

    def _renew(self, subject: Subject, scope: Scope) -> None:
        kept = {one.part.name: one for one in subject.kept}
        fresh = Subject(self._of(scope), subject.place, self._turn).kept
        subject.kept = [
            was if (was := kept.get(one.part.name)) is not None and was.part is one.part else one for one in fresh
        ]
        if any(one in fresh for one in subject.kept):
            subject.usage = None

    def _of(self, scope: Scope) -> list[Part]:
        return [part for part in self._parts.values() if part.collector.scope is scope]

    def plan(self, turn: int, places: Iterable[Place]) -> tuple[str, ...]:
        """The files to read in this round."""
        self._turn = turn
        parts, old, self._containers = self._of(Scope.CONTAINER), self._containers, {}
        for place in places:
            known = old.get(place.cgroup)
            self._containers[place.cgroup] = known or Subject(parts, place, turn)
        self._asked, paths = [], list[str]()
        for subject in (self._node, *self._containers.values()):
            due = [kept for kept in subject.kept if kept.due <= turn]
            self._asked.append((subject, due))
            for kept in due:
                paths += kept.paths
        return tuple(paths)

    def fold(self, texts: Sequence[str | None], at: Seconds) -> Found:
        """Fields of the node and its containers; `texts` are those of the files last planned."""
        found, start, lacking = Found(), 0, dict[str, int]()
        pods = self._take_node(found, texts, at)
        start = sum(len(kept.paths) for kept in self._asked[0][1])
        for position, (subject, due) in enumerate(self._asked[1:]):
            place, changed, is_there, first = subject.place, False, not due, subject.usage is None
            assert place is not None, "a container has a place"
            for kept in due:
                end = start + len(kept.paths)
                changed |= kept.take(texts[start:end], at)
                is_there |= len(kept.missing) < end - start
                kept.due = self._turn + (1 + position % kept.part.rounds if first else kept.part.rounds)
                start = end
            if not is_there:
                found.silent.append(place)
                self._containers.pop(place.cgroup, None)
                continue
            if changed or subject.usage is None:
                subject.usage = ContainerUsage(
                    uid=place.uid, container=place.container, cgroup=place.cgroup, **subject.fields()
                )
            found.containers.append(subject.usage)
            for name in dict.fromkeys([name for kept in subject.kept for name in kept.missing]):
                lacking[name] = lacking.get(name, 0) + 1
        if pods:
            found.containers = _with_pods(found.containers, pods)
        gone = [path for part in self._parts.values() for path in part.lacking]
        missing = list(dict.fromkeys([*gone, *(path for kept in self._node.kept for path in kept.missing)]))
        missing += [f"{name} of {count} container{'s' * (count > 1)}" for name, count in sorted(lacking.items())]
        found.missing, found.unknown = len(missing), missing
        return found

    def _take_node(self, found: Found, texts: Sequence[str | None], at: Seconds) -> dict[str, Mapping[str, Any]]:
        start = 0
        for position, kept in enumerate(self._asked[0][1]):
            end, missed, first = start + len(kept.paths), kept.missing, kept.values is None
            kept.take(texts[start:end], at)
            found.lost |= bool(kept.part.collector.lists) and not first and len(kept.missing) > len(missed)
            kept.due = self._turn + (1 + position % kept.part.rounds if first else kept.part.rounds)
            start = end
        found.node = self._node.fields()
        return {
            name.removeprefix(POD): values
            for name, values in found.node.items()
            if name.startswith(POD) and any(value is not None for value in values.values())
        }

    def spent(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes read and files too long, by collector, since this was last asked."""
        read = {part.name: part.read_bytes for part in self._parts.values() if part.read_bytes}
        refused = {part.name: part.too_long for part in self._parts.values() if part.too_long}
        for part in self._parts.values():
            part.read_bytes = part.too_long = 0
        return read, refused


def numa_usage(cpus_of: Mapping[int, Cpus], node: Fields) -> tuple[NumaUsage, ...]:
    """Per NUMA node: the sum over its CPUs if all are known, and its own; an only node has what the machine has."""
    busy_of = node.get(CPU_OF, {})
    own = {name.removeprefix(NUMA): values for name, values in node.items() if name.startswith(NUMA)}
    alone = len(cpus_of) == 1
    return tuple(
        NumaUsage(
            index=index,
            cpu=sum(busy_of[cpu] for cpu in sorted(cpus)) if busy_of and busy_of.keys() >= cpus else None,
            **{
                name: value if (value := of.get(index)) is not None or not alone else of.get(MACHINE)
                for name, of in own.items()
            },
        )
        for index, cpus in sorted(cpus_of.items())
    )


def _with_pods(containers: Sequence[ContainerUsage], pods: Mapping[str, Mapping[str, Any]]) -> list[ContainerUsage]:
    """What is known per pod, told of its container if it has but one: a sum cannot be told apart."""
    often: dict[str, int] = {}
    for one in containers:
        often[one.uid] = often.get(one.uid, 0) + 1
    found = []
    for one in containers:
        fields = {name: of[one.uid] for name, of in pods.items() if of.get(one.uid) is not None}
        found.append(replace(one, **fields) if fields and often[one.uid] == 1 else one)
    return found


def capped(unknown: Sequence[str]) -> tuple[str, ...]:
    """As many names as a report carries, and how many more there are."""
    more = len(unknown) - UNKNOWN_LIMIT
    return tuple(unknown) if more <= 0 else (*unknown[:UNKNOWN_LIMIT], f"and {more} more")
