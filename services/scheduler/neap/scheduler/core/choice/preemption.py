"""A place for a pod that fits nowhere, if some guests left: which node, and as few and as unimportant guests as can be.

    who        owners take the place of guests; guests that of guests of lower priority. Owners and protected guests
               (common.model.protection) are never victims, nor is anybody whose family or gang would fall below what
               must stay of it: held anywhere − leaving − victims >= minimum; of a family the least important may go
    screen     nodes whose rejection would change by what is given back, and which with all guests gone had enough:
               free(kind) + guests'(kind) >= ask(kind), Σ card core left + guests' core >= core asked    [upper bound]
               at most `nodes`, those that miss the smallest part of the ask first
    what if    all guests that may leave are lifted from the real table and the real plugins asked (see Trial)
    reverse    from the most important guest on, each is put back if the pod still fits: what remains is minimal, for
               without any one victim's leaving it does not fit
    choice     among the first `choices` nodes that would do: lowest highest priority of the victims, fewest victims,
               lowest sum of priorities, whose oldest victim is the youngest, then the run's permutation

Victims: priority ascending, then who came last, then uid (as the evictor ranks). At most `victims` guests of a node
are looked at. Cost: nodes · (guests + 1) evaluations of one row, bounded by the settings.
Source: kube-scheduler DefaultPreemption (dry run on a copy, reprieve of victims, choice of the node); Kueue (order).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from neap.common.model.placement import Placement
from neap.common.model.protection import PROTECTED_LABELS, PROTECTED_OWNERS, family, may_leave, minimum
from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Parts, Policy
from neap.scheduler.core.choice.trial import Trial, would_take
from neap.scheduler.core.flow.ledger import Held, Ledgers
from neap.scheduler.core.nodes.cards import CORE
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.leavers import LEAVERS, leavers
from neap.scheduler.core.nodes.table import ORDER, NodeTable
from neap.scheduler.core.nodes.view import Numbers
from neap.scheduler.core.pods.pod import Pod

GIVEN_BACK: Final = frozenset({NodeChanged.FREE, NodeChanged.DEVICE})
OF_CARDS: Final = (GPU_CORE, GPU_MEMORY)
Count = Annotated[int, Meta(ge=1)]


class PreemptionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When guests leave for somebody who fits nowhere."""

    on: bool = True  # off: nobody is asked to leave
    nodes: Count = 64  # looked at for one pod, at most
    choices: Count = 4  # nodes that would do, among which the best is taken
    victims: Count = 32  # guests of one node that are looked at, the least important ones
    per_tick: Count = 2  # searches between two looks at what changed
    most: Count = 32  # places kept for somebody at once
    patience: Annotated[Seconds, Meta(gt=0)] = 120.0  # a place whose guests have not left by then is given up
    cool_down: Annotated[Seconds, Meta(ge=0)] = 60.0  # before the same pod has guests asked again
    protected_labels: tuple[str, ...] = PROTECTED_LABELS  # labels or annotations of guests that never leave
    protected_owners: tuple[str, ...] = PROTECTED_OWNERS  # kinds of owner whose guests never leave


@dataclass(frozen=True, slots=True)
class Plan:
    """A node, who must leave it (least important first), and what the pod then gets."""

    node: str
    victims: tuple[Held, ...]
    placement: Placement


def placement_of(pod: Pod, parts: Parts) -> Placement:
    """What a pod holds once it has these parts."""
    return Placement(
        workload=pod.workload,
        charged=pod.requests | parts.charged,
        numa=parts.numa,
        gpus=parts.gpus,
        devices=parts.devices,
        exclusive=parts.exclusive,
    )


