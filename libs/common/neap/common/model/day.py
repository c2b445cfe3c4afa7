"""What a replayed day on virtual nodes came to. Simulated, and named so wherever it is shown."""

from __future__ import annotations

import msgspec


class DayReport(msgspec.Struct, frozen=True, kw_only=True):
    """Sums from the day's start until `at`, over all virtual nodes.

    Utilisation = core-seconds used / core-seconds of all usable CPUs. A service-minute is one online service
    observed for one minute; it is in violation when its modelled p99 latency is above its objective.
    """

    at: float
    source: str
    day_start: float
    day_end: float
    nodes: int
    capacity_cores: float
    core_seconds: dict[str, float]  # by QoS class
    recent_cores: dict[str, float]  # by QoS class, cores busy in the last minute
    service_minutes: int
    violation_minutes: int
    started: int
    finished: int
    evictions: dict[str, int]  # by rule
    lost_core_seconds: float  # guests' work thrown away by evictions
    running: dict[str, int]  # by QoS class
    behind: float = 0.0  # seconds the model is late against its clock
    over: bool = False
