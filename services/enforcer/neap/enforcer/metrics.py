"""What the enforcer counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

METRICS: Final = (
    counter("neap_enforcer_writes_total", "Writes to the host, by what became of them.", "status"),
    counter("neap_enforcer_drift_total", "Knobs that somebody else had changed, and that were put right."),
    counter("neap_enforcer_advice_refused_total", "Parts of an advice that do not hold.", "reason"),
    counter("neap_enforcer_journal_refused_total", "Entries of a restore journal that are no knob of ours."),
    counter("neap_enforcer_unwatched_total", "Directories that could not be watched; they are looked at each period."),
    counter("neap_enforcer_left_alone_total", "Containers that started before the advice for them was found."),
    counter("neap_enforcer_runtime_refused_total", "Containers that the runtime could not change."),
    counter("neap_enforcer_failed_total", "Looks and plans that came to nothing.", "what"),
)
