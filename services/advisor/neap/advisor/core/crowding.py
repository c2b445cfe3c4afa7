"""Which NUMA node is too busy, or too full, and where some of its memory would be better off. Pure; all by formula.

by latency, where every node's is known (ns a read takes)
    worst = node of the highest latency,  busiest = node of the highest bandwidth,  share = bandwidth(worst) / bandwidth(busiest)
    force   latency(worst) > force              grace   latency(worst) > grace,
            or the nearest node is within `near` and latency(worst) − latency(nearest) > gap
    share > high     off worst, to nodes of less latency, nearest first
    share > medium   the CPUs of worst read elsewhere: off busiest, to the node of the least bandwidth         (force only)
    else             its latency is an artefact:       off busiest, to worst                                  (force only)
by bandwidth, where the site says what a node can do at `most` (bytes/s), and every node's is known
    force   bandwidth(busiest) > most           grace   > soft × most             off busiest, to nodes of less bandwidth
by room, where nothing of that holds
    free(n) < low(n) = max(low × total(n), 2 × watermark(n))                 grace, off the fullest, to any that has room

A node is a destination if  metric(n) × (1 + ratio) ≤ metric(source),  ratio = `lesser` within `near`, else `greater`;
under grace only nodes within `near` are.
Source: katalyst-core memory/plugin numa memory balancer and its options (reference §4.8.2: force 80 ns, grace 70, gap
40, distance 19, ratios .15 and .2, levels .8 and .5; on AMD, by L3 misses, 600, 500 and 400). There the node of the
highest latency is looked for by the wrong comparison; and it does not judge by room, nor ask a destination for any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from neap.advisor.core.policy import MemoryNode
from neap.common.units import Bytes, Ratio, format_bytes

SELF: Final = 10  # distance of a node from itself, as ACPI has it
FAR: Final = 20  # of two nodes whose distance nobody says
Share = Annotated[Ratio, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a node is crowded."""

    force: Amount = 80.0  # ns: move, whatever the bandwidth; 600 on AMD, by L3 misses
    grace: Amount = 70.0  # ns: move if it is busy as well; 500 on AMD
    gap: Amount = 40.0  # ns to the nearest node: the same; 400 on AMD
    near: Annotated[int, Meta(ge=10, le=255)] = 19  # distance of a neighbour at most
    lesser: Share = 0.15  # by how much a near node must be better off
    greater: Share = 0.2  # by how much a far one
    high: Share = 0.8  # of the busiest node's bandwidth: as busy
    medium: Share = 0.5  # half as busy
    most: Amount = 0.0  # bytes/s of one NUMA node: too much; 0: not judged
    soft: Share = 0.9  # of most: too much, if a neighbour has less
    low: Share = 0.05  # of a node's memory free: too little


class Crowd(NamedTuple):
    """A node to take memory off, and where to, the best first; `force` under force."""

    source: int
    to: tuple[int, ...]
    force: bool
    why: str


Metric = Callable[[MemoryNode], float]


def crowd(nodes: Sequence[MemoryNode], terms: Thresholds) -> Crowd | None:
    """The node that is worst off; None where none is, or nobody can tell. Laws: no node is sent to itself."""
    if len(nodes) < 2:
        return None
    if all(node.latency and node.bandwidth is not None for node in nodes):
        return by_latency(nodes, terms)
    found = by_bandwidth(nodes, terms) if terms.most and all(node.bandwidth is not None for node in nodes) else None
    return found or by_room(nodes, terms)


def by_latency(nodes: Sequence[MemoryNode], terms: Thresholds) -> Crowd | None:
    """See module docstring."""
    worst, busiest = max(nodes, key=_latency), max(nodes, key=_bandwidth)
    others = _others(worst, nodes, _latency)
    slow = _latency(worst)
    if slow > terms.force:
        force, why = True, f"{slow:.0f} ns on NUMA node {worst.index}, {terms.force:.0f} are allowed"
    elif slow > terms.grace:
        force, why = False, f"{slow:.0f} ns on NUMA node {worst.index}, {terms.grace:.0f} are wanted"
    elif _distance(worst, others[0]) <= terms.near and slow - _latency(others[0]) > terms.gap:
        force, why = False, f"{slow:.0f} ns on NUMA node {worst.index}, {_latency(others[0]):.0f} beside it"
    else:
        return None
    share = _bandwidth(worst) / _bandwidth(busiest) if _bandwidth(busiest) > 0 else 0.0
    if worst is busiest or share > terms.high:
        return _crowd(worst, others, _latency, terms, force=force, why=why)
    if not force:
        return None
    if share > terms.medium:
        targets, far = _others(busiest, nodes, _bandwidth, nearest=False)[:1], False
    else:
        targets, far = [worst], True
    why += f", read from elsewhere: NUMA node {busiest.index} is the busiest"
    return _crowd(busiest, targets, _bandwidth, terms, force=True, why=why, near=far)


def by_bandwidth(nodes: Sequence[MemoryNode], terms: Thresholds) -> Crowd | None:
    """See module docstring."""
    busiest = max(nodes, key=_bandwidth)
    rate = _bandwidth(busiest)
    if rate <= terms.soft * terms.most:
        return None
    why = f"{format_bytes(int(rate))}/s on NUMA node {busiest.index}, {format_bytes(int(terms.most))}/s are allowed"
    others = _others(busiest, nodes, _bandwidth)
    return _crowd(busiest, others, _bandwidth, terms, force=rate > terms.most, why=why)


def by_room(nodes: Sequence[MemoryNode], terms: Thresholds) -> Crowd | None:
    """See module docstring."""
    short = [node for node in nodes if node.free is not None and node.free < low_of(node, terms)]
    if not short:
        return None
    fullest = min(short, key=lambda node: ((node.free or 0) - low_of(node, terms), node.index))
    roomy = [node for node in _others(fullest, nodes, lambda node: -float(node.free or 0)) if node not in short]
    free, low = format_bytes(fullest.free or 0), format_bytes(low_of(fullest, terms))
    why = f"{free} free on NUMA node {fullest.index}, {low} are wanted"
    return Crowd(fullest.index, tuple(node.index for node in roomy), False, why)


def low_of(node: MemoryNode, terms: Thresholds) -> Bytes:
    """Free memory a node should have."""
    return max(int(terms.low * node.total), 2 * (node.watermark or 0))


def _crowd(
    source: MemoryNode,
    targets: Iterable[MemoryNode],
    metric: Metric,
    terms: Thresholds,
    *,
    force: bool,
    why: str,
    near: bool = False,
) -> Crowd:
    """`near`: the targets count as near, wherever they are."""
    found = []
    for node in targets:
        is_near = near or _distance(source, node) <= terms.near
        if not is_near and not force:
            continue
        ratio = terms.lesser if is_near else terms.greater
        if metric(node) * (1 + ratio) <= metric(source):
            found.append(node.index)
    return Crowd(source.index, tuple(found), force, why)


def _others(
    source: MemoryNode, nodes: Sequence[MemoryNode], metric: Metric, *, nearest: bool = True
) -> list[MemoryNode]:
    """All but the source, nearest first, and then the best off."""

    def rank(node: MemoryNode) -> tuple[float, float, int]:
        return (_distance(source, node) if nearest else 0.0, metric(node), node.index)

    return sorted((node for node in nodes if node is not source), key=rank)


def _distance(one: MemoryNode, other: MemoryNode) -> int:
    return one.distances.get(other.index, FAR)


def _latency(node: MemoryNode) -> float:
    return node.latency or 0.0


def _bandwidth(node: MemoryNode) -> float:
    return node.bandwidth or 0.0
