"""Our own kinds, group neap.io: what people tell neap by `kubectl apply`, and what it answers in their status.

    ServiceProfile   what a service uses without asking for it, and when                  -> model/profile.py
    NodePoolPolicy   settings of rooms for a cluster, a pool, a node or a service         -> model/policy.py
    GpuPool          how the cards of a pool of nodes are shared                          -> model/policy.py

`v1alpha1` changes by addition only. What a node is and does is shown in Katalyst's CustomNodeResource (katalyst.py).
The definitions are generated from these Structs: `make generate` writes deploy/k8s/base/crds.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.kube.definition import AGE, MAP_BY, Column, Definition, Rule, condition
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Condition, Metadata, Narrow
from neap.common.model.policy import MOST_KEYS, Text, Tier
from neap.common.model.window import HourMinute, Weekday, Zone

GROUP: Final = "neap.io"
VERSION: Final = "v1alpha1"
ACCEPTED: Final = "Accepted"  # condition: neap understands it and acts by it; message: what it does not honour

Moment: TypeAlias = Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
ShortName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=63)]
LongName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=253)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Percent: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
Conditions: TypeAlias = Annotated[tuple[Condition, ...], Meta(max_length=16, extra={MAP_BY: ("type",)})]


class Answer(Narrow, frozen=True, kw_only=True):
    """What neap says of an object."""

    observed_generation: int | None = None  # the generation this status is about
    conditions: Conditions = ()


class TargetRef(Narrow, frozen=True, kw_only=True):
    """A workload of the object's own namespace."""

    kind: Annotated[str, Meta(pattern="^[A-Z][A-Za-z]{0,62}$")]  # Deployment, StatefulSet, DaemonSet, Job, Pod ...
    name: LongName
    api_version: Annotated[str, Meta(max_length=253)] = ""  # of the workload; not needed to find it


# -- ServiceProfile ------------------------------------------------------------------------------------------------


class ProfileWindow(Narrow, frozen=True, kw_only=True):
    """What the containers of one pod used in one window."""

    start: Moment
    containers: Annotated[
        dict[str, Amount], Meta(min_length=1, max_length=64)
    ]  # by container; per requested core, if the kind is
    length_seconds: Annotated[int, Meta(ge=1, le=86400)] = 3600  # of the window


class ProfileObservation(Narrow, frozen=True, kw_only=True):
    """One kind of resource as it was measured on one type of machine."""

    kind: LongName  # neap.io/memory-bandwidth, neap.io/disk-io, neap.io/network, neap.io/power or one of your own
    machine: ShortName  # type of the machines it was measured on
    windows: Annotated[tuple[ProfileWindow, ...], Meta(min_length=1, max_length=168)]  # a prediction takes the largest
    pod_hours: Amount = 0.0  # how much was seen; the type seen longest is predicted from


HourlyUse: TypeAlias = Annotated[tuple[Amount, ...], Meta(min_length=24, max_length=24)]


class ServiceProfileSpec(Narrow, frozen=True, kw_only=True):
    """One service's use of every profiled kind."""

    target: TargetRef
    version: Annotated[str, Meta(max_length=64)] = ""  # named in every decision made with it; else the generation
    baseline_percent: Percent | None = (
        None  # of the pods, the oldest, that stay as they are while others are reclaimed from
    )
    observations: Annotated[
        tuple[ProfileObservation, ...], Meta(max_length=32, extra={MAP_BY: ("kind", "machine")})
    ] = ()
    portrait: Annotated[dict[str, HourlyUse], Meta(max_length=16)] = msgspec.field(
        default_factory=dict
    )  # by kind, what one pod uses in each hour of the day, UTC


class ServiceProfileObject(Narrow, frozen=True, kw_only=True):
    """What a service uses without asking for it, by its measured past, and when."""

    RULES: ClassVar = (
        Rule(
            "has(self.spec.observations) || has(self.spec.portrait) || has(self.spec.baselinePercent)",
            "it says nothing: give observations, a portrait or baselinePercent",
        ),
    )
    spec: ServiceProfileSpec
    metadata: Metadata = Metadata()
    status: Answer = Answer()


# -- NodePoolPolicy ------------------------------------------------------------------------------------------------


class Schedule(Narrow, frozen=True, kw_only=True):
    """A part of every day; past midnight it belongs to the day on which it begins."""

    RULES: ClassVar = (Rule("self.start != self.end", "the schedule has no length: start and end are the same"),)
    start: HourMinute
    end: HourMinute
    days: Annotated[tuple[Weekday, ...], Meta(max_length=7)] = ()  # on which it begins; none: every day
    zone: Zone = "+00:00"  # east of UTC; no summer time


Patch: TypeAlias = Annotated[dict[str, Any], Meta(min_length=1, max_length=MOST_KEYS)]
ROOMS: Final = ("advisor", "enforcer", "evictor", "gpushare", "planner", "reporter", "scheduler")


