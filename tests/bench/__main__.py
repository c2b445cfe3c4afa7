"""`make bench`: a table of speeds, as ratios within this run wherever there is something to compare with.

The same goes to build/bench.json, with what is known about the machine.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from neap.common.runtime.clock import stopwatch, wall_seconds
from tests.bench import (
    affinity,
    agent,
    bind,
    bus,
    cards,
    decide,
    fold,
    forecasts,
    history,
    kube,
    mirror,
    node,
    openb,
    peaks,
    place,
    planner,
    profiles,
    replay,
    restart,
    scaling,
    sizes,
    store,
    tides,
)
from tests.bench.measure import Row

OUT = Path(__file__).resolve().parents[2] / "build" / "bench.json"
PARTS: dict[str, Callable[[], Iterator[Row] | AsyncIterator[Row]]] = {
    "bus": bus.rows, "store": store.rows, "fold": fold.rows, "decide": decide.rows, "node": node.rows,
    "agent": agent.rows, "affinity": affinity.rows, "cards": cards.rows, "place": place.rows, "openb": openb.rows,
    "replay": replay.rows, "kube": kube.rows, "mirror": mirror.rows, "bind": bind.rows, "profiles": profiles.rows,
    "forecasts": forecasts.rows,
    "scaling": scaling.rows, "sizes": sizes.rows, "peaks": peaks.rows,
    "tides": tides.rows, "history": history.rows, "planner": planner.rows, "restart": restart.rows,
}  # fmt: skip
BY_NAME: set[str] = {
    "profiles",
    "forecasts",
    "history",
    "planner",
    "restart",
    "openb",
    "replay",
    "scaling",
    "mirror",
    "bind",
    "peaks",
    "sizes",
    "tides",
}  # measured only when asked for: they take minutes


def main(names: list[str]) -> int:
    """Measure the named parts, or all that do not wait to be named; 1 if a goal is missed."""
    if unknown := set(names) - set(PARTS):
        sys.stderr.write(f"no such part: {', '.join(sorted(unknown))} (there are: {', '.join(PARTS)})\n")
        return 2
    began, found = stopwatch(), list[Row]()
    with Console(stderr=True).status("measuring") as status:
        for name in names or [part for part in PARTS if part not in BY_NAME]:
            status.update(f"measuring: {name}")
            found += _measured(PARTS[name]())
    seconds = stopwatch() - began
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": round(seconds, 1),
    }
    OUT.parent.mkdir(exist_ok=True)
    rows = [msgspec.to_builtins(row) | {"met": row.met} for row in found]
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode({"at": wall_seconds(), **machine, "rows": rows})))
    Console(width=None if sys.stdout.isatty() else 180).print(_table(found))
    sys.stdout.write(
        f"{machine['cores']} cores, Python {machine['python']}, {seconds:.0f} s; written to build/{OUT.name}\n"
    )
    return int(any(row.met is False for row in found))


def _measured(rows: Iterator[Row] | AsyncIterator[Row]) -> list[Row]:
    if not isinstance(rows, AsyncIterator):
        return list(rows)

    async def collect() -> list[Row]:
        return [row async for row in rows]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as services run
        return runner.run(collect())


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("what", "value", "", "against", "value", "ratio", "goal", ""):
        table.add_column(title, justify="right" if title in {"value", "ratio", "goal"} else "left", overflow="fold")
    for row in rows:
        table.add_row(
            f"{row.name} [dim]({row.note})[/dim]" if row.note else row.name,
            _number(row.value), row.unit, row.rival, "" if row.rival_value is None else _number(row.rival_value),
            "" if row.ratio is None else f"{row.ratio:.2f}", _goal(row),
            {None: "", True: "[green]met[/green]", False: "[red]missed[/red]"}[row.met],
        )  # fmt: skip
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _goal(row: Row) -> str:
    if row.at_most is not None:
        return f"≤ {row.at_most:,g}"
    return "" if row.at_least is None else f"≥ {row.at_least:,g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
