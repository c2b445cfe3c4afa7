"""The latency model against values that are known."""

from __future__ import annotations

from math import log

import pytest

from neap.virtual.queueing import LONGEST, mean_wait, p99_latency, waiting_chance


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_one_core_is_the_m_m_1_queue_exactly(rho: float) -> None:
    # M/M/1: Pw = ρ, Wq = ρ s / (1 − ρ); P(W > t) = ρ exp(−(1 − ρ) t / s)
    assert waiting_chance(rho, 1) == pytest.approx(rho)
    assert mean_wait(rho, 1, 0.02) == pytest.approx(rho * 0.02 / (1 - rho))
    tail = max(0.0, log(rho / 0.01)) * 0.02 / (1 - rho)
    assert p99_latency(rho, 1, 0.02) == pytest.approx(0.02 * log(100) + tail)


# Erlang C from tables, e.g. Erlang C(2, 1) = 1/3; C(5, 4) = 0.5541; C(10, 8) = 0.4092; Wq = C s / (c − a).
@pytest.mark.parametrize(
    ("servers", "load", "erlang"), [(2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092), (4, 3.6, 0.7878)]
)
def test_sakasegawas_formula_is_close_to_erlang_c_when_busy(servers: int, load: float, erlang: float) -> None:
    assert waiting_chance(load, servers) == pytest.approx(erlang, rel=0.11)


def test_a_service_alone_with_enough_cores_keeps_its_objective() -> None:
    # 4 cores offered to 16: nobody waits, p99 is that of the service time
    assert p99_latency(4, 16, 0.01) == pytest.approx(0.01 * log(100))


def test_half_a_core_makes_every_request_take_twice_as_long() -> None:
    assert p99_latency(0.1, 0.5, 0.01) == pytest.approx(p99_latency(0.2, 1.0, 0.02))


def test_overload_grows_with_the_backlog_and_ends_where_clients_give_up() -> None:
    calm, late, later = (p99_latency(4.0, 4.0, 0.01, backlog) for backlog in (0, 4, 8))
    assert late - calm == pytest.approx(1.0)
    assert later - late == pytest.approx(1.0)
    assert p99_latency(40, 4, 0.01, 1e9) == LONGEST
    assert p99_latency(1, 0, 0.01) == LONGEST


def test_no_load_is_just_the_service_time() -> None:
    assert p99_latency(0, 2, 0.01) == pytest.approx(0.01 * log(100))
