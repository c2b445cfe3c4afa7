"""What a node should do next, and what it can lend. Advice expires, and expiry is safe."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from neap.common.model.trail import ObjectRef


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """Kernel settings of one cgroup; None leaves the knob as it is."""

    cpus: str | None = None  # cpuset.cpus
    mems: str | None = None  # cpuset.mems
    cpu_weight: int | None = None  # 1..10000
    cpu_max: float | None = None  # cores; inf lifts the quota
    cpu_idle: bool | None = None
    cpu_burst: float | None = None  # cores that may be saved up over one period; 0 lifts it
    memory_min: int | None = None  # bytes never reclaimed
    memory_low: int | None = None  # bytes reclaimed only when nobody else has any
    memory_high: int | None = None  # bytes; -1 lifts it
    memory_max: int | None = None  # bytes; -1 lifts it
    memory_down_to: int | None = None  # bytes to which memory.current is brought by memory.reclaim, once per advice
    swap_max: int | None = None  # bytes; -1 lifts it, 0 keeps it out of swap
    io_weight: int | None = None  # 1..10000
    io_max: dict[str, dict[str, int]] | None = None  # "8:0" -> {"rbps", "wbps", "riops", "wiops"}; -1 lifts it
    resctrl: str | None = None  # name of the resctrl group its tasks belong to; "" is the root group
    oom_score_adj: int | None = None  # -1000..1000, of the cgroup's processes


class CgroupAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """Knobs for one cgroup below kubepods; everything inside inherits them, also what starts later.

    `target` is "pod/<uid>" or "class/<guaranteed|burstable|besteffort>"; only the enforcer turns it into a path.
    """

    target: str
    pool: str
    knobs: Knobs
    about: ObjectRef | None = None  # the pod behind "pod/<uid>"; the enforcer tells its trail only if it is named
    attempt: int = 1  # of that pod


class ResctrlAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """One resctrl group and its schemata lines, such as {"MB": "0=50;1=100", "L3": "0=ff;1=ff"}."""

    group: str
    schemata: dict[str, str]


class PoolAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """One pool of CPUs: `cpus` may be empty only for a pool nobody is in."""

    name: str
    cpus: str
    requirement: float  # cores its members are estimated to need
    reason: str  # the arithmetic


class Noisy(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that slows an owner down, as far as the numbers can say, and what is done about it."""

    uid: str  # of the guest
    attempt: int
    owner: str  # namespace/name of who suffers
    signal: str  # what it suffers from, such as "cpi"
    value: float  # when the guest was named
    threshold: float  # what is usual for that owner at that load, and then some
    since: float
    quota: float  # cores it is held to
    leave: bool = False  # holding it back was not enough: it should go
    reason: str = ""  # with the numbers


class NodeAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """The whole advice for one node; replaces the one before. Valid until `expires` (clock port)."""

    at: float
    source: str
    node: str
    seq: int
    expires: float
    pools: tuple[PoolAdvice, ...]
    cgroups: tuple[CgroupAdvice, ...]
    resctrl: tuple[ResctrlAdvice, ...] = ()
    stale: str = ""  # why this is the conservative default, if it is
    noisy: tuple[Noisy, ...] = ()


class Headroom(msgspec.Struct, frozen=True, kw_only=True):
    """What a node can lend now; `arithmetic` maps resource kind to the printed sum.

    `survival`: seconds for which nine of ten guests that took the last unit of an offer would have kept it, as the
    offers of the last day went; never more than was watched. `promised`: how much of an offer is still there in ten
    minutes, as 99 of 100 times before; nothing until ten minutes were watched.
    """

    at: float
    source: str
    node: str
    offer: dict[str, int]
    arithmetic: dict[str, str]
    stale: str = ""
    survival: dict[str, float] = {}
    promised: dict[str, int] = {}


class WriteStatus(StrEnum):
    """What became of one knob."""

    WRITTEN = "written"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    VANISHED = "vanished"


class KnobWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One write to the host, or the reason it was not done."""

    cgroup: str
    knob: str
    before: str
    after: str
    status: WriteStatus
    why: str = ""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What the enforcer made true of one advice; no writes when nothing changed."""

    at: float
    source: str
    node: str
    advice_seq: int
    writes: tuple[KnobWrite, ...]
    restored: bool = False  # the node is back to what kubelet would run
