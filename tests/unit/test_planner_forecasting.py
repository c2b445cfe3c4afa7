"""The desk of forecasts: asked, made, judged, published, switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from neap.common.contract.catalogue import FORECASTS
from neap.common.model.forecast import CLUSTER, CLUSTER_SCOPE, Forecast
from neap.common.model.node import NodeObject
from neap.common.runtime.machine import Arrived, Count, Delete, Instruction, Put, Tick
from neap.common.units import DAY, HOUR
from neap.foresight.series import Series, Values
from neap.planner.core.cluster import Cluster
from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.forecasting.gathering import SeriesName, added, series_of
from neap.planner.core.forecasting.scoring import Score
from neap.planner.core.forecasting.settings import Forecasting
from neap.planner.core.record import ContainerRecord, How

STEP, STEPS = 300.0, 288
CART: SeriesName = ("shop", "Deployment", "cart", "cpu")
NOW = 10 * DAY


@dataclass
class Known:
    """A record of plain values."""

    totals: dict[str, Series] = field(default_factory=dict)
    by_node: dict[str, Series] = field(default_factory=dict)
    tracked: list[str] = field(default_factory=list)

    def total(self, key: str, resource: str) -> Series | None:
        return self.totals.get(f"{key}/{resource}")

    def replicas(self, key: str) -> Series | None:
        return None

    def track(self, key: str) -> None:
        self.tracked.append(key)

    def node(self, node: str, resource: str, how: How = "avg") -> Series | None:
        return self.by_node.get(f"{node}/{resource}")

    def nodes(self) -> Sequence[str]:
        return sorted({key.partition("/")[0] for key in self.by_node})

    def container(self, key: str, container: str) -> ContainerRecord | None:
        return None

    def containers(self, key: str) -> Sequence[str]:
        return ()

    def keys(self) -> Sequence[str]:
        return ()


def a_day_shaped(days: float, *, end: float = NOW, seed: int = 1, level: float = 10.0) -> Series:
    size = round(days * STEPS)
    at = np.arange(size) + round(end / STEP) - size
    noise = np.random.default_rng(seed).normal(1, 0.1, size=size)
    return Series(end - size * STEP, STEP, level * (1 + 0.5 * np.sin(2 * np.pi * at / STEPS)) * np.abs(noise))


def a_desk(record: Known, **settings: float) -> Forecasts:
    chosen = Forecasting(**settings)  # type: ignore[arg-type]
    desk = Forecasts(lambda: chosen, Cluster(), record)
    desk.hear(Tick(NOW, "x"))
    return desk


def published(said: Sequence[Instruction]) -> list[Forecast]:
    return [item.value for item in said if isinstance(item, Put)]


def counted(said: Sequence[Instruction]) -> Mapping[str, float]:
    return {item.labels.get("outcome", ""): item.by for item in said if isinstance(item, Count)}


def test_what_is_wanted_is_forecast_published_and_at_hand() -> None:
    record = Known({"shop/Deployment/cart/cpu": a_day_shaped(7)})
    desk = a_desk(record)
    assert desk.of(CART) is None
    desk.want(CART, HOUR)
    desk.want(CART, DAY)
    (told,) = published(desk.plan(NOW))
    assert (told.namespace, told.kind, told.name, told.resource) == CART
    assert told.start == NOW
    assert len(told.values) == len(told.p90) == len(told.p99) == STEPS
    assert told.cards[0].on
    assert told.cards[0].seasonal_mape is not None
    assert told.cards[0].mape < told.cards[0].seasonal_mape
    assert desk.of(CART) is told
    assert record.tracked == ["shop/Deployment/cart"]
    FORECASTS.decode(
        FORECASTS.encode(told), FORECASTS.at(namespace="shop", kind="Deployment", name="cart", resource="cpu").subject
    )
    desk.validate()


def test_nothing_is_made_again_before_an_hour_has_passed_or_without_news() -> None:
    record = Known({"shop/Deployment/cart/cpu": a_day_shaped(7)})
    desk = a_desk(record)
    desk.want(CART, DAY)
    assert published(desk.plan(NOW))
    assert not desk.plan(NOW + 10)
    assert not desk.plan(NOW + HOUR), "the record has not moved"
    record.totals["shop/Deployment/cart/cpu"] = a_day_shaped(7, end=NOW + 2 * HOUR)
    (second,) = published(desk.plan(NOW + 2 * HOUR))
    assert second.start == NOW + 2 * HOUR


def test_a_tick_makes_no_more_than_it_may_and_all_get_their_turn() -> None:
    names: list[SeriesName] = [("shop", "Deployment", f"s{number}", "cpu") for number in range(7)]
    record = Known({"/".join(name): a_day_shaped(3, seed=place) for place, name in enumerate(names)})
    desk = a_desk(record, at_once=3)
    for name in names:
        desk.want(name, HOUR)
    made = [[told.name for told in published(desk.plan(NOW + place))] for place in range(4)]
    assert [len(part) for part in made] == [3, 3, 1, 0]
    assert sorted(name for part in made for name in part) == sorted(name[2] for name in names)


def test_a_forecast_that_is_old_drives_nothing() -> None:
    record = Known({"shop/Deployment/cart/cpu": a_day_shaped(7)})
    desk = a_desk(record)
    desk.want(CART, DAY)
    desk.plan(NOW)
    desk.hear(Tick(NOW + 3 * HOUR, "x"))
    assert desk.of(CART) is not None
    desk.hear(Tick(NOW + 3 * HOUR + 1, "x"))
    assert desk.of(CART) is None


def test_what_nobody_asks_for_any_more_is_forgotten_on_the_bus_too() -> None:
    desk = a_desk(Known({"shop/Deployment/cart/cpu": a_day_shaped(7)}), forget=DAY)
    desk.want(CART, DAY)
    desk.plan(NOW)
    said = desk.plan(NOW + DAY + HOUR)
    assert [type(item) for item in said] == [Delete]
    assert desk.of(CART) is None
    desk.validate()


@pytest.mark.parametrize(
    ("series", "outcome"),
    [
        (None, "no history"),
        (Series(NOW, STEP, np.empty(0)), "no history"),
        (Series(NOW - 2 * STEP, STEP, np.array([np.nan, np.inf])), "no value"),
    ],
)
def test_a_series_without_values_is_counted_and_nothing_is_published(series: Series | None, outcome: str) -> None:
    desk = a_desk(Known({} if series is None else {"shop/Deployment/cart/cpu": series}))
    desk.want(CART, DAY)
    said = desk.plan(NOW)
    assert not published(said)
    assert counted(said)[outcome] == 1
    assert desk.of(CART) is None


def test_one_sample_is_published_as_too_short_and_does_not_drive_decisions() -> None:
    desk = a_desk(Known({"shop/Deployment/cart/cpu": Series(NOW - STEP, STEP, np.array([4.0]))}))
    desk.want(CART, DAY)
    (told,) = published(desk.plan(NOW))
    assert set(told.values) == {4.0}
    assert not told.cards[0].on
    assert "too short" in told.cards[0].why
    assert desk.of(CART) is None


def test_no_more_series_than_there_may_be() -> None:
    desk = a_desk(Known(), most=1)
    desk.want(CART, DAY)
    desk.want(("shop", "Deployment", "other", "cpu"), DAY)
    assert counted(desk.plan(NOW))["too many"] == 1
    desk.validate()


# -- pools and the cluster ---------------------------------------------------------------------------------------------


def test_a_pool_is_its_nodes_together_and_the_cluster_is_all() -> None:
    record = Known(by_node={f"n{number}/cpu": a_day_shaped(3, seed=number) for number in range(3)})
    cluster = Cluster()
    for number in range(3):
        labels = {"neap.io/pool": "web"} if number < 2 else {}
        told = NodeObject(at=NOW, source="test", node=f"n{number}", labels=labels)
        cluster.hear(Arrived(at=NOW, message=told))
    desk = Forecasts(Forecasting, cluster, record)
    desk.hear(Tick(NOW, "x"))
    web: SeriesName = (CLUSTER_SCOPE, "NodePool", "web", "cpu")
    everything: SeriesName = (CLUSTER_SCOPE, *CLUSTER, "cpu")
    for name in (web, everything):
        desk.want(name, HOUR)
    told = {item.kind: item for item in published(desk.plan(NOW))}
    assert 10 < told["NodePool"].values[0] < 45
    assert told["Cluster"].values[0] > 1.2 * told["NodePool"].values[0]
    assert not record.tracked, "nodes need no tracking"


def line(values: Sequence[float], start: float = 0.0) -> Series:
    return Series(start, STEP, np.array(values, dtype=np.float64))


def test_a_pool_whose_name_no_subject_can_have_is_forecast_for_desks_and_told_nobody() -> None:
    cluster = Cluster()
    cluster.hear(Arrived(NOW, NodeObject(at=NOW, source="test", node="n1", labels={"neap.io/pool": "gpu_a100"})))
    desk = Forecasts(lambda: Forecasting(forget=DAY), cluster, Known(by_node={"n1/cpu": a_day_shaped(7)}))
    desk.hear(Tick(NOW, "x"))
    pool: SeriesName = (CLUSTER_SCOPE, "NodePool", "gpu_a100", "cpu")
    desk.want(pool, DAY)
    assert counted(desk.plan(NOW)) == {"no subject": 1}
    assert desk.of(pool) is not None
    assert not desk.plan(NOW + DAY + HOUR), "there is nothing to take back"
    desk.validate()


def test_what_a_node_that_is_gone_used_stays_in_the_past_of_the_cluster() -> None:
    record = Known(by_node={"n1/cpu": line([1.0, 1.0, 1.0]), "gone/cpu": line([2.0, 2.0, 2.0])})
    found = series_of((CLUSTER_SCOPE, *CLUSTER, "cpu"), Cluster(), record)
    assert found is not None
    assert found.values.tolist() == [3.0, 3.0, 3.0]


def test_nodes_that_come_and_go_use_nothing_while_they_are_away_and_short_holes_are_filled() -> None:
    nan = np.nan
    stays = line([1.0] * 20)
    comes = line([2.0, nan, 2.0] + [2.0] * 12, start=5 * STEP)
    goes = line([4.0] * 4)
    silent = line([8.0] + [nan] * 8 + [8.0] * 11)
    whole = added([stays, comes, goes, silent])
    assert whole is not None
    expected: Values = np.array([13.0] * 4 + [nan] * 5 + [11.0] * 11)
    expected[1:4] = 13.0  # a quarter of an hour of silence is bridged
    np.testing.assert_array_equal(whole.values, expected)


def test_nothing_added_up_is_nothing() -> None:
    assert added([]) is None
    assert added([line([np.nan])]) is None


# -- how published forecasts turned out -------------------------------------------------------------------------------


def a_forecast(start: float, values: Sequence[float]) -> Forecast:
    told = tuple(values)
    return Forecast(
        at=start, source="planner", namespace="shop", kind="Deployment", name="cart", resource="cpu", version="1",
        start=start, step=STEP, values=told, p90=tuple(2 * value for value in told), p99=tuple(3 * value for value in told),
    )  # fmt: skip


def test_what_was_published_is_judged_when_its_time_is_over_and_not_before() -> None:
    score, came = Score(), line([10.0] * STEPS + [20.0] * STEPS)
    score.publish(a_forecast(DAY, [15.0] * 12))
    score.compare(came.until(STEPS + 11), 1)
    assert score.card() is None
    score.compare(came.until(STEPS + 12), 1)
    card = score.card()
    assert card is not None
    assert (card.mape, card.naive_mape, card.seasonal_mape) == (0.25, 0.5, 0.5)
    assert (card.p90_cover, card.p99_cover, card.under_minutes) == (1.0, 1.0, 0.0)
    assert card.on


def test_what_loses_live_is_switched_off_and_comes_back_when_it_wins_again() -> None:
    score, came = Score(), line([10.0] * 6 * STEPS)
    for number in range(3):
        score.publish(a_forecast((1 + number) * DAY, [30.0] * 12))
    score.compare(came.until(2 * STEPS), 2)
    assert not score.is_off, "one trial is none"
    score.compare(came.until(4 * STEPS), 2)
    assert score.is_off


def test_a_loser_is_published_as_switched_off_and_not_handed_out() -> None:
    record = Known({"shop/Deployment/cart/cpu": a_day_shaped(7)})
    desk = a_desk(record, trials=1)
    desk.want(CART, DAY)
    desk.plan(NOW)
    desk._wanted[CART].score.waiting[0] = a_forecast(NOW, [1e6] * 12)
    record.totals["shop/Deployment/cart/cpu"] = a_day_shaped(7, end=NOW + 2 * HOUR)
    (told,) = published(desk.plan(NOW + 2 * HOUR))
    assert not told.cards[0].on
    assert "switched off: what was published missed by" in told.cards[0].why
    assert told.cards[1].model == "published"
    assert desk.of(CART) is None
