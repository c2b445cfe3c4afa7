"""Place pods where they strand the least idle GPU for the pods that usually come: fragmentation gradient descent.

    score = 100 / steps · floor(steps / (1 + exp(−d / 1000))),   d = before − after of F(node) + E(node)      [0..100]

F is the idle GPU that the next typical pod could not use, E what the CPU left could not feed if typical pods filled
the node (formulas in core/choice/fragments.py, milli-cards). A slice is tried on every card of the node and the best one
counts (the first among equals); whole cards are the first untouched ones; a pod with several asks gets its cards one
ask after the other. These cards are then named to gpu_share, which takes them if they are legal.

E is why this beats FGD. F looks one pod ahead: eight idle cards beside 20 cores are fine to it as long as one typical
pod still fits, so it spends the CPU beside them, and the cards go idle later. E sees that at once, so pods that need
much CPU go where cards have plenty of it. It has no parameter: the rate is that of the typical pods themselves.

Shares are whole numbers, so F is exact, and a node's score depends on neither its row nor other rows. The floor makes
ties, and ties are part of the algorithm: the first node of a fixed order wins them, which keeps filling the same nodes
and leaves others empty for shapes that are not typical. Fresh random choices among them cost FGD five percent of all
cards of the openb trace. So its weight is large: other scores decide only between near equals.

Published FGD is `ahead = false` with the most frequent 95 % of pods typical; measured by `python -m tests.bench openb`.
By default typical are the pods of this cluster (core/nodes/census.py), and openb's until enough of them were seen.

F before and after an ask depend on nothing but what is left on the cards and which typical asks of CPU are covered, so
for one ask they are looked up (core/nodes/card_states.py), and only E is worked out for every node.

Units: milli-cores; thousandths of a card (the columns' percent times ten); MiB.
When: clusters with cards that are shared; without a single card it says nothing and costs nothing. An owner without
cards has 100 where there are no cards; beside cards only E counts for it (as good as both on openb, and cheap). Guests
are nobody's: they leave when cards or CPU are needed. When not: typical pods unlike those that come.
Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023, sections 3 and 4; rounding and order of nodes as its published simulator has them. E is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from neap.common.model.gpu import MOST_CONTAINERS, short_of_card
from neap.common.model.resource import CPU
from neap.scheduler.core.choice.fragments import Ask, Mix, Room, Whole, add
from neap.scheduler.core.choice.framework import Parts, Plugin
from neap.scheduler.core.nodes.card_states import NO_CARDS, CardStates
from neap.scheduler.core.nodes.cards import CONTAINERS, CORE, COUNT, MEMORY, MODEL, STATE, STATES
from neap.scheduler.core.nodes.census import SEEN, TYPICAL
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import ALL, Mask, Numbers, Rows, View
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.pods.typical import CARD, MILLI, parse

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


class Descent(NamedTuple):
    """The pod on every node: its score, 0 where it finds no cards, what it leaves of the cards, and which it takes."""

    score: Numbers  # (rows,)
    cards: Whole  # (rows, cards), milli
    taken: tuple[Mask, ...]  # by ask, (rows, cards)
    found: Mask  # (rows,)


class Rule(NamedTuple):
    """How gradients become scores."""

    steps: int = 100  # of the whole scale; smaller differences are ties
    ahead: bool = True  # E counts


PUBLISHED: Final = Rule(ahead=False)


def descend(mix: Mix, room: Room, cpu: float, asks: Sequence[Ask], rule: Rule) -> Descent:
    """See the formula above; `cpu` is asked in all."""
    if not asks and rule.ahead:
        everywhere = np.ones(len(room.cpu), dtype=np.bool_)
        return Descent(feed(mix, add(room.cards, axis=1), room.cpu, cpu, rule.steps), room.cards, (), everywhere)
    place = _Place(mix, room, cpu, rule, sum(ask.cards * ask.core for ask in asks))
    taken = tuple(place.whole(ask) if ask.core == CARD else place.slice(ask) for ask in asks)
    score = np.where(place.found, 100 / rule.steps * place.steps(), 0.0)
    return Descent(score, place.cards, taken, place.found)


def feed(mix: Mix, idle: Whole, cpu: Numbers, asked: float, steps: int) -> Numbers:
    """The score of a pod without cards: what it changes in F is left out."""
    found = steps_of(mix.unfed(idle, cpu) - mix.unfed(idle, cpu - asked), steps)
    return np.asarray(100 / steps * found, dtype=np.float64)


class _Place:
    """Cards being taken, ask by ask."""

    def __init__(self, mix: Mix, room: Room, cpu: float, rule: Rule, asked: int) -> None:
        self._mix, self._steps = mix, rule.steps
        self.cards, self._memory, self._open = room.cards, room.memory, room.open
        self._kinds, self._levels = mix.kinds(room.models), mix.levels(room.cpu - cpu)
        self._idle = add(room.cards, axis=1)
        self._before: Numbers = mix.stranded(
            self._idle, mix.useful(self._kinds, self.cards, self._memory, mix.levels(room.cpu))
        )
        if rule.ahead:
            self._before += mix.unfed(self._idle, room.cpu) - mix.unfed(self._idle - asked, room.cpu - cpu)
        self.found = np.ones(len(self._idle), dtype=np.bool_)
        self._last: NDArray[np.intp] | None = None  # steps of the score, if the last ask told them

    def steps(self) -> NDArray[np.intp]:
        """Of the score, where the pod found its cards."""
        if self._last is None:
            useful = self._mix.useful(self._kinds, self.cards, self._memory, self._levels)
            self._last = steps_of(self._before - self._mix.stranded(self._idle, useful), self._steps)
        return self._last

    def whole(self, ask: Ask) -> Mask:
        """The first untouched cards of each node, where there are enough."""
        taken, enough = first_untouched(self._open, self.cards, ask.cards)
        self.found &= enough
        self.cards, self._last = np.where(taken, 0, self.cards), None
        self._idle = add(self.cards, axis=1)
        return taken

    def slice(self, ask: Ask) -> Mask:
        """The best card of each node that has one, the first among equals."""
        cards, memory = self.cards, self._memory
        fits = self._open & (cards >= ask.core) & (memory >= ask.memory)
        stranded = self._mix.with_slice(self._kinds, cards, memory, self._levels, ask)
        gradient = self._before[:, None] - stranded
        gradient[~fits] = -np.inf
        most = gradient.max(axis=1)
        self._last = steps_of(most, self._steps)
        best = (gradient >= least_of(self._last, self._steps)[:, None]).argmax(axis=1)  # the first as good as the best
        self.found &= most > -np.inf
        taken: Mask = fits & (np.arange(fits.shape[1]) == best[:, None])
        self.cards, self._memory = cards - taken * ask.core, memory - taken * ask.memory
        self._idle = add(self.cards, axis=1)
        return taken


def first_untouched(allowed: Mask | bool, cards: Whole, asked: int) -> tuple[Mask, Mask]:
    """The first so many untouched cards of each node that are allowed, and whether there are as many."""
    untouched = allowed & (cards == CARD)
    number = untouched.cumsum(axis=1)
    return untouched & (number <= asked), number[:, -1] >= asked


def steps_of(gradient: Numbers, steps: int) -> NDArray[np.intp]:
    """floor(steps / (1 + exp(−d / 1000))), by the gradients at which it changes."""
    return _edges(steps).searchsorted(gradient, side="right")


def least_of(found: NDArray[np.intp], steps: int) -> Numbers:
    """The least gradient that comes to as many steps."""
    return np.where(found > 0, _edges(steps)[found - 1], -np.inf)


@lru_cache(maxsize=8)
def _edges(steps: int) -> Numbers:
    found: Numbers = -CARD * np.log(steps / np.arange(1.0, steps) - 1)
    return found


@lru_cache(maxsize=8)
def mix_of(text: str) -> Mix:
    """The mix that a setting describes."""
    return Mix(parse(text))


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What usually comes, and how it is weighed."""

    typical: str = ""  # pods, milli-cores, cards, milli of each card, models: see core/pods/typical.py; empty: learned
    steps: Annotated[int, Meta(ge=2, le=100_000)] = 100  # of the scale; smaller differences are ties
    ahead: bool = True  # cards that the CPU left cannot feed count as stranded; false: as published

    def __post_init__(self) -> None:
        if self.typical:
            mix_of(self.typical)


