"""How the Kubernetes API fares as the gateway sees it: endpoints, rates, what is known of each kind, who leads."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import Ratio, Seconds

MOST_CLAIMS = 256


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How does the API fare?"""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit breaker changed."""

    at: float
    state: str  # "closed", "open", "half open"
    why: str = ""


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """One API server."""

    name: str
    breaker: str  # "closed", "open", "half open"
    healthy: bool  # as its probes say
    why: str = ""  # of the last failure
    busy: int = 0  # requests on their way
    watches: int = 0  # open
    served: int = 0  # requests answered, whatever the answer
    p50: Seconds = 0.0  # of the last answers
    p99: Seconds = 0.0
    codes: dict[str, int] = {}  # answers by what they said: "ok", "409", "429", "5xx", ...
    timeline: tuple[Turn, ...] = ()  # of the breaker, oldest first


class BucketState(msgspec.Struct, frozen=True, kw_only=True):
    """A token bucket: one verb, resource and priority."""

    name: str
    rate: float  # requests per second, this replica's part
    burst: float
    left: float  # tokens; negative: so many requests wait
    taken: int = 0
    waited: Seconds = 0.0  # all requests together
    refused: int = 0  # would have waited for too long
    throttled: int = 0  # times the server said 429
    until: Seconds = 0.0  # seconds it is kept shut for by the server's Retry-After


class KindState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one kind of objects."""

    kind: str
    version: str = ""
    count: int = 0
    complete: bool = False  # read to its end at least once
    age: Seconds = 0.0  # since something was heard
    stale: Seconds = 0.0  # how old what is known may be; 0: it is not stale
    why: str = ""  # of the last interruption, while it lasts
    lists: int = 0
    relists: int = 0
    watches: int = 0
    failures: int = 0


class LeaderState(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes."""

    holder: str = ""
    leads: bool = False  # this replica
    token: int = 0  # of its term
    until: float = 0.0  # it leads at least so long


class ApiState(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's answer."""

    at: float
    source: str  # the replica that answers
    endpoints: tuple[EndpointState, ...] = ()
    buckets: tuple[BucketState, ...] = ()
    kinds: tuple[KindState, ...] = ()
    leader: LeaderState = LeaderState()
    share: Ratio = 1.0  # of the limits, that is this replica's
    replicas: int = 1  # that share them
    share_why: str = ""  # where the share comes from
    paused: dict[str, str] = {}  # acts that are not done now -> why


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A replica's part of the limits."""

    replica: str
    share: Annotated[Ratio, Meta(ge=0, le=1)]
    until: float


class ApiShares(msgspec.Struct, frozen=True, kw_only=True):
    """How the limits are divided; written only over the revision that was read, so the shares sum to 1 at most."""

    at: float
    source: str
    claims: Annotated[tuple[Claim, ...], Meta(max_length=MOST_CLAIMS)] = ()
