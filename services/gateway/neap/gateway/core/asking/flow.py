"""How much may be asked of the API, and of which server: every request passes here, twice.

    admit    its token bucket, by (verb, resource, priority), and the one over all requests say how long it waits
    choose   routing table -> those that are well -> the one with the least to do, weighed by how slow it is

    load = (requests out + 1) × slowness        slowness = latency / best latency, if it is `slow` times that; else 1

Equal loads are served in turn, so equal servers get equal parts, per request and not per connection. Where no server is
well by its probes, probes are not believed; breakers always are. Reads are tried again elsewhere; a write only if it
certainly never left.

All limits are of all replicas together; `share` says which part is ours (core/asking/share.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.errors import PortError, Throttled, Unavailable, Unreached
from neap.common.model.api import BucketState, EndpointState
from neap.common.units import HOUR, Ratio, Seconds
from neap.gateway.core.asking.breaker import BreakerSettings
from neap.gateway.core.asking.bucket import Bucket
from neap.gateway.core.asking.endpoint import Endpoint
from neap.gateway.core.asking.routing import ApiRoute, Ask, Match, Priority, Verb, route

MOST_BUCKETS: Final = 512
ALL: Final = "all"

PerSecond = Annotated[float, Meta(gt=0, le=100_000)]
Wait = Annotated[Seconds, Meta(gt=0, le=600)]


class Limit(Match, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests per second; each verb, resource and priority that fits has as many."""

    rate: PerSecond
    burst: Annotated[float, Meta(ge=1, le=100_000)] = 1.0  # at once


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the API is asked. Rates are of all replicas together."""

    rate: PerSecond = 600.0  # requests per second of all sorts
    burst: Annotated[float, Meta(ge=1, le=100_000)] = 600.0  # of them at once
    limits: Annotated[tuple[Limit, ...], Meta(max_length=128)] = (
        Limit(resource="leases", rate=10.0, burst=20.0),
        Limit(verb="bind", rate=500.0, burst=500.0),
        Limit(verb="evict", rate=50.0, burst=50.0),
        Limit(verb="list", rate=20.0, burst=40.0),
        Limit(resource="events", rate=20.0, burst=100.0),
        Limit(resource="nodes", rate=40.0, burst=80.0),
        Limit(rate=40.0, burst=80.0),
    )  # the first that fits a request counts
    routes: Annotated[tuple[ApiRoute, ...], Meta(max_length=128)] = ()  # the first that fits a request counts
    patience: Wait = 10.0  # a request that would wait longer for its token is refused
    deadline: Wait = 10.0  # of one attempt
    list_deadline: Wait = 30.0  # of one page of a list
    tries: Annotated[int, Meta(ge=1, le=10)] = 3  # of a read
    probe_every: Wait = 5.0  # between two health probes of an endpoint
    probe_deadline: Wait = 2.0  # of one of them
    out_after: Annotated[int, Meta(ge=1, le=100)] = 2  # bad probes in a row
    slow: Annotated[float, Meta(ge=1)] = 3.0  # times the latency of the best
    slow_by: Annotated[Seconds, Meta(ge=0)] = 0.02  # and by so much at least
    forget: Wait = 10.0  # half of a latency, after so long without a new one
    lists_at_once: Annotated[int, Meta(ge=1, le=64)] = 4  # kinds that are listed at the same time
    breaker: BreakerSettings = BreakerSettings()


class Ticket(NamedTuple):
    """A request on its way."""

    number: int
    endpoint: str
    ask: Ask


class Refusal(NamedTuple):
    """A request that is not made now."""

    why: str
    after: Seconds  # trying again before that is no use

    @property
    def error(self) -> Throttled:
        """For the caller."""
        return Throttled(self.why, self.after)


class Flow:
    """See module docstring. All decisions about requests; no I/O, no clock."""

    def __init__(self, settings: FlowSettings, names: Sequence[str]) -> None:
        self.settings = settings
        self._endpoints = {name: Endpoint(name, settings.breaker, forget=settings.forget) for name in names}
        self._all = Bucket(ALL, settings.rate, settings.burst)
        self._buckets: dict[Ask, Bucket] = {}
        self._share: Ratio = 1.0
        self._count = 0

    # -- how much

    def admit(self, ask: Ask, at: Seconds) -> Seconds | Refusal:
        """How long a request waits for its token. What is vital waits only for its own bucket."""
        own, patience = self._bucket(ask, at), self.settings.patience
        is_vital = ask.priority is Priority.VITAL
        wait = own.wait(at) if is_vital else max(own.wait(at), self._all.wait(at))
        if wait > patience:
            own.refuse()
            turn = (
                f"its turn would be in {wait:.1f} s" if wait < HOUR else "other replicas have the whole limit for now"
            )
            return Refusal(f"{ask}: {turn}, longer than {patience:g} s", patience)
        own.take(wait)
        self._all.take(0.0 if is_vital else wait)
        return wait

    def share(self, part: Ratio, at: Seconds) -> None:
        """Our part of the limits from now on."""
        self._share = part
        self._all.share(part, at)
        for ask, bucket in self._buckets.items():
            bucket.share(self._part(ask), at)

    def _part(self, ask: Ask) -> Ratio:
        """What is vital, such as the lease, is not divided: it is little, and whoever has no part yet needs it too."""
        return 1.0 if ask.priority is Priority.VITAL else self._share

    def _bucket(self, ask: Ask, at: Seconds) -> Bucket:
        bucket = self._buckets.get(ask)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                return self._all
            limit = next((limit for limit in self.settings.limits if limit.fits(ask)), None)
            rate, burst = (limit.rate, limit.burst) if limit else (self.settings.rate, self.settings.burst)
            bucket = self._buckets[ask] = Bucket(str(ask), rate, burst)
            bucket.share(self._part(ask), at)
        return bucket

    # -- of whom

    def choose(self, ask: Ask, at: Seconds, tried: Collection[str] = ()) -> Ticket | Refusal:
        """Who serves a request; it is on its way then. Those that were tried are asked last. O(endpoints)."""
        mine, others = route(self.settings.routes, ask, tuple(self._endpoints))
        for names in (mine, others):
            able = self._able([self._endpoints[name] for name in names], ask, at)
            fresh = [each for each in able if each.name not in tried] or able
            if fresh:
                return self._send(self._least(fresh, ask, at), ask, at)
        known = ", ".join(f"{name} is {self._endpoints[name].breaker.stance.value}" for name in (*mine, *others))
        return Refusal(f"{ask}: no endpoint can serve it ({known or 'no route leads to one'})", 0.0)

    def _able(self, endpoints: Sequence[Endpoint], ask: Ask, at: Seconds) -> list[Endpoint]:
        """Those that are well. A write is no probe of a breaker, as long as another endpoint is there."""
        may = [each for each in endpoints if each.breaker.may(at)]
        able = [each for each in may if each.healthy] or may
        sure = [each for each in able if each.breaker.is_closed]
        return able if ask.verb.is_read else sure or able

    def _least(self, able: Sequence[Endpoint], ask: Ask, at: Seconds) -> Endpoint:
        if ask.verb is Verb.WATCH:
            return min(able, key=lambda each: (each.watches, each.picked))
        latency = {each.name: each.latency(ask.verb, at) for each in able}
        best = min(latency.values())
        settings = self.settings

        def load(each: Endpoint) -> tuple[float, int]:
            mine = latency[each.name]
            is_slow = mine > settings.slow * best and mine > best + settings.slow_by
            return (each.busy + 1) * (mine / max(best, 1e-3) if is_slow else 1.0), each.picked

        return min(able, key=load)

    def _send(self, endpoint: Endpoint, ask: Ask, at: Seconds) -> Ticket:
        self._count += 1
        endpoint.picked = self._count
        endpoint.breaker.take(at)
        endpoint.sent(ask.verb, self._count, at)
        return Ticket(self._count, endpoint.name, ask)

    # -- what came of it

    def answered(self, ticket: Ticket, at: Seconds, error: PortError | None = None) -> None:
        """A request came back. An eviction's 429 is a budget's, and says nothing about the server."""
        ask = ticket.ask
        self._endpoints[ticket.endpoint].answered(ask.verb, ticket.number, at, error)
        if isinstance(error, Throttled) and ask.verb is not Verb.EVICT:
            self._bucket(ask, at).throttled(at, error.after)

    def forgot(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""
        self._endpoints[ticket.endpoint].forgot(ticket.ask.verb, ticket.number)

    def watching(self, ticket: Ticket, by: int) -> None:
        """A watch was opened (1) or closed (-1)."""
        self._endpoints[ticket.endpoint].watches += by

    def goes_again(self, ask: Ask, error: PortError, tries: int) -> bool:
        """Whether to try elsewhere at once: reads, and what certainly never left; not what was throttled."""
        if isinstance(error, Throttled) or not isinstance(error, Unavailable):
            return False
        return tries < self.settings.tries and (ask.verb.is_read or isinstance(error, Unreached))

    def probed(self, name: str, *, ready: bool) -> None:
        """A health probe came back."""
        self._endpoints[name].probed(ready=ready, out_after=self.settings.out_after)

    def is_out(self, name: str) -> bool:
        """Whether its probes say that it is not well."""
        return not self._endpoints[name].healthy

    def deadline(self, ask: Ask) -> Seconds:
        """Of one attempt."""
        return self.settings.list_deadline if ask.verb is Verb.LIST else self.settings.deadline

    # -- for people

    def endpoints(self) -> tuple[EndpointState, ...]:
        """In the order of the settings."""
        return tuple(each.state() for each in self._endpoints.values())

    def buckets(self, at: Seconds) -> tuple[BucketState, ...]:
        """The one over all first, then by name."""
        own: Iterable[Bucket] = sorted(self._buckets.values(), key=lambda bucket: bucket.name)
        return tuple(bucket.state(at) for bucket in (self._all, *own))

    def validate(self) -> None:
        """Breakers hold, and nothing was counted twice."""
        for each in self._endpoints.values():
            each.breaker.validate()
            assert each.watches >= 0
