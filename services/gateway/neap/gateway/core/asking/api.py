"""The answer to `neap api`, and the same as metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from neap.common.model.api import ApiRequest, ApiState
from neap.common.runtime.machine import Count
from neap.common.telemetry.metrics import counter, gauge
from neap.common.units import Seconds
from neap.gateway.core.asking.breaker import BreakerStance
from neap.gateway.core.asking.flow import Flow
from neap.gateway.core.asking.lease import Elector
from neap.gateway.core.asking.share import Share
from neap.gateway.core.asking.staleness import Staleness
from neap.gateway.core.hearing.reflector import Reflector

API_METRICS: Final = (
    counter("neap_gateway_api_requests_total", "Requests answered, by what was said.", "endpoint", "code"),
    gauge("neap_gateway_api_breaker_count", "1 for the state an endpoint's breaker is in.", "endpoint", "state"),
    gauge("neap_gateway_api_healthy_count", "1 while an endpoint's health probes are good.", "endpoint"),
    gauge("neap_gateway_api_p99_seconds", "Of the last answers of an endpoint.", "endpoint"),
    counter("neap_gateway_api_waited_seconds_total", "That requests waited for their token.", "bucket"),
    counter("neap_gateway_api_refused_total", "Requests that would have waited for too long.", "bucket"),
    counter("neap_gateway_api_throttled_total", "Times the server said that it has too much to do.", "bucket"),
    gauge("neap_gateway_api_share_ratio", "This replica's part of the limits."),
    counter("neap_gateway_lists_total", "Lists begun.", "kind"),
    counter("neap_gateway_watches_total", "Watches opened.", "kind"),
    gauge("neap_gateway_stale_seconds", "How old what is known of a kind may be.", "kind"),
    gauge("neap_gateway_leads_count", "1 while this replica leads."),
)


@dataclass
class ApiView:
    """Everything of this process that speaks with the API."""

    replica: str
    flow: Flow
    share: Share
    elector: Elector
    staleness: Staleness
    reflectors: tuple[Reflector, ...] = ()
    _told: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def state(self, at: Seconds) -> ApiState:
        """How it fares now."""
        return ApiState(
            at=at,
            source=self.replica,
            endpoints=self.flow.endpoints(),
            buckets=self.flow.buckets(at),
            kinds=tuple(reflector.state(at) for reflector in self.reflectors),
            leader=self.elector.state(at),
            share=self.share.part(at),
            replicas=self.share.replicas,
            share_why=self.share.why(at),
            paused=self.staleness.paused(at),
        )

    def answer(self, _: ApiRequest, at: Seconds) -> ApiState:
        """What `neap api` is told."""
        return self.state(at)

    def counts(self, at: Seconds) -> tuple[Count, ...]:
        """The metrics, as what was added since they were last asked for."""
        now = {(name, tuple(sorted(labels.items()))): value for name, labels, value in _numbers(self.state(at))}
        before, self._told = self._told, now
        changed = ((key, value - before.get(key, 0.0)) for key, value in now.items())
        return tuple(Count(name, by, dict(labels)) for (name, labels), by in changed if by)


def _numbers(state: ApiState) -> Iterator[tuple[str, dict[str, str], float]]:
    for endpoint in state.endpoints:
        who = {"endpoint": endpoint.name}
        for code, count in endpoint.codes.items():
            yield "neap_gateway_api_requests_total", {**who, "code": code}, count
        for stance in BreakerStance:
            labels = {**who, "state": stance.value}
            yield "neap_gateway_api_breaker_count", labels, float(endpoint.breaker == stance.value)
        yield "neap_gateway_api_healthy_count", who, float(endpoint.healthy)
        yield "neap_gateway_api_p99_seconds", who, endpoint.p99
    for bucket in state.buckets:
        of = {"bucket": bucket.name}
        yield "neap_gateway_api_waited_seconds_total", of, bucket.waited
        yield "neap_gateway_api_refused_total", of, bucket.refused
        yield "neap_gateway_api_throttled_total", of, bucket.throttled
    for kind in state.kinds:
        yield "neap_gateway_lists_total", {"kind": kind.kind}, kind.lists
        yield "neap_gateway_watches_total", {"kind": kind.kind}, kind.watches
        yield "neap_gateway_stale_seconds", {"kind": kind.kind}, kind.stale
    yield "neap_gateway_api_share_ratio", {}, state.share
    yield "neap_gateway_leads_count", {}, float(state.leader.leads)
