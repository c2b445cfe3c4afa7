"""Why a guest was evicted, for whoever is asked about it at night: the rule, the numbers, who else, what was tried.

Everything comes from the command the evictor sent, which the pod's trail keeps; nothing is worked out anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from neap.common.model.lifecycle import Contender, Eviction
from neap.common.model.trail import TrailEntry
from neap.common.units import format_duration
from neap.console.core.moment import when

NAMED: Final = 3  # contenders named without being asked
AFTER: Final = 4  # acts told after it
WIDTH: Final = 11


def told(entries: Sequence[TrailEntry], *, verbose: bool) -> list[str]:
    """The last eviction in an object's trail; nothing if there was none. Oldest entry first."""
    places = [place for place, entry in enumerate(entries) if entry.eviction is not None]
    if not places:
        return []
    entry, later = entries[places[-1]], entries[places[-1] + 1 :]
    command = entry.eviction
    assert command is not None
    times = f" ({len(places)} times in all)" if len(places) > 1 else ""
    head = f"EVICTED {when(entry.at)} from {command.node} by rule {command.rule}, attempt {command.attempt}{times}"
    rows = [*_rows(command), *([("ranking", text) for text in _ranking(command)] if verbose else _others(command))]
    rows += [("then", "; ".join(f"{one.what} {when(one.at)}{_on(one)}" for one in _next(later)) or "nothing yet")]
    return [head, *_laid_out(rows)]


def brief(entry: TrailEntry) -> str:
    """What the timeline says of it, when the rest is told above."""
    command = entry.eviction
    return entry.why if command is None else f"{command.rule}: {command.reason}"


def _rows(command: Eviction) -> Iterator[tuple[str, str]]:
    yield "why", command.reason
    for number in command.measured:
        over = f" over {format_duration(number.window)}" if number.window else ""
        yield "measured", f"{number.metric} {number.value:.6g}, threshold {number.threshold:.6g}{over}"
    if command.rule != "preemption":
        for policy in command.policies or ("none: the node's own settings hold",):
            yield "policy", policy
    yield "why this", command.ranking
    for one in command.tried:
        yield "tried", f"{one.what}: {one.says}"
    if command.budgets:
        yield (
            "budgets",
            ", ".join(
                f"{one.scope} {one.spent} of {one.most} in {format_duration(one.window)}" for one in command.budgets
            ),
        )
    yield "grace", f"{format_duration(command.grace)} between TERM and KILL"


def _others(command: Eviction) -> list[tuple[str, str]]:
    others = [one.name for one in command.contenders if one.uid != command.uid]
    if not others:
        return [("others", "nobody else could have gone")] if command.contenders else []
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return [("others", f"{', '.join(others[:NAMED])}{more} (--verbose: their ranking)")]


def _ranking(command: Eviction) -> Iterator[str]:
    """The first ten as they were ranked, keys in their order."""
    width = max((len(one.name) for one in command.contenders), default=0)
    for place, one in enumerate(command.contenders, 1):
        mark = "  <- this one" if one.uid == command.uid else ""
        yield f"{place:>2}  {one.name:<{width}}  {_keys(one)}{mark}"


def _keys(one: Contender) -> str:
    parts = [f"{one.qos} priority {one.priority}", f"OOM {one.oom_priority}", f"score {one.score:.6g}"]
    parts += ["surplus of its gang"] * one.surplus
    parts += [f"over-use {one.overuse:.2f}", f"start {format_duration(one.start_cost)}"]
    parts += [f"age {format_duration(one.age)}", f"frees {one.frees}"]
    return ", ".join(parts)


def _next(later: Sequence[TrailEntry]) -> Iterator[TrailEntry]:
    return islice((entry for entry in later if entry.source in ("scheduler", "virtual", "gateway")), AFTER)


def _on(entry: TrailEntry) -> str:
    return f" on {entry.node}" if entry.node and entry.what in ("placed", "started", "evicted", "finished") else ""


def _laid_out(rows: Sequence[tuple[str, str]]) -> list[str]:
    """One word in front of every first line of its kind."""
    lines, before = [], ""
    for word, text in rows:
        lines.append(f"  {'' if word == before else word:<{WIDTH}}{text}")
        before = word
    return lines
