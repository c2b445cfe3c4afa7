"""The page of `neap assess`: what was read, what to turn on first, then a table per strategy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from neap.common.units import DAY, MINUTE
from neap.console.core.columns import columns
from neap.console.core.strategies.history import History
from neap.console.core.strategies.verdict import NO_RISK, Table, Verdict, is_worth, ordered, percent, share

FEW: Final = 5  # rows of a table, unless all are wanted
GPU: Final = "GPU share: not assessed: no GPU use in the export"
SUMMED: Final = "Do not add the gains up: they draw on the same idle cores. Recorded: owners. Modelled: everybody else."


def page(verdicts: Sequence[Verdict], history: History, *, is_whole: bool) -> str:
    """All of it; `is_whole`: tables with all their rows, because somebody asked for these strategies."""
    parts = [*head(history), "", *summary(verdicts, history.cores, is_short=is_whole)]
    for one in verdicts:
        parts += [*block(one, is_whole=is_whole)]
    return "\n".join(parts)


def head(history: History) -> Iterator[str]:
    """What was read."""
    end = history.start + history.span
    nodes, services, days = len(history.capacity), len(history.services), history.span / DAY
    yield (
        f"{nodes} nodes of {history.cores:.0f} cores together, {services} services, {days:.1f} days "
        f"to {_when(end)}, a value every {history.usual / MINUTE:g} min"
    )
    known = history.used.values[history.used.values == history.used.values]
    used = float(known.mean()) if len(known) else 0.0
    told = sum(line.is_told for line in history.lines)
    yield (
        f"owners used {percent(share(used, history.cores))} of the cores and asked for "
        f"{percent(share(history.asked, history.cores))}; requests are told of {told} of {len(history.lines)} series"
        + (", else taken as peak use / 0.65" if told < len(history.lines) else "")
    )
    yield from history.notes


def summary(verdicts: Sequence[Verdict], cores: float, *, is_short: bool = False) -> Iterator[str]:
    """One screen: what to turn on first, and what not."""
    order = ordered(verdicts, cores)
    worth = [one for one in order if is_worth(one, cores)]
    if not is_short:
        yield "Turn on first (most gained at no or little risk):" if worth else "Nothing here would have gained much:"
    for place, one in enumerate(worth, start=1):
        whole, of = (one.of, f"what was asked by {one.part}") if one.part else (cores, "all cores")
        gained = f"{one.cores or 0:+.1f} {one.unit} ({percent(share(one.cores or 0, whole))} of {of})"
        yield f"{place}. {one.title}: {gained}, {_risk(one)}"
        yield from [f"   but   {one.but}"] if one.but else []
        yield from _lines(one)
    rest = [one for one in order if one not in worth and one.cores is not None]
    if rest:
        yield "Not worth a switch here:"
    for one in rest:
        yield f"-  {one.title}"
        yield f"   gain  {one.gain}"
        yield f"   risk  {one.risk}"
        yield from (f"   note  {note}" for note in one.notes)
    for one in order:
        if one.cores is None:
            yield f"-  {one.title}: {one.gain}"
            yield from (f"   note  {note}" for note in one.notes)
    if not is_short:
        yield f"-  {GPU}"
        yield SUMMED


def _risk(one: Verdict) -> str:
    return "no risk seen" if one.level == NO_RISK else f"{one.level} risk"


def _lines(one: Verdict) -> Iterator[str]:
    yield f"   gain  {one.gain}"
    yield f"   risk  {one.risk}"
    yield f"   how   {one.needs}"
    yield from (f"   note  {note}" for note in one.notes)


def block(one: Verdict, *, is_whole: bool) -> Iterator[str]:
    """One strategy's table."""
    if one.table is None and not one.text:
        return
    yield ""
    yield f"== {one.name}: {one.title}"
    if one.text:
        yield one.text
    if one.table is not None:
        yield from table(one.table, None if is_whole else FEW)


def table(told: Table, most: int | None = None) -> Iterator[str]:
    """Rows in columns, the first `most`."""
    rows = [told.titles, *told.rows[:most]]
    yield from columns(rows, numbers=True)
    if most is not None and len(told.rows) > most:
        yield f"... and {len(told.rows) - most} more {told.of} (--strategy)"
    yield from told.said


def as_json(verdicts: Sequence[Verdict], history: History, lent: Any) -> dict[str, Any]:
    """The same for machines; `lent`: the replays of lending, where there were any."""
    return {
        "nodes": len(history.capacity),
        "cores": history.cores,
        "services": len(history.services),
        "days": history.span / DAY,
        "end": history.start + history.span,
        "notes": list(history.notes),
        "first": [one.name for one in ordered(verdicts, history.cores) if is_worth(one, history.cores)],
        "strategies": {one.name: _plain(one) for one in verdicts},
        "gpu": GPU.partition(": ")[2],
    } | ({"lend": lent} if lent else {})


def _plain(one: Verdict) -> dict[str, Any]:
    told = dict[str, Any](msgspec.to_builtins(one))
    rows = one.table
    told["table"] = [] if rows is None else [dict(zip(rows.titles, row, strict=True)) for row in rows.rows]
    del told["text"]
    return told


def _when(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        return f"{at:.0f} s"
