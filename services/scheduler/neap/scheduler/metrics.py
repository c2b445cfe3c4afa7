"""What the scheduler counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter, gauge

METRICS: Final = (
    counter("neap_scheduler_decisions_total", "Decisions about a workload: reserved, or waiting.", "outcome"),
    counter(
        "neap_scheduler_appends_total", "Ledger appends whose fate is decided: stored, or not.", "entry", "outcome"
    ),
    counter("neap_scheduler_requeued_total", "Workloads back in the queue, by what ended their run.", "reason"),
    counter("neap_scheduler_refused_total", "Workloads refused for ever: invalid, or queue full.", "why"),
    counter("neap_scheduler_gangs_undone_total", "Gangs that were not whole in time: every member gave its node back."),
    counter(
        "neap_scheduler_preemptions_total", "Searches for a place that guests leave, and places given up.", "outcome"
    ),
    counter("neap_scheduler_unconfirmed_total", "Placements given back because no node said that they started."),
    counter(
        "neap_scheduler_refused_input_total",
        "Messages that could not be used; the last good one stays in force.",
        "message",
        "field",
        "why",
    ),
    gauge("neap_scheduler_waiting_count", "Workloads in the queue."),
)
