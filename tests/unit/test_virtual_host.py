"""A virtual host as its services see it: the kubelet's tree, the kernel's rules, pressure, memory, cards."""

from __future__ import annotations

import re
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError, PortError, Vanished
from neap.common.host.port import Refused, Unsupported
from neap.common.model.cards import MEMORY_MIB, PRODUCT, memory_mib, model_of
from neap.common.model.qos import KubeQos
from neap.common.units import GIB, MIB
from neap.virtual.demand import offered, uniform
from neap.virtual.kernel import VirtualHost
from neap.virtual.kubepods import weight_of
from neap.virtual.pod import (
    CardSpec,
    Curve,
    EndReason,
    Idle,
    Memory,
    ServiceModel,
    VirtualContainer,
    VirtualPod,
    Work,
)
from neap.virtual.snapshot import NumaShare, Snapshot

PODS = "/sys/fs/cgroup/kubepods"
MACHINE = Snapshot(
    name="four",
    tree={"sys": {"devices": {"system": {"node": {"node0": {}, "node1": {}}}}}},
    cpus=frozenset(range(4)),
    present=frozenset(range(5)),  # CPU 4 is offline
    numa={0: NumaShare(frozenset({0, 1}), 4 * GIB), 1: NumaShare(frozenset({2, 3}), 4 * GIB)},
    memory=8 * GIB,
)
BACKLOGGED = Work(core_seconds=1e9, width=4)


def a_host(at: float = 0.0, cards: tuple[CardSpec, ...] = ()) -> VirtualHost:
    return VirtualHost(MACHINE, node="n", at=at, cards=cards)


def a_pod(
    uid: str,
    demand: object = None,
    *,
    qos: KubeQos = KubeQos.BURSTABLE,
    service: ServiceModel | None = None,
    **rest: object,
) -> VirtualPod:
    container = VirtualContainer(id=f"{uid}-c", demand=demand or Idle(), **rest)  # type: ignore[arg-type]
    return VirtualPod(uid=uid, qos=qos, containers=(container,), service=service)


def fields(text: str) -> dict[str, int]:
    return {line.split()[0].rstrip(":"): int(line.split()[1]) for line in text.splitlines()}


def where(uid: str, group: str = "burstable/") -> str:
    return f"{PODS}/{group}pod{uid}/{uid}-c"


# -- what the kubelet makes ------------------------------------------------------------------------------------------


def test_pods_lie_where_the_kubelet_puts_their_class() -> None:
    host = a_host()
    for uid, qos in (("g", KubeQos.GUARANTEED), ("b", KubeQos.BURSTABLE), ("e", KubeQos.BEST_EFFORT)):
        host.start(a_pod(uid, qos=qos))
    assert "podg" in host.list(PODS)
    assert "podb" in host.list(f"{PODS}/burstable")
    assert "e-c" in host.list(f"{PODS}/besteffort/pode")
    host.stop("b")
    assert "podb" not in host.list(f"{PODS}/burstable")
    with pytest.raises(Vanished):
        host.read(f"{PODS}/burstable/podb/b-c/cpu.stat")
    with pytest.raises(Vanished):
        host.write(f"{PODS}/burstable/podb/cpu.weight", "5")


@pytest.mark.parametrize(("milli", "weight"), [(0, 1), (2, 1), (100, 4), (1000, 39), (8000, 313), (256_000, 10_000)])
def test_cpu_requests_become_weights_by_the_kubernetes_formula(milli: int, weight: int) -> None:
    # shares = milli 1024/1000, weight = 1 + (shares − 2) 9999 / 262142: 1000 -> 1024 shares -> 39
    assert weight_of(milli) == weight


def test_limits_become_quota_and_memory_max_and_the_pods_sum() -> None:
    host = a_host()
    containers = tuple(
        VirtualContainer(
            id=f"c{i}", requests={"cpu": 500, "memory": 64 * MIB}, limits={"cpu": 1500, "memory": 128 * MIB}
        )
        for i in range(2)
    )
    host.start(VirtualPod(uid="p", qos=KubeQos.BURSTABLE, containers=containers))
    assert host.read(f"{PODS}/burstable/podp/c0/cpu.max") == "150000 100000\n"
    assert host.read(f"{PODS}/burstable/podp/c0/memory.max") == f"{128 * MIB}\n"
    assert host.read(f"{PODS}/burstable/podp/cpu.max") == "300000 100000\n"
    assert host.read(f"{PODS}/burstable/podp/memory.max") == f"{256 * MIB}\n"
    assert host.read(f"{PODS}/burstable/podp/cpu.weight") == "39\n"
    assert host.read(f"{PODS}/burstable/cpu.weight") == "39\n"


