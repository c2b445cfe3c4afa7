"""What `neap assess` tells: each policy on somebody's recorded cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from neap.console.core.columns import columns
from neap.virtual.replay import Replayed

WORST = 5  # nodes named


def text(
    totals: Sequence[Replayed], nodes: Mapping[str, Sequence[Replayed]], said: Mapping[str, str], notes: Sequence[str]
) -> str:
    """The table, then where each policy did worst."""
    days = totals[0].days / max(1, len(nodes[totals[0].policy]))
    head = f"{len(nodes[totals[0].policy])} nodes, {days:.1f} days each, owners use {totals[0].owners:.1%} (recorded; guests are a model)"
    titles = (
        "policy",
        "offered",
        "promised",
        "utilisation",
        "lost",
        "kept 10 min",
        "offer kept",
        "churn p99",
        "risk minutes",
        "evictions/guest-day",
    )
    rows = [titles, *map(_row, totals)]
    table = columns(rows, numbers=True)
    worst = [line for total in totals for line in _worst(nodes[total.policy])]
    legend = [f"{name}: {sentence}" for name, sentence in said.items()]
    meaning = [
        "utilisation: owners and guests, with guests without end; lost: of it, work of guests that had to leave",
        "kept: all promised for 10 minutes could be used",
        "offer kept: the same of the whole offer, for policies that promise less than they offer",
        "churn: change of the offer within 5 minutes, of the node; risk: owners' use and guests' right exceed the node",
    ]
    return "\n".join([head, "", *table, "", *worst, *([""] if worst else []), *legend, *meaning, *notes])


def _row(one: Replayed) -> tuple[str, ...]:
    return (
        one.policy,
        f"{one.offered:.1%}",
        f"{one.promised:.1%}",
        f"{one.utilisation:.1%}",
        f"{one.lost:.1%}",
        f"{one.kept:.2%}",
        f"{one.offer_kept:.2%}",
        f"{one.churn:.1%}",
        f"{one.risk_minutes:.0f}",
        f"{one.evictions_per_guest_day:.2f}",
    )


def _worst(nodes: Sequence[Replayed]) -> list[str]:
    risky = sorted((node for node in nodes if node.risk_minutes), key=lambda node: (-node.risk_minutes, node.node))
    if not risky:
        return []
    named = ", ".join(f"{node.node} {node.risk_minutes:.0f}" for node in risky[:WORST])
    return [f"{risky[0].policy}: risk minutes on {len(risky)} nodes, most on {named}"]


def as_json(
    totals: Sequence[Replayed], nodes: Mapping[str, Sequence[Replayed]], said: Mapping[str, str], notes: Sequence[str]
) -> dict[str, Any]:
    """The same for machines."""
    return {
        "policies": dict(said),
        "notes": list(notes),
        "total": [_plain(total) for total in totals],
        "nodes": {policy: [_plain(node) for node in each] for policy, each in nodes.items()},
    }


def _plain(one: Replayed) -> dict[str, Any]:
    return dict[str, Any](msgspec.to_builtins(one)) | {"evictions_per_guest_day": one.evictions_per_guest_day}
