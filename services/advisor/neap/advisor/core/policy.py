"""What a policy is given, and what it answers. A plugin module's PLUGIN is one of the four kinds below.

A policy is a pure function of a frozen view, its own settings and, for provision, a small memory per pool that
it gets back in the next round; a memory policy finds in its view what was advised last. Bad input is answered with
the conservative value, never with an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from neap.common.errors import SettingsError
from neap.common.model.advice import Knobs
from neap.common.units import Bytes, Cores, Ratio, Seconds


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """One owner's pod. None means unknown, never zero; CPU in cores."""

    uid: str
    request: Cores
    limit: Cores | None = None  # what its quota lets it use at most
    now: Cores | None = None  # in the newest report
    smooth: Cores | None = None  # exponentially smoothed
    peak: Cores | None = None  # highest over the window
    stall: Ratio | None = None  # PSI some, last 10 s, worst container
    settled: bool = False  # seen often enough that its usage may be believed
    signals: Mapping[str, float] = {}  # what else the newest report says of it, by indicator: see core/indicators
    level: Cores | None = None  # recent peak, or smoothed use where that is higher
    swing: Ratio | None = None  # how far it goes above its level, by its profile; None: unknown, or not to be believed
    profile: str = ""  # version of that profile


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """One shared pool."""

    name: str
    pods: tuple[PodView, ...]  # sorted by uid
    held: int = 0  # CPUs it has had since the last round; 0: unknown
    fresh: bool = True  # False: no new report since the last round, so nothing may be learnt from it
    node: int | None = None  # the NUMA node it is bound to
    most: int = 0  # CPUs it can have at all; 0: unknown
    lent: int = 0  # CPUs guests have beside it, where it can have them
    guests: Cores | None = None  # what guests use there; None: unknown
    targets: Mapping[str, float] = {}  # of indicators, stated by its pods' profile or learned; they beat settings


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool's owners need: cores = estimate × ratio + reserve."""

    cores: Cores
    estimate: Cores
    ratio: Ratio
    reserve: Cores
    reason: str
    by: str = ""  # versions of the profiles that had a part in it


class Claim(msgspec.Struct, frozen=True):
    """A part of the machine that is not to lend: amount × ratio, in the unit of the view."""

    amount: float
    name: str
    ratio: Ratio = 1.0

    @property
    def total(self) -> float:
        """What is taken off."""
        return self.amount * self.ratio


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """The CPUs guests may run on, in cores; None means unknown, never zero."""

    cpus: Cores
    busy: Cores | None = None  # in use there, by anybody
    guests: Cores | None = None  # in use by guests
    quota: Cores | None = None  # all guests together may use; None: no such cap


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the profiles of owners say they will use at most over a time, in the unit of the view."""

    peak: float
    horizon: Seconds
    versions: tuple[str, ...] = ()  # of the profiles it was made with
    without: int = 0  # owners of whom no profile is known: what they claim now is in the peak


class AloneView(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of NUMA nodes that it has alone, and how many CPUs they have."""

    cpus: Cores
    pod: PodView


