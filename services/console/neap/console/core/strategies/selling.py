"""Over-commitment: how much more every node could have sold, and what would have come of it.

Every 15 minutes the planner's predictor says the peak of the next two hours from the last ten hours of who runs there;
from it come the ratio that is borne, and the ratio in force, which falls at once and rises slowly (as the planner's
desk; it looks every 5 minutes):

    sold      = ratio in force · cores             more = sold − max(cores, asked)                     in the mean
    violated  = share of moments at which the true peak was above the predicted one; severity: by how much of it, mean
    short     = share of time in which used · sold / asked > cores: who comes uses of its requests what others do there
Source: neap.foresight.{peaking,overcommit}; peaks/ranges with the planner's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neap.common.units import HOUR, MINUTE, Cores, Ratio, Seconds
from neap.console.core.strategies.history import History, Line, evenly
from neap.console.core.strategies.verdict import ASSUMED, Table, Verdict, level_of, often, percent, share, unknown
from neap.foresight.overcommit import Demand, Pace, foreseen, moved
from neap.foresight.peaking import AHEAD, LEAST, LONGEST, SHORTEST, Hosts, Predictor
from neap.foresight.peaking import foreseen as peak_of
from neap.foresight.peaks import ranges
from neap.foresight.series import Values

NAME, TITLE = "overcommit", "sell more than there is"
ALLOWED: Final[Ratio] = 2.0
NEEDS: Final = f"policy overcommit.cpu={ALLOWED:g} (or less) for a pool; two hours of reports"
MOST: Final = 40  # nodes
HALF: Final[Ratio] = 0.5
SOLD_OUT: Final[Ratio] = 0.8  # of the cores asked for: with less there is room to sell as it is
FIVE: Final[Seconds] = 300.0
SMALLEST: Final[Cores] = 0.001  # asked for on a node: requests are milli-cores
EVERY: Final = 3  # steps
TARGET: Final[Ratio] = 0.75  # overcommit.cpu_target
LOAD: Final[Ratio] = 0.4  # overcommit.cpu_load
PACE: Final = Pace()
AT_ONCE: Final = 96  # moments that are laid out together
MOST_ON_A_NODE: Final = 400  # lines of a node in that time, those that come first


@dataclass
class Sale:
    """One node over the history; sums over moments."""

    cores: Cores
    moments: int = 0
    asked: float = 0.0
    used: float = 0.0
    more: float = 0.0
    ratio: float = 0.0
    judged: int = 0
    violated: int = 0
    severity: float = 0.0
    steps: int = 0  # that followed a moment and are known
    short: int = 0
    excess: float = 0.0  # cores beyond the node, over the short steps
    force: Ratio | None = field(default=None, repr=False)
    since: Seconds = 0.0


@dataclass(frozen=True)
class Moment:
    """What is known at one time of all nodes."""

    place: int
    hosts: Hosts
    asked: Values


def assess(
    history: History, most: int = MOST, predictor: Predictor = ranges.PLUGIN, allowed: Ratio = ALLOWED
) -> Verdict:
    """The verdict."""
    if history.step != FIVE or history.usual > 1.5 * FIVE:
        return unknown(
            NAME, TITLE, f"samples every {history.usual / MINUTE:.0f} min hide peaks; 5 min are needed", NEEDS
        )
    if history.count < SHORTEST + AHEAD:
        return unknown(NAME, TITLE, f"{history.span / HOUR:.1f} h of history; 4 h are needed", NEEDS)
    names = evenly(list(history.capacity), most)
    chosen = history.of_nodes(names)
    sales = sold(chosen, predictor, allowed)
    known = {name: sale for name, sale in sales.items() if sale.moments}
    if not known:
        return unknown(NAME, TITLE, "of no node two hours are known without a gap", NEEDS)
    notes = (
        []
        if len(names) == len(history.capacity)
        else [f"{len(names)} of {len(history.capacity)} nodes were replayed, evenly chosen"]
    )
    return _verdict(known, history, chosen, allowed, notes)


def sold(history: History, predictor: Predictor, allowed: Ratio) -> dict[str, Sale]:
    """Every node, walked forward."""
    sales = {name: Sale(cores) for name, cores in history.capacity.items()}
    by_node = {name: [line for line in history.lines if line.node == name] for name in sales}
    totals = {name: history.total(lines).values for name, lines in by_node.items()}
    for moment in moments(history, by_node):
        peaks = peak_of(predictor, moment.hosts)
        rows = zip(sales.items(), peaks.tolist(), moment.asked.tolist(), strict=True)
        for (name, sale), peak, asked in rows:
            if math.isfinite(peak) and asked >= SMALLEST:
                _sell(sale, moment.place, peak, asked, totals[name], allowed)
    return sales


def _sell(sale: Sale, place: int, peak: Cores, asked: Cores, total: Values, allowed: Ratio) -> None:
    """One moment of one node."""
    demand, at = Demand(sale.cores, asked), place * FIVE
    force = moved(sale.force, foreseen(demand, peak, target=TARGET, least=LOAD), allowed, at - sale.since, PACE)
    if force != sale.force:
        sale.force, sale.since = force, at
    ratio = max(force, demand.running)
    sale.moments += 1
    sale.asked += asked
    sale.ratio += ratio
    sale.more += (ratio - demand.running) * sale.cores
    came = total[place : place + AHEAD]
    if len(came) == AHEAD and np.isfinite(came).all():
        true = float(came.max())
        sale.judged += 1
        sale.violated += peak < true
        sale.severity += max(0.0, (true - peak) / true) if true > 0 else 0.0
    soon = total[place : place + EVERY]
    soon = soon[np.isfinite(soon)]
    would = soon * max(1.0, ratio * sale.cores / asked)
    beyond = would > sale.cores if ratio > demand.running else np.zeros(len(soon), dtype=bool)
    sale.used += float(soon.mean()) if len(soon) else 0.0
    sale.steps += len(soon)
    sale.short += int(beyond.sum())
    sale.excess += float((would[beyond] - sale.cores).sum())


def moments(history: History, by_node: dict[str, list[Line]]) -> Iterator[Moment]:
    """What was known when, all nodes at once. Of who has just come its request stands for its past, as at the desk."""
    places = np.arange(SHORTEST, history.count - EVERY + 1, EVERY)
    for some in np.split(places, np.arange(AT_ONCE, len(places), AT_ONCE)):
        first = max(0, int(some[0]) - LONGEST)
        used, there, asks = _laid_out(by_node, first, int(some[-1]))
        for place in some.tolist():
            since, now = max(first, place - LONGEST) - first, place - first
            here = there[:, :, now - 1]
            seen = np.where(here[:, :, None], used[:, :, since:now], math.nan)
            is_new = here & (np.isfinite(seen).sum(axis=2) < LEAST)
            seen = np.where(is_new[:, :, None], asks[:, :, None], seen)
            limits = np.where(here, math.inf, math.nan)
            yield Moment(place, Hosts(seen, limits), np.where(here, asks, 0.0).sum(axis=1))


def _laid_out(by_node: dict[str, list[Line]], first: int, end: int) -> tuple[Values, np.ndarray, Values]:
    """Use, presence and requests of who is there in [first, end): shapes (nodes, lines, steps) and (nodes, lines)."""
    kept = [
        [line for line in lines if line.first < end and line.end > first][:MOST_ON_A_NODE] for lines in by_node.values()
    ]
    wide = max(1, *(len(lines) for lines in kept))
    used = np.full((len(kept), wide, end - first), math.nan)
    there, asks = np.zeros(used.shape, dtype=bool), np.zeros(used.shape[:2])
    for row, lines in enumerate(kept):
        for column, line in enumerate(lines):
            begin, stop = max(first, line.first), min(end, line.end)
            used[row, column, begin - first : stop - first] = line.used[begin - line.first : stop - line.first]
            there[row, column, begin - first : stop - first] = True
            asks[row, column] = line.request
    return used, there, asks


def _verdict(
    sales: dict[str, Sale], history: History, chosen: History, allowed: Ratio, notes: Sequence[str]
) -> Verdict:
    every = list(sales.values())
    cores = sum(sale.cores for sale in every)
    more = sum(sale.more / sale.moments for sale in every)
    judged, steps = sum(sale.judged for sale in every), sum(sale.steps for sale in every)
    short = share(sum(sale.short for sale in every), steps)
    excess = share(sum(sale.excess / sale.cores for sale in every), sum(sale.short for sale in every))
    violated = share(sum(sale.violated for sale in every), judged)
    severity = share(sum(sale.severity for sale in every), judged)
    minutes = share(short * steps * FIVE / MINUTE, len(every))
    told = [*notes]
    if chosen.is_assumed > HALF:
        told.append("requests are not told but assumed: what could be sold beside them hangs on that")
    return Verdict(
        name=NAME,
        title=TITLE,
        cores=share(more, cores) * history.cores,
        unit="cores of requests",
        gain=(
            f"{percent(share(more, cores))} more than the nodes have could have been sold, at a ratio of at most {allowed:g}, "
            f"with peaks up to {percent(TARGET)} of a node"
        ),
        risk=(
            f"a node would have been short: {often(short)}"
            + f", by {percent(excess)} of it" * (short > 0)
            + f"; {percent(violated)} of peaks were above the predicted, by {percent(severity)} on average"
        ),
        level=level_of(short),
        short=short,
        needs=NEEDS,
        but=_but(history, chosen),
        notes=tuple(told),
        figures={
            "more_cores": more, "of_cores": cores, "short_share": short, "short_by": excess, "allowed": allowed,
            "short_minutes_per_node": minutes, "violated_share": violated, "severity": severity, "nodes": len(every),
        },
        table=_table(sales),
    )  # fmt: skip


def _but(history: History, chosen: History) -> str:
    if history.asked < SOLD_OUT * history.cores:
        return f"{history.cores - history.asked:.0f} cores are not even asked for: worth it once nodes are sold out"
    return ASSUMED if chosen.is_assumed > HALF else ""


def _table(sales: dict[str, Sale]) -> Table:
    rows = [
        (
            name,
            f"{sale.cores:.0f}",
            f"{sale.asked / sale.moments:.1f}",
            f"{share(sale.used, sale.moments):.1f}",
            f"{sale.ratio / sale.moments:.2f}",
            f"{sale.more / sale.moments:.1f}",
            percent(share(sale.short, sale.steps)),
            percent(share(sale.violated, sale.judged)),
            percent(share(sale.severity, sale.judged)),
        )
        for name, sale in sorted(sales.items(), key=lambda each: (-each[1].more / each[1].moments, each[0]))
    ]
    said = (
        f"ratio: in force, at most {ALLOWED:g}; more: cores sold beyond the node and what was asked; short: use would have",
        "exceeded the node; violated, severity: true peaks of two hours above the predicted, and by how much on average",
    )
    titles = ("node", "cores", "asked", "used", "ratio", "more", "short", "violated", "severity")
    return Table(titles=titles, rows=tuple(rows), said=said, of="nodes")
