"""Settings of the enforcer."""

from __future__ import annotations

from typing import Annotated

import msgspec

from neap.common.units import MIB, Bytes, Ratio, Seconds
from neap.enforcer.nri.settings import NriSettings


class Offloading(msgspec.Struct, frozen=True, kw_only=True):
    """How gently memory is taken from a cgroup that advice wants smaller (core/offload.py)."""

    ratio: Annotated[Ratio, msgspec.Meta(gt=0, le=1)] = 0.05  # of what it holds, taken in one period while it is calm
    stall: Annotated[Ratio, msgspec.Meta(gt=0, le=1)] = 0.05  # share of time (PSI some avg10) at which nothing is taken
    returned: Annotated[Ratio, msgspec.Meta(gt=0, le=1)] = 0.1  # share of what was taken that comes back: as well
    largest_step: Annotated[Bytes, msgspec.Meta(ge=MIB)] = 64 * MIB  # of one cgroup in one period; the write waits
    most_at_once: Annotated[Bytes, msgspec.Meta(ge=MIB)] = 256 * MIB  # of the whole node in one period


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How often the host is looked at, and when it is given back."""

    node: str = ""  # whose advice is followed; empty only where no node is meant
    period: Annotated[Seconds, msgspec.Meta(gt=0)] = 1.0  # between two looks at the clock
    reconcile_every: Annotated[int, msgspec.Meta(ge=1)] = 1  # ticks between two readings of the knobs written
    tasks_every: Annotated[int, msgspec.Meta(ge=1)] = 10  # ticks between two looks at all tasks; a watch tells who came
    repeat_every: Annotated[int, msgspec.Meta(ge=1)] = 10  # ticks between two sayings that nothing has changed
    probe_every: Annotated[int, msgspec.Meta(ge=1)] = 60  # ticks between two looks at what the kernel offers
    grace: Annotated[Seconds, msgspec.Meta(ge=0)] = 10.0  # from the end of the last advice to giving the node back
    journal_dir: str = ""  # folder of the restore journal; empty: in memory, lost with the process
    cgroup_roots: tuple[str, ...] = (
        "/sys/fs/cgroup/kubepods.slice",
        "/sys/fs/cgroup/kubepods",
    )  # where pods live; the first that exists is used
    exclusive_pools: tuple[str, ...] = ("dedicated",)  # pools (or prefixes of their names) that share no CPU
    shrink_told: Annotated[Ratio, msgspec.Meta(gt=0, le=1)] = 0.25  # a pod's trail tells the loss of such a share
    backoff_limit: Annotated[int, msgspec.Meta(ge=1)] = 64  # periods, at most, until a refused knob is tried again
    offload: Offloading = Offloading()
    nri: NriSettings = NriSettings()  # the container runtime's door; without a socket it is not tried
