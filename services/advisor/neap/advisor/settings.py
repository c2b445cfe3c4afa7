"""Settings of the advisor. Everything but `FIXED` can be tuned live through the policy bucket."""

from __future__ import annotations

import math
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.advisor.core.interference import Interference
from neap.common.units import Cores, Ratio, Seconds

Share: TypeAlias = Annotated[Ratio, Meta(ge=0, le=1)]
Rounds: TypeAlias = Annotated[int, Meta(ge=1, le=3600)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node's advisor is told. A period is the time between two usage reports."""

    node: str = ""  # the node advised; empty: this host's name
    period: Annotated[Seconds, Meta(gt=0)] = 1.0  # between two usage reports of the node

    provision: str = "provision_canonical"  # plugin that says how many CPUs the owners of a pool need
    headroom: str = "headroom_canonical"  # plugin that says what is left to lend
    alone: str = "headroom_exclusive"  # plugin that says what the owner of NUMA nodes it has alone leaves over
    memory: tuple[str, ...] = ("memory_guard", "memory_protection", "memory_reaper")  # plugins that advise memory
    tune: dict[str, float] = {}  # settings of plugins, such as "provision_canonical.margin" = 0.5

    pod_margin: Annotated[Ratio, Meta(ge=0, le=10)] = 0.0  # on top of what a pod is seen using; also for one service
    peak_reports: Rounds = 10  # the recent peak of a pod is remembered over so many reports, and over
    peak_seconds: Annotated[Seconds, Meta(ge=0, le=3600)] = 60.0  # so much time, whichever is longer
    smoothing: Annotated[Ratio, Meta(gt=0, le=1)] = 0.3  # weight of the newest report in the smoothed usage
    settle: Rounds = 5  # reports after which a pod's usage is believed; before, its request counts as well
    stale_after: Rounds = 10  # periods without a usable report after which the node is advised by requests

    pool_minimum: Rounds = 1  # CPUs of a shared pool, rounded up to whole cores where possible
    reclaimed_minimum: Rounds = 2  # CPUs of the reclaimed pool; on a full node they overlap a shared pool
    whole_cores: bool = True  # round shared pools up to whole physical cores, so that guests share none with owners
    calm_rounds: Rounds = 3  # reports a shared pool must have needed less before it shrinks
    grow_step: Annotated[Ratio, Meta(gt=0, le=1)] = 0.10  # of the node: growth of the reclaimed pool per report
    dead_band: Share = 0.01  # of the node: a shared pool that needs less by no more than this is left alone

    lend: bool = True  # False: nothing is offered, guests keep the least, owners get all other CPUs
    lend_alone: bool = False  # guests run behind owners that have NUMA nodes alone; also for one service
    overlap: bool = False  # guests run on CPUs that owners want less, behind them, and have none of their own
    offer_rise: Annotated[Ratio, Meta(gt=0, le=1)] = 0.0075  # of the node a minute: growth of an offer
    offer_drop: Annotated[Ratio, Meta(gt=0, le=1)] = 0.0075  # of the node a minute: fall of an offer without emergency
    offer_full: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of the CPUs of an owners' pool in use: an emergency
    offer_stall: Annotated[Ratio, Meta(gt=0, le=1)] = 0.10  # of the time an owner waits for a resource: an emergency
    offer_short: Share = 0.10  # of the memory available: with less it is an emergency
    foresight: Annotated[Seconds, Meta(ge=0, le=86400)] = 3600.0  # ahead in the owners' profiles (headroom_profile)
    believe: Annotated[Seconds, Meta(ge=0, le=86400)] = 600.0  # for which a profile must have been right (of CPU)
    survival_window: Annotated[Seconds, Meta(gt=0, le=604800)] = 86400.0  # of past offers that survival is read from
    survival_fraction: Annotated[Ratio, Meta(gt=0, le=1)] = 0.8  # of an offer: below it guests leave (evictor: 1.25)
    survival_confidence: Annotated[Ratio, Meta(gt=0, lt=1)] = 0.9  # share of guests that live at least that long
    promise_horizon: Annotated[Seconds, Meta(gt=0, le=86400)] = 600.0  # for which a part of an offer is promised
    promise_confidence: Annotated[Ratio, Meta(gt=0, lt=1)] = 0.99  # share of promises that are kept
    promise_margin: Annotated[Ratio, Meta(ge=0, le=10)] = 0.10  # on owners' use: what of their margin no promise spends

    isolate: bool = False  # an owner that is too loud for its neighbours gets a pool of its own
    isolate_ratio: Annotated[Ratio, Meta(ge=1, le=100)] = 1.5  # cores in use and waited for, over what it may use
    isolate_surplus: Annotated[Cores, Meta(ge=0, le=1024)] = 2.0  # the same as a difference; either is too loud
    isolate_after: Rounds = 3  # loud reports on end until it is isolated
    isolate_until: Rounds = 24  # calm reports on end until it shares again
    isolate_room: Share = 0.2  # of what all owners of a pool may use: the most that is isolated from it
    isolate_pods: Share = 0.5  # of the owners of a pool: the most that are isolated from it; one always stays
    isolate_never: tuple[str, ...] = ()  # pools nobody is isolated from

    idle: bool = True  # guests run only when nobody else wants the CPU (cpu.idle); else with the least weight
    guest_weight: Annotated[Ratio, Meta(gt=0, le=1)] = 0.1  # cpu.weight of a guest relative to an owner's of its size
    starved_quota: Annotated[Cores, Meta(gt=0)] = 0.05  # each guest's cap when not one CPU is left for guests
    memory_tolerance: Annotated[Ratio, Meta(ge=1, le=10)] = 1.2  # memory.max of a guest relative to its request
    memory_growth: Annotated[Ratio, Meta(ge=1, le=10)] = 1.1  # owners' working set is taken times this

    interference: Interference = Interference()  # guests that disturb an owner

    ttl: Annotated[int, Meta(ge=2, le=3600)] = 30  # periods an advice is valid; renewed at half of it
    refresh: Rounds = 60  # periods after which unchanged headroom is said again
    publish_change: Share = 0.01  # relative change of an offer that is worth publishing
    squeeze: Annotated[Ratio, Meta(gt=0, le=1)] = 0.25  # loss of pool CPUs since last told that a guest is told of
    squeeze_every: Rounds = 10  # periods between two such lines about one guest

    keep_every: Rounds = 10  # periods after which what it remembers is written for its next life
    keep_patience: Annotated[int, Meta(ge=1, le=86400)] = 600  # periods after which what it remembered is too old

    @property
    def peak_window(self) -> int:
        """Reports over which the recent peak of a pod is remembered."""
        return max(self.peak_reports, math.ceil(self.peak_seconds / self.period))

    @property
    def believe_reports(self) -> int:
        """Reports on end in which a profile was right before it counts."""
        return max(self.peak_reports, math.ceil(self.believe / self.period))


FIXED: Final = frozenset(
    {"node", "period", "keep_every", "keep_patience"}
)  # the table of the service was made with them
PER_SERVICE: Final = frozenset({"lend_alone", "pod_margin"})  # may differ for the pods of one service
