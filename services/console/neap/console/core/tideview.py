"""`neap tide status`: pools, who is on which side, who turns, what comes next, and who is at risk and by whose pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.units import Seconds, format_duration
from neap.console.core.columns import columns
from neap.console.core.tideclock import when
from neap.console.core.tidefigure import Timeline

LATELY: Final[Seconds] = 12 * 3600.0  # a node that moved since is listed
MOST_LISTED: Final = 40


def text(pools: Sequence[TidePool], now: Seconds) -> str:
    """All pools for people."""
    if not pools:
        return "no pool has a tide (switch one on: neap policy set --room planner --tier pool=NAME --patch tide.enabled=true)"
    return "\n\n".join("\n".join(_pool(pool, now)) for pool in pools)


def as_json(pools: Sequence[TidePool], now: Seconds) -> list[dict[str, Any]]:
    """For programs: the messages as they are, with what is said above them counted."""
    return [{"counts": _counts(pool), "at_risk": at_risk(pool), "is_stale": _is_stale(pool, now)} | msgspec.to_builtins(pool)
            for pool in pools]  # fmt: skip


def at_risk(pool: TidePool) -> list[dict[str, Any]]:
    """Nodes that are held, with the pods that hold them."""
    return [
        {"node": node.node, "side": str(node.side), "pods": list(node.blockers), "why": node.why}
        for node in pool.nodes
        if node.turning is Turning.BLOCKED or node.blockers
    ]


def timeline(pool: TidePool, now: Seconds) -> Timeline:
    """The figure of one pool."""
    counts = _counts(pool)
    title = (
        f"Pool {pool.pool}: {counts['online']} nodes online, {counts['offline']} lent, {counts['turning']} on their way"
    )
    return Timeline(title, pool.course, now, pool.ahead, pool.ahead_from, pool.ready_by, pool.zone)


def _counts(pool: TidePool) -> dict[str, int]:
    steady = [node for node in pool.nodes if node.turning is Turning.STEADY]
    return {
        "nodes": len(pool.nodes),
        "online": sum(node.side is Side.ONLINE for node in steady),
        "online_reserve": sum(node.side is Side.ONLINE and node.reserve for node in steady),
        "offline": sum(node.side is Side.OFFLINE for node in steady),
        "offline_reserve": sum(node.side is Side.OFFLINE and node.reserve for node in steady),
        "turning": sum(node.turning is Turning.DRAINING for node in pool.nodes),
        "blocked": sum(node.turning is Turning.BLOCKED for node in pool.nodes),
    }


def _is_stale(pool: TidePool, now: Seconds) -> bool:
    return now - pool.at >= LAPSE


def _pool(pool: TidePool, now: Seconds) -> list[str]:
    counts = _counts(pool)
    lines = [
        (
            f"pool {pool.pool}: {counts['online']} of {counts['nodes']} nodes online ({counts['online_reserve']} reserved), "
            f"{counts['offline']} offline ({counts['offline_reserve']} reserved), {counts['turning']} turning, "
            f"{counts['blocked']} blocked"
        ),
        f"  next     {_next(pool, now)}",
        f"  needed   {pool.arithmetic}",
        f"  forecast {pool.forecast or 'none: what was lent comes back'}",
    ]
    if _is_stale(pool, now):
        lines.append(
            f"  STALE    said {format_duration(now - pool.at)} ago; nodes are open to online pods until it is said again"
        )
    moved = [
        node for node in pool.nodes if node.turning is not Turning.STEADY or (now - node.since < LATELY and node.since)
    ]
    lines += _table(sorted(moved, key=lambda node: (node.turning is Turning.STEADY, -node.since, node.node)), pool, now)
    risks = at_risk(pool)
    if risks:
        lines.append("  at risk")
        lines += [f"    {risk['node']}  {', '.join(risk['pods']) or 'unnamed pods'}: {risk['why']}" for risk in risks]
    if pool.alerts:
        lines.append("  alerts")
        lines += [f"    {alert}" for alert in pool.alerts]
    return lines


def _next(pool: TidePool, now: Seconds) -> str:
    if pool.ready_by:
        return (
            f"return {when(pool.ready_by, now, pool.zone)}: {pool.returning} nodes, "
            f"on their way from {when(pool.next_change, now, pool.zone)}"
        )
    if pool.next_change:
        return f"more can be lent {when(pool.next_change, now, pool.zone)}"
    return "no change is foreseen"


def _table(nodes: Sequence[TideNode], pool: TidePool, now: Seconds) -> list[str]:
    if not nodes:
        return []
    rows = [("NODE", "CAME FROM", "SIDE", "STATE", "SINCE", "WHY")]
    for node in nodes[:MOST_LISTED]:
        came = (Side.OFFLINE if node.side is Side.ONLINE else Side.ONLINE) if node.flips else node.side
        rows.append((node.node, came, node.side, node.turning, when(node.since, now, pool.zone), node.why))
    lines = [f"  {line}" for line in columns(rows)]
    return lines + ([f"  and {len(nodes) - MOST_LISTED} more"] if len(nodes) > MOST_LISTED else [])
