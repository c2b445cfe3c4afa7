"""What gpushare counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

METRICS: Final = (
    counter("neap_gpushare_assigned_total", "Placements whose card shares were accepted."),
    counter("neap_gpushare_refused_total", "Placements refused: a rule broken, or a card without enough left."),
)
