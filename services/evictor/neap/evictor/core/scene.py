"""The newest of everything an evictor hears of its node, and the view rules get of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import ADVICE, HEADROOM, TIDES, TOPOLOGY
from neap.common.contract.channel import Channel
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import ContainerUsage, NodeUsage, completed
from neap.common.units import Seconds
from neap.evictor.core.guests import measured, staying
from neap.evictor.core.memory import Memory
from neap.evictor.core.pools import pools_of
from neap.evictor.core.residents import Resident
from neap.evictor.core.tried import Squeeze, squeezed
from neap.evictor.core.view import Guest, View

MOST_LISTED: Final = 8192  # containers kept while full reports are lost


class Scene:
    """See module docstring."""

    def __init__(self) -> None:
        self.topology: NodeTopology | None = None
        self.usage: NodeUsage | None = None  # the newest, with all its containers as far as they are known
        self.squeeze = Squeeze()
        self.start_costs: dict[str, Seconds] = {}
        self._full: NodeUsage | None = None  # the newest that listed every container
        self._headroom: Headroom | None = None
        self._advice: NodeAdvice | None = None
        self.starting: dict[str, Seconds] = {}  # guests that were seen to be placed, and not yet to run
        self._turn: tuple[str, Seconds, TideNode] | None = None  # this node in its tide pool, and when that was said

    def recall(self, known: Memory) -> None:
        """What an earlier evictor knew, on top of what was heard by now."""
        self.start_costs, self.starting = dict(known.start_costs), dict(known.starting)
        self.squeeze = known.squeeze
        if self._advice is not None:
            self.squeeze = squeezed(known.squeeze, self._advice, self._advice.at)

    def hear(self, message: object, at: Seconds) -> None:
        """What is said of this node."""
        match message:
            case Headroom():
                self._headroom = msgspec.structs.replace(message, at=min(at, message.at))  # its clock may run ahead
            case NodeAdvice():
                self._advice, self.squeeze = message, squeezed(self.squeeze, message, at)
            case NodeTopology():
                self.topology = message
            case _:
                pass

    def gone(self, channel: Channel[Any], subject: str) -> None:
        """Nobody says it any more."""
        if channel is HEADROOM:
            self._headroom = None
        elif channel is ADVICE:
            self._advice = None
        elif channel is TOPOLOGY:
            self.topology = None
        elif channel is TIDES and self._turn is not None and TIDES.tokens_of(subject)["pool"] == self._turn[0]:
            self._turn = None

    def turn(self, pool: TidePool, node: str, at: Seconds) -> None:
        """Where the nodes of a tide pool are; this node may be one of them. Its clock may run ahead."""
        mine = next((one for one in pool.nodes if one.node == node), None)
        if mine is not None:
            self._turn = (pool.pool, min(at, pool.at), mine)
        elif self._turn is not None and self._turn[0] == pool.pool:
            self._turn = None

    def _returns(self, at: Seconds) -> TideNode | None:
        """This node, while it goes back to online services and the planner still says so."""
        if self._turn is None or at - self._turn[1] > LAPSE:
            return None
        mine = self._turn[2]
        return mine if mine.side is Side.ONLINE and mine.turning is not Turning.STEADY else None

    def advice(self, at: Seconds) -> NodeAdvice | None:
        """The advice, while it is valid."""
        return self._advice if self._advice is not None and self._advice.expires >= at else None

    def placed(self, uid: str, at: Seconds) -> None:
        """A run of a guest was placed just now."""
        self.starting[uid] = at
        self.start_costs.pop(uid, None)

    def unknown(self, uid: str) -> None:
        """What was remembered of a guest was of an earlier run."""
        self.start_costs.pop(uid, None)
        self.starting.pop(uid, None)

    def take(self, usage: NodeUsage, then: Seconds, guests: Collection[str]) -> None:
        """One more report, of the moment `then`."""
        self._full = self._full if usage.since else usage
        self.usage = completed(usage, self._full) or _laid_over(self.usage, usage)
        if self.starting:
            running = {container.uid for container in self.usage.containers}
            for uid in [uid for uid in self.starting if uid in running or uid not in guests]:
                self.start_costs[uid] = max(0.0, then - self.starting.pop(uid))
        self.start_costs = {uid: cost for uid, cost in self.start_costs.items() if uid in guests}

    def is_offer_stale(self, at: Seconds, patience: Seconds) -> bool:
        """Whether somebody says what is lent, and it says too little of now."""
        headroom = self._headroom
        return headroom is not None and (bool(headroom.stale) or at - headroom.at > patience)

    def view(
        self,
        at: Seconds,
        guests: Mapping[str, Resident],
        leaving: Mapping[str, Seconds],
        *,
        offer_patience: Seconds,
        evicted: Mapping[str, tuple[Seconds, ...]],
        in_vain: Collection[str],
    ) -> View | None:
        """As of now; None before the first report."""
        if self.usage is None:
            return None
        containers: dict[str, list[ContainerUsage]] = {}
        for container in self.usage.containers:
            containers.setdefault(container.uid, []).append(container)
        counts, nodes = staying(guests, leaving), [numa.index for numa in self.usage.numa]
        present: list[Guest] = []
        gone: list[Guest] = []
        for uid, resident in guests.items():
            cost, vain = self.start_costs.get(uid), uid in in_vain
            guest = measured(resident, containers.get(uid, []), counts, cost, nodes, in_vain=vain)
            (gone if uid in leaving else present).append(guest)
        advice, is_known = self.advice(at), not self.is_offer_stale(at, offer_patience)
        return View(
            at=at,
            usage=self.usage,
            guests=tuple(present),
            leaving=tuple(gone),
            offer=self._headroom.offer if self._headroom is not None and is_known else None,
            topology=self.topology,
            pools=pools_of(advice, containers),
            noisy=advice.noisy if advice is not None else (),
            evicted=evicted,
            returns=self._returns(at),
        )


def _laid_over(known: NodeUsage | None, news: NodeUsage) -> NodeUsage:
    """A short report whose full one was lost: what is not in it is, for all we know, as it was known last."""
    before = known.containers if known is not None else ()
    containers = {container.cgroup: container for container in (*before, *news.containers)}
    return msgspec.structs.replace(news, containers=tuple(containers.values())[-MOST_LISTED:], since=0)
