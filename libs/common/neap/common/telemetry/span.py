"""Spans as data, and the tracer port.

neap's spans describe decisions that took no time worth measuring by a context manager, so they are recorded
whole, after the fact, with ids chosen by us. An object (a pod) is a trace: its id and its root span's id are
derived from what the object is, so any service can add to it without asking anyone; a decision's span id is
derived from the decision's id, so a repeated decision is the same span.
"""

from __future__ import annotations

import hashlib
import re
from contextvars import ContextVar
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from neap.common.model.trail import ObjectRef
from neap.common.units import Seconds

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class SpanContext(msgspec.Struct, frozen=True):
    """W3C trace context: 32 and 16 hex digits."""

    trace: str
    span: str

    @property
    def traceparent(self) -> str:
        """The W3C header's value."""
        return f"00-{self.trace}-{self.span}-01"


class SpanKind(StrEnum):
    """OpenTelemetry's kinds that neap uses."""

    INTERNAL = "INTERNAL"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"
    SERVER = "SERVER"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One finished span. Times are wall seconds; attribute values are what OpenTelemetry allows."""

    context: SpanContext
    parent: str  # span id in the same trace; "" for a root
    name: str
    service: str
    start: Seconds
    end: Seconds
    kind: SpanKind = SpanKind.INTERNAL
    links: tuple[SpanContext, ...] = ()
    attributes: dict[str, str | float | int | bool] = {}


class Tracer(Protocol):
    """Where finished spans go."""

    @property
    def enabled(self) -> bool:
        """False when recording is pointless, so that callers need not build spans."""
        ...

    def record(self, span: Span) -> None:
        """Take one span; never blocks, never raises; drops when full."""
        ...


class NoTracer:
    """The tracer without an exporter: costs nothing."""

    enabled = False

    def record(self, span: Span) -> None:
        """Forget it."""


current: ContextVar[SpanContext | None] = ContextVar("neap-span", default=None)


def parse_traceparent(header: str) -> SpanContext | None:
    """The context in a W3C traceparent header, or None if there is none."""
    match = _TRACEPARENT.fullmatch(header)
    return SpanContext(match[1], match[2]) if match else None


def digest(*parts: str) -> str:
    """64 hex digits that depend on every part."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def object_context(about: ObjectRef) -> SpanContext:
    """The trace and root span of an object: the same for everybody who knows its name.

    trace = H(kind, namespace, name, uid), root span = H(trace, "root")
    Source: requirements 2.1 (Kelemetry's object traces), without the time window.
    """
    trace = digest(about.kind, about.namespace, about.name, about.uid)[:32]
    return SpanContext(trace, digest(trace, "root")[:16])


def decision_context(trace: str, decision: str) -> SpanContext:
    """The span of one decision in a trace: the same however often it is recorded."""
    return SpanContext(trace, digest(trace, decision)[:16])
