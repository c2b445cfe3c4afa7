"""`neap api`: how the Kubernetes API fares as the gateway sees it. The first line is the answer.

the API fares well: 2 of 2 endpoints serve, 7 of 7 kinds are known, gateway-1 leads (term 3); gateway-1 says so
  endpoint         state  now  watches  served    p50     p99  answers
  https://a:6443  closed    3        7   12841  3.1ms  21.0ms  ok 12830, 409 11
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from neap.common.model.api import ApiState, BucketState, EndpointState, KindState
from neap.common.units import Seconds, format_duration
from neap.console.core.moment import when


def text(state: ApiState) -> str:
    """All of it."""
    parts = (_endpoints(state.endpoints), _kinds(state.kinds), _buckets(state.buckets), _share(state), _paused(state))
    return "\n".join([headline(state), *(line for part in parts for line in part)])


def as_json(state: ApiState) -> dict[str, Any]:
    """Every field."""
    told: dict[str, Any] = msgspec.to_builtins(state)
    return told


def is_well(state: ApiState) -> bool:
    """Whether every endpoint serves, every kind is known, and somebody leads."""
    known = all(kind.complete and not kind.stale for kind in state.kinds)
    return known and bool(state.leader.holder) and all(map(_serves, state.endpoints))


def headline(state: ApiState) -> str:
    """The answer in one line."""
    able = sum(map(_serves, state.endpoints))
    known = sum(kind.complete and not kind.stale for kind in state.kinds)
    leader = state.leader
    who = f"{leader.holder} leads (term {leader.token})" if leader.holder else "nobody leads"
    counts = f"{able} of {len(state.endpoints)} endpoints serve, {known} of {len(state.kinds)} kinds are known"
    return f"the API {'fares well' if is_well(state) else 'FARES ILL'}: {counts}, {who}; {state.source} says so"


def _endpoints(endpoints: Sequence[EndpointState]) -> Iterator[str]:
    rows = [("endpoint", "state", "now", "watches", "served", "p50", "p99", "answers")]
    for each in endpoints:
        codes = ", ".join(f"{code} {count}" for code, count in each.codes.items()) or "-"
        name = each.breaker if each.healthy else f"{each.breaker}, ill"
        figures = (str(each.busy), str(each.watches), str(each.served), _ms(each.p50), _ms(each.p99))
        rows.append((each.name, name, *figures, codes))
    yield from _table(rows)
    for each in endpoints:
        for turn in each.timeline[-3:]:
            yield f"    {each.name} {when(turn.at)} {turn.state}: {turn.why}"


def _kinds(kinds: Sequence[KindState]) -> Iterator[str]:
    rows = [("kind", "known", "version", "heard", "lists", "relists", "watches", "state")]
    for each in kinds:
        state = "known" if each.complete else "not read yet"
        if each.stale > 0:
            state = f"STALE for {format_duration(each.stale)}"
        why = f": {each.why}" if each.why else ""
        counts = (str(each.lists), str(each.relists), str(each.watches))
        heard = f"{format_duration(each.age)} ago"
        rows.append((each.kind, str(each.count), each.version or "-", heard, *counts, state + why))
    yield from _table(rows)


def _buckets(buckets: Sequence[BucketState]) -> Iterator[str]:
    rows = [("bucket", "per s", "left", "taken", "waited", "refused", "429", "")]
    for each in buckets:
        shut = f"shut for {format_duration(each.until)}" if each.until else ""
        counts = (str(each.taken), _ms(each.waited), str(each.refused), str(each.throttled))
        rows.append((each.name, f"{each.rate:.4g}", f"{each.left:.0f}", *counts, shut))
    yield from _table(rows)


def _share(state: ApiState) -> Iterator[str]:
    yield f"  share     {state.share:.0%} of the limits, {state.share_why}"


def _paused(state: ApiState) -> Iterator[str]:
    for why in state.paused.values():
        yield f"  paused    {why}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first two columns and the last to the left, numbers to the right; nothing where there is but a title."""
    if len(rows) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()


def _serves(endpoint: EndpointState) -> bool:
    return endpoint.healthy and endpoint.breaker == "closed"


def _ms(seconds: Seconds) -> str:
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else format_duration(seconds)
