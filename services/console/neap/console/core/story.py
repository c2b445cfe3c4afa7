"""An object's trail as a story people can read: what, when, why, with which numbers, by whom.

Lines come back in causal order: by the time of the act, then by the order in which they were stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import msgspec

from neap.common.model.trail import TrailEntry
from neap.console.core import eviction
from neap.console.core.moment import when


def in_order(stored: Iterable[tuple[int, TrailEntry]]) -> list[TrailEntry]:
    """(stream sequence, entry) -> entries by time, each once."""
    seen: set[str] = set()
    ordered: list[TrailEntry] = []
    for _, entry in sorted(stored, key=lambda pair: (pair[1].at, pair[0])):
        if entry.id not in seen:
            seen.add(entry.id)
            ordered.append(entry)
    return ordered


def line(entry: TrailEntry, *, verbose: bool = False) -> str:
    """One act on one line, its numbers below it."""
    why = entry.why if verbose else eviction.brief(entry)
    head = f"{when(entry.at)}  {entry.source:<10} {entry.what:<20} {why}"
    numbers = [
        f"{'':>20} · {item.metric} {item.value:.6g} against {item.threshold:.6g}"
        + (f" over {item.window:.0f} s" if item.window else "")
        for item in entry.numbers
    ]
    return "\n".join([head, *numbers])


def tell(name: str, entries: Sequence[TrailEntry], *, verbose: bool = False) -> str:
    """The story of one object; above it why it was evicted, if it was."""
    if not entries:
        return f"{name}: nothing is known (never submitted, or older than the trail keeps)"
    services = list(dict.fromkeys(entry.source for entry in entries))
    day = datetime.fromtimestamp(entries[0].at, UTC).strftime("%Y-%m-%d")
    head = f"{name}   uid {entries[0].about.uid}   {day} (UTC)"
    foot = f"{len(entries)} acts by {', '.join(services)}; trace {entries[-1].trace}"
    evicted = eviction.told(entries, verbose=verbose)
    evicted += [""] * bool(evicted)
    return "\n".join([head, *evicted, *(line(entry, verbose=verbose) for entry in entries), foot])


def tree(asked: str, entries: Sequence[TrailEntry]) -> str:
    """The object among the pods of its owner; the one asked for is told in full."""
    owner = next((entry.parent for entry in entries if entry.about.name == asked and entry.parent), "")
    family = [entry for entry in entries if entry.about.name == asked or (owner and entry.parent == owner)]
    names = sorted({entry.about.name for entry in family})
    lines = [owner or "(no owner)"]
    for name in names:
        last = name == names[-1]
        mine = [entry for entry in family if entry.about.name == name]
        lines.append(f"{'└─' if last else '├─'} {name}: {mine[-1].what} {when(mine[-1].at)} ({len(mine)} acts)")
        if name == asked:
            lines += [f"{'  ' if last else '│ '} {text}" for text in _runs(mine)]
    return "\n".join(lines)


def _runs(entries: Sequence[TrailEntry]) -> list[str]:
    """One pod's acts grouped by the node they happened on."""
    lines: list[str] = []
    for node, acts in groupby(entries, key=lambda entry: entry.node):
        lines.append(f"  ┌ {node or 'cluster'}")
        for act in acts:
            lines += [f"  │ {text}" for text in line(act).split("\n")]
    return lines


def as_json(entries: Sequence[TrailEntry]) -> list[dict[str, Any]]:
    """Fields `what`, `when`, `why`, `numbers`, `who` of every act."""
    return [
        {
            "what": entry.what,
            "when": datetime.fromtimestamp(entry.at, UTC).isoformat(),
            "why": entry.why,
            "numbers": [
                {"metric": n.metric, "value": n.value, "threshold": n.threshold, "window_s": n.window}
                for n in entry.numbers
            ],
            "who": entry.source,
            "node": entry.node,
            "id": entry.id,
            "cause": entry.cause,
            "trace": entry.trace,
            "eviction": msgspec.to_builtins(entry.eviction),
        }
        for entry in entries
    ]
