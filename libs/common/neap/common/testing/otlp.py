"""A trace receiver in this process: OTLP/HTTP protobuf on 127.0.0.1, spans kept for assertions.

with OtlpReceiver() as receiver:
tracer = make_tracer("advisor", receiver.environment)
...
spans = receiver.wait_for(lambda spans: len(spans) == 3)
"""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

from neap.common.telemetry.span import Span, SpanContext, SpanKind
from neap.common.units import Seconds


class ReceivedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span as a collector sees it: ours, and the resource it came with."""

    span: Span
    resource: dict[str, Any]


class OtlpReceiver:
    """Listens while its context is open. `answer` is the HTTP status it gives; only 200 keeps the spans."""

    def __init__(self, *, answer: int = 200) -> None:
        self.answer = answer
        self.requests = 0
        self._received: list[ReceivedSpan] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to send here, quickly."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    @property
    def received(self) -> list[ReceivedSpan]:
        """Everything so far, duplicates included, in order of arrival."""
        with self._changed:
            return list(self._received)

    @property
    def spans(self) -> list[Span]:
        """The same without resources."""
        return [each.span for each in self.received]

    def trace(self, trace: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.context.trace == trace]

    def duplicates(self) -> list[SpanContext]:
        """Spans that arrived more than once."""
        return [context for context, count in Counter(span.context for span in self.spans).items() if count > 1]

    def orphans(self) -> list[Span]:
        """Spans whose parent never arrived."""
        known = {span.context for span in self.spans}
        return [
            span for span in self.spans if span.parent and SpanContext(span.context.trace, span.parent) not in known
        ]

    def wait_for(self, enough: Callable[[Sequence[Span]], bool], *, within: Seconds = 10.0) -> list[Span]:
        """Block until `enough` holds; from a coroutine call it with asyncio.to_thread.

        Raises:
            TimeoutError: says what has arrived.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: enough([each.span for each in self._received]), within):
                names = Counter(f"{each.span.service}/{each.span.name}" for each in self._received)
                raise TimeoutError(f"after {within} s only {dict(names)} in {self.requests} requests")
            return [each.span for each in self._received]

    def take(self, payload: bytes) -> None:
        """Keep the spans of one ExportTraceServiceRequest."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
            ExportTraceServiceRequest,
        )

        found = []
        for group in ExportTraceServiceRequest.FromString(payload).resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                found += [ReceivedSpan(span=_span(each, resource), resource=resource) for each in scope.spans]
        with self._changed:
            self._received += found
            self._changed.notify_all()


def _span(each: Any, resource: dict[str, Any]) -> Span:
    kinds = {1: SpanKind.INTERNAL, 2: SpanKind.SERVER, 4: SpanKind.PRODUCER, 5: SpanKind.CONSUMER}
    return Span(
        context=SpanContext(each.trace_id.hex(), each.span_id.hex()),
        parent=each.parent_span_id.hex(),
        name=each.name,
        service=str(resource.get("service.name", "")).removeprefix("neap-"),
        start=each.start_time_unix_nano / 1e9,
        end=each.end_time_unix_nano / 1e9,
        kind=kinds[each.kind],
        links=tuple(SpanContext(link.trace_id.hex(), link.span_id.hex()) for link in each.links),
        attributes=_attributes(each.attributes),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


def _handler_of(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests += 1
            if receiver.answer == 200:
                zipped = self.headers.get("Content-Encoding") == "gzip"
                receiver.take(gzip.decompress(payload) if zipped else payload)
            self.send_response(receiver.answer if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
