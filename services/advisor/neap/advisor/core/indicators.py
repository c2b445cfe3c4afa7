"""What tells how well owners of a pool are served: one number per pool, higher is worse, and CPUs make it lower.

    usage    Σ cores in use / CPUs held                                     share; 1 is a full pool
    stall    share of time in which a task waited for a CPU (PSI some)      the worst pod
    wait     run delay / (run delay + cores in use)                         share of runnable time; the worst pod
    cpi      cycles per instruction, weighted by cores                      only where somebody states a target

A reading is None where a pod of the pool lacks it: half a pool measured is a pool not measured. `wait` and `cpi`
are read where reports carry them: the stock kernel gives neither per cgroup (only per node, and perf only per file
descriptor and CPU). Memory latency is in no report. Time throttled is no indicator: that is a pod's own quota, and
CPUs of its pool do not cure it.
Source: kernel Documentation/accounting/psi.rst, Documentation/scheduler/sched-stats.rst (run delay); katalyst-core
region indicators cpu_sched_wait, cpu_usage_ratio, cpi (reference §4.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from neap.advisor.core.policy import PodView, PoolView
from neap.common.model.usage import ContainerUsage, Stall
from neap.common.units import Ratio

USAGE: Final = "usage"
STALL: Final = "stall"
WAIT: Final = "wait"
CPI: Final = "cpi"


def signals(containers: Sequence[ContainerUsage]) -> dict[str, float]:
    """`wait` and `cpi` of one pod, where every container of it has them."""
    found: dict[str, float] = {}
    cores = [_positive(one.cpu) for one in containers]
    if not containers or None in cores:
        return found
    total = sum(cpu for cpu in cores if cpu is not None)
    delays = [_positive(one.run_delay) for one in containers]
    if None not in delays:
        waited = sum(delay for delay in delays if delay is not None)
        found[WAIT] = waited / (waited + total) if waited + total > 0 else 0.0
    cycles = [_positive(one.cpi) for one in containers]
    if None not in cycles and total > 0:
        pairs = zip(cycles, cores, strict=True)
        found[CPI] = sum((cpi or 0.0) * (cpu or 0.0) for cpi, cpu in pairs) / total
    return found


def stalled(stall: Stall | None) -> Ratio | None:
    """Share of time in which a task waited: since the last reading, or the average that lags behind; None: unknown."""
    if stall is None:
        return None
    share = stall.some10 if stall.some is None else stall.some
    return share if 0 <= share <= 1 else None


def total(amounts: Iterable[float | None]) -> float | None:
    """The sum of what is all known, and can be; None of nothing."""
    seen = [_positive(amount) for amount in amounts]
    known = [amount for amount in seen if amount is not None]
    return math.fsum(known) if known and len(known) == len(seen) else None


def _positive(amount: float | None) -> float | None:
    return amount if amount is not None and 0 <= amount < math.inf else None


def usage(view: PoolView) -> float | None:
    """See module docstring."""
    cores = [pod.now for pod in view.pods if pod.now is not None]
    return sum(cores) / view.held if view.held > 0 and 0 < len(cores) == len(view.pods) else None


def stall(view: PoolView) -> float | None:
    """See module docstring."""
    return _worst(view, lambda pod: pod.stall)


def wait(view: PoolView) -> float | None:
    """See module docstring."""
    return _worst(view, lambda pod: pod.signals.get(WAIT))


def cpi(view: PoolView) -> float | None:
    """See module docstring."""
    pairs = [(pod.signals.get(CPI), pod.now) for pod in view.pods]
    known = [(cycles, cores) for cycles, cores in pairs if cycles is not None and cores is not None]
    total = sum(cores for _, cores in known)
    return sum(cycles * cores for cycles, cores in known) / total if total > 0 and len(known) == len(pairs) else None


def _worst(view: PoolView, read: Callable[[PodView], float | None]) -> float | None:
    known = [value for value in map(read, view.pods) if value is not None]
    return max(known) if known and len(known) == len(view.pods) else None


READINGS: Final[Mapping[str, Callable[[PoolView], float | None]]] = MappingProxyType(
    {USAGE: usage, STALL: stall, WAIT: wait, CPI: cpi}
)
