"""SteadyKube over API endpoints in memory: balance, health, routes, limits, breakers, what is tried again."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.contract.catalogue import CHANNELS, STREAMS
from neap.common.errors import PortError, Throttled, Unavailable, Unreached
from neap.common.kube.memory import Fault
from neap.common.kube.objects import AUTOSCALERS, BUDGETS, DEPLOYMENTS, NODES, PODS, STATEFUL_SETS
from neap.common.runtime.clock import loop_clock
from neap.common.testing.simloop import simulate
from neap.gateway.core.asking.breaker import BreakerSettings
from neap.gateway.core.asking.flow import Flow, FlowSettings, Limit, Refusal
from neap.gateway.core.asking.routing import ApiRoute, Ask, Priority, Verb
from neap.gateway.core.asking.share import Share, ShareSettings
from neap.gateway.core.asking.staleness import Staleness, StalenessSettings
from neap.gateway.core.hearing.reflector import Complete, Seen, Stale
from neap.gateway.shell.http import connect
from neap.gateway.shell.sharing import keep_share
from tests.unit.endpoint_world import SPACE, WIDE, World, make_pod


def wide(**changes: Any) -> FlowSettings:
    return FlowSettings(**{"rate": 100_000.0, "burst": 100_000.0, "limits": (), **changes})


async def gets(world: World, count: int, *, at_once: int = 1) -> list[float]:
    """How long each of so many GETs took."""
    took: list[float] = []
    loop = asyncio.get_running_loop()

    async def one_after_the_other(number: int) -> None:
        for _ in range(number, count, at_once):
            started = loop.time()
            with suppress(PortError):
                await world.kube.get(PODS, "p0", namespace=SPACE)
            took.append(loop.time() - started)

    await asyncio.gather(*(one_after_the_other(number) for number in range(at_once)))
    return took


@pytest.mark.parametrize("at_once", [1, 40])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_a_thousand_gets_are_spread_evenly_over_two_endpoints(at_once: int, jitter: float) -> None:
    async def story() -> dict[str, int]:
        world = World()
        await world.fill()
        world.cluster.faults.append(Fault("get", error=None, least=0.001, most=0.002 + jitter))
        await gets(world, 1000, at_once=at_once)
        return world.served()

    served = simulate(story())
    assert sum(served.values()) == 1000
    assert all(490 <= each <= 510 for each in served.values()), served


def test_an_ill_endpoint_gets_nothing_within_two_probes_and_its_half_once_it_is_well() -> None:
    async def story() -> None:
        world = World(wide(probe_every=5.0))
        await world.fill()
        probing = asyncio.ensure_future(world.kube.probe())
        await asyncio.sleep(1)
        world.ends["b"].faults.append(Fault("get", "/readyz"))
        await asyncio.sleep(2 * 5.0)
        await gets(world, 100)
        assert world.served() == {"a": 100, "b": 0}
        world.ends["b"].faults.clear()
        await asyncio.sleep(5.0)
        await gets(world, 100)
        assert world.served() == {"a": 150, "b": 50}
        for end in world.ends.values():
            end.faults.append(Fault("get", "/readyz"))
        await asyncio.sleep(20)
        await gets(world, 100)
        assert world.served() == {"a": 200, "b": 100}, "where no probe is good, probes are not believed"
        probing.cancel()

    simulate(story())


def test_lists_of_pods_go_to_the_followers_by_the_first_rule_that_fits() -> None:
    async def story() -> None:
        routes = (
            ApiRoute(verb="list", resource="pods", endpoints=("f1", "f2")),
            ApiRoute(verb="list", endpoints=("a",)),
            ApiRoute(resource="pods", endpoints=("a", "b")),
        )
        world = World(wide(routes=routes), names=("a", "b", "f1", "f2"))
        await world.fill()
        for _ in range(10):
            await world.kube.list(PODS)
        assert world.served() == {"a": 0, "b": 0, "f1": 5, "f2": 5}
        await world.kube.list(NODES)
        assert world.served() == {"a": 1, "b": 0, "f1": 5, "f2": 5}
        await gets(world, 10)
        assert {name: world.served()[name] for name in ("f1", "f2")} == {"f1": 5, "f2": 5}
        for name in ("f1", "f2"):
            world.ends[name].go()
        with pytest.raises(Unavailable):
            await world.kube.list(PODS)
        assert world.served()["b"] == 5, "nobody else serves them"

    simulate(story())


def test_a_storm_of_5xx_opens_the_breaker_and_one_probe_closes_it() -> None:
    async def story() -> None:
        world = World(wide(breaker=BreakerSettings(failures=5, cool_down=10.0), tries=1), names=("a",))
        await world.fill()
        end = world.ends["a"]
        storm = Fault("get")
        end.faults.append(storm)
        asked = world.cluster.asked
        for _ in range(5):
            with pytest.raises(Unavailable):
                await world.kube.get(PODS, "p0", namespace=SPACE)
        before = asked["get", "pods"]
        for _ in range(99):
            await asyncio.sleep(0.1)
            with pytest.raises(Unavailable, match="a is open"):
                await world.kube.get(PODS, "p0", namespace=SPACE)
        assert asked["get", "pods"] == before, "left alone while it cools down"
        await asyncio.sleep(0.2)
        await gets(world, 20, at_once=20)
        assert asked["get", "pods"] == before + 1, "one probe"
        end.faults.remove(storm)
        await asyncio.sleep(10.0)
        await world.kube.get(PODS, "p0", namespace=SPACE)
        assert world.timeline("a") == [
            (0.0, "open"),
            (10.1, "half open"),
            (10.1, "open"),
            (20.1, "half open"),
            (20.1, "closed"),
        ]

    simulate(story())


def test_a_read_is_tried_elsewhere_and_a_write_only_if_it_never_left() -> None:
    async def story() -> None:
        world = World(wide(breaker=BreakerSettings(failures=100)))
        await world.fill()
        broken = Fault("*")
        world.ends["a"].faults.append(broken)
        assert len(await gets(world, 4)) == 4
        assert {each.name: each.codes for each in world.flow.endpoints()}["b"] == {"ok": 4}
        for number in range(2):  # one of them at a: whether it was done is not known, so the caller decides
            with suppress(Unavailable):
                await make_pod(world.kube, f"w{number}")
        made = [pod.metadata.name for pod in (await world.truth.list(PODS)).items]
        assert len(made) == 2, made
        broken.error = Unreached
        for number in range(2, 6):
            await make_pod(world.kube, f"w{number}")
        assert {each.name: each.codes.get("unreached", 0) for each in world.flow.endpoints()}["a"] >= 1
        assert len((await world.truth.list(PODS)).items) == 6

    simulate(story())


def test_nothing_is_waited_for_longer_than_its_deadline() -> None:
    async def story() -> None:
        world = World(wide(deadline=2.0, tries=3), names=("a",))
        await world.fill()
        world.ends["a"].faults.append(Fault("*", error=None, least=600.0, most=600.0))
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(Unavailable, match="no answer within 2 s"):
            await make_pod(world.kube, "w")
        assert loop.time() - started == pytest.approx(2.0)
        with pytest.raises(Unavailable):
            await world.kube.get(PODS, "p0", namespace=SPACE)
        assert loop.time() - started == pytest.approx(8.0), "a read, three times"

    simulate(story())


@pytest.mark.parametrize("at_once", [1, 20])
def test_one_slow_endpoint_of_two_does_not_slow_everything(at_once: int) -> None:
    async def story() -> list[float]:
        world = World()
        await world.fill()
        world.ends["a"].faults.append(Fault("get", error=None, least=0.004, most=0.006))
        world.ends["b"].faults.append(Fault("get", error=None, least=0.5, most=0.6))
        return await gets(world, 2000, at_once=at_once)

    took = sorted(simulate(story()))
    assert took[len(took) // 2] < 0.01
    assert took[len(took) * 98 // 100] < 0.01
    assert sum(each > 0.1 for each in took) <= 2 + at_once


def test_four_replicas_share_a_hundred_a_second_and_fall_back_to_a_quarter_each() -> None:
    async def story() -> tuple[list[float], list[float], list[float]]:
        broker = MemoryBroker()
        await broker.bus("neap-gateway").ensure(STREAMS, CHANNELS)
        clock = loop_clock(asyncio.get_running_loop(), epoch=1000.0)
        settings = FlowSettings(rate=100.0, burst=10.0, limits=())
        went: list[float] = []
        tasks: list[asyncio.Future[Any]] = []
        keepers: list[asyncio.Future[Any]] = []

        async def ask(flow: Flow) -> None:
            while True:
                wait = flow.admit(Ask(Verb.GET, "pods"), clock.now())
                await clock.sleep_until(clock.now() + (0.1 if isinstance(wait, Refusal) else wait))
                if not isinstance(wait, Refusal):
                    went.append(clock.now())

        for number in range(4):
            flow = Flow(settings, ("a",))
            share = Share(f"r{number}", ShareSettings(replicas=4))
            keepers.append(asyncio.ensure_future(keep_share(share, flow, broker.bus("neap-gateway"), clock)))
            tasks.append(asyncio.ensure_future(ask(flow)))
            await asyncio.sleep(10)
        await asyncio.sleep(20)
        together = [each for each in went if each >= clock.now() - 15]
        for keeper in keepers[1:]:
            keeper.cancel()
        for task in tasks[1:]:
            task.cancel()
        await asyncio.sleep(15)
        alone = [each for each in went if each >= clock.now() - 10]
        broker.restart(60.0)  # the coordinator is gone: nothing is renewed
        await asyncio.sleep(20)
        cut = [each for each in went if each >= clock.now() - 4]
        tasks[0].cancel()
        keepers[0].cancel()
        return together, alone, cut

    together, alone, cut = simulate(story())
    assert 14 * 100 <= len(together) <= 15 * 100 + 10
    for first in together:
        assert sum(first <= each < first + 1.0 for each in together) <= 100 + 10 + 4
    assert 950 <= len(alone) <= 1010, "who is alone has everything"
    assert 90 <= len(cut) <= 110, "and with nobody to ask a quarter, not everything"


def test_retry_after_shuts_the_bucket_of_what_was_throttled_and_no_other() -> None:
    async def story() -> None:
        world = World(wide(patience=30.0), names=("a",))
        await world.fill()
        world.ends["a"].faults.append(Fault("get", "pods", error=Throttled, after=7.0, times=1))
        loop = asyncio.get_running_loop()
        with pytest.raises(Throttled):
            await world.kube.get(PODS, "p0", namespace=SPACE)
        started = loop.time()
        await world.kube.list(PODS)
        assert loop.time() - started < 0.1
        await world.kube.get(PODS, "p0", namespace=SPACE)
        assert loop.time() - started == pytest.approx(7.0, abs=0.1)
        world.ends["a"].faults.append(Fault("create", "pods/eviction", error=Throttled, after=9.0, times=1))
        pod = await world.kube.get(PODS, "p0", namespace=SPACE)
        with pytest.raises(Throttled):
            await world.kube.evict(SPACE, "p0", uid=pod.metadata.uid)
        started = loop.time()
        await world.kube.evict(SPACE, "p0", uid=pod.metadata.uid)
        assert loop.time() - started < 0.1, "a budget without room is no reason to leave others alone"

    simulate(story())


def test_what_would_wait_for_too_long_is_refused_and_a_lease_never_waits_behind_others() -> None:
    flow = Flow(FlowSettings(rate=10.0, burst=1.0, limits=(Limit(verb="bind", rate=5.0),), patience=2.0), ("a",))
    waits = [flow.admit(Ask(Verb.BIND, "pods"), 0.0) for _ in range(15)]
    gone = [each for each in waits if not isinstance(each, Refusal)]
    refused = [each for each in waits if isinstance(each, Refusal)]
    assert gone == pytest.approx([number / 5 for number in range(11)])
    assert "longer than 2 s" in refused[0].why
    assert refused[0].error.after == 2.0
    assert flow.admit(Ask(Verb.REPLACE, "leases.coordination.k8s.io", Priority.VITAL), 0.0) == 0.0


def test_a_fence_stops_writes_and_lets_reads_through() -> None:
    async def story() -> None:
        world = World(WIDE)
        await world.fill()
        leads = True
        fenced = world.kube.of(forbids=lambda: "" if leads else "this replica does not lead")
        await make_pod(fenced, "w1")
        leads = False
        with pytest.raises(Unavailable, match="does not lead"):
            await make_pod(fenced, "w2")
        await fenced.get(PODS, "w1", namespace=SPACE)
        await make_pod(world.kube, "w3")

    simulate(story())


def test_still_waits_for_writes_that_are_under_way() -> None:
    async def story() -> None:
        world = World(WIDE)
        await world.fill()
        world.cluster.faults.append(Fault("create", error=None, least=3.0, most=3.0))
        loop = asyncio.get_running_loop()
        making = asyncio.ensure_future(make_pod(world.kube, "w1"))
        await asyncio.sleep(1.0)
        await world.kube.still()
        assert loop.time() == pytest.approx(3.0)
        await making

    simulate(story())


def test_a_watch_ends_when_its_endpoint_goes_out() -> None:
    async def story() -> None:
        world = World(wide(probe_every=5.0))
        await world.fill()
        probing = asyncio.ensure_future(world.kube.probe())
        version = (await world.truth.list(PODS)).version
        await world.pod("p1")
        async with world.kube.watch(PODS, version=version) as lines:
            await anext(lines)
            assert [each.watches for each in world.flow.endpoints()] == [1, 0]
            world.ends["a"].faults.append(Fault("get", "/readyz"))
            with pytest.raises(Unavailable, match="a went out"):
                await anext(lines)
        assert asyncio.get_running_loop().time() <= 15.0
        async with world.kube.watch(PODS, version=version) as lines:
            await anext(lines)
            assert [each.watches for each in world.flow.endpoints()] == [0, 1]
        assert [each.watches for each in world.flow.endpoints()] == [0, 0]
        probing.cancel()

    simulate(story())


def test_evictions_stop_before_bindings_while_the_server_is_away() -> None:
    staleness = Staleness(StalenessSettings(evict=30.0, bind=300.0))
    assert "have not been read yet" in staleness.forbids("evict", 0.0)
    for kind in (PODS, NODES, BUDGETS, DEPLOYMENTS, STATEFUL_SETS, AUTOSCALERS):
        staleness.hear(Complete(kind, "1", 3))
    assert staleness.paused(0.0) == {}
    staleness.hear(Stale(PODS, 100.0, "nobody answers"))
    assert staleness.forbids("evict", 130.0) == ""
    assert staleness.forbids("evict", 131.0) == ("no evict: pods not heard of for 31 s, at most 30 s (nobody answers)")
    assert staleness.oldest(131.0) == 31.0
    assert sorted(staleness.paused(200.0)) == ["evict", "resize"]
    assert staleness.forbids("bind", 401.0) != ""
    staleness.hear(Seen(PODS, None, "2"))
    assert staleness.paused(402.0) == {}


async def test_where_nobody_listens_a_request_certainly_never_left(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound, and deaf
        held.bind(("127.0.0.1", 0))
        told = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{held.getsockname()[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        (tmp_path / "config").write_text(json.dumps(told))
        async with await connect(kubeconfig=str(tmp_path / "config")) as kube:
            with pytest.raises(Unreached):
                await kube.list(PODS)


def test_a_replica_without_a_part_of_the_limit_may_still_ask_what_is_vital() -> None:
    flow = Flow(FlowSettings(), ("a",))
    flow.share(0.0, 0.0)
    vital = [flow.admit(Ask(Verb.REPLACE, "leases", Priority.VITAL), float(second)) for second in range(0, 60, 2)]
    assert vital == [0.0] * 30
    refused = [flow.admit(Ask(Verb.LIST, "pods"), 0.0) for _ in range(200)]
    assert "other replicas have the whole limit for now" in str(refused[-1])
