"""Katalyst's kinds that neap takes part in, under their own names, so that its manifests and dashboards go on working.

    CustomNodeResource          node.katalyst.kubewharf.io        written by neap: the one mirror of what a node is and does
    NodeOvercommitConfig        overcommit.katalyst.kubewharf.io  read: ratios of nodes
    ServiceProfileDescriptor    workload.katalyst.kubewharf.io    read: what a service uses
    AdminQoSConfiguration       config.katalyst.kubewharf.io      read: policy; what is not honoured is told in a condition
    KatalystCustomConfig        config.katalyst.kubewharf.io      taken, and not needed: policy needs no controller

Only fields that neap reads or writes are typed; in what others own everything else is kept as it was.
Source: kubewharf/katalyst-api config/crd/bases and pkg/apis (names and shapes).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.kube.definition import AGE, MAP_BY, Column, Definition, Rule, condition
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Amounts, Condition, Metadata, Narrow
from neap.common.kube.own import ACCEPTED, Answer, LongName, Moment, Percent, TargetRef

KATALYST: Final = "katalyst.kubewharf.io"
VERSION: Final = "v1alpha1"
RECLAIMED_MILLICPU: Final = f"resource.{KATALYST}/reclaimed_millicpu"
RECLAIMED_BYTES: Final = f"resource.{KATALYST}/reclaimed_memory"
OVERCOMMIT_POOL: Final = f"{KATALYST}/overcommit_node_pool"  # label of a node
BASELINE_SENTINEL: Final = f"spd.{KATALYST}/baselineSentinel"  # annotation of a ServiceProfileDescriptor

Ratio: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$")]
Free: TypeAlias = dict[str, Any]  # whatever it holds is kept

# -- CustomNodeResource --------------------------------------------------------------------------------------------


class NodeProperty(Narrow, frozen=True, kw_only=True):
    """A fact of the machine."""

    property_name: LongName
    property_quantity: str | int | None = None
    property_values: Annotated[tuple[str, ...], Meta(max_length=64)] | None = None


class QosTaint(Narrow, frozen=True, kw_only=True):
    """Keeps pods of one QoS level away."""

    key: LongName
    effect: str
    value: str = ""
    time_added: Moment | None = None
    qos_level: str = msgspec.field(default="", name="qosLevel")


class MirrorSpec(Narrow, frozen=True, kw_only=True):
    """What does not move."""

    node_resource_properties: Annotated[tuple[NodeProperty, ...], Meta(max_length=64)] | None = None
    taints: Annotated[tuple[QosTaint, ...], Meta(max_length=64)] | None = None


class Pair(Narrow, frozen=True, kw_only=True):
    """What there is, and what may be asked for; reclaimed CPU in milli-cores, memory in bytes."""

    allocatable: Amounts | None = None
    capacity: Amounts | None = None


class NamedValue(Narrow, frozen=True, kw_only=True):
    """One attribute of a zone."""

    name: str
    value: str


class Allocation(Narrow, frozen=True, kw_only=True):
    """Who has what of a zone."""

    consumer: str  # namespace/name/uid
    requests: Amounts | None = None


class MirrorZone(Narrow, frozen=True, kw_only=True):
    """A part of the machine: Socket, Numa, CacheGroup, GPU, NIC; its parts below it."""

    type: str
    name: str
    resources: Pair = Pair()
    attributes: tuple[NamedValue, ...] | None = None
    allocations: tuple[Allocation, ...] | None = None
    children: tuple[MirrorZone, ...] | None = None
    siblings: tuple[Any, ...] | None = None


class UsedAmounts(Narrow, frozen=True, kw_only=True):
    """What is used."""

    cpu: str | int | None = None
    memory: str | int | None = None


class NumaUse(Narrow, frozen=True, kw_only=True):
    """Use of one NUMA node."""

    numa_id: int
    usage: UsedAmounts = UsedAmounts()


class NodeMetric(Narrow, frozen=True, kw_only=True):
    """Use of the node."""

    generic_usage: UsedAmounts | None = None
    numa_usage: Annotated[tuple[NumaUse, ...], Meta(max_length=256)] | None = None


class GroupMetric(Narrow, frozen=True, kw_only=True):
    """Use of all pods of one QoS level."""

    qos_level: str = msgspec.field(name="QoSLevel")
    generic_usage: UsedAmounts | None = None
    numa_usage: Annotated[tuple[NumaUse, ...], Meta(max_length=256)] | None = None
    pod_list: Annotated[tuple[str, ...], Meta(max_length=4096)] | None = None


class NodeMetricStatus(Narrow, frozen=True, kw_only=True):
    """What is used, and when that was so."""

    update_time: Moment | None = None
    node_metric: NodeMetric | None = None
    group_metric: Annotated[tuple[GroupMetric, ...], Meta(max_length=16)] | None = None


class MirrorCondition(Condition, frozen=True, kw_only=True):
    """AgentReady and others."""

    last_heartbeat_time: Moment | None = None


class MirrorStatus(Narrow, frozen=True, kw_only=True):
    """What moves."""

    resources: Pair = Pair()  # reclaimed resources; the Node object has them as extended resources too
    topology_policy: str | None = None
    topology_zone: Annotated[tuple[MirrorZone, ...], Meta(max_length=64)] | None = None
    node_metric_status: NodeMetricStatus | None = None
    conditions: Annotated[tuple[MirrorCondition, ...], Meta(max_length=32, extra={MAP_BY: ("type",)})] = ()


class CustomNodeResource(Narrow, frozen=True, kw_only=True):
    """What a node is, lends and uses, as neap has it; one per node, bearing its name."""

    metadata: Metadata = Metadata()
    spec: MirrorSpec = MirrorSpec()
    status: MirrorStatus = MirrorStatus()


# -- NodeOvercommitConfig ------------------------------------------------------------------------------------------


class OvercommitSpec(Narrow, frozen=True, kw_only=True):
    """Which nodes, and how much more they sell than they have."""

    RULES: ClassVar = (
        Rule(
            "self.resourceOvercommitRatio.all(kind, double(self.resourceOvercommitRatio[kind]) >= 1.0)",
            "a ratio below 1 would take away what nodes have; 1 means no over-commitment",
        ),
        Rule(
            "self.resourceOvercommitRatio.all(kind, kind in ['cpu', 'memory'])",
            "only cpu and memory can be over-committed",
        ),
    )
    node_overcommit_selector_val: Annotated[
        str, Meta(min_length=1, max_length=63)
    ]  # value of the nodes' label katalyst.kubewharf.io/overcommit_node_pool
    resource_overcommit_ratio: Annotated[dict[str, Ratio], Meta(min_length=1, max_length=2)]  # cpu: "2.5"


class OvercommitStatus(Answer, frozen=True, kw_only=True):
    """Whom it reached."""

    matched_node_list: Annotated[tuple[str, ...], Meta(max_length=5000)] = ()


class NodeOvercommitConfig(Narrow, frozen=True, kw_only=True):
    """How much more than they have the nodes of a pool sell; of several for one pool the newest counts."""

    spec: OvercommitSpec
    metadata: Metadata = Metadata()
    status: OvercommitStatus = OvercommitStatus()


# -- ServiceProfileDescriptor --------------------------------------------------------------------------------------


class DescriptorSpec(Narrow, frozen=True, kw_only=True):
    """Whose profile, and who stays at baseline. Indicators are kept; neap's own targets are policy."""

    target_ref: TargetRef
    baseline_percent: Percent | None = None
    business_indicator: tuple[Any, ...] | None = None
    system_indicator: tuple[Any, ...] | None = None
    extended_indicator: tuple[Any, ...] | None = None


