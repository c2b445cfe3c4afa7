"""The metrics APIs answer whatever they are asked, and aggregations lie where they must."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.common.model.resource import parse_amount
from neap.gateway.core.door.metrics_api import answer, quantity
from neap.gateway.core.door.metrics_store import MetricSettings, MetricStore
from neap.gateway.core.door.selector import parse_selector, selects
from neap.gateway.core.door.series import AGGREGATIONS, Series, aggregate
from tests.unit.test_gateway_metrics_api import NOON, a_container, a_profile, a_report, a_store

WORDS = st.sampled_from((
    "apis", "custom.metrics.k8s.io", "external.metrics.k8s.io", "v1beta1", "v1beta2", "namespaces", "shop", "pods", "*",
    "nodes", "n1", "cart-1", "pod_cpu_usage", "node_cpu_usage_agg_p95", "neap_predicted_usage", "spd_agg_metrics", "_agg_",
))  # fmt: skip
PATHS = st.lists(WORDS | st.text(max_size=4), max_size=8).map(lambda parts: "/" + "/".join(parts))
PIECES = st.sampled_from(("app", "=", "==", "!=", ",", " in ", " notin ", "(", ")", "!", "cart", "workload=cart", "resource=cpu", " ", "lead=5m"))  # fmt: skip
SELECTORS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=10)
SAMPLES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40)


def known() -> MetricStore:
    store = a_store()
    store.report(a_report(NOON, a_container("u1"), cpu=2.0), NOON)
    store.learn(a_profile(cpu=(250.0,) * 24))
    return store


@given(
    path=PATHS, selector=SELECTORS, accept=st.text(max_size=10), now=st.floats(allow_nan=False, allow_infinity=False)
)
def test_any_question_is_answered_with_a_document_or_kubernetes_own_no(
    path: str, selector: str, accept: str, now: float
) -> None:
    reply = answer(path, {"labelSelector": selector, "metricLabelSelector": selector}, known(), now, accept)
    found = json.loads(reply.body)
    assert reply.status in (200, 400, 404)
    assert (found["kind"] == "Status") == (reply.status != 200)
    assert found.get("items") != []


@given(
    selector=SELECTORS, labels=st.dictionaries(st.sampled_from(("app", "tier")), st.sampled_from(("cart", "web", "")))
)
def test_a_selector_and_its_opposite_never_hold_together(selector: str, labels: dict[str, str]) -> None:
    try:
        conditions = parse_selector(selector)
    except InputError:
        return
    if selects(conditions, labels):
        for opposite in ("!app", "app notin (cart,web,)"):
            assert selects(parse_selector(opposite), labels) != selects(
                parse_selector("app" if opposite == "!app" else "app in (cart,web,)"), labels
            )


@given(samples=SAMPLES)
def test_every_aggregation_lies_between_the_least_and_the_most(samples: list[float]) -> None:
    found = {how: aggregate(samples, how) for how in AGGREGATIONS}
    margin = 1e-9 * max(1.0, *(abs(value) for value in samples))
    assert all(min(samples) - margin <= value <= max(samples) + margin for value in found.values())
    assert found["p90"] <= found["p95"] <= found["p99"] <= found["max"]


@given(gaps=st.lists(st.floats(0.1, 500.0), min_size=1, max_size=60))
def test_only_the_window_is_kept_and_the_newest_is_the_latest(gaps: list[float]) -> None:
    mine, series, at = MetricSettings(), Series(1), NOON
    for number, gap in enumerate(gaps):
        at += gap
        series.add(at, 1.0, [float(number)], keep=mine.window)
        found = series.measured(0, "latest", now=at, window=mine.window, fresh=mine.stale_after)
        assert found is not None
        assert (found.value, found.at) == (number, at)
        assert found.window <= mine.window
        assert series.measured(0, "", now=at + 91, window=mine.window, fresh=mine.stale_after) is None


@given(value=st.floats(0, 1e12))
def test_a_quantity_is_read_back_to_a_thousandth(value: float) -> None:
    _, milli = parse_amount("cpu", quantity(value))
    assert math.isclose(milli / 1000, value, abs_tol=0.0005001, rel_tol=1e-12)
