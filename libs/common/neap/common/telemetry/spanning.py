"""How decisions become spans: one in the object's own trace, linked to the operation that took it.

From a pod's `applied` one can walk over links to its `submitted`: decision -> operation -> the message that led to
it, which is the sender's operation, and so on; and from a decision to the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable

from neap.common.model.trail import TrailEntry
from neap.common.telemetry.span import Span, SpanContext, SpanKind, decision_context, digest, object_context
from neap.common.units import Seconds


def decision_span(entry: TrailEntry, service: str, operations: Iterable[SpanContext] = (), *, root: bool) -> Span:
    """A trail line as a span of its object's trace: child of the object's root, or the root itself.

    Linked to the operations that led to it, and to the decision about the same object that it names as its cause.
    """
    home = object_context(entry.about)
    links = dict.fromkeys(operations)
    if entry.cause.startswith(f"{entry.about.uid}."):
        links[decision_context(home.trace, entry.cause)] = None
    numbers = {f"neap.{item.metric}": item.value for item in entry.numbers}
    thresholds = {f"neap.{item.metric}.threshold": item.threshold for item in entry.numbers}
    return Span(
        context=home if root else decision_context(home.trace, entry.id),
        parent="" if root else home.span,
        name=entry.what,
        service=service,
        start=entry.at,
        end=entry.at,
        links=tuple(links),
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


def operation_span(
    service: str,
    node: str,
    what: str,
    subject: str,
    causes: tuple[SpanContext, ...],
    *,
    start: Seconds,
    end: Seconds,
    count: int,
) -> Span:
    """One decision round of a service, in a trace of its own; linked to the messages that led to it.

    Args:
        service: who decides.
        node: where; "" for a central service.
        what: was processed, in one of few words.
        subject: it was heard on; "" if it was no message.
        causes: contexts of the messages.
        start: clock seconds.
        end: clock seconds.
        count: of this service's operations, so that two at one moment differ.
    """
    trace = digest(service, node, repr(start), str(count))
    heard = {"messaging.system": "nats", "messaging.destination.name": subject} if subject else {}
    return Span(
        context=SpanContext(trace[:32], trace[32:48]),
        parent="",
        name=f"process {what}",
        service=service,
        start=start,
        end=end,
        kind=SpanKind.CONSUMER if subject else SpanKind.INTERNAL,
        links=causes,
        attributes={"neap.node": node, **heard},
    )
