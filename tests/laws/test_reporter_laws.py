"""Whatever the files say: no crash, no invented CPU, no negative rate, and unknown stays unknown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import NODE_USAGE, TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.host.memory import MemoryHost
from neap.common.model.topology import NodeTopology, Zone
from neap.common.model.usage import ContainerUsage, NodeUsage, NumaUsage
from neap.reporter.core.collector import CPU_OF, NUMA, POD, Scope, Surroundings
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.snapshot import OF_A_CPU, OF_A_NODE
from neap.reporter.reader import NodeReader
from neap.reporter.settings import Settings
from neap.reporter.shell.host import read_snapshot
from neap.reporter.wiring import COLLECTORS

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"
CACHE = ("level", "type", "shared_cpu_map", "size")
CPUS = 6
PATHS = (
    *(f"{CPU}/{name}" for name in ("online", "offline", "isolated")),
    *(f"{CPU}/cpu{cpu}/{name}" for cpu in range(CPUS) for name in OF_A_CPU),
    *(f"{CPU}/cpu{cpu}/cache/index3/{name}" for cpu in range(CPUS) for name in CACHE),
    *(f"{NODE}/node{node}/{name}" for node in (0, 1, 5) for name in OF_A_NODE),
    "/proc/meminfo",
    "/proc/self/cpuset",
    "/dev/cpuset/cpus",
    "/dev/cpuset/mems",
    "/proc/driver/nvidia/gpus/0000:01:00.0/information",
    *(f"/sys/bus/pci/devices/0000:01:00.0/{name}" for name in ("class", "vendor", "numa_node")),
)
small_sets = st.frozensets(st.integers(0, CPUS + 1))
masks = small_sets.map(lambda cpus: f"{sum(1 << cpu for cpu in cpus):08x}\n")
lists = small_sets.map(lambda cpus: ",".join(map(str, sorted(cpus))) + "\n")
words = st.one_of(
    masks,
    lists,
    st.integers(-1, 3).map(str),
    st.integers().map(lambda kib: f"Node 0 MemTotal: {kib} kB\n"),
    st.lists(st.integers(-1, 300), max_size=4).map(lambda row: " ".join(map(str, row))),
    st.sampled_from(
        ["3", "10 21", "0x030200", "0x10de", "Model: NVIDIA A10\nBus Location: x", "Unified", "/", "/../.."]
    ),
    st.binary(max_size=40).map(lambda raw: raw.decode(errors="replace")),
)
trees = st.dictionaries(st.sampled_from(PATHS), words, max_size=len(PATHS))
reserves = st.builds(
    Reserve, cpu_count=st.integers(0, 9), cpus=st.one_of(st.just(""), lists), memory=st.integers(0, 1 << 50)
)


def inside(zone: Zone) -> bool:
    """Whether every zone's CPUs lie in its parent's, and siblings of one kind share none."""
    mine = parse_cpuset(zone.cpus)
    for kind in {child.kind for child in zone.children}:
        parts = [parse_cpuset(child.cpus) for child in zone.children if child.kind is kind]
        if sum(map(len, parts)) != len(frozenset().union(*parts)):
            return False
    return all(parse_cpuset(child.cpus) <= mine and inside(child) for child in zone.children)


@given(trees, reserves)
def test_no_sysfs_can_crash_the_reader_or_make_it_invent_cpus(tree: dict[str, str], reserve: Reserve) -> None:
    host = MemoryHost(tree)
    topology = build(read_snapshot(host), node="n1", at=1.0, reserve=reserve, labels={})
    usable = parse_cpuset(topology.machine.cpus)
    present = {int(name[3:]) for name in (host.list(CPU) if host.exists(CPU) else []) if name[3:].isdigit()}
    owned = [cpu for node in topology.numa for cpu in parse_cpuset(node.cpus)]
    assert usable <= present
    assert len(owned) == len(set(owned))
    assert set(owned) <= usable
    assert parse_cpuset(topology.system_cpus) <= usable
    assert topology.siblings.keys() == usable
    assert all(cpu in parse_cpuset(mates) and parse_cpuset(mates) <= usable for cpu, mates in topology.siblings.items())
    assert inside(topology.machine)
    assert all(0 <= topology.allocatable[kind] <= amount for kind, amount in topology.capacity.items())
    assert not usable or topology.allocatable["cpu"] > 0 or not reserve.cpu_count
    assert TOPOLOGY.decode(TOPOLOGY.encode(topology)) == topology


@given(trees)
def test_the_order_of_directory_entries_does_not_matter(tree: dict[str, str]) -> None:
    def look(files: dict[str, str]) -> NodeTopology:
        return build(read_snapshot(MemoryHost(files)), node="n1", at=1.0, reserve=Reserve(), labels={})

    assert look(tree) == look(dict(reversed(list(tree.items()))))


# -- collectors: laws of every plugin, whoever wrote it --------------------------------------------------------------

counters = st.integers(0, 1 << 40)
psi = st.floats(0, 100).map(
    lambda x: f"some avg10={x:.2f} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
)
texts = st.one_of(
    st.none(),
    st.binary(max_size=60).map(lambda raw: raw.decode(errors="replace")),
    st.integers(-5, 1 << 70).map(str),
    psi,
    st.builds("usage_usec {}\nthrottled_usec {}\n".format, counters, counters),
    st.builds("cpu0 {} 0 0 {} 0 0 0 0 0 0\ncpu1 5 0 0 {} 0 0 0 0 0 0\nintr 1\n".format, counters, counters, counters),
    st.builds("MemTotal: 5 kB\nMemFree: {} kB\n".format, counters),
    st.builds("Node 0 MemFree: {} kB\n".format, counters),
    st.builds("anon 1\nfile {}\ninactive_file {}\nworkingset_refault {}\n".format, counters, counters, counters),
    st.builds("pgsteal_kswapd {}\npgsteal_direct {}\noom_kill {}\n".format, counters, counters, counters),
    st.builds("version 15\ntimestamp 1\ncpu0 0 0 0 0 0 0 1 {} 1\ncpu1 0 0 0 0 0 0 1 {} 1\n".format, counters, counters),
    st.builds("8:0 rbytes={} wbytes={} rios=1\n253:0 rbytes={} wbytes=0\n".format, counters, counters, counters),
    st.builds(" 8 0 sda 1 0 {} 1 1 0 {} 1 0 {} 1\n".format, counters, counters, counters),
    st.builds("head |\n eth0:{} 1 0 {} 0 0 0 0 {} 1 0 0 0 0 0 0\n".format, counters, counters, counters),
    st.builds("Node 0, zone DMA\n pages free {}\n min 1\n low {}\n high 9\n managed 256\n".format, counters, counters),
    st.just("Node 0 MemTotal: 1024 kB\nNode 0 MemFree: 5 kB\n"),
    st.sampled_from(["package-0\n", "psys\n", "100 Gb/sec (4X EDR)\n", "-1\n", "Unavailable\n", "nan Gb/sec x\n"]),
    counters.map("{}\n".format),
    lists,
)
AROUND = Surroundings(
    numa=(0, 1),
    caches=((0, 0), (1, 1)),
    names={
        "/sys/block": ("sda",),
        "/sys/block/sda": ("device",),
        "/sys/dev/block": ("253:0",),
        "/sys/dev/block/253:0/slaves": ("sda",),
        "/sys/class/net": ("eth0",),
        "/sys/class/net/eth0": ("device",),
        "/sys/class/infiniband": ("mlx5_0",),
        "/sys/class/infiniband/mlx5_0/ports": ("1",),
        "/sys/class/powercap": ("intel-rapl:0",),
        "/sys/class/drm": ("card0",),
        "/sys/class/drm/card0/device": ("gpu_busy_percent",),
        "/sys/fs/resctrl": ("mon_data", "mon_groups"),
        "/sys/fs/resctrl/mon_data": ("mon_L3_00", "mon_L3_01"),
        "/sys/fs/resctrl/mon_groups": ("poda",),
        "/sys/fs/resctrl/mon_groups/poda/mon_data": ("mon_L3_00",),
    },
)


def numbers(value: Any) -> Iterator[float]:
    """Every number in a field, however deep."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, msgspec.Struct):
        yield from (number for name in value.__struct_fields__ for number in numbers(getattr(value, name)))
    elif isinstance(value, dict | tuple):
        yield from (
            number for each in (value.values() if isinstance(value, dict) else value) for number in numbers(each)
        )


