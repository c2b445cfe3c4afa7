"""Shares of GPUs: which asks are legal, what fits on a card, which cards a pod gets.

Compute is counted in percent of a card, memory in MiB, per *container*. Scheduler and gpushare decide with this
one page, so what the one gives the other accepts. Everything is exact: integers, and fractions where scores are
compared, because ties are the rule (see `choose_cards`).

    legal ask                      core 1..100 with memory >= 256 MiB (a slice of one card), or
                                   core k·100 without memory (k whole cards, all of their memory)
    fits on a card                 core <= core left, memory <= memory left, at most 16 containers on the card;
                                   a whole card must be untouched

Source: requirements 2.3 (validation table and scoring definition, after the public mGPU proposal).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from fractions import Fraction
from itertools import combinations
from math import comb, lcm, prod
from typing import Final, TypeAlias

import msgspec

from neap.common.errors import InputError
from neap.common.model.placement import GpuShare
from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.common.model.topology import Card
from neap.common.model.workload import Container, Workload

WHOLE_CARD: Final = 100  # percent
LEAST_MEMORY_MIB: Final = 256  # a slice below this cannot even hold a CUDA context
MOST_CONTAINERS: Final = 16  # per card
MOST_CARDS: Final = 64  # per container; no machine has more
CHECK_LIMIT: Final = 20_000  # admission checks and leaves of one search, some tens of milliseconds

CardLists: TypeAlias = tuple[tuple[int, ...], ...]  # per container, the cards it gets


class GpuAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What one container wants: `cards` cards, of each `core` percent and `memory_mib` (0: all, for whole cards)."""

    container: str
    cards: int
    core: int
    memory_mib: int

    @property
    def whole(self) -> bool:
        """Whole cards, shared with nobody."""
        return self.memory_mib == 0


