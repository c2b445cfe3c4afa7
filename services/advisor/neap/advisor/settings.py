"""Settings of the advisor. Everything except `node` and `period` can be tuned live through the policy bucket."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.errors import InputError
from neap.common.units import Cores, Ratio, Seconds

Share: TypeAlias = Annotated[Ratio, Meta(ge=0, le=1)]
Rounds: TypeAlias = Annotated[int, Meta(ge=1, le=3600)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node's advisor is told. A period is the time between two usage reports."""

    node: str = ""  # the node advised; empty: this host's name
    period: Annotated[Seconds, Meta(gt=0)] = 1.0  # between two usage reports of the node

    provision: str = "provision_canonical"  # plugin that says how many CPUs the owners of a pool need
    headroom: str = "headroom_canonical"  # plugin that says what is left to lend
    memory: tuple[str, ...] = ("memory_guard", "memory_protection", "memory_reaper")  # plugins that advise memory
    tune: dict[str, float] = {}  # settings of plugins, such as "provision_canonical.margin" = 0.5

    peak_reports: Rounds = 10  # the recent peak of a pod is remembered over so many reports, and over
    peak_seconds: Annotated[Seconds, Meta(ge=0, le=3600)] = 60.0  # so much time, whichever is longer
    smoothing: Annotated[Ratio, Meta(gt=0, le=1)] = 0.3  # weight of the newest report in the smoothed usage
    settle: Rounds = 5  # reports after which a pod's usage is believed; before, its request counts as well
    stale_after: Rounds = 10  # periods without a usable report after which the node is advised by requests

    pool_minimum: Rounds = 1  # CPUs of a shared pool, rounded up to whole cores where possible
    reclaimed_minimum: Rounds = 2  # CPUs of the reclaimed pool; on a full node they overlap a shared pool
    whole_cores: bool = True  # round shared pools up to whole physical cores, so that guests share none with owners
    calm_rounds: Rounds = 3  # reports a shared pool must have needed less before it shrinks
    grow_step: Annotated[Ratio, Meta(gt=0, le=1)] = 0.10  # of the node: growth of reclaimed pool and offer per report
    dead_band: Share = 0.01  # of the node: a shared pool that needs less by no more than this is left alone

    idle: bool = True  # guests run only when nobody else wants the CPU (cpu.idle); else with the least weight
    guest_weight: Annotated[Ratio, Meta(gt=0, le=1)] = 0.1  # cpu.weight of a guest relative to an owner's of its size
    starved_quota: Annotated[Cores, Meta(gt=0)] = 0.05  # each guest's cap when not one CPU is left for guests
    memory_tolerance: Annotated[Ratio, Meta(ge=1, le=10)] = 1.2  # memory.max of a guest relative to its request
    memory_growth: Annotated[Ratio, Meta(ge=1, le=10)] = 1.1  # owners' working set is taken times this

    ttl: Annotated[int, Meta(ge=2, le=3600)] = 30  # periods an advice is valid; renewed at half of it
    refresh: Rounds = 60  # periods after which unchanged headroom is said again
    publish_change: Share = 0.05  # relative change of an offer that is worth publishing
    squeeze: Annotated[Ratio, Meta(gt=0, le=1)] = 0.25  # loss of pool CPUs since last told that a guest is told of
    squeeze_every: Rounds = 10  # periods between two such lines about one guest

    @property
    def peak_window(self) -> int:
        """Reports over which the recent peak of a pod is remembered."""
        return max(self.peak_reports, math.ceil(self.peak_seconds / self.period))


FIXED: Final = frozenset({"node", "period"})  # the table of the service was made with them


def tuned(default: Settings, layers: Iterable[Mapping[str, Any]]) -> Settings:
    """The defaults with live policy on top, the last layer strongest.

    Raises:
        InputError: an unknown key, a value out of bounds, or one of `FIXED`.
    """
    merged: dict[str, Any] = msgspec.to_builtins(default)
    for layer in layers:
        if fixed := sorted(FIXED & layer.keys()):
            raise InputError(f"{', '.join(fixed)}: cannot be tuned live")
        merged |= layer
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from None
