"""What the evictor counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

METRICS: Final = (
    counter("neap_evictor_evictions_total", "Guests asked to go.", "rule"),
    counter("neap_evictor_would_evict_total", "Guests that a rule on a dry run would have asked to go.", "rule"),
    counter("neap_evictor_held_back_total", "Reports under pressure at which nobody was chosen.", "reason"),
    counter("neap_evictor_refused_total", "Guests chosen, and not asked to go after the last look.", "reason"),
    counter("neap_evictor_unconfirmed_total", "Evictions that nobody confirmed in time."),
    counter("neap_evictor_stale_total", "Times an input became too old to act on.", "input"),
    counter("neap_evictor_pauses_total", "Times evictions were paused, or went on.", "what"),
)
