"""Two lives of a scheduler side by side: whose node differs, whose wait, and which terms of the score spoke."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from neap.common.units import Seconds, format_duration
from neap.console.core.columns import columns
from neap.console.core.moment import when
from neap.console.core.rerun import Outcome, Place, Run

MOST_ROWS: Final = 20
NOTICED: Final[Seconds] = 1.0  # a wait that changed by less is the same wait


@dataclass(slots=True)
class Difference:
    """What another life changes."""

    of: int  # runs placed in both
    moved: list[tuple[Run, Place, Place]] = field(default_factory=list)  # by the time of the later life
    gained: list[Place] = field(default_factory=list)  # placed only now
    lost: list[Place] = field(default_factory=list)  # placed only then
    sooner: int = 0
    later: int = 0
    waits: tuple[Seconds, Seconds] = (0.0, 0.0)  # mean then and now, of runs placed in both


def compare(then: Outcome, now: Outcome) -> Difference:
    """`then` against `now`."""
    both = sorted(then.placed.keys() & now.placed.keys(), key=lambda run: (then.placed[run].at, run))
    found = Difference(len(both))
    total = [0.0, 0.0]
    for run in both:
        old, new = then.placed[run], now.placed[run]
        if old.node != new.node:
            found.moved.append((run, old, new))
        waits = [_wait(life, run) for life in (then, now)]
        total = [mean + wait for mean, wait in zip(total, waits, strict=True)]
        found.sooner += waits[1] < waits[0] - NOTICED
        found.later += waits[1] > waits[0] + NOTICED
    found.waits = (total[0] / max(1, len(both)), total[1] / max(1, len(both)))
    found.gained = [now.placed[run] for run in sorted(now.placed.keys() - then.placed.keys())]
    found.lost = [then.placed[run] for run in sorted(then.placed.keys() - now.placed.keys())]
    return found


def _wait(life: Outcome, run: Run) -> Seconds:
    since = life.submitted.get(run)
    return max(0.0, life.placed[run].at - since[0]) if since else 0.0


def tell(found: Difference, what: str) -> str:
    """For people: the summary first, then a table of who moved."""
    lines = [f"{what}: {len(found.moved)} of {found.of} placements on another node{_changed(found)}", _waits(found)]
    rows = [("at", "pod", "node then", "node now", "score then -> now", "terms that differ")]
    rows += [
        (when(new.at), new.name, old.node, new.node, f"{old.score:.1f} -> {new.score:.1f}", _terms(old, new))
        for _, old, new in found.moved[:MOST_ROWS]
    ]
    if found.moved:
        lines += ["", *columns(rows)]
    if len(found.moved) > MOST_ROWS:
        lines.append(f"and {len(found.moved) - MOST_ROWS} more (-o json has them all)")
    return "\n".join(lines)


def _changed(found: Difference) -> str:
    parts = [(len(found.gained), "placed only now"), (len(found.lost), "placed only then")]
    return "".join(f", {count} {what}" for count, what in parts if count)


def _waits(found: Difference) -> str:
    if not found.later and not found.sooner:
        return "nobody waits longer or shorter"
    then, now = (format_duration(wait) for wait in found.waits)
    return f"{found.later} wait longer, {found.sooner} shorter; mean {then} then, {now} now"


def _terms(old: Place, new: Place) -> str:
    """Each plugin's score of the node then and of the node now."""
    names = dict.fromkeys([*old.terms, *new.terms])
    told = {name: (_one(old, name), _one(new, name)) for name in names}
    return ", ".join(f"{name} {then} -> {now}" for name, (then, now) in told.items() if then != now)


def _one(place: Place, name: str) -> str:
    return f"{place.terms[name]:.0f}" if name in place.terms else "none"


def as_json(found: Difference) -> dict[str, Any]:
    """All of it."""
    return {
        "placements": found.of,
        "moved": [
            {
                "pod": new.name,
                "uid": run[0],
                "attempt": run[1],
                "then": _as_json(old),
                "now": _as_json(new),
            }
            for run, old, new in found.moved
        ],
        "only_now": [place.name for place in found.gained],
        "only_then": [place.name for place in found.lost],
        "waits": {
            "sooner": found.sooner,
            "later": found.later,
            "mean_then": found.waits[0],
            "mean_now": found.waits[1],
        },
    }


def _as_json(place: Place) -> dict[str, Any]:
    return {"node": place.node, "at": place.at, "score": place.score, "terms": dict(place.terms)}
