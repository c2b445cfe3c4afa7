"""Tides: nodes show their side to other schedulers, and a node that turns offline is emptied of owners' pods.

    show       label and taint of a node of a pool (NoSchedule only: who runs stays, whoever leaves is asked to)
    none       neither; neap's scheduler knows by itself
    neap       neap.io/tide-side=online|offline               neap.io/tide=offline | turning, none on the online side
    katalyst   tide.katalyst.kubewharf.io/node-type=...       .../online-not-used=true where no owner may come,
                                                              .../offline-not-used=true where no guest may come

    side      turning     owners' pods                        guests
    online    steady      come                                do not
    offline   steady      do not                              come
    any       otherwise   do not come                         do not come

    drain: while a node is draining and its side is offline, its owners' pods are asked to leave, by the Eviction API,
    so that budgets hold, `at_once` on their way at a time. A budget without room is asked again later, longer each time;
    what does not leave is left to the planner, who sees it on the ledger. Never asked: guests, daemons, system_cores,
    pods that nobody makes anew, and those with safe-to-evict "false".

What was said longer than LAPSE ago is not believed: nobody is asked to leave, and labels and taints go.
Source: neap.common.model.tide (the contract); katalyst-control reference 3.5 (names), whose taints are NoExecute.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.kube.objects import Node, NodeTaint
from neap.common.model.lifecycle import Eviction
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.runtime.machine import Instruction, Later
from neap.common.units import Seconds
from neap.gateway.core.acts import Evict, TaintNode
from neap.gateway.core.nodes.views import TIDE, TIDE_OFFLINE, TIDE_ONLINE
from neap.gateway.core.pods.book import SOURCE, Holds
from neap.gateway.core.pods.evictions import Evictions
from neap.gateway.core.pods.facts import PodFacts

Show: TypeAlias = Literal["none", "neap", "katalyst"]
SIDE_LABEL: Final = "neap.io/tide-side"
NODE_TYPE: Final = "tide.katalyst.kubewharf.io/node-type"
LABELS: Final = {"neap": SIDE_LABEL, "katalyst": NODE_TYPE}
TAINTS: Final = {"neap": (TIDE,), "katalyst": (TIDE_ONLINE, TIDE_OFFLINE)}
NO_SCHEDULE: Final = "NoSchedule"
RULE: Final = "tide"


class TideShowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    show: Show = "none"  # needs components/taints
    drain: bool = True  # whether owners' pods are asked to leave nodes that turn offline
    at_once: Annotated[int, Meta(ge=1, le=1000)] = 4  # of a node's pods on their way
    nodes: Annotated[int, Meta(ge=1, le=10_000)] = 20  # that are written per beat


class _Mark(NamedTuple):
    """What a node shows, or should."""

    label: str = ""
    taints: tuple[tuple[str, str], ...] = ()  # key, value


class Tides:
    """See module docstring. `pods`: what is kept of every pod, by uid."""

    def __init__(self, settings: TideShowSettings, holds: Holds, evictions: Evictions) -> None:
        self._settings, self._holds, self._evictions = settings, holds, evictions
        self.pods: dict[str, PodFacts] = {}
        self._pools: dict[str, TidePool] = {}  # that are believed
        self._shown: dict[str, _Mark] = {}  # of every node that the API has; what was asked counts as shown
        self._due: dict[str, None] = {}  # nodes to look at
        self._under_way: set[str] = set()
        self.is_read = False  # everything that was said of tides

    def hear(self, pool: TidePool) -> None:
        """What the planner says of a pool."""
        self.lost(pool.pool)
        self._pools[pool.pool] = pool
        self._look(pool)

    def lost(self, pool: str) -> None:
        """It says nothing of it any more."""
        before = self._pools.pop(pool, None)
        if before is not None:
            self._look(before)

    def _look(self, pool: TidePool) -> None:
        if self._settings.show != "none":
            self._due.update(dict.fromkeys(one.node for one in pool.nodes))

    def see(self, node: Node) -> None:
        """A node as it is."""
        name, show = node.metadata.name, self._settings.show
        if show != "none":
            label = (node.metadata.labels or {}).get(LABELS[show], "")
            mine = tuple(sorted((one.key, one.value) for one in node.spec.taints or () if one.key in TAINTS[show]))
            now = _Mark(label, mine)
            if self._shown.get(name) != now:
                self._shown[name] = now
                self._due[name] = None

    def forget(self, node: str) -> None:
        """The API has it no more."""
        self._shown.pop(node, None)

    def over(self, node: str) -> None:
        """A change of its marks was made; or failed, then its next change is the next chance."""
        self._under_way.discard(node)

    def tick(self, at: Seconds, *, marks: bool, evicts: bool) -> list[Instruction]:
        """What differs from what should be there, and who is asked to leave; as far as what is known allows."""
        if not self.is_read:
            return []
        for pool in [pool for pool in self._pools.values() if at - pool.at >= LAPSE]:
            self.lost(pool.pool)
        told = self._marks() if marks and self._due else []
        for pool in self._pools.values() if evicts and self._settings.drain else ():
            for one in pool.nodes:
                if one.turning is Turning.DRAINING and one.side is Side.OFFLINE:
                    told += self._drain(pool, one, at)
        return told

    # -- marks ---------------------------------------------------------------------------------------------------------

    def _marks(self) -> list[Instruction]:
        told: list[Instruction] = []
        sides = {one.node: one for pool in self._pools.values() for one in pool.nodes}
        for name in list(self._due):
            if len(told) >= self._settings.nodes:
                break
            if name in self._under_way:
                continue
            del self._due[name]
            shown, wanted = self._shown.get(name), self._wanted(sides[name]) if name in sides else _Mark()
            if shown is not None and shown != wanted:
                self._under_way.add(name)
                self._shown[name] = wanted
                told.append(self._mark(name, shown, wanted))
        return told

    def _mark(self, node: str, shown: _Mark, wanted: _Mark) -> TaintNode:
        put = tuple(
            NodeTaint(key=key, value=value, effect=NO_SCHEDULE)
            for key, value in wanted.taints
            if (key, value) not in shown.taints
        )
        take = tuple(key for key, _ in shown.taints if key not in dict(wanted.taints))
        label = LABELS[self._settings.show]
        labels = ((label, wanted.label or None),) if shown.label != wanted.label else ()
        return TaintNode(node, put, take, labels)

    def _wanted(self, node: TideNode) -> _Mark:
        steady = node.turning is Turning.STEADY
        owners, guests = steady and node.side is Side.ONLINE, steady and node.side is Side.OFFLINE
        if self._settings.show == "neap":
            taint = () if owners else ((TIDE, "offline" if guests else "turning"),)
            return _Mark(str(node.side), taint)
        closed = [key for key, comes in ((TIDE_ONLINE, owners), (TIDE_OFFLINE, guests)) if not comes]
        return _Mark(str(node.side), tuple(sorted((key, "true") for key in closed)))

    # -- draining ------------------------------------------------------------------------------------------------------

    def _drain(self, pool: TidePool, node: TideNode, at: Seconds) -> list[Instruction]:
        here = [
            (hold.attempt, facts)
            for uid, hold in self._holds.on.get(node.node, {}).items()
            if hold.moves and (facts := self.pods.get(uid)) is not None and facts.node == node.node and not facts.over
        ]
        leaving = sum(facts.deleting or self._evictions.is_leaving(facts.uid) for _, facts in here)
        told: list[Instruction] = []
        for attempt, facts in here:
            if leaving >= self._settings.at_once:
                break
            if facts.deleting or self._evictions.is_leaving(facts.uid):
                continue
            said = self._evictions.handle(_eviction(pool, node, attempt, facts, at), facts, at, "")
            asked = [_gently(one) for one in said if not isinstance(one, Later)]
            leaving += any(isinstance(one, Evict) for one in asked)
            told += asked
        return told


def _gently(act: Instruction) -> Instruction:
    """With the pod's own grace."""
    return Evict(act.namespace, act.name, act.uid, None, act.eviction) if isinstance(act, Evict) else act


def _eviction(pool: TidePool, node: TideNode, attempt: int, facts: PodFacts, at: Seconds) -> Eviction:
    return Eviction(
        at=at, source=SOURCE, node=node.node, uid=facts.uid, namespace=facts.namespace, name=facts.name,
        attempt=attempt, rule=RULE, reason=f"{node.node} of pool {pool.pool} turns offline: {node.why}", measured=(),
        ranking="all owners' pods leave", grace=0.0,
    )  # fmt: skip
