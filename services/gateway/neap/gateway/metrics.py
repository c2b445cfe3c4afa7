"""What the gateway counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter
from neap.gateway.core.asking.api import API_METRICS

METRICS: Final = (
    counter("neap_gateway_pods_total", "Pods told to the scheduler, found on nodes, or refused.", "what"),
    counter("neap_gateway_binds_total", "Bindings asked of the API, by what became of them.", "outcome"),
    counter("neap_gateway_ends_total", "Runs told as over.", "reason"),
    counter("neap_gateway_evictions_total", "Looks at commands to evict, by what became of them.", "outcome"),
    counter("neap_gateway_resizes_total", "Pods and owners told of after a command to resize.", "outcome"),
    counter("neap_gateway_scalings_total", "Replicas changed by plan, by what became of it.", "outcome"),
    counter("neap_gateway_objects_total", "Objects of neap's kinds that changed what the bus has.", "kind"),
    counter("neap_gateway_events_dropped_total", "Kubernetes Events left out, beyond the rate.", "reason"),
    counter("neap_gateway_mirror_writes_total", "Calls that write what nodes show."),
    counter("neap_gateway_mirror_failures_total", "Of these, calls that failed."),
    counter("neap_gateway_answers_total", "Questions of Kubernetes answered over HTTP.", "door", "outcome"),
    *API_METRICS,
)
