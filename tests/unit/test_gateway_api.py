"""`neap api`: the gateway's answer over the bus, as text, as JSON, and as metrics."""

from __future__ import annotations

import asyncio
import json

import msgspec

from neap.common.bus.memory import MemoryBroker
from neap.common.contract.catalogue import API, CHANNELS, STREAMS
from neap.common.errors import Unavailable
from neap.common.kube.memory import Fault
from neap.common.kube.objects import NODES, PODS
from neap.common.model.api import ApiRequest, ApiState
from neap.common.runtime.machine import Count
from neap.common.telemetry.metrics import Metrics
from neap.common.testing.simloop import simulate
from neap.console.core import apiview
from neap.gateway.core.asking.api import API_METRICS, ApiView
from neap.gateway.core.asking.flow import Flow, FlowSettings
from neap.gateway.core.asking.lease import Elector, LeaseSettings
from neap.gateway.core.asking.share import Share, ShareSettings
from neap.gateway.core.asking.staleness import Staleness, StalenessSettings
from neap.gateway.core.hearing.reflector import Complete, Reflector, ReflectorSettings, Stale
from neap.gateway.shell.lead import elected
from neap.gateway.shell.reflect import reflected
from neap.gateway.shell.sharing import kept_steady
from tests.unit.endpoint_world import World


async def lived(seconds_ill: float) -> tuple[ApiState, Metrics]:
    """A gateway that follows two kinds, and whose second endpoint is away at the end; asked over the bus."""
    broker = MemoryBroker()
    bus = broker.bus("neap-gateway")
    await bus.ensure(STREAMS, CHANNELS)
    world = World()
    await world.fill(3)
    await world.truth.create(NODES, {"metadata": {"name": "n1"}})
    settings = LeaseSettings(namespace="shop")
    staleness, elector = Staleness(StalenessSettings()), Elector("gateway-1", settings)
    reflectors = tuple(Reflector(kind, ReflectorSettings()) for kind in (PODS, NODES))
    view = ApiView("gateway-1", world.flow, Share("gateway-1", ShareSettings()), elector, staleness, reflectors)
    metrics = Metrics(*API_METRICS)

    async def follow(reflector: Reflector) -> None:
        async with reflected(world.kube, world.clock, reflector, asyncio.Semaphore(2)) as said:
            async for what in said:
                staleness.hear(what)

    async def count() -> None:
        async with kept_steady(world.kube, view, bus, world.clock) as counted:
            async for counts in counted:
                for each in counts:
                    metrics.count(each.metric, each.by, each.labels)

    async def lead() -> None:
        async with elected(world.kube, world.clock, elector, settings) as roles:
            async for _ in roles:
                pass

    async def answer(request: ApiRequest) -> ApiState:
        return view.answer(request, world.clock.now())

    tasks = [asyncio.ensure_future(each) for each in (*map(follow, reflectors), count(), lead())]
    await asyncio.sleep(20)
    if seconds_ill:
        world.ends["b"].faults.append(Fault())
        world.ends["a"].faults.append(Fault("watch", error=Unavailable))
        world.cluster.cut()
        await asyncio.sleep(seconds_ill)
    async with bus.serve(API, answer):
        state = await broker.bus("neap-console").request(API, ApiRequest())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return state, metrics


def test_where_all_is_well_the_first_line_says_so() -> None:
    state, metrics = simulate(lived(0.0))
    text = apiview.text(state)
    assert text.splitlines()[0] == (
        "the API fares well: 2 of 2 endpoints serve, 2 of 2 kinds are known, gateway-1 leads (term 1); gateway-1 says so"
    )
    assert apiview.is_well(state)
    assert "100% of the limits, agreed among 1" in text
    assert msgspec.convert(json.loads(json.dumps(apiview.as_json(state))), ApiState) == state
    numbers = metrics.read()
    assert numbers["neap_gateway_api_breaker_count"] == {
        ("a", "closed"): 1.0,
        ("b", "closed"): 1.0,
    }
    assert sum(numbers["neap_gateway_api_requests_total"].values()) > 10
    assert numbers["neap_gateway_lists_total"] == {("pods",): 1.0, ("nodes",): 1.0}
    assert numbers["neap_gateway_leads_count"] == {(): 1.0}
    assert not numbers["neap_unknown_metric_total"], "every metric is declared"


def test_where_it_is_ill_it_says_what_since_when_and_what_is_not_done_therefore() -> None:
    state, metrics = simulate(lived(100.0))
    text = apiview.text(state)
    assert text.splitlines()[0].startswith("the API FARES ILL: 1 of 2 endpoints serve, 0 of 2 kinds are known")
    assert not apiview.is_well(state)
    assert "STALE for 1m40s" in text
    assert "half open: one call is tried" in text
    assert "paused    no evict: pods not heard of for 100 s, at most 30 s" in text
    numbers = metrics.read()
    assert numbers["neap_gateway_api_breaker_count"]["b", "closed"] == 0.0
    assert numbers["neap_gateway_stale_seconds"]["pods",] > 60.0


def test_what_was_counted_is_told_once() -> None:
    view = ApiView(
        "g",
        Flow(FlowSettings(), ("a",)),
        Share("g", ShareSettings()),
        Elector("g", LeaseSettings()),
        Staleness(StalenessSettings()),
    )
    first, second = view.counts(1.0), view.counts(1.0)
    assert Count("neap_gateway_api_share_ratio", 0.5, {}) in first
    assert second == ()


def test_a_gateway_that_has_read_nothing_yet_does_not_fare_well() -> None:
    staleness = Staleness(StalenessSettings())
    reflector = Reflector(PODS, ReflectorSettings())
    view = ApiView(
        "g",
        Flow(FlowSettings(), ("a",)),
        Share("g", ShareSettings()),
        Elector("g", LeaseSettings()),
        staleness,
        (reflector,),
    )
    text = apiview.text(view.state(0.0))
    assert "not read yet" in text
    assert "nobody leads" in text
    staleness.hear(Complete(PODS, "1", 0))
    staleness.hear(Stale(PODS, 0.0, "away"))
    assert "no resize" in apiview.text(view.state(61.0))
