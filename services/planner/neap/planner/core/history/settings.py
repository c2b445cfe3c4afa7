"""Settings of the history."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import DAY, HOUR, MINUTE, Ratio, Seconds


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of what was used. How many of each: memory for them is taken only as they come."""

    spacing: Annotated[Seconds, Meta(gt=0, le=300)] = MINUTE  # of a node's reports one per so long is folded
    half_life: Annotated[Seconds, Meta(ge=HOUR)] = DAY  # after which a sample in a histogram counts half
    startup: Annotated[Seconds, Meta(ge=0)] = 5 * MINUTE  # of a pod; its use then is kept apart
    least: Annotated[int, Meta(ge=1)] = 5  # samples, or the hour is absent
    silent: Annotated[Ratio, Meta(ge=0, le=1)] = 0.1  # share of replicas on silent nodes above which a total is absent
    skew: Annotated[Seconds, Meta(ge=0)] = 2 * MINUTE  # a report's time may be ahead of ours
    forget_after: Annotated[Seconds, Meta(ge=DAY)] = 14 * DAY  # unseen so long, its place is given to another
    most_containers: Annotated[int, Meta(ge=1, le=1_000_000)] = 150_000  # of services, replicas counted once
    most_services: Annotated[int, Meta(ge=1, le=1_000_000)] = 120_000
    most_nodes: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    most_tracked: Annotated[int, Meta(ge=0, le=100_000)] = 2_000  # services with weeks of totals
    tick: Annotated[Seconds, Meta(gt=0)] = 2.0  # between two looks at what is to be written
    write_every: Annotated[Seconds, Meta(gt=0)] = 10 * MINUTE  # a page that changed, at most so often
