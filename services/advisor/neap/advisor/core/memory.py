"""One round of memory: report and ledger -> view -> every memory policy -> knobs by target, and the arithmetic.

A knob that a policy no longer speaks of is lifted as long as its cgroup is named at all: the enforcer leaves alone
what is not advised, so silence would keep it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from neap.advisor.core.binding import Binding
from neap.advisor.core.hearing import by_pod
from neap.advisor.core.indicators import total
from neap.advisor.core.pod import RECLAIMED, Pod, Track
from neap.advisor.core.policy import Chosen, MemoryNode, MemoryPod, MemoryView, Moved
from neap.common.model.advice import Knobs, NodeAdvice
from neap.common.model.resource import MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.units import Bytes, Seconds

Number = TypeVar("Number", int, float)
LIFTED: Final[Mapping[str, int]] = {"memory_min": 0, "memory_low": 0, "memory_high": -1, "memory_max": -1}
CLASSES: Final = ("besteffort", "burstable")  # as the kubelet names their cgroups; guaranteed pods have none


@dataclass(frozen=True)
class MemoryPlan:
    """What the memory policies come to; `reason` is one sentence per policy."""

    knobs: dict[str, Knobs] = field(default_factory=dict)
    reason: str = ""
    moved: dict[str, Moved] = field(default_factory=dict)  # by target


def plan_memory(view: MemoryView, chosen: Chosen) -> MemoryPlan:
    """Ask every policy. Where two speak of the same knob of a target, the one named later wins."""
    knobs: dict[str, Knobs] = {}
    reasons: list[str] = []
    moved: dict[str, Moved] = {}
    for policy, settings in chosen.memory:
        said = policy.advise(view, settings)
        reasons += [said.reason] if said.reason else []
        moved |= said.moved
        for target, more in said.knobs.items():
            knobs[target] = merged(knobs[target], more) if target in knobs else more
    named = knobs.keys() | {pod.target for pod in view.pods if pod.target} | {"class/besteffort"}
    for target, before in view.before.items():
        now = knobs.get(target, Knobs())
        gone: dict[str, Any] = {
            name: value
            for name, value in LIFTED.items()
            if getattr(now, name) is None and getattr(before, name) is not None
        }
        if gone and target in named:
            knobs[target] = replace(now, **gone)
    return MemoryPlan(dict(sorted(knobs.items())), "; ".join(reasons), moved)


def merged(below: Knobs, above: Knobs) -> Knobs:
    """The knobs of both; where both speak, those of `above`."""
    return replace(below, **spoken(above))


def spoken(knobs: Knobs) -> dict[str, Any]:
    """The knobs that are advised at all."""
    return {name: value for name in knobs.__struct_fields__ if (value := getattr(knobs, name)) is not None}


def advised(advice: NodeAdvice) -> dict[str, Knobs]:
    """What an earlier life advised about memory; a guest's own limits are not of these policies."""
    return {
        cgroup.target: Knobs(**{name: value for name in LIFTED if (value := getattr(cgroup.knobs, name)) is not None})
        for cgroup in advice.cgroups
        if cgroup.pool != RECLAIMED or cgroup.target.startswith("class/")
    }


@dataclass(frozen=True)
class Facts:
    """What a round knows of the node."""

    topology: NodeTopology
    pods: Sequence[Pod]
    tracks: Mapping[str, Track]
    usage: NodeUsage | None
    binding: Binding


def memory_view(facts: Facts, before: MemoryPlan, *, at: Seconds, fresh: bool, blind: str) -> MemoryView:
    """What the policies may know; `before`: what the last round came to."""
    topology, usage, nodes = facts.topology, facts.usage, tuple(_nodes(facts))
    capacity = capacity_of(topology)
    shared = [node for node in nodes if node.guests]
    free = [node.free for node in shared if node.free is not None]
    marks = [node.watermark for node in nodes if node.watermark is not None]
    return MemoryView(
        capacity=capacity,
        reserved=max(0, capacity - topology.allocatable.get(MEMORY, capacity)),
        available=can_be(usage.memory_available, capacity) if usage is not None else None,
        free=sum(free) if free and len(free) == len(shared) else None,
        apart=sum(node.total if node.free is None else node.free for node in nodes if not node.guests),
        watermark=sum(marks) if marks else None,
        pods=tuple(_pods(facts)),
        before=before.knobs,
        fresh=fresh,
        blind=blind,
        at=at,
        nodes=nodes,
        moved=before.moved,
        period=usage.period if usage is not None else 0.0,
    )


