"""What a service uses without asking for it, by its measured past: memory bandwidth, disk, network, power.

    per core    = (read + write) / cpu request
    predicted   = per core × cpu request of the new pod × ratio[observed on][placed on]
    ratio       = speed[to] / speed[from]      kinds that scale up: who is limited by the machine uses more of a faster one
                  speed[from] / speed[to]      kinds that scale down: a faster core needs fewer of itself
                  1                            kinds that do not care, and machines nobody described

A resource kind is one record (`ProfiledKind`), never a branch: adding one is adding data. A prediction is what the
pod takes at full speed, an upper estimate. Amounts are whole units of the kind, rounded up once, at the end.
Source: requirements 1.5 (004-05, 004-08 … 004-10b, 004-14, 004-20, 004-42); Katalyst ServiceProfileDescriptor
(shape, baseline rule).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.errors import InputError
from neap.common.model.indicator import Indicator
from neap.common.model.qos import QosClass
from neap.common.model.resource import LARGEST
from neap.common.model.workload import Workload
from neap.common.units import HOUR, Cores, MilliCores, Seconds

MEMORY_BANDWIDTH: Final = "neap.io/memory-bandwidth"
DISK_IO: Final = "neap.io/disk-io"
NETWORK: Final = "neap.io/network"
POWER: Final = "neap.io/power"
MACHINE_LABEL: Final = "neap.io/machine-type"  # label of a node that names its machine type
CLASSES: Final = (
    "neap.class"  # in the place of a namespace, which has no dots: what the services of a class have in common
)

MOST_TYPES: Final = 256
Born: TypeAlias = tuple[float, str]  # a pod by when it was created, and its name: oldest first


class Scaling(StrEnum):
    """How the use of a kind follows the speed of the machine."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


class Scope(StrEnum):
    """What has a limit of its own."""

    NUMA = "numa"
    NODE = "node"


class ProfiledKind(msgspec.Struct, frozen=True, kw_only=True):
    """A resource kind that profiles know."""

    name: str
    unit: str
    per_core: bool = True  # usage is per requested core; else per pod, whatever it requests
    scales: Scaling = Scaling.NONE
    scope: Scope = Scope.NODE
    overflows: bool = False  # a demand above the limit may have an untouched zone to itself, and runs slower there
    measured: tuple[str, ...] = ()  # fields of ContainerUsage that are its use, summed; none: nobody measures it


# Bandwidths are read + write, received + sent. No report tells network or power by container: those are told by people.
KINDS: Final[Mapping[str, ProfiledKind]] = {
    kind.name: kind
    for kind in (
        ProfiledKind(
            name=MEMORY_BANDWIDTH,
            unit="bytes/s",
            scales=Scaling.UP,
            scope=Scope.NUMA,
            overflows=True,
            measured=("bandwidth",),
        ),
        ProfiledKind(name=DISK_IO, unit="bytes/s", measured=("io_read", "io_write")),
        ProfiledKind(name=NETWORK, unit="bytes/s"),
        ProfiledKind(name=POWER, unit="milliwatts"),
    )
}


