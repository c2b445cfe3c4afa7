"""What a service's containers should ask for, with the arithmetic; and the command that makes it so."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.model.resource import Resources

MOST_HOURS = 1000  # of one course: six weeks


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """How one amount came about, in whole units (milli-cores, bytes)."""

    resource: str
    now: int | None  # what is asked for; None: nothing
    target: int
    arithmetic: str  # "1200 = 1000 (p95 over 14 d) x 1.20, at least 100 by bound"
    confidence: float  # 0..1, with the length of the history
    bound: str = ""  # "min" or "max" if a bound decided
    memory: tuple[float, ...] = ()  # what the rule remembers; nobody else reads it


class ContainerSize(msgspec.Struct, frozen=True, kw_only=True):
    """One container by name."""

    name: str
    requests: tuple[Sum, ...] = ()
    limits: tuple[Sum, ...] = ()  # on wish only
    startup: Resources = {}  # peak of the first minutes, kept apart
    oom_kills: int = 0  # in the window, over all replicas
    worst_replica: str = ""  # whose memory decided, where one did
    least: Resources = {}  # the bounds that targets are held within, where there are any
    most: Resources = {}


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the pods of a service fared over a while, as far as their nodes reported."""

    seconds: float
    pods: int
    oom_kills: int
    throttled: float | None = None  # mean share of the time spent throttled
    stalled: float | None = None  # mean share of the time in which some task waited for a CPU
    starved: float | None = None  # the same for memory


class Applying(msgspec.Struct, frozen=True, kw_only=True):
    """A change of size under way or done, and what there was before it, so that it can be taken back."""

    version: str
    at: float
    requests: dict[str, Resources]  # by container, whole units: what was asked for before
    limits: dict[str, Resources] = {}
    to: dict[str, Resources] = {}  # what it was changed to
    before: Health | None = None
    outcomes: dict[str, int] = {}  # by outcome, how many pods said so
    said: dict[str, str] = {}  # by pod, what it says that is not done
    rollbacks: int = 0  # in a row


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What one service should ask for. Not applied unless asked for."""

    at: float
    source: str
    namespace: str
    kind: str
    name: str
    version: str
    replicas: int
    window: float  # seconds of history it rests on
    containers: Annotated[tuple[ContainerSize, ...], Meta(max_length=64)] = ()
    saves: Resources = {}  # over all replicas; negative: it costs
    waits: str = ""  # why there is no target yet: "preparing: 3 h of 24 h seen"
    state: str = ""  # of applying: "", "applying", "applied", "rolled back", "refused", with `why`
    why: str = ""
    applying: Applying | None = None  # the change it speaks of


class ResizeHow(StrEnum):
    """How pods come to another size."""

    IN_PLACE = "in-place"  # each pod by its resize subresource: uid and restarts stay
    RECREATE = "recreate"  # the owner's template; its controller rolls, within its own limits
    BEST = "best"  # in place where the cluster can, else recreate


class Resize(msgspec.Struct, frozen=True, kw_only=True):
    """A command: these containers of this service shall ask for that much, from now on and for new pods."""

    at: float
    source: str
    namespace: str
    kind: str
    name: str
    version: str  # of the recommendation, or "undo VERSION"
    how: ResizeHow
    requests: dict[str, Resources]  # by container, whole units
    limits: dict[str, Resources] = {}
    reason: str = ""


class Resized(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a Resize, for one pod or for the owner's template (`uid` empty)."""

    at: float
    source: str
    namespace: str
    kind: str
    name: str
    version: str
    outcome: str  # "done", "deferred", "infeasible", "refused", "recreating"
    uid: str = ""
    pod: str = ""
    detail: str = ""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What the replicas of a container used of one resource, hour by hour: cores, bytes. None: not seen."""

    container: str
    resource: str
    start: float  # of the first hour, seconds since the epoch
    avg: Annotated[tuple[float | None, ...], Meta(max_length=MOST_HOURS)] = ()
    max: Annotated[tuple[float | None, ...], Meta(max_length=MOST_HOURS)] = ()


class ApplyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Apply the recommendation of this service, or take it back."""

    namespace: str
    kind: str
    name: str
    undo: bool = False
    how: ResizeHow = ResizeHow.BEST
    show: bool = False  # change nothing, only answer with what it rests on


class ApplyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner makes of it."""

    accepted: bool
    says: str
    version: str = ""
    courses: Annotated[tuple[Course, ...], Meta(max_length=128)] = ()
