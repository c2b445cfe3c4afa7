"""What a service's containers should ask for, with the arithmetic; and the command that makes it so."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.model.resource import Resources


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """How one amount came about, in whole units (milli-cores, bytes)."""

    resource: str
    now: int | None  # what is asked for; None: nothing
    target: int
    arithmetic: str  # "1200 = 1000 (p95 over 14 d) x 1.20, at least 100 by bound"
    confidence: float  # 0..1, with the length of the history
    bound: str = ""  # "min" or "max" if a bound decided


class ContainerSize(msgspec.Struct, frozen=True, kw_only=True):
    """One container by name."""

    name: str
    requests: tuple[Sum, ...] = ()
    limits: tuple[Sum, ...] = ()  # on wish only
    startup: Resources = {}  # peak of the first minutes, kept apart
    oom_kills: int = 0  # in the window, over all replicas
    worst_replica: str = ""  # whose memory decided, where one did


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


class ApplyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Apply the recommendation of this service, or take it back."""

    namespace: str
    kind: str
    name: str
    undo: bool = False
    how: ResizeHow = ResizeHow.BEST


class ApplyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner makes of it."""

    accepted: bool
    says: str
    version: str = ""