def least_stranding(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for guests, and where no node has cards."""
    if pod.guest or not view.fact(SEEN):
        return None
    mix, states = _mix(view, settings), view.fact(STATES)
    if not pod.asks and settings.ahead:
        score = _beside(pod, view, mix, settings)
    elif (len(pod.asks) > 1 and not all(ask.whole for ask in pod.asks)) or not states.fits(mix.depth):
        score = _by_row(pod, view, settings)
    else:
        score = _by_state(pod, view, mix, states, Rule(settings.steps, settings.ahead))
    if not pod.asks:
        np.putmask(score, view.column(STATE) == NO_CARDS, 100.0)
    return score


def _by_row(pod: Pod, view: View, settings: Settings) -> Numbers:
    """Every card of every node that has some."""
    score, there = np.zeros(view.size), np.flatnonzero(view.column(COUNT))
    if len(there):
        score[there] = _descend(pod, view, settings, there).score
    return score


def _by_state(pod: Pod, view: View, mix: Mix, states: CardStates, rule: Rule) -> Numbers:
    """The same, for what is one ask: most is gained where F is least after it, whatever E is there."""
    whole = sum(ask.cards for ask in pod.asks if ask.whole)
    ask = Ask(whole, CARD) if whole or not pod.asks else _asks(pod)[0]
    models, depth = pod.workload.gpu_models, mix.depth
    state, cpu = view.column(STATE), view.free(CPU)
    left, places = cpu - pod.requests.get(CPU, 0), state * depth
    gradient = states.found(mix, places + mix.levels(cpu), depth, partial(_now, mix, states))
    if rule.ahead:
        idle = states.idle[state]
        gradient += mix.unfed(idle, cpu) - mix.unfed(idle - ask.cards * ask.core, left)
    after = partial(_after, mix, states, ask, models)
    gradient -= states.found((mix, ask, models), places + mix.levels(left), depth, after)
    return np.asarray(100 / rule.steps * steps_of(gradient, rule.steps), dtype=np.float64)


def _now(mix: Mix, states: CardStates, some: Whole, levels: Whole) -> Numbers:
    """F in some states, at levels of CPU."""
    cards, memory, _, models = states.cells(some)
    return mix.fragments(mix.kinds(models), cards, memory, levels)


def _after(mix: Mix, states: CardStates, ask: Ask, allowed: Sequence[str], some: Whole, levels: Whole) -> Numbers:
    """F with the ask on the cards that suit it best, endless where there are none; `levels` are those after it."""
    cards, memory, of_slice, models = states.cells(some)
    kinds, open_ = mix.kinds(models), np.isin(models, [code(name) for name in allowed]) if allowed else True
    if ask.core == CARD:
        taken, enough = first_untouched(open_, cards, ask.cards)
        return np.where(enough, mix.fragments(kinds, np.where(taken, 0, cards), memory, levels), np.inf)
    fits = open_ & (cards >= ask.core) & (of_slice >= ask.memory)
    found: Numbers = np.where(fits, mix.with_slice(kinds, cards, memory, levels, ask), np.inf).min(axis=1)
    return found


def _beside(pod: Pod, view: View, mix: Mix, settings: Settings) -> Numbers:
    """A pod without cards: two sums are enough, not every card."""
    idle = view.fact(STATES).idle[view.column(STATE)]  # a card that is taken more than once over has nothing idle
    return feed(mix, idle, view.free(CPU), pod.requests.get(CPU, 0), settings.steps)


def name_cards(pod: Pod, table: NodeTable, row: int, settings: Settings, given: Parts) -> Parts | str:
    """The cards that the score counted on, unless somebody else named some before, or where to look for them."""
    if not pod.asks or given.prefer or given.gpus or given.numa or pod.guest:
        return given
    rooms, models = table.cards.rooms(row), pod.workload.gpu_models
    if len(pod.asks) == 1:  # without arithmetic, where the cards that fit are alike
        ask = pod.asks[0]
        fitting = [room for room in rooms if not short_of_card(room, ask) and (not models or room.model in models)]
        alike = {(room.core_free, room.memory_free_mib, room.model) for room in fitting}
        if ask.whole or len(alike) == 1:
            return replace(given, prefer=tuple(room.index for room in fitting[: ask.cards]))
    found = _descend(pod, table.view(np.array([row])), settings)
    if not found.found[0]:
        return given
    return replace(given, prefer=tuple(rooms[c].index for taken in found.taken for c in np.flatnonzero(taken[0])))


def _descend(pod: Pod, view: View, settings: Settings, rows: Rows = ALL) -> Descent:
    """The pod on some rows of the view, all of which have cards."""
    width, mix = int(view.column(COUNT).max()), _mix(view, settings)
    sliced, models = any(not ask.whole for ask in pod.asks), pod.workload.gpu_models

    def column(name: str, *, needed: object = True) -> Whole:
        found: Whole = view.column(name if needed else CORE)[rows, :width]
        return found

    core, of_model = column(CORE), column(MODEL, needed=models or mix.names_models)
    allowed = core > 0  # an absent card has −1
    if sliced:
        allowed &= column(CONTAINERS) < MOST_CONTAINERS
    if models:
        allowed &= np.isin(of_model, [code(model) for model in models])
    memory = column(MEMORY, needed=sliced or mix.counts_memory)
    room = Room(view.free(CPU)[rows], np.maximum(core, 0) * MILLI, memory, of_model, allowed)
    return descend(mix, room, pod.requests.get(CPU, 0), _asks(pod), Rule(settings.steps, settings.ahead))


def _asks(pod: Pod) -> list[Ask]:
    return [Ask(ask.cards, ask.core * MILLI, ask.memory_mib) for ask in pod.asks]


def _mix(view: View, settings: Settings) -> Mix:
    return mix_of(settings.typical) if settings.typical else view.fact(TYPICAL) or mix_of(OPENB)


PLUGIN: Final = Plugin(settings=Settings, score=least_stranding, reserve=name_cards)