class ContainerMetrics(Narrow, frozen=True, kw_only=True):
    """One container's metrics: memory_bandwidth, memory_bandwidth-M1 ..., per requested core."""

    name: str
    usage: Amounts | None = None


class MetricItem(Narrow, frozen=True, kw_only=True):
    """One window."""

    timestamp: Moment | None = None
    window: str | None = None  # 1h
    containers: tuple[ContainerMetrics, ...] | None = None
    annotations: dict[str, str] | None = None


class AggregatedMetrics(Narrow, frozen=True, kw_only=True):
    """The windows of one aggregator."""

    aggregator: str  # avg, max, sum
    scope: str = ""
    items: Annotated[tuple[MetricItem, ...], Meta(max_length=168)] | None = None


class DescriptorStatus(Answer, frozen=True, kw_only=True):
    """What was measured."""

    agg_metrics: Annotated[tuple[AggregatedMetrics, ...], Meta(max_length=16)] | None = None
    business_status: tuple[Any, ...] | None = None


class ServiceProfileDescriptor(Narrow, frozen=True, kw_only=True):
    """What a service uses, in Katalyst's words."""

    spec: DescriptorSpec
    metadata: Metadata = Metadata()
    status: DescriptorStatus = DescriptorStatus()


# -- AdminQoSConfiguration, KatalystCustomConfig -------------------------------------------------------------------


class EphemeralSelector(Narrow, frozen=True, kw_only=True):
    """Nodes by name, for a time."""

    node_names: Annotated[tuple[LongName, ...], Meta(max_length=256)] | None = None
    last_duration: str | None = None  # 1h30m, from the creation of the object


class RollingUpdate(Narrow, frozen=True, kw_only=True):
    """How many nodes get it."""

    canary: int | str | None = None  # "10%"; a number of nodes is not honoured


class UpdateStrategy(Narrow, frozen=True, kw_only=True):
    """How it is rolled out."""

    type: str = ""
    rolling_update: RollingUpdate = RollingUpdate()


