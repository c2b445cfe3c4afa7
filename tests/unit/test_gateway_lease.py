"""Who leads: taking over, giving up in time, letting go, and a token for every term."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from neap.common.errors import SettingsError
from neap.common.kube.memory import Fault, MemoryCluster, MemoryKube
from neap.common.kube.objects import LEASES, NAMESPACES, Lease
from neap.common.runtime.clock import Clock, loop_clock
from neap.common.testing.simloop import simulate
from neap.gateway.core.asking.lease import (
    Elector,
    Follows,
    Leads,
    LeaseSettings,
    Look,
    Looked,
    Role,
    Tell,
    Woke,
    Write,
    Wrote,
)
from neap.gateway.shell.lead import elected

SETTINGS = LeaseSettings()
SPACE = SETTINGS.namespace


class Replica:
    """One that takes part, and what it was told."""

    def __init__(self, name: str, cluster: MemoryCluster, clock: Clock) -> None:
        self.name, self.clock = name, clock
        self.kube: MemoryKube = cluster.endpoint(name)
        self.elector = Elector(name, SETTINGS)
        self.told: list[tuple[float, Role]] = []
        self.busy = asyncio.Event()
        self.busy.set()
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async with elected(self.kube, self.clock, self.elector, SETTINGS, self._settled) as roles:
            async for role in roles:
                self.told.append((self.clock.now(), role))

    async def _settled(self) -> None:
        await self.busy.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def leads(self) -> bool:
        return self.elector.leads(self.clock.now())

    @property
    def tokens(self) -> list[int]:
        return sorted({role.token for _, role in self.told if isinstance(role, Leads)})


class Stage(AsyncExitStack):
    """A cluster and its replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = loop_clock(asyncio.get_running_loop(), epoch=1000.0)
        self.cluster = MemoryCluster(now=self.clock.now)
        self.truth = self.cluster.endpoint("truth")

    async def replica(self, name: str) -> Replica:
        if not (await self.truth.list(NAMESPACES, only=f"metadata.name={SPACE}")).items:
            await self.truth.create(NAMESPACES, {"metadata": {"name": SPACE}})
        replica = Replica(name, self.cluster, self.clock)
        self.push_async_callback(replica.stop)
        return replica

    async def lease(self) -> Lease:
        return await self.truth.get(LEASES, SETTINGS.name, namespace=SPACE)


def test_the_first_one_leads_and_the_second_follows_it() -> None:
    async def story() -> None:
        async with Stage() as stage:
            one = await stage.replica("one")
            await asyncio.sleep(1)
            two = await stage.replica("two")
            await asyncio.sleep(60)
            assert one.leads
            assert not two.leads
            assert [role for _, role in two.told] == [Follows("one")]
            assert one.tokens == [1]
            lease = await stage.lease()
            assert lease.spec.holder_identity == "one"
            assert lease.spec.lease_duration_seconds == 15
            assert lease.spec.renew_time is not None
            assert lease.spec.renew_time.endswith("Z")
            assert stage.cluster.asked["update", "leases.coordination.k8s.io"] <= 31, "one write per renewal"
            assert stage.cluster.asked["get", "leases.coordination.k8s.io"] <= 31, "and followers only look"

    simulate(story())


def test_a_leader_that_dies_is_followed_by_another_with_the_next_token() -> None:
    async def story() -> None:
        async with Stage() as stage:
            one = await stage.replica("one")
            await asyncio.sleep(1)
            two = await stage.replica("two")
            await asyncio.sleep(10)
            one.kube.go()  # cut off: it stops before the other begins
            await asyncio.sleep(10.1)
            assert not one.leads
            assert not two.leads
            assert one.told[-1][1] == Follows("")
            await asyncio.sleep(10)
            assert two.leads
            assert two.tokens == [2]
            one.kube.come()
            await asyncio.sleep(5)
            assert one.told[-1][1] == Follows("two")

    simulate(story())


def test_who_stops_lets_go_once_its_work_is_over_and_the_next_leads_at_once() -> None:
    async def story() -> None:
        async with Stage() as stage:
            one = await stage.replica("one")
            await asyncio.sleep(1)
            two = await stage.replica("two")
            await asyncio.sleep(10)
            one.busy.clear()
            stopping = asyncio.ensure_future(one.stop())
            await asyncio.sleep(2.0)
            assert not one.leads, "nothing new is begun"
            assert not two.leads, "while what was begun is not over"
            one.busy.set()
            await stopping
            await asyncio.sleep(2.5)
            assert two.leads
            assert two.tokens == [2]

    simulate(story())


def test_a_renewal_that_hangs_ends_the_term_in_time() -> None:
    async def story() -> None:
        async with Stage() as stage:
            one = await stage.replica("one")
            await asyncio.sleep(5)
            until = [role.until for _, role in one.told if isinstance(role, Leads)][-1]
            stage.cluster.faults.append(Fault("*", error=None, least=3600.0, most=3600.0))
            await asyncio.sleep(12)
            assert not one.leads
            at, role = one.told[-1]
            assert role == Follows("")
            assert at == pytest.approx(until, abs=0.01), "said when it is over, not when the answer comes"

    simulate(story())


def test_a_term_that_lapsed_is_a_new_one_when_it_is_taken_up_again() -> None:
    async def story() -> None:
        async with Stage() as stage:
            one = await stage.replica("one")
            await asyncio.sleep(5)
            one.kube.go()
            await asyncio.sleep(12)
            one.kube.come()
            await asyncio.sleep(5)
            assert one.leads
            assert one.tokens == [1, 2]

    simulate(story())


def test_a_lost_answer_costs_nothing() -> None:
    async def story() -> None:
        async with Stage() as stage:
            one = await stage.replica("one")
            await asyncio.sleep(5)
            stage.cluster.faults.append(Fault("update", times=2, done=True))
            await asyncio.sleep(30)
            assert one.leads
            assert one.tokens == [1]
            assert [role for _, role in one.told if isinstance(role, Follows)] == [Follows("")], "before the first term"

    simulate(story())


def test_settings_that_would_let_two_lead_are_refused() -> None:
    with pytest.raises(SettingsError, match="two could lead at once"):
        LeaseSettings(duration=10, renew_within=9.9)


def test_a_term_is_counted_from_when_it_was_asked_for_not_from_when_it_was_granted() -> None:
    elector = Elector("one", SETTINGS)
    assert elector.handle(Woke(), 1000.0) == (Look(1010.0),)
    *_, write = elector.handle(Looked(None), 1001.0)
    assert isinstance(write, Write)
    *told, _ = elector.handle(Wrote(write.lease), 1009.0)
    assert told == [Tell(Leads(1, 1011.0))], "others may take over 15 s after 1001, not after 1009"
    assert not elector.leads(1011.0)
