"""What a tide is told and says: a pool's rule, its nodes, its plan; and the small sums about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from neap.common.model.tide import TideNode
from neap.common.model.window import Zone
from neap.common.units import DAY, HOUR, MINUTE, Bytes, MilliCores, Ratio, Seconds
from neap.foresight.tide_room import Ask

FLIPS: Final = 2  # a node begins to change sides no more often in a day
Amount: TypeAlias = Annotated[str, Meta(pattern=r"^([0-9]{1,5}|(100|[0-9]{1,2})%)$")]  # nodes, or percent of them


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What people may set, per pool."""

    reserve_online: Amount = "10%"  # nodes that are never lent; rounded up
    reserve_offline: Amount = "0%"  # nodes that are guests' for good; rounded down
    most_turning: Amount = "20%"  # nodes on their way at once; rounded up
    spare: Amount = "3%"  # nodes beyond what is needed; one is lent if twice as many are left. Rounded up
    drain: Annotated[Seconds, Meta(gt=0)] = 15 * MINUTE  # a node has so long to be emptied; then it is blocked
    start: Annotated[Seconds, Meta(ge=0)] = 5 * MINUTE  # from an empty node to owners' pods that are ready on it
    stay: Annotated[Seconds, Meta(ge=0)] = HOUR  # a node is lent for no less, and not before it was back so long
    early: Annotated[Seconds, Meta(ge=0)] = HOUR  # a ramp may come so much earlier than foreseen
    exposed: Annotated[Seconds, Meta(ge=0)] = 4 * HOUR  # before midnight, nodes that cannot come back that day are lent
    margin: Annotated[Ratio, Meta(ge=0, le=1)] = 0.05  # of use, above the forecast's band
    full: Annotated[Ratio, Meta(gt=0, le=1)] = 0.8  # share of an online node's cores that owners may use
    zone: Zone = "+00:00"  # in which a day begins


@dataclass(frozen=True)
class Node:
    """One node as it is: `cpu` and `memory` for owners' pods, what stays on every node (daemons) taken off."""

    state: TideNode
    cpu: MilliCores
    memory: Bytes
    online: tuple[Ask, ...] = ()
    guests: int = 0
    lost: Seconds = 0.0  # guests' work since their last checkpoints
    stays: tuple[str, ...] = ()  # who of those that have to leave is there
    present: bool = True  # its machine is known, and takes pods

    @property
    def name(self) -> str:
        """Of the node."""
        return self.state.node


@dataclass(frozen=True)
class Plan:
    """The states that hold from now on, and what is foreseen."""

    nodes: tuple[TideNode, ...]
    wanted_online: int
    until: Seconds
    next_change: Seconds = 0.0
    ready_by: Seconds = 0.0
    returning: int = 0
    needed: NDArray[np.int64] | None = None  # nodes, per row of the demand
    arithmetic: str = ""
    alerts: tuple[str, ...] = ()


def counted(amount: Amount, nodes: int, *, up: bool) -> int:
    """So many nodes ("3"), or percent of them ("30%"); at most all. Exact."""
    if not amount.endswith("%"):
        return min(nodes, int(amount))
    percent = int(amount[:-1]) * nodes
    return -(-percent // 100) if up else percent // 100


def shares(nodes: int, rule: Rule) -> tuple[int, int, int]:
    """How many are reserved online, reserved offline, and change sides. Online comes first where both do not fit."""
    online = counted(rule.reserve_online, nodes, up=True)
    offline = min(counted(rule.reserve_offline, nodes, up=False), nodes - online)
    return online, offline, nodes - online - offline


def most_turning(nodes: int, rule: Rule) -> int:
    """Nodes that may be on their way at once."""
    return max(1, counted(rule.most_turning, nodes, up=True))


def lead(count: int, at_once: int, rule: Rule) -> Seconds:
    """From the order to return to the pods on the last of `count` nodes being ready; one wave more, for the blocked.

    lead(k) = (ceil(k / at_once) + 1) x drain + start
    """
    return (math.ceil(count / max(1, at_once)) + 1) * rule.drain + rule.start


def midnight(at: Seconds, zone: str) -> Seconds:
    """When the day of `at` began there; zones are fixed offsets."""
    east = (-1 if zone[0] == "-" else 1) * (int(zone[1:3]) * HOUR + int(zone[4:6]) * MINUTE)
    return math.floor((at + east) / DAY) * DAY - east
