"""Place pods where they strand the least idle GPU for the pods that usually come: fragmentation gradient descent.

    score   = 100 / steps · floor(steps / (1 + exp(−d / 1000))),  d = F before − F with the pod there    [0..100]
    F(node) = Σ_m p(m) · useless(node, m)          over the typical pods m                             [milli-cards]

useless to m is what is idle on the cards m could not use: on those with less left than m asks per card or of a model
m does not allow; on all of them if m asks no card, or asks more CPU or more such cards than the node has left.
A slice is tried on every card of the node and the best one counts (the first among equals); whole cards are the first
untouched ones; a pod with several asks gets its cards one ask after the other. Memory plays no part.

Shares p(m) are whole numbers over one sum, so F is exact and a node's score depends on neither its row nor the other
rows. The floor makes ties, and ties are part of the algorithm: the first node of a fixed order wins them, which keeps
filling the same nodes and leaves others empty for shapes that are not typical. Fresh random choices among them cost
five percent of all cards of the openb trace. So give other scores no weight if this is wanted pure.

Published: 100 steps, any fixed order, the most frequent 95 % of pods are typical. Ours: steps half as coarse; every
shape is typical, because rare ones are the wide ones; among equals the node with the fewest cards (`few_first`, worth
less than a step), because wide pods can only use wide nodes. Not so where typical pods name models: small nodes are
often of the wanted ones; on openb's list with models it cost 0.8 points at 100 % arrival, nothing at 130 %.
Measured by `python -m tests.bench openb`.

Units: milli-cores; thousandths of a card (the columns' percent times ten).
When: clusters with cards that are shared. When not: no cards, or typical pods unlike those that come.
Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023, sections 3 and 4; rounding and order of nodes as its published simulator has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from neap.common.model.gpu import MOST_CONTAINERS, WHOLE_CARD
from neap.common.model.resource import CPU
from neap.scheduler.core.cards import CARDS, CONTAINERS, CORE, COUNT, MEMORY, MODEL
from neap.scheduler.core.columns import code
from neap.scheduler.core.framework import Plugin
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.view import Mask, Numbers, View

CARD: Final = 1000  # milli of a card
MILLI: Final = CARD // WHOLE_CARD  # of a percent
COVER: Final = 0.95  # of all pods are of a typical shape
OPENB: Final = """
1047x3152:1x810 874x11300:1x1000 599x11400:1x1000 470x3152:1x1000 388x11908:1x470 366x12500 360x8000:1x470
326x12000:1x1000 290x32000 255x18708:1x1000 237x11908:1x650 232x4000:1x320 195x9810:1x1000 185x8000 164x8000:1x1000
159x4000:1x1000 158x15700:1x1000 153x11908:1x1000 150x16000:1x1000 122x4000:1x230 120x6000:1x460 120x15400 95x16500
93x14200:1x1000 84x24200:1x1000 75x3152:1x590 72x4152:1x550 72x8000:1x320 55x11900:1x1000 54x4000:1x160 45x4152:1x370
43x4000:1x220 41x8200:1x1000 36x15200:1x1000 31x4152:1x810 29x16400:1x1000 22x1000:1x320 20x6000:1x160 19x8000:1x220
18x4000:1x110 18x4000:1x480 18x8000:1x230 18x64200:8x1000 18x88000:8x1000 15x1000:1x1000 14x16000 12x8000:1x650
11x7000:1x1000 11x11400 9x15400:1x1000 9x32200:4x1000 8x2000:1x1000 8x6000:1x1000 8x14900:1x1000 7x4000:1x330
7x16200:2x1000 6x4000:1x350 6x9400:1x1000 6x12000:1x460 4x4152:1x270 4x6000:1x50 4x6000:1x110 4x12000 3x4000:1x50
3x6000:2x1000 3x30200:2x1000 3x32000:4x1000 3x60200:4x1000 3x64000:8x1000 3x120000:8x1000 2x1000:1x650 2x2000:1x370
2x4000:1x470 2x4000:1x650 2x6000:1x320 2x8000:1x110 2x8000:1x440 2x8000:1x460 2x17400:2x1000 2x20000 2x120200:8x1000
1x1000:1x140 1x1000:1x290 1x5000:1x1000 1x8000:1x480 1x8710:1x1000 1x10000 1x11800:1x1000 1x14000:1x1000
1x14000:2x1000 1x15900:1x1000
"""  # every shape of openb's default list, see `parse`


class Typical(NamedTuple):
    """One shape of pods and how many of them there are."""

    pods: int
    cpu: int  # milli-cores
    cards: int = 0
    core: int = 0  # of each card, milli
    models: tuple[str, ...] = ()  # allowed ones; empty: any


class _Group(NamedTuple):
    """The typical pods with GPU that allow the same models; arrays by pod, but `sizes`."""

    models: tuple[int, ...]  # codes
    sizes: Numbers  # milli asked of a card, each once
    size: NDArray[np.intp]  # place in sizes
    cards: Numbers
    cpu: Numbers
    pods: Numbers


class Mix:
    """Typical pods, ready to measure whole columns with. `total`: of the shares; their sum if 0."""

    def __init__(self, typical: Iterable[Typical], *, total: int = 0) -> None:
        self.typical = tuple(typical)
        self._all = sum(pod.pods for pod in self.typical)
        self._total = total or self._all
        models = {tuple(sorted(set(pod.models))): None for pod in self.typical if pod.cards}
        self.particular = any(models)  # about models
        self._groups = [_group(names, self.typical) for names in models]

    def fragmentation(self, cpu: Numbers, cards: Numbers, models: NDArray[np.int64]) -> Numbers:
        """F of nodes: CPU left, shape (rows,); left on each card and its model, (rows, cards); absent cards <= 0."""
        idle = np.maximum(cards, 0.0)
        useful = np.zeros(len(cpu))  # times the number of pods: whole numbers
        for group in self._groups:
            left = np.where(np.isin(models, group.models), idle, 0.0) if group.models else idle
            by_card = left.T[:, :, None]
            fits = by_card >= group.sizes  # (cards, rows, sizes)
            count, amount = fits.sum(axis=0, dtype=np.float64), (fits * by_card).sum(axis=0)
            runs = (count[:, group.size] >= group.cards) & (cpu[:, None] >= group.cpu)
            useful += np.where(runs, amount[:, group.size], 0.0) @ group.pods
        fragments: Numbers = (self._all * idle.sum(axis=1) - useful) / self._total
        return fragments


class Room(NamedTuple):
    """What is left of nodes. Cards that the pod must not have are there (they fragment) but not `open` to it."""

    cpu: Numbers  # (rows,)
    cards: Numbers  # (rows, cards), milli
    models: NDArray[np.int64]  # (rows, cards), codes
    open: Mask  # (rows, cards)

    def of(self, rows: Any) -> Room:
        """Some rows, or one row several times."""
        return Room(*(column[rows] for column in self))


class Ask(NamedTuple):
    """Cards for one container."""

    cards: int
    core: int  # of each, milli


class Descent(NamedTuple):
    """The pod on every node: its score, 0 where it finds no cards, and what it leaves of the cards."""

    score: Numbers  # (rows,)
    cards: Numbers  # (rows, cards), milli


class Rule(NamedTuple):
    """How gradients become scores."""

    steps: int = 100  # of the whole scale; smaller differences are ties
    few_first: bool = False  # the node with fewer cards wins ties, unless typical pods name models


PUBLISHED: Final = Rule()


def descend(mix: Mix, room: Room, cpu: float, asks: Sequence[Ask], rule: Rule = PUBLISHED) -> Descent:
    """See the formula above; `cpu` is asked in all."""
    before = mix.fragmentation(room.cpu, room.cards, room.models)
    left = room._replace(cpu=room.cpu - cpu)
    placed, after = np.ones(len(before), dtype=np.bool_), None
    for ask in asks:
        if ask.core == CARD:
            cards, found = _whole(left, ask.cards)
            after = None
        else:
            cards, found, after = _slice(mix, left, ask.core, before, rule.steps)
        left, placed = left._replace(cards=cards), placed & found
    if after is None:
        after = mix.fragmentation(left.cpu, left.cards, left.models)
    score = score_of(before - after, rule.steps)
    if rule.few_first and not mix.particular:
        score += 100 / rule.steps * (1 - ((room.models > 0).sum(axis=1) + 1) / (CARDS + 2))
    return Descent(np.where(placed, score, 0.0), left.cards)


def score_of(gradient: Numbers, steps: int) -> Numbers:
    """0..100 in steps, half of it for no change; the gradient is how much less is fragmented afterwards."""
    score: Numbers = 100 / steps * np.floor(steps / (1 + np.exp(-gradient / CARD)))
    return score


def _group(models: tuple[str, ...], typical: Sequence[Typical]) -> _Group:
    pods = [pod for pod in typical if pod.cards and tuple(sorted(set(pod.models))) == models]
    sizes, size = np.unique([float(pod.core) for pod in pods], return_inverse=True)
    cards, cpu, counts = np.array([(pod.cards, pod.cpu, pod.pods) for pod in pods], dtype=np.float64).T
    return _Group(tuple(code(model) for model in models), sizes, size, cards, cpu, counts)


def _whole(room: Room, count: int) -> tuple[Numbers, Mask]:
    """Cards left if each node gives its first untouched ones, and where there are enough."""
    untouched = room.open & (room.cards == CARD)
    number = untouched.cumsum(axis=1)
    found: Mask = number[:, -1] >= count
    taken = untouched & (number <= count) & found[:, None]
    return np.where(taken, 0.0, room.cards), found


def _slice(mix: Mix, room: Room, core: int, before: Numbers, steps: int) -> tuple[Numbers, Mask, Numbers]:
    """Cards left if each node gives a part of its best card, where there is one, and F then."""
    fits = room.open & (room.cards >= core)
    for i in range(1, fits.shape[1]):  # a card like an earlier one need not be tried
        like = fits[:, :i] & (room.cards[:, :i] == room.cards[:, i, None])
        fits[:, i] &= ~(like & (room.models[:, :i] == room.models[:, i, None])).any(axis=1)
    row, card = np.nonzero(fits)
    tried = room.of(row)
    tried.cards[np.arange(len(row)), card] -= core
    after = mix.fragmentation(tried.cpu, tried.cards, tried.models)
    order = np.lexsort((-score_of(before[row] - after, steps), row))  # stable: the first card among equals
    best = order[np.flatnonzero(np.diff(row[order], prepend=-1))]
    cards, left = room.cards.copy(), before.copy()
    found: Mask = np.asarray(fits.any(axis=1))
    cards[found], left[found] = tried.cards[best], after[best]
    return cards, found, left


def typical_pods(pods: Iterable[Typical], cover: float = COVER) -> tuple[Typical, ...]:
    """The most frequent shapes that make up `cover` of all pods, most frequent first."""
    counts: dict[Typical, int] = {}
    for pod in pods:
        shape = pod._replace(pods=0)
        counts[shape] = counts.get(shape, 0) + pod.pods
    taken, seen, enough = list[Typical](), 0, cover * sum(counts.values())
    for shape, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if seen >= enough:
            break
        taken.append(shape._replace(pods=count))
        seen += count
    return tuple(taken)


def parse(text: str) -> tuple[Typical, ...]:
    """Typical pods, `PODSxCPU[:CARDSxCORE[:MODEL|MODEL]]` between spaces; CPU in milli-cores, CORE in milli of a card.

    Raises:
        ValueError: a word is no such shape; names it.
    """
    found = []
    for word in text.split():
        amount, _, rest = word.partition(":")
        share, _, models = rest.partition(":")
        try:
            pods, cpu = map(int, amount.split("x"))
            cards, core = map(int, share.split("x")) if share else (0, 0)
        except ValueError:
            raise ValueError(f"typical pod {word!r} is not PODSxCPU:CARDSxCORE:MODELS") from None
        legal = (1 <= core <= CARD and cards == 1) or (core == CARD and cards >= 1) or (cards == 0 and not share)
        if pods < 1 or cpu < 0 or not legal:
            raise ValueError(f"typical pod {word!r}: at least one pod, part of one card or whole cards of {CARD}")
        found.append(Typical(pods, cpu, cards, core, tuple(filter(None, models.split("|")))))
    if not found:
        raise ValueError("no typical pods")
    return tuple(found)


@lru_cache(maxsize=8)
def mix_of(text: str) -> Mix:
    """The mix that a setting describes."""
    return Mix(parse(text))


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What usually comes."""

    typical: str = OPENB  # pods, milli-cores, cards, milli of each card, models: see `parse`
    steps: Annotated[int, Meta(ge=2, le=100_000)] = 200  # of the scale; smaller differences are ties
    few_first: bool = True  # nodes with fewer cards win ties, unless typical pods name models

    def __post_init__(self) -> None:
        mix_of(self.typical)


def least_stranding(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for guests: they leave when cards or CPU are needed."""
    if pod.guest:
        return None
    width = max(1, int(view.column(COUNT).max(initial=0)))
    core, containers, memory, models = (view.column(name)[:, :width] for name in (CORE, CONTAINERS, MEMORY, MODEL))
    allowed = core > 0  # an absent card has −1
    if pod.workload.gpu_models:
        allowed = allowed & np.isin(models, [code(model) for model in pod.workload.gpu_models])
    needed = max((ask.memory_mib for ask in pod.asks), default=0)
    room = Room(
        cpu=view.free(CPU),
        cards=core * float(MILLI),
        models=models,
        open=allowed & (containers < MOST_CONTAINERS) & (memory >= needed),
    )
    asks, rule = [Ask(ask.cards, ask.core * MILLI) for ask in pod.asks], Rule(settings.steps, settings.few_first)
    return descend(mix_of(settings.typical), room, pod.requests.get(CPU, 0), asks, rule).score


PLUGIN: Final = Plugin(settings=Settings, score=least_stranding)
