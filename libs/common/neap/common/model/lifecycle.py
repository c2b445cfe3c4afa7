"""What happened to a workload, and the command that ends one."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from neap.common.model.workload import Workload


class Submitted(msgspec.Struct, frozen=True, kw_only=True, tag="submitted"):
    """Somebody wants this to run; also sent when an evicted workload returns to the queue."""

    at: float
    source: str
    workload: Workload


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The node runs it."""

    at: float
    source: str
    uid: str
    node: str
    attempt: int
    containers: dict[str, str] = {}  # container name -> id of the runtime, as in the cgroup path


class EndReason(StrEnum):
    """Why a run is over."""

    FINISHED = "finished"
    EVICTED = "evicted"
    DELETED = "deleted"
    REFUSED = "refused"  # the node or the API would not run it
    INVALID = "invalid"  # it never could run


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """This run is over. An evicted or refused workload goes back to the queue with attempt + 1."""

    at: float
    source: str
    uid: str
    node: str  # empty if it never had one
    attempt: int
    reason: EndReason
    detail: str = ""


LifecycleEvent: TypeAlias = Submitted | Started | Ended


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers compared to reach a decision."""

    metric: str
    value: float
    threshold: float
    window: float = 0.0  # seconds


class Eviction(msgspec.Struct, frozen=True, kw_only=True):
    """A command: end this guest's run, for this reason, with these numbers."""

    at: float
    source: str
    node: str
    uid: str
    namespace: str
    name: str
    attempt: int
    rule: str
    reason: str
    measured: tuple[Measured, ...]
    ranking: str  # why this one and not another
    grace: float  # seconds between TERM and KILL


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks the scheduler to have a guest run elsewhere: a place first, then the eviction, then the next run."""

    at: float
    source: str
    uid: str
    attempt: int  # the run that is to end
    reason: str  # with the numbers


class Preemption(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler asks a node's evictor to end the runs of guests whose place an owner needs."""

    at: float
    source: str
    node: str
    victims: tuple[str, ...]  # uids, all of them needed
    attempts: tuple[int, ...]  # of the victims, in their order
    beneficiary: str  # uid of who will have the place
    reason: str  # with the numbers
