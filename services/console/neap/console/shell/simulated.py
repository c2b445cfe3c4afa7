"""`neap sim`: a day under virtual time."""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from neap.common.errors import SettingsError
from neap.common.runtime.journal import FileJournal
from neap.common.runtime.main import COLLECT_EVERY
from neap.common.testing.simloop import simulate
from neap.common.units import HOUR
from neap.console.core.summary import totals
from neap.virtual.pace import PLAIN_ROOMS, day_settings, plain_settings
from neap.virtual.simulation import ROOMS, Simulation


def simulate_day(
    *,
    nodes: int,
    seed: int,
    day: Path | None,
    hours: float,
    plain: bool,
    journal: Path | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Simulate, write the journals, print the report. `plain`: the same owners without guests and without neap.

    Raises:
        SettingsError: a journal cannot be written.
    """
    settings = day_settings(nodes=nodes, seed=seed, length=hours * HOUR)
    settings += [*(plain_settings() if plain else []), *([f"virtual.file={day}"] if day else [])]
    rooms = PLAIN_ROOMS if plain else ROOMS
    gc.set_threshold(COLLECT_EVERY)
    with ExitStack() as ending:
        out, scheduler = _written(ending, "--journal", journal), _written(ending, "--record", record)
        recorder = FileJournal(scheduler, only="scheduler") if scheduler else None
        world = Simulation(settings, seed=seed, rooms=rooms, journal=out, record=recorder)
        report = simulate(world.run_day())
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        return
    run = totals(report)
    sys.stdout.write(
        f"{report.nodes} virtual nodes, {report.capacity_cores:.0f} CPUs, seed {seed} (simulated, virtual time)\n"
        f"utilisation {run.utilisation:.1%}, guests {run.guest_core_hours:.0f} core-hours"
        f" ({run.lost_core_hours:.0f} lost), finished {run.finished}, evictions {run.evictions or 'none'}\n"
        f"owner SLO violations {run.violation_minutes} of {run.service_minutes} service-minutes\n"
    )


def _written(ending: ExitStack, option: str, path: Path | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return ending.enter_context(path.open("wb"))
    except OSError as error:
        raise SettingsError(f"{option} {path}: cannot be written: {error.strerror}") from None
