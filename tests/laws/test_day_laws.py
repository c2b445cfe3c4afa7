"""What holds for every generated day, whatever the seed and the machines."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.units import DAY, GIB
from neap.virtual.behaviour import Origin, kube_qos, virtual_pod
from neap.virtual.day import make_day
from neap.virtual.demand import offered
from neap.virtual.parts import Day, MachineShape
from neap.virtual.pod import Curve, Work
from neap.virtual.settings import DaySettings
from neap.virtual.slices import CURVE_STEP, examples_root, read_slices

SLICES = read_slices(examples_root())
CORES = (8, 12, 16, 17, 20, 32, 40, 48, 64, 80, 112, 128)


@st.composite
def clusters(draw: st.DrawFn, least: int = 1) -> tuple[MachineShape, ...]:
    sizes = draw(st.lists(st.tuples(st.sampled_from(CORES), st.sampled_from((1, 2, 4))), min_size=least, max_size=30))
    cards = draw(st.integers(0, 2))
    return tuple(
        MachineShape(f"n{i}", cores, cores * each * GIB, cards if i % 6 == 5 else 0)
        for i, (cores, each) in enumerate(sizes)
    )


def as_bytes(day: Day) -> bytes:
    return msgspec.json.encode([(s.at, s.workload) for s in day.submissions]) + "".join(day.story).encode()


@given(clusters(), st.integers(0, 1000))
def test_a_day_is_the_same_for_the_same_seed_and_another_for_another(
    machines: tuple[MachineShape, ...], seed: int
) -> None:
    settings = DaySettings(guest_load=0.2)
    day = make_day(settings, SLICES, machines, seed)
    assert as_bytes(day) == as_bytes(make_day(settings, SLICES, machines, seed))
    assert as_bytes(day) != as_bytes(make_day(settings, SLICES, machines, seed + 1))
    assert len({s.workload.uid for s in day.submissions}) == len(day.submissions)
    assert list(day.submissions) == sorted(day.submissions, key=lambda s: s.at)
    assert all(0 <= s.at < day.length for s in day.submissions)


@given(clusters(), st.integers(0, 1000))
def test_requests_fit_the_machines(machines: tuple[MachineShape, ...], seed: int) -> None:
    day = make_day(DaySettings(guest_load=0.2), SLICES, machines, seed)
    smallest = min(machine.cores for machine in machines) * 1000
    requested = 0
    for submission in day.submissions:
        asks = submission.workload.requests
        assert asks.get(CPU, 0) <= smallest / 2, "an owner fits the smallest machine"
        assert asks.get(RECLAIMED_CPU, 0) <= 6000
        assert any(asks.get(MEMORY, 0) + asks.get(RECLAIMED_MEMORY, 0) <= machine.memory / 2 for machine in machines)
        assert GPU_CORE not in asks or any(machine.cards for machine in machines)
        requested += asks.get(CPU, 0) if GPU_CORE not in asks else 0
    assert requested <= 650 * sum(machine.cores for machine in machines) + 250 * len(machines)


@given(clusters(), st.integers(0, 1000))
def test_every_submission_says_what_it_does_in_a_way_that_can_be_read_back(
    machines: tuple[MachineShape, ...], seed: int
) -> None:
    day = make_day(DaySettings(guest_load=0.2), SLICES, machines, seed)
    classes = {
        QosClass.SHARED: "Burstable", QosClass.DEDICATED: "Guaranteed",
        QosClass.RECLAIMED: "BestEffort", QosClass.SYSTEM: "Burstable",
    }  # fmt: skip
    for submission in day.submissions:
        pod = virtual_pod(submission.workload, SLICES.curves, Origin(day.start, CURVE_STEP, seed))
        assert kube_qos(submission.workload) == classes[submission.workload.qos] == pod.qos
        assert len(pod.containers[0].id) == 64
        if submission.is_guest:
            assert isinstance(pod.containers[0].demand, Work)
        assert pod.containers[0].memory.start <= sum(
            pod.containers[0].requests.get(k, 0) for k in (MEMORY, RECLAIMED_MEMORY)
        )


def online_average(day: Day, total: int, seed: int) -> float:
    """Offered by everything but guests, as a share of all cores, from the pods a kubelet would start."""
    seconds = 0.0
    for submission in day.submissions:
        if submission.is_guest:
            continue
        match virtual_pod(submission.workload, SLICES.curves, Origin(day.start, CURVE_STEP, seed)).containers[0].demand:
            case Curve() as curve:
                seconds += sum(offered(curve, day.start + 900.0 * i) for i in range(96)) * 900.0
            case Work(core_seconds=work):
                seconds += work
    return seconds / (total * DAY)


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_cluster_uses_about_a_quarter_for_its_owners_and_guests_bring_what_is_left(seed: int) -> None:
    machines = tuple(MachineShape(f"n{i}", CORES[i % 12], CORES[i % 12] * 2 * GIB, 2 * (i % 6 == 5)) for i in range(24))
    total = sum(machine.cores for machine in machines)
    day = make_day(DaySettings(), SLICES, machines, seed)
    average = online_average(day, total, seed)
    lent = sum(float(s.workload.annotations["virtual.neap.io/work"]) for s in day.submissions if s.is_guest)
    requested = sum(s.workload.requests.get(CPU, 0) for s in day.submissions if GPU_CORE not in s.workload.requests)
    assert 0.23 <= average <= 0.28
    assert 0.55 <= requested / 1000 / total <= 0.66
    assert 1.0 <= lent / ((1 - average) * total * DAY) <= 1.2
