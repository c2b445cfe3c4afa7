"""A day's parts: the real slices, the arrivals cut from them, days written by hand, the submitter."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import msgspec
import pytest

from neap.common.contract.catalogue import WORKLOAD
from neap.common.errors import InputError
from neap.common.model.lifecycle import Ended, EndReason, Started, Submitted
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import GPU_CORE, GPU_MEMORY, RECLAIMED_CPU
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Decide, Emit, Synced, Tick
from neap.common.units import DAY, GIB, HOUR
from neap.virtual.arrivals import gpu_percent, gpu_pods, guests
from neap.virtual.behaviour import Origin, kube_qos, virtual_pod
from neap.virtual.day import describe, make_day
from neap.virtual.dayfile import parse_day, read_day
from neap.virtual.demand import offered
from neap.virtual.parts import Day, MachineShape, Submission
from neap.virtual.pod import Curve, Work
from neap.virtual.settings import DaySettings, Settings
from neap.virtual.slices import TraceRow, examples_root, read_slices
from neap.virtual.submitter import SubmitterMachine

SLICES = read_slices(examples_root())
MACHINES = tuple(
    MachineShape(f"n{i}", cores, cores * 2 * GIB, 2 if i % 6 == 5 else 0)
    for i, cores in enumerate((8, 12, 16, 20, 32, 40, 48, 64, 80, 128) * 2)
)
ORIGIN = Origin(0.0, 300.0, 1)


def a_row(cpu: int = 8000, gpu_milli: int = 0, duration: float = 2 * HOUR, created: float = 0.0) -> TraceRow:
    return TraceRow("pod-1", cpu, 16 * GIB, gpu_milli, created, duration)


def a_workload(qos: QosClass = QosClass.SHARED, **annotations: str) -> Workload:
    told = {f"virtual.neap.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    requests = {RECLAIMED_CPU: 2000} if qos == QosClass.RECLAIMED else {"cpu": 2000, "memory": GIB}
    container = Container(name="main", requests=requests)
    return Workload(uid="u1", namespace="shop", name="cart-1", qos=qos, containers=(container,), annotations=told)


def test_the_curves_are_whole_real_days() -> None:
    assert sorted(SLICES.curves) == [f"{name}/{day}" for name in ("ali2018", "google2019") for day in range(7)]
    assert {len(points) for points in SLICES.curves.values()} == {288}
    assert SLICES.curves["ali2018/0"][:2] == pytest.approx((0.16127, 0.184661))


def test_the_trace_slice_holds_every_started_cpu_row_and_no_row_with_many_cards() -> None:
    assert sum(row.gpu_milli == 0 for row in SLICES.rows) == 1052
    assert max(row.gpu_milli for row in SLICES.rows) == 1000
    assert min(row.duration for row in SLICES.rows) > 0


def test_the_cards_of_virtual_nodes_are_the_most_frequent_disclosed_ones() -> None:
    from neap.virtual.world import CARDS

    with (examples_root() / "trace" / "openb_node_shapes.csv").open() as lines:
        shapes = [(row["model"], int(row["gpu"])) for row in csv.DictReader(lines)]
    disclosed = [shape for shape in shapes if shape[1] and shape[0] not in ("G2", "G3")]
    assert [(card.model, card.count) for card in CARDS] == disclosed[: len(CARDS)]


def test_a_broken_slice_names_file_line_and_field(tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "ali2018.csv").write_text("day,second,cpu_util_percent\n0,0,12\n0,300,x\n")
    with pytest.raises(InputError, match=r"ali2018\.csv line 3: cpu_util_percent='x'"):
        read_slices(tmp_path)


def test_a_wide_row_becomes_several_guests_that_bring_the_same_work() -> None:
    found = guests(DaySettings(), [a_row(cpu=32000)], MACHINES, core_seconds=1.0, seed=1)
    works = [float(s.workload.annotations["virtual.neap.io/work"]) for s in found]
    assert len(found) == 6
    assert {s.workload.owner for s in found} == {"Job/pod-1-0"}
    assert sum(works) == pytest.approx(32 * 2 * HOUR, rel=1e-3)


def test_guests_arrive_in_the_traces_order_with_its_gaps_scaled() -> None:
    rows = [a_row(created=0.0), a_row(created=100.0), a_row(created=400.0)]
    settings = DaySettings(guest_backlog=0.0, guests_from=0.0, length=4000.0)
    found = guests(settings, rows, MACHINES, core_seconds=3 * 8 * 2 * HOUR, seed=4)
    times = sorted({s.at for s in found})
    assert times[0] == 0.0
    assert times[-1] == 4000.0
    assert times[1] - times[0] in {1000.0, 3000.0, 4000.0}  # the run begins anywhere and wraps around


def test_gpu_shares_are_whole_percents_rounded_up_and_whole_cards_state_no_memory() -> None:
    assert [gpu_percent(a_row(gpu_milli=milli)) for milli in (1, 455, 460, 1000)] == [1, 46, 46, 100]
    found = gpu_pods(DaySettings(), [a_row(gpu_milli=255), a_row(gpu_milli=1000)], MACHINES, seed=1)
    asks = [s.workload.requests for s in found]
    assert {(ask[GPU_CORE], ask.get(GPU_MEMORY)) for ask in asks} == {(26, 16384 * 26 // 100), (100, None)}


def test_without_cards_no_gpu_pod_arrives() -> None:
    assert gpu_pods(DaySettings(), SLICES.rows, [MachineShape("n1", 64, 64 * GIB)], seed=1) == []


def test_the_description_says_what_is_real_and_what_is_modelled() -> None:
    text = describe(make_day(DaySettings(), SLICES, MACHINES, 1))
    assert "real: the owners' load curves" in text
    assert "rounded up to whole percents" in text
    assert "arrivals are compressed" in text


def test_a_curve_peaks_at_what_the_annotation_says() -> None:
    workload = a_workload(demand="curve", curve="ali2018/1", peak="1.3", mean="0.008", objective="0.2")
    pod = virtual_pod(workload, SLICES.curves, ORIGIN)
    demand = pod.containers[0].demand
    assert isinstance(demand, Curve)
    assert max(offered(demand, 300.0 * i) for i in range(288)) == pytest.approx(1.3)
    assert pod.service is not None
    assert pod.qos == KubeQos.BURSTABLE


def test_a_workload_without_annotations_gets_a_plausible_demand() -> None:
    guest = virtual_pod(a_workload(QosClass.RECLAIMED), {}, ORIGIN).containers[0].demand
    owner = virtual_pod(a_workload(), {}, ORIGIN).containers[0].demand
    assert guest == Work(core_seconds=1200.0, width=2.0)
    assert isinstance(owner, Curve)
    assert offered(owner, 12345.0) == 1.0


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({"demand": "curve", "curve": "mars/1", "peak": "1"}, "curve='mars/1': no such curve"),
        ({"demand": "work", "width": "2"}, "work='': missing"),
        ({"demand": "work", "width": "-2", "work": "5"}, "width='-2': must be within"),
        ({"demand": "steady", "use": "lots"}, "use='lots': not a number"),
        ({"demand": "steady", "use": "nan"}, "use='nan': must be within"),
        ({"demand": "dance"}, "demand='dance': must be"),
        ({"demand": "idle", "memory": "1e99"}, "memory='1e99': must be within"),
        ({"demand": "idle", "mean": "0.1"}, "objective='': missing"),
    ],
)
def test_a_bad_annotation_names_pod_and_key(told: dict[str, str], wrong: str) -> None:
    with pytest.raises(InputError) as error:
        virtual_pod(a_workload(**told), SLICES.curves, ORIGIN)
    assert str(error.value).startswith("pod shop/cart-1: annotation virtual.neap.io/")
    assert wrong in str(error.value)


def test_kubernetes_class_follows_requests_and_limits() -> None:
    size = {"cpu": 1000, "memory": GIB}
    exact = msgspec.structs.replace(a_workload(), containers=(Container(name="a", requests=size, limits=size),))
    assert kube_qos(exact) == KubeQos.GUARANTEED
    assert kube_qos(a_workload(QosClass.RECLAIMED)) == KubeQos.BEST_EFFORT


# -- days written by hand --------------------------------------------------------------------------------------------

HAND_MADE = {
    "length": "2h",
    "owner": [{"name": "cart", "namespace": "shop", "replicas": 2, "cpu": "2", "memory": "1Gi", "curve": "google2019/2"}],
    "guest": [{"name": "mine", "copies": 3, "every": "50m", "at": "30m", "cpu": "1500m", "memory": "1Gi", "duration": "1h"}],
    "gpu": [{"name": "train", "cpu": "1", "memory": "1Gi", "core": 35, "gpu_memory": 4096, "duration": "30m"}],
}  # fmt: skip


def hand_made(content: object) -> Day:
    return parse_day(content, "my.toml", start=0.0, curves=SLICES.curves, seed=1)


def test_a_day_file_lists_owners_guests_and_gpu_pods() -> None:
    day = hand_made(HAND_MADE)
    names = [(s.at, s.workload.key) for s in day.submissions]
    assert sorted(names) == [
        (0.0, "batch/train-0"), (0.0, "shop/cart-0"), (0.0, "shop/cart-1"), (1800.0, "batch/mine-0"), (4800.0, "batch/mine-1"),
    ]  # fmt: skip
    assert all(virtual_pod(s.workload, SLICES.curves, ORIGIN) for s in day.submissions)


@pytest.mark.parametrize(
    ("path", "value", "wrong"),
    [
        (("owner", 0, "cpu"), "2 cores", "not a quantity: '2 cores'"),
        (("owner", 0, "curve"), "ali2018/99", "owner[0].curve: no such curve"),
        (("owner", 0, "qos"), "reclaimed_cores", "owner[0].qos: reclaimed_cores are guests"),
        (("owner", 0, "replicas"), 0, "$.owner[0].replicas"),
        (("owner", 0, "colour"), "blue", "colour"),
        (("guest", 0, "duration"), "soon", "guest[0].duration: not a duration"),
        (("guest", 0, "cpu"), "-1", "guest[0].cpu"),
        (("guest", 0, "duration"), "0s", "guest[0].duration: must be more than nothing"),
        (("gpu", 0, "core"), 0.5, "$.gpu[0].core"),
        (("gpu", 0, "name"), "mine", "two workloads are named batch/mine-0"),
        (("length",), "long", "length: not a duration"),
    ],
)
def test_a_bad_day_file_names_file_and_field(path: tuple[str | int, ...], value: object, wrong: str) -> None:
    content = msgspec.json.decode(msgspec.json.encode(HAND_MADE))
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InputError) as error:
        hand_made(content)
    assert str(error.value).startswith("my.toml: ")
    assert wrong in str(error.value)
    assert str(path[-1]) in str(error.value) or "two workloads" in wrong


def test_the_readmes_day_file_is_a_day() -> None:
    text = (examples_root() / "README.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    day = hand_made(tomllib.loads(example))
    assert len(day.submissions) == 26


def test_a_day_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_text("owner = [\n")
    with pytest.raises(InputError, match=r"day\.toml: .*end of document"):
        read_day(path, start=0.0, curves=SLICES.curves, seed=1)
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        read_day(tmp_path / "none.toml", start=0.0, curves=SLICES.curves, seed=1)


# -- the submitter ---------------------------------------------------------------------------------------------------


def a_day(count: int = 3) -> Day:
    def one(index: int, qos: QosClass) -> Submission:
        workload = msgspec.structs.replace(a_workload(qos), uid=f"{qos}-{index}", name=f"p{index}", namespace=qos[:4])
        return Submission(60.0 * index, workload)

    order = [one(index, qos) for index in range(count) for qos in (QosClass.SHARED, QosClass.RECLAIMED)]
    return Day("test", 0.0, DAY, tuple(order))


def submitted(acts: object) -> list[str]:
    assert isinstance(acts, list | tuple)
    return [act.message.workload.uid for act in acts if isinstance(act, Emit)]


def synced(settings: Settings, day: Day) -> SubmitterMachine:
    machine = SubmitterMachine(settings, day)
    assert not machine.handle(Tick(30.0, "advance")), "nothing before the history is read"
    machine.handle(Synced(0.0, WORKLOAD))
    return machine


def test_workloads_are_submitted_when_due_with_a_root_line_in_their_trail() -> None:
    machine = synced(Settings(), a_day())
    acts = machine.handle(Tick(60.0, "advance"))
    assert submitted(acts) == ["shared_cores-0", "shared_cores-1", "reclaimed_cores-0", "reclaimed_cores-1"]
    assert next(act.id for act in acts if isinstance(act, Emit)) == "shared_cores-0.1.submitted"
    assert all(act.root for act in acts if isinstance(act, Decide))
    assert submitted(machine.handle(Tick(120.0, "advance"))) == ["shared_cores-2", "reclaimed_cores-2"]


def test_the_first_owners_may_be_there_before_the_day_begins() -> None:
    day = Day(name="d", start=1000.0, length=4000.0, submissions=tuple(
        Submission(at, msgspec.structs.replace(a_workload(qos), uid=uid)) for at, uid, qos in (
            (0.0, "first", QosClass.SHARED), (60.0, "second", QosClass.SHARED), (90.0, "guest", QosClass.RECLAIMED),
            (900.0, "late", QosClass.SHARED),
        )
    ))  # fmt: skip
    machine = synced(Settings(ahead=300.0, settle=120.0), day)
    assert submitted(machine.handle(Tick(690.0, "advance"))) == []
    assert submitted(machine.handle(Tick(705.0, "advance"))) == ["first"]
    assert submitted(machine.handle(Tick(999.0, "advance"))) == ["second"]
    assert submitted(machine.handle(Tick(1090.0, "advance"))) == ["guest"]
    assert submitted(machine.handle(Tick(1899.0, "advance"))) == []
    assert submitted(machine.handle(Tick(1900.0, "advance"))) == ["late"]


def test_the_baseline_submits_no_guest() -> None:
    machine = synced(Settings(guests=False), a_day())
    assert submitted(machine.handle(Tick(600.0, "advance"))) == ["shared_cores-0", "shared_cores-1", "shared_cores-2"]


def test_guests_wait_at_home_while_too_many_wait_for_a_node() -> None:
    machine = synced(Settings(pending_guests=1), a_day())
    assert submitted(machine.handle(Tick(600.0, "advance")))[3:] == ["reclaimed_cores-0"]
    assert submitted(machine.handle(Tick(660.0, "advance"))) == []
    machine.handle(Arrived(700.0, Started(at=700.0, source="virtual", uid="reclaimed_cores-0", node="n1", attempt=1)))
    assert submitted(machine.handle(Tick(720.0, "advance"))) == ["reclaimed_cores-1"]
    evicted = Ended(at=0, source="x", uid="reclaimed_cores-0", node="n1", attempt=1, reason=EndReason.EVICTED)
    machine.handle(Arrived(730.0, evicted))
    machine.handle(Arrived(735.0, Started(at=0, source="x", uid="reclaimed_cores-1", node="n1", attempt=1)))
    assert submitted(machine.handle(Tick(780.0, "advance"))) == [], "the evicted one waits again"


def test_a_restarted_submitter_repeats_nothing() -> None:
    day = a_day()
    machine = SubmitterMachine(Settings(), day)
    machine.handle(Arrived(0.0, Submitted(at=0.0, source="virtual", workload=day.submissions[0].workload)))
    machine.handle(Synced(0.0, WORKLOAD))
    assert submitted(machine.handle(Tick(0.0, "advance"))) == ["reclaimed_cores-0"]
    machine.validate()
