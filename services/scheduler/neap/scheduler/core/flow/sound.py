"""What no room in its right mind says of a node; such a message is refused, and the last good one stays in force.

Refused are amounts below zero or beyond what a column holds exactly, one NUMA node or card told twice, lists beyond
any machine, ratios of over-commitment that are none. Zero is lawful: a node may have nothing. What can be taken in part
is not refused: a usage report with a mad number is known up to that number (load.py). Workloads are judged by
admission.py, ledger entries by common.contract.lawful.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Final, NamedTuple

import msgspec

from neap.common.contract.channel import escape
from neap.common.errors import InputError
from neap.common.model.advice import Headroom
from neap.common.model.device import DeviceState
from neap.common.model.lifecycle import Submitted
from neap.common.model.node import NodeObject
from neap.common.model.profile import ServiceProfile
from neap.common.model.ratios import NodeRatios
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, LARGEST, MEMORY
from neap.common.model.topology import NodeTopology

OWNED: Final = (CPU, MEMORY, GPU_CORE, GPU_MEMORY)
MOST_KINDS: Final = 256  # of resources, per node
MOST_ZONES: Final = 4096  # NUMA nodes, cards; and the largest index
MOST_LABELS: Final = 1024  # and taints
MOST_IMAGES: Final = 10_000  # and datasets
MOST_RATIO: Final = 1000.0  # of over-commitment
MOST_SAID: Final = 1000  # refusals remembered


class Flaw(NamedTuple):
    """What is wrong: the field and the sort for counting, the sentence for people."""

    field: str
    why: str  # negative, beyond, twice, too many, owned, unusable
    said: str


class Refusals:
    """Judges what arrives, and remembers what was refused of whom until something better comes."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, str], str] = OrderedDict()

    def judge(self, message: Any) -> Flaw | None:
        """Why this message is refused; None if it is not. Cost: nothing for messages of other kinds."""
        check = _CHECKS.get(type(message))
        if check is None:
            return None
        kind, where = type(message).__name__, getattr(message, "node", "") or getattr(message, "key", "")
        self._said.pop((kind, where), None)
        found = next(check(message), None)
        if found is None:
            return None
        found = found._replace(said=f"{kind} of {where[:64]} refused: {found.said}")
        self._said[kind, where] = found.said
        while len(self._said) > MOST_SAID:
            self._said.popitem(last=False)
        return found

    @property
    def latest(self) -> str:
        """The latest refusal that stands, and how many there are; empty without any."""
        if not self._said:
            return ""
        return self._said[next(reversed(self._said))] + f" (and {len(self._said) - 1} more)" * (len(self._said) > 1)


def _topology(told: NodeTopology) -> Iterator[Flaw]:
    yield from _amounts("allocatable", told.allocatable)
    yield from _amounts("capacity", told.capacity)
    yield from _zones("numa", [(node.index, node.memory) for node in told.numa])
    yield from _zones("cards", [(card.index, card.memory_mib) for card in told.cards])
    yield from _too_many("labels", told.labels, MOST_LABELS)
    yield from _too_many("devices", told.devices, MOST_ZONES)
    for field in ("machine", "devices", "cards", "numa"):
        yield from _vast(field, getattr(told, field))


def _headroom(told: Headroom) -> Iterator[Flaw]:
    yield from _amounts("offer", told.offer)
    for kind in OWNED:  # a kind once lent is the offers' business on every node
        if kind in told.offer:
            yield Flaw("offer", "owned", f"offer {kind}: it cannot be lent")


def _node_object(told: NodeObject) -> Iterator[Flaw]:
    yield from _too_many("labels", told.labels, MOST_LABELS)
    yield from _too_many("taints", told.taints, MOST_LABELS)
    yield from _too_many("images", told.images, MOST_IMAGES)
    yield from _too_many("datasets", told.datasets, MOST_IMAGES)
    yield from _amounts("images", told.images, most=MOST_IMAGES)
    yield from _amounts("original", told.original)
    yield from _ratios(told.ratios.items(), len(told.ratios))


