"""What a pod wants of a node's devices, and whether a node has it: counts of devices that do, group by group.

    usable GPU   a card that takes an ask of the pod (its least demanding one, if they differ) and is not barred
    usable NIC   a network card of the wanted fabric with as many percent left as asked

    soft, or level node    so many usable on the node
    hard                   so many usable in one group of the level asked, whose place is known
    fewest                 so many usable in as many groups as an empty node would need

That is exact where all asks of a pod are alike and each has cards of its own, which is the rule; for other mixes it is
necessary, and the division at reserve decides. What is missing is counted in devices: of the best group, or of the
node; where groups are too many, one for each too many.

    score = 75 · near + 25 · fill                                                                    [0..100]

near is 1 where one PCIe switch holds the ask, 2/3 root complex, 1/3 NUMA node, else 0 (1 for one device alone); fill is
the part of the usable devices there that the pod takes, of the group that is left with least: whole groups stay whole.
Source: requirements 000-24, 001-07, 002-47; Katalyst, device affinity strategy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import msgspec

from neap.common.model.affinity import (
    NOUNS,
    DeviceAsk,
    DeviceChoice,
    Refusal,
    Strength,
    choose_devices,
    fewest_groups,
    most_groups,
)
from neap.common.model.device_tree import LEVELS, DeviceTree, Level
from neap.common.model.gpu import MOST_CONTAINERS, CardRoom
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.gang_cards import gang_column, keeps_apart
from neap.scheduler.core.pods.pod import Pod

NEAR: Final = dict(zip(LEVELS, (1.0, 2 / 3, 1 / 3, 0.0), strict=True))
NEAR_POINTS, FILL_POINTS = 75.0, 25.0

Amount: TypeAlias = tuple[int, int, int]  # of one ask: cards, percent of each, MiB of each (0: whole cards)


class Wish(NamedTuple):
    """What beside the node decides; equal wishes get equal verdicts. `uniform`: exact, see module docstring."""

    ask: DeviceAsk
    amounts: tuple[Amount, ...]
    models: tuple[str, ...]
    uniform: bool
    gang: str = ""  # column of the gang whose cards are barred

    @property
    def name(self) -> str:
        """One token for it."""
        return str(code(repr(self)))

    @property
    def reason(self) -> str:
        """Why a node may be rejected, whatever it has."""
        words = self.ask.words(self.ask.gpus, self.ask.nics)
        one, many = NOUNS[self.ask.level]
        if self.ask.strength is Strength.SOFT or self.ask.level is Level.NODE:
            return f"the node has not {words}"
        return f"no {one} with {words}" if self.ask.strength is Strength.HARD else f"no fewest {many} with {words}"


class Machine(NamedTuple):
    """One shape of machine: many nodes have it."""

    number: int
    tree: DeviceTree
    cards: tuple[int, ...]  # per card of the node: its position in the tree; −1: beyond what a tree holds
    groups: dict[Level, tuple[tuple[int, int, bool], ...]]  # GPUs and network cards as bits, and whether known
    nics: range  # positions of network cards: the last ones


class State(NamedTuple):
    """What is left of a node's devices. Equal states of one machine get equal verdicts."""

    rooms: tuple[CardRoom, ...]
    nics: tuple[int, ...]  # percent left, of the tree's network cards in order
    barred: frozenset[int] = frozenset()  # numbers of cards


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one state for one wish. `missing` 0: fits."""

    missing: float
    score: float
    machine: Machine
    state: State
    wish: Wish

    def tell(self) -> str:
        """What is wrong, with the numbers, beside the wish's reason."""
        found = find(self.machine, self.state, self.wish)
        if not isinstance(found, Refusal):
            return "its devices cannot be divided so"
        return found.nearest if self.wish.reason.endswith(found.why) else f"{found.why}; {found.nearest}"


def wish_of(pod: Pod) -> Wish | None:
    """None for a pod that wants no devices near each other."""
    ask, asks = pod.workload.devices, pod.asks
    if ask is None:
        return None
    amounts = tuple((one.cards, one.core, one.memory_mib) for one in asks)
    alike = len({amount[1:] for amount in amounts}) <= 1 and ask.gpus in (0, sum(one.cards for one in asks))
    if asks:
        ask = msgspec.structs.replace(ask, gpu_percent=min(one.core for one in asks))
    gang = gang_column(pod.workload) if keeps_apart(pod) else ""
    return Wish(ask, amounts, tuple(sorted(set(pod.workload.gpu_models))), alike, gang)


