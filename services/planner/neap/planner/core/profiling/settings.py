"""Settings of the profiles desk."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.errors import SettingsError
from neap.common.model.profile import KINDS, MOST_TYPES, MachineType, ProfiledKind
from neap.common.model.usage import ContainerUsage
from neap.common.units import DAY, Ratio, Seconds
from neap.planner.core.profiling.measured import Rule

Share = Annotated[Ratio, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
PER_SERVICE: Final = ("baseline", "days", "quantile", "samples", "spread", "windows")


class ProfilingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How services are measured, and how often they are told."""

    machines: dict[str, dict[str, float]] = {}  # speed by resource kind of machine types; only ratios count
    kinds: dict[str, ProfiledKind] = {}  # beside the built-in ones, measured by fields of a container's report
    period: Annotated[Seconds, Meta(gt=0)] = 1.0  # between two looks
    most: Count = 30  # services looked at in one of them, so that nobody waits for long; 100,000 take 55 minutes
    again: Annotated[Seconds, Meta(gt=0)] = 300.0  # between the starts of two rounds through all services, at least

    samples: Count = 12  # of a service in an hour; fewer are no window
    late: Annotated[Seconds, Meta(ge=0, le=3600)] = 900.0  # an hour takes samples for so long after its end
    skew: Annotated[Seconds, Meta(ge=0)] = 300.0  # reports from further in the future are left out
    spread: Share = 0.25  # of pods, standard deviation over mean; beyond, their 90th percentile counts
    days: Annotated[int, Meta(ge=1, le=28)] = 7  # looked back on, for windows and for portraits
    windows: Annotated[int, Meta(ge=1, le=24)] = 3  # of each kind and machine type that are told: the busiest hours
    quantile: Share = 0.9  # over days, of each hour of a portrait
    baseline: Annotated[int, Meta(ge=0, le=100)] = 0  # percent of a service's pods, the oldest, that stay as they are

    peer_quantile: Share = 0.5  # over the services of a class: what a service is taken to use that was never measured
    peers: Count = 5  # services of a class, at least; fewer say nothing about the others

    change: Share = 0.1  # an amount that moved by more is told at once
    refresh: Annotated[Seconds, Meta(gt=0)] = DAY  # lesser changes are told this often
    forget: Annotated[Seconds, Meta(gt=0)] = 14 * DAY  # after a service's last sample, if it has no pods

    def __post_init__(self) -> None:
        if len(self.machines) > MOST_TYPES:
            raise SettingsError(f"machines: {len(self.machines)} types (allowed: {MOST_TYPES})")
        for name, speeds in self.machines.items():
            if not name or any(not 0 < speed < float("inf") for speed in speeds.values()):
                raise SettingsError(f"machines: {name!r} = {speeds}: needs a name, and speeds above 0")
        for kind in self.kinds.values():
            unknown = sorted({*kind.measured} - {*ContainerUsage.__struct_fields__})
            if unknown:
                raise SettingsError(f"kinds: {kind.name} is measured by {', '.join(unknown)}: no report has that")

    @property
    def all_kinds(self) -> dict[str, ProfiledKind]:
        """By name."""
        return {**KINDS, **{kind.name: kind for kind in self.kinds.values()}}

    @property
    def types(self) -> tuple[MachineType, ...]:
        """The table, by name."""
        return tuple(MachineType(name=name, speeds=dict(speeds)) for name, speeds in sorted(self.machines.items()))

    @property
    def rule(self) -> Rule:
        """How samples become windows."""
        return Rule(self.samples, self.late, self.skew, self.spread, self.days, self.windows)
