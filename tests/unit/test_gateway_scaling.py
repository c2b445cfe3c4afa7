"""Replicas by plan: what is done in mode auto, what is left alone, how often; and what metrics tell of the forecast."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import FORECASTS, SCALING
from neap.common.kube.objects import AUTOSCALERS, DEPLOYMENTS, STATEFUL_SETS, Autoscaler, Templated
from neap.common.model.forecast import Forecast, ReportCard
from neap.common.model.scaling import ScaleMode, ScalingPlan
from neap.common.runtime.machine import Arrived, Done, Failed, Gone, Heard, Instruction
from neap.gateway.core.acts import Refused, ScaleOwner, Written
from neap.gateway.core.door.measuring import MeasuringMachine
from neap.gateway.core.door.metrics_api import answer
from neap.gateway.core.door.metrics_store import MetricSettings, MetricStore
from neap.gateway.core.door.notes import Notes
from neap.gateway.core.hearing.reflector import Complete, Removed, Seen
from neap.gateway.core.plans.sizes import NOTE
from tests.unit.gateway_world import World

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 86_400 + 43_200
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop"


def a_plan(at: float = 1000.0, *, now: int = 4, desired: int = 6, **more: Any) -> ScalingPlan:
    more = {"kind": "Deployment", "mode": ScaleMode.AUTO, "least": 2, "most": 10, "arithmetic": "6 = 4.2 / 0.7", **more}
    return ScalingPlan(at=at, source="planner", namespace="shop", name="cart", now=now, desired=desired, **more)


class Stage(World):
    """A Deployment that is scaled by plan."""

    def __init__(self, replicas: int = 4) -> None:
        super().__init__()
        self.owner(replicas)
        for kind in (DEPLOYMENTS, STATEFUL_SETS, AUTOSCALERS):
            self.tell(Heard(self.at, Complete(kind, "1", 1)))

    def owner(self, replicas: int) -> None:
        document = {"metadata": {"name": "cart", "namespace": "shop", "uid": "d1"}, "spec": {"replicas": replicas}}
        self.tell(Heard(self.at, Seen(DEPLOYMENTS, msgspec.convert(document, Templated), "1")))

    def plan(self, plan: ScalingPlan) -> list[ScaleOwner]:
        self.tell(Arrived(self.at, plan, SCALING.at(namespace="shop", kind=plan.kind, name="cart").subject))
        return scaled(self.pass_time(0.0))

    def autoscaler(self) -> None:
        target = {"scaleTargetRef": {"kind": "Deployment", "name": "cart", "apiVersion": "apps/v1"}}
        one = msgspec.convert({"metadata": {"name": "hpa", "namespace": "shop"}, "spec": target}, Autoscaler)
        self.tell(Heard(self.at, Seen(AUTOSCALERS, one, "1")))


def scaled(said: list[Instruction]) -> list[ScaleOwner]:
    return [one for one in said if isinstance(one, ScaleOwner)]


def reasons(stage: World) -> list[str]:
    return [str(one.body.get("reason", "")) for one in stage.shown]


def test_a_plan_is_carried_out_once_and_told() -> None:
    stage = Stage()
    [act] = stage.plan(a_plan())
    assert (act.uid, act.replicas, act.kind) == ("d1", 6, DEPLOYMENTS)
    assert not scaled(stage.pass_time(1.0))  # its answer is not there yet
    stage.tell(Done(stage.at, act, Written()))
    assert not scaled(stage.pass_time(100.0))  # nor has the API shown it
    assert [one.entry.why for one in stage.trail if one.entry.what == "scaled"] == ["4 -> 6: 6 = 4.2 / 0.7"]
    assert reasons(stage) == ["Scaled"]
    stage.owner(6)
    assert not stage.plan(a_plan(stage.at, now=6, desired=6))


@pytest.mark.parametrize("mode", [ScaleMode.PREVIEW, ScaleMode.OFF])
def test_a_preview_changes_nothing(mode: ScaleMode) -> None:
    stage = Stage()
    assert not stage.plan(a_plan(mode=mode))
    stage.plan(a_plan())
    stage.at += 60.0
    assert not stage.plan(a_plan(stage.at, mode=mode, desired=7))


def test_bounds_hold_whatever_is_desired() -> None:
    assert [act.replicas for act in Stage().plan(a_plan(desired=50))] == [10]
    assert [act.replicas for act in Stage().plan(a_plan(desired=0))] == [2]


def test_what_the_planner_counts_less_of_than_there_are_is_no_reason_to_take_any_away() -> None:
    assert not Stage(5).plan(a_plan(now=3, desired=3))  # it knows nothing of two of them yet
    assert not Stage(8).plan(a_plan(now=3, desired=5))  # more are starting
    assert [act.replicas for act in Stage(8).plan(a_plan(now=8, desired=5))] == [5]


def test_what_somebody_switched_off_stays_off_and_an_old_plan_is_not_followed() -> None:
    assert not Stage(0).plan(a_plan())
    assert not Stage().plan(a_plan(at=0.0))


def test_a_service_is_changed_no_oftener_than_allowed() -> None:
    stage = Stage()
    [act] = stage.plan(a_plan())
    stage.tell(Done(stage.at, act, Written()))
    stage.owner(6)
    stage.at += 5.0
    assert not stage.plan(a_plan(stage.at, now=6, desired=8))
    assert [act.replicas for act in scaled(stage.pass_time(11.0))] == [8]


def test_what_an_autoscaler_scales_is_left_to_it_and_that_is_said_once() -> None:
    stage = Stage()
    stage.autoscaler()
    for _ in range(5):
        assert not stage.plan(a_plan(stage.at, desired=5 + int(stage.at) % 3))
        stage.at += 60.0
    assert reasons(stage) == ["LeftToAutoscaler"]
    stage.tell(Heard(stage.at, Removed(AUTOSCALERS, "shop/hpa", "")))
    assert stage.plan(a_plan(stage.at))


def test_nobody_is_scaled_before_autoscalers_are_known() -> None:
    world = World()
    document = {"metadata": {"name": "cart", "namespace": "shop", "uid": "d1"}, "spec": {"replicas": 4}}
    world.tell(Heard(world.at, Seen(DEPLOYMENTS, msgspec.convert(document, Templated), "1")))
    world.tell(Arrived(world.at, a_plan()))
    assert not scaled(world.pass_time(0.0))


def test_what_fails_is_asked_again_ever_later_and_what_is_refused_is_said() -> None:
    stage = Stage()
    [act] = stage.plan(a_plan())
    asked = []
    stage.tell(Failed(stage.at, act, "no answer", may_retry=True))
    for second in range(1, 200):
        for again in scaled(stage.pass_time(1.0)):
            asked.append(second)
            stage.tell(Failed(stage.at, again, "no answer", may_retry=True))
    assert asked == [30, 90]
    [act] = scaled(stage.pass_time(200.0))
    stage.tell(Done(stage.at, act, Refused("not allowed")))
    assert "ScalingRefused" in reasons(stage)
    assert not scaled(stage.pass_time(100.0))


def test_a_plan_that_is_taken_back_is_forgotten() -> None:
    stage = Stage()
    address = SCALING.at(namespace="shop", kind="Deployment", name="cart")
    stage.tell(Arrived(stage.at, a_plan(), address.subject), Gone(stage.at, SCALING, address.subject))
    assert not scaled(stage.pass_time(1.0))


# -- metrics -----------------------------------------------------------------------------------------------------------


def a_forecast(*, on: bool = True, start: float = NOON - 600, **more: Any) -> Forecast:
    card = ReportCard(model="seasonal", origins=9, horizon=3600.0, mape=0.1, on=on)
    values = tuple(float(one) for one in range(1, 25))
    more = {"resource": "cpu", "values": values, "step": 300.0, "cards": (card,), **more}
    return Forecast(at=NOON, source="planner", namespace="shop", kind="Deployment", name="cart", version="f1", start=start,
                    **more)  # fmt: skip


def told(*messages: Any) -> MetricStore:
    """What the store knows after these."""
    store = MetricStore(MetricSettings())
    machine = MeasuringMachine(World().machine, store)
    for message in messages:
        machine.handle(Arrived(NOON, message))
    return store


def ask(store: MetricStore, metric: str = "neap_predicted_usage", now: float = NOON, **labels: str) -> tuple[int, Any]:
    selector = ",".join(f"{key.replace('_', '-')}={value}" for key, value in labels.items())
    reply = answer(f"{EXTERNAL}/{metric}", {"labelSelector": selector}, store, now)
    found = json.loads(reply.body)
    return reply.status, (found["items"][0]["value"], found["items"][0]["timestamp"]) if reply.status == 200 else found


def test_the_forecast_is_told_for_a_lead_later_with_the_time_it_is_for() -> None:
    store = told(a_forecast())
    assert ask(store, workload="cart", resource="cpu", lead="0s") == (200, ("3", "2027-01-15T12:00:00Z"))
    assert ask(store, workload="cart", resource="cpu", lead="17m") == (200, ("6", "2027-01-15T12:15:00Z"))
    assert ask(store, workload="cart", resource="cpu", lead="3h")[0] == 404  # it ends before
    assert ask(store, workload="cart", resource="memory", lead="0s")[0] == 404


def test_a_service_that_is_scaled_is_looked_ahead_as_far_as_its_pods_need_to_start() -> None:
    store = told(a_forecast(), a_plan(NOON, lead=900.0, expected=6.5))
    assert ask(store, workload="cart", resource="cpu") == (200, ("6", "2027-01-15T12:15:00Z"))
    spd = {"spd_name": "cart", "spd_resource_name": "cpu", "spd_container_name": "main"}
    assert ask(store, "spd_agg_metrics", **spd) == (200, ("6", "2027-01-15T12:15:00Z"))
    assert ask(told(a_forecast()), "spd_agg_metrics", **spd) == (200, ("3", "2027-01-15T12:00:00Z"))


def test_without_a_forecast_that_may_drive_anything_the_autoscaler_is_told_nothing() -> None:
    assert ask(told(a_forecast(on=False)), workload="cart", resource="cpu")[0] == 404
    assert ask(told(a_forecast(), a_forecast(on=False)), workload="cart", resource="cpu")[0] == 404
    assert ask(told(a_forecast(), a_forecast(values=())), workload="cart", resource="cpu")[0] == 404


def test_a_plan_tells_what_it_rests_on_while_it_is_fresh() -> None:
    store = told(a_plan(NOON, lead=120.0, expected=4.25))
    assert ask(store, workload="cart", resource="cpu") == (200, ("4250m", "2027-01-15T12:02:00Z"))
    assert ask(store, now=NOON + 1000, workload="cart", resource="cpu")[0] == 404


def test_what_is_taken_back_is_not_told() -> None:
    store = told(a_forecast())
    address = FORECASTS.at(namespace="shop", kind="Deployment", name="cart", resource="cpu")
    MeasuringMachine(World().machine, store).handle(Gone(NOON, FORECASTS, address.subject))
    assert ask(store, workload="cart", resource="cpu")[0] == 404


def test_only_the_next_day_of_a_long_forecast_is_kept() -> None:
    week = a_forecast(start=NOON - 86_400, values=tuple(float(one) for one in range(2016)))
    store = told(week)
    assert ask(store, workload="cart", resource="cpu", lead="0s")[1][0] == "288"
    assert ask(store, workload="cart", resource="cpu", lead="24h")[1][0] == "576"
    [series] = store.foreseen._series.values()
    assert len(series.values) <= 290


def test_what_owners_say_of_pods_to_come_reaches_the_webhook() -> None:
    notes = Notes()
    machine = MeasuringMachine(World().machine, MetricStore(MetricSettings()), notes)
    text = '{"version":"v1","from":{},"to":{"main":{"requests":{"cpu":750}}}}'
    metadata = {"name": "cart", "namespace": "shop", "annotations": {NOTE: text}}
    machine.handle(Heard(NOON, Seen(DEPLOYMENTS, msgspec.convert({"metadata": metadata}, Templated), "1")))
    assert len(notes) == 1
    machine.handle(Heard(NOON, Removed(DEPLOYMENTS, "shop/cart", "")))
    assert not len(notes)
