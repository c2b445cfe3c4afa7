"""Cards for pods that ask for parts of one, or for whole ones.

Filter, for all nodes at once, by what is left on each card (a card counts if its model is allowed):

    a slice        a card with core left >= ask, memory left >= ask, containers < 16, for each container
    whole cards    as many untouched cards as all containers together ask
    together       Σ core left >= Σ core asked

This is exact for one slice and for whole cards only; for other mixes it is necessary, and the search at reserve
decides (depth first over containers × cards, see common.model.gpu).

    score  pack:   100 · (core used + core asked) / (100 · cards)      spread: 100 − pack        [0..100]

    score of an owner without GPU: 100 where there are no cards, 0 where there are (setting `keep`)

Packing keeps untouched cards together for pods that need them whole; an owner that needs no card goes where its CPU
strands none. Guests may use the CPU beside cards: they leave when it is needed.
Units: percent of a card, MiB.
Source: requirements 2.3 and 002-44 (public mGPU design proposal; our scoring definition).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.model.gpu import CHECK_LIMIT, MOST_CONTAINERS, WHOLE_CARD, CardPolicy, choose_cards
from neap.scheduler.core.cards import CONTAINERS, CORE, CORE_USED, COUNT, MEMORY, MODEL
from neap.scheduler.core.change import NodeChanged
from neap.scheduler.core.columns import code
from neap.scheduler.core.framework import Parts, Plugin, Rule
from neap.scheduler.core.pod import Pod
from neap.scheduler.core.table import NodeTable
from neap.scheduler.core.view import Mask, Numbers, View

WAKES: Final = frozenset({NodeChanged.DEVICE, NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes and cards are filled."""

    nodes: Literal["pack", "spread"] = "pack"  # GPU pods over nodes
    cards: CardPolicy = CardPolicy.BINPACK  # containers over the cards of one node
    core_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5  # of compute against memory in the score of cards
    keep: bool = True  # owners without GPU keep away from nodes with cards, as far as there are others
    checks: Annotated[int, Meta(ge=16)] = CHECK_LIMIT  # most steps of one search; beyond, the best so far is taken


def have_cards(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """Rules in the order a person would ask: any card, the right model, enough of it."""
    if not pod.asks:
        return ()
    core, containers = view.column(CORE), view.column(CONTAINERS)
    rules = [Rule("no card", view.column(COUNT) > 0, WAKES)]
    models, allowed = sorted(set(pod.workload.gpu_models)), core > 0  # an absent card has −1
    if models:
        of_model = np.isin(view.column(MODEL), [code(model) for model in models])
        rules.append(Rule(f"card model not {'|'.join(models)}", _any(of_model), WAKES))
        allowed &= of_model
    for slice_core, slice_memory in sorted({(ask.core, ask.memory_mib) for ask in pod.asks if not ask.whole}):
        fits = allowed & (core >= slice_core) & (view.column(MEMORY) >= slice_memory) & (containers < MOST_CONTAINERS)
        rules.append(Rule(f"card with {slice_core} % and {slice_memory} MiB left", _any(fits), WAKES))
    whole = sum(ask.cards for ask in pod.asks if ask.whole)
    if whole:
        untouched = allowed & (core == WHOLE_CARD) & (containers == 0)
        rules.append(Rule(f"{whole} untouched cards", untouched.sum(axis=1) >= whole, WAKES))
    if len(pod.asks) > 1:
        asked = sum(ask.cards * ask.core for ask in pod.asks)
        left = np.where(allowed, core, 0).sum(axis=1)
        rules.append(Rule(f"{asked} % of cards left", left >= asked, WAKES))
    return rules


def packed(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod that has no opinion about cards."""
    if not pod.asks:
        return None if pod.guest or not settings.keep else np.where(view.column(COUNT) > 0, 0.0, 100.0)
    capacity = WHOLE_CARD * view.column(COUNT)
    used = view.column(CORE_USED) + sum(ask.cards * ask.core for ask in pod.asks)
    full = np.divide(used, capacity, out=np.zeros(view.size), where=capacity > 0)
    score: Numbers = 100 * np.minimum(full, 1.0)
    return score if settings.nodes == "pack" else 100 - score


def choose(pod: Pod, table: NodeTable, row: int, settings: Settings, given: Parts) -> Parts | str:
    """The cards of one node for each container."""
    if not pod.asks:
        return given
    models = pod.workload.gpu_models
    rooms = [room for room in table.cards.rooms(row) if not models or room.model in models]
    weight = Fraction(settings.core_weight).limit_denominator(1000)
    found = choose_cards(rooms, pod.asks, policy=settings.cards, weight=weight, limit=settings.checks)
    if found.cards is None:
        return "no division of cards" + (", search truncated" if found.truncated else "")
    return replace(given, gpus=found.shares(rooms, pod.asks))


def _any(cards: Mask) -> Mask:
    return np.asarray(cards.any(axis=1))


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=have_cards, score=packed, reserve=choose)