def test_a_container_has_a_process_with_the_class_oom_score() -> None:
    host = a_host()
    host.start(a_pod("b", requests={"memory": 2 * GIB}))
    pid = host.read(f"{where('b')}/cgroup.procs").strip()
    assert host.read(f"/proc/{pid}/oom_score_adj") == "750\n"  # 1000 − 1000 · 2/8
    assert host.read(f"/proc/{pid}/cgroup") == "0::/kubepods/burstable/podb/b-c\n"
    host.write(f"/proc/{pid}/oom_score_adj", "-1000")
    with pytest.raises(Refused):
        host.write(f"/proc/{pid}/oom_score_adj", "1001")
    assert host.read(f"/proc/{pid}/oom_score_adj") == "-1000\n"
    host.stop("b")
    assert not host.exists(f"/proc/{pid}")


def test_a_pod_cannot_be_started_twice_nor_under_a_name_no_directory_has() -> None:
    host = a_host()
    host.start(a_pod("a"))
    for bad in (a_pod("a"), a_pod("../x"), VirtualPod(uid="", qos=KubeQos.BURSTABLE, containers=())):
        with pytest.raises(InputError):
            host.start(bad)
    host.stop("never-seen")


# -- what the kernel takes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "errno"),
    [
        ("cpu.weight", "0", "ERANGE"),
        ("cpu.weight", "10001", "ERANGE"),
        ("cpu.weight", "many", "EINVAL"),
        ("cpu.weight.nice", "20", "ERANGE"),
        ("cpu.idle", "2", "EINVAL"),
        ("cpu.max", "999 100000", "EINVAL"),
        ("cpu.max", "1000 999", "EINVAL"),
        ("cpu.max", "", "EINVAL"),
        ("cpu.max.burst", "-1", "EINVAL"),
        ("cpuset.cpus", "0-9", "EINVAL"),
        ("cpuset.cpus", "one", "EINVAL"),
        ("cpuset.mems", "7", "EINVAL"),
        ("memory.max", "-1", "EINVAL"),
        ("memory.high", "lots", "EINVAL"),
        ("memory.reclaim", "64M", "EAGAIN"),
        ("cgroup.procs", "1", "EOPNOTSUPP"),
        ("cgroup.subtree_control", "+magic", "EINVAL"),
    ],
)
def test_the_kernel_refuses_and_keeps_what_was(name: str, text: str, errno: str) -> None:
    host = a_host()
    host.start(a_pod("p", limits={"cpu": 1000}))
    before = host.read_all([f"{where('p')}/{name}"])
    with pytest.raises(Refused, match=errno):
        host.write(f"{where('p')}/{name}", text)
    assert host.read_all([f"{where('p')}/{name}"]) == before


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("cpu.weight", "777", "777"),
        ("cpu.weight.nice", "0", "0"),
        ("cpu.max", "50000", "50000 100000"),
        ("cpu.max", "max", "max 100000"),
        ("cpu.max", "5000 10000", "5000 10000"),
        ("cpuset.cpus", "3,0-1", "0-1,3"),
        ("cpuset.cpus", "4", "4"),  # offline, but the machine's
        ("cpuset.mems", "1", "1"),
        ("memory.high", "10000", "8192"),
        ("memory.max", "1G", str(GIB)),
        ("memory.low", "max", "max"),
        ("cgroup.subtree_control", "+cpu +memory", ""),
    ],
)
def test_what_the_kernel_takes_is_shown_as_it_shows_it(name: str, text: str, shown: str) -> None:
    host = a_host()
    host.start(a_pod("p"))
    host.write(f"{where('p')}/{name}", text)
    assert host.read(f"{where('p')}/{name}").strip() == shown


def test_files_a_kernel_does_not_have_are_unsupported_and_measurements_read_only() -> None:
    host = a_host()
    host.start(a_pod("p"))
    with pytest.raises(Unsupported):
        host.write(f"{where('p')}/cpu.shares", "1024")
    for name in ("cpu.stat", "memory.current", "cpuset.cpus.effective"):
        with pytest.raises(Refused):
            host.write(f"{where('p')}/{name}", "0")
    with pytest.raises(PortError):
        host.read(f"{where('p')}/memory.reclaim")
    with pytest.raises(Unsupported):
        host.write("/sys/fs/cgroup/cpu.weight", "1")  # the root has no weight