plugins = st.sampled_from(sorted(COLLECTORS))


def read(name: str, drawn: list[str | None]) -> list[Any]:
    """As the report does it: broken is None."""
    values: list[Any] = []
    for (_, parse), text in zip(COLLECTORS[name].wants(AROUND), drawn, strict=False):
        try:
            values.append(None if text is None else parse(text))
        except (ValueError, IndexError):
            values.append(None)
    return values


several = st.lists(texts, min_size=6, max_size=6)


@given(plugins, several, several, st.floats(0.001, 1e6))
def test_a_collector_yields_known_fields_that_are_unknown_or_not_negative(
    name: str, before: list[str | None], now: list[str | None], seconds: float
) -> None:
    collector = COLLECTORS[name]
    fields = collector.rate(read(name, before), read(name, now), seconds)
    kind = NodeUsage if collector.scope is Scope.NODE else ContainerUsage
    beside = {f"{NUMA}{name}" for name in NumaUsage.__struct_fields__} | {
        f"{POD}{name}" for name in ContainerUsage.__struct_fields__
    }
    assert fields.keys() <= {*kind.__struct_fields__, CPU_OF, *beside}
    assert fields == collector.rate(read(name, before), read(name, now), seconds)
    assert all(number >= 0 and math.isfinite(number) for number in numbers(dict(fields)))


