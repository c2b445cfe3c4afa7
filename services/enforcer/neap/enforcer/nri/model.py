"""What a container runtime and a plugin talk about, in our words: no I/O, and no wire format."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec

from neap.common.units import Seconds


class State(IntEnum):
    """Of a container; the runtime's numbers."""

    UNKNOWN = 0
    CREATED = 1
    PAUSED = 2
    RUNNING = 3
    STOPPED = 4


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one container. Empty or None: not said, and in an adjustment: leave it as it is."""

    cpus: str = ""  # CPU list
    mems: str = ""  # NUMA nodes, written like a CPU list
    shares: int | None = None  # cgroup v1's scale, 1024 per core requested
    quota: int | None = None  # microseconds per period; -1 lifts it
    period: int | None = None  # microseconds
    memory_limit: int | None = None  # bytes; -1 lifts it
    unified: dict[str, str] = {}  # cgroup v2 file -> text; a file this kernel lacks keeps the container from starting


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox; `uid` is Kubernetes', `id` the runtime's."""

    id: str = ""
    uid: str = ""
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    cgroup_parent: str = ""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container as the runtime knows it, or is about to make it."""

    id: str = ""
    pod_id: str = ""
    name: str = ""
    state: int = State.UNKNOWN  # a newer runtime may know more states
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    pid: int = 0
    cgroup: str = ""  # as the runtime writes it: a path, or "slice:prefix:name" for systemd
    oom_score_adj: int | None = None
    resources: Resources = Resources()


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device node to be put into a container."""

    path: str = ""
    type: str = ""  # c or b
    major: int = 0
    minor: int = 0
    file_mode: int | None = None


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """What to set before a container starts. A value the kernel refuses keeps the container from starting."""

    resources: Resources = Resources()
    env: dict[str, str] = {}
    devices: tuple[Device, ...] = ()
    oom_score_adj: int | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a container that is already there."""

    container_id: str = ""
    resources: Resources = Resources()
    ignore_failure: bool = False


# -- what the client tells -------------------------------------------------------------------------------------------


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """Registered and synchronised: from now on the runtime asks before a container starts."""

    at: Seconds
    runtime: str  # name and version, in its own words
    containers: int  # told at the synchronisation
    corrected: tuple[Update, ...] = ()  # drift put right


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Not connected; the next attempt is made at `again`."""

    at: Seconds
    why: str
    again: Seconds


class Adjusted(msgspec.Struct, frozen=True, kw_only=True):
    """A container starts with what it should have."""

    at: Seconds
    pod: Pod
    container: Container
    adjustment: Adjustment


class LeftAlone(msgspec.Struct, frozen=True, kw_only=True):
    """A container starts as the runtime had it: there was no answer in time, or it could not be read."""

    at: Seconds
    container_id: str  # "" if not even that could be read
    why: str


class Updated(msgspec.Struct, frozen=True, kw_only=True):
    """What became of updates that nobody waits for."""

    at: Seconds
    updates: tuple[Update, ...]
    failed: tuple[str, ...]  # container ids
    why: str = ""  # the whole request failed


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A container stopped or was removed."""

    at: Seconds
    container_id: str


Told: TypeAlias = Joined | Lost | Adjusted | LeftAlone | Updated | Ended