def test_idle_forgets_the_weight_and_takes_none_meanwhile() -> None:
    host = a_host()
    host.start(a_pod("p", requests={"cpu": 2000}))
    host.write(f"{where('p')}/cpu.idle", "1")
    assert host.read(f"{where('p')}/cpu.weight") == "0\n"
    with pytest.raises(Refused):
        host.write(f"{where('p')}/cpu.weight", "50")
    host.write(f"{where('p')}/cpu.idle", "0")
    assert host.read(f"{where('p')}/cpu.weight") == "100\n"


def test_an_empty_cpuset_inherits_and_a_disjoint_one_falls_back_to_the_parent() -> None:
    host = a_host()
    host.start(a_pod("p"))
    host.write(f"{PODS}/burstable/cpuset.cpus", "1-3")
    assert host.read(f"{where('p')}/cpuset.cpus.effective") == "1-3\n"
    host.write(f"{where('p')}/cpuset.cpus", "0-1")
    assert host.read(f"{where('p')}/cpuset.cpus.effective") == "1\n"
    host.write(f"{where('p')}/cpuset.cpus", "0")
    assert host.read(f"{where('p')}/cpuset.cpus.effective") == "1-3\n"
    host.write(f"{PODS}/burstable/cpuset.cpus", "0-3")
    assert host.read(f"{where('p')}/cpuset.cpus.effective") == "0\n"
    assert host.read(f"{PODS}/cpuset.mems.effective") == "0-1\n"


def test_a_set_can_only_be_emptied_while_no_task_is_below_it() -> None:
    host = a_host()
    host.start(a_pod("p"))
    for path in (f"{PODS}/burstable", where("p")):
        for file in ("cpuset.cpus", "cpuset.mems"):
            host.write(f"{path}/{file}", "")  # it is empty already
            host.write(f"{path}/{file}", "0")
            with pytest.raises(Refused, match="ENOSPC"):
                host.write(f"{path}/{file}", "\n")
    host.stop("p")
    host.write(f"{PODS}/burstable/cpuset.cpus", "\n")
    assert host.read(f"{PODS}/burstable/cpuset.cpus") == "\n"


# -- time passes -----------------------------------------------------------------------------------------------------


def test_two_pods_of_weights_100_and_300_use_one_and_three_of_four_cpus() -> None:
    host = a_host()
    for uid, weight in (("a", "100"), ("b", "300")):
        host.start(a_pod(uid, BACKLOGGED))
        host.write(f"{PODS}/burstable/pod{uid}/cpu.weight", weight)
    assert host.advance(10.0) == []
    assert fields(host.read(f"{where('a')}/cpu.stat"))["usage_usec"] == pytest.approx(10e6, abs=2)
    assert fields(host.read(f"{where('b')}/cpu.stat"))["usage_usec"] == pytest.approx(30e6, abs=2)
    assert host.read("/proc/stat").splitlines()[0] == "cpu  3600 0 400 0 0 0 0 0 0 0"
    assert host.observe().used == pytest.approx(4)


def test_a_quota_is_counted_as_throttling() -> None:
    host = a_host()
    host.start(a_pod("a", Work(core_seconds=1e9, width=2), limits={"cpu": 500}))
    host.advance(10.0)
    stat = fields(host.read(f"{where('a')}/cpu.stat"))
    assert stat["usage_usec"] == pytest.approx(5e6, abs=2)
    assert (stat["nr_periods"], stat["nr_throttled"]) == (100, 100)
    assert stat["throttled_usec"] == pytest.approx(2 * 7.5e6, abs=2)  # three quarters of the time, on two CPUs


def test_work_is_done_when_its_core_seconds_are() -> None:
    host = a_host(at=1_700_000_000.0)
    host.start(a_pod("w", Work(core_seconds=90, width=3)))
    assert host.advance(1_700_000_020.0) == []
    (finished,) = host.advance(1_700_000_060.0)
    assert (finished.uid, finished.container, finished.reason) == ("w", "w-c", EndReason.DONE)
    assert finished.core_seconds == pytest.approx(90)
    assert host.read(f"{where('w')}/cgroup.procs") == ""
    assert host.read(f"{where('w')}/cgroup.events") == "populated 0\nfrozen 0\n"
    host.stop("w")
    assert fields(host.read(f"{PODS}/burstable/cpu.stat").partition("nr")[0])["usage_usec"] == pytest.approx(
        90e6, abs=2
    )


