"""How much idle GPU is stranded on nodes: left over, and of no use to the pods that usually come.

    F(node) = Σ_m p(m) · useless(node, m)                          over the typical pods m     [milli-cards]
    E(node) = max(0, idle − c · G / C)                                                         [milli-cards]

useless to m is what is idle on the cards m could not use: on those with less left than m asks per card (of compute, of
memory) or of a model m does not allow; on all of them if m asks no card, or asks more CPU or more such cards than the
node has left. F is what the *next* pod sees. E is what the last one will see: c CPU is left, typical pods with cards
ask C milli-cores for G milli-cards, and cards beyond what the CPU left can feed at that rate stay idle.

Slices and single cards see one card at a time, so F is a sum over cards of what a table says of one,

    useful = Σ_cards left · S[model, left, memory left, c]  +  W[model, untouched cards, c]

S: typical pods that ask one card and find enough on this one; W: those that ask several, times the cards they see.
Left, memory and c only count by which typical asks they cover, so the tables are small; they hold counts of pods, whole
numbers, so F is exact. On a node with cards of several models a wide pod is thought to take cards of one of them.

Source: F: Weng et al., USENIX ATC 2023, section 3. E and the tables are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neap.scheduler.core.nodes.cards import CARDS
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.view import Mask, Numbers
from neap.scheduler.core.pods.typical import CARD, Typical

Whole = NDArray[np.int64]
add: Final = np.add.reduce
UNBOUNDED: Final = 1 << 53  # MiB, where nobody counts memory


class Room(NamedTuple):
    """What is left of nodes. A card that is not there has nothing left; `open` are those the pod may have."""

    cpu: Numbers  # (rows,), milli-cores
    cards: Whole  # (rows, cards), milli
    memory: Whole  # (rows, cards), MiB
    models: Whole  # (rows, cards), codes
    open: Mask  # (rows, cards)

    def of(self, rows: Any) -> Room:
        """Some rows."""
        return Room(*(column[rows] for column in self))


class Ask(NamedTuple):
    """Cards for one container."""

    cards: int
    core: int  # of each, milli
    memory: int = 0  # of each, MiB


class Mix:
    """Typical pods as tables. `total`: of the shares; their sum if 0."""

    def __init__(self, typical: Iterable[Typical], *, total: int = 0) -> None:
        self.typical = tuple(typical)
        self._all = sum(pod.pods for pod in self.typical)
        self._total = total or self._all
        wanting = [pod for pod in self.typical if pod.cards]
        if any(pod.cards > 1 and pod.core != CARD for pod in wanting):
            raise ValueError("no pod asks parts of several cards")
        self._models = np.array(sorted({code(model) for pod in wanting for model in pod.models}), dtype=np.int64)
        self._cpus = np.unique([pod.cpu for pod in wanting]).astype(np.float64)
        self._memories = np.unique([pod.memory for pod in wanting if pod.memory]).astype(np.int64)
        sizes = np.unique([pod.core for pod in wanting])
        size = np.searchsorted(sizes, np.arange(CARD + 1), side="right")  # asks a card of so much left covers
        shape = len(self._models) + 1, len(sizes) + 1, len(self._memories) + 1, len(self._cpus) + 1
        single, wide = np.zeros(shape, dtype=np.int64), np.zeros((shape[0], CARDS + 1, shape[3]), dtype=np.int64)
        for pod in wanting:
            kinds = np.searchsorted(self._models, [code(m) for m in pod.models]) + 1 if pod.models else slice(None)
            level = np.searchsorted(self._cpus, pod.cpu) + 1
            if pod.cards == 1:
                memory = np.searchsorted(self._memories, pod.memory, "right") if pod.memory else 0
                single[kinds, size[pod.core] :, memory:, level:] += pod.pods
            elif pod.cards <= CARDS:
                wide[kinds, pod.cards :, level:] += pod.pods
        self._single, self._size = single.ravel(), size * (shape[2] * shape[3])
        self._strides = shape[1] * shape[2] * shape[3], shape[3]
        wide *= (CARD * np.arange(CARDS + 1))[:, None]
        self._wide, self._lost = wide.ravel(), (wide[:, [0, *range(CARDS)]] - wide).ravel()
        self._wide_stride = shape[3]
        self._kinds = np.arange(shape[0]) * (CARDS + 1) * shape[3]
        self.depth = shape[3]  # levels of CPU
        cpu = sum(pod.pods * pod.cpu for pod in wanting)
        self.fed = sum(pod.pods * pod.cards * pod.core for pod in wanting) / cpu if cpu else None  # by a milli-core

    @property
    def names_models(self) -> bool:
        """Whether the models of cards matter."""
        return bool(len(self._models))

    @property
    def counts_memory(self) -> bool:
        """Whether the memory of cards matters."""
        return bool(len(self._memories))

    def levels(self, cpu: Numbers) -> Whole:
        """Which typical asks of CPU are covered."""
        return self._cpus.searchsorted(cpu, side="right")

    def kinds(self, models: Whole) -> Whole:
        """Which typical pods name a model, as steps in the table; nobody names the first."""
        if not self.names_models:
            return np.zeros_like(models)
        place = np.minimum(np.searchsorted(self._models, models), len(self._models) - 1)
        found: Whole = (place + 1) * (self._models[place] == models)
        return found

    def single(self, kinds: Whole, cards: Whole, memory: Whole, levels: Whole) -> Whole:
        """Milli-cards of each card that are of use, times pods, to those that ask one. Shape (rows, cards)."""
        place = self._size[cards] + levels[:, None]
        if self.names_models:
            place += kinds * self._strides[0]
        if self.counts_memory:
            place += np.searchsorted(self._memories, memory, side="right") * self._strides[1]
        found: Whole = self._single[place]
        found *= cards
        return found

    def wide(self, untouched: Whole, levels: Whole) -> Whole:
        """Milli-cards of use, times pods, to those that ask several, by kind. Shapes (rows, kinds)."""
        found: Whole = self._wide[self._wide_places(untouched, levels)]
        return found

    def _wide_places(self, untouched: Whole, levels: Whole) -> Whole:
        return self._kinds + untouched * self._wide_stride + levels[:, None]

    def untouched(self, kinds: Whole, cards: Whole) -> Whole:
        """Untouched cards by kind. Shape (rows, kinds)."""
        whole = cards == CARD
        count = len(self._kinds)
        if count == 1:
            counts: Whole = add(whole, axis=1, dtype=np.int64)
        else:
            place = (np.arange(len(cards)) * count)[:, None] + kinds
            counts = np.bincount(place[whole], minlength=len(cards) * count)
        return counts.reshape(-1, count)

    def useful(self, kinds: Whole, cards: Whole, memory: Whole, levels: Whole) -> Whole:
        """Milli-cards of use, times pods. Shape (rows,)."""
        wide = self.wide(self.untouched(kinds, cards), levels)
        found: Whole = add(self.single(kinds, cards, memory, levels), axis=1) + add(wide, axis=1)
        return found

    def stranded(self, idle: Whole, useful: Whole) -> Numbers:
        """F, of what is idle and how much of it is useful, times pods."""
        fragments: Numbers = (self._all * idle - useful) / self._total
        return fragments

    def with_slice(self, kinds: Whole, cards: Whole, memory: Whole, levels: Whole, ask: Ask) -> Numbers:
        """F with a slice on each of the cards, whether it fits or not. Shape (rows, cards)."""
        after = np.maximum(cards - ask.core, 0)
        had, untouched = self.single(kinds, cards, memory, levels), self.untouched(kinds, cards)
        places = self._wide_places(untouched, levels)
        useful = self.single(kinds, after, memory - ask.memory, levels) - had  # of a card, once the slice is on it
        useful += (add(had, axis=1) + add(self._wide[places], axis=1))[:, None]
        lost = self._lost[places]  # wide pods see one card less
        useful += (cards == CARD) * (lost if lost.shape[1] == 1 else np.take_along_axis(lost, kinds, axis=1))
        return self.stranded((add(cards, axis=1) - ask.core)[:, None], useful)

    def unfed(self, idle: Whole, cpu: Numbers) -> Numbers:
        """E: what the CPU left cannot feed."""
        return np.zeros(len(idle)) if self.fed is None else np.maximum(0.0, idle - cpu * self.fed)

    def fragments(self, kinds: Whole, cards: Whole, memory: Whole, levels: Whole) -> Numbers:
        """F of nodes, by levels of CPU."""
        return self.stranded(add(cards, axis=1), self.useful(kinds, cards, memory, levels))

    def fragmentation(self, room: Room) -> Numbers:
        """F of nodes."""
        return self.fragments(self.kinds(room.models), room.cards, room.memory, self.levels(room.cpu))
