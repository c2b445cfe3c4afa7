"""What the node offers to guests in total, per resource: it moves by bounded steps, and shows its sum.

    offer(t) = min(raw(t), offer(t−1) + rise × capacity × minutes since a report, or a fall)   rises only with a report
             ≥ offer(t−1) − drop × capacity × minutes                unless there is an emergency, see alarms.py
             ≤ the CPUs that guests have                             whatever else, where the policy sells no more

So an offer moves by at most 5 × rise, or drop, of the node in five minutes. For a while the guests' pool keeps what
was offered, out of the margin that owners have beyond their use (see sizing.py): an offer is worth as much as can be
used of it, and `promised` says how much that was in 99 of 100 cases.
Source: katalyst-core sysadvisor reporter/manager (headroom moves by a bounded step); Koordinator (publish on a
change of 5 %, or after a while; its issue 1906: guests placed on capacity that jumps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from msgspec.structs import replace

from neap.advisor.core.layout import Layout
from neap.advisor.core.memory import Facts, can_be, capacity_of
from neap.advisor.core.plan import Plan
from neap.advisor.core.pod import RECLAIMED, Pod, Track
from neap.advisor.core.policy import Chosen, Claim, HeadroomView, Supply
from neap.advisor.core.sums import written
from neap.advisor.core.survival import Past, promised, remember, survival
from neap.advisor.settings import Settings
from neap.common.model.advice import Headroom
from neap.common.model.resource import MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.usage import NodeUsage
from neap.common.units import MINUTE, Cores, Seconds, format_duration

NEGLIGIBLE: Final = 1e-9


@dataclass(frozen=True)
class Lending:
    """Whole units per kind (milli-cores, bytes), and the printed sums."""

    offer: dict[str, int]
    arithmetic: dict[str, str]
    stale: str = ""
    cap: Cores | None = None  # for all guests together; None: their CPUs are cap enough
    at: Seconds = 0.0
    firm: dict[str, float] = field(default_factory=dict)  # capacity − reserved − what owners asked for
    past: dict[str, Past] = field(default_factory=dict)
    highest: tuple[tuple[Seconds, int], ...] = ()  # milli-cores offered at most, by the minute; the last ones
    measured: tuple[
        str, ...
    ] = ()  # kinds whose use by the system was known once: without it such an offer rises no more
    grown: dict[str, Seconds] = field(default_factory=dict)  # when each offer could rise last, or fell

    def most(self, at: Seconds, horizon: Seconds) -> int:
        """Whole CPUs that were offered at most within a time."""
        return max((offer for minute, offer in self.highest if at - minute <= horizon), default=0) // 1000

    def differs(self, other: Headroom, change: float) -> bool:
        """Whether it is worth saying again: fresh or not, from or to nothing, or moved by `change`."""
        if bool(self.stale) != bool(other.stale) or self.offer.keys() != other.offer.keys():
            return True
        return any(abs(self.offer[kind] - old) > change * old for kind, old in other.offer.items())

    def survival(self, settings: Settings) -> dict[str, Seconds]:
        """How long a guest that takes the last unit of an offer may expect to keep it."""
        fraction, confidence = settings.survival_fraction, settings.survival_confidence
        return {kind: survival(past, fraction=fraction, confidence=confidence) for kind, past in self.past.items()}

    def told(self, settings: Settings) -> str:
        """The sum behind the offer of CPU, and how long a share of it may be expected to last."""
        lasts = self.survival(settings).get(RECLAIMED_CPU, 0.0)
        share = f"{settings.survival_confidence:.0%} of such shares lasted {format_duration(lasts)}"
        return self.arithmetic[RECLAIMED_CPU] + (f"; {share}" if lasts > 0 else "")

    def promised(self, settings: Settings) -> dict[str, int]:
        """How much of each offer will still be there in a while."""
        horizon, confidence = settings.promise_horizon, settings.promise_confidence
        return {
            kind: promised(past, horizon=horizon, confidence=confidence, now=self.offer[kind])
            for kind, past in self.past.items()
        }


def nothing(why: str, settings: Settings, at: Seconds, before: Lending | None = None, *, stale: bool = True) -> Lending:
    """The conservative default; a cap stays as narrow as it was."""
    offer = dict.fromkeys((RECLAIMED_CPU, RECLAIMED_MEMORY), 0)
    return Lending(
        offer,
        dict.fromkeys(offer, f"0.0, because {why}"),
        why if stale else "",
        None if before is None else before.cap,
        at,
        past=_remembered(offer, before, settings, at),
        measured=() if before is None else before.measured,
    )


def lend(
    views: Sequence[HeadroomView],
    before: Lending | None,
    chosen: Chosen,
    settings: Settings,
    *,
    at: Seconds,
    growing: bool,
    alarms: Mapping[str, str],
) -> Lending:
    """The offers after one more round; `alarms` names, per kind, why an offer may fall at once.

    Laws: 0 ≤ offer ≤ max(raw, offer(t−1)); offer(t) ≤ offer(t−1) + rise, unless that one was stale; without an alarm,
    and as long as the machine has as much to lend and guests have CPUs for it, offer(t) ≥ offer(t−1) − drop; with one,
    offer ≤ raw.
    """
    offer: dict[str, int] = {}
    arithmetic: dict[str, str] = {}
    firm = {view.kind: view.capacity - view.reserved - view.asked for view in views}
    cap: Cores | None = None
    measured = _measured(views, before)
    grown = {} if before is None else dict(before.grown)
    for view in views:
        scale = 1000 if view.kind == RECLAIMED_CPU else 1
        sound = growing and (view.system is not None or view.kind not in measured)
        rose = grown.get(view.kind, at if before is None else before.at)
        last = None if before is None else before.offer.get(view.kind, 0)
        seen = replace(view, last=None if last is None else last / scale)
        raw = chosen.headroom.advise(seen, chosen.headroom_settings)
        amount, text = int(raw.amount * scale + 1e-6), raw.arithmetic + (f"; online {view.by}" if view.by else "")
        if before is not None and last is not None:
            free = before.stale and (view.supply is None or chosen.headroom.within)  # then their CPUs are bound enough
            rise = settings.offer_rise * max(0.0, at - rose) / MINUTE if sound else 0.0
            drop = settings.offer_drop * max(0.0, at - before.at) / MINUTE
            most = max(last + ceil(view.capacity * scale * rise), amount if free else 0)
            alarm = alarms.get(view.kind, "") or _shrank(view, firm[view.kind], before)
            amount, why = _stepped(amount, most, last - ceil(view.capacity * scale * drop), alarm)
            text = why.format(sum=text, now=written(amount / scale, view.kind), last=written(last / scale, view.kind))
        if chosen.headroom.within and view.supply is not None and amount > view.supply.cpus * scale:
            amount = int(view.supply.cpus * scale)
            text = f"{written(amount / scale, view.kind)}, all CPUs that guests have, of {text}"
        offer[view.kind], arithmetic[view.kind] = amount, text
        grown[view.kind] = at if sound or (last is not None and amount < last) else rose
        if raw.cap is not None:
            cap = _widened(raw.cap, before, view.capacity * settings.grow_step if sound else 0.0)
    return Lending(
        offer,
        arithmetic,
        cap=cap,
        at=at,
        firm=firm,
        past=_remembered(offer, before, settings, at, _usable(views, offer)),
        highest=_highest(offer, before, settings, at),
        measured=measured,
        grown=grown,
    )


def _widened(cap: Cores, before: Lending | None, step: Cores) -> Cores:
    """A cap narrows at once and widens by steps."""
    return cap if before is None or before.cap is None else min(cap, before.cap + step)


def _measured(views: Sequence[HeadroomView], before: Lending | None) -> tuple[str, ...]:
    known = {view.kind for view in views if view.system is not None}
    return tuple(sorted(known.union(() if before is None else before.measured)))


def _usable(views: Sequence[HeadroomView], offer: Mapping[str, int]) -> dict[str, int]:
    """What guests can use of the CPUs at most: those they have, less what owners use of all."""
    usable = dict(offer)
    for view in views:
        if view.kind == RECLAIMED_CPU and view.supply is not None:
            room = view.capacity - (view.used or 0.0)
            usable[view.kind] = int(1000 * max(0.0, min(view.supply.cpus, room)))
    return usable


def _highest(
    offer: Mapping[str, int], before: Lending | None, settings: Settings, at: Seconds
) -> tuple[tuple[Seconds, int], ...]:
    known = () if before is None else before.highest
    now = offer.get(RECLAIMED_CPU, 0)
    if known and 0 <= at - known[-1][0] < MINUTE:
        return (*known[:-1], (known[-1][0], max(known[-1][1], now)))
    return (*(one for one in known if 0 <= at - one[0] <= settings.promise_horizon), (at, now))


def _stepped(raw: int, most: int, least: int, alarm: str) -> tuple[int, str]:
    """Within the bounds, and a pattern for the sentence that says which of them decided."""
    if raw > most:
        return most, "{now}, coming from {last} in steps, to {sum}"
    if raw >= least:
        return raw, "{sum}"
    if alarm:
        return raw, "{sum}; at once: " + alarm.replace("{", "(").replace("}", ")")
    return least, "{now}, falling slowly from {last} to {sum}"


def _shrank(view: HeadroomView, firm: float, before: Lending) -> str:
    """Whether there is less of the machine to lend than before, whatever is used."""
    less = before.firm.get(view.kind, firm) - firm
    return f"owners or the system came to have {written(less, view.kind)} more" if less > NEGLIGIBLE else ""


def _remembered(
    offer: Mapping[str, int],
    before: Lending | None,
    settings: Settings,
    at: Seconds,
    usable: Mapping[str, int] | None = None,
) -> dict[str, Past]:
    past, there = {} if before is None else before.past, usable or {}
    return {
        kind: remember(past.get(kind, Past()), at, told, settings.survival_window, there.get(kind))
        for kind, told in offer.items()
    }


def cpu_view(
    plan: Plan, layout: Layout, pods: Sequence[Pod], tracks: Mapping[str, Track], usage: NodeUsage
) -> HeadroomView:
    """Cores: capacity is every usable CPU; owners claim what their pools need, dedicated pods what they asked for."""
    owners = [pod for pod in pods if pod.is_owner]
    busy, explained = can_be(usage.cpu, 2.0 * len(layout.usable)), sum(tracks[pod.uid].likely for pod in pods)
    dedicated = plan.cut.dedicated
    kept = sum(len(cpus - plan.cut.alone) for uid, cpus in dedicated.items() if uid in plan.behind.sums)
    claims = [
        Claim(float(sum(len(cpus) for uid, cpus in dedicated.items() if uid not in plan.behind.sums)), "dedicated"),
        Claim(float(kept), "alone, not left over"),
        Claim(plan.estimate, "online", plan.wanted / plan.estimate if plan.estimate > 0 else 1.0),
        Claim(plan.reserve, "reserve"),
    ]
    return HeadroomView(
        kind=RECLAIMED_CPU,
        capacity=float(len(layout.usable)),
        reserved=float(len(layout.system)),
        system=None if busy is None else max(0.0, busy - explained),
        claims=tuple(claims),
        used=sum(tracks[pod.uid].likely for pod in owners),
        asked=sum(pod.request for pod in owners),
        supply=_supply(plan, pods, tracks),
        by="; ".join(sorted({need.by for need in plan.requirements.values() if need.by})),
    )


def _supply(plan: Plan, pods: Sequence[Pod], tracks: Mapping[str, Track]) -> Supply:
    """Where guests run: what they use there, and their part of what the owners of CPUs lent twice use."""
    used: dict[str, Cores] = {}
    for pod in pods:
        pool = plan.pool_of[pod.uid]
        used[pool] = used.get(pool, 0.0) + tracks[pod.uid].likely
    behind = sum(
        used.get(name, 0.0) * len(cpus & plan.cut.overlap) / len(cpus) for name, cpus in plan.cut.shared.items() if cpus
    )
    for uid, cpus in plan.cut.dedicated.items():
        if cpus & plan.cut.alone:
            behind += tracks[uid].likely * len(cpus & plan.cut.alone) / len(cpus)
    guests = used.get(RECLAIMED, 0.0)
    return Supply(cpus=float(len(plan.cut.reclaimed)), busy=guests + behind, guests=guests)


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
    available = can_be(facts.usage.memory_available if facts.usage is not None else None, capacity)
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
        asked=float(sum(pod.memory for pod in facts.pods if pod.is_owner)),
    )
