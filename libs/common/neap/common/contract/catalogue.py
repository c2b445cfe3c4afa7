"""Every subject, stream, bucket and endpoint of neap. Nothing else may name one.

From this page are generated: streams and buckets, NATS permissions per service, docs/subjects.md, JSON Schema.
"""

from __future__ import annotations

from typing import Any, Final

from neap.common.contract.channel import (
    LEDGER_LIMIT,
    WEEK,
    Channel,
    Delivery,
    Endpoint,
    Events,
    Latest,
    Ledger,
    State,
    Stream,
    Work,
)
from neap.common.contract.lawful import entry_flaw
from neap.common.model.advice import Applied, Headroom, NodeAdvice
from neap.common.model.apart import Apart
from neap.common.model.api import ApiRequest, ApiShares, ApiState
from neap.common.model.day import DayReport
from neap.common.model.device import DeviceState
from neap.common.model.enforcement import NodeEnforcement
from neap.common.model.evicting import Evicting, Token
from neap.common.model.explanation import DryRun, DryRunAnswer, ExplainRequest, Explanation
from neap.common.model.forecast import Forecast
from neap.common.model.lifecycle import Eviction, LifecycleEvent, Preemption
from neap.common.model.memory import RoomMemory
from neap.common.model.node import NodeObject
from neap.common.model.past import HistoryPage, PastUsage
from neap.common.model.placement import LedgerEntry
from neap.common.model.policy import PolicyDocument
from neap.common.model.profile import MachineTypes, ProfileAnswer, ProfileRequest, ServiceProfile
from neap.common.model.ratios import NodeRatios
from neap.common.model.recommendation import ApplyAnswer, ApplyRequest, Recommendation, Resize, Resized
from neap.common.model.scaling import ScalingPlan
from neap.common.model.tide import TidePool
from neap.common.model.topology import NodeTopology
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import NodeUsage, Pressure, Reports, ReportsRequest
from neap.common.model.weighing import Weighing, WeighRequest
from neap.common.units import DAY as ONE_DAY
from neap.common.units import GIB, HOUR, MIB, MINUTE

ROOT: Final = "neap.v1"
SERVICES: Final = (
    "reporter", "advisor", "enforcer", "evictor", "gpushare", "scheduler", "planner", "gateway", "console", "virtual",
)  # fmt: skip

# -- streams ---------------------------------------------------------------------------------------------------------

WORKLOADS_STREAM: Final = Stream(
    "NEAP_WORKLOADS", (f"{ROOT}.workload.>",), Delivery.EVENTS, max_age=WEEK, max_bytes=4 * GIB
)
PRESSURE_STREAM: Final = Stream(
    "NEAP_PRESSURE", (f"{ROOT}.node.*.pressure",), Delivery.EVENTS, max_age=ONE_DAY, max_bytes=256 * MIB
)
TRAIL_STREAM: Final = Stream(
    "NEAP_TRAIL",
    (f"{ROOT}.trail.>",),
    Delivery.EVENTS,
    max_age=WEEK,
    max_bytes=4 * GIB,
    max_per_subject=10_000,
    dedupe_window=HOUR,  # a room that was restarted may tell again why a pod waits
)
LEDGER_STREAM: Final = Stream(
    "NEAP_LEDGER",
    (f"{ROOT}.ledger.*",),
    Delivery.LEDGER,
    max_age=0.0,
    max_bytes=4 * GIB,
    max_per_subject=LEDGER_LIMIT,
    dedupe_window=HOUR,
)
EVICTIONS_STREAM: Final = Stream(
    "NEAP_EVICTIONS", (f"{ROOT}.work.eviction.*",), Delivery.WORK, max_age=HOUR, max_bytes=64 * MIB
)
PREEMPTIONS_STREAM: Final = Stream(
    "NEAP_PREEMPTIONS", (f"{ROOT}.node.*.preemption",), Delivery.EVENTS, max_age=HOUR, max_bytes=64 * MIB
)
RESIZED_STREAM: Final = Stream(
    "NEAP_RESIZED", (f"{ROOT}.resized.>",), Delivery.EVENTS, max_age=WEEK, max_bytes=64 * MIB
)
RESIZES_STREAM: Final = Stream(
    "NEAP_RESIZES", (f"{ROOT}.work.resize.*",), Delivery.WORK, max_age=HOUR, max_bytes=64 * MIB
)
PAST_STREAM: Final = Stream("NEAP_PAST", (f"{ROOT}.work.past.*",), Delivery.WORK, max_age=ONE_DAY, max_bytes=4 * GIB)

