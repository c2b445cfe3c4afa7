"""Settings of the evictor. A rule's own are declared in its file; a group here makes them settable."""

from __future__ import annotations

from typing import Annotated

import msgspec

from neap.common.model.protection import PROTECTED_LABELS, PROTECTED_OWNERS
from neap.common.units import DAY, Seconds
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.plugins.cpu_load import Settings as CpuLoad
from neap.evictor.plugins.cpu_suppression import Settings as CpuSuppression
from neap.evictor.plugins.cpu_usage import Settings as CpuUsage
from neap.evictor.plugins.disk_pressure import Settings as DiskPressure
from neap.evictor.plugins.interference import Settings as InterferenceRule
from neap.evictor.plugins.memory_bandwidth import Settings as MemoryBandwidth
from neap.evictor.plugins.memory_overuse import Settings as MemoryOveruse
from neap.evictor.plugins.memory_pressure import Settings as MemoryPressure
from neap.evictor.plugins.network_pressure import Settings as NetworkPressure
from neap.evictor.plugins.numa_memory import Settings as NumaMemory
from neap.evictor.plugins.reclaimed_overuse import Settings as ReclaimedOveruse
from neap.evictor.plugins.rootfs_pressure import Settings as RootfsPressure
from neap.evictor.plugins.tide_return import Settings as TideReturn


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every rule, then the rules. Reports come once per report period."""

    node: str = ""  # whose guests are watched
    grace: Annotated[Seconds, msgspec.Meta(ge=0, le=DAY)] = 30.0  # between TERM and KILL of an evicted guest
    confirm_after: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5  # reports after the grace until it is asked again
    most: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2  # evictions per window, at most
    window: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 10  # reports that are one window
    shared: SharedBudgets = SharedBudgets()  # what all nodes together may evict
    reopen: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5  # reports after the last pressure until guests may come
    pause_until: Annotated[Seconds, msgspec.Meta(ge=0)] = 0.0  # clock; before it nobody is evicted, not even for memory
    pause_reason: Annotated[str, msgspec.Meta(max_length=256)] = ""  # said in the log and beside the node's state
    stale_after: Annotated[int, msgspec.Meta(ge=1)] = 5  # periods after which a report is too old to act on
    offer_stale_after: Annotated[int, msgspec.Meta(ge=1)] = 150  # periods; unchanged headroom is said again every 60
    protected_labels: tuple[str, ...] = PROTECTED_LABELS  # labels or annotations that protect
    protected_owners: tuple[str, ...] = PROTECTED_OWNERS  # kinds of owner whose pods never leave
    protected: bool = False  # nobody ever leaves; of one service, by policy: its pods never do
    request_patience: Annotated[Seconds, msgspec.Meta(ge=0, le=DAY)] = 90.0  # an older request is forgotten
    keep_every: Annotated[Seconds, msgspec.Meta(gt=0)] = 10.0  # between two writes of what the next life must know
    keep_patience: Annotated[Seconds, msgspec.Meta(gt=0)] = DAY  # what an earlier life knew is too old then
    order: tuple[str, ...] = (
        "memory_pressure",
        "numa_memory",
        "memory_overuse",
        "reclaimed_overuse",
    )  # rules first asked; then others
    off: tuple[str, ...] = ()  # rules not asked at all
    reclaimed_overuse: ReclaimedOveruse = ReclaimedOveruse()
    memory_pressure: MemoryPressure = MemoryPressure()
    memory_overuse: MemoryOveruse = MemoryOveruse()
    cpu_suppression: CpuSuppression = CpuSuppression()
    numa_memory: NumaMemory = NumaMemory()
    cpu_load: CpuLoad = CpuLoad()
    cpu_usage: CpuUsage = CpuUsage()
    memory_bandwidth: MemoryBandwidth = MemoryBandwidth()
    disk_pressure: DiskPressure = DiskPressure()
    network_pressure: NetworkPressure = NetworkPressure()
    rootfs_pressure: RootfsPressure = RootfsPressure()
    interference: InterferenceRule = InterferenceRule()
    tide_return: TideReturn = TideReturn()
