"""How much is asked of the API, whatever comes: buckets, breakers, routes, and a limit shared by replicas."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import PortError, Rejected, Throttled, Unavailable, Unreached
from neap.common.model.api import ApiShares
from neap.gateway.core.asking.breaker import Breaker, BreakerSettings, BreakerStance
from neap.gateway.core.asking.bucket import Bucket
from neap.gateway.core.asking.flow import Flow, FlowSettings, Refusal, Ticket
from neap.gateway.core.asking.routing import ApiRoute, Ask, Priority, Verb
from neap.gateway.core.asking.share import Share, ShareSettings

GAPS = st.lists(st.floats(0, 2, allow_subnormal=False), min_size=1, max_size=150)


@given(st.floats(0.5, 50), st.integers(1, 40), GAPS)
def test_in_any_second_no_more_go_than_the_rate_and_the_burst(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, at, went = Bucket("b", rate, burst), 100.0, []
    for gap in gaps:
        at += gap * gap * 0.2  # often many at once
        wait = bucket.wait(at)
        if wait <= 30.0:
            bucket.take(wait)
            went.append(at + wait)
    assert went == sorted(went), "who came first goes first"
    for start, first in enumerate(went):
        in_a_second = bisect_right(went, first + 1.0) - start
        assert in_a_second <= rate + burst + 1e-6


@given(GAPS, st.floats(0.1, 20))
def test_nothing_goes_before_the_server_wants_it(gaps: list[float], after: float) -> None:
    bucket, at = Bucket("b", 100.0, 10.0), 0.0
    bucket.throttled(at, after)
    went = []
    for gap in gaps:
        at += gap * 0.1
        wait = bucket.wait(at)
        bucket.take(wait)
        went.append(at + wait)
    assert all(each >= after for each in went)
    assert sum(each < after + 0.5 for each in went) <= 51, "and then at the rate, not all at once"


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["ask", "good", "bad", "forget"]), st.floats(0, 6)), max_size=200),
)
def test_an_open_breaker_lets_nothing_through_and_a_half_open_one_a_single_call(
    failures: int, plan: list[tuple[str, float]]
) -> None:
    settings = BreakerSettings(failures=failures, cool_down=10.0, probe_within=600.0)
    breaker, at, out, opened, row = Breaker(settings), 0.0, 0, -100.0, 0
    for what, gap in plan:
        at += gap
        before = breaker.stance
        if what == "ask":
            may = breaker.take(at)
            if before is BreakerStance.OPEN:
                assert may == (at >= opened + 10.0)
            elif before is BreakerStance.HALF_OPEN:
                assert may == (out == 0)
            else:
                assert may
            out = 1 if may and before is BreakerStance.OPEN else out + may
        elif out:
            out -= 1
            if what == "good":
                breaker.succeeded(at)
                row = 0
                assert before is not BreakerStance.HALF_OPEN or breaker.stance is BreakerStance.CLOSED
            elif what == "bad":
                breaker.failed(at, "500")
                row += 1
                assert (breaker.stance is BreakerStance.CLOSED) == (before is BreakerStance.CLOSED and row < failures)
            else:
                breaker.forgot()
        if breaker.stance is BreakerStance.OPEN and before is not BreakerStance.OPEN:
            opened, out = at, 0  # what is still out belongs to the past
        breaker.validate()


OUTCOMES: list[PortError | None] = [
    None, None, None, Unavailable("500"), Throttled("429", 0.5), Rejected("no"), Unreached("nobody"),
]  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Verb)),
            st.sampled_from(["pods", "nodes", "leases.coordination.k8s.io"]),
            st.sampled_from(list(Priority)),
            st.sampled_from(range(len(OUTCOMES))),
            st.floats(0, 3),
        ),
        max_size=120,
    ),
    st.booleans(),
)
def test_every_request_goes_where_its_route_leads_and_never_through_an_open_breaker(
    plan: list[tuple[Verb, str, Priority, int, float]], ill: bool
) -> None:
    routes = (
        ApiRoute(verb="list", resource="pods", endpoints=("c", "d")),
        ApiRoute(verb="list", endpoints=("a",), or_others=True),
        ApiRoute(priority="low", endpoints=("d",)),
    )
    flow, at = Flow(FlowSettings(routes=routes), ("a", "b", "c", "d")), 1000.0
    if ill:
        for _ in range(2):
            flow.probed("a", ready=False)
    for verb, resource, priority, outcome, took in plan:
        ask = Ask(verb, resource, priority)
        stances = {each.name: each.breaker for each in flow.endpoints()}
        ticket = flow.choose(ask, at)
        if isinstance(ticket, Refusal):
            assert "open" in ticket.why
            at += 1.0
            continue
        if verb is Verb.LIST and resource == "pods":
            assert ticket.endpoint in ("c", "d")
        elif verb is not Verb.LIST and priority is Priority.LOW:
            assert ticket.endpoint == "d"
        elif verb is Verb.LIST and not ill and stances["a"] == "closed":
            assert ticket.endpoint == "a"
        if stances[ticket.endpoint] == "open":
            assert {each.name: each.breaker for each in flow.endpoints()}[ticket.endpoint] == "half open"
        at += took
        flow.answered(ticket, at, OUTCOMES[outcome])
        flow.validate()
    assert all(each.busy == 0 for each in flow.endpoints())


class Bus:
    """One record with a revision."""

    def __init__(self) -> None:
        self.record: ApiShares | None = None
        self.revision = 0


class Replica:
    """Renews in two steps, as over a bus: reads, and writes a while later."""

    def __init__(self, name: str, settings: ShareSettings) -> None:
        self.name, self.settings = name, settings
        self.share = Share(name, settings)
        self.read: tuple[ApiShares | None, int] | None = None

    def step(self, bus: Bus, at: float, fate: str) -> None:
        if fate == "dies":
            self.share, self.read = Share(self.name + "'", self.settings), None  # another life, another name
            self.name += "'"
        elif fate == "cut":
            self.read = None
        elif self.read is None:
            self.read = (bus.record, bus.revision)
        else:
            seen, revision = self.read
            self.read = None
            record = self.share.renewal(seen, at)
            if revision != bus.revision:
                return
            bus.record, bus.revision = record, revision + 1
            if fate != "unanswered":
                self.share.renewed()


FATES = st.sampled_from(["", "", "", "", "", "cut", "unanswered", "dies"])


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), FATES, st.floats(0, 1.5)), max_size=150),
    st.lists(st.floats(-0.9, 0.9), min_size=5, max_size=5),
)
def test_all_shares_together_are_never_more_than_the_whole(
    count: int, plan: list[tuple[int, str, float]], offsets: list[float]
) -> None:
    settings, bus, at = ShareSettings(replicas=count), Bus(), 1000.0
    replicas = [Replica(f"r{number}", settings) for number in range(count)]
    agreed: dict[str, bool] = {}
    for number, fate, gap in plan:
        at += gap
        one = replicas[number % count]
        clock = at + offsets[number % count]  # clocks differ, by less than `drift`
        one.step(bus, clock, fate)
        if bus.record is not None:
            assert sum(claim.share for claim in bus.record.claims) <= 1 + 1e-9
        used = {each.name: each.share.part(at + offset) for each, offset in zip(replicas, offsets[:count], strict=True)}
        agreed = {
            each.name: each.share.why(at + offset).startswith("agreed")
            for each, offset in zip(replicas, offsets[:count], strict=True)
        }
        assert sum(part for name, part in used.items() if agreed[name]) <= 1 + 1e-9
        assert all(part <= 1 / count + 1e-9 for name, part in used.items() if not agreed[name]), "alone: a fixed part"
    for _ in range(4 * count):  # once all is well, everybody has as much as the others
        at += settings.lasts / (4 * count)
        for one, offset in zip(replicas, offsets[:count], strict=True):
            one.step(bus, at + offset, "")
            one.step(bus, at + offset, "")
    at += settings.lasts / (4 * count)
    for _ in range(3):
        for one, offset in zip(replicas, offsets[:count], strict=True):
            one.read = None
            one.step(bus, at + settings.drift + offset, "")
            one.step(bus, at + settings.drift + offset, "")
    assert [one.share.part(at + settings.drift + o) for one, o in zip(replicas, offsets[:count], strict=True)] == [
        pytest.approx(1 / count)
    ] * count


def a_pair() -> tuple[Bus, Replica, Replica]:
    """Two that know of each other, the first still with everything."""
    settings, bus = ShareSettings(replicas=2), Bus()
    one, two = Replica("one", settings), Replica("two", settings)
    for each in (one, one, two, two):
        each.step(bus, 1000.0, "")
    assert (one.share.part(1000.0), two.share.part(1000.0)) == (1.0, 0.0)
    return bus, one, two


def test_a_part_that_is_given_up_is_given_up_even_if_nobody_answers() -> None:
    bus, one, two = a_pair()
    one.step(bus, 1001.0, "")
    one.step(bus, 1001.0, "unanswered")
    two.step(bus, 1002.0, "")
    two.step(bus, 1002.0, "")
    assert (one.share.part(1002.0), two.share.part(1002.0)) == (0.5, 0.5)
    one.step(bus, 1003.0, "")  # reads; and before it can write, somebody else does
    two.step(bus, 1003.0, "")
    two.step(bus, 1003.0, "")
    one.step(bus, 1003.0, "")
    assert (one.share.part(1003.0), two.share.part(1003.0)) == (0.5, 0.5)


def test_whose_clock_runs_ahead_takes_no_part_that_is_still_used() -> None:
    bus, one, two = a_pair()
    for at in (1000.5, 1001.0, 1011.4, 1011.5):  # `two` is 1.5 s ahead, and `one` is silent since 1000
        two.step(bus, at, "")
    assert one.share.part(1009.9) == 1.0
    assert two.share.part(1011.5) == 0.0
    two.step(bus, 1013.0, "")
    two.step(bus, 1013.0, "")
    assert two.share.part(1013.0) == 1.0, "and in the end it does"


def test_a_ticket_that_nobody_waits_for_leaves_no_trace() -> None:
    flow = Flow(FlowSettings(), ("a",))
    ticket = flow.choose(Ask(Verb.GET, "pods"), 0.0)
    assert isinstance(ticket, Ticket)
    flow.forgot(ticket)
    assert flow.endpoints()[0].busy == 0
    assert flow.endpoints()[0].served == 0