# -- LATEST ----------------------------------------------------------------------------------------------------------

NODE_USAGE: Final[Latest[NodeUsage]] = Latest(
    f"{ROOT}.node.{{node}}.usage",
    NodeUsage,
    says=("reporter",),
    hears=("advisor", "evictor", "scheduler", "planner", "gateway", "console"),
    doc="What a node uses right now, once per report period.",
)
NODE_APPLIED: Final[Latest[Applied]] = Latest(
    f"{ROOT}.node.{{node}}.applied",
    Applied,
    says=("enforcer",),
    hears=("advisor", "console"),
    doc="Which knobs were written for which advice.",
)

# -- STATE -----------------------------------------------------------------------------------------------------------

TOPOLOGY: Final[State[NodeTopology]] = State(
    "{node}",
    NodeTopology,
    says=("reporter",),
    hears=("advisor", "evictor", "scheduler", "planner", "gpushare", "gateway", "console"),
    doc="What a machine is.",
    bucket="neap-topology",
)
NODES: Final[State[NodeObject]] = State(
    "{node}",
    NodeObject,
    says=("gateway", "console", "virtual"),
    hears=("scheduler", "planner", "advisor", "evictor", "gpushare", "gateway", "console"),
    doc="What the cluster says of a node: labels, taints, images, over-commitment.",
    bucket="neap-nodes",
)
PROFILES: Final[State[ServiceProfile]] = State(
    "{namespace}.{kind}.{name}",
    ServiceProfile,
    says=("planner", "gateway", "console"),
    hears=("scheduler", "advisor", "planner", "gateway", "console"),
    doc="What a service uses of every profiled kind, and when.",
    bucket="neap-profiles",
)
MACHINE_TYPES: Final[State[MachineTypes]] = State(
    "{cluster}", MachineTypes, says=("planner",), hears=("scheduler", "gateway", "console"), bucket="neap-machines",
    doc="The generations of machines and how fast they are; only ratios count.",
)  # fmt: skip
ADVICE: Final[State[NodeAdvice]] = State(
    "{node}",
    NodeAdvice,
    says=("advisor",),
    hears=("advisor", "enforcer", "evictor", "console"),
    doc="What a node should do next; expires.",
    bucket="neap-advice",
)
HEADROOM: Final[State[Headroom]] = State(
    "{node}",
    Headroom,
    says=("advisor",),
    hears=("advisor", "scheduler", "evictor", "gateway", "console"),
    doc="What a node can lend, with the arithmetic.",
    bucket="neap-headroom",
)
DEVICES: Final[State[DeviceState]] = State(
    "{node}",
    DeviceState,
    says=("gpushare",),
    hears=("scheduler", "enforcer", "console"),
    doc="GPU shares given and left, per card.",
    bucket="neap-devices",
)
ENFORCEMENT: Final[State[NodeEnforcement]] = State(
    "{node}",
    NodeEnforcement,
    says=("enforcer",),
    hears=("advisor", "scheduler", "gateway", "console"),
    doc="By which door advice reaches a node's kernel, what that kernel lacks, and whether advice is followed.",
    bucket="neap-enforcement",
)
POLICY: Final[State[PolicyDocument]] = State(
    "{room}.{name}",
    PolicyDocument,
    says=("console", "gateway"),
    hears=("advisor", "enforcer", "evictor", "scheduler", "gpushare", "reporter", "planner", "gateway", "console"),
    doc="Settings of one room that change while it runs: for whom, for how long, why, and what was said before.",
    bucket="neap-policy",
)
EVICTING: Final[State[Evicting]] = State(
    "{node}",
    Evicting,
    says=("evictor",),
    hears=("scheduler", "gateway", "console"),
    doc="Whether a node is closed to guests while its evictor makes room, and whether evictions are paused.",
    bucket="neap-evicting",
)
EVICTION_TOKENS: Final[State[Token]] = State(
    "{scope}.{name}.{slot}",
    Token,
    says=("evictor",),
    hears=("evictor", "console"),
    doc="Slots of the budgets that the evictors of all nodes share; one is taken before each eviction.",
    bucket="neap-tokens",
    ttl=HOUR,
)
MEMORY: Final[State[RoomMemory]] = State(
    "{room}.{node}",
    RoomMemory,
    says=("advisor", "evictor"),
    hears=("advisor", "evictor"),
    doc="What a room of a node keeps of itself, so that its next life goes on where this one ends.",
    bucket="neap-memory",
    max_bytes=GIB,
)
APART: Final[State[Apart]] = State(
    "{node}",
    Apart,
    says=("advisor",),
    hears=("advisor", "scheduler", "planner", "console"),
    doc="Which guests' services disturbed which owners' on a node: not to be placed together.",
    bucket="neap-apart",
    ttl=ONE_DAY,
)