def capacity_of(topology: NodeTopology) -> Bytes:
    """The machine's memory; the less where two of its sources contradict each other."""
    known = (topology.capacity.get(MEMORY, 0), sum(node.memory for node in topology.numa))
    return min((amount for amount in known if amount > 0), default=0)


def _nodes(facts: Facts) -> Iterator[MemoryNode]:
    seen = {node.index: node for node in facts.usage.numa} if facts.usage is not None else {}
    for node in sorted(facts.topology.numa, key=lambda node: node.index):
        if node.memory <= 0:
            continue
        now = seen.get(node.index)
        yield MemoryNode(
            index=node.index,
            total=node.memory,
            free=None if now is None else can_be(now.memory_free, node.memory),
            watermark=None if now is None else can_be(now.watermark_low, node.memory),
            bandwidth=None if now is None else can_be(now.bandwidth, math.inf),
            latency=None if now is None else can_be(now.latency, math.inf),
            guests=node.index not in facts.binding.exclusive,
            distances=node.distances,
        )


def can_be(value: Number | None, most: float) -> Number | None:
    """None where it cannot be an amount."""
    return value if value is not None and 0 <= value <= most and value < math.inf else None


def _pods(facts: Facts) -> Iterable[MemoryPod]:
    by_uid = by_pod(facts.usage.containers if facts.usage is not None else ())
    known = {pod.uid: pod for pod in facts.pods}
    order = [node.index for node in facts.usage.numa] if facts.usage is not None else []
    for uid in sorted(known.keys() | by_uid.keys()):
        seen, pod = by_uid.get(uid, []), known.get(uid)
        home = _home(seen) or (pod.home if pod is not None else "guaranteed")
        held = MemoryPod(
            uid=uid,
            home=home,
            guest=home == "besteffort",
            used=_sum(one.memory if one.memory is not None else one.working_set for one in seen),
            working=_sum(one.working_set for one in seen) if seen else None,
            cache=_sum(one.file_cache for one in seen),
        )
        if pod is None:
            yield held
            continue
        yield replace(
            held,
            target=f"pod/{uid}",
            pool=pod.pool,
            guest=not pod.is_owner,
            request=pod.memory,
            peak=max(facts.tracks[uid].memory, default=None),
            stall=max((one.memory_stall.some60 for one in seen if one.memory_stall is not None), default=None),
            refaults=total(one.refaults for one in seen),
            anon=_lies(seen, order),
            bound=uid in facts.binding.nodes,
            apart=bool(facts.binding.nodes.get(uid, frozenset()) & facts.binding.exclusive.keys()),
        )


def _lies(seen: Sequence[ContainerUsage], order: Sequence[int]) -> dict[int, Bytes] | None:
    """Anonymous memory by NUMA node; None unless it is known of every container."""
    parts = [one.memory_nodes for one in seen]
    if not parts or not order:
        return None
    held = dict.fromkeys(order, 0)
    for part in parts:
        if part is None or len(part) != len(order) or min(part) < 0:
            return None
        for index, amount in zip(order, part, strict=True):
            held[index] += amount
    return held


def _sum(amounts: Iterable[Bytes | None]) -> Bytes | None:
    """The sum of what is all known; a pod that is not there holds nothing."""
    total = 0
    for amount in amounts:
        if amount is None or amount < 0:
            return None
        total += amount
    return total


def _home(seen: Sequence[ContainerUsage]) -> str:
    """Kubernetes' class of a pod, from where its cgroup was found; empty if it was not."""
    for one in seen:
        return next((name for name in CLASSES if name in one.cgroup), "guaranteed" if "kubepods" in one.cgroup else "")
    return ""
