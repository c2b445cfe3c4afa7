"""Cards for pods that ask for parts of one, or for whole ones.

Filter, for all nodes at once, by what is left on each card (a card counts if its model is allowed):

    a slice        a card with core left >= ask, memory left >= ask, containers < 16, for each container
    equal slices   room for as many: Σ over cards of min(core left / ask, memory left / ask, 16 − containers)
    of a gang      such a card without a share of another member (setting `gang_apart`; see core.gang_cards)
    whole cards    as many untouched cards as all containers together ask
    together       Σ core left >= Σ core asked

This is exact for equal slices and for whole cards; for other mixes it is necessary, and the search at reserve
decides (depth first over containers × cards, see common.model.gpu).

    score  pack:   100 · (core used + core asked) / (100 · cards)      spread: 100 − pack        [0..100]

Cards that a plugin before names in `prefer` are taken if that is legal; else those of the NUMA nodes given before, if
they do; else any. Two levels decide: `nodes` over nodes, by the score, and `cards` over the cards of one node.

    score of an owner without GPU: 100 where there are no cards, 0 where there are (setting `keep`)

Packing keeps untouched cards together for pods that need them whole; an owner that needs no card goes where its CPU
strands none. Guests may use the CPU beside cards: they leave when it is needed.
Units: percent of a card, MiB.
Source: requirements 2.3 and 002-44 (public mGPU design proposal; our scoring definition).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.model.gpu import (
    CHECK_LIMIT,
    MOST_CONTAINERS,
    WHOLE_CARD,
    CardPolicy,
    CardRoom,
    CardSearch,
    GpuAsk,
    choose_cards,
    named_shares,
)
from neap.common.model.placement import GpuShare
from neap.scheduler.core.choice.framework import Near, Parts, Plugin, Rule
from neap.scheduler.core.nodes.cards import CONTAINERS, CORE, CORE_USED, COUNT, MEMORY, MODEL
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.gang_cards import barred_cards, keeps_apart
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Mask, Numbers, View
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.why.card_near import count_short, no_such_card, slice_short

WAKES: Final = frozenset({NodeChanged.DEVICE, NodeChanged.NODE_ADDED})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes and cards are filled."""

    nodes: Literal["pack", "spread"] = "pack"  # GPU pods over nodes
    cards: CardPolicy = CardPolicy.BINPACK  # containers over the cards of one node
    core_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5  # of compute against memory in the score of cards
    gang_apart: bool = True  # shares of one gang are on different cards, unless a workload says otherwise
    keep: bool = True  # owners without GPU keep away from nodes with cards, as far as there are others
    checks: Annotated[int, Meta(ge=16)] = CHECK_LIMIT  # most steps of one search; beyond, the best so far is taken


def have_cards(pod: Pod, view: View, settings: Settings) -> Sequence[Rule]:
    """Rules in the order a person would ask: any card, the right model, enough of it."""
    if not pod.asks:
        return ()
    core, containers = view.column(CORE), view.column(CONTAINERS)
    there = view.column(COUNT) > 0
    rules = [Rule("no card", there, WAKES, lambda: no_such_card(view, there[:, None], "a card is needed"))]
    models, allowed = sorted(set(pod.workload.gpu_models)), core >= 0  # an absent card has −1
    if models:
        allowed = allowed & np.isin(view.column(MODEL), [code(model) for model in models])
        rules.append(_of_model(view, allowed, "|".join(models)))
    barred = barred_cards(pod, view) if settings.gang_apart else None
    open_ = allowed if barred is None else allowed & ~barred
    slices = Counter((ask.core, ask.memory_mib) for ask in pod.asks if not ask.whole)
    for (slice_core, slice_memory), count in sorted(slices.items()):
        fits = allowed & (core >= slice_core) & (view.column(MEMORY) >= slice_memory) & (containers < MOST_CONTAINERS)
        what = f"card with {slice_core} % and {slice_memory} MiB left"
        rules.append(_slice(view, what, fits, allowed, (slice_core, slice_memory)))
        if settings.gang_apart and keeps_apart(pod):
            rules.append(_slice(view, f"{what}, without its gang", fits & open_, open_, (slice_core, slice_memory)))
        if count > 1:
            room = _slices(view, open_, slice_core, slice_memory)
            size = f"slices of {slice_core} % and {slice_memory} MiB"
            rules.append(_count(view, f"{count} {size}", room, count, size))
    whole = sum(ask.cards for ask in pod.asks if ask.whole)
    if whole:
        untouched = (allowed & (core == WHOLE_CARD) & (containers == 0)).sum(axis=1)
        rules.append(_count(view, f"{whole} untouched cards", untouched, whole, "untouched cards"))
    if len(pod.asks) > 1:
        asked = sum(ask.cards * ask.core for ask in pod.asks)
        left = np.where(open_, core, 0).sum(axis=1)
        rules.append(_count(view, f"{asked} % of cards left", left, asked, "% left"))
    return rules


