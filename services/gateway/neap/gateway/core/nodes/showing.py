"""What nodes show in the API, put together from what rooms say of them: see mirrored.py (what) and mirror.py (when)."""

from __future__ import annotations

from neap.common.kube.objects import Node
from neap.common.model.advice import Headroom
from neap.common.model.enforcement import NodeEnforcement
from neap.common.model.evicting import Evicting
from neap.common.model.ratios import NodeRatios
from neap.common.model.topology import NodeTopology
from neap.common.runtime.machine import Count, Instruction
from neap.common.units import Seconds
from neap.gateway.core.acts import ApplyNode, MirrorNode
from neap.gateway.core.nodes.mirror import Mirror, MirrorSettings
from neap.gateway.core.nodes.mirrored import (
    Machine,
    Sold,
    amounts_of,
    conditions_of,
    extended,
    machine_of,
    mirror_of,
    shown_by,
    sold_of,
)
from neap.gateway.core.nodes.views import TOPOLOGY_POLICY
from neap.gateway.core.pods.book import Holds

NOTHING_KNOWN = Machine()


class Showing:
    """By node; what is said of nodes that the API does not have is kept, as they may come yet."""

    def __init__(self, settings: MirrorSettings, holds: Holds) -> None:
        self._settings, self._holds = settings, holds
        self.mirror = Mirror(settings)
        self._offers: dict[str, dict[str, int]] = {}
        self._machines: dict[str, Machine] = {}
        self._enforcement: dict[str, NodeEnforcement] = {}
        self._evicting: dict[str, Evicting] = {}
        self._sold: dict[str, Sold] = {}
        self._uids: dict[str, str] = {}
        self._policies: dict[str, str] = {}
        self._zoned: dict[str, int] = {}  # fingerprint of what is bound to the node's NUMA nodes
        self._open: dict[str, tuple[int, bool]] = {}  # calls under way of a node's write, and whether all went well

    def see(self, node: Node, at: Seconds) -> None:
        """The API has it."""
        name = node.metadata.name
        self._uids[name] = node.metadata.uid
        policy = (node.metadata.annotations or {}).get(TOPOLOGY_POLICY, "")
        if policy:
            self._policies[name] = policy
        self.mirror.see(name, shown_by(node.status.allocatable), at)
        self._offer(name, at)

    def forget(self, node: str) -> None:
        """The API has it no more."""
        self.mirror.forget(node)
        for kept in (self._uids, self._policies, self._zoned, self._open):
            kept.pop(node, None)

    def hear(self, message: Headroom | NodeTopology | NodeEnforcement | Evicting | NodeRatios, at: Seconds) -> None:
        """A room spoke of a node."""
        node = message.node
        match message:
            case Headroom(offer=offer):
                self._offers[node] = offer
                self._offer(node, at)
            case NodeTopology():
                before, self._machines[node] = self._machines.get(node), machine_of(message)
                self._offer(node, at)
                if before != self._machines[node]:
                    self.mirror.change(node, at)
            case NodeEnforcement(stance=stance):
                told = self._enforcement.get(node)
                self._enforcement[node] = message
                if told is None or told.stance is not stance:
                    self.mirror.change(node, at)
            case Evicting(closed=closed):
                was = self._evicting.get(node)
                self._evicting[node] = message
                if bool(was and was.closed) != bool(closed):
                    self.mirror.change(node, at)

            case NodeRatios():
                before_sold, now = self._sold.get(node), sold_of(message)
                self._sold[node] = now
                if before_sold is None or before_sold.why != now.why:
                    self.mirror.change(node, at)

    def ratios_gone(self, node: str, at: Seconds) -> None:
        """Nobody says any more how much it sells."""
        if self._sold.pop(node, None) is not None:
            self.mirror.change(node, at)

    def offer_gone(self, node: str, at: Seconds) -> None:
        """Nobody says any more what it lends: nothing."""
        self._offers.pop(node, None)
        self._offer(node, at)

    def held(self, node: str, at: Seconds) -> None:
        """Its ledger changed."""
        zoned = hash(tuple((uid, hold.zones) for uid, hold in sorted(self._holds.zoned(node).items())))
        if self._zoned.get(node, hash(())) != zoned:
            self._zoned[node] = zoned
            self.mirror.change(node, at)

    def tick(self, at: Seconds, beat: Seconds) -> list[Instruction]:
        """What is to be written now."""
        told: list[Instruction] = []
        for node, both in self.mirror.take(at, beat):
            calls = [self._apply(node)] if both else []
            calls += [self._mirrored(node, at)] if self._settings.mirrors else []
            self._open[node] = len(calls), True
            told += calls
        return [*told, Count("neap_gateway_mirror_writes_total", len(told))] if told else []

    def answered(self, act: Instruction, at: Seconds, *, well: bool) -> list[Instruction]:
        """One call of a write is over."""
        assert isinstance(act, ApplyNode | MirrorNode)
        calls, all_well = self._open.get(act.node, (0, True))
        if calls > 1:
            self._open[act.node] = calls - 1, all_well and well
            return []
        self._open.pop(act.node, None)
        if calls == 1:
            self.mirror.answered(act.node, at, well=all_well and well)
        return [] if well else [Count("neap_gateway_mirror_failures_total")]

    def _offer(self, node: str, at: Seconds) -> None:
        if node in self.mirror:
            machine = self._machines.get(node, NOTHING_KNOWN)
            self.mirror.offer(node, amounts_of(self._offers.get(node, {}), machine), at)

    def _apply(self, node: str) -> Instruction:
        return ApplyNode(node, extended(self.mirror.offered(node)))

    def _mirrored(self, node: str, at: Seconds) -> Instruction:
        mirror = mirror_of(
            node,
            self._uids.get(node, ""),
            at,
            amounts=self.mirror.offered(node),
            machine=self._machines.get(node, NOTHING_KNOWN),
            held=self._holds.zoned(node),
            policy=self._policies.get(node, ""),
            conditions=conditions_of(self._enforcement.get(node), self._evicting.get(node), self._sold.get(node), at),
        )
        return MirrorNode(node, mirror)
