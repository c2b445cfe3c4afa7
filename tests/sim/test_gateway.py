"""The real scheduler and the real gateway over an API and a bus in memory, in virtual time, with faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from neap.common.contract.catalogue import EVICTIONS
from neap.common.kube.memory import Fault
from neap.common.kube.objects import BUDGETS, EVENTS, NODES, PODS
from neap.common.kube.own import NODE_POOL_POLICIES
from neap.common.model.lifecycle import Ended, EndReason, Started, Submitted
from neap.common.testing.simloop import simulate
from tests.sim.kube_world import NAMESPACE, KubeWorld, pod
from tests.unit.gateway_world import an_eviction

Story = Callable[[KubeWorld], Awaitable[None]]


def live(story: Story, *rooms: str, nodes: int = 4, **settings: Any) -> None:
    async def main() -> None:
        async with KubeWorld(nodes=nodes).running(*rooms, **settings) as world:
            await story(world)

    simulate(main())


async def make(world: KubeWorld, count: int, stem: str = "cart", **how: Any) -> None:
    for i in range(count):
        await world.kube.create(PODS, pod(f"{stem}-{i}", **how), namespace=NAMESPACE)


async def settled(world: KubeWorld, count: int) -> None:
    """So many pods have a node, run, and are on the ledger of that node."""

    async def so() -> bool:
        bound = await world.bound()
        return len(bound) == count and world.held() == bound and len({one.uid for one in world.told(Started)}) >= count

    await world.until(so)


def once(world: KubeWorld) -> None:
    """Nobody was told twice, and nobody was bound twice."""
    uids = [(event.workload.uid, event.workload.attempt, event.node) for event in world.told(Submitted)]
    assert len(uids) == len(set(uids))
    ends = [event.uid for event in world.told(Ended) if event.reason is not EndReason.REFUSED]
    assert len(ends) == len(set(ends))


def test_pods_are_bound_where_their_ledger_says_and_released_when_they_are_deleted() -> None:
    async def story(world: KubeWorld) -> None:
        await make(world, 12)
        await make(world, 3, "other", scheduler_name="default-scheduler", node="n1")
        await settled(world, 15)
        assert {event.node for event in world.told(Submitted)} == {"", "n1"}
        assert {one.what for one in world.trail if one.source == "gateway"} == {"submitted", "found", "bound"}
        for name in ("cart-3", "other-1"):
            await world.kube.delete(PODS, name, namespace=NAMESPACE)
        await world.until(lambda: len(world.held()) == 13)
        assert [event.reason for event in world.told(Ended)] == [EndReason.DELETED] * 2
        shown = msgspec.to_builtins((await world.kube.list(EVENTS)).items)
        assert len(shown) == 12  # one per binding
        once(world)

    live(story)


def test_a_restart_of_the_gateway_changes_nothing_and_goes_on() -> None:
    async def story(world: KubeWorld) -> None:
        await make(world, 6)
        await settled(world, 6)
        before, told = await world.bound(), len(world.life)
        await world.crash("gateway")
        await make(world, 3, "late")
        await world.kube.delete(PODS, "cart-0", namespace=NAMESPACE)
        world.start("gateway")
        await settled(world, 8)
        after = await world.bound()
        assert {name: after[name] for name in before if name != "cart-0"} == {
            name: node for name, node in before.items() if name != "cart-0"
        }
        assert len(world.life) == told + 3 + 3 + 1  # late ones submitted and started, one ended
        assert world.cluster.asked["create", "pods/binding"] == 9
        once(world)

    live(story)


def test_two_gateways_are_one_and_the_other_takes_over() -> None:
    async def story(world: KubeWorld) -> None:
        world.start("gateway-b")
        await make(world, 4)
        await settled(world, 4)
        await world.crash("gateway")
        await make(world, 4, "late")
        await settled(world, 8)
        assert world.cluster.asked["create", "pods/binding"] == 8
        once(world)

    live(story)


def test_an_api_server_that_fails_and_loses_answers_binds_nobody_twice() -> None:
    async def story(world: KubeWorld) -> None:
        world.cluster.faults.append(Fault("create", "pods/binding", share=0.3, done=True))
        world.cluster.faults.append(Fault("create", "pods/binding", share=0.3))
        await make(world, 20)
        await settled(world, 20)
        assert not [event for event in world.told(Ended) if event.reason is not EndReason.REFUSED]
        once(world)

    live(story)


def test_an_api_server_that_is_away_for_a_minute_loses_nobody() -> None:
    async def story(world: KubeWorld) -> None:
        await make(world, 8)
        await settled(world, 8)
        told = len(world.life)
        world.doors["gateway"].go()
        for _ in range(6):
            await world.clock.sleep_until(world.clock.now() + 10)
        assert len(world.life) == told
        world.doors["gateway"].come()
        world.cluster.compact()
        await make(world, 2, "late")
        await settled(world, 10)
        assert not world.told(Ended)
        once(world)

    live(story)


def test_the_ledger_follows_what_kubelets_give_whoever_is_away_meanwhile() -> None:
    async def story(world: KubeWorld) -> None:
        await make(world, 2, cpu="2")
        await make(world, 1, "other", scheduler_name="default-scheduler", node="n1", cpu="2")
        await settled(world, 3)
        places = world.held()

        async def resize(name: str, cpu: str) -> None:
            """kubectl patch --subresource resize; nobody of neap asked for it."""
            size = {"requests": {"cpu": cpu, "memory": "1Gi"}}
            wish = {"spec": {"containers": [{"name": "main", "resources": size}]}}
            await world.kube.patch(PODS, name, wish, namespace=NAMESPACE, subresource="resize")

        async def give(name: str, cpu: str, why: str = "") -> None:
            """Its kubelet: it has so much, and perhaps more is pending."""
            conditions = [{"type": "PodResizePending", "status": "True", "reason": why}] if why else []
            now = (await world.pods())[name].status.container_statuses or ()
            resources = {"requests": {"cpu": cpu, "memory": "1Gi"}}
            statuses = [{**msgspec.to_builtins(one), "resources": resources} for one in now]
            status = {"status": {"containerStatuses": statuses, "conditions": conditions}}
            await world.kube.patch(PODS, name, status, namespace=NAMESPACE, subresource="status")

        def charged() -> dict[str, int]:
            return {p.workload.name: p.charged["cpu"] for held in world.ledger.values() for p in held.values()}

        for name, cpu in (("cart-0", "3"), ("cart-1", "1"), ("other-0", "12")):
            await resize(name, cpu)
        for name, why in (("cart-0", ""), ("cart-1", ""), ("other-0", "Infeasible")):
            await give(name, "2", why)
        await asyncio.sleep(10.0)
        assert charged() == {"cart-0": 2000, "cart-1": 2000, "other-0": 2000}
        await world.crash("scheduler")
        await give("cart-0", "3")
        await asyncio.sleep(5.0)
        await world.crash("gateway")
        await give("cart-1", "1")
        world.start("scheduler")
        await world.until(lambda: charged()["cart-0"] == 3000)
        world.start("gateway")
        await give("other-0", "12")  # more than its node has: the kubelet has the last word
        await world.until(lambda: charged() == {"cart-0": 3000, "cart-1": 1000, "other-0": 12_000})
        before = len(world.life)
        for room in ("scheduler", "gateway"):
            await world.crash(room)
            world.start(room)
        await asyncio.sleep(60.0)
        assert (world.held(), len(world.life)) == (places, before)
        assert [one.what for one in world.trail if one.source == "scheduler"].count("charged") == 3
        once(world)

    live(story)


def test_an_eviction_waits_for_its_budget_and_is_carried_out_then() -> None:
    async def story(world: KubeWorld) -> None:
        await make(world, 2, labels={"app": "cart"})
        await settled(world, 2)
        selector = {"matchLabels": {"app": "cart"}}
        await world.kube.create(BUDGETS, {"metadata": {"name": "b", "namespace": NAMESPACE}, "spec": {"minAvailable": 2, "selector": selector}}, namespace=NAMESPACE)  # fmt: skip
        await world.kube.patch(BUDGETS, "b", {"status": {"disruptionsAllowed": 0, "expectedPods": 2, "desiredHealthy": 2, "currentHealthy": 2, "observedGeneration": 1}}, namespace=NAMESPACE, subresource="status")  # fmt: skip
        uid = (await world.pods())["cart-0"].metadata.uid
        node = world.held()["cart-0"]
        command = an_eviction(uid, name="cart-0", node=node, at=world.clock.now())
        await world.bus.emit(EVICTIONS.at(node=node), command, id="e1")
        await world.until(lambda: any(one.what == "held back" for one in world.trail))
        assert len(await world.pods()) == 2
        await world.kube.patch(BUDGETS, "b", {"status": {"disruptionsAllowed": 1}}, namespace=NAMESPACE, subresource="status")  # fmt: skip
        await world.until(lambda: "cart-0" not in world.held())
        assert world.told(Ended)[0].detail.startswith("evicted: memory_pressure")
        assert [one.what for one in world.trail if one.about.name == "cart-0" and one.source == "gateway"] == [
            "submitted", "bound", "held back", "evicted", "deleted",
        ]  # fmt: skip

    live(story)


def test_what_nodes_lend_is_seen_in_the_api_and_what_people_apply_is_answered() -> None:
    async def story(world: KubeWorld) -> None:
        for node in world.nodes:
            await world.lend(node, 3)
        body = {"metadata": {"name": "calm"}, "spec": {"rooms": {"evictor": {"grace": 60}}, "tier": "cluster"}}
        await world.kube.create(NODE_POOL_POLICIES, body)

        async def shown() -> bool:
            nodes = (await world.kube.list(NODES)).items
            lent = {(one.status.allocatable or {}).get("neap.io/reclaimed-millicpu") for one in nodes}
            [policy] = (await world.kube.list(NODE_POOL_POLICIES)).items
            return lent == {"3000"} and bool(policy.status.conditions)

        await world.until(shown)
        [policy] = (await world.kube.list(NODE_POOL_POLICIES)).items
        assert policy.status.conditions[0].status == "True"
        [node] = [one for one in (await world.kube.list(NODES)).items if one.metadata.name == "n1"]
        assert (node.status.allocatable or {})["cpu"] == "8"  # the kubelet's own stays

    live(story)
