"""The record of the days before a generated day: real days of the same source, and never today."""

from __future__ import annotations

import pytest

from neap.common.contract.catalogue import PAST, PLACEMENTS, WORKLOAD
from neap.common.model.lifecycle import Submitted
from neap.common.model.past import PastUsage
from neap.common.runtime.machine import Arrived, Emit, Event, Synced
from neap.common.units import DAY, HOUR
from neap.virtual.behaviour import Origin
from neap.virtual.day import make_day
from neap.virtual.kubelet import KubeletMachine
from neap.virtual.machine import VirtualMachine
from neap.virtual.parts import Day, MachineShape
from neap.virtual.past import STEP, before, past_of, story
from neap.virtual.settings import DaySettings, Settings
from neap.virtual.slices import CURVE_STEP, examples_root, read_slices
from neap.virtual.submitter import SubmitterMachine
from neap.virtual.tally import Tally

SLICES = read_slices(examples_root())
MACHINES = (MachineShape("n1", 32, 64 << 30), MachineShape("n2", 16, 32 << 30))
START = DaySettings().start
ORIGIN = Origin(START, CURVE_STEP, 1)


def a_day(seed: int = 1) -> Day:
    return make_day(DaySettings(), SLICES, MACHINES, seed)


def cpu(lines: list[PastUsage]) -> list[PastUsage]:
    return [line for line in lines if line.resource == "cpu"]


@pytest.mark.parametrize(
    ("curve", "days", "expected", "others"),
    [
        ("ali2018/3", 2, ("ali2018/2", "ali2018/1"), False),
        ("ali2018/1", 3, ("ali2018/0",), False),
        ("ali2018/0", 2, ("ali2018/1", "ali2018/2"), True),
        ("google2019/6", 7, tuple(f"google2019/{day}" for day in (5, 4, 3, 2, 1, 0)), False),
        ("ali2018/3", 0, (), False),
        ("mine", 3, (), False),
    ],
)
def test_the_days_before_a_day_never_go_around(curve: str, days: int, expected: tuple[str, ...], others: bool) -> None:
    found = before(curve, SLICES.curves, days)
    assert found.curves == expected
    assert found.others == (others and bool(expected))
    assert curve not in found.curves


def test_the_record_does_not_change_with_todays_curve() -> None:
    day = a_day()
    plain = past_of(day, SLICES.curves, ORIGIN, 3, START)
    today = {
        s.workload.annotations["virtual.neap.io/curve"]
        for s in day.submissions
        if s.workload.annotations.get("virtual.neap.io/demand") == "curve"
    }
    turned = {name: points[::-1] if name in today else points for name, points in SLICES.curves.items()}
    assert past_of(day, turned, ORIGIN, 3, START) == plain, "same highest point, another course: nothing moves"


def test_every_replica_of_every_service_tells_whole_days_that_end_before_it_begins() -> None:
    day = a_day()
    replicas = {
        s.workload.name for s in day.submissions if s.workload.annotations.get("virtual.neap.io/demand") == "curve"
    }
    told = past_of(day, SLICES.curves, ORIGIN, 2, START - 90 * 60)
    assert {line.replica for line in cpu(told)} == replicas
    for line in told:
        assert len(line.values) % round(DAY / STEP) == 0
        end = line.start + line.step * len(line.values)
        assert end <= START - 90 * 60
        assert end % HOUR == 0, "no hour of the day is missing"
    memory = [line for line in told if line.resource == "memory"]
    assert len({(line.namespace, line.name) for line in memory}) == len(memory), "one line per service"


def test_sizes_are_those_of_today() -> None:
    day = a_day()
    peaks = {s.workload.name: float(s.workload.annotations.get("virtual.neap.io/peak", 0)) for s in day.submissions}
    for line in cpu(past_of(day, SLICES.curves, ORIGIN, 3, START)):
        most = max(value for value in line.values if value is not None)
        assert 0.3 * peaks[line.replica] < most < 1.6 * peaks[line.replica]


def test_people_are_told_which_days_stand_in() -> None:
    day = a_day()
    assert story(day, SLICES.curves, 0) == ""
    said = story(day, SLICES.curves, 2)
    assert said.startswith("yesterday: a simulated record")
    for name in {s.workload.annotations.get("virtual.neap.io/curve") for s in day.submissions} - {None}:
        assert all(other in said for other in before(str(name), SLICES.curves, 2).curves)


def test_the_record_is_told_once_and_before_the_first_workload() -> None:
    day, settings = a_day(), Settings(past=1)
    tally = Tally(day, nodes=2, capacity=48, step=60.0)

    def life(*heard: Event) -> list[Emit]:
        machine = VirtualMachine(
            KubeletMachine(settings, day, SLICES.curves, ORIGIN, tally),
            SubmitterMachine(settings, day),
            past=lambda at: past_of(day, SLICES.curves, ORIGIN, settings.past, at),
        )
        events: list[Event] = [*heard, Synced(START - HOUR, PLACEMENTS), Synced(START - HOUR, WORKLOAD)]
        said = [act for event in events for act in machine.handle(event)]
        return [act for act in said if isinstance(act, Emit) and isinstance(act.message, PastUsage)]

    told = life()
    assert len(told) == len(past_of(day, SLICES.curves, ORIGIN, 1, START - HOUR))
    assert len({act.id for act in told}) == len(told)
    assert {act.to.channel for act in told} == {PAST}
    first = day.submissions[0].workload
    began = Arrived(START, Submitted(at=START, source="virtual", workload=first), "subject")
    assert life(began) == [], "another life, and the day has begun"
