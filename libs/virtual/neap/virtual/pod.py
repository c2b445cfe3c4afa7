"""What runs on a virtual host, as data: pods, what their containers want, and what became of them.

CPU is wanted in cores, memory in bytes, time is seconds of the clock port. `requests` and `limits` use the units
of `neap.common.model.resource` (cpu: milli-cores, memory: bytes), other kinds are carried and ignored.
The host itself is `neap.virtual.kernel.VirtualHost`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from neap.common.model.qos import KubeQos
from neap.common.model.resource import Resources
from neap.common.units import Bytes, Cores, Ratio, Seconds


class Curve(msgspec.Struct, frozen=True, kw_only=True, tag="curve"):
    """An online service: cores offered as a function of time, whatever it gets.

    offered(t) = scale × points[(t − origin) / step], linear in between, the curve repeats after its last point;
    multiplied by 1 + noise × u, u uniform in −1..1, drawn by a hash of (seed, minute of t), and by 1 + burst in slots
    of `burst_length` seconds of which a hash of (seed, slot) draws one in `burst_every / burst_length`.
    What it did not get waits as backlog and is wanted as well (bounded, see kernel).
    """

    points: tuple[float, ...]
    step: Seconds
    scale: Cores = 1.0
    origin: Seconds = 0.0
    noise: Ratio = 0.0
    seed: int = 0
    burst: Ratio = 0.0
    burst_every: Seconds = 1200.0
    burst_length: Seconds = 60.0


class Work(msgspec.Struct, frozen=True, kw_only=True, tag="work"):
    """A guest: wants up to `width` cores until `core_seconds` are done, then its container ends."""

    core_seconds: float
    width: Cores


class Idle(msgspec.Struct, frozen=True, kw_only=True, tag="idle"):
    """Wants no CPU (a pause container, a GPU pod whose CPU side is not modelled)."""


Demand: TypeAlias = Curve | Work | Idle


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The memory a container touches.

    anonymous(age) = start + per_second × age, at most `ceiling` (0: none). per_second = 0 is a constant, a
    ceiling makes it a ramp, none a leak. Page cache grows by `cache_per_core_second` bytes per core-second used,
    up to `cache` bytes, and is what reclaim takes first.
    """

    start: Bytes = 0
    per_second: float = 0.0
    ceiling: Bytes = 0
    cache: Bytes = 0
    cache_per_core_second: float = 1 << 20


class ServiceModel(msgspec.Struct, frozen=True, kw_only=True):
    """How a pod's latency follows from its cores: mean service time of a request, and the objective for its p99."""

    mean: Seconds
    objective: Seconds


class VirtualContainer(msgspec.Struct, frozen=True, kw_only=True):
    """One container; `id` is the runtime's and names its cgroup."""

    id: str
    requests: Resources = {}
    limits: Resources = {}
    demand: Demand = Idle()
    memory: Memory = Memory()
    press: Ratio = 0.0  # were it on all CPUs of the machine, online services there would need so much more CPU


class VirtualPod(msgspec.Struct, frozen=True, kw_only=True):
    """One pod as the kubelet of a virtual host would start it; `service` makes it an online service."""

    uid: str
    qos: KubeQos
    containers: tuple[VirtualContainer, ...]
    service: ServiceModel | None = None


class EndReason(StrEnum):
    """Why a container ended by itself."""

    DONE = "done"
    OOM = "oom"


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A container ended; its cgroup stays until `stop`. A pod is over when all its Work containers are done."""

    at: Seconds
    uid: str
    container: str
    reason: EndReason
    core_seconds: float  # done by this container in all


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """What one container wanted and got over the last step."""

    uid: str
    container: str
    wanted: Cores
    used: Cores
    core_seconds: float  # since it started
    memory: Bytes
    ended: EndReason | None = None


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """One online service over the last step. `cores` is what it used plus what it could have had at once."""

    uid: str
    offered: Cores
    used: Cores
    cores: Cores
    p99: Seconds
    objective: Seconds

    @property
    def violated(self) -> bool:
        """Whether the modelled p99 latency is above the objective."""
        return self.p99 > self.objective


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about a virtual host, for the day's report; neap's services see only files."""

    at: Seconds
    cpus: int
    used: Cores
    containers: tuple[ContainerState, ...]
    services: tuple[ServiceState, ...]


class CardSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Cards to put into a virtual host; `memory_mib` 0 takes the model table's."""

    model: str
    count: int
    memory_mib: int = 0