class MachineType(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of machines: how fast it is, by kind; any unit, because only ratios count."""

    name: str
    speeds: dict[str, float] = {}


class MachineTypes(msgspec.Struct, frozen=True, kw_only=True):
    """The table of generations: the planner's setting, told to all who predict with it."""

    at: float
    source: str
    types: Annotated[tuple[MachineType, ...], Meta(max_length=MOST_TYPES)] = ()


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What the containers used in one window, by container name, in the kind's unit (per core, if the kind is)."""

    start: float  # seconds since the epoch, aligned to `length`
    containers: dict[str, float]
    length: Seconds = HOUR


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One kind as it was measured on one type of machine."""

    kind: str
    machine: str
    windows: tuple[Window, ...]
    pod_hours: float = 0.0  # how much was seen
    spread: float | None = None  # most that pods differed in a window: standard deviation over mean
    stable: bool = True  # else pods differ too much for a mean, and windows hold the 90th percentile over them

    @property
    def sums(self) -> tuple[float, ...]:
        """By window, over the containers."""
        return tuple(sum(window.containers.values()) for window in self.windows)

    @property
    def peak(self) -> float:
        """The largest window: the maximum over windows of the sum over containers; NaN without any."""
        return max(self.sums, default=math.nan)

    @property
    def usable(self) -> bool:
        """Whether there is something to predict from."""
        return math.isfinite(self.peak) and all(
            amount >= 0 for window in self.windows for amount in window.containers.values()
        )


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Which pods of a service stay as they are while the others take part in reclaiming: the oldest `percent`."""

    percent: int | None = None
    sentinel: Born | None = None  # the youngest of them


class ServiceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One service's use of every profiled kind, on every machine type it was seen on."""

    at: float
    source: str
    key: str  # see profile_key
    version: str  # named in every decision made with it
    observations: tuple[Observation, ...] = ()
    baseline: Baseline = Baseline()
    # What one pod uses in each hour of the day (UTC), by kind, in whole units: 24 amounts, or it counts as absent. The
    # scheduler's table takes profiles in at `NodeTable.learn`; a pod's estimate comes from `NodeTable.expected`.
    portrait: dict[str, tuple[float, ...]] = {}
    used: dict[str, float] = {}  # what one pod uses at its 99th percentile, whole units of CPU and memory
    # How far one pod goes at most above the mean of each hour of the day (UTC), as a factor of at least 1: 24, or absent.
    swing: dict[str, tuple[float, ...]] = {}
    indicators: tuple[Indicator, ...] = ()  # targets of the business and of the system


class ProfileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose profile."""

    namespace: str
    kind: str
    name: str


class ProfileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner knows."""

    profile: ServiceProfile | None = None
    says: str = ""  # why there is none, or what is unsure about it
    measured: ServiceProfile | None = None  # what was measured, where people told another one: theirs is in force


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod will use on a machine, and how we know."""

    amount: int
    observed_on: str
    ratio: float = 1.0
    unsure: str = ""  # what was assumed


class SizeClass(StrEnum):
    """Packing guarantees against one NUMA node's limit: two small ones always fit, two medium ones never."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


def profile_key(workload: Workload) -> str:
    """Whose profile a pod has: its owner's, or its own. The gateway names the Deployment, not its ReplicaSets."""
    return f"{workload.namespace}/{workload.owner or f'Pod/{workload.name}'}"


def class_key(qos: QosClass) -> str:
    """Whose profile a pod has while its service has none: that of all services of its class."""
    return f"{CLASSES}/QosClass/{qos.value.replace('_', '-')}"


def per_core(usage: float, cpu: Cores) -> float | None:
    """Usage per requested core; None without a CPU request."""
    return usage / cpu if cpu > 0 else None


def ratio(scales: Scaling, source: float | None, target: float | None) -> float | None:
    """How much more of a kind is used at speed `target` than at `source`; None if one of them is not known."""
    if scales is Scaling.NONE:
        return 1.0
    if not source or not target or min(source, target) <= 0:
        return None
    found = target / source if scales is Scaling.UP else source / target
    return found if 0 < found < math.inf else None


def ratio_matrix(speeds: Mapping[str, float], scales: Scaling = Scaling.UP) -> dict[str, dict[str, float | None]]:
    """[observed on][placed on] for a table of machine types."""
    return {source: {target: ratio(scales, speeds[source], speeds[target]) for target in speeds} for source in speeds}


def predict(usage: float, cpu: Cores, ratio: float = 1.0) -> float:
    """Usage per core on one machine -> use of a pod on another."""
    return usage * cpu * ratio


def spd_request(windows: Sequence[Iterable[float]], cpu: Cores) -> int:
    """What a pod needs by its windows of per-core usage by container: Katalyst's rule, whole units, rounded up.

    request = ⌈ max over windows of (Σ containers) × cpu request ⌉
    """
    return whole(predict(max((sum(window) for window in windows), default=0.0), cpu))


def whole(amount: float) -> int:
    """Whole units, rounded up; a millionth above is the float's error, not demand."""
    return math.ceil(round(amount, 6)) if amount < LARGEST else LARGEST


def predicted(
    kind: ProfiledKind, seen: Iterable[Observation], cpu: MilliCores, target: str, machines: Mapping[str, MachineType]
) -> Prediction | None:
    """What a pod with this CPU request will use of `kind` on machines of type `target`.

    The target type's own observation wins; else the one with the most pod hours (by name among equals), times the
    ratio. None: nothing was seen, or the kind is per core and the pod asks for no CPU.
    """
    usable = [one for one in seen if one.kind == kind.name and one.usable]
    if not usable or (kind.per_core and cpu <= 0):
        return None
    best = min(usable, key=lambda one: (one.machine != target, -one.pod_hours, one.machine))
    times = 1.0 if best.machine == target else ratio(kind.scales, *_speeds(kind, machines, best.machine, target))
    use = predict(best.peak, cpu / 1000 if kind.per_core else 1.0, 1.0 if times is None else times)
    return Prediction(
        amount=whole(use),
        observed_on=best.machine,
        ratio=1.0 if times is None else times,
        unsure=f"speed of {best.machine or 'a machine'} or {target or 'the node'} unknown, taken as equal"
        if times is None
        else "",
    )


def _speeds(kind: ProfiledKind, machines: Mapping[str, MachineType], *names: str) -> list[float | None]:
    return [machines[name].speeds.get(kind.name) if name in machines else None for name in names]


def size_class(demand: float, limit: float) -> SizeClass:
    """Small up to half the limit, medium up to the limit, else large; borders belong to the smaller class."""
    if 2 * demand <= limit:
        return SizeClass.SMALL
    return SizeClass.MEDIUM if demand <= limit else SizeClass.LARGE


def sentinel(pods: Iterable[Born], percent: int | None) -> Born | None:
    """The youngest of the oldest `percent` of a service's pods; None where the rule needs none.

    index = ⌊(n − 1) · percent / 100⌋ of the pods by age, then name
    """
    ordered = sorted(pods)
    if percent is None or not 0 < percent < 100 or not ordered:
        return None
    return ordered[(len(ordered) - 1) * percent // 100]


def is_baseline(pod: Born, baseline: Baseline) -> bool:
    """Whether a pod stays as it is.

    Raises:
        InputError: some pods do and nobody said which.
    """
    percent = baseline.percent
    if percent is None or percent <= 0:
        return False
    if percent >= 100:
        return True
    if baseline.sentinel is None:
        raise InputError(f"baseline of {percent} % without a sentinel")
    return pod <= baseline.sentinel
