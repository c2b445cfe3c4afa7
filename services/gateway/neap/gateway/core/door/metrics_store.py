"""What the metrics APIs know: pods and nodes as Kubernetes names them, what they used lately, what is expected.

    pod_cpu_usage                cores                      node_cpu_total, _usage     cores
    pod_cpu_usage_ratio          of what it asked for       node_cpu_usage_ratio       of what it has
    pod_cpu_load_1min            tasks that run or wait     node_cpu_load_system_1min  tasks that run or wait
    pod_cpu_cpi                  cycles per instruction     node_system_memory_total, _free, _available   bytes
    pod_memory_usage, _working_set   bytes                  node_gpu_usage             cards
    pod_gpu_usage                cards
    pod_mbm_total                bytes/s

    load_1min = load_1min·e^(−Δ/60) + (cpu + waiting)·(1 − e^(−Δ/60))        Δ seconds since the sample before
    waiting   = run delay, tasks that waited on average; where the kernel does not keep it, as for cgroups,
                the share of time in which at least one waited (PSI some): a lower bound

Lent cores count as asked for. Pods are told by `meet_pod`, and only those are kept. Only full reports are taken in (of
ten one is, see `usage.NodeUsage.since`), and at most one in `spacing` seconds: what is not needed costs a comparison.
Source: katalyst-control reference 5.6 (names); Linux, kernel/sched/loadavg.c (decay).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import FORECASTS, SCALING
from neap.common.contract.channel import Channel
from neap.common.model.forecast import Forecast
from neap.common.model.profile import ServiceProfile
from neap.common.model.scaling import ScalingPlan
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.units import MINUTE, MilliCores, Seconds
from neap.gateway.core.door.foreseen import Foreseen
from neap.gateway.core.door.series import Measured, Series

POD_METRICS: Final = (
    "pod_cpu_usage",
    "pod_cpu_usage_ratio",
    "pod_cpu_load_1min",
    "pod_cpu_cpi",
    "pod_memory_usage",
    "pod_memory_working_set",
    "pod_gpu_usage",
    "pod_mbm_total",
)
NODE_METRICS: Final = (
    "node_cpu_total",
    "node_cpu_usage",
    "node_cpu_usage_ratio",
    "node_cpu_load_system_1min",
    "node_system_memory_total",
    "node_system_memory_free",
    "node_system_memory_available",
    "node_gpu_usage",
)
POD_LOAD, NODE_LOAD = POD_METRICS.index("pod_cpu_load_1min"), NODE_METRICS.index("node_cpu_load_system_1min")
Row = tuple[float | None, ...]


class MetricSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept, and what is too old to be told."""

    window: Seconds = 300.0  # over which the _agg_ metrics go
    spacing: Seconds = 30.0  # at most one sample of a node in this time; 0.9 KB per pod and window
    stale_after: Seconds = (
        90.0  # an older sample is not served, but for reporters so slow that two full reports take longer
    )
    lead: Seconds = 600.0  # predictions are for so much later than now
    most_pods: int = 20_000  # the rest is not kept
    most_nodes: int = 20_000
    most_forecasts: int = 20_000


