"""The circuit breaker's timeline, and who is a fault of the server and who is not."""

from __future__ import annotations

import pytest

from neap.common.errors import Conflict, Denied, Expired, PortError, Rejected, Throttled, Unavailable, Vanished
from neap.gateway.core.asking.breaker import Breaker, BreakerSettings, BreakerStance
from neap.gateway.core.asking.endpoint import Endpoint, code_of, is_fault
from neap.gateway.core.asking.routing import Verb


def test_five_failures_open_it_one_call_is_tried_and_closes_it() -> None:
    breaker = Breaker(BreakerSettings(failures=5, cool_down=10.0))
    for second in range(5):
        assert breaker.take(100.0 + second)
        breaker.failed(100.0 + second, "503")
    assert not breaker.take(104.1)
    assert not breaker.take(113.9)
    assert breaker.take(114.0)
    assert not breaker.take(114.1), "one call is enough to find out"
    breaker.failed(115.0, "503 again")
    assert not breaker.take(124.9)
    assert breaker.take(125.0)
    breaker.succeeded(125.5)
    assert breaker.take(125.5)
    assert [(turn.at, turn.state) for turn in breaker.timeline] == [
        (104.0, "open"),
        (114.0, "half open"),
        (115.0, "open"),
        (125.0, "half open"),
        (125.5, "closed"),
    ]
    assert breaker.timeline[0].why == "5 failures in a row; 503"


def test_a_success_between_failures_starts_the_count_anew() -> None:
    breaker = Breaker(BreakerSettings(failures=2))
    for outcome in "fsfsfs":
        (breaker.failed(1.0, "500") if outcome == "f" else breaker.succeeded(1.0))
    assert breaker.stance is BreakerStance.CLOSED


def test_a_probe_that_never_answers_is_tried_again() -> None:
    breaker = Breaker(BreakerSettings(failures=1, cool_down=10.0, probe_within=30.0))
    breaker.failed(0.0, "500")
    assert breaker.take(10.0)
    assert not breaker.take(39.0)
    assert breaker.take(40.0)
    breaker.forgot()
    assert breaker.take(41.0), "whoever asked went away"


@pytest.mark.parametrize(
    ("error", "code", "speaks_against"),
    [
        (None, "ok", False),
        (Unavailable("500"), "5xx", True),
        (Throttled("429"), "429", False),
        (Vanished("404"), "404", False),
        (Conflict("409"), "409", False),
        (Expired("410"), "410", False),
        (Denied("403"), "403", False),
        (Rejected("422"), "4xx", False),
    ],
)
def test_a_server_that_says_no_is_well(error: PortError | None, code: str, speaks_against: bool) -> None:
    assert (code_of(error), is_fault(error)) == (code, speaks_against)


def test_a_slow_answer_is_forgotten_in_time_and_a_missing_one_counts_at_once() -> None:
    endpoint = Endpoint("a", BreakerSettings(), forget=10.0)
    endpoint.sent(Verb.GET, 1, 0.0)
    assert endpoint.latency(Verb.GET, 3.0) == 3.0
    endpoint.answered(Verb.GET, 1, 4.0, None)
    assert endpoint.latency(Verb.GET, 4.0) == 4.0
    assert endpoint.latency(Verb.GET, 14.0) == 2.0
    assert endpoint.latency(Verb.LIST, 4.0) == 0.0, "lists are another matter"
