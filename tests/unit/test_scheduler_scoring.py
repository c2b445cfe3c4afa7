"""Scoring profiles: what one word stands for, what wins over it, and Katalyst's journeys through the real cycle."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from neap.common.errors import SettingsError
from neap.common.model.advice import Headroom
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Container
from neap.common.runtime.settings import Sources
from neap.common.units import GIB
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.settings import PROFILES, Settings
from neap.scheduler.wiring import policies
from tests.unit.scheduler_world import a_guest, a_node, a_usage, an_owner

LENT = {RECLAIMED_CPU: 44_000, RECLAIMED_MEMORY: 195_257_901_056}


def placed(settings: Settings, *, owners: bool = False) -> list[int]:
    """Ten replicas of 4 cores and 16 GiB on three nodes of 48 cores: how many each node got, most first."""
    table, requests = NodeTable(), {RECLAIMED_CPU: 4000, RECLAIMED_MEMORY: 16 * GIB}
    for name in ("node-1", "node-2", "node-3"):
        table.describe(a_node(name, cores=48, gib=187))
        table.measure(a_usage(name, at=1.0, cpu=1.0, free=180 * GIB), 1.0)
        table.offer(Headroom(at=1.0, source="advisor", node=name, offer=LENT, arithmetic={}), 1.0)
    cycle = Cycle(table, policies(settings))
    counts = Counter[str]()
    for i in range(10):
        guest = a_guest(f"g{i}", containers=(Container(name="c", requests=requests, limits=requests),))
        workload = an_owner(f"u{i}", cores=4, gib=16) if owners else guest
        counts[cycle.decide(pod_of(workload), 1.5).node] += 1
    assert "" not in counts
    return sorted(counts.values(), reverse=True)


@pytest.mark.parametrize("owners", [False, True])
def test_spread_puts_ten_replicas_on_three_nodes_as_4_3_3(owners: bool) -> None:
    assert placed(Settings(profile="spread"), owners=owners) == [4, 3, 3]
    assert placed(Settings(), owners=owners) == [4, 3, 3]


def test_pack_puts_ten_replicas_on_one_node() -> None:
    assert placed(Settings(profile="pack")) == [10]
    assert placed(Settings(profile="pack", tune={"load_aware.cpu_limit": 1.0}), owners=True) == [10]


def test_a_custom_curve_packs_or_spreads_owners_and_guests_apart() -> None:
    assert placed(Settings(profile="custom")) == [10], "the default curve rises, as in Katalyst's tutorial"
    falling = "0:10, 100:0"
    assert placed(Settings(profile="custom", tune={"requested_to_capacity.guests": falling})) == [4, 3, 3]
    owners: dict[str, float | str] = {"requested_to_capacity.owners": falling}
    assert placed(Settings(profile="custom", tune=owners)) == [10]
    assert placed(Settings(profile="custom", tune=owners), owners=True) == [4, 3, 3]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_its_plugins_at_its_weights_behind_the_order(name: Any) -> None:
    settings = Settings(profile=name)
    found = policies(settings)
    expanded = {policy.name: policy.weight for policy in found[len(settings.order) :]}
    assert [policy.name for policy in found[: len(settings.order)]] == list(settings.order)
    assert expanded == PROFILES[name].weights


def test_weights_tune_and_order_win_over_the_profile() -> None:
    found = {policy.name: policy for policy in policies(Settings(profile="pack", weights={"allocation": 2.0}))}
    assert (found["allocation"].weight, found["allocation"].settings.owners) == (2.0, "pack")
    found = {p.name: p for p in policies(Settings(profile="pack", tune={"allocation.owners": "spread"}))}
    assert (found["allocation"].settings.owners, found["allocation"].settings.guests) == ("spread", "pack")
    order = ("fit", "requested_to_capacity")
    assert [policy.name for policy in policies(Settings(profile="pack", order=order))] == list(order)


def test_a_table_among_a_plugins_settings_is_tuned_key_by_key() -> None:
    tune: dict[str, float | str] = {f"allocation.weights.{RECLAIMED_CPU}": 30.0, "allocation.weights.cpu": "2"}
    found = {policy.name: policy for policy in policies(Settings(tune=tune))}
    assert found["allocation"].settings.weights == {RECLAIMED_CPU: 30.0, "cpu": 2.0}


def test_config_explain_says_what_each_profile_stands_for() -> None:
    (row,) = [row for row in Sources().explain(Settings, "scheduler") if row.key == "scheduler.profile"]
    assert row.value == "even"
    for told in ("spread: allocation 4 + balanced_allocation 1;", "allocation.guests=pack;", "custom: requested"):
        assert told in row.doc
    assert "weights and tune win over it" in row.doc
    assert row.allowed == "custom, even, pack, spread"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(order=("fit", "fits")), "no plugin fits (there are: allocation,"),
        (Settings(weights={"least": 1.0}), "no plugin least (there are: allocation,"),
        (Settings(tune={"allocatoin.owners": "pack"}), "no plugin allocatoin"),
        (Settings(order=("fit", "fit")), "a plugin is named twice"),
        (Settings(weights={"allocation": math.nan}), "allocation = nan (allowed: 0..100)"),
        (Settings(weights={"allocation": -1.0}), "allocation = -1.0 (allowed: 0..100)"),
        (Settings(weights={"allocation": math.inf}), "allocation = inf (allowed: 0..100)"),
        (Settings(order=("fit",), weights={"allocation": 0.0}), "all of allocation have weight 0"),
        (Settings(tune={"load_aware.cpu_limit": math.nan}), "load_aware"),
        (Settings(tune={"load_aware.cpu_limit": 1.5}), "load_aware"),
        (Settings(tune={"load_aware.hour_weight": math.inf}), "load_aware"),
        (Settings(tune={"load_aware.limit_on": "p50"}), "load_aware"),
        (Settings(tune={"allocation.owners": "stack"}), "allocation"),
        (Settings(tune={"allocation.weights": 3.0}), "allocation"),
        (Settings(tune={"allocation.weights.cpu": math.nan}), "allocation"),
        (Settings(tune={"allocation.weights.cpu": -1.0}), "allocation"),
        (Settings(tune={"allocation.weight": 1.0}), "there are: owners, guests, weights, whole"),
        (Settings(tune={"allocation": 1.0}), "allocation"),
    ],
)
def test_what_does_not_hold_stops_the_start_and_is_named(settings: Settings, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        policies(settings)
    assert said in str(error.value)
    assert "scheduler" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weights.allocation", "nan"),
        ("weights.allocation", "101"),
        ("weights.allocation", "-1"),
        ("weights.allocation", "much"),
        ("profile", "binpack"),
        ("stale.usage", "-5s"),
        ("stale.usage_periods", "-1"),
        ("guess.cpu_unasked", "-1"),
        ("worth_waiting", "nan"),
        ("quantum", "0"),
        ("quantum", "nan"),
        ("cycle", "inf"),
    ],
)
def test_settings_out_of_bounds_name_the_key_and_what_is_allowed(key: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        Sources(overrides={f"scheduler.{key}": value}).load(Settings, "scheduler")
    assert key.split(".", maxsplit=1)[0] in str(error.value)
    assert "allowed" in str(error.value) or "Expected" in str(error.value)
