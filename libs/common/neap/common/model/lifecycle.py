"""What happened to a workload, and the command that ends one."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from neap.common.model.workload import Size, Workload


class Submitted(msgspec.Struct, frozen=True, kw_only=True, tag="submitted"):
    """Somebody wants this to run; also sent when an evicted workload returns to the queue."""

    at: float
    source: str
    workload: Workload
    node: str = ""  # it runs there already: somebody else placed it, and it is taken as it is


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The node runs it; said again with its size once that is not what was told before."""

    at: float
    source: str
    uid: str
    node: str
    attempt: int
    containers: dict[str, str] = {}  # container name -> id of the runtime, as in the cgroup path
    size: Size | None = None  # what the node has given it; None: what it was submitted with


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


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What was done before anybody had to leave, as far as the evictor knows it."""

    what: str  # "throttle", "reclaim"
    says: str  # with the numbers, or why nothing is known
    since: float = 0.0  # when it began; 0: it was not tried


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One of those who could have left, with the keys it was ranked by, in their order."""

    uid: str
    name: str  # namespace/name
    qos: str
    priority: int
    oom_priority: int
    score: float = 0.0  # the rule's own, highest first
    surplus: bool = False  # of a gang that has more members here than it needs
    overuse: float = 0.0  # used over asked, the larger of CPU and memory; 0: not known
    start_cost: float = 0.0  # seconds from its placement until it ran; 0: not known
    age: float = 0.0  # seconds since it was placed
    frees: int = 0  # in the rule's unit


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """A budget this eviction was taken from, as the evictor saw it then."""

    scope: str  # "node", "workload", "namespace", "cluster"
    spent: int  # in the window, this one included
    most: int
    window: float  # seconds


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
    tried: tuple[Tried, ...] = ()
    contenders: tuple[Contender, ...] = ()  # best victim first, at most ten
    budgets: tuple[Spent, ...] = ()
    policies: tuple[
        str, ...
    ] = ()  # what live policy says of the rule: "ratio = 1.5 by policy batch-canary v3 (cluster)"


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
