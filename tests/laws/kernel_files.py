"""A small machine as files, in the form of kernel 6.x: what a kernel, a driver and a container runtime write.

4 CPUs on 2 NUMA nodes, a disk, a link, an RDMA port, a card of each maker, one package with an energy counter, cache
monitoring, and two containers. `FILES` are texts by path, `LINKS` targets by path; `machine()` is a host of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from neap.common.host.memory import Link, MemoryHost

CPU: Final = "/sys/devices/system/cpu"
NODE: Final = "/sys/devices/system/node"
PCI: Final = "/sys/devices/pci0000:00"
PODS: Final = "/sys/fs/cgroup/kubepods"
CONTAINERS: Final = (f"{PODS}/burstable/pod1a2b/c1", f"{PODS}/pod3c4d/c2")
CPUS: Final = 4

PROC: Final = {
    "/proc/stat": (
        "cpu  4110 21 1304 77340 215 0 61 3 0 0\ncpu0 1033 5 330 19311 60 0 40 1 0 0\ncpu1 1021 6 311 19350 50 0 9 1 0 0\n"
        "cpu2 1040 4 333 19312 51 0 8 1 0 0\ncpu3 1016 6 330 19367 54 0 4 0 0 0\nintr 199292 0 9 0\nctxt 1990473\n"
        "btime 1418183276\nprocesses 26442\nprocs_running 2\nprocs_blocked 1\nsoftirq 5057579 250191 1481983\n"
    ),
    "/proc/meminfo": (
        "MemTotal:        7999488 kB\nMemFree:         2340252 kB\nMemAvailable:    5673112 kB\nBuffers:          220360 kB\n"
        "Cached:          2901044 kB\nSwapCached:            0 kB\nShmem:            139800 kB\nSReclaimable:     410012 kB\n"
        "HugePages_Total:       0\nHugepagesize:       2048 kB\n"
    ),
    "/proc/vmstat": (
        "nr_free_pages 585063\nworkingset_refault_anon 1203\nworkingset_refault_file 88123\npgsteal_kswapd 700112\n"
        "pgsteal_direct 1204\noom_kill 0\n"
    ),
    "/proc/schedstat": (
        "version 15\ntimestamp 4318561113\ncpu0 0 0 0 0 0 0 2045936778163 343796328169 4767485306\n"
        "domain0 00000000,00000003 212499247 210112015\ncpu1 0 0 0 0 0 0 1904686152592 364107263788 5145567945\n"
        "cpu2 0 0 0 0 0 0 1904686152593 364107263789 5145567946\ncpu3 0 0 0 0 0 0 11 22 33\n"
    ),
    "/proc/zoneinfo": (
        "Node 0, zone   Normal\n  pages free     300001\n        boost    0\n        min      5501\n        low      8801\n"
        "        high     12101\n        spanned  1047552\n        present  1047552\n        managed  999936\n"
        "        protection: (0, 0, 0)\n  pagesets\n    cpu: 0\n              count: 311\n"
        "Node 1, zone   Normal\n  pages free     285062\n        boost    0\n        min      5502\n        low      8802\n"
        "        high     12102\n        spanned  1048576\n        present  1048576\n        managed  999936\n"
        "        protection: (0, 0, 0)\n"
    ),
    "/proc/diskstats": (
        "   7       0 loop0 27 0 1200 13 0 0 0 0 0 10 13 0 0 0 0 0 0\n"
        " 259       0 nvme0n1 47114 4 4643973 21650 1078320 43950 39451633 1011053 0 222766 1032546\n"
        " 259       1 nvme0n1p1 1140 0 9370 16 1 0 1 0 0 16 16\n"
    ),
    "/proc/net/dev": (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n"
        "    lo:  435303    1832    0    0    0     0          0         0   435303    1832    0    0    0     0    0   0\n"
        "  eth0: 68210035 520993    3    2    0     0          0         7  9315587   43451    5    1    0     0    0   0\n"
    ),
    "/proc/self/cgroup": "0::/system.slice/neap.service\n",
    "/proc/self/cpuset": "/system.slice/neap.service\n",
    "/proc/driver/nvidia/gpus/0000:03:00.0/information": (
        "Model: \t\t NVIDIA A10\nIRQ:   \t\t 42\nGPU UUID: \t GPU-3f0c1f7e-1111-2222-3333-444455556666\n"
        "Bus Location: \t 0000:03:00.0\nGPU Excluded:\t No\n"
    ),
}
SOME: Final = "some avg10={} avg60={} avg300=0.33 total={}\n"
FULL: Final = "full avg10={} avg60={} avg300=0.11 total={}\n"


def _pressure(number: int) -> str:
    return SOME.format(f"{number}.25", f"{number}.50", number * 10_007) + FULL.format("0.75", "0.15", number * 5_003)


def _processor() -> Iterator[tuple[str, str]]:
    yield f"{CPU}/online", "0-3\n"
    yield f"{CPU}/offline", "\n"
    yield f"{CPU}/isolated", "\n"
    for cpu in range(CPUS):
        home, at = cpu // 2, f"{CPU}/cpu{cpu}"
        mask, lists = f"{3 << 2 * home:x}\n", f"{2 * home}-{2 * home + 1}\n"
        yield f"{at}/online", "1\n"
        yield f"{at}/cpu_capacity", "1024\n"
        yield f"{at}/cpufreq/cpuinfo_max_freq", "3500000\n"
        yield f"{at}/cpufreq/base_frequency", "2100000\n"
        for name, text in (("physical_package_id", home), ("die_id", 0), ("cluster_id", home), ("core_id", cpu % 2)):
            yield f"{at}/topology/{name}", f"{text}\n"
        for name in ("core_siblings", "package_cpus"):
            yield f"{at}/topology/{name}", mask
        yield f"{at}/topology/core_siblings_list", lists
        for name in ("thread_siblings", "core_cpus"):
            yield f"{at}/topology/{name}", f"{1 << cpu:x}\n"
        yield f"{at}/topology/thread_siblings_list", f"{cpu}\n"
        cache = {
            "level": "3\n",
            "type": "Unified\n",
            "shared_cpu_map": mask,
            "shared_cpu_list": lists,
            "size": "8192K\n",
        }
        for name, text in (*cache.items(), ("id", f"{home}\n")):
            yield f"{at}/cache/index3/{name}", text


def _memory() -> Iterator[tuple[str, str]]:
    for name in ("online", "possible"):
        yield f"{NODE}/{name}", "0-1\n"
    for node in (0, 1):
        at = f"{NODE}/node{node}"
        yield f"{at}/cpumap", f"{3 << 2 * node:x}\n"
        yield f"{at}/cpulist", f"{2 * node}-{2 * node + 1}\n"
        yield f"{at}/distance", ("10 21\n", "21 10\n")[node]
        yield (
            f"{at}/meminfo",
            f"Node {node} MemTotal:        3999744 kB\nNode {node} MemFree:         {1200000 + node} kB\n",
        )
        steals = f"nr_free_pages 30000{node}\npgsteal_kswapd 35{node}\npgsteal_direct 7\n"
        yield f"{at}/vmstat", f"{steals}workingset_refault_anon 6{node}\nworkingset_refault_file 4411{node}\n"


def _devices() -> Iterator[tuple[str, str]]:
    for address, kind in (("02:00.0", "0x020000"), ("03:00.0", "0x030200"), ("04:00.0", "0x010802")):
        at = f"{PCI}/0000:00:0{address[1]}.0/0000:{address}"
        files = {"class": kind, "vendor": "0x15b3", "device": "0x1017", "numa_node": "0", "local_cpulist": "0-1"}
        for name, text in files.items():
            yield f"{at}/{name}", f"{text}\n"
        yield f"{PCI}/0000:00:0{address[1]}.0/subordinate_bus_number", f"{int(address[:2])}\n"
        yield f"{PCI}/0000:00:0{address[1]}.0/class", "0x060400\n"
    yield "/sys/block/nvme0n1/device/model", "FAST\n"
    yield "/sys/dev/block/259:0/dev", "259:0\n"
    yield "/sys/class/net/eth0/speed", "25000\n"
    yield "/sys/class/net/eth0/device/vendor", "0x15b3\n"
    counters = {"port_rcv_data": 884133, "port_xmit_data": 913377, "port_rcv_errors": 3, "port_xmit_discards": 4}
    for name, number in counters.items():
        yield f"/sys/class/infiniband/mlx5_0/ports/1/counters/{name}", f"{number}\n"
    yield "/sys/class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (4X EDR)\n"
    yield "/sys/class/drm/card0/device/gpu_busy_percent", "37\n"
    yield "/sys/class/drm/card0/device/mem_info_vram_used", "21327872\n"
    for name, text in (("name", "package-0"), ("energy_uj", "240422366267"), ("max_energy_range_uj", "262143328850")):
        yield f"/sys/class/powercap/intel-rapl:0/{name}", f"{text}\n"
    for group in ("", "/guests", "/mon_groups/pod1a2b"):
        for domain in (0, 1):
            at = f"/sys/fs/resctrl{group}/mon_data/mon_L3_0{domain}"
            yield f"{at}/mbm_total_bytes", f"{9_000_017 + domain}\n"
            yield f"{at}/llc_occupancy", f"{131_072 * (1 + domain)}\n"
    for resource in ("cpu", "memory", "io"):
        yield f"/proc/pressure/{resource}", _pressure(len(resource))
    yield "/proc/pressure/irq", FULL.format("0.05", "0.02", 60_101)


def _container(number: int) -> Iterator[tuple[str, str]]:
    yield (
        "cpu.stat",
        (
            f"usage_usec {7_001_003 + number}\nuser_usec 5000000\nsystem_usec 2001003\nnr_periods 40\nnr_throttled 4\n"
            f"throttled_usec {31_007 + number}\nnr_bursts 0\nburst_usec 0\n"
        ),
    )
    yield "memory.current", f"{104_857_600 + number}\n"
    yield (
        "memory.stat",
        (
            f"anon 41943040\nfile {52_428_801 + number}\nkernel 3145728\ninactive_anon 1\nactive_anon 41943039\n"
            f"inactive_file {20_971_523 + number}\nactive_file 31457278\nworkingset_refault_anon 17\n"
            "workingset_refault_file 1713\n"
        ),
    )
    yield (
        "memory.numa_stat",
        f"anon N0={41_943_040 + number} N1=4096\nfile N0=52428801 N1=0\nshmem N0=0 N1=0\nfile_mapped N0=1 N1=0\n",
    )
    yield "memory.events", f"low 0\nhigh 12\nmax 3\noom 1\noom_kill {1 + number}\noom_group_kill 0\n"
    yield "io.stat", "259:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n"
    yield "cpuset.cpus.effective", "0-1,3\n"
    for resource in ("cpu", "memory", "io"):
        yield f"{resource}.pressure", _pressure(number + len(resource))
    settings = {
        "cpu.weight": "79", "cpu.max": "150000 100000", "cpu.max.burst": "0", "cpu.idle": "0", "cpuset.cpus": "0-1,3",
        "cpuset.mems": "0", "memory.min": "0", "memory.low": "4194304", "memory.high": "max", "memory.max": "2147483648",
        "memory.swap.max": "max", "io.weight": "default 100\n259:0 200", "io.max": "259:0 rbps=1048576 wbps=max",
        "oom_score_adj": "-997 4711:1000", "resctrl": "/ 4711:guests", "schemata": "L3:0=7ff;1=7ff\nMB:0= 50;1=100",
    }  # fmt: skip
    for name, text in settings.items():
        yield name, f"{text}\n"


FILES: Final = {
    **PROC,
    **dict(_processor()),
    **dict(_memory()),
    **dict(_devices()),
    **{f"{at}/{name}": text for number, at in enumerate(CONTAINERS) for name, text in _container(number)},
}
SPACES: Final = {  # no files, but asked for like them: see neap.reporter.core.space
    "space:/": "66305 105089261568 42949672960 6553600 6012345",
    "space:/var/lib/kubelet": "66306 211106232532 98784247808 0 0",
}
LINKS: Final = {
    **{
        f"/sys/bus/pci/devices/0000:{address}": f"{PCI}/0000:00:0{address[1]}.0/0000:{address}"
        for address in ("02:00.0", "03:00.0", "04:00.0")
    },
    **{f"/sys/bus/pci/devices/0000:00:0{port}.0": f"{PCI}/0000:00:0{port}.0" for port in (2, 3, 4)},
}


NCCL: Final = """<system version="1">
  <cpu numaid="0" affinity="00000000,0000ffff" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="85">
    <pci busid="0000:18:00.0" class="0x060400" link_speed="16.0 GT/s PCIe" link_width="16">
      <pci busid="0000:1a:00.0" class="0x030200" vendor="0x10de" device="0x20b0"><gpu dev="0" sm="80" rank="0"/></pci>
      <pci busid="0000:1b:00.0" class="0x020000" vendor="0x15b3" device="0x101b">
        <nic><net name="mlx5_0" dev="0" speed="100000" port="1" guid="0x506b4b0300f39c5c" maxconn="131072"/></nic>
      </pci>
    </pci>
  </cpu>
  <cpu numaid="1" affinity="00000000,ffff0000"><nic><net name="eth0" dev="1" speed="10000" guid="0x0"/></nic></cpu>
</system>
"""


def machine() -> MemoryHost:
    """A host of these files."""
    host = MemoryHost(FILES)
    for path, target in LINKS.items():
        host.put(path, Link(target))
    return host