def test_pressure_follows_the_kernels_averages() -> None:
    # one thread that gets half of the one CPU it may use: some = 50 %, avg10 after 10 s = 50 (1 − 1/e)
    host = a_host()
    for uid in ("a", "b"):
        host.start(a_pod(uid, Work(core_seconds=1e9, width=1)))
    host.write(f"{PODS}/burstable/cpuset.cpus", "2")
    host.advance(10.0)
    some = host.read(f"{where('a')}/cpu.pressure").splitlines()[0]
    assert (
        some
        == f"some avg10={50 * (1 - exp(-1)):.2f} avg60={50 * (1 - exp(-1 / 6)):.2f} avg300={50 * (1 - exp(-1 / 30)):.2f} total=5000000"
    )
    both = host.read("/proc/pressure/cpu").splitlines()
    assert both[0].endswith("total=7500000")  # one of the two waits: 1 − (1 − ½)²
    assert both[1].startswith("full avg10=0.00")
    host.stop("b")
    host.advance(70.0)
    later = re.search(r"avg10=([\d.]+)", host.read(f"{where('a')}/cpu.pressure"))
    assert later is not None
    assert float(later[1]) < 1


def test_a_curve_is_followed_between_its_points() -> None:
    curve = Curve(points=(1.0, 3.0), step=60, scale=2.0, origin=100.0)
    assert [offered(curve, at) for at in (100, 130, 160, 190, 220)] == [2, 4, 6, 4, 2]
    noisy = Curve(points=(1.0,), step=60, noise=0.5, seed=3)
    assert offered(noisy, 30) == offered(noisy, 59)
    assert {round(offered(noisy, minute * 60), 6) for minute in range(5)} != {1.0}
    draws = [uniform(7, i) for i in range(2000)]
    assert -1 <= min(draws) < max(draws) <= 1
    assert abs(sum(draws) / len(draws)) < 0.05


def test_what_an_online_service_does_not_get_waits_and_is_worked_off() -> None:
    host = a_host()
    service = ServiceModel(mean=0.01, objective=0.2)
    host.start(a_pod("s", Curve(points=(2.0,), step=60), service=service))
    host.write(f"{where('s')}/cpu.max", "100000 100000")
    host.advance(10.0)
    (state,) = host.observe().services
    assert (state.offered, state.used, state.violated) == (2, 1, True)
    host.write(f"{where('s')}/cpu.max", "max")
    host.advance(15.0)  # 10 core-seconds late: 2 cores of its own and 2 more for five seconds
    assert host.observe().services[0].used == pytest.approx(4)
    host.advance(20.0)
    (state,) = host.observe().services
    assert state.used == pytest.approx(2)
    assert not state.violated


def test_work_that_is_started_within_a_step_does_nothing_before() -> None:
    host = a_host()
    host.advance(60.0)
    host.start(a_pod("late", Work(core_seconds=1e9, width=2)), at=105.0)
    host.advance(120.0)
    (late,) = host.observe().containers
    assert late.core_seconds == pytest.approx(2 * 15.0)
    host.advance(180.0)
    (late,) = host.observe().containers
    assert late.core_seconds == pytest.approx(2 * 75.0)


def test_guests_on_the_owners_cores_hurt_unless_weights_or_cpusets_hold_them_back() -> None:
    def p99(*writes: tuple[str, str]) -> float:
        host = a_host()
        service = ServiceModel(mean=0.01, objective=0.1)
        host.start(a_pod("s", Curve(points=(2.0,), step=60), service=service))
        host.start(a_pod("g", Work(core_seconds=1e9, width=4), qos=KubeQos.GUARANTEED, requests={"cpu": 4000}))
        for path, text in writes:
            host.write(f"{PODS}{path}", text)
        host.advance(60.0)
        return host.observe().services[0].p99

    assert p99() > 1  # the service has no request, so it has no weight
    assert p99(("/podg/cpu.idle", "1"), ("/burstable/cpu.weight", "100")) < 0.1
    assert p99(("/podg/cpuset.cpus", "3"), ("/burstable/cpuset.cpus", "0-2")) < 0.1