def _node_ratios(told: NodeRatios) -> Iterator[Flaw]:
    kinds = Counter(kind.resource for kind in told.kinds)
    yield from _ratios(((kind.resource, kind.ratio) for kind in told.kinds[: MOST_KINDS + 1]), len(told.kinds))
    for kind, times in kinds.items():
        if times > 1:
            yield Flaw("kinds", "twice", f"the ratio of {kind[:64]} is told {times} times")


def _ratios(told: Iterable[tuple[str, float]], count: int) -> Iterator[Flaw]:
    yield from _too_many("ratios", range(count), MOST_KINDS)
    for kind, ratio in told:
        if not 0 <= ratio <= MOST_RATIO:  # NaN neither
            why = "negative" if ratio < 0 else "beyond"
            yield Flaw("ratios", why, f"ratio of {kind[:64]} {ratio:g} is not within 0..{MOST_RATIO:g}")


def _submitted(told: Submitted) -> Iterator[Flaw]:
    if told.node:
        try:
            escape(told.node)
        except InputError as error:  # there can be no ledger of it
            yield Flaw("node", "unusable", f"it is said to run on {error}")


def _device_state(told: DeviceState) -> Iterator[Flaw]:
    yield from _too_many("cards", told.cards, MOST_ZONES)
    yield from _vast("cards", told.cards)


def _profile(told: ServiceProfile) -> Iterator[Flaw]:
    yield from _vast("observations", told.observations)
    yield from _too_many("portrait", told.portrait, MOST_KINDS)


def _amounts(field: str, amounts: Mapping[str, int], *, most: int = MOST_KINDS) -> Iterator[Flaw]:
    yield from _too_many(field, amounts, most)
    for kind, amount in amounts.items():
        yield from _bounded(field, f"{field} {kind[:64]}", amount)


def _bounded(field: str, what: str, amount: int, most: int = LARGEST) -> Iterator[Flaw]:
    if amount < 0:
        yield Flaw(field, "negative", f"{what} {max(amount, -LARGEST)} is negative")
    elif not amount <= most:
        yield Flaw(field, "beyond", f"{what} is beyond {most}")


def _zones(field: str, zones: Iterable[tuple[int, int]]) -> Iterator[Flaw]:
    indexes = Counter(index for index, _ in zones)
    yield from _too_many(field, indexes, MOST_ZONES)
    for index, times in indexes.items():
        yield from _bounded(field, f"index of {field}", index, MOST_ZONES)
        if times > 1:
            yield Flaw(field, "twice", f"{field} {index} is told {times} times")
    for index, memory in zones:
        yield from _bounded(field, f"memory of {field} {index}", memory)


def _too_many(field: str, some: Sized, most: int) -> Iterator[Flaw]:
    if len(some) > most:
        yield Flaw(field, "too many", f"{len(some)} {field} (allowed: {most})")


def _vast(field: str, part: Any) -> Iterator[Flaw]:
    """Whole numbers that no column holds, however deep."""
    if isinstance(part, int):
        if not -LARGEST <= part <= LARGEST:
            yield Flaw(field, "beyond", f"a number in {field} is beyond {LARGEST}")
    elif isinstance(part, msgspec.Struct):
        for name in part.__struct_fields__:
            yield from _vast(field, getattr(part, name))
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _vast(field, value)
    elif isinstance(part, tuple):
        for value in part:
            yield from _vast(field, value)


_CHECKS: Final[Mapping[type, Callable[[Any], Iterator[Flaw]]]] = {
    NodeTopology: _topology,
    Headroom: _headroom,
    NodeObject: _node_object,
    NodeRatios: _node_ratios,
    DeviceState: _device_state,
    ServiceProfile: _profile,
    Submitted: _submitted,
}