class NodePoolPolicySpec(Narrow, frozen=True, kw_only=True):
    """Settings of rooms that change while they run."""

    RULES: ClassVar = (
        Rule(
            "self.tier == 'cluster' ? !has(self.selector) : has(self.selector)",
            "tier cluster selects nothing; tiers pool, node and service need a selector",
        ),
        Rule(
            "self.tier != 'service' || !has(self.selector) || self.selector.matches('^[^/]+/[^/]+/[^/]+$')",
            "tier service needs a selector NAMESPACE/KIND/NAME, such as shop/Deployment/cart",
        ),
        Rule(
            f"self.rooms.all(room, room in [{', '.join(repr(room) for room in ROOMS)}])",
            f"rooms: only {', '.join(ROOMS)} have settings",
        ),
        Rule("!has(self.begins) || !has(self.expires) || self.expires > self.begins", "it expires before it begins"),
    )
    rooms: Annotated[
        dict[str, Patch], Meta(min_length=1, max_length=len(ROOMS))
    ]  # room -> its settings by dotted key; see `neap config explain`
    tier: Tier = Tier.POOL  # the narrower tier wins, key by key: cluster < pool < node < service
    selector: Annotated[str, Meta(min_length=1, max_length=320)] | None = (
        None  # name of the pool (label neap.io/pool) or node, or NAMESPACE/KIND/NAME
    )
    canary: Annotated[float, Meta(ge=0, le=1)] = 1.0  # share of the nodes it is for
    schedule: Schedule | None = None
    begins: Moment | None = None
    expires: Moment | None = None
    reason: Text = ""  # why; told wherever the settings are


class NodePoolPolicy(Narrow, frozen=True, kw_only=True):
    """Settings of neap's rooms for a pool of nodes, or for all, one node, or one service."""

    RULES: ClassVar = (
        Rule("size(self.metadata.name) <= 60", "metadata.name: 60 characters at most, as it names a policy"),
    )
    spec: NodePoolPolicySpec
    metadata: Metadata = Metadata()
    status: Answer = Answer()


# -- GpuPool -------------------------------------------------------------------------------------------------------


class GpuPoolSpec(Narrow, frozen=True, kw_only=True):
    """Which nodes, and how their cards are shared."""

    pool: ShortName  # value of the nodes' label neap.io/pool
    mps: bool = False  # an MPS control daemon serves these nodes, so the limits of a slice bound it
    reason: Text = ""


class GpuPoolStatus(Answer, frozen=True, kw_only=True):
    """What the pool has."""

    nodes: int | None = None  # in the pool
    cards: int | None = None  # on them, as far as they say
    sharing: Literal["", "whole cards", "slices"] = ""  # whether the nodes offer parts of cards


class GpuPool(Narrow, frozen=True, kw_only=True):
    """A pool of nodes with GPUs, and how the cards are shared."""

    RULES: ClassVar = (
        Rule("size(self.metadata.name) <= 60", "metadata.name: 60 characters at most, as it names a policy"),
    )
    spec: GpuPoolSpec
    metadata: Metadata = Metadata()
    status: GpuPoolStatus = GpuPoolStatus()


# -- what they are to an API server --------------------------------------------------------------------------------

SERVICE_PROFILES: Final = Kind(GROUP, VERSION, "serviceprofiles", "ServiceProfile", ServiceProfileObject)
NODE_POOL_POLICIES: Final = Kind(GROUP, VERSION, "nodepoolpolicies", "NodePoolPolicy", NodePoolPolicy, namespaced=False)
GPU_POOLS: Final = Kind(GROUP, VERSION, "gpupools", "GpuPool", GpuPool, namespaced=False)

_VERDICT: Final = (condition("Accepted", ACCEPTED), condition("Why", ACCEPTED, "message", priority=1), AGE)

DEFINITIONS: Final = (
    Definition(
        SERVICE_PROFILES,
        "What a service uses without asking for it (memory bandwidth, disk, network, power), and when.",
        ("nsp",),
        (
            Column("Kind", ".spec.target.kind"),
            Column("Target", ".spec.target.name"),
            Column("Baseline %", ".spec.baselinePercent", "integer"),
            Column("Version", ".spec.version"),
            *_VERDICT,
        ),
    ),
    Definition(
        NODE_POOL_POLICIES,
        "Settings of neap's rooms that change while they run: for a cluster, a pool, a node or a service.",
        ("npp",),
        (
            Column("Tier", ".spec.tier"),
            Column("For", ".spec.selector"),
            Column("Canary", ".spec.canary", "number"),
            Column("From", ".spec.schedule.start", priority=1),
            Column("To", ".spec.schedule.end", priority=1),
            Column("Expires", ".spec.expires"),
            *_VERDICT,
            Column("Reason", ".spec.reason", priority=1),
        ),
    ),
    Definition(
        GPU_POOLS,
        "A pool of nodes with GPUs, and how their cards are shared.",
        ("ngp",),
        (
            Column("Pool", ".spec.pool"),
            Column("Nodes", ".status.nodes", "integer"),
            Column("Cards", ".status.cards", "integer"),
            Column("Sharing", ".status.sharing"),
            Column("MPS", ".spec.mps", "boolean"),
            *_VERDICT,
        ),
    ),
)
