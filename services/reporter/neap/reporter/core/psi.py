"""Pressure files: shares of time in which some, or all, tasks waited for a resource.

    some10, some60, full10, full60     the kernel's averages over 10 s and 60 s                   [ratio 0..1]
    some, full = min(1, Δtotal / Δt)   over the time between two readings; totals in µs           [ratio 0..1]

The averages lag a sudden change by seconds, the totals do not. Kernels before 5.13 have no "full" line for cpu; it
then counts as 0, as later kernels print it. For irq there is only a "full" line: when everybody waits somebody does,
so `some` is `full` there.
Source: kernel documentation, accounting/psi.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from neap.common.model.usage import Stall
from neap.common.units import Seconds
from neap.reporter.core.text import LARGEST

HIGHEST_PERCENT: Final = 100.0
MICROSECONDS: Final = 1e6
_SHARE: Final = r"(\d{1,3}(?:\.\d{1,6})?)"
_LINE: Final = rf"avg10={_SHARE} avg60={_SHARE} avg300=[\d.]+ total=(\d{{1,19}})\n?"
_FILE: Final = re.compile(rf"some {_LINE}(?:full {_LINE})?", re.ASCII)  # one look per file: cheaper than by hand
_FULL: Final = re.compile(rf"full {_LINE}", re.ASCII)

# One pressure file: averages of some as ratios, its total in microseconds, and the same of full. A plain tuple, made
# hundreds of times per report.
Waiting: TypeAlias = tuple[float, float, int, float, float, int]


def parse_pressure(text: str) -> Waiting:
    """A pressure file, of cpu also without its second line."""
    if (found := _FILE.fullmatch(text)) is None:
        raise ValueError("no pressure file")
    return _waiting(*found.groups("0"))


def parse_whole_pressure(text: str) -> Waiting:
    """A pressure file of memory or io: it has both lines on every kernel, so one without was cut off."""
    if "\nfull " not in text:
        raise ValueError("half a pressure file")
    return parse_pressure(text)


def parse_irq_pressure(text: str) -> Waiting:
    """The pressure file of interrupts."""
    if (found := _FULL.fullmatch(text)) is None:
        raise ValueError("no pressure file of interrupts")
    return _waiting(*found.groups(), *found.groups())


def _waiting(some10: str, some60: str, some: str, full10: str, full60: str, full: str) -> Waiting:
    """Percent there, ratios here."""
    shares = float(some10), float(some60), float(full10), float(full60)
    totals = int(some), int(full)
    if max(shares) > HIGHEST_PERCENT or max(totals) > LARGEST:
        raise ValueError(f"no shares of time: {shares} {totals}")
    return shares[0] / 100.0, shares[1] / 100.0, totals[0], shares[2] / 100.0, shares[3] / 100.0, totals[1]


def stall(before: Waiting | None, now: Waiting | None, seconds: Seconds) -> Stall | None:
    """What is told about a resource."""
    if now is None:
        return None
    some10, some60, some, full10, full60, full = now
    if before is None:
        return Stall(some10=some10, some60=some60, full10=full10, full60=full60)
    span, waited, all_waited = MICROSECONDS * seconds, some - before[2], full - before[5]
    return Stall(
        some10=some10,
        some60=some60,
        full10=full10,
        full60=full60,
        some=min(1.0, waited / span) if waited >= 0 else None,
        full=min(1.0, all_waited / span) if all_waited >= 0 else None,
    )
