"""What is read when: intervals, devices that come and go, other trees, files that are too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from neap.common.host.memory import MemoryHost
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Count, Done, Instruction, Publish, Tick
from neap.reporter.core.instruction import ListDirs, LookAround, ReadFiles, ReadTopology
from neap.reporter.core.machine import ReporterMachine
from neap.reporter.core.surroundings import directories, levels
from neap.reporter.settings import Settings
from neap.reporter.shell.host import execute, look_around
from neap.reporter.wiring import COLLECTORS

CGROUPS = "/sys/fs/cgroup"
UID = "0a1b2c3d-1111-2222-3333-444455556666"
POD = f"kubepods/burstable/pod{UID}"
STAT = "file 4000\ninactive_file {}\nworkingset_refault_anon 0\nworkingset_refault_file {}\n"


class Rig:
    """A machine that runs on a host in memory, a second per report."""

    def __init__(self, **settings: object) -> None:
        self.now, self.host, self.counts = (
            1000.0,
            MemoryHost({"/proc/meminfo": "MemAvailable: 5 kB\n"}),
            dict[str, float](),
        )
        self.machine = ReporterMachine(Settings(node="n1", full_every=1, **settings), COLLECTORS)  # type: ignore[arg-type]
        self.read: list[str] = []  # paths read for the last report

    def run(self, cgroup: str, **files: str | Callable[[], str]) -> None:
        known: dict[str, str | Callable[[], str]] = {
            "cpu.stat": lambda: f"usage_usec {int(self.now * 5e5)}\nthrottled_usec 0\n",
            "memory.current": "9000\n",
            "memory.stat": lambda: STAT.format(1000, int(self.now) * 3),
            "cgroup.procs": "1\n",
        }
        for name, text in (known | files).items():
            self.host.put(f"{CGROUPS}/{cgroup}/{name}", text)

    def _turns(self, event: Tick) -> Iterator[Instruction]:
        pending = list(self.machine.handle(event))
        while pending:
            instruction = pending.pop(0)
            if isinstance(instruction, ListDirs | LookAround | ReadFiles | ReadTopology):
                if isinstance(instruction, ReadFiles):
                    self.read = list(instruction.paths)
                outcome = execute(self.host, lambda: self.now, instruction)
                pending += self.machine.handle(Done(self.now, instruction, outcome))
            yield instruction
            self.machine.validate()

    def report(self, after: float = 1.0) -> NodeUsage:
        self.now += after
        told = list(self._turns(Tick(self.now, "report")))
        for one in told:
            if isinstance(one, Count):
                self.counts[one.metric] = self.counts.get(one.metric, 0.0) + one.by
        (usage,) = [one.message for one in told if isinstance(one, Publish)]
        assert isinstance(usage, NodeUsage)
        return usage


def test_what_is_dear_is_read_in_its_interval_and_told_in_between() -> None:
    rig = Rig()
    rig.run(f"{POD}/c0ffee")
    read, told = [], []
    for _ in range(16):
        (container,) = rig.report().containers
        read.append(any(path.endswith("memory.stat") for path in rig.read))
        told.append(container.refaults)
    at = [number for number, is_read in enumerate(read) if is_read]
    assert at[0] == 0, "a new container is known at once"
    assert all(0 < later - earlier <= 5 for earlier, later in pairwise(at))
    assert at[-1] - at[-2] == 5
    assert told[at[1] :] == [pytest.approx(3.0)] * len(told[at[1] :]), "the rate is that of the reading's own interval"


def test_an_interval_can_be_set_and_is_whole_reports_of_whatever_period() -> None:
    rig = Rig(every={"container_working_set": 0.0, "container_cpu": 2.0})
    rig.run(f"{POD}/c0ffee")
    names = [{path.rpartition("/")[2] for path in (rig.report(), rig.read)[1]} for _ in range(6)]
    assert all("memory.stat" in each for each in names)
    assert sum("cpu.stat" in each for each in names[1:]) <= 3
    slow = Rig(period=60.0)
    slow.run(f"{POD}/c0ffee")
    assert all("memory.stat" in " ".join((slow.report(after=60.0), slow.read)[1]) for _ in range(4))


def test_the_cost_of_one_round_is_spread_over_containers() -> None:
    rig = Rig()
    for number in range(20):
        rig.run(f"{POD}/c{number:02}")
    rig.report()
    dear = [sum(path.endswith("memory.stat") for path in (rig.report(), rig.read)[1]) for _ in range(15)]
    assert max(dear) <= 5
    assert sum(dear[5:10]) == 20


def test_a_file_that_is_gone_is_unknown_at_once_and_not_what_it_was() -> None:
    rig = Rig(every={"container_working_set": 0.0})
    rig.run(f"{POD}/c0ffee")
    rig.report()
    assert rig.report().containers[0].file_cache == 4000
    rig.host.remove(f"{CGROUPS}/{POD}/c0ffee/memory.stat")
    usage = rig.report()
    assert usage.containers[0].file_cache is None
    assert "memory.stat of 1 container" in usage.unknown


# -- devices ---------------------------------------------------------------------------------------------------------


def link(rig: Rig, name: str) -> None:
    rig.host.put(f"/sys/class/net/{name}/device", {})
    rig.host.put(f"/sys/class/net/{name}/speed", "1000\n")


def traffic(rig: Rig, *names: str) -> None:
    rig.host.put("/proc/net/dev", lambda: "".join(f"{name}: {int(rig.now) * 7}" + " 0" * 15 + "\n" for name in names))


def test_a_link_that_is_pulled_out_is_unknown_then_gone_and_a_new_one_is_found() -> None:
    rig = Rig(devices_every=4)
    link(rig, "eth0")
    traffic(rig, "eth0")
    rig.report()
    assert [(one.name, one.read) for one in rig.report().links] == [("eth0", 7.0)]
    rig.host.remove("/sys/class/net/eth0")
    traffic(rig)
    rig.host.put("/proc/net/dev", "lo: 0" + " 0" * 15 + "\n")
    assert [(one.name, one.read) for one in rig.report().links] == [("eth0", None)]
    assert rig.report().links == ()
    link(rig, "eth1")
    traffic(rig, "eth1")
    found = [rig.report().links for _ in range(6)]
    assert [one.read for one in found[-1]] == [7.0]


def test_directories_are_listed_seldom() -> None:
    rig = Rig(devices_every=10)
    looks = [sum(isinstance(one, LookAround) for one in rig._turns(Tick(1000.0 + n, "report"))) for n in range(21)]
    assert looks == [1, *[0] * 9, 1, *[0] * 9, 1]


def test_patterns_are_listed_level_by_level_and_only_what_is_there_is_told() -> None:
    host = MemoryHost({"/a/x/ports/1/f": "", "/a/y/ports/2/f": "", "/a/z/none": ""})
    patterns = ("/a/*/ports", "/a", "/a/*/ports/*", "/b", "/b/*")
    assert [len(level) for level in levels(patterns)] == [2, 2, 1]
    assert directories(("/a/*/ports",), {"/a": ("x", "y")}) == ["/a/x/ports", "/a/y/ports"]
    assert look_around(host, patterns) == {
        "/a": ("x", "y", "z"),
        "/a/x/ports": ("1",),
        "/a/y/ports": ("2",),
        "/a/x/ports/1": ("f",),
        "/a/y/ports/2": ("f",),
    }


def test_traffic_of_a_pods_own_group_is_told_of_its_only_container() -> None:
    rig = Rig(every={"pod_bandwidth": 0.0})
    rig.run(f"{POD}/c0ffee")
    folder = f"/sys/fs/resctrl/mon_groups/{UID}/mon_data/mon_L3_00"
    rig.host.put(f"{folder}/mbm_total_bytes", lambda: f"{int(rig.now) * 1000}\n")
    rig.host.put(f"{folder}/llc_occupancy", "4096\n")
    rig.report()
    assert [(one.bandwidth, one.cache) for one in rig.report().containers] == [(1000.0, 4096)]
    rig.run(f"{POD}/beside")
    seen = [rig.report() for _ in range(6)][-1]
    assert [one.bandwidth for one in seen.containers] == [None, None], "a sum of two cannot be told apart"


# -- trees -----------------------------------------------------------------------------------------------------------

INNER = f"kubelet-kubepods-burstable-pod{UID.replace('-', '_')}.slice"
ROOTS = (
    f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/{INNER}/cri-containerd-c0ffee.scope",
    f"kubelet/kubepods/burstable/pod{UID}/c0ffee",
    f"kubelet/kubepods/pod{UID}/c0ffee",
)


@pytest.mark.parametrize("cgroup", ROOTS)
def test_pods_are_found_below_a_prefix(cgroup: str) -> None:
    rig = Rig()
    rig.run(cgroup)
    rig.report()
    (container,) = rig.report().containers
    assert (container.uid, container.container, container.cgroup) == (UID, "c0ffee", cgroup)


def test_other_roots_can_be_set() -> None:
    rig = Rig(cgroup_roots=("/sys/fs/cgroup/k3s/kubepods",))
    rig.run(f"k3s/kubepods/pod{UID}/c0ffee")
    rig.run(f"kubepods/pod{UID}/other")
    assert [one.container for one in rig.report().containers] == ["c0ffee"]


def test_what_a_runtime_makes_below_a_container_is_no_other_container() -> None:
    rig = Rig()
    scope = f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-c0ffee.scope"
    for inner in ("", "/init.scope", "/container"):
        rig.run(f"{scope}{inner}")
    assert [one.cgroup for one in rig.report().containers] == [scope]


def test_a_tree_without_cgroup_v2_is_named_and_its_containers_are_not_invented() -> None:
    rig = Rig()
    rig.host.put(f"{CGROUPS}/memory/{POD}/c0ffee/memory.usage_in_bytes", "5\n")
    rig.host.put(f"{CGROUPS}/unified/{POD}/c0ffee/cgroup.procs", "5\n")
    usage = rig.report()
    assert usage.containers == ()
    assert any(name.startswith("pods: no cgroup v2 ") for name in usage.unknown)


def test_files_of_version_1_are_unknown_and_named() -> None:
    rig = Rig(cgroup_roots=("/sys/fs/cgroup/cpu/kubepods",))
    rig.host.put(f"{CGROUPS}/cpu/{POD}/c0ffee/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
    rig.host.put(f"{CGROUPS}/cpu/{POD}/c0ffee/memory.current", "5\n")
    usage = rig.report()
    assert (usage.containers[0].cpu, usage.containers[0].memory) == (None, 5)
    assert "cpu.stat of 1 container" in usage.unknown


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_a_file_longer_than_its_budget_is_unknown_named_and_counted() -> None:
    rig = Rig()
    rig.host.put("/proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" + " " * 70_000)
    usage = rig.report()
    assert usage.cpu_stall is None
    assert "/proc/pressure/cpu" in usage.unknown
    assert rig.counts["neap_reporter_files_too_long_total"] == 1
    assert rig.counts["neap_reporter_read_bytes_total"] > 70_000
