"""Lending idle cores to guests: the verdict on what the replays of the real advisor came to (neap.virtual.replay)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from neap.common.errors import InputError
from neap.common.units import DAY, MINUTE, Seconds
from neap.console.core.assessed import text
from neap.console.core.export import Export, loads_of
from neap.console.core.strategies.history import History, evenly
from neap.console.core.strategies.verdict import Verdict, level_of, often, percent
from neap.virtual.replay import Load, Replayed

NAME, TITLE = "lend", "lend idle cores to guests"
NEEDS: Final = "pods of qos reclaimed_cores; neap's node services; no history"
MOST_REPORTS: Final = 9000  # heard by advisors, over all nodes, days and policies: one and a half milliseconds each
DAYS: Final = 2.0  # replayed unless said otherwise, the newest
FINEST, COARSEST = MINUTE, 5 * MINUTE  # between two reports, unless said otherwise
OURS: Final = "neap"


@dataclass(frozen=True)
class Ask:
    """How much is replayed. 0: as much as is quick."""

    cores: int = 0  # of a node whose capacity is not told
    policies: int = 3
    nodes: int = 0
    days: float = 0.0
    period: Seconds = 0.0


def chosen(export: Export, history: History, ask: Ask) -> tuple[list[Load], Seconds, list[str]]:
    """What is replayed, how often reports come, and what was left out.

    Raises:
        InputError: as loads_of; or nothing is left.
    """
    period = ask.period or min(max(history.usual, FINEST), COARSEST)
    span = min(history.span, (ask.days or DAYS) * DAY)
    quick = int(MOST_REPORTS / max(1, ask.policies) / max(1.0, span / period))
    newest = max(max(line) for lines in export.used.values() for line in lines.values())
    some = _newest(export, newest - span)
    names = evenly(sorted(some.used), ask.nodes or max(1, quick))
    loads, notes = loads_of(Export({n: some.used[n] for n in names}, export.requests, export.capacity), ask.cores)
    if len(names) < len(history.capacity):
        notes.append(f"{len(names)} of {len(history.capacity)} nodes were replayed, evenly chosen by name (--nodes)")
    if span < history.span:
        notes.append(f"the newest {span / DAY:.1f} of {history.span / DAY:.1f} days were replayed (--days)")
    return loads, period, notes


def _newest(export: Export, since: Seconds) -> Export:
    """What came after a time; of a node at least two samples."""
    kept = Export(requests=export.requests, capacity=export.capacity)
    for node, lines in export.used.items():
        late = {name: {at: cores for at, cores in line.items() if at >= since} for name, line in lines.items()}
        late = {name: line for name, line in late.items() if any(cores is not None for cores in line.values())}
        if any(len(line) > 1 for line in late.values()):
            kept.used[node] = late
    if not kept.used:
        raise InputError("of no node two samples are known in the days that would be replayed (--days)")
    return kept


def verdict(
    totals: Sequence[Replayed], nodes: Mapping[str, Sequence[Replayed]], said: Mapping[str, str], notes: Sequence[str],
    history: History,
) -> Verdict:  # fmt: skip
    """On neap's own policy, or the last of those asked for; the text tells of all."""
    ours = next((total for total in totals if total.policy.partition(",")[0] == OURS), totals[-1])
    more = max(0.0, ours.utilisation - ours.owners) * history.cores
    replayed, days = len(nodes[ours.policy]), ours.days / max(1, len(nodes[ours.policy]))
    is_part = replayed < len(history.capacity) or days < 0.9 * history.span / DAY
    part = [f"replayed on {replayed} of {len(history.capacity)} nodes and their newest {days:.1f} days"] * is_part
    risky = ours.risky
    return Verdict(
        name=NAME,
        title=TITLE,
        cores=more,
        unit="cores in use",
        gain=f"with guests {percent(ours.utilisation)} of the cluster in use instead of {percent(ours.owners)}",
        risk=(
            f"owners and guests wanted more than a node has: {often(risky)}; {percent(ours.kept)} of promises kept, "
            f"{ours.evictions_per_guest_day:.2f} evictions a guest and day"
        ),
        level=level_of(risky),
        short=risky,
        needs=NEEDS,
        notes=("guests are a model: 4 cores, used whole, and two hours each, without end", *part),
        figures={
            "cores": more, "owners": ours.owners, "utilisation": ours.utilisation, "offered": ours.offered,
            "risk_share": risky, "kept": ours.kept, "evictions_per_guest_day": ours.evictions_per_guest_day,
        },
        text=text(totals, nodes, said, notes),
    )  # fmt: skip