class HeadroomView(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of the machine, in cores or bytes; `kind` is the resource that is offered."""

    kind: str
    capacity: float
    reserved: float  # set aside for the system
    system: float | None = None  # used by what no ledger entry explains; None: unknown
    claims: tuple[Claim, ...] = ()
    used: float | None = None  # by owners, in the newest report; None: unknown, or not for this resource
    asked: float = 0.0  # Σ requests of owners
    last: float | None = None  # offered in the round before; None: there was none
    supply: Supply | None = None  # CPUs only
    forecast: Forecast | None = None  # None: no profile of any owner is known
    by: str = ""  # versions of the profiles that the claims were made with


class Offer(msgspec.Struct, frozen=True):
    """What may be lent in total, ≥ 0, in the unit of the view, and the sum it came from.

    `cap`: what guests may use at once, all together, where their CPUs do not say it; None: no such cap.
    """

    amount: float
    arithmetic: str
    cap: float | None = None


class MemoryPod(msgspec.Struct, frozen=True, kw_only=True):
    """One pod's memory in bytes; None means unknown, never zero."""

    uid: str
    target: str = ""  # of its knobs; empty: no ledger entry, so it gets none
    home: str = "guaranteed"  # Kubernetes' class, whose cgroup it lives in
    pool: str = ""
    guest: bool = False
    request: Bytes = 0
    used: Bytes | None = None  # memory.current
    working: Bytes | None = None  # without the page cache that was not used lately
    peak: Bytes | None = None  # highest working set over the window
    cache: Bytes | None = None  # page cache
    apart: bool = False  # lives on NUMA nodes where guests may not go
    stall: Ratio | None = None  # of the time it waited for memory, last minute, worst container
    refaults: float | None = None  # pages/s that had been taken and were needed again
    anon: Mapping[int, Bytes] | None = None  # anonymous memory by NUMA node
    bound: bool = False  # to NUMA nodes of its own

    @property
    def idle_cache(self) -> Bytes:
        """Page cache that was not used lately; nothing where that is unknown."""
        return 0 if self.used is None or self.working is None else max(0, self.used - self.working)


class Moved(NamedTuple):
    """When a pod's memory was moved, off which NUMA node, and to which it is held."""

    at: Seconds
    source: int
    to: tuple[int, ...]


class MemoryNode(msgspec.Struct, frozen=True, kw_only=True):
    """One NUMA node; None means unknown, never zero."""

    index: int
    total: Bytes
    free: Bytes | None = None
    watermark: Bytes | None = None  # free at which the kernel starts to reclaim there
    bandwidth: float | None = None  # bytes/s
    latency: float | None = None  # ns
    guests: bool = True  # False: somebody has it alone
    distances: Mapping[int, int] = {}


class MemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """The machine's memory in bytes; None means unknown, never zero."""

    capacity: Bytes
    reserved: Bytes = 0  # kept for the system
    available: Bytes | None = None  # what the kernel could give without swapping
    free: Bytes | None = None  # on the NUMA nodes where guests may go
    apart: Bytes = 0  # free on the other NUMA nodes
    watermark: Bytes | None = None  # free at which the kernel starts to reclaim, summed over NUMA nodes
    pods: tuple[MemoryPod, ...] = ()  # by uid
    before: Mapping[str, Knobs] = {}  # advised last, by target
    fresh: bool = True  # False: no new report since the last round
    blind: str = ""  # why nothing measured can be trusted
    period: Seconds = 0.0  # between this report and the one before; 0: unknown
    at: Seconds = 0.0  # now
    nodes: tuple[MemoryNode, ...] = ()  # by index; those with memory
    moved: Mapping[str, Moved] = {}  # by target: whose memory was moved lately


class MemoryProposal(msgspec.Struct, frozen=True, kw_only=True):
    """Memory knobs by target, and the arithmetic behind them; empty: nothing to say."""

    knobs: dict[str, Knobs] = {}
    reason: str = ""
    moved: dict[str, Moved] = {}  # by target: whose memory was moved, and is held where it is now


@dataclass(frozen=True)
class Policy:
    """What the plugin folder holds; `settings` is a frozen Struct whose fields all have defaults."""

    settings: type[msgspec.Struct]


@dataclass(frozen=True)
class ProvisionPolicy(Policy):
    """How many cores the owners of a shared pool need."""

    advise: Callable[[PoolView, Any, Any], tuple[Requirement, Any]]  # (view, settings, memory) -> (…, memory)
    start: Any = None  # the first memory of a pool


@dataclass(frozen=True)
class HeadroomPolicy(Policy):
    """How much of a resource is left to lend. `within`: no more cores than guests have CPUs, whatever it says."""

    advise: Callable[[HeadroomView, Any], Offer]
    within: bool = False


@dataclass(frozen=True)
class AlonePolicy(Policy):
    """How many cores guests may have behind an owner that has its NUMA nodes alone."""

    advise: Callable[[AloneView, Any], Offer]


@dataclass(frozen=True)
class MemoryPolicy(Policy):
    """What some cgroups should hold of memory, or keep. Several are in force; each speaks of knobs of its own."""

    advise: Callable[[MemoryView, Any], MemoryProposal]


@dataclass(frozen=True)
class Chosen:
    """The policies in force, with their settings."""

    provision: ProvisionPolicy
    provision_settings: msgspec.Struct
    headroom: HeadroomPolicy
    headroom_settings: msgspec.Struct
    alone: AlonePolicy
    alone_settings: msgspec.Struct
    memory: tuple[tuple[MemoryPolicy, msgspec.Struct], ...] = ()


def choose(
    policies: Mapping[str, Policy],
    provision: str,
    headroom: str,
    memory: Sequence[str],
    tune: Mapping[str, float],
    *,
    alone: str = "headroom_exclusive",
) -> Chosen:
    """The policies by name, with `tune` ("plugin.field" -> value) applied.

    Raises:
        SettingsError: no such plugin, one of the wrong kind, an unknown field or a value out of bounds.
    """
    sizing, lending, behind = policies.get(provision), policies.get(headroom), policies.get(alone)
    keeping = [(name, policies.get(name)) for name in memory]
    if not isinstance(sizing, ProvisionPolicy):
        raise SettingsError(f"provision = {provision!r} is no provision policy (known: {', '.join(policies)})")
    if not isinstance(lending, HeadroomPolicy):
        raise SettingsError(f"headroom = {headroom!r} is no headroom policy (known: {', '.join(policies)})")
    if not isinstance(behind, AlonePolicy):
        raise SettingsError(f"alone = {alone!r} is no policy for NUMA nodes held alone (known: {', '.join(policies)})")
    if wrong := sorted(name for name, policy in keeping if not isinstance(policy, MemoryPolicy)):
        raise SettingsError(f"memory = {wrong} are no memory policies (known: {', '.join(policies)})")
    tuned: dict[str, dict[str, float]] = {}
    for key, value in tune.items():
        plugin, _, name = key.partition(".")
        if plugin not in policies or name not in policies[plugin].settings.__struct_fields__:
            raise SettingsError(f"tune: {key!r} is no setting of a plugin (known plugins: {', '.join(policies)})")
        tuned.setdefault(plugin, {})[name] = value
    try:
        return Chosen(
            sizing,
            msgspec.convert(tuned.get(provision, {}), sizing.settings, strict=False),
            lending,
            msgspec.convert(tuned.get(headroom, {}), lending.settings, strict=False),
            behind,
            msgspec.convert(tuned.get(alone, {}), behind.settings, strict=False),
            tuple(
                (policy, msgspec.convert(tuned.get(name, {}), policy.settings, strict=False))
                for name, policy in keeping
                if isinstance(policy, MemoryPolicy)
            ),
        )
    except msgspec.ValidationError as error:
        raise SettingsError(f"tune: {error}") from None
