"""Settings of intelligent scaling. Nearly all of them may differ for one service, by policy."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.errors import SettingsError
from neap.common.model.scaling import ScaleMode
from neap.common.runtime.setting import Duration
from neap.common.units import DAY, MINUTE, Cores, Ratio, Seconds
from neap.foresight.cron import parse_bounds

Share = Annotated[Ratio, Meta(gt=0, le=1)]
Replicas = Annotated[int, Meta(ge=0, le=1_000_000)]
Span = Annotated[Seconds, Meta(gt=0)]
PER_SERVICE: Final = (
    "bounds", "credit", "down", "full", "hold", "lead", "least", "mode", "most", "pods_up", "start", "target", "target_cores",
    "tolerance", "up", "zone",
)  # fmt: skip


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How replicas are counted, and what is done about it."""

    mode: ScaleMode = ScaleMode.PREVIEW  # preview: computed and shown; auto: the gateway acts on it
    least: Replicas = 1
    most: Replicas = 100
    bounds: Annotated[tuple[str, ...], Meta(max_length=64)] = ()  # "0 23 * * * min 4", "07:30 min 10 Europe/Berlin"
    zone: str = "UTC"  # of bounds that name none
    target: Share = 0.7  # of its CPU request that a replica should use
    target_cores: Annotated[Cores, Meta(ge=0)] = 0.0  # the same in cores; 0: by the request
    full: Annotated[Ratio, Meta(gt=0, le=10)] = 1.0  # of its request a replica can use before it is short
    tolerance: Annotated[Ratio, Meta(ge=0, lt=1)] = 0.1  # within which nothing changes
    hold: Duration = 300.0  # the highest wish of so long holds, as the autoscaler's; shorter where that proved as good
    up: Annotated[Ratio, Meta(gt=0, le=100)] = 1.0  # of the replicas there are, more in one step
    pods_up: Annotated[int, Meta(ge=1, le=10_000)] = 4  # or so many
    down: Share = 1.0  # of the replicas there are, less in one step
    lead: Duration = 0.0  # looked ahead; 0: what a start takes, as measured, and a period
    start: Duration = 60.0  # until a replica is ready, while fewer than three starts were measured

    allowance: Annotated[Ratio, Meta(ge=0, le=1)] = 0.04  # more replica-hours than the autoscaler's own rule, at most
    credit: Duration = (
        0.0  # so much more than the autoscaler it may go short lately; a start and a period: it can save at once
    )
    memory: Span = 3 * DAY  # half-life of what each manner of scaling came to, and of both accounts
    period: Span = 15.0  # between two looks
    services: Annotated[int, Meta(ge=0, le=10_000)] = 500  # looked at; those of auto first
    renew: Span = 5 * MINUTE  # what did not change is told again
    stale: Span = 90.0  # a replica not heard of for longer counts as not ready


def check(settings: Scaling) -> None:
    """What bounds of single values do not say.

    Raises:
        SettingsError: names key and value.
        InputError: a bound does not hold; names the part.
    """
    if settings.least > settings.most:
        raise SettingsError(f"scaling.least {settings.least} is above scaling.most {settings.most}")
    parse_bounds(settings.bounds, settings.zone)
