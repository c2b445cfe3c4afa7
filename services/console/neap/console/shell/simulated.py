"""`neap sim`: a day under virtual time; `neap sim day` and `compare`: the same day under several lending policies."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from neap.common.errors import SettingsError
from neap.common.model.day import DayReport
from neap.common.model.qos import QosClass
from neap.common.runtime.journal import FileJournal
from neap.common.runtime.main import COLLECT_EVERY
from neap.common.testing.simloop import simulate
from neap.common.units import DAY, HOUR, MINUTE
from neap.console.core.comparison import Comparison, PolicyDay, as_json, difference, text
from neap.console.core.figure import Sample, draw_policies
from neap.console.core.summary import totals
from neap.console.shell.screen import teller
from neap.virtual.pace import day_settings, lean_settings
from neap.virtual.policies import LendingPolicy, policy_named
from neap.virtual.simulation import Simulation
from neap.virtual.world import read_world

REPORT: Final = "sim-day.json"
FIGURE: Final = "sim-day.svg"
PENDING_PER_NODE: Final = 4  # guests waiting at once: enough that no node ever finds the queue empty
ENDLESS: Final = 1.6  # guests' work over what owners leave: more than any policy can lend


def simulate_day(
    *,
    nodes: int,
    seed: int,
    day: Path | None,
    hours: float,
    policy: str,
    journal: Path | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Simulate, write the journals, print the report.

    Raises:
        SettingsError: there is no such policy, or a journal cannot be written.
    """
    chosen = policy_named(policy)
    settings = day_settings(nodes=nodes, seed=seed, length=hours * HOUR)
    settings += [*chosen.at(MINUTE), *([f"virtual.file={day}"] if day else [])]
    gc.set_threshold(COLLECT_EVERY)
    with ExitStack() as ending:
        out, scheduler = _written(ending, "--journal", journal), _written(ending, "--record", record)
        recorder = FileJournal(scheduler, only="scheduler") if scheduler else None
        world = Simulation(settings, seed=seed, rooms=chosen.rooms, journal=out, record=recorder)
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


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Which day, under which policies."""

    policies: tuple[str, ...]
    nodes: int = 100
    seeds: tuple[int, ...] = (1,)
    hours: float = 24.0
    machine: str = ""
    online: float = 0.23
    trace: Path | None = None
    jobs: int = 1
    out: Path = Path("build")

    def settings(self, seed: int) -> list[str]:
        """For all rooms, whatever the policy.

        Raises:
            SettingsError: there is no such trace.
        """
        told = [*day_settings(nodes=self.nodes, seed=seed, length=self.hours * HOUR), *lean_settings()]
        told += [f"virtual.machine={self.machine}", f"virtual.online={self.online}"]
        told += [f"virtual.guest_load={ENDLESS}", f"virtual.guest_backlog={DAY}"]
        told += [f"virtual.pending_guests={max(150, PENDING_PER_NODE * self.nodes)}"]
        if self.trace is None:
            return told
        if not self.trace.exists():
            raise SettingsError(f"--trace {self.trace}: there is no such file or folder")
        return [*told, f"virtual.{'examples' if self.trace.is_dir() else 'file'}={self.trace.absolute()}"]


def compare_policies(ask: Ask, *, in_json: bool, against: bool = False) -> None:
    """Live through the day once per policy and seed; write report and figure, print the table.

    Raises:
        SettingsError: a policy or setting does not hold.
        InputError: the trace does not hold.
    """
    policies = [policy_named(name) for name in dict.fromkeys(ask.policies)]
    told = _lived(ask, policies, teller(quiet=in_json))
    try:
        ask.out.mkdir(parents=True, exist_ok=True)
        (ask.out / FIGURE).write_text(_figure(told, ask.hours * HOUR))
        (ask.out / REPORT).write_text(json.dumps(as_json(told), indent=2) + "\n")
    except OSError as error:
        raise SettingsError(f"--out {ask.out}: cannot be written: {error.strerror}") from None
    sys.stdout.write((json.dumps(as_json(told)) if in_json else text(told)) + "\n")
    if against and not in_json:
        sys.stdout.write(difference(told, policies[0].name, policies[1].name) + "\n")


def _lived(ask: Ask, policies: Sequence[LendingPolicy], tell: Callable[[str], None]) -> Comparison:
    for policy in policies:  # before anything is started: wrong input is said at once
        world = Simulation([*ask.settings(ask.seeds[0]), *policy.at(MINUTE)], rooms=policy.rooms).virtual
    day, shapes, _ = read_world(world)
    each = [(ask, policy.name, seed) for seed in dict.fromkeys(ask.seeds) for policy in policies]
    tell(f"{len(each)} days of {ask.hours:g} h on {ask.nodes} nodes; a line as each is over")
    with ExitStack() as ending:
        if ask.jobs > 1:
            workers = ending.enter_context(ProcessPoolExecutor(ask.jobs, mp_context=get_context("spawn")))
            lived: Iterable[PolicyDay] = workers.map(live, *zip(*each, strict=True))
        else:
            lived = (live(*one) for one in each)
        days = []
        for one in lived:
            days.append(one)
            tell(f"{one.policy}, seed {one.seed}: utilisation {one.totals.utilisation:.1%}, {one.seconds:.0f} s of CPU")
    return Comparison(
        nodes=ask.nodes,
        cores=float(sum(shape.cores for shape in shapes)),
        hours=ask.hours,
        machine=ask.machine,
        policies={policy.name: policy.said for policy in policies},
        days=tuple(days),
        story=day.story,
        figure=str(ask.out / FIGURE),
    )


def live(ask: Ask, name: str, seed: int) -> PolicyDay:
    """One seed's day under one policy, in this process."""
    policy, course = policy_named(name), list[Sample]()
    settings = [*ask.settings(seed), *policy.at(MINUTE)]
    gc.set_threshold(COLLECT_EVERY)
    began = time.process_time()
    world = Simulation(settings, seed=seed, rooms=policy.rooms)
    report = simulate(world.run_day(lambda report: course.append(_sample(report))))
    return PolicyDay(
        policy=policy.name,
        seed=seed,
        totals=totals(report),
        seconds=time.process_time() - began,
        course=tuple(sample for sample in course if sample.at > 0),
    )


def _sample(report: DayReport) -> Sample:
    guests = report.recent_cores.get(QosClass.RECLAIMED, 0.0)
    busy = sum(report.recent_cores.values())
    at, cores = report.at - report.day_start, report.capacity_cores
    return Sample(at, (busy - guests) / cores, guests / cores, sum(report.evictions.values()))


def _figure(told: Comparison, length: float) -> str:
    seed = min(day.seed for day in told.days)
    courses = {day.policy: day.course for day in told.days if day.seed == seed}
    title = f"SIMULATED: {told.nodes} nodes, {told.cores:.0f} CPUs, seed {seed}: what the CPUs did"
    return draw_policies(courses, length=length, title=title)


def _written(ending: ExitStack, option: str, path: Path | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return ending.enter_context(path.open("wb"))
    except OSError as error:
        raise SettingsError(f"{option} {path}: cannot be written: {error.strerror}") from None
