"""How decisions become spans: one in the object's own trace, linked to the operation that took it."""

from __future__ import annotations

from typing import Any

from neap.common.model.trail import TrailEntry
from neap.common.telemetry.span import Span, SpanContext, SpanKind, decision_context, digest, object_context
from neap.common.units import Seconds


def decision_span(entry: TrailEntry, service: str, operation: SpanContext | None, *, root: bool) -> Span:
    """A trail line as a span of its object's trace: child of the object's root, or the root itself."""
    home = object_context(entry.about)
    numbers = {f"neap.{item.metric}": item.value for item in entry.numbers}
    thresholds = {f"neap.{item.metric}.threshold": item.threshold for item in entry.numbers}
    return Span(
        context=home if root else decision_context(home.trace, entry.id),
        parent="" if root else home.span,
        name=entry.what,
        service=service,
        start=entry.at,
        end=entry.at,
        links=(operation,) if operation is not None else (),
        attributes={
            "neap.what": entry.what,
            "neap.why": entry.why,
            "neap.node": entry.node,
            "neap.decision": entry.id,
            "k8s.namespace.name": entry.about.namespace,
            "k8s.pod.name": entry.about.name,
            "k8s.pod.uid": entry.about.uid,
            **numbers,
            **thresholds,
        },
    )


def operation_span(service: str, node: str, event: Any, cause: SpanContext | None, *, count: int, now: Seconds) -> Span:
    """One decision round of a service; linked to the message that caused it, in a trace of its own."""
    name = getattr(event, "name", "") or getattr(event, "subject", "") or type(event).__name__
    trace = digest(service, node, repr(event.at), str(count))
    return Span(
        context=SpanContext(trace[:32], trace[32:48]),
        parent="",
        name=f"process {type(event).__name__.lower()}",
        service=service,
        start=event.at,
        end=now,
        kind=SpanKind.CONSUMER,
        links=(cause,) if cause is not None else (),
        attributes={"neap.node": node, "messaging.system": "nats", "messaging.destination.name": name},
    )