class Preemption:
    """See module docstring. `is_under_way`: whether a guest is still being placed, or leaves already."""

    def __init__(
        self,
        table: NodeTable,
        cycle: Cycle,
        policies: Sequence[Policy],
        ledgers: Ledgers,
        settings: PreemptionSettings,
        is_under_way: Callable[[str], bool],
    ) -> None:
        self._table, self._cycle, self._policies, self._ledgers = table, cycle, tuple(policies), ledgers
        self._settings, self._is_under_way = settings, is_under_way

    def plan(self, pod: Pod, closed: Collection[str] = ()) -> Plan | None:
        """The best place of all looked at; `closed` nodes are not. Changes nothing."""
        plans: list[tuple[tuple[float, ...], Plan]] = []
        for row in self._screen(pod):
            node = self._table.names[row]
            found = self.plan_on(pod, node) if node not in closed else None
            if found is not None:
                plans.append((self._cost(found, row), found))
                if len(plans) >= self._settings.choices:
                    break
        return min(plans, key=lambda pair: pair[0])[1] if plans else None

    def is_early(self, pod: Pod) -> bool:
        """Whether a guest that might leave for it is still being placed: who is on no ledger cannot be asked."""
        for node in (self._table.names[row] for row in self._screen(pod)):
            held = self._ledgers.of(node).held
            for uid, placement in self._table.charges(node).items():
                if uid not in held and self._is_under_way(uid) and self._may_leave(placement.workload, pod):
                    return True
        return False

    def plan_on(self, pod: Pod, node: str) -> Plan | None:
        """Who must leave this node for the pod, if that helps; a minimal set."""
        row, guests = self._table.row(node), self._candidates(pod, node)
        if not guests:
            return None
        with Trial(self._table, node) as trial:
            for held in guests:
                trial.lift(held.placement.workload.uid)
            parts = would_take(self._policies, self._table, pod, row)
            if parts is None:
                return None
            victims: list[Held] = []
            for held in reversed(guests):
                uid = held.placement.workload.uid
                trial.put_back(uid)
                fits = would_take(self._policies, self._table, pod, row)
                if fits is None:
                    trial.lift(uid)
                    victims.append(held)
                else:
                    parts = fits
            parts = would_take(self._policies, self._table, pod, row)
            if parts is None or not victims:
                return None
        return Plan(node, tuple(reversed(victims)), placement_of(pod, parts))

    def _candidates(self, pod: Pod, node: str) -> list[Held]:
        """Guests that may leave for this pod, least important first."""
        charged = self._table.charges(node)
        able = [
            held
            for uid, held in self._ledgers.of(node).held.items()
            if uid in charged and not self._is_under_way(uid) and self._may_leave(held.placement.workload, pod)
        ]
        able.sort(key=lambda held: (held.placement.workload.priority, -held.at, held.placement.workload.uid))
        return list(islice(self._spare(able), self._settings.victims))

    def _may_leave(self, guest: Workload, pod: Pod) -> bool:
        settings = self._settings
        is_free = may_leave(guest, settings.protected_labels, settings.protected_owners)
        return is_free and (not pod.guest or guest.priority < pod.workload.priority)

    def _spare(self, able: Iterable[Held]) -> Iterator[Held]:
        """Those whose families keep what they need of them, on all nodes together, if all of these leave."""
        left: dict[str, int] = {}
        for held in able:
            workload = held.placement.workload
            if least := minimum(workload):
                name = family(workload)
                if name not in left:
                    kin = self._ledgers.families.get(name, {})
                    left[name] = sum(not self._is_under_way(uid) for uid in kin)
                if left[name] <= least:
                    continue
                left[name] -= 1
            yield held

    def _screen(self, pod: Pod) -> list[int]:
        """Rows worth a look, best first."""
        table, view = self._table, self._table.view()
        found = self._cycle.evaluate(pod)
        helps = np.array([bool(reason.wakes & GIVEN_BACK) for reason in found.reasons])
        able = helps[found.codes] & (view.column(LEAVERS) > 0)
        missing = np.zeros(view.size)
        for kind, amount in pod.requests.items():
            if amount > 0 and kind not in OF_CARDS:
                lent = view.column(leavers(kind)) if leavers(kind) in table.columns else 0.0
                able &= view.free(kind) + lent >= amount
                missing += np.maximum(amount - view.free(kind), 0.0) / amount
        asked = sum(ask.cards * ask.core for ask in pod.asks)
        if asked:
            left: Numbers = np.maximum(view.column(CORE), 0).sum(axis=1).astype(np.float64)
            lent = view.column(leavers(GPU_CORE)) if leavers(GPU_CORE) in table.columns else 0.0
            able &= left + lent >= asked
            missing += np.maximum(asked - left, 0.0) / asked
        rows = np.flatnonzero(able)
        best = np.lexsort((table.columns[ORDER][rows], missing[rows]))[: self._settings.nodes]
        return [int(row) for row in rows[best]]

    def _cost(self, plan: Plan, row: int) -> tuple[float, ...]:
        priorities = [held.placement.workload.priority for held in plan.victims]
        oldest = min(held.at for held in plan.victims)
        return max(priorities), len(priorities), sum(priorities), -oldest, int(self._table.columns[ORDER][row])