HISTORY: Final[State[HistoryPage]] = State(
    "{page}",
    HistoryPage,
    says=("planner",),
    hears=("planner",),
    doc="What the planner saw, so that its next life goes on from there.",
    bucket="neap-history",
    max_bytes=4 * GIB,
)
FORECASTS: Final[State[Forecast]] = State(
    "{namespace}.{kind}.{name}.{resource}", Forecast, says=("planner",),
    hears=("advisor", "scheduler", "gateway", "console"), bucket="neap-forecasts",
    doc="What is expected of a service, a node, a pool or the cluster, with its report card.",
)  # fmt: skip
RECOMMENDATIONS: Final[State[Recommendation]] = State(
    "{namespace}.{kind}.{name}", Recommendation, says=("planner",),
    hears=("planner", "gateway", "console"), bucket="neap-recommendations",
    doc="What a service's containers should ask for, with the arithmetic.",
)  # fmt: skip
RATIOS: Final[State[NodeRatios]] = State(
    "{node}", NodeRatios, says=("planner",), hears=("planner", "scheduler", "gateway", "console"), bucket="neap-ratios",
    doc="How much more than it has a node may sell just now.",
)  # fmt: skip
TIDES: Final[State[TidePool]] = State(
    "{pool}", TidePool, says=("planner",),
    hears=("scheduler", "evictor", "planner", "gateway", "virtual", "console"), bucket="neap-tides",
    doc="Which nodes of a pool are for whom until when, and which of them are turning.",
)  # fmt: skip
SCALING: Final[State[ScalingPlan]] = State(
    "{namespace}.{kind}.{name}", ScalingPlan, says=("planner",),
    hears=("planner", "gateway", "console"), bucket="neap-scaling",
    doc="How many replicas a service should have, by what it uses and by what is coming.",
)  # fmt: skip
API_SHARES: Final[State[ApiShares]] = State(
    "{cluster}",
    ApiShares,
    says=("gateway",),
    hears=("gateway",),
    doc="Who may ask the API how much.",
    bucket="neap-shares",
)
DAY_REPORT: Final[State[DayReport]] = State(
    "{cluster}",
    DayReport,
    says=("virtual",),
    hears=("console", "virtual"),
    doc="What a replayed day on virtual nodes came to so far (simulated).",
    bucket="neap-day",
)

# -- EVENTS ----------------------------------------------------------------------------------------------------------

WORKLOAD: Final[Events[LifecycleEvent]] = Events(
    f"{ROOT}.workload.{{namespace}}.{{name}}",
    LifecycleEvent,
    says=("gateway", "console", "virtual", "scheduler"),
    hears=("scheduler", "gateway", "evictor", "planner", "console", "virtual"),
    doc="Submitted, started, ended.",
    stream=WORKLOADS_STREAM,
)
PRESSURE: Final[Events[Pressure]] = Events(
    f"{ROOT}.node.{{node}}.pressure",
    Pressure,
    says=("reporter",),
    hears=("evictor", "planner", "console"),
    doc="A resource of a node crossed a threshold, or came back.",
    stream=PRESSURE_STREAM,
)
PREEMPTIONS: Final[Events[Preemption]] = Events(
    f"{ROOT}.node.{{node}}.preemption",
    Preemption,
    says=("scheduler",),
    hears=("evictor", "console"),
    doc="An owner needs the place of these guests.",
    stream=PREEMPTIONS_STREAM,
)
RESIZED: Final[Events[Resized]] = Events(
    f"{ROOT}.resized.{{namespace}}.{{name}}",
    Resized,
    says=("gateway", "virtual"),
    hears=("planner", "console"),
    doc="What became of a change of size.",
    stream=RESIZED_STREAM,
)
TRAIL: Final[Events[TrailEntry]] = Events(
    f"{ROOT}.trail.{{namespace}}.{{name}}",
    TrailEntry,
    says=SERVICES,
    hears=("console",),
    doc="What was done about an object, when, why, with which numbers, by whom.",
    stream=TRAIL_STREAM,
)

# -- LEDGER, WORK ----------------------------------------------------------------------------------------------------