def test_time_that_is_past_changes_nothing() -> None:
    host = a_host(at=100.0)
    host.advance(200.0)
    before = host.read("/proc/stat")
    assert host.advance(150.0) == []
    assert host.read("/proc/stat") == before
    assert host.read("/proc/uptime") == "100.00 400.00\n"


# -- memory ----------------------------------------------------------------------------------------------------------


def test_page_cache_grows_with_work_and_gives_way_to_limits() -> None:
    host = a_host()
    host.start(
        a_pod(
            "p",
            Work(core_seconds=1e9, width=1),
            memory=Memory(start=100 * MIB, cache=200 * MIB, cache_per_core_second=10 * MIB),
        )
    )
    host.advance(10.0)
    assert host.read(f"{where('p')}/memory.current") == f"{200 * MIB}\n"
    stat = fields(host.read(f"{where('p')}/memory.stat"))
    assert (stat["anon"], stat["file"], stat["inactive_file"]) == (100 * MIB, 100 * MIB, 50 * MIB)
    host.write(f"{where('p')}/memory.high", str(150 * MIB))
    host.advance(20.0)
    assert host.read(f"{where('p')}/memory.current") == f"{150 * MIB}\n"
    assert fields(host.read(f"{where('p')}/memory.events"))["high"] == 1
    host.advance(30.0)
    assert "some avg10=0.00" not in host.read(f"{where('p')}/memory.pressure")
    host.write(f"{where('p')}/memory.reclaim", str(20 * MIB))
    assert host.read(f"{where('p')}/memory.current") == f"{130 * MIB}\n"


def test_a_leak_is_slowed_by_high_and_killed_by_max() -> None:
    host = a_host()
    host.start(a_pod("leak", memory=Memory(start=10 * MIB, per_second=MIB), limits={"memory": 100 * MIB}))
    pid = host.read(f"{where('leak')}/cgroup.procs").strip()
    host.write(f"{where('leak')}/memory.high", str(50 * MIB))
    host.advance(60.0)
    assert 50 * MIB < int(host.read(f"{where('leak')}/memory.current")) < 70 * MIB
    finished = host.advance(60.0) + [end for minute in range(2, 60) for end in host.advance(60.0 * minute)]
    assert [(end.uid, end.reason) for end in finished] == [("leak", EndReason.OOM)]
    assert fields(host.read(f"{where('leak')}/memory.events"))["oom_kill"] == 1
    assert fields(host.read(f"{PODS}/memory.events"))["oom_kill"] == 1
    assert not host.exists(f"/proc/{pid}")
    assert host.read(f"{where('leak')}/memory.current") == "0\n"


def test_a_full_machine_kills_best_effort_first_and_protects_what_memory_low_says() -> None:
    host = a_host()
    cached = Memory(start=GIB, cache=2 * GIB, cache_per_core_second=GIB)
    host.start(a_pod("safe", Work(core_seconds=1e9, width=1), qos=KubeQos.GUARANTEED, memory=cached))
    host.start(a_pod("soft", Work(core_seconds=1e9, width=1), qos=KubeQos.GUARANTEED, memory=cached))
    for cgroup in (PODS, f"{PODS}/podsafe"):  # the kernel keeps nothing that the cgroups above do not keep
        host.write(f"{cgroup}/memory.low", str(3 * GIB))
    host.start(a_pod("guest", qos=KubeQos.BEST_EFFORT, memory=Memory(start=2 * GIB)))
    host.advance(10.0)
    held = {uid: int(host.read(f"{where(uid, '')}/memory.current")) for uid in ("safe", "soft")}
    assert held["safe"] == 3 * GIB
    assert GIB < held["soft"] < 3 * GIB
    host.start(a_pod("big", qos=KubeQos.GUARANTEED, memory=Memory(start=5 * GIB)))
    finished = host.advance(20.0)
    assert [end.uid for end in finished] == ["guest"]
    assert "oom_kill 1" in host.read("/proc/vmstat")


