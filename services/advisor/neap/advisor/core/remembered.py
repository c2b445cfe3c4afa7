"""What an advisor must not forget: windows, controllers, timers and promises, as plain values.

Inputs are not in it, for they are said again, but for what was heard last of each container: short reports refer to the
last full one, and stand on what came since where that was lost. Of a window of usage only stairs are kept, the samples
higher than all that came after: they give the same maxima, now and as the window moves on, and are few.

    stairs      (reports ago, amount), oldest first
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from neap.advisor.core import neighbours
from neap.advisor.core.assign import Cut
from neap.advisor.core.hearing import Heard
from neap.advisor.core.isolation import Watch
from neap.advisor.core.layout import Layout
from neap.advisor.core.lending import Lending
from neap.advisor.core.mind import Mind
from neap.advisor.core.neighbours import Neighbourhood
from neap.advisor.core.plan import PoolRecall, Recall
from neap.advisor.core.pod import Track
from neap.advisor.core.policy import Moved
from neap.advisor.core.story import Told
from neap.common.cpuset import format_cpuset, parse_cpuset
from neap.common.errors import InputError
from neap.common.model.advice import Headroom
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.units import Seconds

Number = TypeVar("Number", int, float)
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
Whole: TypeAlias = Annotated[int, Meta(ge=0)]


class PodMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pod's recent usage."""

    reports: Whole = 0
    right: Whole = 0  # reports on end in which its profile was
    smooth: Amount | None = None
    cpu: tuple[tuple[Whole, Amount], ...] = ()
    memory: tuple[tuple[Whole, Whole], ...] = ()


class PoolMemory(msgspec.Struct, frozen=True, kw_only=True):
    """One shared pool; `policy` is whatever the provision policy remembers."""

    needs: tuple[Whole, ...] = ()
    usage: Amount = 0.0
    policy: Any = None


class CutMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who had which CPUs, as CPU lists."""

    dedicated: dict[str, str] = {}  # by uid
    shared: dict[str, str] = {}  # by pool
    lent: str = ""
    overlap: str = ""
    alone: str = ""
    size: int | None = None  # of the reclaimed pool; None: there was no round yet


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """See module docstring."""

    seq: int = 0  # of the advice said last
    ledger: int = 0  # sequence of the last entry that it rests on; 0: unknown
    provision: str = ""  # the policy whose memory is in `pools`
    cut: CutMemory = CutMemory()
    pods: dict[str, PodMemory] = {}  # by uid
    pools: dict[str, PoolMemory] = {}
    watches: dict[str, Watch] = {}  # of loud owners, by uid
    lending: Lending | None = None
    neighbours: Neighbourhood = Neighbourhood()
    moved: dict[str, Moved] = {}  # by target: whose memory was moved to other NUMA nodes
    told: dict[str, tuple[Seconds, Whole]] = {}  # when pods were told last, and of how many CPUs
    full: dict[str, Any] | None = None  # the last full report, without what it leaves unsaid
    newest: dict[str, Any] | None = None  # the last report, with the containers of which newer facts are known
    known: bool = False  # all containers are in them


def memory_of(mind: Mind, *, seq: int, provision: str, ledger: int = 0) -> Memory:
    """What is to be kept. Cost: O(pods × window)."""
    heard, recall = mind.heard, mind.recall
    return Memory(
        seq=seq,
        ledger=ledger,
        provision=provision,
        cut=_cut(recall),
        pods={uid: _pod(track) for uid, track in sorted(mind.tracks.items())},
        pools={
            name: PoolMemory(needs=pool.needs, usage=pool.usage, policy=msgspec.to_builtins(pool.policy))
            for name, pool in sorted(recall.pools.items())
        },
        watches=recall.watches,
        lending=mind.lending,
        neighbours=neighbours.kept(mind.neighbours),
        moved=dict(mind.memory.moved),
        told={uid: (one.at, one.cpus) for uid, one in sorted(mind.told.items())},
        full=None if heard is None or heard.full is None else spoken(heard.full),
        newest=None if heard is None or heard.usage is heard.full else spoken(_since(heard.usage, heard.full)),
        known=heard is not None and heard.known,
    )


def _cut(recall: Recall) -> CutMemory:
    cut = recall.cut
    return CutMemory(
        dedicated={uid: format_cpuset(cpus) for uid, cpus in sorted(cut.dedicated.items())},
        shared={name: format_cpuset(cpus) for name, cpus in sorted(cut.shared.items())},
        lent=format_cpuset(cut.lent),
        overlap=format_cpuset(cut.overlap),
        alone=format_cpuset(cut.alone),
        size=recall.lent,
    )


def _since(usage: NodeUsage, full: NodeUsage | None) -> NodeUsage:
    """Without the containers that are as the full report has them."""
    same = set(full.containers) if full is not None else set()
    return msgspec.structs.replace(usage, containers=tuple(one for one in usage.containers if one not in same))


def spoken(part: Any) -> Any:
    """A Struct as plain values without fields that are at their defaults."""
    if isinstance(part, msgspec.Struct):
        values = ((name, getattr(part, name), default) for name, default in _fields(type(part)))
        return {name: spoken(value) for name, value, default in values if value != default}
    return [spoken(one) for one in part] if isinstance(part, tuple | list) else part


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in msgspec.structs.fields(kind))


def heard_before(memory: Memory) -> Heard | None:
    """What an earlier life heard last.

    Raises:
        InputError: it is no report.
    """
    try:
        full = None if memory.full is None else msgspec.convert(memory.full, NodeUsage)
        newest = full if memory.newest is None else msgspec.convert(memory.newest, NodeUsage)
    except msgspec.ValidationError as error:
        raise InputError(f"last report: {error}") from None
    if newest is None or newest is full:
        return None if full is None else Heard(full, full, known=memory.known)
    containers = {one.cgroup: one for one in (*(full.containers if full is not None else ()), *newest.containers)}
    return Heard(msgspec.structs.replace(newest, containers=tuple(containers.values())), full, known=memory.known)


def check_memory(memory: Memory) -> None:
    """Whether an advisor can have remembered this.

    Raises:
        InputError: none can.
    """
    heard_before(memory)
    offers = memory.lending.offer.values() if memory.lending is not None else ()
    if any(offer < 0 for offer in offers):
        raise InputError(f"offers below nothing: {sorted(offers)}")


def pods_again(
    tracks: Mapping[str, Track],
    memory: Memory,
    heard: Mapping[str, Sequence[ContainerUsage]] = NOTHING,
    *,
    cpus: int = 0,
) -> dict[str, Told]:
    """Put what is known of pods that are still here back into their tracks; what they were told.

    `heard`: their containers in the last report, on a machine with so many `cpus`.
    """
    for uid in tracks.keys() & memory.pods.keys():
        track_again(tracks[uid], memory.pods[uid])
        if tracks[uid].reports:  # else it came after that report
            tracks[uid].look(heard.get(uid, ()), float(cpus))
    return {uid: Told(*memory.told[uid]) for uid in sorted(tracks.keys() & memory.told.keys())}


def track_again(track: Track, pod: PodMemory) -> None:
    """Put what is known of a pod back."""
    track.reports, track.right, track.smooth = pod.reports, pod.right, pod.smooth
    track.cpu.extend(_samples(pod.cpu, track.window))
    track.memory.extend(_samples(pod.memory, track.window))


def cut_again(memory: Memory, layout: Layout, start: Any) -> Recall:
    """Who had which CPUs when the memory was written, of those still here; pools at their policy's `start`.

    Raises:
        InputError: a malformed CPU list.
    """
    kept = memory.cut
    dedicated, shared = (
        {name: parse_cpuset(cpus) & layout.lendable for name, cpus in part.items()}
        for part in (kept.dedicated, kept.shared)
    )
    lent, overlap, alone = (parse_cpuset(cpus) & layout.lendable for cpus in (kept.lent, kept.overlap, kept.alone))
    cut = Cut(dedicated, shared, lent, overlap, alone)
    return Recall(cut, {name: PoolRecall(policy=start) for name in shared}, kept.size)


def pools_again(recall: Recall, memory: Memory, start: Any, *, seq: int, provision: str) -> Recall:
    """The memory of pools on top of what the last advice (`seq`) tells; `start` is the policy's first one.

    If that was said after the memory was written, what pools hold stands for what they needed lately: they may have
    needed more than is remembered. The memory of another policy is of no use.

    Raises:
        InputError: a pool's memory is none of this policy.
    """
    pools = dict(recall.pools)
    for name, pool in memory.pools.items():
        if name not in pools:
            continue
        needs = pool.needs if seq == memory.seq else pools[name].needs
        policy = _policy(name, pool.policy, start) if provision == memory.provision else pools[name].policy
        pools[name] = PoolRecall(needs, pool.usage, policy)
    return replace(recall, pools=pools, watches=dict(memory.watches))


def lending_again(lending: Lending | None, said: Headroom | None, most: Mapping[str, int]) -> Lending | None:
    """What was offered: the last word on the bus stands, what is remembered says what led to it.

    Nothing of what this machine, which has `most`, cannot have offered.
    """
    if said is not None and (lending is None or said.at >= lending.at):
        lending = replace(
            lending or Lending({}, {}), offer=said.offer, arithmetic=said.arithmetic, stale=said.stale, at=said.at
        )
    if lending is None or any(not 0 <= offer <= most.get(kind, 0) for kind, offer in lending.offer.items()):
        return None
    return lending


def _policy(pool: str, plain: Any, start: Any) -> Any:
    """A provision policy's memory: of the type of its first one; a tuple has its length and types as well."""
    kind: Any = type(start)
    if kind is tuple:
        kind = tuple[tuple(type(part) for part in start)]  # type: ignore[misc]
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"pool {pool}: {error}") from None


def _pod(track: Track) -> PodMemory:
    return PodMemory(
        reports=track.reports,
        right=track.right,
        smooth=track.smooth,
        cpu=_stairs(track.cpu),
        memory=_stairs(track.memory),
    )


def _stairs(samples: Iterable[Number]) -> tuple[tuple[int, Number], ...]:
    found: list[tuple[int, Number]] = []
    highest: float = -math.inf
    for ago, amount in enumerate(reversed(list(samples))):
        if amount > highest:
            found.append((ago, amount))
            highest = amount
    return tuple(reversed(found))


def _samples(stairs: Sequence[tuple[int, Number]], window: int) -> list[Number]:
    """A window with these stairs: between two of them nothing is higher than the later one."""
    samples: list[Number] = []
    before = None
    for ago, amount in stairs:
        samples += [amount] * min(window, 1 if before is None else before - ago)
        before = ago
    return samples + samples[-1:] * min(window, before or 0)
