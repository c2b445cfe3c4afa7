"""Spans to a collector: OTLP over HTTP, or nothing at all.

Without OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT), with OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none
or an always_off sampler, the SDK is not even imported. Otherwise our spans become the SDK's, with our ids, and its
batch processor sends them from a thread of its own; OTEL_BSP_* and the exporter's variables are the SDK's to read.

Sampling is by trace id, so every service keeps or drops the same traces without being told:
keep if (low 64 bits of trace id) < ratio × 2^64. Source: OpenTelemetry's TraceIdRatioBased sampler. A parent-based
sampler behaves as its root, because every span of a trace gives the same answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote

from neap.common.telemetry.log import get_logger
from neap.common.telemetry.span import NoTracer, Span, SpanContext, Tracer
from neap.common.units import Seconds

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

REMEMBERED: Final = 4096
FLUSH_WITHIN: Final[Seconds] = 5.0
_SAMPLERS: Final = ("always_on", "always_off", "traceidratio")
_WHOLE: Final = 1 << 64


class ClosingTracer(Tracer, Protocol):
    """A tracer that must be told when the process ends."""

    dropped: int

    def close(self, within: Seconds = FLUSH_WITHIN) -> None:
        """Send what is left, for at most `within` real seconds."""
        ...


class SilentTracer(NoTracer):
    """No exporter is configured."""

    dropped = 0

    def close(self, within: Seconds = FLUSH_WITHIN) -> None:
        """Nothing is left."""


def make_tracer(service: str, environment: Mapping[str, str]) -> ClosingTracer:
    """The tracer that the environment asks for; `service` names spans that do not name their own."""
    endpoint = _endpoint(environment)
    if not endpoint or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return SilentTracer()
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return SilentTracer()
    below = round(_ratio(environment) * _WHOLE)
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != "http/protobuf":
        get_logger("otel").warning("otel.protocol", why=f"{protocol} is not spoken here; sending http/protobuf")
    try:
        return OtlpTracer(service, endpoint, environment, below) if below else SilentTracer()
    except ImportError as error:
        get_logger("otel").warning("otel.absent", why=f"{endpoint} gets no spans: {error} (extra neap-common[otlp])")
        return SilentTracer()


def _endpoint(environment: Mapping[str, str]) -> str:
    exact = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    common = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return exact or (f"{common.rstrip('/')}/v1/traces" if common else "")


def _ratio(environment: Mapping[str, str]) -> float:
    asked = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "always_on"
    sampler = asked.removeprefix("parentbased_")
    if sampler not in _SAMPLERS:
        get_logger("otel").warning("otel.sampler", why=f"unknown sampler {asked!r}; keeping every trace")
    if sampler != "traceidratio":
        return 0.0 if sampler == "always_off" else 1.0
    written = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        ratio = float(written)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        get_logger("otel").warning("otel.sampler", why=f"no ratio in 0..1: {written!r}; keeping every trace")
        return 1.0
    return ratio


class OtlpTracer:
    """See module docstring. A span recorded twice (a redelivered message, a repeated decision) is sent once."""

    enabled = True

    def __init__(self, service: str, endpoint: str, environment: Mapping[str, str], below: int) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._scope = InstrumentationScope("neap")
        self._exporter: Any = OTLPSpanExporter(endpoint=endpoint)
        self._processor = BatchSpanProcessor(self._exporter)
        self._service, self._environment, self._below = service, environment, below
        self._resources: dict[str, Resource] = {}
        self._recent: dict[SpanContext, None] = {}
        self._closed = False
        self.dropped = 0

    def record(self, span: Span) -> None:
        """Queue one span for the exporter's thread; the processor drops the oldest when its queue is full."""
        if self._closed:
            self.dropped += 1
            return
        try:
            if int(span.context.trace[16:], 16) >= self._below or span.context in self._recent:
                return
            translated = self._translate(span)
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            self.dropped += 1
            if self.dropped == 1:
                get_logger("otel").warning("otel.span", why=f"span {span.name!r} cannot be sent: {error}")
            return
        self._remember(span.context)
        self._processor.on_end(translated)

    def close(self, within: Seconds = FLUSH_WITHIN) -> None:
        """Send what is left, for at most `within` real seconds; then nobody tries any more."""
        if not self._closed:
            self._closed = True
            ending = threading.Thread(target=self._processor.shutdown, name="otel-flush", daemon=True)
            ending.start()
            ending.join(within)
            if ending.is_alive():
                self._exporter.shutdown()

    def _remember(self, context: SpanContext) -> None:
        self._recent[context] = None
        if len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def _translate(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.trace import Link, SpanKind  # noqa: PLC0415

        parent = SpanContext(span.context.trace, span.parent) if span.parent else None
        return ReadableSpan(
            name=span.name,
            context=_context(span.context),
            parent=_context(parent) if parent else None,
            resource=self._resource(span.service or self._service),
            attributes=span.attributes,
            links=tuple(Link(_context(link)) for link in span.links),
            kind=SpanKind[span.kind.name],
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(max(span.start, span.end)),
            instrumentation_scope=self._scope,
        )

    def _resource(self, service: str) -> Resource:
        """One resource per service: several may share a process."""
        if service not in self._resources:
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

            attributes = resource_attributes(service, self._environment)
            self._resources[service] = Resource(attributes)
        return self._resources[service]


def resource_attributes(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Who speaks: neap-<service>, unless OTEL_SERVICE_NAME or else OTEL_RESOURCE_ATTRIBUTES names it otherwise."""
    from importlib.metadata import version  # noqa: PLC0415  4 MiB, and the SDK has it anyway

    pairs = (pair.partition("=") for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    given = {name.strip(): unquote(value.strip()) for name, equals, value in pairs if equals and name.strip()}
    named = environment.get("OTEL_SERVICE_NAME", "").strip()
    return {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": version("opentelemetry-sdk"),
        "service.name": f"neap-{service}",
        "service.version": version("neap-common"),
        **given,
        **({"service.name": named} if named else {}),
    }


def _context(context: SpanContext) -> Any:
    from opentelemetry.trace import SpanContext as Theirs  # noqa: PLC0415
    from opentelemetry.trace import TraceFlags  # noqa: PLC0415

    return Theirs(int(context.trace, 16), int(context.span, 16), is_remote=False, trace_flags=TraceFlags(1))


def _nanoseconds(at: Seconds) -> int:
    if at < 0:
        raise ValueError(f"time {at} lies before the epoch")
    return int(at * 1e9)
