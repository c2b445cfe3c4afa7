"""Settings of the scheduler."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import Seconds
from neap.scheduler.core.appends import AppendSettings
from neap.scheduler.core.book import Backoff
from neap.scheduler.core.estimate import Guess
from neap.scheduler.core.load import Staleness

Count = Annotated[int, Meta(ge=1)]


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

    order: tuple[str, ...] = (
        "node_selector",
        "fit",
        "gpu_share",
        "load_aware",
        "allocation",
    )  # plugins in use; the first that rejects a node is named as the reason
    weights: dict[str, float] = {}  # of a plugin's score; 1 for plugins not named
    tune: dict[str, float | str] = {}  # settings of plugins, such as "allocation.guests" = "pack"
    quantum: Annotated[float, Meta(gt=0)] = (
        1e-6  # totals nearer than this are ties; a fixed order of nodes decides them
    )
    worth_waiting: Annotated[float, Meta(ge=0)] = 20.0  # points by which a node whose ledger is busy must be better
    shapes: Count = 256  # shapes of pods whose evaluation is kept

    append: AppendSettings = AppendSettings()  # writing of ledgers
    backoff: Backoff = Backoff()  # of evicted and refused workloads
    stale: Staleness = Staleness()  # when input is too old
    guess: Guess = Guess()  # expected use of a pod before it was measured
