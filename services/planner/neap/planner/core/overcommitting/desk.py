"""The desk of over-commitment: what each node may sell, and why; said when it moves by a step.

    in force = max(1, what runs, min(set, foreseen))      set: the lowest of all who name one (policy, the node's object)

Nodes of which nobody names a ratio above 1 cost nothing. A node is looked at every `renew` seconds, and at once when
what is set, or who suffers there, has changed; of what is foreseen see neap.foresight.overcommit. Of a node that is not
known for two hours nothing is said: what was said before, or else what is set, stays in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np

from neap.common.contract.catalogue import NODES, RATIOS
from neap.common.model.node import NodeObject
from neap.common.model.overcommit import is_owner_of_cpus, owned_cpu
from neap.common.model.qos import QosClass
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU, LARGEST, MEMORY
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Arrived, Delete, Event, Gone, Instruction, Put
from neap.common.units import GIB, HOUR, Ratio, Seconds
from neap.foresight.overcommit import Demand, Pace, foreseen, in_steps, moved
from neap.foresight.peaking import LEAST, LONGEST, SHORTEST, Hosts, Predictor
from neap.foresight.peaking import foreseen as peak_of
from neap.planner.core.cluster import Cluster, Node, Pod
from neap.planner.core.desk import SOURCE, counts
from neap.planner.core.overcommitting.recent import Recent
from neap.planner.core.overcommitting.settings import Overcommit
from neap.planner.core.overcommitting.watching import Cause, Watch
from neap.planner.core.record import Record
from neap.planner.core.wishes import Wishes

KINDS: Final = (CPU, MEMORY)
FEWEST, MOST_AT_ONCE = 20, 100  # nodes looked at in one tick (1 to 2 ms each), those of longest ago first
REFUSED: Final = "neap_planner_overcommit_refused_total"
SCALE: Final[Mapping[str, float]] = {CPU: 1000.0, MEMORY: 1.0}  # whole units per cores, bytes
SHOWN: Final[Mapping[str, tuple[float, str]]] = {CPU: (1000.0, "cores"), MEMORY: (float(GIB), "GiB")}
OTHERS: Final = "ranges"  # predictor in the place of one that is not there


@dataclass(frozen=True)
class Peak:
    """What is foreseen of one kind on one node, in whole units; `by` says how."""

    amount: float
    by: str


@dataclass
class _State:
    """What was made of one node."""

    said: NodeRatios | None = None
    force: dict[str, tuple[Ratio, Seconds]] = field(default_factory=dict)  # by kind, since when
    looked: Seconds = -math.inf


class OvercommitDesk:
    """See module docstring."""

    news: Final = (NodeUsage, NodeRatios, NodeObject, *Watch.news)

    def __init__(self, wishes: Wishes, cluster: Cluster, record: Record, predictors: Mapping[str, Predictor]) -> None:
        self._wishes, self._cluster, self._record, self._predictors = wishes, cluster, record, predictors
        self._recent, self._watch = Recent(), Watch()
        self._states: dict[str, _State] = {}
        self._round = -1
        self._news: dict[str, None] = {}  # nodes to look at now

    def hear(self, event: Event) -> Sequence[Instruction]:
        """See Desk."""
        match event:
            case Arrived(message=NodeUsage() as usage):
                return counts(REFUSED, self._recent.hear(usage, event.at))
            case Arrived(message=NodeRatios() as said):
                self._recall(said)
            case Arrived(message=NodeObject(node=node)):
                self._news[node] = None
            case Gone(channel=channel, subject=subject) if channel == NODES:
                self._news[channel.tokens_of(subject)["node"]] = None
            case _ if suffers := self._watch.hear(event):
                self._news[suffers] = None
        return ()

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """See Desk."""
        if self._wishes.round != self._round:
            self._round = self._wishes.round
            self._news |= dict.fromkeys(sorted(self._cluster.nodes))
        for node in self._news:
            self._states.setdefault(node, _State()).looked = -math.inf
        self._news.clear()
        due = sorted((state.looked, node) for node, state in self._states.items() if self._is_due(node, state, at))
        settings = self._wishes.settings.overcommit
        share = math.ceil(1.5 * len(self._states) * settings.tick / settings.renew)
        return [
            said
            for _, node in due[: min(max(share, FEWEST), MOST_AT_ONCE)]
            for said in self._look(node, self._states[node], at)
        ]

    def validate(self) -> None:
        """See Desk."""
        for node, state in self._states.items():
            for kind in state.said.kinds if state.said is not None else ():
                assert kind.ratio >= 1, f"{node}: {kind.resource} at {kind.ratio}"

    # -- one node ----------------------------------------------------------------------------------------------------

    def _is_due(self, node: str, state: _State, at: Seconds) -> bool:
        known = self._cluster.nodes.get(node)
        return at - state.looked >= (self._wish(known).renew if known is not None else 0.0)

    def _look(self, name: str, state: _State, at: Seconds) -> Iterator[Instruction]:
        node = self._cluster.nodes.get(name)
        allowed = self._allowed(node) if node is not None else {}
        if node is None or not allowed:
            yield from self._drop(name, state)
            return
        state.looked = at
        self._recent.watch(name, at)
        self._recent.keep(name, list(node.uids), at)
        wish = self._wish(node)
        causes = {kind: self._watch.cause(name, kind, at, patience=wish.patience, hold=wish.hold) for kind in allowed}
        found = [self._kind(node, state, kind, ratio, at, causes[kind]) for kind, ratio in allowed.items()]
        kinds = tuple(one for one in found if one is not None)
        if not kinds:
            return
        known = [cause for one in kinds if (cause := causes[one.resource]) is not None]
        lowered = max(known, key=lambda cause: cause.until, default=None)
        told = "" if lowered is None else f"{lowered.why}; until {_when(lowered.until)}"
        said = NodeRatios(at=at, source=SOURCE, node=name, kinds=kinds, lowered=told)
        if _is_news(state.said, said, wish.step):
            state.said = said
            yield Put(RATIOS.at(node=name), said)

    def _kind(
        self, node: Node, state: _State, kind: str, allowed: Ratio, at: Seconds, cause: Cause | None
    ) -> KindRatio | None:
        """One kind's ratio; None: too little is known to say anything."""
        wish, pods = self._wish(node), self._cluster.pods_of(node)
        demand = _demand(node, pods, kind)
        peak = self._peak(node, pods, kind, wish) if demand.original > 0 else None
        if demand.original <= 0 or (peak is None and wish.mode == "dynamic"):
            return None
        target, least = (wish.cpu_target, wish.cpu_load) if kind == CPU else (wish.memory_target, wish.memory_load)
        borne = foreseen(demand, peak.amount, target=target, least=least) if peak is not None else allowed
        bears = 1.0 if cause is not None else borne if wish.mode == "dynamic" else allowed + 1
        before, since = state.force.get(kind, (None, at))
        force = moved(before, bears, allowed, at - since, Pace(wish.step, wish.rise))
        if force != before:
            state.force[kind] = (force, at)
        ratio = max(force, in_steps(demand.running))
        why = _arithmetic(kind, ratio, force, allowed, borne, demand, peak, wish, is_watched=cause is not None)
        return KindRatio(
            resource=kind, ratio=ratio, set=allowed, foreseen=round(borne, 4), original=int(demand.original),
            peak=int(min(LARGEST, peak.amount)) if peak is not None else 0, requested=int(demand.requested),
            arithmetic=why,
        )  # fmt: skip

    def _drop(self, name: str, state: _State) -> Iterator[Instruction]:
        self._recent.forget(name)
        del self._states[name]
        if name not in self._cluster.nodes:
            self._watch.forget(name)
        if state.said is not None:
            yield Delete(RATIOS.at(node=name))

    def _recall(self, said: NodeRatios) -> None:
        """What an earlier life of this room said; our own words come back as well, and change nothing."""
        if said.node not in self._states or self._states[said.node].said is None:
            force = {kind.resource: (kind.ratio, said.at) for kind in said.kinds if kind.ratio >= 1}
            self._states[said.node] = _State(said=said, force=force)

    def _wish(self, node: Node) -> Overcommit:
        return self._wishes.of_node(node.name, node.pool).overcommit

    def _allowed(self, node: Node) -> dict[str, Ratio]:
        """By kind the lowest ratio that anybody names; {}: nobody names one above 1."""
        wish, told = self._wish(node), node.object.ratios if node.object is not None else {}
        if wish.mode == "off" or node.topology is None:
            return {}
        named = {CPU: wish.cpu, MEMORY: wish.memory}
        found, is_wanted = dict[str, Ratio](), False
        for kind in KINDS:
            words = [word for word in (named[kind] or None, told.get(kind)) if word is not None]
            if words:
                found[kind], is_wanted = max(1.0, min(words)), is_wanted or max(words) > 1
        return found if is_wanted else {}

    # -- what is foreseen --------------------------------------------------------------------------------------------

    def _peak(self, node: Node, pods: Sequence[Pod], kind: str, wish: Overcommit) -> Peak | None:
        """The peak of all that shares the room, by its pods, or else by the record of the node's total."""
        pinned = node.object is not None and node.object.pinned_cpu
        sharing = [pod for pod in pods if _shares(pod, kind, pinned=pinned)]
        seen = self._recent.of(node.name, [pod.workload.uid for pod in sharing], kind)
        name = wish.predictor if wish.predictor in self._predictors else OTHERS
        by = f"{name} {wish.margin:g}, 2 h" + f", there is no {wish.predictor[:32]!r}" * (name != wish.predictor)
        if sharing and int((~np.isnan(seen)).any(axis=0).sum()) >= SHORTEST:
            asked = np.array([pod.placement.charged.get(kind, 0) / SCALE[kind] for pod in sharing])
            unknown = (~np.isnan(seen)).sum(axis=1) < LEAST
            samples = np.where(unknown[:, None], asked[:, None], seen)
            limits = np.array([_limit(pod, kind) for pod in sharing])
            by += f", {int(unknown.sum())} new by request" * bool(unknown.any())
        else:
            total = self._record.node(node.name, kind)
            if total is None or not sharing:
                return Peak(0.0, by) if not sharing else None
            samples, limits, by = total.last(LONGEST).values[None, :], np.array([np.inf]), by + ", of the node's total"
        predictor = self._predictors[name].at(wish.margin)
        amount = float(peak_of(predictor, Hosts(samples[None], limits[None]))[0]) * SCALE[kind]
        return Peak(amount, by) if math.isfinite(amount) else None


