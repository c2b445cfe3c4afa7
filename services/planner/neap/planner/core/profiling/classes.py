"""What pods of a class use, for services that were never measured.

    demand of a class, by kind and machine type = a percentile (nearest rank) of its services' largest windows

Told as a profile of the key `class_key(qos)`, with no portrait and no baseline: the scheduler takes it where a service
has nothing of its own, and says so. Absent while fewer than `peers` services are known.
Source: requirements 004-03.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neap.common.model.profile import Observation, ServiceProfile, Window, class_key
from neap.common.model.qos import QosClass
from neap.common.units import HOUR, Ratio, Seconds
from neap.planner.core.profiling.version import versioned

WHOLE_POD: Final = "pod"  # in the place of a container


@dataclass(slots=True)
class _Group:
    """One kind on one machine type: the services' largest windows."""

    peaks: array[float] = field(default_factory=lambda: array("d"))
    pod_hours: float = 0.0


class Classes:
    """Gathers one round of services, then tells."""

    def __init__(self) -> None:
        self._seen: dict[QosClass, dict[tuple[str, str], _Group]] = {}

    def add(self, qos: QosClass, seen: Iterable[Observation]) -> None:
        """One service of a class."""
        for one in seen:
            peak = one.peak
            if 0 <= peak < math.inf:
                group = self._seen.setdefault(qos, {}).setdefault((one.kind, one.machine), _Group())
                group.peaks.append(peak)
                group.pod_hours += one.pod_hours

    def told(self, at: Seconds, source: str, *, share: Ratio, peers: int) -> list[ServiceProfile]:
        """A profile for each class that enough services are known of; the next round begins empty."""
        seen, self._seen = self._seen, {}
        start, found = at // HOUR * HOUR, list[ServiceProfile]()
        for qos, kinds in sorted(seen.items()):
            observations = tuple(
                _typical(kind, machine, group, start, share)
                for (kind, machine), group in sorted(kinds.items())
                if len(group.peaks) >= peers
            )
            if observations:
                empty = ServiceProfile(at=at, source=source, key=class_key(qos), version="", observations=observations)
                found.append(versioned(empty))
        return found


def _typical(kind: str, machine: str, group: _Group, start: Seconds, share: Ratio) -> Observation:
    peaks = np.sort(np.frombuffer(group.peaks))
    amount, mean = float(peaks[max(0, math.ceil(share * len(peaks)) - 1)]), float(peaks.mean())
    return Observation(
        kind=kind,
        machine=machine,
        windows=(Window(start=start, containers={WHOLE_POD: amount}),),
        pod_hours=round(group.pod_hours, 1),
        spread=round(float(peaks.std()) / mean, 3) if mean > 0 else None,
    )
