"""A host in memory, report after report: what is published, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neap.common.contract.catalogue import NODE_USAGE, TOPOLOGY
from neap.common.errors import SettingsError, Vanished
from neap.common.host.memory import MemoryHost
from neap.common.model.topology import NodeTopology
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.machine import Count, Done, Emit, Failed, Instruction, Publish, Put, Tick
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.reporter.core.instruction import ListDirs, LookAround, ReadFiles, ReadTopology
from neap.reporter.core.machine import ReporterMachine
from neap.reporter.reader import NodeReader, read_node
from neap.reporter.settings import Settings
from neap.reporter.shell.host import execute
from neap.reporter.wiring import COLLECTORS, wire

CGROUPS = "/sys/fs/cgroup"
CALM = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
UID = "0a1b2c3d-1111-2222-3333-444455556666"
CGROUPFS = f"kubepods/burstable/pod{UID}/c0ffee"
SYSTEMD = (
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
    "/cri-containerd-c0ffee.scope"
)


class Lab:
    """A two-CPU host whose counters follow a clock that tests turn by hand."""

    def __init__(self, **settings: object) -> None:
        self.now = 1000.0
        self.host = MemoryHost(
            {
                "/proc/stat": lambda: "".join(
                    f"cpu{cpu} {int(self.now * 25)} 0 0 {int(self.now * 75)} 0 0 0 0 0 0\n" for cpu in (0, 1)
                ),
                "/proc/meminfo": "MemTotal: 4000 kB\nMemFree: 100 kB\nMemAvailable: 3000 kB\n",
                **{f"/proc/pressure/{name}": CALM for name in ("cpu", "memory", "io")},
                "/sys/devices/system/cpu/online": "0-1\n",
                **{f"/sys/devices/system/cpu/cpu{cpu}/topology/core_id": f"{cpu}\n" for cpu in (0, 1)},
            }
        )
        self.reader = NodeReader(self.host, clock=lambda: self.now, node="n1", settings=Settings(**settings))

    def run(self, cgroup: str, *, cores: float = 0.5) -> None:
        files: dict[str, str | Callable[[], str]] = {
            "cpu.stat": lambda: f"usage_usec {int(self.now * cores * 1e6)}\nthrottled_usec 0\n",
            "memory.current": "9000\n",
            "memory.stat": "file 4000\ninactive_file 1000\n",
            "cpu.pressure": CALM,
            "memory.pressure": CALM,
            "cpuset.cpus.effective": "0-1\n",
            "cgroup.procs": "1\n",
        }
        for name, text in files.items():
            self.host.put(f"{CGROUPS}/{cgroup}/{name}", text)

    def report(self, after: float = 1.0):
        self.now += after
        return self.reader.sample()


@pytest.mark.parametrize(
    "cgroup", [CGROUPFS, SYSTEMD, f"kubepods/pod{UID}/c0ffee", f"kubepods/besteffort/pod{UID}/c0ffee"]
)
def test_a_container_is_found_by_its_cgroup_whatever_kubelets_driver(cgroup: str) -> None:
    lab = Lab()
    lab.run(cgroup)
    lab.report()
    (container,) = lab.report().containers
    assert (container.uid, container.container, container.cgroup) == (UID, "c0ffee", cgroup)
    assert container.cpu == pytest.approx(0.5)
    assert (container.memory, container.working_set, container.file_cache, container.cpuset) == (
        9000,
        8000,
        4000,
        "0-1",
    )


def test_a_report_says_what_the_node_does() -> None:
    lab = Lab()
    first, second = lab.report(), lab.report(after=2.0)
    assert first.cpu is None
    assert second.cpu == pytest.approx(0.5)
    assert second.period == 2.0
    assert second.memory_available == 3000 * 1024
    assert (second.numa[0].index, second.numa[0].cpu) == (0, pytest.approx(0.5))
    assert first.seq < second.seq


def test_a_new_container_is_in_the_very_next_report() -> None:
    lab = Lab()
    lab.report()
    lab.run(CGROUPFS)
    assert [container.container for container in lab.report().containers] == ["c0ffee"]


def test_a_second_container_of_a_known_pod_is_found_within_the_relist() -> None:
    lab = Lab(relist_every=3)
    lab.run(CGROUPFS)
    lab.report()
    lab.run(f"kubepods/burstable/pod{UID}/second")
    assert any(len(lab.report().containers) == 2 for _ in range(3))


def test_a_container_that_ends_is_no_longer_reported_and_its_pod_is_looked_at_again() -> None:
    lab = Lab(relist_every=100)
    lab.run(CGROUPFS)
    lab.report()
    lab.host.remove(f"{CGROUPS}/{CGROUPFS}")
    lab.run(f"kubepods/burstable/pod{UID}/restarted")
    assert lab.report().containers == ()
    assert [container.container for container in lab.report().containers] == ["restarted"]


def test_a_file_that_vanishes_while_it_is_read_costs_only_its_own_fields() -> None:
    def gone() -> str:
        raise Vanished("read: the cgroup went away")

    lab = Lab()
    lab.run(CGROUPFS)
    lab.report()
    lab.host.put(f"{CGROUPS}/{CGROUPFS}/memory.current", gone)
    usage = lab.report()
    (container,) = usage.containers
    assert (container.memory, container.working_set, container.file_cache) == (None, None, 4000)
    assert container.cpu == pytest.approx(0.5)
    assert "memory.current of 1 container" in usage.unknown


def test_a_kernel_without_pressure_is_unknown_and_not_calm() -> None:
    lab = Lab()
    lab.host.remove("/proc/pressure")
    usage = lab.report()
    assert (usage.cpu_stall, usage.memory_stall, usage.io_stall) == (None, None, None)
    assert {f"/proc/pressure/{name}" for name in ("cpu", "memory", "io", "irq")} <= set(usage.unknown)


def test_a_collector_can_be_switched_off() -> None:
    lab = Lab(off=("node_pressure", "node_cpu"))
    lab.report()
    usage = lab.report()
    assert (usage.cpu, usage.cpu_stall) == (None, None)
    assert not [name for name in usage.unknown if "pressure" in name], "what nobody asks for is not missed"
    outside = Outside(None, wall_clock(), lab.host, NoTracer())  # type: ignore[arg-type]
    for wrong in (Settings(node="n1", off=("node_presure",)), Settings(node="n1", every={"node_presure": 1.0})):
        with pytest.raises(SettingsError, match="node_presure"):
            wire(wrong, outside)


def stalled(percent: float) -> str:
    return CALM.replace("some avg10=0.00", f"some avg10={percent}").replace("full avg10=0.00", f"full avg10={percent}")


def test_pressure_rises_once_and_falls_only_below_the_lower_threshold() -> None:
    lab = Lab(cpu_stall_high=0.6, cpu_stall_low=0.4)
    told = []
    for percent in (10, 61, 80, 50, 40, 50):
        lab.host.put("/proc/pressure/cpu", stalled(percent))
        lab.report()
        told.append(
            [(crossed.metric, crossed.value, crossed.threshold, crossed.risen) for crossed in lab.reader.pressures]
        )
    assert told == [[], [("cpu_some10", 0.61, 0.6, True)], [], [], [("cpu_some10", 0.4, 0.4, False)], []]


def test_little_available_memory_is_pressure() -> None:
    lab = Lab(available_low=0.05, available_back=0.08)
    told = []
    for kib in (400, 199, 280, 320):
        lab.host.put("/proc/meminfo", f"MemTotal: 4000 kB\nMemAvailable: {kib} kB\n")
        lab.report()
        told += [(crossed.metric, crossed.value, crossed.risen) for crossed in lab.reader.pressures]
    assert told == [("memory_available_ratio", 0.04975, True), ("memory_available_ratio", 0.08, False)]


# -- the machine by itself -------------------------------------------------------------------------------------------


def turned(machine: ReporterMachine, host: MemoryHost, name: str, at: float) -> list[Instruction]:
    """Everything a tick leads to that goes to the bus."""
    said: list[Instruction] = []
    pending = list(machine.handle(Tick(at, name)))
    while pending:
        instruction = pending.pop(0)
        if isinstance(instruction, ListDirs | LookAround | ReadFiles | ReadTopology):
            pending += machine.handle(Done(at, instruction, execute(host, lambda: at, instruction)))
        else:
            said.append(instruction)
        machine.validate()
    return said


def test_topology_is_put_at_the_start_and_then_only_when_it_changed() -> None:
    lab = Lab()
    machine = ReporterMachine(Settings(node="n1"), COLLECTORS)
    puts = [instruction for instruction in turned(machine, lab.host, "report", 1.0) if isinstance(instruction, Put)]
    assert [put.key for put in puts] == [TOPOLOGY.at(node="n1")]
    assert isinstance(puts[0].value, NodeTopology)
    assert turned(machine, lab.host, "topology", 2.0) == []
    lab.host.put("/sys/devices/system/cpu/cpu1/online", "0\n")
    (put,) = turned(machine, lab.host, "topology", 3.0)
    assert isinstance(put, Put)
    assert put.value.machine.cpus == "0"


def test_a_topology_that_could_not_be_put_is_put_again() -> None:
    lab = Lab()
    machine = ReporterMachine(Settings(node="n1"), COLLECTORS)
    (put,) = turned(machine, lab.host, "topology", 1.0)
    machine.handle(Failed(1.5, put, "put: nobody there", may_retry=True))
    assert [type(instruction) for instruction in turned(machine, lab.host, "topology", 2.0)] == [Put]


def test_one_report_is_one_call_for_files() -> None:
    lab = Lab()
    lab.run(CGROUPFS)
    machine = ReporterMachine(Settings(node="n1"), COLLECTORS)
    turned(machine, lab.host, "report", 1.0)
    (listing,) = machine.handle(Tick(2.0, "report"))
    (reading,) = machine.handle(Done(2.0, listing, execute(lab.host, lambda: 2.0, listing)))
    assert isinstance(listing, ListDirs)
    assert len(listing.paths) == 3, "the classes below the one root there is"
    assert isinstance(reading, ReadFiles)
    told = machine.handle(Done(2.0, reading, execute(lab.host, lambda: 2.0, reading)))
    assert [instruction.to for instruction in told if isinstance(instruction, Publish)] == [NODE_USAGE.at(node="n1")]


def test_a_tick_during_a_report_is_skipped_and_a_lost_report_is_given_up() -> None:
    machine = ReporterMachine(Settings(node="n1"), COLLECTORS)
    machine.handle(Tick(1.0, "report"))
    assert machine.handle(Tick(2.0, "report")) == [Count("neap_reporter_reports_skipped_total")]
    assert isinstance(machine.handle(Tick(7.0, "report"))[0], LookAround)


def test_a_host_that_does_not_answer_costs_a_report_and_not_the_reporter() -> None:
    lab = Lab()
    machine = ReporterMachine(Settings(node="n1"), COLLECTORS)
    look, listing = machine.handle(Tick(1.0, "report"))
    for instruction in (look, listing):
        assert machine.handle(Failed(1.1, instruction, "unavailable", may_retry=True)) == [
            Count("neap_reporter_reads_failed_total")
        ]
    assert [type(one) for one in turned(machine, lab.host, "report", 2.0) if not isinstance(one, Count)] == [
        Put,
        Publish,
    ]


def test_a_restarted_reporter_numbers_its_reports_on() -> None:
    lab = Lab()
    before = [lab.report().seq for _ in range(3)]
    lab.reader = NodeReader(lab.host, clock=lambda: lab.now, node="n1")
    assert lab.report().seq > max(before)


def test_a_crossed_threshold_has_an_id_of_its_own() -> None:
    lab = Lab()
    machine = ReporterMachine(Settings(node="n1"), COLLECTORS)
    ids = []
    for at, percent in ((1.0, 90), (2.0, 1), (3.0, 90)):
        lab.host.put("/proc/pressure/cpu", stalled(percent))
        ids += [
            instruction.id for instruction in turned(machine, lab.host, "report", at) if isinstance(instruction, Emit)
        ]
    assert len(set(ids)) == 3


def test_a_node_can_be_read_in_one_call() -> None:
    lab = Lab()

    def wait() -> None:
        lab.now += 1.0

    topology, usage = read_node(lab.reader, wait)
    assert topology.machine.cpus == "0-1"
    assert usage.cpu == pytest.approx(0.5)
