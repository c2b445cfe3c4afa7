"""The metrics APIs: what a HorizontalPodAutoscaler asks, and what it is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import PROFILES
from neap.common.errors import InputError
from neap.common.model.profile import ServiceProfile
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage, Stall
from neap.gateway.core.door.metrics_api import AGGREGATED, answer, quantity
from neap.gateway.core.door.metrics_store import MetricSettings, MetricStore
from neap.gateway.core.door.selector import parse_selector, selects
from neap.gateway.core.door.series import Series, aggregate

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 86_400 + 43_200  # 12:00 UTC
V2 = "/apis/custom.metrics.k8s.io/v1beta2"
V1 = "/apis/custom.metrics.k8s.io/v1beta1"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
PODS = f"{V2}/namespaces/shop/pods"


def a_container(uid: str, name: str = "main", cpu: float | None = 1.0, **more: Any) -> ContainerUsage:
    return ContainerUsage(uid=uid, container=name, cgroup=f"{uid}/{name}", cpu=cpu, **more)


def a_report(at: float, *containers: ContainerUsage, seq: int = 1, since: int = 0, **more: Any) -> NodeUsage:
    return NodeUsage(
        at=at, source="reporter", node="n1", seq=seq, since=since, period=1.0, containers=containers, **more
    )


def a_store(**settings: Any) -> MetricStore:
    store = MetricStore(MetricSettings(**({"spacing": 1.0, "stale_after": 60.0} | settings)))
    store.meet_node("n1", {"zone": "a"}, 8000)
    store.meet_pod("u1", "shop", "cart-1", {"app": "cart", "tier": "web"}, 2000)
    store.meet_pod("u2", "shop", "cart-2", {"app": "cart"}, 0)
    store.meet_pod("u3", "shop", "db-1", {"app": "db"}, 1000)
    return store


def ask(store: MetricStore, path: str, now: float = NOON, **query: str) -> tuple[int, Any]:
    reply = answer(path, query, store, now)
    return reply.status, json.loads(reply.body)


def values(found: Any) -> dict[str, str]:
    return {item["describedObject"]["name"]: item["value"] for item in found["items"]}


def test_pods_are_found_by_their_labels_with_value_time_and_window() -> None:
    store = a_store()
    store.report(
        a_report(NOON - 3, a_container("u1", cpu=0.25), a_container("u1", "side", cpu=0.5), a_container("u3")), NOON
    )
    code, found = ask(store, f"{PODS}/*/pod_cpu_usage", labelSelector="app=cart")
    assert code == 200
    assert (found["kind"], found["apiVersion"]) == ("MetricValueList", "custom.metrics.k8s.io/v1beta2")
    assert found["items"] == [
        {
            "describedObject": {"kind": "Pod", "namespace": "shop", "name": "cart-1", "apiVersion": "v1"},
            "metric": {"name": "pod_cpu_usage", "selector": None},
            "timestamp": "2027-01-15T11:59:57Z",
            "windowSeconds": 1,
            "value": "750m",
        }
    ]
    _, older = ask(store, f"{V1}/namespaces/shop/pods/db-1/pod_cpu_usage")
    assert (older["items"][0]["metricName"], older["items"][0]["window"]) == ("pod_cpu_usage", 1)


def test_a_ratio_needs_a_request_and_a_sum_needs_all_its_parts() -> None:
    store = a_store()
    half = a_container("u1", cpu=0.5, memory=1 << 30)
    store.report(a_report(NOON, half, a_container("u2"), a_container("u3"), a_container("u3", "x", cpu=None)), NOON)
    assert values(ask(store, f"{PODS}/*/pod_cpu_usage_ratio")[1]) == {"cart-1": "250m"}
    assert values(ask(store, f"{PODS}/*/pod_cpu_usage")[1]) == {"cart-1": "500m", "cart-2": "1"}
    assert values(ask(store, f"{PODS}/cart-1/pod_memory_usage")[1]) == {"cart-1": "1073741824"}
    assert ask(store, f"{PODS}/cart-2/pod_memory_usage")[0] == 404


def test_nodes_are_measured_too() -> None:
    store = a_store()
    numa = tuple(NumaUsage(index=i, memory_total=64, memory_free=16) for i in (0, 1))
    store.report(a_report(NOON, cpu=4.0, run_delay=0.5, memory_available=99, numa=numa), NOON)
    wanted = {
        "node_cpu_total": "8", "node_cpu_usage": "4", "node_cpu_usage_ratio": "500m", "node_cpu_load_system_1min": "4500m",
        "node_system_memory_total": "128", "node_system_memory_free": "32", "node_system_memory_available": "99",
    }  # fmt: skip
    for metric, value in wanted.items():
        assert values(ask(store, f"{V2}/nodes/*/{metric}", labelSelector="zone in (a,b)")[1]) == {"n1": value}, metric
    assert ask(store, f"{V2}/nodes/*/node_cpu_usage", labelSelector="zone=b")[0] == 404
    assert ask(store, f"{V2}/nodes/n2/node_cpu_usage")[0] == 404


def test_aggregations_are_those_of_the_reference() -> None:
    store = a_store()
    for at, cpu in ((12, 4.0), (14, 7.0), (18, 12.0), (20, 10.0)):
        store.report(a_report(NOON + at, a_container("u1", cpu=cpu)), NOON + at)
    told = {}
    for how in ("avg", "max", "min", "p99", "p90", "p95", "latest"):
        _, found = ask(store, f"{PODS}/cart-1/pod_cpu_usage_agg_{how}", NOON + 20)
        [item] = found["items"]
        assert (item["windowSeconds"], item["timestamp"]) == (8, "2027-01-15T12:00:20Z")
        told[how] = item["value"]
    assert told == {"avg": "8250m", "max": "12", "min": "4", "p99": "11", "p90": "11", "p95": "11", "latest": "10"}


@pytest.mark.parametrize(
    ("samples", "how", "value"),
    [([5.0], "p99", 5.0), ([5.0], "p90", 5.0), (list(range(1, 11)), "p90", 9), (list(range(1, 11)), "p95", 9.5), (list(range(1, 21)), "p95", 19), ([3.0, 1.0], "latest", 1.0), ([3.0, 1.0], "p90", 2.0)],
)  # fmt: skip
def test_percentiles_count_samples_from_one(samples: list[float], how: str, value: float) -> None:
    assert aggregate(samples, how) == value


def test_load_decays_over_a_minute_and_waiting_counts_as_the_kernel_tells_it() -> None:
    store = a_store()
    for second in range(0, 600, 15):
        store.report(a_report(NOON + second, a_container("u1", cpu=3.0, cpu_stall=Stall(some=1.0))), NOON + second)
    assert values(ask(store, f"{PODS}/cart-1/pod_cpu_load_1min", NOON + 590)[1]) == {"cart-1": "4"}
    store.report(a_report(NOON + 645, a_container("u1", cpu=0.0, cpu_stall=Stall(some=0.0))), NOON + 645)
    code, found = ask(store, f"{PODS}/cart-1/pod_cpu_load_1min", NOON + 645)
    assert (code, values(found)) == (200, {"cart-1": "1472m"})  # 4/e
    assert values(ask(store, f"{PODS}/cart-1/pod_cpu_load_1min_agg_max", NOON + 645)[1]) == {"cart-1": "4"}


def test_what_is_stale_is_not_served_as_fresh() -> None:
    store = a_store()
    store.report(a_report(NOON, a_container("u1")), NOON)
    for path in (f"{PODS}/*/pod_cpu_usage", f"{PODS}/cart-1/pod_cpu_usage_agg_max"):
        assert ask(store, path, NOON + 59)[0] == 200
        code, status = ask(store, path, NOON + 61)
        assert (code, status["kind"], status["reason"], status["code"]) == (404, "Status", "NotFound", 404)
        assert "none has a fresh sample" in status["message"]
    slow = a_store()
    slow.report(msgspec.structs.replace(a_report(NOON, a_container("u1")), period=60.0), NOON)
    assert (
        ask(slow, f"{PODS}/cart-1/pod_cpu_usage", NOON + 1190)[0] == 200
    )  # it reports once a minute, in full every ten


def test_samples_are_taken_no_oftener_than_needed_and_old_ones_go() -> None:
    store = a_store(spacing=15.0, window=60.0)
    taken = [store.report(a_report(NOON + at, a_container("u1", cpu=float(at))), NOON + at) for at in range(300)]
    assert sum(taken) == 20
    pod = store.pod("shop", "cart-1")
    assert pod is not None
    assert len(pod.series) == 5
    assert values(ask(store, f"{PODS}/cart-1/pod_cpu_usage_agg_min", NOON + 299)[1]) == {"cart-1": "240"}


def test_only_full_reports_of_nodes_that_are_known_and_of_the_present_are_taken_in() -> None:
    store = a_store()
    assert store.report(a_report(NOON, a_container("u1"), seq=7), NOON)
    assert not store.report(a_report(NOON + 5, a_container("u1"), seq=8, since=7), NOON + 5)
    assert not store.report(a_report(NOON + 9e9, a_container("u1"), seq=9), NOON + 9)
    assert not store.report(msgspec.structs.replace(a_report(NOON + 9), node="n9"), NOON + 9)
    assert not store.report(a_report(NOON, a_container("u1"), seq=7), NOON)
    pod = store.pod("shop", "cart-1")
    assert pod is not None
    assert len(pod.series) == 1


def test_pods_that_are_gone_or_replaced_or_too_many_are_not_told_of() -> None:
    store = a_store(most_pods=3)
    assert not store.meet_pod("u4", "shop", "late", {}, 0)
    store.report(a_report(NOON, *(a_container(uid) for uid in ("u1", "u2", "u3", "u4", "stranger"))), NOON)
    store.forget_pod("u2")
    assert store.meet_pod("u5", "shop", "db-1", {"app": "db"}, 0)  # of the same name, a new one
    store.forget_pod("u3")
    store.forget_pod("u3")
    assert values(ask(store, f"{PODS}/*/pod_cpu_usage")[1]) == {"cart-1": "1"}
    assert store.pod("shop", "db-1") is not None
    assert ask(store, f"{V2}/namespaces/other/pods/*/pod_cpu_usage")[0] == 404


def a_profile(**portrait: tuple[float, ...]) -> ServiceProfile:
    return ServiceProfile(at=0.0, source="planner", key="shop/Deployment/cart", version="1", portrait=portrait)


def test_what_is_expected_is_told_for_a_while_later() -> None:
    store = a_store()
    store.learn(
        a_profile(cpu=tuple(100.0 * hour for hour in range(24)), memory=tuple(float(hour) for hour in range(24)))
    )
    path = f"{EXTERNAL}/namespaces/shop/neap_predicted_usage"
    labels = "workload=cart,resource=cpu"
    code, found = ask(store, path, NOON + 600, labelSelector=labels)
    assert code == 200
    assert found == {
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [
            {
                "metricName": "neap_predicted_usage",
                "metricLabels": {"workload": "cart", "resource": "cpu"},
                "timestamp": "2027-01-15T12:00:00Z",
                "window": 3600,
                "value": "1200m",
            }
        ],
    }
    _, later = ask(
        store, path, NOON + 3300, labelSelector=f"{labels},kind=Deployment"
    )  # ten minutes later it is one o'clock
    assert later["items"][0]["value"] == "1300m"
    _, evening = ask(store, path, NOON, labelSelector=f"{labels},lead=13h")
    assert evening["items"][0]["value"] == "100m"
    store.unlearn(PROFILES, {"namespace": "shop", "kind": "Deployment", "name": "cart"})
    assert ask(store, path, NOON, labelSelector=labels)[0] == 404


def test_katalysts_name_for_it_is_answered_for_now() -> None:
    store = a_store()
    store.learn(a_profile(cpu=(200.0,) * 24))
    path = f"{EXTERNAL}/namespaces/shop/spd_agg_metrics"
    four = (
        "spd-name=cart,spd-resource-name=cpu,spd-container-name=ihpa-predict,spd-scope=ResourcePortraitIndicatorPlugin"
    )
    code, found = ask(store, path, labelSelector=four)
    assert (code, found["items"][0]["value"]) == (200, "200m")
    assert ask(store, path, labelSelector=four.replace("Portrait", "Other"))[0] == 404
    assert ask(store, path, labelSelector=four.replace("spd-name=cart", "spd-name=shop"))[0] == 404
    code, status = ask(store, path, labelSelector="spd-name=cart")
    assert (code, status["reason"]) == (400, "BadRequest")
    assert "names no spd-resource-name, spd-container-name" in status["message"]


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        (f"{PODS}/*/requests_per_second", {}, 404),
        (f"{PODS}/*/pod_cpu_usage_agg_p50", {}, 404),
        (f"{PODS}/*/pod_cpu_usage_agg_", {}, 404),
        (f"{PODS}/*/node_cpu_usage", {}, 404),
        (f"{PODS}/*/pod_cpu_usage", {"labelSelector": "a=b=c"}, 400),
        (f"{PODS}/*/pod_cpu_usage", {"metricLabelSelector": "numa=0"}, 404),
        (f"{V2}/namespaces/shop/metrics/x", {}, 404),
        (f"{EXTERNAL}/namespaces/shop/other", {}, 404),
        (f"{EXTERNAL}/namespaces/shop/neap_predicted_usage", {"labelSelector": "workload in (a,b),resource=cpu"}, 400),
        (f"{EXTERNAL}/namespaces/shop/neap_predicted_usage", {"labelSelector": "workload=a,resource=cpu,lead=soon"}, 400),
        ("/apis/metrics.k8s.io/v1beta1", {}, 404),
        ("/apis/custom.metrics.k8s.io/v1", {}, 404),
        ("/apis/custom.metrics.k8s.io/v1beta2/" + "a/" * 3000, {}, 404),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_kubernetes_own_words(path: str, query: dict[str, str], code: int) -> None:
    store = a_store()
    store.report(a_report(NOON, a_container("u1")), NOON)
    found, status = ask(store, path, **query)
    assert (found, status["kind"], status["status"]) == (code, "Status", "Failure")


def test_discovery_names_every_metric_in_both_ways_of_asking() -> None:
    store = a_store()
    _, listed = ask(store, V2)
    names = {one["name"]: one["namespaced"] for one in listed["resources"]}
    assert names["pods/pod_cpu_load_1min_agg_max"] is True
    assert names["nodes/node_cpu_usage_ratio"] is False
    assert len(names) == 16 * 8
    _, groups = ask(store, "/apis")
    assert [group["name"] for group in groups["groups"]] == ["custom.metrics.k8s.io", "external.metrics.k8s.io"]
    assert ask(store, "/apis/custom.metrics.k8s.io")[1]["preferredVersion"]["version"] == "v1beta2"
    reply = answer("/apis", {}, store, NOON, f"{AGGREGATED},application/json;q=0.9")
    assert reply.media == AGGREGATED
    found = json.loads(reply.body)
    assert found["kind"] == "APIGroupDiscoveryList"
    resources = {one["resource"]: one for one in found["items"][0]["versions"][0]["resources"]}
    assert {one["subresource"] for one in resources["nodes"]["subresources"]} >= {
        "node_cpu_usage",
        "node_cpu_usage_agg_p95",
    }
    assert [one["resource"] for one in found["items"][1]["versions"][0]["resources"]] == [
        "neap_predicted_usage",
        "spd_agg_metrics",
    ]


@pytest.mark.parametrize(
    ("selector", "labels", "holds"),
    [
        ("", {}, True),
        ("app=cart", {"app": "cart"}, True),
        ("app==cart,tier!=web", {"app": "cart"}, True),
        ("app==cart,tier!=web", {"app": "cart", "tier": "web"}, False),
        ("tier in (web, api)", {"tier": "api"}, True),
        ("tier notin (web,api)", {}, True),
        ("tier notin (web,api)", {"tier": "web"}, False),
        ("a.b/c", {"a.b/c": ""}, True),
        ("!a", {"a": ""}, False),
        ("a=", {"a": ""}, True),
    ],
)
def test_selectors_hold_as_kubernetes_says(selector: str, labels: dict[str, str], holds: bool) -> None:
    assert selects(parse_selector(selector), labels) is holds


@pytest.mark.parametrize(
    "selector", [",", "a,", "=b", "a=b=c", "a in b", "a in (b", "(a)", "a b", "a!", "x" * 9000, "a," * 70 + "a"]
)
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(InputError, match="not a label selector"):
        parse_selector(selector)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (8.25, "8250m"), (0.0004, "0"), (0.9996, "1"), (1e6, "1000000"), (1.5e9, "1500000000"), (1e300, str(1 << 62)), (-0.5, "-500m"), (2.0**53 + 2, str(2**53 + 2))],
)  # fmt: skip
def test_numbers_are_kubernetes_quantities(value: float, text: str) -> None:
    assert quantity(value) == text


def test_an_object_of_the_window_takes_less_than_a_kilobyte() -> None:
    mine, series = MetricSettings(), Series(8)
    for at in range(0, 1000, int(mine.spacing)):
        series.add(float(at), 1.0, [1.0] * 8, keep=mine.window)
    assert len(series) * 10 * 8 < 1024


@pytest.mark.parametrize("cpu", [1e308, -1e308, 5e-324])
def test_numbers_nobody_should_send_do_no_harm(cpu: float) -> None:
    store = a_store()
    odd = [a_container("u1", str(index), cpu=cpu, cpi=1e-300, memory=1 << 62, run_delay=cpu) for index in range(4)]
    store.report(a_report(NOON, *odd, cpu=cpu, run_delay=cpu), NOON)
    for metric in json.loads(answer(V2, {}, store, NOON).body)["resources"]:
        kind, name = metric["name"].split("/")
        where = f"{V2}/namespaces/shop" if kind == "pods" else V2
        assert ask(store, f"{where}/{kind}/*/{name}")[0] in (200, 404)
