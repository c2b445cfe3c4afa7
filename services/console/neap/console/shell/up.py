"""`neap up`: the stack, the day, what it is held against beside it, the tables.

Beside the day run simulations of it in virtual time, each in a process of its own: the owners alone, on all nodes;
and, on a few nodes because that is all a laptop has left, with guests, without the planner and with it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from neap.common.bus.nats import connect
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import CHANNELS, STREAMS
from neap.common.errors import PortError, SettingsError
from neap.common.model.day import DayReport
from neap.common.runtime.clock import stopwatch, wall_seconds
from neap.common.units import HOUR, Seconds
from neap.console.core.figure import draw
from neap.console.core.summary import DayOutcome, PlannerPart, as_json, plain_table, totals
from neap.console.shell import screen
from neap.console.shell.reading import JOURNAL, OUT, URL_FILE
from neap.console.shell.stack import ROOMS, Stack, spawn
from neap.console.shell.watcher import Placing, Watcher
from neap.virtual.pace import PAST_DAYS, day_settings, lean_settings, planner_settings
from neap.virtual.past import story
from neap.virtual.settings import NOMINAL_START
from neap.virtual.settings import Settings as VirtualSettings

SPREAD: Final = 0.9  # of a minute over which the nodes report
LEAD: Final[Seconds] = 8.0  # real seconds between start and the day's first minute, for the services to come up
SAMPLED: Final = 2  # nodes of the days that show the planner's part
SIMULATED: Final = 19  # niceness of the days beside the real one
REPORT: Final = "report.json"
FIGURE: Final = "day.svg"


@dataclass(frozen=True)
class Ask:
    """What was asked for on the command line."""

    nodes: int
    seed: int
    speed: float
    day: Path | None
    hours: float
    out: Path | None
    port: int
    as_json: bool
    in_process: bool
    planner: bool = True  # whether it lives through the real day; through the simulated pair it always does

    @property
    def rooms(self) -> tuple[str, ...]:
        """Who lives through the real day."""
        return tuple(name for name in ROOMS if self.planner or name != "planner")

    @property
    def folder(self) -> Path:
        """Where journal, report and logs go."""
        return (self.out or OUT).absolute()


async def live_through(ask: Ask) -> int:
    """Run the day; the exit status. Ctrl-C or TERM ends everything cleanly with 130."""
    tell = screen.teller(quiet=False)
    work = asyncio.ensure_future(_day(ask))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        outcome = await work
    except asyncio.CancelledError:
        tell("stopped; nothing is left running")
        return 130
    report = as_json(outcome)
    (ask.folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    if ask.as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    elif screen.is_terminal():
        screen.draw_table(outcome)
    else:
        sys.stdout.write(plain_table(outcome) + "\n")
    return 0


async def _day(ask: Ask) -> DayOutcome:
    tell = screen.teller(quiet=ask.as_json)
    yesterday = _check_day(ask)
    tell(f"{ask.nodes} virtual nodes (simulated hardware made of real machine snapshots), seed {ask.seed}")
    tell(
        f"a day at {ask.speed:.0f} x: nodes report every virtual minute instead of every second,"
        f" about {ask.hours * HOUR / ask.speed:.0f} s"
    )
    if not ask.planner:
        tell("no planner beside the real day")
    elif yesterday:
        tell(yesterday)
    folder = _fresh(ask.folder)
    few = min(SAMPLED, ask.nodes)
    async with _simulated(ask, "online-only", ask.nodes) as alone:
        async with _running(ask, tell) as (bus, broken):
            with (folder / JOURNAL).open("wb") as journal:
                watcher = Watcher(bus, stopwatch, journal, placing=Placing(NOMINAL_START))
                report = await _watch(watcher, ask, broken, alone)
        tell(f"the day is over; the same day on {few} nodes without and with the planner (simulated)")
        async with _simulated(ask, "neap", few) as without, _simulated(ask, "neap+planner", few) as planned:
            outcome = _outcome(ask, watcher, report, await alone, await without, await planned)
    (folder / FIGURE).write_text(_figure(ask, watcher, outcome), encoding="utf-8")
    return outcome


@asynccontextmanager
async def _running(ask: Ask, tell: Any) -> AsyncIterator[tuple[Bus, asyncio.Future[None]]]:
    """The bus of a cluster that lives through the day, and what fails when the cluster cannot be kept running."""
    if ask.in_process:
        from neap.virtual.simulation import in_process  # noqa: PLC0415

        async with in_process(_settings(ask), epoch=NOMINAL_START, speed=ask.speed, rooms=ask.rooms) as bus:
            yield bus, asyncio.Future()
        return
    folder = ask.folder
    origin = wall_seconds() + LEAD
    settings = [
        f"process.clock=epoch={NOMINAL_START},origin={origin},speed={ask.speed}",
        f"process.host=virtual://{folder / 'hosts.sock'}",
        f"process.nodes={','.join(f'n{index}' for index in range(1, ask.nodes + 1))}",
        f"virtual.socket={folder / 'hosts.sock'}",
        f"enforcer.journal_dir={folder / 'restore'}",
        *_settings(ask),
    ]
    async with Stack(folder, settings, rooms=ask.rooms, port=ask.port, tell=tell) as stack:
        tell(f"NATS at {stack.url}; {len(stack.children)} services, one process each; logs in {folder / 'logs'}")
        (folder / URL_FILE).write_text(stack.url + "\n")
        bus = await connect(stack.url, name="neap-console")
        try:
            await bus.ensure(STREAMS, CHANNELS)
            yield bus, stack.broken
        finally:
            (folder / URL_FILE).unlink(missing_ok=True)
            with suppress(PortError):
                await bus.close()


def _check_day(ask: Ask) -> str:
    """Before anything is started: whether there is a day to live through; what its planner is told of the days before.

    Raises:
        InputError: names the file and what is wrong in it.
    """
    from neap.virtual.world import read_world  # noqa: PLC0415

    settings = VirtualSettings(nodes=ask.nodes, seed=ask.seed, length=ask.hours * HOUR, past=PAST_DAYS)
    day, _, curves = read_world(msgspec.structs.replace(settings, file=str(ask.day)) if ask.day else settings)
    return story(day, curves, PAST_DAYS)


def _settings(ask: Ask) -> list[str]:
    """What every service of this day is told."""
    settings = day_settings(nodes=ask.nodes, seed=ask.seed, length=ask.hours * HOUR, spread=SPREAD)
    return [
        *settings,
        f"virtual.ahead={LEAD * ask.speed}",
        *lean_settings(),
        *(planner_settings() if ask.planner else ()),
        *([f"virtual.file={ask.day}"] if ask.day else []),
    ]


@asynccontextmanager
async def _simulated(ask: Ask, policy: str, nodes: int) -> AsyncIterator[asyncio.Future[DayReport]]:
    """The same day under virtual time, in a process of its own that gives way to everything else."""
    command = [sys.executable, "-m", "neap.console", "sim", "--policy", policy, "--json", "--nodes", str(nodes)]
    command += ["--seed", str(ask.seed), "--length", str(ask.hours), *(["--day", str(ask.day)] if ask.day else [])]
    log = ask.folder / "logs" / f"simulated-{policy}.log"
    process = await spawn(command, log=log, capture=True, niceness=SIMULATED)
    reading = asyncio.ensure_future(_read_report(process, log))
    try:
        yield reading
    finally:
        reading.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read_report(process: asyncio.subprocess.Process, log: Path) -> DayReport:
    output, _ = await process.communicate()
    if process.returncode:
        raise SettingsError(f"a simulated run ended with {process.returncode}; see {log}")
    return msgspec.json.decode(output, type=DayReport)


async def _watch(watcher: Watcher, ask: Ask, *trouble: asyncio.Future[Any]) -> DayReport:
    """Until the day is over, or something beside it fails."""
    live = screen.is_terminal() and not ask.as_json
    drawing = asyncio.ensure_future(screen.show(watcher.progress, f"neap up · {ask.nodes} nodes", live=live))
    watching = asyncio.ensure_future(watcher.run())
    try:
        waiting = {watching, *trouble}
        while not watching.done():
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                future.result()
        return watching.result()
    finally:
        for task in (drawing, watching):
            task.cancel()
        await asyncio.gather(drawing, watching, return_exceptions=True)


def _outcome(
    ask: Ask, watcher: Watcher, report: DayReport, alone: DayReport, without: DayReport, planned: DayReport
) -> DayOutcome:
    placing = watcher.placing
    part = PlannerPart(nodes=without.nodes, without=totals(without), planned=totals(planned))
    notes = (
        "Owners follow CPU curves of Alibaba 2018 and Google 2019, guests and GPU pods the shapes of Alibaba's GPU trace.",
        "Kernels, kubelet and request latency (M/M/c over the cores a pod could get; no SMT or cache effects) are modelled;",
        "neap's services, NATS and their messages are real; the day of owners alone was lived in virtual time.",
        "The first owners are submitted before the day begins. Waits count who still waits at its end as well.",
        *(
            ("The day with guests ran with a planner that was told a simulated record of the days before.",)
            * ask.planner
        ),
        f"{part.said[0].upper()}{part.said[1:]}, on the days of the second table.",
        *watcher.progress.hints(),
    )
    return DayOutcome(
        nodes=report.nodes,
        cores=report.capacity_cores,
        seed=ask.seed,
        with_guests=totals(report),
        online_only=totals(alone),
        placements=placing.per_second.total(),
        waited=placing.waits(report.at),
        placements_per_second=float(max(placing.per_second.values(), default=0)),
        journal=str(ask.folder / JOURNAL),
        figure=str(ask.folder / FIGURE),
        notes=notes,
        planner=part,
    )


def _figure(ask: Ask, watcher: Watcher, outcome: DayOutcome) -> str:
    """The day as a picture."""
    title = (
        f"A day on {outcome.nodes} virtual nodes, {outcome.cores:.0f} CPUs, seed {outcome.seed} (simulated hardware)"
    )
    return draw(
        tuple(watcher.progress.samples),
        length=ask.hours * HOUR,
        title=title,
        online_only=outcome.online_only.utilisation,
    )


def _fresh(folder: Path) -> Path:
    """An output folder without the traces of an earlier day.

    Raises:
        SettingsError: it cannot be written.
    """
    import shutil  # noqa: PLC0415

    try:
        for name in ("nats", "logs", "restore"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (JOURNAL, REPORT, FIGURE, URL_FILE, "hosts.sock"):
            (folder / name).unlink(missing_ok=True)
        (folder / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder
