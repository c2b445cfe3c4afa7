"""`neap waste`: what owners ask for and do not use, by service and by namespace. Pure.

    waste of a service = pods × max(0, request of a pod − p99 use of a pod)              cores, or bytes

Requests: what the ledgers hold now. Use: `used` of the services' profiles (99th percentile of a pod's samples over the
record's window). A service without it is counted apart: its requests are neither used nor wasted as far as we know.
Guests ask for nothing that is theirs, so they are left out.
Source: requirements 002-16, story S1 (request 8, p99 3 -> 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from neap.common.model.placement import Placement
from neap.common.model.profile import ServiceProfile, profile_key
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.units import format_bytes
from neap.console.core.columns import columns

MOST_ROWS: Final = 50


@dataclass(slots=True)
class Row:
    """One service or one namespace; whole units. `unknown`: asked for by pods nobody knows the use of."""

    name: str
    pods: int = 0
    asked: int = 0
    used: float = 0.0
    wasted: float = 0.0
    unknown: int = 0
    version: str = ""
    top: str = ""
    top_wasted: float = 0.0


def services(held: Iterable[Placement], profiles: Mapping[str, ServiceProfile], kind: str) -> list[Row]:
    """One row per service that asks for `kind`, most wasted first."""
    rows: dict[str, Row] = {}
    for placement in held:
        workload = placement.workload
        request = workload.requests.get(kind, 0)
        if workload.qos is QosClass.RECLAIMED or not request:
            continue
        key = profile_key(workload)
        row = rows.setdefault(key, Row(key))
        row.pods += 1
        profile = profiles.get(key)
        use = profile.used.get(kind) if profile is not None else None
        if use is None or profile is None:
            row.unknown += request
        else:
            row.asked += request
            row.used += use
            row.wasted += max(0.0, request - use)
            row.version = profile.version
    return _ordered(rows.values())


def by_namespace(rows: Iterable[Row]) -> list[Row]:
    """Sums, most wasted first, each with its most wasteful service."""
    found: dict[str, Row] = {}
    for row in rows:
        namespace, _, rest = row.name.partition("/")
        total = found.setdefault(namespace, Row(namespace))
        total.pods += row.pods
        total.asked += row.asked
        total.used += row.used
        total.wasted += row.wasted
        total.unknown += row.unknown
        if row.wasted > total.top_wasted:
            total.top, total.top_wasted = rest, row.wasted
    return _ordered(found.values())


def text(rows: list[Row], kind: str, offered: int | None, what: str) -> str:
    """A table with its total, and where the numbers come from."""
    head = (what, "PODS", "REQUEST", "P99 USE", "WASTE", "USE UNKNOWN")
    tops = any(row.top for row in rows)
    table = [head + (("TOP SERVICE",) if tops else ())]
    total = Row("TOTAL", **{name: sum(getattr(row, name) for row in rows) for name in ("pods", "asked", "used", "wasted", "unknown")})  # fmt: skip
    for row in (*rows[:MOST_ROWS], total):
        told = (row.asked, row.used, row.wasted, row.unknown)
        cells = (row.name, str(row.pods), *(_amount(kind, amount) for amount in told))
        table.append(cells + ((row.top or "-",) if tops else ()))
    lines = columns(table, numbers=True)
    if len(rows) > MOST_ROWS:
        lines.insert(-1, f"... and {len(rows) - MOST_ROWS} more")
    lines.append("source: requests by the ledgers, use by the services' profiles (p99 of a pod); guests are left out")
    if offered is not None:
        lines.append(f"lent or on offer just now, on all nodes: {_amount(kind, offered)}")
    return "\n".join(lines)


def as_json(rows: list[Row], kind: str) -> dict[str, Any]:
    """The same for machines, in whole units."""
    names = ("name", "pods", "asked", "used", "wasted", "unknown", "version", "top")
    return {"kind": kind, "rows": [{name: getattr(row, name) for name in names} for row in rows]}


def _ordered(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (-row.wasted, row.name))


def _amount(kind: str, amount: float) -> str:
    return f"{amount / 1000:,.1f}" if kind == CPU else format_bytes(int(amount))
