"""What the planner counts."""

from __future__ import annotations

from typing import Any, Final

from neap.common.telemetry.metrics import counter

METRICS: Final[tuple[Any, ...]] = (
    counter("neap_planner_forecast_left_out_total", "Kinds of values and times no forecast is made from."),
    counter("neap_planner_forecasts_total", "Forecasts made (on, off: worse than none), or why not.", "outcome"),
    counter("neap_planner_history_forgotten_total", "Containers and services forgotten: not seen for long."),
    counter("neap_planner_history_pages_total", "Pages of the history: written, read, refused.", "outcome"),
    counter("neap_planner_history_past_total", "Values somebody told of the past: taken, or unknown.", "outcome"),
    counter("neap_planner_history_samples_total", "Samples of containers folded: CPU and memory are one."),
    counter("neap_planner_history_skipped_total", "Samples, reports and lines of the past left out, by reason.", "why"),
    counter("neap_planner_overcommit_refused_total", "Samples and reports no peak is foreseen from, by reason.", "why"),
    counter("neap_planner_profile_samples_left_out_total", "Samples that no profile has, by reason.", "why"),
    counter("neap_planner_profiles_told_total", "Profiles of services told, anew or changed."),
    counter("neap_planner_profiles_unnameable_total", "Profiles of services whose names no subject can have."),
    counter("neap_planner_recommendations_told_total", "Recommendations told, anew or changed."),
    counter("neap_planner_resizes_total", "Changes of size, by what became of them.", "what"),
    counter("neap_planner_scaling_left_out_total", "Services not scaled and use not counted, by reason.", "why"),
    counter("neap_planner_scaling_told_total", "Plans of replicas told, anew or changed.", "mode"),
    counter("neap_planner_sizes_refused_total", "Services not sized, and wishes to apply that do not hold."),
    counter("neap_planner_tide_turns_total", "Nodes that began to change sides, or did not after all.", "pool", "side"),
    counter("neap_planner_tide_unnameable_total", "Passes over pools whose names no subject can have."),
    counter("neap_planner_tide_unsure_total", "Passes over a pool of which nothing is foreseen.", "pool"),
)