def _of_model(view: View, allowed: Mask, models: str) -> Rule:
    def near() -> Near:
        return no_such_card(view, allowed, f"none is {models}")

    return Rule(f"card model not {models}", _any(allowed), WAKES, near)


def _slice(view: View, reason: str, fits: Mask, allowed: Mask, ask: tuple[int, int]) -> Rule:
    return Rule(reason, _any(fits), WAKES, lambda: slice_short(view, allowed, *ask))


def _slices(view: View, open_: Mask, core: int, memory: int) -> Numbers:
    """How many slices of one size the cards of a node have room for."""
    by_card = np.minimum(view.column(CORE) // core, view.column(MEMORY) // memory)
    by_card = np.minimum(by_card, MOST_CONTAINERS - view.column(CONTAINERS))
    return np.asarray(np.where(open_, by_card, 0).sum(axis=1))


def _count(view: View, reason: str, have: Numbers, asked: int, what: str) -> Rule:
    return Rule(reason, np.asarray(have >= asked), WAKES, lambda: count_short(view, have, asked, what))


def packed(pod: Pod, view: View, settings: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod that has no opinion about cards."""
    if not pod.asks:
        return None if pod.guest or not settings.keep else view.told("gpu_share/keep", _without_cards)
    capacity = WHOLE_CARD * view.column(COUNT)
    used = view.column(CORE_USED) + sum(ask.cards * ask.core for ask in pod.asks)
    full = np.divide(used, capacity, out=np.zeros(view.size), where=capacity > 0)
    score: Numbers = 100 * np.minimum(full, 1.0)
    return score if settings.nodes == "pack" else 100 - score


def _without_cards(view: View) -> Numbers:
    return np.where(view.column(COUNT) > 0, 0.0, 100.0)


def choose(pod: Pod, table: NodeTable, row: int, settings: Settings, given: Parts) -> Parts | str:
    """The cards of one node for each container."""
    if not pod.asks:
        return given
    models = pod.workload.gpu_models
    barred = table.gangs.barred(pod, row) if settings.gang_apart else frozenset()
    rooms = [
        room for room in table.cards.rooms(row) if room.index not in barred and (not models or room.model in models)
    ]
    if given.prefer and (named := named_shares(rooms, pod.asks, given.prefer)) is not None:
        return replace(given, gpus=named)
    if given.numa:
        near = {card.index for card in table.cards.of(row) if card.numa in given.numa}
        inside, _ = _divide([room for room in rooms if room.index in near], pod.asks, settings)
        if inside:
            return replace(given, gpus=inside)
    shares, truncated = _divide(rooms, pod.asks, settings)
    if not shares:
        return "no division of cards" + (", search truncated" if truncated else "")
    return replace(given, gpus=shares)


def _divide(
    rooms: Sequence[CardRoom], asks: tuple[GpuAsk, ...], settings: Settings
) -> tuple[tuple[GpuShare, ...], bool]:
    """The shares, none if there is no division; and whether the search was cut short."""
    weight = Fraction(settings.core_weight).limit_denominator(1000)
    found = _searched(tuple(rooms), asks, settings.cards, weight, settings.checks)
    return found.shares(rooms, asks), found.truncated


@lru_cache(maxsize=4096)  # nodes of one state are the rule: a fleet is filled by pods of few shapes
def _searched(
    rooms: tuple[CardRoom, ...], asks: tuple[GpuAsk, ...], policy: CardPolicy, weight: Fraction, limit: int
) -> CardSearch:
    return choose_cards(rooms, asks, policy=policy, weight=weight, limit=limit)


def _any(cards: Mask) -> Mask:
    return np.asarray(cards.any(axis=1))


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=have_cards, score=packed, reserve=choose)