def _shares(pod: Pod, kind: str, *, pinned: bool) -> bool:
    """Whether it is part of what is sold more than once: no guest, and no owner of its CPUs."""
    workload = pod.workload
    if workload.qos is QosClass.RECLAIMED:
        return False
    return kind != CPU or not is_owner_of_cpus(workload, pinned=pinned)


def _limit(pod: Pod, kind: str) -> float:
    """What all containers together may use; inf where one has no limit."""
    limits = [container.limits.get(kind) for container in pod.workload.containers]
    known = [limit for limit in limits if limit is not None]
    return sum(known) / SCALE[kind] if len(known) == len(limits) and known else math.inf


def _demand(node: Node, pods: Sequence[Pod], kind: str) -> Demand:
    told = node.object
    machine = node.topology.allocatable if node.topology is not None else {}
    original = machine | (told.original if told is not None else {})
    placements = [pod.placement for pod in pods]
    owned = owned_cpu(placements, pinned=told is not None and told.pinned_cpu) if kind == CPU else 0
    return Demand(original.get(kind, 0), sum(p.charged.get(kind, 0) for p in placements), owned)


def _is_news(before: NodeRatios | None, now: NodeRatios, step: Ratio) -> bool:
    if before is None or before.lowered != now.lowered or now.at - before.at >= HOUR:
        return True
    old, new = ({kind.resource: kind for kind in said.kinds} for said in (before, now))
    if old.keys() != new.keys():
        return True
    return any(
        (old[kind].ratio, old[kind].set) != (new[kind].ratio, new[kind].set)
        or abs(old[kind].foreseen - new[kind].foreseen) >= 2 * step
        for kind in new
    )