def gpu_ask(container: Container) -> GpuAsk | None:
    """The card ask of a container, or None if it wants no GPU.

    Raises:
        InputError: a rule is broken; names the container and the numbers.
    """
    core, memory = container.requests.get(GPU_CORE, 0), container.requests.get(GPU_MEMORY, 0)
    if core == 0 and memory == 0:
        return None
    where = f"container {container.name}"
    if core <= 0 or memory < 0:
        raise InputError(f"{where}: {GPU_CORE}={core} with {GPU_MEMORY}={memory}; compute must be at least 1 %")
    if core > WHOLE_CARD and core % WHOLE_CARD:
        raise InputError(f"{where}: {GPU_CORE}={core} must be 1..100 or a multiple of 100")
    if core > MOST_CARDS * WHOLE_CARD:
        raise InputError(f"{where}: {GPU_CORE}={core} is more than {MOST_CARDS} cards")
    if core >= WHOLE_CARD and memory:
        raise InputError(f"{where}: whole cards own all their memory; {GPU_MEMORY}={memory} must not be stated")
    if core < WHOLE_CARD and memory < LEAST_MEMORY_MIB:
        raise InputError(
            f"{where}: {GPU_CORE}={core} needs {GPU_MEMORY} of at least {LEAST_MEMORY_MIB} MiB, not {memory}"
        )
    if core < WHOLE_CARD:
        return GpuAsk(container=container.name, cards=1, core=core, memory_mib=memory)
    return GpuAsk(container=container.name, cards=core // WHOLE_CARD, core=WHOLE_CARD, memory_mib=0)


def gpu_asks(workload: Workload) -> tuple[GpuAsk, ...]:
    """The card asks of all containers that want a GPU, in order.

    Raises:
        InputError: see `gpu_ask`.
    """
    return tuple(ask for container in workload.containers if (ask := gpu_ask(container)) is not None)


def device_flaw(workload: Workload) -> str:
    """Why the GPUs a workload wants near each other are not those its containers ask for; empty if they are.

    Whole cards are on a card of their own; slices may share one, so fewer cards than slices can be wanted.
    """
    wanted = workload.devices.gpus if workload.devices else 0
    asks = gpu_asks(workload)
    whole, every = sum(ask.cards for ask in asks if ask.whole), sum(ask.cards for ask in asks)
    if wanted > every:
        return f"device affinity: {wanted} GPUs, and the containers ask for {every} cards"
    least = whole + (every > whole)
    return f"device affinity: {wanted} GPUs, and the containers ask for {least} at least" if 0 < wanted < least else ""


class CardRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What is left on one card."""

    index: int
    memory_mib: int  # of the whole card
    core_free: int
    memory_free_mib: int
    containers: int = 0
    model: str = ""

    @property
    def untouched(self) -> bool:
        """Nobody is on it."""
        return self.core_free == WHOLE_CARD and self.memory_free_mib == self.memory_mib and not self.containers

    def take(self, share: GpuShare) -> CardRoom:
        """The room left once `share` is given; may go below zero, `short_of_card` tells beforehand."""
        return msgspec.structs.replace(
            self,
            core_free=self.core_free - share.core,
            memory_free_mib=self.memory_free_mib - share.memory_mib,
            containers=self.containers + 1,
        )


def empty_rooms(cards: Iterable[Card]) -> tuple[CardRoom, ...]:
    """Cards nobody uses."""
    return tuple(
        CardRoom(
            index=card.index,
            memory_mib=card.memory_mib,
            core_free=WHOLE_CARD,
            memory_free_mib=card.memory_mib,
            model=card.model,
        )
        for card in cards
    )


def short_of_card(room: CardRoom, ask: GpuAsk) -> str:
    """Why one card cannot take its part of `ask`: the short dimension with the numbers; empty if it can."""
    if ask.whole:
        left = f"{room.core_free} % and {room.memory_free_mib} MiB left, {room.containers} containers on it"
        return "" if room.untouched else f"a whole card asked, {left}"
    if ask.core > room.core_free:
        return f"compute: {ask.core} % asked, {room.core_free} % left"
    if ask.memory_mib > room.memory_free_mib:
        return f"memory: {ask.memory_mib} MiB asked, {room.memory_free_mib} MiB left"
    if room.containers >= MOST_CONTAINERS:
        return f"containers: {room.containers} on it, {MOST_CONTAINERS} is the most"
    return ""


def named_shares(
    rooms: Iterable[CardRoom], asks: Sequence[GpuAsk], cards: Sequence[int]
) -> tuple[GpuShare, ...] | None:
    """The division that names its cards ask by ask, as many as each wants; None if a rule is broken."""
    left, names, shares = {room.index: room for room in rooms}, iter(cards), list[GpuShare]()
    if len(cards) != sum(ask.cards for ask in asks):
        return None
    for ask in asks:
        own = [next(names) for _ in range(ask.cards)]
        for card in own:
            room = left.get(card)
            if room is None or short_of_card(room, ask) or own.count(card) > 1:
                return None
            memory = ask.memory_mib or room.memory_mib
            shares.append(GpuShare(container=ask.container, card=card, core=ask.core, memory_mib=memory))
            left[card] = room.take(shares[-1])
    return tuple(shares)


class CardPolicy(StrEnum):
    """Fill cards that are in use first, or leave as much room as possible on each."""

    BINPACK = "binpack"
    SPREAD = "spread"


class CardSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found. `ties` are all best choices, smallest first; the first one is the choice."""

    ties: tuple[CardLists, ...]
    score: Fraction
    checks: int  # admission checks of one container on one card
    pruned: int  # the failed ones
    leaves: int  # complete choices
    truncated: bool  # the limit was hit: `ties` is the best found so far

    @property
    def cards(self) -> CardLists | None:
        """Per ask the cards it gets, or None if nothing fits."""
        return self.ties[0] if self.ties else None

    def shares(self, rooms: Sequence[CardRoom], asks: Sequence[GpuAsk]) -> tuple[GpuShare, ...]:
        """The choice as ledger parts; nothing if there is none."""
        total = {room.index: room.memory_mib for room in rooms}
        return tuple(
            GpuShare(container=ask.container, card=card, core=ask.core, memory_mib=ask.memory_mib or total[card])
            for ask, cards in zip(asks, self.cards or (), strict=False)
            for card in cards
        )


def choose_cards(
    rooms: Sequence[CardRoom],
    asks: Sequence[GpuAsk],
    *,
    policy: CardPolicy = CardPolicy.BINPACK,
    weight: Fraction = Fraction(1, 2),
    limit: int = CHECK_LIMIT,
) -> CardSearch:
    """The best cards for a pod's containers: a depth-first search over containers × cards.

    One tree level per container, one branch per card (per k-subset of the admitted cards if it wants k); a card
    that does not admit the container, given the choices above, is pruned. At the leaves

        pack   = mean over *touched* cards of w·(core used / 100) + (1 − w)·(memory used / memory)
        spread = 1 − pack

    after placement, with what was used before. The total demand is fixed, so the score depends on the *set* of
    touched cards alone and ties are common: scores are compared as integers over one denominator, and the
    lexicographically smallest list of cards wins.

    Cost: at most `limit` checks and leaves together.
    """
    search = _Search(rooms, asks, policy, weight, limit)
    search.descend(0)
    return search.found()


def tree_size(cards: int, asks: Sequence[GpuAsk]) -> int:
    """Nodes of the unpruned tree below its root."""
    widths = [comb(cards, ask.cards) for ask in asks]
    return sum(prod(widths[: level + 1]) for level in range(len(widths)))


class _Search:
    """The state of one depth-first search; positions in `rooms` stand for cards until the end."""

    def __init__(
        self, rooms: Sequence[CardRoom], asks: Sequence[GpuAsk], policy: CardPolicy, weight: Fraction, limit: int
    ) -> None:
        self._rooms, self._asks, self._limit = list(rooms), asks, limit
        self._spread = policy is CardPolicy.SPREAD
        # one card's score over the denominator D: wn·core·L + (wd − wn)·100·memory·(L / memory of the card)
        shared = lcm(*(max(1, room.memory_mib) for room in rooms))
        self._core_factor = weight.numerator * shared
        rest = (weight.denominator - weight.numerator) * WHOLE_CARD
        self._memory_factor = [rest * (shared // max(1, room.memory_mib)) for room in rooms]
        self._denominator = weight.denominator * WHOLE_CARD * shared
        self._path: list[tuple[int, ...]] = []
        self._best: tuple[int, int] = (0, 1)  # sum over touched cards, number of them
        self._ties: list[CardLists] = []
        self._checks = self._pruned = self._leaves = 0
        self._truncated = False

    def descend(self, level: int) -> None:
        """Try every choice for the containers from `level` on."""
        if level == len(self._asks):
            self._weigh()
            return
        ask = self._asks[level]
        admitted = [position for position in range(len(self._rooms)) if self._admits(position, ask)]
        for group in combinations(admitted, ask.cards):
            if self._spent():
                return
            before = [self._rooms[position] for position in group]
            for position, room in zip(group, before, strict=True):
                memory = ask.memory_mib or room.memory_mib
                share = GpuShare(container=ask.container, card=room.index, core=ask.core, memory_mib=memory)
                self._rooms[position] = room.take(share)
            self._path.append(group)
            self.descend(level + 1)
            self._path.pop()
            for position, room in zip(group, before, strict=True):
                self._rooms[position] = room

    def _spent(self) -> bool:
        self._truncated = self._truncated or self._checks + self._leaves >= self._limit
        return self._truncated

    def _admits(self, position: int, ask: GpuAsk) -> bool:
        if self._spent():
            return False
        self._checks += 1
        fits = not short_of_card(self._rooms[position], ask)
        self._pruned += not fits
        return fits

    def _weigh(self) -> None:
        """Score a complete choice and keep it if none was better."""
        self._leaves += 1
        touched = {position for group in self._path for position in group}
        total = 0
        for position in touched:  # a sum of integers: the order does not matter
            room = self._rooms[position]
            total += self._core_factor * (WHOLE_CARD - room.core_free)
            total += self._memory_factor[position] * (room.memory_mib - room.memory_free_mib)
        best_total, best_count = self._best
        lead = total * best_count - best_total * len(touched)
        if self._spread:
            lead = -lead
        if not self._ties or lead > 0:
            self._best, self._ties = (total, len(touched)), []
        elif lead < 0:
            return
        self._ties.append(tuple(tuple(self._rooms[position].index for position in group) for group in self._path))

    def found(self) -> CardSearch:
        """The outcome."""
        total, count = self._best
        packed = Fraction(total, max(1, count) * self._denominator)
        return CardSearch(
            ties=tuple(self._ties),
            score=(1 - packed if self._spread else packed) if self._ties else Fraction(0),
            checks=self._checks,
            pruned=self._pruned,
            leaves=self._leaves,
            truncated=self._truncated,
        )
