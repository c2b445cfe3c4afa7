"""Memory of guests moves off a NUMA node that is too busy or too full, before anybody has to leave for it.

    crowd     = which node, and where to                                                  see core/crowding
    guests    not bound, with least < anon(source) < most, the smallest first; each moves what it has outside the
              destinations, as long as Σ moved ≤ all and every destination keeps twice what it should have free     [bytes]
    owners    the same after them, of shared pools, where `owners` says so and Σ moved < enough
    advice    mems = the destinations, for `rest`; then it may use all nodes again, and what moved stays        (cpuset.mems)
    not to n  if within `rest` anybody was moved off n to the source: memory does not go back and forth

The kernel moves the pages of all tasks of a cgroup at once when a node is taken from its cpuset.mems, and later ones
go where it may allocate; which of several destinations it takes is its own (node_remap), so each must do. Guests are
moved, never evicted for it: that is the evictor's (numa_memory, memory_bandwidth), which sees whether this was enough.
No kernel file tells latencies, and bandwidth only where there is resctrl: without both it is by room alone.

Off unless it is named in `memory`. Use on machines of several NUMA nodes whose guests hold much memory.
Source: katalyst-core memory/plugin numa memory balancer (reference §4.8.2: 128 MiB to 15 GiB of a guest, to 10 GiB of
a shared pod, guests first and the smallest first, 3 GiB of guests end a round, 15 GiB are its most; back and forth within
15 min; every 30 s) and memset binder (by room); kernel documentation, admin-guide/cgroup-v2 (cpuset.mems).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.advisor.core.crowding import Crowd, Thresholds, crowd, low_of
from neap.advisor.core.policy import MemoryNode, MemoryPod, MemoryPolicy, MemoryProposal, MemoryView, Moved
from neap.common.cpuset import format_cpuset
from neap.common.model.advice import Knobs
from neap.common.units import GIB, MIB, MINUTE, Bytes, Seconds, format_bytes

Size = Annotated[Bytes, Meta(ge=0)]
APART: Final = ("dedicated", "system")  # pools whose memory stays where it is


class Settings(Thresholds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a node is crowded (core/crowding), and how much moves."""

    least: Size = 128 * MIB  # of a pod on the source: less is not worth it
    guest: Size = 15 * GIB  # of a guest at most: more takes too long
    owner: Size = 10 * GIB  # of an owner at most
    all: Size = 15 * GIB  # of all together in a round
    enough: Size = 3 * GIB  # of guests: then owners stay where they are
    owners: Annotated[int, Meta(ge=0, le=1)] = 0  # 1: owners of shared pools may be moved as well
    rest: Annotated[Seconds, Meta(ge=0, le=86400)] = 15 * MINUTE  # kept off for so long, and nobody moves back
    pause: Annotated[Seconds, Meta(ge=0, le=86400)] = 30.0  # between two rounds


def advise(view: MemoryView, settings: Settings) -> MemoryProposal:
    """Memory nodes of pods.

    Laws: nobody who is bound moves, nor to a node where guests may not be; nobody moves to where it was moved from
    within `rest`; Σ moved ≤ all; every destination keeps twice its low; without a new report nobody moves anew.
    """
    nodes = {node.index: node for node in view.nodes if node.guests}
    movable = {pod.target: pod for pod in view.pods if _may_move(pod, settings)}
    kept = {
        target: move
        for target, move in view.moved.items()
        if target in movable and view.at - settings.rest < move.at <= view.at and nodes.keys() >= set(move.to)
    }
    fresh, why = dict[str, Moved](), ""
    if view.fresh and not view.blind and all(move.at + settings.pause <= view.at for move in kept.values()):
        found = crowd([nodes[index] for index in sorted(nodes)], settings)
        if found is not None:
            pods = [pod for target, pod in sorted(movable.items()) if target not in kept]
            fresh, why = _round(found, pods, nodes, view, settings)
    moved = dict(sorted({**kept, **fresh}.items()))
    knobs = {target: Knobs(mems=format_cpuset(move.to)) for target, move in moved.items()}
    return MemoryProposal(knobs=knobs, reason=why, moved=moved)


def _may_move(pod: MemoryPod, settings: Settings) -> bool:
    if not pod.target or pod.bound:
        return False
    return pod.guest or (bool(settings.owners) and pod.pool not in APART)


def _round(
    found: Crowd, pods: Sequence[MemoryPod], nodes: dict[int, MemoryNode], view: MemoryView, settings: Settings
) -> tuple[dict[str, Moved], str]:
    """Who moves now, and the sentence."""
    to = tuple(sorted(_open(found, nodes, view, settings)))
    if not to:
        return {}, f"memory stays: {found.why}, and no other node is better off and has room"
    room = min([settings.all, *(_spare(nodes[index], settings) for index in to)])
    moved, total = dict[str, Moved](), 0
    for pod, size in _candidates(found.source, to, pods, settings):
        if not pod.guest and total >= settings.enough:
            break
        if total + size > room:
            break
        moved[pod.target] = Moved(view.at, found.source, to)
        total += size
    where = format_cpuset(to)
    if not moved:
        return {}, f"memory stays: {found.why}, and nobody's can be moved to NUMA node {where}"
    return moved, f"{format_bytes(total)} of {len(moved)} pods moved to NUMA node {where}: {found.why}"


def _open(found: Crowd, nodes: dict[int, MemoryNode], view: MemoryView, settings: Settings) -> Iterator[int]:
    """Destinations that have room, and off which nobody was moved to the source lately."""
    for index in found.to:
        back = any(
            move.source == index and found.source in move.to and view.at - settings.rest < move.at
            for move in view.moved.values()
        )
        if not back and _spare(nodes[index], settings) >= settings.least:
            yield index


def _spare(node: MemoryNode, settings: Settings) -> Bytes:
    return 0 if node.free is None else node.free - 2 * low_of(node, settings)


def _candidates(
    source: int, to: Collection[int], pods: Sequence[MemoryPod], settings: Settings
) -> Iterator[tuple[MemoryPod, Bytes]]:
    """Guests before owners, the least on the source first; each with what would move."""
    ranked = []
    for pod in pods:
        here = (pod.anon or {}).get(source, 0)
        most = settings.guest if pod.guest else settings.owner
        if pod.anon is not None and settings.least < here < most:
            moving = sum(held for node, held in pod.anon.items() if node not in to)
            ranked.append((not pod.guest, here, pod.uid, pod, moving))
    for *_, pod, moving in sorted(ranked, key=lambda one: one[:3]):
        yield pod, moving


PLUGIN: Final = MemoryPolicy(settings=Settings, advise=advise)
