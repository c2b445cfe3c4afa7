"""Typical pods: which shapes of pods with cards usually come, and how many of each.

A *shape* is what a pod asks of the node's CPU and of each of its cards. A pod with several containers counts as its
largest part: all its whole cards together, else its largest slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from neap.common.errors import InputError
from neap.common.model.gpu import WHOLE_CARD, gpu_asks
from neap.common.model.resource import CPU
from neap.common.model.workload import Workload

CARD: Final = 1000  # milli of a card
MILLI: Final = CARD // WHOLE_CARD  # of a percent
COVER: Final = 0.95  # of all pods are of a typical shape, as published


class Typical(NamedTuple):
    """One shape of pods and how many of them there are."""

    pods: int
    cpu: int  # milli-cores
    cards: int = 0
    core: int = 0  # of each card, milli
    models: tuple[str, ...] = ()  # allowed ones; empty: any
    memory: int = 0  # of each card, MiB; 0 for whole cards, and where nobody counts it


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


def shape_of(workload: Workload) -> Typical | None:
    """The shape of one pod; None if it wants no card, or nothing that could be had."""
    try:
        asks = gpu_asks(workload)
    except InputError:
        return None
    if not asks:
        return None
    cpu, models = workload.requests.get(CPU, 0), tuple(sorted(set(workload.gpu_models)))
    whole = sum(ask.cards for ask in asks if ask.whole)
    if whole:
        return Typical(1, cpu, whole, CARD, models)
    core, memory = max((ask.core, ask.memory_mib) for ask in asks)
    return Typical(1, cpu, 1, core * MILLI, models, _rough(memory))


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


def _rough(memory: int) -> int:
    """The next power of two: few sizes of memory, so that few cases are told apart."""
    return 1 << max(0, memory - 1).bit_length()