def usable(machine: Machine, state: State, wish: Wish) -> tuple[int, int]:
    """GPUs and network cards that may be chosen, as bits by position."""
    ask, gpus, nics = wish.ask, 0, 0
    if ask.gpus:
        for room, position in zip(state.rooms, machine.cards, strict=True):
            if position >= 0 and room.index not in state.barred and _takes(room, wish):
                gpus |= 1 << position
    if ask.nics:
        for position, left in zip(machine.nics, state.nics, strict=True):
            if left >= ask.nic_percent and machine.tree.devices[position].kind in ask.fabrics:
                nics |= 1 << position
    return gpus, nics


def judge(machine: Machine, state: State, wish: Wish) -> Verdict:
    """See module docstring. Cost: some ten microseconds."""
    gpus, nics = usable(machine, state, wish)
    missing = _missing(machine, gpus, nics, wish.ask)
    return Verdict(missing, 0.0 if missing else _score(machine, gpus, nics, wish.ask), machine, state, wish)


def find(
    machine: Machine, state: State, wish: Wish, *, inside: Collection[int] = (), cards: Sequence[int] | None = None
) -> DeviceChoice | Refusal:
    """The best devices, exactly: those inside some NUMA nodes (any, if none is named), with all of some cards.

    `cards`: positions of the only GPUs to choose from, all of which must be chosen.
    """
    devices = machine.tree.devices
    gpus, nics = usable(machine, state, wish)
    open_ = [position for position in range(len(devices)) if (gpus | nics) >> position & 1]
    if inside:
        open_ = [position for position in open_ if devices[position].numa in inside]
    if cards is not None:
        open_ = [position for position in open_ if position in cards or not machine.tree.is_gpu(position)]
    left = {devices[p].address: room.core_free for room, p in zip(state.rooms, machine.cards, strict=True) if p >= 0}
    left |= {devices[p].address: percent for p, percent in zip(machine.nics, state.nics, strict=True)}
    must = [devices[position].address for position in cards or ()]
    return choose_devices(machine.tree, left, wish.ask, only=[devices[p].address for p in open_], must=must)


def _takes(room: CardRoom, wish: Wish) -> bool:
    """Whether a card takes one of the asks."""
    if wish.models and room.model not in wish.models:
        return False
    for _, core, memory in wish.amounts:
        if memory:
            fits = core <= room.core_free and memory <= room.memory_free_mib and room.containers < MOST_CONTAINERS
        else:
            fits = room.untouched
        if fits:
            return True
    return False


def _missing(machine: Machine, gpus: int, nics: int, ask: DeviceAsk) -> float:
    if ask.strength is Strength.SOFT or ask.level is Level.NODE:
        return _short(ask, gpus.bit_count(), nics.bit_count())
    groups = [(gpus & ours, nics & theirs) for ours, theirs, known in machine.groups[ask.level] if known]
    best = min((_short(ask, x.bit_count(), y.bit_count()) for x, y in groups), default=ask.gpus + ask.nics)
    if ask.strength is Strength.HARD or not best:
        return best
    open_ = [p for p in range(len(machine.tree.devices)) if any((x | y) >> p & 1 for x, y in groups)]
    fewest = fewest_groups(machine.tree, open_, ask)
    if fewest is None:
        return _short(ask, *(sum(group[kind].bit_count() for group in groups) for kind in (0, 1)))
    return max(0, fewest - most_groups(machine.tree, ask))


def _score(machine: Machine, gpus: int, nics: int, ask: DeviceAsk) -> float:
    wanted = ask.gpus + ask.nics
    for level in LEVELS:
        fills = [
            wanted / (x + y)
            for ours, theirs, _ in machine.groups[level]
            if (x := (gpus & ours).bit_count()) >= ask.gpus and (y := (nics & theirs).bit_count()) >= ask.nics
        ]
        if fills:
            return NEAR_POINTS * NEAR[level] + FILL_POINTS * max(fills)
    return 0.0


def _short(ask: DeviceAsk, gpus: int, nics: int) -> int:
    return max(0, ask.gpus - gpus) + max(0, ask.nics - nics)
