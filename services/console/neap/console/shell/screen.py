"""The live view on a terminal; plain lines everywhere else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from neap.common.units import Seconds
from neap.console.core.progress import Progress, one_line
from neap.console.core.summary import DayOutcome, planner_rows, planner_title, rows

FRAME: Final[Seconds] = 0.25
PLAIN_EVERY: Final[Seconds] = 5.0


def view(progress: Progress, title: str) -> Panel:
    """One frame."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for label, text in progress.facts():
        facts.add_row(label, Text(text, no_wrap=True, overflow="ellipsis"))
    acts = Text("\n".join(progress.acts) or "…", no_wrap=True, overflow="ellipsis", style="dim")
    return Panel(Group(facts, Text(), acts), title=title, title_align="left")


async def show(progress: Progress, title: str, *, live: bool) -> None:
    """Draw until cancelled."""
    console = Console(stderr=not live)
    if not live:
        while True:
            if progress.report is not None:
                console.print(one_line(progress), highlight=False, soft_wrap=True)
            await asyncio.sleep(PLAIN_EVERY)
    with Live(view(progress, title), console=console, refresh_per_second=1 / FRAME, transient=True) as drawn:
        while True:
            await asyncio.sleep(FRAME)
            drawn.update(view(progress, title))


def draw_table(outcome: DayOutcome) -> None:
    """The table at the end."""
    table = Table(
        title=f"A day on {outcome.nodes} virtual nodes, {outcome.cores:.0f} CPUs, seed {outcome.seed} (simulated hardware)"
    )
    table.add_column("")
    table.add_column("online only", justify="right")
    table.add_column("with guests", justify="right", style="bold")
    for row in rows(outcome):
        table.add_row(*row)
    console = Console()
    console.print(table)
    if part := outcome.planner:
        second = Table(title=planner_title(part))
        second.add_column("")
        second.add_column("without planner", justify="right")
        second.add_column("with planner", justify="right", style="bold")
        for row in planner_rows(part):
            second.add_row(*row)
        console.print(second)
    for note in outcome.notes:
        console.print(note, style="dim", highlight=False)
    console.print(f"picture: {outcome.figure}\njournal: {outcome.journal}", highlight=False, soft_wrap=True)


def is_terminal() -> bool:
    """Whether a person watches."""
    return sys.stdout.isatty()


def teller(*, quiet: bool) -> Callable[[str], None]:
    """Prints a line for people, on stderr so that pipes stay clean."""
    console = Console(stderr=True)

    def tell(text: str) -> None:
        if not quiet:
            console.print(text, highlight=False, soft_wrap=True, style="dim")

    return tell
