"""Our spans reach a collector with our ids; without a collector the SDK costs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.runtime.clock import stopwatch
from neap.common.telemetry.otel import ClosingTracer, OtlpTracer, make_tracer, resource_attributes
from neap.common.telemetry.span import Span, SpanContext, SpanKind
from neap.common.testing.otlp import OtlpReceiver
from tests.conftest import SOON


def a_span(number: int = 1, **changes: object) -> Span:
    span = Span(
        context=SpanContext(f"{number:032x}", f"{number:016x}"),
        parent="",
        name="placed",
        service="scheduler",
        start=1000.5,
        end=1001.25,
    )
    return msgspec.structs.replace(span, **changes)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def sent(receiver: OtlpReceiver, *spans: Span, **environment: str) -> list[Span]:
    tracer = make_tracer("scheduler", {**receiver.environment, **environment})
    for span in spans:
        tracer.record(span)
    tracer.close(SOON)
    return receiver.spans


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "always_off"},
    ],
)
def test_without_a_collector_the_sdk_is_not_imported(environment: dict[str, str]) -> None:
    code = (
        f"import sys; from neap.common.telemetry.otel import make_tracer; t = make_tracer('x', {environment!r}); "
        "assert not t.enabled; t.close(); assert not [n for n in sys.modules if n.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SOON)


def test_a_span_arrives_as_it_was_recorded(receiver: OtlpReceiver) -> None:
    span = a_span(
        parent="00000000000000aa",
        kind=SpanKind.CONSUMER,
        links=(SpanContext("c" * 32, "d" * 16),),
        attributes={"neap.why": "6.5 of 8 cores are free", "cores": 6.5, "count": 3, "forced": False},
    )
    assert sent(receiver, span) == [span]


@pytest.mark.parametrize("kind", list(SpanKind))
def test_every_kind_is_kept(receiver: OtlpReceiver, kind: SpanKind) -> None:
    assert [span.kind for span in sent(receiver, a_span(kind=kind))] == [kind]


def test_services_of_one_process_are_told_apart(receiver: OtlpReceiver) -> None:
    sent(receiver, a_span(1, service="advisor"), a_span(2, service="enforcer"), a_span(3, service=""))
    assert sorted(each.resource["service.name"] for each in receiver.received) == [
        "neap-advisor",
        "neap-enforcer",
        "neap-scheduler",
    ]


def test_the_resource_follows_the_environment() -> None:
    assert resource_attributes("advisor", {})["service.name"] == "neap-advisor"
    told = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine, deployment.environment=a%20b,broken", "OTHER": "x"}
    assert resource_attributes("advisor", told)["service.name"] == "mine"
    assert resource_attributes("advisor", told)["deployment.environment"] == "a b"
    assert resource_attributes("advisor", {**told, "OTEL_SERVICE_NAME": "named"})["service.name"] == "named"


def test_a_span_recorded_twice_is_sent_once(receiver: OtlpReceiver) -> None:
    assert len(sent(receiver, a_span(1), a_span(2), a_span(1))) == 2
    assert receiver.duplicates() == []


@pytest.mark.parametrize(
    ("sampler", "ratio", "kept"),
    [
        ("always_on", "", 200),
        ("parentbased_always_on", "", 200),
        ("traceidratio", "0.25", 50),
        ("parentbased_traceidratio", "0.25", 50),
        ("traceidratio", "often", 200),
        ("traceidratio", "7", 200),
        ("no_such_sampler", "", 200),
    ],
)
def test_the_sampler_is_honoured_by_trace_id(receiver: OtlpReceiver, sampler: str, ratio: str, kept: int) -> None:
    spread = [a_span(context=SpanContext(f"{number * (1 << 64) // 200:032x}", "1" * 16)) for number in range(200)]
    assert len(sent(receiver, *spread, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio)) == kept


def test_two_services_keep_the_same_traces(receiver: OtlpReceiver) -> None:
    sampled = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    for service in ("advisor", "enforcer"):
        traces = [f"{(number * 0x9E3779B97F4A7C15) % (1 << 64):032x}" for number in range(1, 101)]
        sent(receiver, *(a_span(context=SpanContext(t, "1" * 16), service=service) for t in traces), **sampled)
    by_service = {
        each: {s.context.trace for s in receiver.spans if s.service == each} for each in ("advisor", "enforcer")
    }
    assert by_service["advisor"] == by_service["enforcer"]
    assert 30 < len(by_service["advisor"]) < 70


def tracer_to(endpoint: str) -> ClosingTracer:
    return make_tracer("x", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})


def unbearable_spans() -> st.SearchStrategy[Span]:
    return st.builds(
        a_span,
        start=st.floats(),
        context=st.builds(SpanContext, st.one_of(st.just("0" * 32), st.text(max_size=40)), st.just("1" * 16)),
        attributes=st.dictionaries(st.text(), st.one_of(st.none(), st.lists(st.integers()), st.floats(), st.text())),
    )


@pytest.fixture(scope="module")
def long_lived() -> Iterator[ClosingTracer]:
    with OtlpReceiver() as receiver:
        tracer = tracer_to(receiver.endpoint)
        yield tracer
        tracer.close()


@given(span=unbearable_spans())
def test_no_span_whatever_it_holds_raises_into_the_service(long_lived: ClosingTracer, span: Span) -> None:
    long_lived.record(span)


def test_a_bad_span_does_not_take_its_neighbours_along(receiver: OtlpReceiver) -> None:
    bad = [
        a_span(2, start=float("nan")),
        a_span(3, start=-5.0),
        a_span(4, start=1e300),
        a_span(5, context=SpanContext("zz", "z")),
    ]
    assert [span.context for span in sent(receiver, *bad, a_span(1))] == [a_span(1).context]


def test_a_collector_that_is_away_costs_a_bounded_wait_at_the_end() -> None:
    """The exporter would try for a minute; that it does not even do so in the background, conftest looks after."""
    tracer = tracer_to("http://127.0.0.1:1")
    tracer.record(a_span())
    started = stopwatch()
    tracer.close(0.3)
    assert stopwatch() - started < SOON / 2
    tracer.record(a_span(2))
    assert tracer.dropped == 1


def test_a_full_queue_drops_and_goes_on() -> None:
    tracer = tracer_to("http://127.0.0.1:1")
    assert isinstance(tracer, OtlpTracer)
    started = stopwatch()
    for number in range(1, 5000):
        tracer.record(a_span(number))
    assert stopwatch() - started < SOON / 2, "it waits for the exporter, that tries for a minute with every batch"
    tracer.close(0.1)


def test_spans_leave_without_being_asked(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    tracer = make_tracer("scheduler", receiver.environment)
    tracer.record(a_span())
    assert len(receiver.wait_for(lambda spans: len(spans) == 1, within=SOON)) == 1
    tracer.close()


def test_the_receiver_names_orphans_and_duplicates(receiver: OtlpReceiver) -> None:
    root, child = a_span(1), a_span(1, context=SpanContext(f"{1:032x}", "2" * 16), parent=f"{1:016x}")
    sent(receiver, child)
    assert receiver.orphans() == [child]
    sent(receiver, root)
    assert receiver.orphans() == []
    sent(receiver, root)
    assert receiver.duplicates() == [root.context]
    assert receiver.trace(f"{1:032x}") == [child, root, root]
