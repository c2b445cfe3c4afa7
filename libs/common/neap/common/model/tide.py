"""A pool of nodes that change sides with the tide: by day for online services, by night for work that can wait.

What the states of a node mean to those who act (the contract of a turn):

    side      turning    guests (reclaimed_cores)              everybody else (daemons and system_cores: always)
    online    steady     are not placed there                  are placed there
    offline   draining   are not placed there                  are asked to leave, by budgets; nobody new
    offline   steady     are placed there                      are not placed there
    online    draining   are asked to leave, checkpointed;     are not placed there yet
              or blocked nobody new

The planner only says so. The scheduler keeps pods away as the table says. The evictor of a node whose side is online
and which is draining or blocked asks its guests to leave, with their grace and checkpoint, each under the budgets it
has for any eviction; it never asks one that is protected: such a guest is what `blockers` names. The gateway asks owners'
pods of a node whose side is offline and which is draining to leave, one call of the Eviction API per pod, so that
disruption budgets hold; a refusal (429) is asked again later, and is no error. Both stop at once when the node is
neither any more. When the last has left (the ledger says so) the planner calls the node steady.

What was said longer than LAPSE ago is no longer believed: then owners' pods may go to every node of the pool again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.units import HOUR, Seconds

LAPSE: Final[Seconds] = HOUR  # the planner says everything again far more often
MOST_BLOCKERS: Final = 16
MOST_COURSE: Final = 512
MOST_SLOTS: Final = 7 * 48


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
    blockers: Annotated[tuple[str, ...], Meta(max_length=MOST_BLOCKERS)] = ()  # pods (namespace/name) that do not leave
    flips: Annotated[tuple[float, ...], Meta(max_length=2)] = ()  # when it last began to change sides, oldest first
    failed: float = 0.0  # when it last could not be emptied for guests; 0: never


class TideMoment(msgspec.Struct, frozen=True, array_like=True):
    """How many nodes were where, from `at` on."""

    at: float
    online: int  # steady
    offline: int
    turning: int
    blocked: int = 0
    needed: int = 0  # nodes that online services needed then


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
    ready_by: float = 0.0  # when the nodes that begin to return at next_change have to be back; 0: none has to
    returning: int = 0  # how many of them
    zone: str = "+00:00"  # in which its days are counted, and times are shown
    course: Annotated[tuple[TideMoment, ...], Meta(max_length=MOST_COURSE)] = ()  # of the last two days
    ahead: Annotated[
        tuple[int, ...], Meta(max_length=96)
    ] = ()  # nodes that are needed, per half hour from ahead_from on
    ahead_from: float = 0.0
    asked: Annotated[tuple[int, ...], Meta(max_length=MOST_SLOTS)] = ()  # highest milli-cores online pods asked, per
    asked_from: float = 0.0  # half hour from here on; -1: not seen
    peak_used: float = 0.0  # cores, and the milli-cores that were asked then: at the highest use of the last day
    peak_asked: int = 0
    peak_at: float = 0.0
