"""What the node offers to guests in total, per resource: falls at once, rises slowly, and shows its sum.

    offer(t) = min(raw(t), offer(t−1) + step)     rises only in rounds with a new report

Source: katalyst-core sysadvisor reporter/manager (headroom moves by a bounded step); Koordinator (publish on a
change of 5 %, or after a while).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neap.advisor.core.layout import Layout
from neap.advisor.core.memory import Facts, capacity_of
from neap.advisor.core.plan import Plan
from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import Chosen, Claim, HeadroomView, Offer
from neap.advisor.settings import Settings
from neap.common.model.resource import MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.usage import NodeUsage
from neap.common.units import GIB


@dataclass(frozen=True)
class Lending:
    """Whole units per kind (milli-cores, bytes), and the printed sums."""

    offer: dict[str, int]
    arithmetic: dict[str, str]
    stale: str = ""

    def differs(self, other: Lending, change: float) -> bool:
        """Whether it is worth saying again: fresh or not, from or to nothing, or moved by `change`."""
        if bool(self.stale) != bool(other.stale) or self.offer.keys() != other.offer.keys():
            return True
        return any(abs(self.offer[kind] - old) > change * old for kind, old in other.offer.items())


def nothing(why: str) -> Lending:
    """The conservative default."""
    kinds = (RECLAIMED_CPU, RECLAIMED_MEMORY)
    return Lending(dict.fromkeys(kinds, 0), dict.fromkeys(kinds, f"0.0, because there is {why}"), why)


def lend(
    views: Sequence[HeadroomView], before: Lending | None, chosen: Chosen, settings: Settings, *, growing: bool
) -> Lending:
    """The offers after one more round.

    Laws: 0 ≤ offer ≤ raw; offer(t) ≤ offer(t−1) + step.
    """
    offer: dict[str, int] = {}
    arithmetic: dict[str, str] = {}
    for view in views:
        raw: Offer = chosen.headroom.advise(view, chosen.headroom_settings)
        scale = 1000 if view.kind == RECLAIMED_CPU else 1
        amount, text = int(raw.amount * scale + 1e-6), raw.arithmetic
        if before is not None:
            last = before.offer.get(view.kind, 0)
            most = last + (int(view.capacity * settings.grow_step * scale) if growing else 0)
            if amount > most:
                amount = most
                text = f"{_written(most, view.kind)}, coming from {_written(last, view.kind)} in steps, to {text}"
        offer[view.kind], arithmetic[view.kind] = amount, text
    return Lending(offer, arithmetic)


def cpu_view(
    plan: Plan, layout: Layout, pods: Sequence[Pod], tracks: Mapping[str, Track], usage: NodeUsage
) -> HeadroomView:
    """Cores: capacity is every usable CPU; owners claim what their pools need, dedicated pods what they asked for."""
    explained = sum(tracks[pod.uid].likely for pod in pods)
    claims = [
        Claim(float(sum(map(len, plan.cut.dedicated.values()))), "dedicated"),
        Claim(plan.estimate, "online", plan.wanted / plan.estimate if plan.estimate > 0 else 1.0),
        Claim(plan.reserve, "reserve"),
    ]
    return HeadroomView(
        kind=RECLAIMED_CPU,
        capacity=float(len(layout.usable)),
        reserved=float(len(layout.system)),
        system=None if usage.cpu is None else max(0.0, usage.cpu - explained),
        claims=tuple(claims),
    )


def memory_offer_view(facts: Facts, settings: Settings) -> HeadroomView:
    """Bytes: owners claim the peak of their working set with room to grow, or their request until that is known.

    Who has NUMA nodes alone claims all their memory.
    """
    topology, exclusive = facts.topology, facts.binding.exclusive
    capacity = capacity_of(topology)
    alone = sum(node.memory for node in topology.numa if node.index in exclusive)
    measured = asked = explained = 0
    for pod in facts.pods:
        track = facts.tracks[pod.uid]
        explained += track.memory[-1] if track.memory else 0
        if not pod.is_owner or pod.uid in exclusive.values():
            continue
        if track.memory and track.reports >= settings.settle:
            measured += max(track.memory)
        else:
            asked += max(pod.memory, *track.memory, 0)
    available = facts.usage.memory_available if facts.usage is not None else None
    return HeadroomView(
        kind=RECLAIMED_MEMORY,
        capacity=float(capacity),
        reserved=float(max(0, capacity - topology.allocatable.get(MEMORY, capacity))),
        system=None if available is None else float(max(0, capacity - available - explained)),
        claims=(
            Claim(float(measured), "online", settings.memory_growth),
            Claim(float(asked), "requested"),
            Claim(float(alone), "exclusive"),
        ),
    )


def _written(amount: int, kind: str) -> str:
    return f"{amount / 1000:.1f}" if kind == RECLAIMED_CPU else f"{amount / GIB:.1f}Gi"