@given(plugins, several, st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_the_same_values_again_give_the_same_fields_whatever_the_time(
    name: str, drawn: list[str | None], short: float, long: float
) -> None:
    rate, values = COLLECTORS[name].rate, read(name, drawn)
    assert rate(values, values, short) == rate(values, values, long)


@given(plugins, several, several, st.floats(0.001, 1e6))
def test_what_was_known_and_is_missing_now_is_unknown(
    name: str, before: list[str | None], now: list[str | None], seconds: float
) -> None:
    """A file that went away takes its numbers with it: no field is known that its absence from the start leaves unknown."""
    earlier, later = read(name, before), [None] * len(read(name, now))
    gone = COLLECTORS[name].rate(earlier, later, seconds)
    assert list(numbers(dict(gone))) == []


@given(plugins)
def test_what_is_missing_is_unknown_and_never_zero(name: str) -> None:
    nothing = [None] * len(COLLECTORS[name].wants(AROUND))
    assert list(numbers(dict(COLLECTORS[name].rate(nothing, nothing, 1.0)))) == []


files = st.dictionaries(
    st.sampled_from(
        [
            *("/proc/stat", "/proc/meminfo", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io"),
            *(
                f"/sys/fs/cgroup/kubepods/{place}/{name}"
                for place in ("poda/one", "poda/two", "burstable/podb/three")
                for name in ("cpu.stat", "memory.current", "memory.stat", "cpu.pressure", "io.stat")
            ),
            *("/proc/schedstat", "/proc/zoneinfo", "/proc/vmstat", "/proc/diskstats", "/proc/net/dev"),
            *("/sys/class/powercap/intel-rapl:0/name", "/sys/class/powercap/intel-rapl:0/energy_uj"),
            *("/sys/class/net/eth0/device", "/sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data"),
        ]
    ),
    texts.filter(lambda text: text is not None),
    max_size=20,
)


@given(st.lists(st.tuples(files, st.floats(-1.0, 5.0)), min_size=1, max_size=4))
def test_every_report_can_be_sent_and_speaks_only_of_containers_that_are_there(
    days: list[tuple[dict[str, str], float]],
) -> None:
    now = 100.0
    host = MemoryHost({f"{CPU}/cpu{cpu}/online": "1\n" for cpu in (0, 1)})
    reader = NodeReader(host, clock=lambda: now, node="n1", settings=Settings(relist_every=1))
    earlier = 0
    for tree, passed in days:
        now += passed
        for path in ("/proc", "/sys/class", "/sys/fs/cgroup"):
            if host.exists(path):
                host.remove(path)
        for path, text in tree.items():
            host.put(path, text)
        usage = reader.sample()
        assert NODE_USAGE.decode(NODE_USAGE.encode(usage)) == usage
        assert usage.seq > earlier
        earlier = usage.seq
        assert all(any(path.startswith(f"/sys/fs/cgroup/{one.cgroup}/") for path in tree) for one in usage.containers)
        assert all(one.cpu is None or one.cpu >= 0 for one in usage.containers)
        assert all(number >= 0 and math.isfinite(number) for number in numbers(usage))
        assert {one.name for one in usage.rdma if one.read is not None} <= {"mlx5_0/1"}
        assert usage.cpu is None or 0 <= usage.cpu <= 2
        assert msgspec.json.encode(reader.topology())