def test_memory_lies_on_the_nodes_of_the_cpus_and_the_machine_adds_up() -> None:
    host = a_host()
    host.start(a_pod("p", memory=Memory(start=GIB)))
    host.write(f"{where('p')}/cpuset.cpus", "2-3")
    host.advance(1.0)
    used = [
        int(re.findall(r"AnonPages:\s+(\d+)", host.read(f"/sys/devices/system/node/node{i}/meminfo"))[0])
        for i in (0, 1)
    ]
    assert used == [0, GIB // 1024]
    machine = fields(host.read("/proc/meminfo"))
    assert machine["MemTotal"] == 8 * GIB // 1024
    assert machine["AnonPages"] == GIB // 1024
    host.write(f"{where('p')}/cpuset.mems", "0")
    assert "Node 0 AnonPages:       1048576 kB" in host.read("/sys/devices/system/node/node0/meminfo")


# -- cards -----------------------------------------------------------------------------------------------------------


def test_cards_are_shown_as_bus_and_driver_show_them() -> None:
    host = a_host(cards=(CardSpec(model="T4", count=2), CardSpec(model="G2", count=2)))
    addresses = host.list("/proc/driver/nvidia/gpus")
    assert addresses == host.list("/sys/bus/pci/devices")
    assert len(addresses) == 4
    folders = [f"/sys/bus/pci/devices/{address}" for address in addresses]
    assert {host.read(f"{folder}/class") for folder in folders} == {"0x030200\n"}
    assert {host.read(f"{folder}/vendor") for folder in folders} == {"0x10de\n"}
    assert [host.read(f"{folder}/numa_node") for folder in folders] == ["0\n", "0\n", "1\n", "1\n"]
    assert host.read(f"{folders[3]}/local_cpulist") == "2-3\n"
    shown = [host.read(f"/proc/driver/nvidia/gpus/{address}/information") for address in addresses]
    uuids = [re.search(r"GPU UUID:\s+(GPU-[0-9a-f-]{36})\n", text) for text in shown]
    assert all(uuids)
    assert len({match[1] for match in uuids if match}) == 4
    models = [re.search(r"Model:\s+(.+)\n", text) for text in shown]
    assert [model_of(match[1]) for match in models if match] == ["T4", "T4", "G2", "G2"]
    assert f"Bus Location: \t {addresses[0]}" in shown[0]


def test_a_card_readers_could_not_know_is_refused() -> None:
    for spec in (
        CardSpec(model="X1", count=1),
        CardSpec(model="T4", count=1, memory_mib=1),
        CardSpec(model="T4", count=99),
    ):
        with pytest.raises(InputError):
            a_host(cards=(spec,))
    assert a_host().list("/sys/bus/pci/devices") == []


def test_every_card_has_a_name_and_a_size_and_unknown_is_zero() -> None:
    assert set(MEMORY_MIB) == set(PRODUCT)
    assert all(memory_mib(product) == MEMORY_MIB[model] for model, product in PRODUCT.items())
    assert memory_mib("Voodoo 2") == 0


@given(st.lists(st.floats(1.0, 119.0), min_size=2, max_size=40))
def test_a_host_that_lives_by_a_clock_is_read_as_of_the_moment_however_late_its_readers_come(gaps: list[float]) -> None:
    """Ticks come every minute, readings when they come: each finds just what was used since the one before."""
    host, now, used = a_host(), 0.0, 0
    host.start(a_pod("busy", Work(core_seconds=1e9, width=2)))
    host.live_by(lambda: now)
    path = f"{where('busy')}/cpu.stat"
    for gap in gaps:
        for minute in range(int(now // 60) + 1, int((now + gap) // 60) + 1):
            host.advance(60.0 * minute)
        now += gap
        _, text = host.read_all(["/proc/stat", path])
        assert text is not None
        spent = fields(text.partition("nr")[0])["usage_usec"]
        assert (spent - used) / 1e6 == pytest.approx(2.0 * gap, abs=0.05)
        used = spent


def test_what_ended_while_somebody_looked_is_told_by_the_next_advance() -> None:
    host = a_host()
    host.start(a_pod("job", Work(core_seconds=10, width=1)))
    host.live_by(lambda: 50.0)
    host.read_all(["/proc/stat"])
    assert [ended.uid for ended in host.advance(40.0)] == ["job"]
    assert not host.advance(60.0)


def test_a_service_that_has_not_lived_yet_has_not_been_slow_either() -> None:
    host = a_host()
    host.advance(30.0)
    host.start(a_pod("web", Curve(points=(0.5, 0.5), step=60.0), service=ServiceModel(mean=0.01, objective=0.2)))
    assert not host.observe().services
    host.advance(31.0)
    (state,) = host.observe().services
    assert not state.violated
