"""Which placed pods a selector means, and how many of them are where.

    family   the pods of one namespace with the same labels: replicas of one thing, by row
    crowd    the pods that all of some selectors mean: families, by row
    tally    a crowd by domain: how many of it are on nodes with this value of a label (and within an area)
    bearing  what running pods say of pods to come: a term, and the domains of those who say it

Selectors are found by one label they insist on (Index), so that a pod is held against few of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from neap.common.model.scheduling import Expression, NodeTerm, Operator, PodTerm
from neap.common.model.workload import Workload
from neap.scheduler.core.nodes.labels import Counts, Key, holds

T = TypeVar("T", bound=Hashable)
Anchor: TypeAlias = tuple[str, str] | None

HARD_WEIGHT = 1  # of a running pod's required affinity in the score of pods it wants near (Kubernetes' default)


class Among(NamedTuple):
    """Pods with such labels in these namespaces."""

    namespaces: tuple[str, ...]
    selector: tuple[Expression, ...]

    def has(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod is meant."""
        return namespace in self.namespaces and all(holds(one, labels.get(one.key)) for one in self.selector)


Together: TypeAlias = tuple[Among, ...]  # pods that every one of them means


def among(term: PodTerm, namespace: str) -> Among:
    """Whom a term of a pod of this namespace means."""
    return Among(tuple(sorted(set(term.namespaces))) or (namespace,), term.selector)


def all_have(together: Together, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether every one means a pod; nobody is meant by none."""
    return bool(together) and all(one.has(namespace, labels) for one in together)


def anchors(together: Together) -> list[Anchor]:
    """A pod that is meant carries one of these labels; None if nothing can be said."""
    for one in together:
        for expression in one.selector:
            if expression.operator is Operator.IN:
                return [(expression.key, value) for value in dict.fromkeys(expression.values)]
    return [None]


class Index(Generic[T]):
    """What insists on labels, by them."""

    def __init__(self) -> None:
        self._by: dict[Anchor, dict[T, None]] = {}

    def put(self, places: Iterable[Anchor], item: T) -> None:
        """Keep it under each."""
        for place in places:
            self._by.setdefault(place, {})[item] = None

    def drop(self, places: Iterable[Anchor], item: T) -> None:
        """Keep it no longer."""
        for place in places:
            del self._by[place][item]
            if not self._by[place]:
                del self._by[place]

    def of(self, labels: Mapping[str, str]) -> Iterator[T]:
        """What could mean a pod with these labels, each once: a pod has one value per label."""
        yield from self._by.get(None, ())
        for place in labels.items():
            yield from self._by.get(place, ())

    def at(self, places: Iterable[Anchor]) -> Iterator[T]:
        """What is kept under any of these places; each once if no two of them meet."""
        for place in places:
            yield from self._by.get(place, ())


class Family:
    """See module docstring."""

    __slots__ = ("crowds", "labels", "namespace", "rows")

    def __init__(self, namespace: str, labels: Mapping[str, str]) -> None:
        self.namespace, self.labels = namespace, labels
        self.rows: dict[int, int] = {}
        self.crowds: dict[Crowd, None] = {}


class Area:
    """The nodes whose pods a spread counts: those the pod selects, with every label it spreads over."""

    __slots__ = ("keys", "mask", "required", "selector", "sizes")

    def __init__(self, selector: tuple[Expression, ...], required: tuple[NodeTerm, ...], keys: tuple[str, ...]) -> None:
        self.selector, self.required, self.keys = selector, required, keys
        self.mask = bytearray()  # by row
        self.sizes: dict[str, Counts] = {}  # by key: nodes by number

    def has(self, row: int) -> bool:
        """Whether a row is in it."""
        return row < len(self.mask) and bool(self.mask[row])


class Tally:
    """See module docstring."""

    __slots__ = ("area", "counts", "crowd", "key", "serial", "total")

    def __init__(self, crowd: Crowd, key: Key, area: Area | None, serial: int) -> None:
        self.crowd, self.key, self.area, self.serial = crowd, key, area, serial
        self.counts, self.total = Counts(), 0

    def add(self, number: int, amount: int) -> None:
        """So many pods more where a label has this value; nothing where nodes lack it."""
        if number:
            self.counts.add(number, amount)
            self.total += amount


class Crowd:
    """See module docstring."""

    __slots__ = ("families", "rows", "tallies", "together")

    def __init__(self, together: Together) -> None:
        self.together = together
        self.families: dict[Family, None] = {}
        self.rows: dict[int, int] = {}
        self.tallies: dict[Tally, None] = {}

    def add(self, row: int, amount: int) -> None:
        """So many pods more on a row."""
        count = self.rows.get(row, 0) + amount
        if count:
            self.rows[row] = count
        else:
            del self.rows[row]


class Said(NamedTuple):
    """One term of a pod, as others hear it: keep away, or so much better liked."""

    apart: bool
    topology: str
    among: Among


def said_by(workload: Workload) -> Sequence[tuple[Said, int]]:
    """What a pod says of pods to come once it runs, with its weight."""
    wish, home = workload.constraints, workload.namespace
    if not (wish.near or wish.apart or wish.near_preferred or wish.apart_preferred):
        return ()
    return [
        *((Said(True, term.topology, among(term, home)), 1) for term in wish.apart),
        *((Said(False, term.topology, among(term, home)), HARD_WEIGHT) for term in wish.near),
        *((Said(False, term.topology, among(term, home)), term.weight) for term in wish.near_preferred),
        *((Said(False, term.topology, among(term, home)), -term.weight) for term in wish.apart_preferred),
    ]


class Bearing:
    """See module docstring. `rows`: how many say it, and their weights together."""

    __slots__ = ("counts", "key", "rows", "said", "serial")

    def __init__(self, said: Said, key: Key, serial: int) -> None:
        self.said, self.key, self.serial = said, key, serial
        self.rows: dict[int, tuple[int, int]] = {}
        self.counts = Counts()  # weights by number

    def add(self, row: int, number: int, sign: int, weight: int) -> None:
        """One pod more or less says it on a row."""
        count, sum_ = self.rows.get(row, (0, 0))
        if count + sign:
            self.rows[row] = (count + sign, sum_ + sign * weight)
        else:
            del self.rows[row]
        if number:
            self.counts.add(number, sign * weight)
