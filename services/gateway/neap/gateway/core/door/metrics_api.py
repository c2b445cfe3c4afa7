"""The metrics APIs as a function: a path and a query in, a document out.

    custom.metrics.k8s.io/v1beta2, v1beta1     measured: namespaces/{ns}/pods/{name | *}/{metric}, nodes/{name | *}/{metric}
    external.metrics.k8s.io/v1beta1            predicted: namespaces/{ns}/{metric}

    neap_predicted_usage    labels workload, resource, and if wanted kind, lead ("30m"): at now + lead
    spd_agg_metrics         labels spd-name, spd-resource-name, spd-container-name, spd-scope: Katalyst's name

Both are totals of all replicas, by the planner's forecast (foreseen.py), else by the profile's hours; without `lead` as far
ahead as the service is scaled, else `metrics.lead` (of Katalyst's name: now).

Every measured metric is there as it is and as _agg_avg, _max, _min, _latest, _p90, _p95, _p99 over the window kept. What
nobody measured, or nobody since a while, is not found: an autoscaler then goes by its other metrics. Values are
Kubernetes quantities, rounded to a thousandth; predictions are stamped with the begin of their step.
Source: k8s.io/metrics (custom v1beta1, v1beta2; external v1beta1); apidiscovery.k8s.io/v2; requirements 004-34.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from neap.common.errors import InputError
from neap.common.model.resource import CPU, RECLAIMED_CPU
from neap.common.model.scheduling import Expression, Operator
from neap.common.units import DAY, HOUR, parse_duration
from neap.gateway.core.door.foreseen import Expected
from neap.gateway.core.door.metrics_store import NODE_METRICS, POD_METRICS, Measurable, MetricStore
from neap.gateway.core.door.reply import Reply, document, refusal
from neap.gateway.core.door.selector import parse_selector, selects
from neap.gateway.core.door.series import AGGREGATIONS, Measured

CUSTOM: Final = "custom.metrics.k8s.io"
EXTERNAL: Final = "external.metrics.k8s.io"
VERSIONS: Final[Mapping[str, tuple[str, ...]]] = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}
PREDICTED: Final = "neap_predicted_usage"
SPD: Final = "spd_agg_metrics"
SPD_SCOPE: Final = "ResourcePortraitIndicatorPlugin"
SPD_NEEDED: Final = ("spd-name", "spd-resource-name", "spd-container-name")
SPD_SCOPES: Final = ("spd-scope", "spd-scope-name")
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
HOURS: Final = 24
LATEST_TIME: Final = 253_402_300_799.0  # the last second of 9999


def answer(path: str, query: Mapping[str, str], store: MetricStore, now: float, accept: str = "") -> Reply:
    """Of GET `path`; see module docstring. Never raises."""
    parts = [part for part in path.split("/") if part]
    try:
        match parts:
            case ["apis"]:
                wanted = AGGREGATED.split(";")[1:]
                aggregated = any(all(word in one for word in wanted) for one in accept.split(","))
                return document(_aggregated(), AGGREGATED) if aggregated else document(_groups())
            case ["apis", group] if group in VERSIONS:
                return document(_group(group) | {"kind": "APIGroup", "apiVersion": "v1"})
            case ["apis", group, version] if version in VERSIONS.get(group, ()):
                return document(_resources(group, version))
            case ["apis", group, version, *rest] if version in VERSIONS.get(group, ()):
                if group == EXTERNAL:
                    return _external(rest, query, store, now)
                return _custom(version, rest, query, store, now)
    except InputError as error:
        return refusal(400, "BadRequest", str(error))
    return refusal(404, "NotFound", f"{path[:200]} is not served here")


# -- discovery -------------------------------------------------------------------------------------------------------


def _names(metrics: Sequence[str]) -> Iterator[str]:
    for metric in metrics:
        yield metric
        yield from (f"{metric}_agg_{how}" for how in AGGREGATIONS)


def _served(group: str) -> Iterator[tuple[str, bool, str]]:
    """Resources, whether they are namespaced, and the kind of the answer."""
    if group == EXTERNAL:
        yield from ((name, True, "ExternalMetricValueList") for name in (PREDICTED, SPD))
        return
    yield from ((f"pods/{name}", True, "MetricValueList") for name in _names(POD_METRICS))
    yield from ((f"nodes/{name}", False, "MetricValueList") for name in _names(NODE_METRICS))


def _group(group: str) -> dict[str, Any]:
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in VERSIONS[group]]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _groups() -> dict[str, Any]:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in VERSIONS]}


def _resources(group: str, version: str) -> dict[str, Any]:
    resources = [
        {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get"]}
        for name, namespaced, kind in _served(group)
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}",
        "resources": resources,
    }


def _aggregated() -> dict[str, Any]:
    """The same for clients that want all in one document; metrics are subresources of what they describe."""
    items = []
    for group, versions in VERSIONS.items():
        found: dict[str, dict[str, Any]] = {}
        for name, namespaced, kind in _served(group):
            resource, _, metric = name.partition("/")
            said = {
                "responseKind": {"group": group, "version": versions[0], "kind": kind},
                "verbs": ["get"],
            }
            scope = "Namespaced" if namespaced else "Cluster"
            entry = found.setdefault(resource, {"resource": resource, "scope": scope, "singularResource": "", **said})
            if metric:
                entry.setdefault("subresources", []).append({"subresource": metric, **said})
        served = [{"version": one, "freshness": "Current", "resources": list(found.values())} for one in versions]
        items.append({"metadata": {"name": group, "creationTimestamp": None}, "versions": served})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


# -- measured --------------------------------------------------------------------------------------------------------


def _custom(version: str, rest: Sequence[str], query: Mapping[str, str], store: MetricStore, now: float) -> Reply:
    match rest:
        case ["namespaces", namespace, "pods", name, metric]:
            kind, where, metrics = "Pod", f"pods of {namespace}", POD_METRICS
            single = [store.pod(namespace, name)] if name != "*" else None
            some = store.pods(namespace) if single is None else iter(one for one in single if one is not None)
        case ["nodes", name, metric]:
            kind, where, metrics = "Node", "nodes", NODE_METRICS
            single = [store.node(name)] if name != "*" else None
            some = store.nodes() if single is None else iter(one for one in single if one is not None)
        case _:
            return refusal(404, "NotFound", f"no metrics of {'/'.join(rest)[:200]}: pods and nodes are measured")
    head, _, how = metric.partition("_agg_")
    if head not in metrics or (how or "avg") not in AGGREGATIONS or metric.endswith("_agg_"):
        return refusal(404, "NotFound", f"no metric {metric[:64]} for {where} (there are: {', '.join(metrics)})")
    wanted = parse_selector(query.get("labelSelector", ""))
    matching = [one for one in some if single is not None or selects(wanted, one.labels)]
    if not selects(parse_selector(query.get("metricLabelSelector", "")), {}):
        matching = []  # these metrics have no labels of their own
    told = [(one, found) for one in matching if (found := store.measured(one, head, how, now)) is not None]
    if not told:
        return refusal(
            404, "NotFound", f"no {metric} for {where}: {len(matching)} match, none has a fresh sample of it"
        )
    items = [_item(version, kind, metric, one, found) for one, found in told]
    return document(_list("MetricValueList", f"{CUSTOM}/{version}", items))


def _item(version: str, kind: str, metric: str, one: Measurable, found: Measured) -> dict[str, Any]:
    described = {"kind": kind, "name": one.name, "apiVersion": "v1"}
    if one.namespace:
        described["namespace"] = one.namespace
    item: dict[str, Any] = {"describedObject": described, "timestamp": _time(found.at), "value": quantity(found.value)}
    window = max(0, round(found.window))
    if version == "v1beta1":
        return item | {"metricName": metric, "window": window, "selector": None}
    return item | {"metric": {"name": metric, "selector": None}, "windowSeconds": window}


# -- predicted -------------------------------------------------------------------------------------------------------


def _external(rest: Sequence[str], query: Mapping[str, str], store: MetricStore, now: float) -> Reply:
    match rest:
        case ["namespaces", namespace, metric] if metric in (PREDICTED, SPD):
            labels = _labels(parse_selector(query.get("labelSelector", "")))
        case _:
            return refusal(
                404, "NotFound", f"no external metric {'/'.join(rest)[-64:]} (there are: {PREDICTED}, {SPD})"
            )
    if metric == SPD:
        _needs(metric, labels, SPD_NEEDED)
        scope = next((labels[key] for key in SPD_SCOPES if key in labels), SPD_SCOPE)
        kind, workload, resource = "", labels["spd-name"], labels["spd-resource-name"]
        lead = store.foreseen.lead(namespace, kind, workload) or 0.0
        if scope != SPD_SCOPE:
            return refusal(404, "NotFound", f"{metric}: nothing of scope {scope[:64]} (there is {SPD_SCOPE})")
    else:
        _needs(metric, labels, ("workload", "resource"))
        kind, workload, resource = labels.get("kind", ""), labels["workload"], labels["resource"]
        plans = store.foreseen.lead(namespace, kind, workload)
        usual = store.settings.lead if plans is None else plans
        lead = parse_duration(labels["lead"]) if "lead" in labels else usual
    expected = store.foreseen.expected(namespace, kind, workload, resource, now, min(lead, DAY))
    if expected is not None:
        return _told(metric, labels, expected)
    profile = store.profile(namespace, kind, workload)
    portrait = profile.portrait.get(resource, ()) if profile is not None else ()
    at = now + min(lead, DAY)
    if profile is None or len(portrait) != HOURS or not 0 <= at <= LATEST_TIME:
        known = (
            "no profile" if profile is None else f"a profile with {', '.join(sorted(profile.portrait)) or 'nothing'}"
        )
        return refusal(404, "NotFound", f"{metric}: {namespace}/{workload[:64]} has {known}, asked is {resource[:64]}")
    hour = at // HOUR
    amount = portrait[int(hour) % HOURS]
    value = amount / 1000 if resource in (CPU, RECLAIMED_CPU) else amount
    return _told(metric, labels, Expected(value, hour * HOUR, HOUR))


def _told(metric: str, labels: Mapping[str, str], expected: Expected) -> Reply:
    value = {
        "metricName": metric,
        "metricLabels": labels,
        "timestamp": _time(expected.at),
        "window": int(expected.window),
        "value": quantity(expected.value),
    }
    return document(_list("ExternalMetricValueList", f"{EXTERNAL}/v1beta1", [value]))


def _needs(metric: str, labels: Mapping[str, str], needed: Sequence[str]) -> None:
    missing = [key for key in needed if not labels.get(key)]
    if missing:
        raise InputError(f"{metric}: the selector names no {', '.join(missing)} (needed: {', '.join(needed)})")


def _labels(conditions: Sequence[Expression]) -> dict[str, str]:
    """A selector that names one value each."""
    for one in conditions:
        if one.operator is not Operator.IN or len(one.values) != 1:
            raise InputError(f"selector of an external metric: {one.key[:64]} needs one value, {one.key[:64]}=...")
    return {one.key: one.values[0] for one in conditions}


# -- shapes ----------------------------------------------------------------------------------------------------------


def _list(kind: str, version: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}


def quantity(value: float) -> str:
    """As Kubernetes writes numbers: whole ones as they are, others in thousandths, rounded; of 2⁶³ at most."""
    value = min(max(value, -float(1 << 62)), float(1 << 62))
    if value == int(value) or abs(value) > 1 << 53:
        return str(int(value))
    milli = round(value * 1000)
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def _time(at: float) -> str:
    """Seconds since the epoch as Kubernetes writes times."""
    return datetime.fromtimestamp(min(max(at, 0.0), LATEST_TIME), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
