"""The scaling desk: reports, starts and forecasts in; plans with their arithmetic out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from neap.common.contract.catalogue import POLICY
from neap.common.errors import InputError
from neap.common.model.lifecycle import Started
from neap.common.model.placement import Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Delete, Event, Instruction, Put, Synced, Tick
from neap.common.runtime.tuning import Tunable
from neap.common.units import DAY, HOUR
from neap.foresight.scaling import BY_ALLOWANCE, BY_LEAST
from neap.foresight.series import Series
from neap.planner.core.cluster import Cluster
from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.forecasting.settings import Forecasting
from neap.planner.core.record import ContainerRecord, How
from neap.planner.core.scaling.counting import NO_FORECAST, NO_REPLICA, NO_REQUEST, NO_USE
from neap.planner.core.scaling.desk import ScalingDesk
from neap.planner.core.scaling.settings import Scaling, check
from neap.planner.core.wishes import Wishes
from neap.planner.settings import FIXED, PER_SERVICE, Settings
from tests.unit.policy_world import a_policy, an_edition

KEY = "shop/Deployment/feed"
LOOK = 15.0
EIGHT = 20 * DAY + 20 * HOUR


@dataclass
class Known:
    """A record of plain values."""

    totals: dict[str, Series] = field(default_factory=dict)

    def total(self, key: str, resource: str) -> Series | None:
        return self.totals.get(key)

    def replicas(self, key: str) -> Series | None:
        return None

    def track(self, key: str) -> None:
        pass

    def node(self, node: str, resource: str, how: How = "avg") -> Series | None:
        return None

    def container(self, key: str, container: str) -> ContainerRecord | None:
        return None

    def nodes(self) -> Sequence[str]:
        return ()

    def containers(self, key: str) -> Sequence[str]:
        return ()

    def keys(self) -> Sequence[str]:
        return ()


class World:
    """A cluster with one service, whose replicas start when they are asked for, or not."""

    def __init__(self, at: float = 1000.0, record: Known | None = None, **scaling: Any) -> None:
        tunable = Tunable("planner", Settings, FIXED, per_service=PER_SERVICE)
        self.wishes, self.cluster = Wishes(tunable, Settings(scaling=Scaling(**scaling))), Cluster()
        self.forecasts = Forecasts(Forecasting, self.cluster, record or Known())
        self.desk = ScalingDesk(self.wishes, self.cluster, self.forecasts)
        self.at, self.seq, self.count = at, 0, 0
        self.said: list[Instruction] = []
        self.hear(Synced(at, POLICY))

    def hear(self, event: Event) -> None:
        self.wishes.hear(event)
        self.cluster.hear(event)
        for desk in (self.forecasts, self.desk):
            self.said += desk.hear(event)

    def add(self, replicas: int = 1, *, took: float = 60.0, cpu: int = 1000, owner: str = "Deployment/feed") -> None:
        for _ in range(replicas):
            self.count += 1
            uid = f"u{self.count}"
            workload = Workload(
                uid=uid, namespace="shop", name=f"feed-{self.count}", qos=QosClass.SHARED, owner=owner,
                containers=(Container(name="main", requests={"cpu": cpu} if cpu else {}),),
            )  # fmt: skip
            placement = Placement(workload=workload, charged=workload.requests)
            self.hear(
                Arrived(self.at, Placed(at=self.at - took, source="s", node="n1", placement=placement, reason=""))
            )
            self.hear(Arrived(self.at, Started(at=self.at, source="n1", uid=uid, node="n1", attempt=1)))

    def look(self, each: float | None, looks: int = 1) -> list[ScalingPlan]:
        """Every replica uses that much, and the desk looks; the plans that were told."""
        self.said += self.desk.plan(self.at)  # from now on it hears of these pods
        before = len(self.said)
        for _ in range(looks):
            self.at += LOOK
            if each is not None:
                self.seq += 1
                containers = tuple(ContainerUsage(uid=uid, container="c", cgroup=uid, cpu=each) for uid in self.uids)
                self.hear(Arrived(self.at - LOOK, NodeUsage(at=self.at - LOOK, source="r", node="n1", seq=self.seq,
                                                            period=1.0, containers=containers)))  # fmt: skip
                self.hear(Arrived(self.at, NodeUsage(at=self.at, source="r", node="n1", seq=self.seq + 1, period=1.0,
                                                     since=self.seq)))  # fmt: skip
            self.hear(Tick(self.at, "x"))
            self.said += self.forecasts.plan(self.at)
            self.said += self.desk.plan(self.at)
            self.desk.validate()
        return [
            item.value for item in self.said[before:] if isinstance(item, Put) and isinstance(item.value, ScalingPlan)
        ]

    @property
    def uids(self) -> list[str]:
        return [uid for service in self.cluster.services.values() for uid in service.uids]

    @property
    def lines(self) -> list[str]:
        return [item.entry.why for item in self.said if isinstance(item, Decide)]


def test_a_service_is_previewed_by_default_as_the_autoscaler_would_count() -> None:
    """004-35: three replicas at 90 % of a target of 60 %: five. Nobody acts."""
    world = World(target=0.6)
    world.add(3)
    (plan,) = world.look(0.9)
    assert (plan.mode, plan.now, plan.native, plan.predicted, plan.desired) == (ScaleMode.PREVIEW, 3, 5, None, 5)
    assert plan.flags == (NO_FORECAST,)
    assert "2.70 cores by 3 of 3 ready at 0.6 each -> 5" in plan.arithmetic
    assert plan.lead == 75.0, "a start as measured, and a look"
    assert len(world.lines) == 1
    assert "3 -> 5" in world.lines[0]


def test_what_does_not_change_is_told_once_and_again_after_a_while() -> None:
    world = World()
    world.add(4)
    assert len(world.look(0.7, looks=19)) == 1
    assert len(world.look(0.7, looks=3)) == 1
    assert world.lines == []


def test_the_lead_is_measured_where_enough_starts_were() -> None:
    world = World(start=60.0)
    world.add(2, took=200.0)
    assert world.look(0.7)[-1].lead == 75.0
    for took in (100.0, 110.0, 120.0, 90.0, 95.0, 500.0, 105.0, 90.0):
        world.add(1, took=took)
    assert world.look(0.7)[-1].lead == 215.0, "of ten starts nine took at most 200 s"


@pytest.mark.parametrize(
    ("cpu", "each", "says"), [(0, 0.5, NO_REQUEST), (1000, None, NO_USE)], ids=["no request", "no report"]
)
def test_what_cannot_be_counted_is_said_and_left_as_it_is(cpu: int, each: float | None, says: str) -> None:
    world = World()
    world.add(2, cpu=cpu)
    plan = world.look(each, looks=8)[-1]
    assert (plan.desired, plan.flags) == (2, (says,))


def test_a_service_without_replicas_is_left_alone() -> None:
    world = World()
    world.add(1)
    world.look(0.7)
    world.hear(Arrived(world.at, Released(at=world.at, source="s", node="n1", uid="u1", reason="deleted")))
    (plan,) = world.look(None)
    assert (plan.desired, plan.flags) == (0, (NO_REPLICA,))


def test_impossible_use_is_left_out_and_counted() -> None:
    world = World()
    world.add(2)
    world.look(0.7)
    world.look(float("nan"))
    counts = [item for item in world.said if isinstance(item, Count) and item.labels.get("why") == "impossible use"]
    assert sum(item.by for item in counts) == 2


def test_policy_switches_a_service_off_and_its_plan_is_taken_away() -> None:
    world = World()
    world.add(2)
    world.look(0.7)
    off = an_edition({"scaling.mode": "off"}, f"service={KEY}")
    world.hear(Arrived(world.at, a_policy("calm", off, room="planner")))
    assert world.look(0.7) == []
    assert any(isinstance(item, Delete) for item in world.said)
    auto = an_edition({"scaling.mode": "auto", "scaling.least": 9}, f"service={KEY}", version=2)
    world.hear(Arrived(world.at, a_policy("calm", auto, room="planner")))
    (plan,) = world.look(0.7)
    assert (plan.mode, plan.desired) == (ScaleMode.AUTO, 9)
    assert BY_LEAST in plan.flags


def test_what_a_manner_may_cost_changes_for_services_that_are_scaled_already() -> None:
    world = World()
    world.add(2)
    world.look(0.7)
    generous = an_edition({"scaling.allowance": 0.5, "scaling.memory": DAY})
    world.hear(Arrived(world.at, a_policy("generous", generous, room="planner")))
    world.look(0.7)
    judge = world.desk._scaled[KEY].judge
    assert (judge.allowance, judge.memory) == (0.5, DAY)


def test_a_new_life_goes_on_from_what_was_told_and_takes_away_what_is_no_more() -> None:
    world = World()
    world.add(4)
    (plan,) = world.look(0.7)
    again = World(at=world.at)
    again.hear(Arrived(world.at, plan))
    again.hear(Arrived(world.at, replace(plan, name="gone")))
    again.add(4)
    assert again.look(0.7) == [], "nothing is news"
    (deleted,) = [item for item in again.said if isinstance(item, Delete)]
    assert "gone" in deleted.key.subject


def test_bounds_follow_the_clock() -> None:
    """002-51, in Berlin: from 07:30 (06:30 UTC in winter) at least ten."""
    world = World(at=23.0 * 3600, bounds=("23:00 min 4", "07:30 min 10"), zone="Europe/Berlin")
    world.add(2)
    (night,) = world.look(0.1)
    assert (night.least, night.desired) == (4, 4)
    world.at = 30.5 * 3600 - LOOK
    (morning,) = world.look(0.1)
    assert (morning.least, morning.desired) == (10, 10), "a bound is no matter of steps"
    assert "07:30 min 10" in morning.arithmetic


@pytest.mark.parametrize(
    ("scaling", "names"),
    [
        ({"least": 9, "most": 3}, "scaling.least 9 is above scaling.most 3"),
        ({"bounds": ("0 25 * * * min 1",)}, "hour '25'"),
        ({"bounds": ("7:30 min 1",), "zone": "Mars/Olympus"}, "no time zone"),
    ],
)
def test_settings_that_do_not_hold_together_are_named(scaling: dict[str, Any], names: str) -> None:
    with pytest.raises(Exception, match=names) as raised:
        check(Scaling(**scaling))
    assert isinstance(raised.value, InputError) or "scaling." in str(raised.value)


def before_the_rush(**scaling: Any) -> tuple[World, list[ScalingPlan]]:
    """At 20:00 the load trebles for an hour, every day; a start takes 90 s. What was told in the hour before."""
    begin = EIGHT - HOUR
    at = begin - np.arange(14 * 288, 0, -1) * 300.0
    values = np.where((at % DAY >= 20 * HOUR) & (at % DAY < 21 * HOUR), 12.6, 4.2)
    record = Known({KEY: Series(float(at[0]), 300.0, values)})
    world, told = World(at=begin, record=record, lead=180.0, most=50, **scaling), list[ScalingPlan]()
    world.add(6, took=90.0)
    while world.at < EIGHT - LOOK:
        for plan in world.look(4.2 / len(world.uids)):
            told.append(plan)
            world.add(max(0, plan.desired - plan.now), took=90.0)
    return world, told


def test_more_are_wished_for_before_the_rush_of_every_evening() -> None:
    """004-36, A3."""
    world, told = before_the_rush()
    first = next(plan.at for plan in told if plan.desired > plan.now)
    assert EIGHT - 600.0 <= first <= EIGHT - 180.0
    assert len(world.uids) >= 18, "12.6 cores at 0.7 each"


def test_what_nothing_is_left_to_pay_for_is_held_back_and_said() -> None:
    world, told = before_the_rush(allowance=0.0)
    assert len(world.uids) == 6
    assert BY_ALLOWANCE in told[-1].flags
    assert told[-1].predicted == 18
