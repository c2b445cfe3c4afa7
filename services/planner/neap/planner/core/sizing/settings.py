"""Settings of the sizing desk. Nearly all of them may differ for one service, by policy."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from neap.common.errors import SettingsError
from neap.common.model.recommendation import ResizeHow
from neap.common.model.resource import LARGEST
from neap.common.units import DAY, HOUR, MIB, MINUTE, Ratio, Seconds

Share = Annotated[Ratio, Meta(gt=0, le=1)]
Margin = Annotated[Ratio, Meta(ge=0, le=10)]
Amount = Annotated[int, Meta(ge=0, le=LARGEST)]
Times = Annotated[float, Meta(ge=0, le=100)]
Span = Annotated[Seconds, Meta(gt=0)]
PER_SERVICE: Final = (
    "change", "cool_down", "cpu_limit", "cpu_margin", "cpu_max", "cpu_min", "cpu_percentile", "cpu_rule", "guard",
    "guard_oom_kills", "guard_stalled", "guard_starved", "guard_throttled", "how", "least_confidence", "memory_limit",
    "memory_margin", "memory_max", "memory_min", "memory_percentile", "memory_rule", "mode",
)  # fmt: skip


class SizingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How containers are sized, and what is done about it."""

    mode: Literal["off", "recommend", "apply"] = "recommend"  # apply: without being asked, see least_confidence
    cpu_rule: str = "snug"  # see neap.foresight.sizes
    cpu_percentile: Share = 0.9  # for rules that have one
    cpu_margin: Margin = 0.15
    cpu_min: Amount = 10  # milli-cores
    cpu_max: Amount = 0  # milli-cores; 0: no bound
    cpu_limit: Times = 0.0  # limit as times the request; 0: limits stay as they are
    memory_rule: str = "highest"
    memory_percentile: Share = 0.95
    memory_margin: Margin = 0.15
    memory_min: Amount = 16 * MIB  # bytes
    memory_max: Amount = 0  # bytes; 0: no bound
    memory_limit: Times = 0.0  # limit as times the request; 0: limits stay as they are

    change: Share = 0.1  # a target is told anew if it moved by more, and applied if it differs by more
    how: ResizeHow = ResizeHow.BEST
    least_confidence: Annotated[Ratio, Meta(ge=0, le=1)] = 0.75  # three days; below, nothing is applied unasked
    cool_down: Span = DAY  # between two changes of one service; doubles with every rollback in a row
    patience: Span = HOUR  # a change that nobody took up is given up
    guard: Span = 15 * MINUTE  # compared with as long before, after a change
    guard_oom_kills: Annotated[int, Meta(ge=1)] = 1  # more than before: the change is taken back
    guard_throttled: Share = 0.05  # share of time throttled, more than before
    guard_stalled: Share = 0.1  # share of time some task waited for a CPU, more than before
    guard_starved: Share = 0.05  # the same for memory

    period: Span = 1.0  # between two looks
    every: Span = HOUR  # a service is sized
    most: Annotated[int, Meta(ge=1, le=100_000)] = 2000  # services sized in one look; as few as are enough
    refresh: Span = DAY  # what did not change is told again
    forget: Span = 14 * DAY  # a service without pods

    def __post_init__(self) -> None:
        for name, least, most in (("cpu", self.cpu_min, self.cpu_max), ("memory", self.memory_min, self.memory_max)):
            if most and least > most:
                raise SettingsError(f"{name}_min = {least} is above {name}_max = {most}")