PLACEMENTS: Final[Ledger[LedgerEntry]] = Ledger(
    f"{ROOT}.ledger.{{node}}",
    LedgerEntry,
    says=("scheduler",),
    hears=("scheduler", "advisor", "gpushare", "gateway", "evictor", "planner", "virtual", "console"),
    doc="Who owns what on a node; the truth, and the only lock.",
    stream=LEDGER_STREAM,
    flaw=entry_flaw,
)
EVICTIONS: Final[Work[Eviction]] = Work(
    f"{ROOT}.work.eviction.{{node}}",
    Eviction,
    says=("evictor",),
    hears=("gateway", "virtual"),
    doc="End this guest's run.",
    stream=EVICTIONS_STREAM,
)
RESIZES: Final[Work[Resize]] = Work(
    f"{ROOT}.work.resize.{{namespace}}",
    Resize,
    says=("planner",),
    hears=("gateway", "virtual"),
    doc="These containers shall ask for that much.",
    stream=RESIZES_STREAM,
)
PAST: Final[Work[PastUsage]] = Work(
    f"{ROOT}.work.past.{{namespace}}",
    PastUsage,
    says=("console", "virtual"),
    hears=("planner",),
    doc="What was used before neap came: a line of somebody's record.",
    stream=PAST_STREAM,
)

# -- endpoints -------------------------------------------------------------------------------------------------------


EXPLAIN: Final[Endpoint[ExplainRequest, Explanation]] = Endpoint(
    f"{ROOT}.scheduler.explain", ExplainRequest, Explanation, serves="scheduler", asks=("console", "gateway"),
    doc="Why a workload is where it is, or nowhere.",
)  # fmt: skip
DRY_RUN: Final[Endpoint[DryRun, DryRunAnswer]] = Endpoint(
    f"{ROOT}.scheduler.dryrun",
    DryRun,
    DryRunAnswer,
    serves="scheduler",
    asks=("console", "gateway"),
    doc="Where workloads would go if they were submitted now; nothing is placed.",
    timeout=10.0,
)
WEIGH: Final[Endpoint[WeighRequest, Weighing]] = Endpoint(
    f"{ROOT}.scheduler.weigh", WeighRequest, Weighing, serves="scheduler", asks=("console", "gateway"),
    doc="Which nodes could take a workload, why not the others, and how well each suits it; nothing is placed.",
)  # fmt: skip
API: Final[Endpoint[ApiRequest, ApiState]] = Endpoint(
    f"{ROOT}.gateway.api", ApiRequest, ApiState, serves="gateway", asks=("console",),
    doc="How the Kubernetes API fares.",
)  # fmt: skip
PROFILE: Final[Endpoint[ProfileRequest, ProfileAnswer]] = Endpoint(
    f"{ROOT}.planner.profile", ProfileRequest, ProfileAnswer, serves="planner", asks=("console", "gateway"),
    doc="What is known of a service: its profile, and what its containers used.",
)  # fmt: skip
APPLY: Final[Endpoint[ApplyRequest, ApplyAnswer]] = Endpoint(
    f"{ROOT}.planner.apply", ApplyRequest, ApplyAnswer, serves="planner", asks=("console", "gateway"),
    doc="Apply what is recommended for a service, or take it back.",
)  # fmt: skip
REPORTS: Final[Endpoint[ReportsRequest, Reports]] = Endpoint(
    f"{ROOT}.reporter.{{node}}.reports", ReportsRequest, Reports, serves="reporter", asks=("advisor",),
    doc="The reports of the last minutes again, for who was not there to hear them.",
)  # fmt: skip

CHANNELS: Final[tuple[Channel[Any], ...]] = (
    NODE_USAGE, NODE_APPLIED, TOPOLOGY, NODES, PROFILES, ADVICE, HEADROOM, DEVICES, ENFORCEMENT, POLICY, DAY_REPORT,
    EVICTING, EVICTION_TOKENS, APART, MEMORY, API_SHARES, WORKLOAD, PRESSURE, PREEMPTIONS, TRAIL, PLACEMENTS, EVICTIONS,
    HISTORY, FORECASTS, RECOMMENDATIONS, RATIOS, TIDES, SCALING, RESIZED, RESIZES, PAST, MACHINE_TYPES,
)  # fmt: skip
STREAMS: Final = (
    WORKLOADS_STREAM, PRESSURE_STREAM, TRAIL_STREAM, LEDGER_STREAM, EVICTIONS_STREAM, PREEMPTIONS_STREAM,
    RESIZED_STREAM, RESIZES_STREAM, PAST_STREAM,
)  # fmt: skip
ENDPOINTS: Final[tuple[Endpoint[Any, Any], ...]] = (EXPLAIN, DRY_RUN, WEIGH, API, PROFILE, APPLY, REPORTS)
RETRY_WINDOW: Final = 2 * MINUTE  # a publisher retries an unacknowledged message this long, under one id