def _arithmetic(
    kind: str, ratio: Ratio, force: Ratio, allowed: Ratio, borne: Ratio, demand: Demand, peak: Peak | None,
    wish: Overcommit, *, is_watched: bool,
) -> str:  # fmt: skip
    """How a ratio came about, in a sentence with its numbers."""
    unit, name = SHOWN[kind]
    room = f"{demand.room / unit:.1f} {name}" + f" ({demand.owned / unit:.1f} owned)" * (demand.owned > 0)
    said = f"{ratio:.2f} of {allowed:.2f} set"
    if peak is not None and wish.mode == "dynamic":
        said = f"{ratio:.2f} = min({allowed:.2f} set, {borne:.2f} foreseen)"
    elif peak is None:
        said += ", static"
    if ratio > force:
        said += f", not below what runs: {demand.asked / unit:.1f} of {demand.room / unit:.1f} asked"
    elif is_watched:
        said += ", held down by the interference watch"
    elif wish.mode == "dynamic" and ratio < min(allowed, borne) - 2 * wish.step:
        said += ", rising slowly"
    said += f"; {demand.asked / unit:.1f} of {room} asked"
    return said if peak is None else f"{said}, peak {peak.amount / unit:.1f} ({peak.by})"


def _when(at: Seconds) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        return f"{at:.0f}"