class AdminQosSpec(Narrow, frozen=True, kw_only=True):
    """For which nodes, and what."""

    RULES: ClassVar = (
        Rule(
            "!has(self.nodeLabelSelector) || !has(self.ephemeralSelector) || !has(self.ephemeralSelector.nodeNames)",
            "nodeLabelSelector and ephemeralSelector.nodeNames exclude each other",
        ),
        Rule(
            "!has(self.ephemeralSelector) || !has(self.ephemeralSelector.nodeNames) "
            "|| has(self.ephemeralSelector.lastDuration)",
            "ephemeralSelector.nodeNames needs lastDuration",
        ),
        Rule(
            "!has(self.ephemeralSelector) || !has(self.ephemeralSelector.lastDuration) "
            "|| has(self.ephemeralSelector.nodeNames)",
            "ephemeralSelector.lastDuration is for nodeNames only",
        ),
    )
    config: Free = msgspec.field(default_factory=dict)
    node_label_selector: str | None = None  # neap.io/pool=NAME
    priority: int = 0
    ephemeral_selector: EphemeralSelector | None = None
    paused: bool = False  # nothing changes while it is
    update_strategy: UpdateStrategy | None = None
    revision_history_limit: int | None = None


class AdminQosConfiguration(Narrow, frozen=True, kw_only=True):
    """Settings of reclaiming and eviction in Katalyst's words; what neap does not honour is told in its condition."""

    spec: AdminQosSpec
    metadata: Metadata = Metadata()
    status: Answer = Answer()


class CustomConfig(Narrow, frozen=True, kw_only=True):
    """Which kinds of configuration exist: taken so that Katalyst's manifests apply; neap needs none."""

    metadata: Metadata = Metadata()
    spec: Free = msgspec.field(default_factory=dict)
    status: Answer = Answer()


NODE_MIRRORS: Final = Kind(
    f"node.{KATALYST}", VERSION, "customnoderesources", "CustomNodeResource", CustomNodeResource, namespaced=False
)
OVERCOMMIT_CONFIGS: Final = Kind(
    f"overcommit.{KATALYST}", VERSION, "nodeovercommitconfigs", "NodeOvercommitConfig", NodeOvercommitConfig, namespaced=False
)  # fmt: skip
PROFILE_DESCRIPTORS: Final = Kind(
    f"workload.{KATALYST}", VERSION, "serviceprofiledescriptors", "ServiceProfileDescriptor", ServiceProfileDescriptor
)
ADMIN_QOS: Final = Kind(
    f"config.{KATALYST}", VERSION, "adminqosconfigurations", "AdminQoSConfiguration", AdminQosConfiguration
)
CUSTOM_CONFIGS: Final = Kind(
    f"config.{KATALYST}", VERSION, "katalystcustomconfigs", "KatalystCustomConfig", CustomConfig
)

_VERDICT: Final = (condition("Accepted", ACCEPTED), condition("Why", ACCEPTED, "message", priority=1), AGE)
_LENT: Final = ".status.resources.allocatable.resource\\.katalyst\\.kubewharf\\.io/"

DEFINITIONS: Final = (
    Definition(
        NODE_MIRRORS,
        "What a node is, lends and uses, as neap has it; one per node.",
        ("kcnr",),
        (
            condition("Ready", "AgentReady"),
            Column("Reclaimed mCPU", _LENT + "reclaimed_millicpu", "string"),
            Column("Reclaimed bytes", _LENT + "reclaimed_memory", "string"),
            condition("Why", "AgentReady", "message", priority=1),
            AGE,
        ),
        ours=False,
    ),
    Definition(
        OVERCOMMIT_CONFIGS,
        "How much more than they have the nodes of a pool sell.",
        ("noc",),
        (
            Column("Pool", ".spec.nodeOvercommitSelectorVal"),
            Column("CPU", ".spec.resourceOvercommitRatio.cpu"),
            Column("Memory", ".spec.resourceOvercommitRatio.memory"),
            *_VERDICT,
        ),
        ours=False,
    ),
    Definition(
        PROFILE_DESCRIPTORS,
        "What a service uses, in Katalyst's words.",
        ("spd",),
        (Column("Target", ".spec.targetRef.name"), Column("Baseline %", ".spec.baselinePercent", "integer"), *_VERDICT),
        ours=False,
    ),
    Definition(
        ADMIN_QOS,
        "Settings of reclaiming and eviction in Katalyst's words.",
        ("aqc",),
        (
            Column("Selector", ".spec.nodeLabelSelector"),
            Column("Nodes", ".spec.ephemeralSelector.nodeNames", priority=1),
            Column("Paused", ".spec.paused", "boolean"),
            *_VERDICT,
        ),
        ours=False,
    ),
    Definition(
        CUSTOM_CONFIGS,
        "Which kinds of configuration exist, in Katalyst's words; neap needs none of it.",
        ("kcc",),
        (Column("Target", ".spec.targetType.resource"), *_VERDICT),
        ours=False,
    ),
)  # fmt: skip