class Measurable(msgspec.Struct, kw_only=True):
    """A pod or a node, by its Kubernetes name, and what was measured of it."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    cpu: MilliCores  # asked for, or had; 0: not known
    series: Series


class MetricStore:
    """See module docstring. Times are seconds since the epoch, those of the reports."""

    def __init__(self, settings: MetricSettings) -> None:
        self.settings = settings
        self._pods: dict[str, Measurable] = {}
        self._names: dict[str, dict[str, str]] = {}  # namespace -> pod -> uid
        self._nodes: dict[str, Measurable] = {}
        self._profiles: dict[str, ServiceProfile] = {}
        self.foreseen = Foreseen(settings.most_forecasts)

    def meet_pod(self, uid: str, namespace: str, name: str, labels: Mapping[str, str], cpu: MilliCores) -> bool:
        """A pod that runs, or that changed; False where there is no room for it."""
        known = self._pods.get(uid)
        if known is None and len(self._pods) >= self.settings.most_pods:
            return False
        series = Series(len(POD_METRICS)) if known is None else known.series
        self._pods[uid] = Measurable(namespace=namespace, name=name, labels=labels, cpu=cpu, series=series)
        self._names.setdefault(namespace, {})[name] = uid
        return True

    def forget_pod(self, uid: str) -> None:
        """It is gone."""
        pod = self._pods.pop(uid, None)
        if pod is not None and self._names[pod.namespace].get(pod.name) == uid:
            del self._names[pod.namespace][pod.name]
            if not self._names[pod.namespace]:
                del self._names[pod.namespace]

    def meet_node(self, name: str, labels: Mapping[str, str], cpu: MilliCores) -> bool:
        """A node, or how it changed; False where there is no room for it."""
        known = self._nodes.get(name)
        if known is None and len(self._nodes) >= self.settings.most_nodes:
            return False
        series = Series(len(NODE_METRICS)) if known is None else known.series
        self._nodes[name] = Measurable(namespace="", name=name, labels=labels, cpu=cpu, series=series)
        return True

    def forget_node(self, name: str) -> None:
        """It is gone."""
        self._nodes.pop(name, None)

    def learn(self, profile: ServiceProfile) -> None:
        """What a service is expected to use."""
        self._profiles[profile.key] = profile

    def foresee(self, forecast: Forecast, at: Seconds) -> None:
        """What the planner expects of a series."""
        self.foreseen.hear(forecast, at)

    def plan(self, plan: ScalingPlan) -> None:
        """How the planner scales a service."""
        self.foreseen.plan(plan)

    def unlearn(self, channel: Channel[Any], tokens: Mapping[str, str]) -> None:
        """Nothing is expected of it any more."""
        key = "/".join(tokens[part] for part in ("namespace", "kind", "name"))
        if channel == FORECASTS:
            self.foreseen.forget(f"{key}/{tokens['resource']}")
        elif channel == SCALING:
            self.foreseen.unplan(key)
        else:
            self._profiles.pop(key, None)

    def report(self, usage: NodeUsage, now: float) -> bool:
        """What a node used; whether it was taken in. Reports of nodes nobody met, and of times to come, are not."""
        node = self._nodes.get(usage.node)
        if node is None or usage.at > now + self.settings.stale_after:
            return False
        if usage.since or usage.at - node.series.newest < self.settings.spacing:
            return False
        self._take(node, usage, _node_row(usage, node.cpu), NODE_LOAD)
        mine: dict[str, list[ContainerUsage]] = {}
        for container in usage.containers:
            mine.setdefault(container.uid, []).append(container)
        for uid, containers in mine.items():
            if (pod := self._pods.get(uid)) is not None:
                self._take(pod, usage, _pod_row(containers, pod.cpu), POD_LOAD)
        return True

    def _take(self, one: Measurable, usage: NodeUsage, row: Row, load: int) -> None:
        """A sample, with its load decayed; one that is not newer (the pod moved, a clock was set) is left out."""
        since = usage.at - one.series.newest
        if not since > 0:
            return
        before, now = one.series.last(load), row[load]
        if now is not None and not math.isnan(before):
            keep = math.exp(-since / MINUTE)
            row = (*row[:load], before * keep + now * (1 - keep), *row[load + 1 :])
        one.series.add(usage.at, usage.period, row, keep=self.settings.window)

    # -- what is asked -----------------------------------------------------------------------------------------------

    def pod(self, namespace: str, name: str) -> Measurable | None:
        """By its name."""
        uid = self._names.get(namespace, {}).get(name, "")
        return self._pods.get(uid)

    def pods(self, namespace: str) -> Iterator[Measurable]:
        """Of a namespace, by name."""
        names = self._names.get(namespace, {})
        return (self._pods[names[name]] for name in sorted(names))

    def node(self, name: str) -> Measurable | None:
        """By its name."""
        return self._nodes.get(name)

    def nodes(self) -> Iterator[Measurable]:
        """All, by name."""
        return (self._nodes[name] for name in sorted(self._nodes))

    def profile(self, namespace: str, kind: str, name: str) -> ServiceProfile | None:
        """Of a workload; without a kind the first of its name that is there."""
        if kind:
            return self._profiles.get(f"{namespace}/{kind}/{name}")
        kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod")
        found = (self._profiles.get(f"{namespace}/{one}/{name}") for one in kinds)
        return next((profile for profile in found if profile is not None), None)

    def measured(self, one: Measurable, metric: str, how: str, now: float) -> Measured | None:
        """What a metric of an object is now; None: unknown, or too old to be said."""
        column = (NODE_METRICS if metric in NODE_METRICS else POD_METRICS).index(metric)
        mine = self.settings
        return one.series.measured(column, how, now=now, window=mine.window, fresh=mine.stale_after)


def _total(values: Iterable[float | None]) -> float | None:
    """The sum; unknown where a part is."""
    known = list(values)
    return None if not known or None in known else sum(value for value in known if value is not None)


def _plus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right


def _waiting(run_delay: float | None, stall: Stall | None) -> float | None:
    if run_delay is not None or stall is None:
        return run_delay
    return stall.some10 if stall.some is None else stall.some


def _ratio(used: float | None, cpu: MilliCores) -> float | None:
    return None if used is None or cpu <= 0 else used * 1000 / cpu


def _cpi(containers: Sequence[ContainerUsage]) -> float | None:
    """Cycles per instruction of all together, weighed by CPU: their instructions are cpu / cpi."""
    ran = [(one.cpu, one.cpi) for one in containers if one.cpu and one.cpi and one.cpu > 0 and one.cpi > 0]
    instructions = sum(cpu / cpi for cpu, cpi in ran)
    return sum(cpu for cpu, _ in ran) / instructions if instructions else None


def _pod_row(containers: Sequence[ContainerUsage], cpu: MilliCores) -> Row:
    used = _total(one.cpu for one in containers)
    return (
        used,
        _ratio(used, cpu),
        _plus(used, _total(_waiting(one.run_delay, one.cpu_stall) for one in containers)),
        _cpi(containers),
        _total(one.memory for one in containers),
        _total(one.working_set for one in containers),
        _total(one.gpu for one in containers),
        _total(one.bandwidth for one in containers),
    )


def _node_row(usage: NodeUsage, cpu: MilliCores) -> Row:
    return (
        cpu / 1000 if cpu > 0 else None,
        usage.cpu,
        _ratio(usage.cpu, cpu),
        _plus(usage.cpu, _waiting(usage.run_delay, usage.cpu_stall)),
        _total(numa.memory_total for numa in usage.numa),
        _total(numa.memory_free for numa in usage.numa),
        usage.memory_available,
        _total(card.busy for card in usage.cards),
    )
