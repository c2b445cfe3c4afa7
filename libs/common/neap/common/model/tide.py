"""A pool of nodes that change sides with the tide: by day for online services, by night for work that can wait."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class Side(StrEnum):
    """Whose a node is."""

    ONLINE = "online"
    OFFLINE = "offline"


class Turning(StrEnum):
    """Where a node is on its way."""

    STEADY = "steady"  # it is on its side
    DRAINING = "draining"  # those of its old side are leaving; nobody new comes
    BLOCKED = "blocked"  # somebody does not leave; see `why`


class TideNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the pool."""

    node: str
    side: Side  # that it is on, or is turning to
    turning: Turning = Turning.STEADY
    reserve: bool = False  # never changes sides
    since: float = 0.0  # of side and turning
    why: str = ""
    blockers: Annotated[tuple[str, ...], Meta(max_length=16)] = ()  # pods (namespace/name) that do not leave


class TidePool(msgspec.Struct, frozen=True, kw_only=True):
    """Who is on which side, who turns, and what comes next."""

    at: float
    source: str
    pool: str
    nodes: Annotated[tuple[TideNode, ...], Meta(max_length=5000)] = ()
    wanted_online: int = 0  # nodes that online services need until `until`, by forecast
    until: float = 0.0
    next_change: float = 0.0  # when the plan next changes; 0: not foreseen
    arithmetic: str = ""
    forecast: str = ""  # version it rests on
    alerts: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
