"""Settings of the scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.model.profile import ProfiledKind
from neap.common.units import Seconds
from neap.scheduler.core.choice.gang import GangSettings
from neap.scheduler.core.choice.preemption import PreemptionSettings
from neap.scheduler.core.flow.appends import AppendSettings
from neap.scheduler.core.flow.book import Backoff
from neap.scheduler.core.nodes.load import Staleness
from neap.scheduler.core.pods.estimate import Guess

Count = Annotated[int, Meta(ge=1)]
Weight = Annotated[float, Meta(ge=0, le=100)]


class Scoring(NamedTuple):
    """What a profile stands for: plugins that score by what is requested, their weights, and how they are tuned."""

    weights: Mapping[str, float]
    tune: Mapping[str, float | str]

    def __str__(self) -> str:
        told = [f"{name} {weight:g}" for name, weight in self.weights.items()]
        return " + ".join(told) + "".join(f", {key}={value}" for key, value in self.tune.items())


# Weights of spread, pack and custom are those of Katalyst's published profiles; `even` weighs requests like the load.
PROFILES: Final[Mapping[str, Scoring]] = {
    "even": Scoring({"allocation": 1}, {}),
    "spread": Scoring({"allocation": 4, "balanced_allocation": 1}, {}),
    "pack": Scoring(
        {"allocation": 15, "balanced_allocation": 1}, {"allocation.owners": "pack", "allocation.guests": "pack"}
    ),
    "custom": Scoring({"requested_to_capacity": 15}, {}),
}
# 1 for others; who was disturbed outweighs everything, devices near each other and cards not stranded outweigh filling, the rest is as in kube-scheduler.
WEIGHTS: Final[Mapping[str, float]] = {
    "apart": 10.0,
    "device_affinity": 5.0,
    "fgd": 5.0,
    "taints": 3.0,
    "node_affinity": 2.0,
    "topology_spread": 2.0,
    "pod_affinity": 2.0,
}
SCORERS: Final = tuple(sorted({name for scoring in PROFILES.values() for name in scoring.weights}))
Profile = Annotated[
    Literal["even", "spread", "pack", "custom"],
    Meta(
        description="how nodes are scored by what is requested, beside the plugins of order; "
        + "; ".join(f"{name}: {scoring}" for name, scoring in PROFILES.items())
        + f". weights and tune win over it; an order that names one of {', '.join(SCORERS)} replaces it"
    ),
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scheduler; several share one ledger, each with its own part of the workloads."""

    shard: Annotated[int, Meta(ge=0)] = 0  # which part of the workloads is this scheduler's, counted from 0
    shards: Count = 1  # parts of the workloads; by a stable hash of the uid

    cycle: Annotated[Seconds, Meta(gt=0)] = 0.2  # between two looks at what changed; new workloads do not wait for it
    batch: Count = 256  # decisions in one go
    queue_limit: Count = 20_000  # workloads that wait, at most; beyond, the newest of the lowest priority are refused
    flush: Annotated[Seconds, Meta(gt=0)] = (
        300.0  # every waiting workload is tried again this often, whatever it waits for
    )
    remember: Count = 100_000  # ended workloads remembered, so that late events about them change nothing

    profile: Profile = "even"
    order: tuple[str, ...] = (
        "taints",
        "evicting",
        "tide",
        "node_selector",
        "node_affinity",
        "fit",
        "topology_spread",
        "pod_affinity",
        "device_affinity",
        "fgd",
        "gpu_share",
        "numa",
        "profile_rating",
        "overcommit",
        "load_aware",
        "apart",
        "dataset_locality",
        "image_locality",
    )  # plugins in use beside the profile's; the first that rejects a node is named as the reason
    weights: dict[str, Weight] = {}  # of a plugin's score; else the profile's, else that of WEIGHTS, else 1
    tune: dict[str, float | str] = {}  # settings of plugins, such as "allocation.guests" = "pack"
    quantum: Annotated[float, Meta(gt=0)] = (
        1e-6  # totals nearer than this are ties; a fixed order of nodes decides them
    )
    worth_waiting: Annotated[float, Meta(ge=0)] = 20.0  # points by which a node whose ledger is busy must be better
    shapes: Count = 256  # shapes of pods whose evaluation is kept

    profiles: Count = 100_000  # profiles of services that are kept
    kinds: dict[str, ProfiledKind] = {}  # resource kinds that profiles know, beside the built-in ones
    machines: dict[
        str, dict[str, float]
    ] = {}  # speed by resource kind of machine types, until the planner tells its table

    append: AppendSettings = AppendSettings()  # writing of ledgers
    gang: GangSettings = GangSettings()  # pods that start together or not at all
    preemption: PreemptionSettings = PreemptionSettings()  # guests that leave for somebody who fits nowhere
    confirm: Annotated[Seconds, Meta(ge=0)] = (
        3600.0  # a placement nobody started by then is given back; images take their time; 0: never
    )
    backoff: Backoff = Backoff()  # of evicted and refused workloads
    stale: Staleness = Staleness()  # when input is too old
    guess: Guess = Guess()  # expected use of a pod before it was measured
