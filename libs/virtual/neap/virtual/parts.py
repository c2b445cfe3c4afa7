"""What a day is made of: machines to run on, and workloads with the time they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload
from neap.common.units import GIB, Bytes, Seconds

LEFT_OUT: Final = (
    "left out: hyper-threads, caches and memory bandwidth slow nobody down, a container starts and stops at once",
    "so what owners pay for guests is too low, and the same for every policy; try NAME,virtual.pressing=0.5",
)


@dataclass(frozen=True)
class MachineShape:
    """What a day must know about a virtual node; `cards` counts its GPUs."""

    node: str
    cores: int
    memory: Bytes
    cards: int = 0


@dataclass(frozen=True)
class Submission:
    """One workload and when it arrives, in seconds from the day's start."""

    at: Seconds
    workload: Workload

    @property
    def is_guest(self) -> bool:
        """Whether it lives on reclaimed resources."""
        return self.workload.qos == QosClass.RECLAIMED


@dataclass(frozen=True)
class Day:
    """A day to replay; `submissions` are in order of time. `story` says what is real and what is modelled."""

    name: str
    start: Seconds
    length: Seconds
    submissions: tuple[Submission, ...]
    story: tuple[str, ...] = ()

    @property
    def end(self) -> Seconds:
        """Clock second at which the day is over."""
        return self.start + self.length


def bytes_per_core(machines: Sequence[MachineShape]) -> Bytes:
    """Memory per core of the poorer machines (lower quartile): what fits there fits nearly everywhere."""
    each = sorted(machine.memory // max(1, machine.cores) for machine in machines)
    return each[len(each) // 4] if each else GIB


def identity(seed: int, namespace: str, name: str) -> str:
    """A uid in the usual form, the same for the same day."""
    digest = hashlib.sha256(f"{seed}/{namespace}/{name}".encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def node_names(count: int) -> tuple[str, ...]:
    """Names of the virtual nodes: n1, n2 and so on."""
    return tuple(f"n{index}" for index in range(1, count + 1))
