"""What the virtual nodes count."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

METRICS: Final = (
    counter("neap_virtual_placements_refused_total", "Placements a virtual node would not run.", "reason"),
    counter("neap_virtual_evictions_late_total", "Evictions of what did not run there any more.", "rule"),
)
