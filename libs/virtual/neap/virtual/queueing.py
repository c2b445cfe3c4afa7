"""Tail latency of an online service from its load and its cores: M/M/c with a fractional number of servers.

A service offers λ requests/s of mean service time s (so a = λ·s cores are busy on average) to c cores:

    ρ   = a / c
    Wq  = s · ρ^(√(2(c+1)) − 1) / (c · (1 − ρ))       mean wait, Sakasegawa's approximation, any real c ≥ 1
    Pw  = Wq · (c/s − λ) = ρ^(√(2(c+1)) − 1)          chance to wait at all (the mean wait of who waits is 1/(c/s − λ))
    W99 = max(0, ln(Pw / 0.01)) / (c/s − λ)           99th percentile of the wait, exponential tail as in M/M/c
    p99 = s · ln 100 + W99                            service times are exponential; the sum is an upper estimate

For c = 1 it is the M/M/1 queue exactly (Pw = ρ). Below one core a request runs as slowly as the core's share: one
server with s/c. Overload, and what nears it: ρ counts as at most 0.99, and the backlog B (core-seconds) must be
worked off first, so p99 grows by B/c. Nobody waits longer than `LONGEST`: clients give up.

Assumed away: bursts within a step, cores that slow each other (SMT siblings, caches, clocks).

Source: H. Sakasegawa, An approximation formula L_q ≈ α·ρ^β/(1−ρ), Ann. Inst. Statist. Math. 29 (1977) 67-75;
the waiting-time tail of M/M/c (Erlang C): e.g. L. Kleinrock, Queueing Systems I (1975), ch. 3.5.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Final

from neap.common.units import Cores, Ratio, Seconds

LONGEST: Final[Seconds] = 10.0  # a usual client time-out
FULLEST: Final[Ratio] = 0.99


def waiting_chance(load: Cores, cores: Cores) -> Ratio:
    """Pw: the chance that a request finds all cores busy; load in cores (Erlang)."""
    rho = min(load / cores, 1.0)
    return float(rho ** (sqrt(2 * (cores + 1)) - 1))


def mean_wait(load: Cores, cores: Cores, mean: Seconds) -> Seconds:
    """Wq, for load < cores."""
    return waiting_chance(load, cores) * mean / (cores - load)


def p99_latency(load: Cores, cores: Cores, mean: Seconds, backlog: float = 0.0) -> Seconds:
    """The 99th percentile of a request's time in the service.

    Args:
        load: offered, cores.
        cores: what the service can have at once.
        mean: service time on a core, seconds.
        backlog: core-seconds waiting from before.

    Returns:
        Seconds, 0 < p99 ≤ LONGEST. Laws: non-decreasing in load and backlog, non-increasing in cores.
    """
    if load <= 0 and backlog <= 0:
        return min(mean * log(100) / min(1.0, max(cores, 1e-9)), LONGEST)
    if cores <= 0:
        return LONGEST
    behind = backlog / cores
    if cores < 1:
        load, mean, cores = load / cores, mean / cores, 1.0
    load = min(load, FULLEST * cores)
    chance = waiting_chance(load, cores)
    wait = max(0.0, log(chance / 0.01)) * mean / (cores - load) if chance > 0 else 0.0
    return min(mean * log(100) + wait + behind, LONGEST)
