"""Small trees with one oddity each: what the reporter makes of it, and what it says about it."""

from __future__ import annotations

import pytest

from neap.common.host.memory import MemoryHost
from neap.common.model.topology import NodeTopology, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.shell.host import read_snapshot

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"


def a_machine(*, cores: int = 4, threads: int = 2, nodes: int = 2) -> dict[str, str]:
    """`cores` per node; thread t of core c is CPU c + t × all cores, as on most servers."""
    total = cores * nodes
    files = {f"{CPU}/online": f"0-{total * threads - 1}\n", "/proc/meminfo": f"MemTotal: {nodes * 8 * 1024**2} kB\n"}
    for cpu in range(total * threads):
        core = cpu % total
        mates = ",".join(str(core + t * total) for t in range(threads))
        files[f"{CPU}/cpu{cpu}/topology/core_id"] = f"{core}\n"
        files[f"{CPU}/cpu{cpu}/topology/physical_package_id"] = f"{core // cores}\n"
        files[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = f"{mates}\n"
    for node in range(nodes):
        low = node * cores
        spans = ",".join(f"{low + t * total}-{low + t * total + cores - 1}" for t in range(threads))
        files[f"{NODE}/node{node}/cpulist"] = f"{spans}\n"
        files[f"{NODE}/node{node}/meminfo"] = f"Node {node} MemTotal: {8 * 1024**2} kB\n"
        files[f"{NODE}/node{node}/distance"] = " ".join("10" if n == node else "21" for n in range(nodes)) + "\n"
    return files


def look(files: dict[str, str], reserve: Reserve | None = None) -> NodeTopology:
    seen = read_snapshot(MemoryHost(files))
    return build(seen, node="n1", at=1.0, reserve=reserve or Reserve(), labels={"zone": "a"})


def test_a_plain_machine_is_a_tree_of_packages_nodes_and_cores() -> None:
    topology = look(a_machine())
    packages = topology.machine.children
    assert [(zone.kind, zone.cpus) for zone in packages] == [
        (ZoneKind.PACKAGE, "0-3,8-11"),
        (ZoneKind.PACKAGE, "4-7,12-15"),
    ]
    (numa,) = packages[1].children
    assert (numa.kind, numa.index, [core.cpus for core in numa.children]) == (
        ZoneKind.NUMA,
        1,
        ["4,12", "5,13", "6,14", "7,15"],
    )
    assert topology.numa[0].distances == {0: 10, 1: 21}
    assert topology.siblings[13] == "5,13"
    assert topology.labels == {"zone": "a"}
    assert topology.warnings == ()


def test_whole_cores_are_kept_for_the_system_one_per_node_in_turn() -> None:
    topology = look(a_machine(), Reserve(cpu_count=3))
    assert topology.system_cpus == "0,4,8,12"
    assert (topology.capacity["cpu"], topology.allocatable["cpu"]) == (16000, 12000)
    assert [numa.allocatable["cpu"] for package in topology.machine.children for numa in package.children] == [
        6000,
        6000,
    ]


def test_katalysts_example_of_two_reserved_cpus_on_four_nodes() -> None:
    topology = look(a_machine(cores=4, threads=1, nodes=4), Reserve(cpu_count=2))
    assert topology.system_cpus == "0,4"


def test_the_last_core_is_never_kept() -> None:
    topology = look(a_machine(cores=1, threads=2, nodes=1), Reserve(cpu_count=1))
    assert topology.system_cpus == ""
    assert "only 0 of 1 CPUs could be reserved for the system" in topology.warnings


@pytest.mark.parametrize("asked", ["0-15", "99", "a-b"])
def test_a_reserved_list_that_cannot_be_is_named_and_replaced(asked: str) -> None:
    topology = look(a_machine(), Reserve(cpus=asked))
    assert topology.system_cpus == "0,8"
    assert any(asked in warning for warning in topology.warnings)


def test_a_reserved_list_is_taken_as_it_is() -> None:
    assert look(a_machine(), Reserve(cpus="3,5-6")).system_cpus == "3,5-6"


def test_isolated_cpus_are_never_lent() -> None:
    topology = look(a_machine() | {f"{CPU}/isolated": "0,8\n"})
    assert topology.system_cpus == "0-1,8-9"
    assert topology.machine.attributes["isolated"] == "0,8"


def test_at_most_a_quarter_of_the_memory_is_kept() -> None:
    topology = look(a_machine(nodes=1), Reserve(memory=1 << 40))
    assert topology.allocatable["memory"] == topology.capacity["memory"] * 3 // 4


def test_without_a_node_directory_everything_is_one_implied_node() -> None:
    files = {path: text for path, text in a_machine().items() if not path.startswith(NODE)}
    (only,) = look(files).numa
    assert (only.index, only.cpus, only.memory) == (0, "0-15", 16 << 30)


def test_a_node_without_cpus_has_none_and_its_memory_is_not_lent() -> None:
    files = a_machine() | {
        f"{NODE}/node9/cpulist": "\n",
        f"{NODE}/node9/meminfo": f"Node 9 MemTotal: {1024**2} kB\n",
        f"{NODE}/node0/distance": "10 21 17",
        f"{NODE}/node1/distance": "21 10 28",
        f"{NODE}/node9/distance": "17 28 10",
        "/proc/meminfo": f"MemTotal: {17 * 1024**2} kB\n",
    }
    topology = look(files)
    assert topology.numa[2].cpus == ""
    assert topology.allocatable["memory"] == 16 << 30
    (zone,) = [zone for zone in topology.machine.children if zone.kind is ZoneKind.NUMA]
    assert zone.attributes["locality"] == "0-3,8-11"


def test_offline_cpus_are_left_out_whoever_says_so() -> None:
    files = a_machine() | {f"{CPU}/offline": "3", f"{CPU}/cpu5/online": "0\n"}
    topology = look(files)
    assert topology.machine.cpus == "0-2,4,6-15"
    assert topology.siblings[11] == "11"


def test_an_online_list_cannot_invent_cpus() -> None:
    topology = look(a_machine() | {f"{CPU}/online": "0-31\n"})
    assert topology.machine.cpus == "0-15"
    assert "cpu/online names CPUs without a directory: 16-31" in topology.warnings


def test_list_files_may_be_padded_with_nul() -> None:
    assert look(a_machine() | {f"{CPU}/online": "0-7\n\0\0\0\0"}).machine.cpus == "0-7"


def test_packages_without_an_id_are_told_by_their_sibling_mask() -> None:
    files = a_machine(threads=1)
    for cpu in range(8):
        files[f"{CPU}/cpu{cpu}/topology/physical_package_id"] = "-1\n"
        files[f"{CPU}/cpu{cpu}/topology/core_siblings"] = "000000f0\n" if cpu > 3 else "0000000f\n"
    assert [(zone.index, zone.cpus) for zone in look(files).machine.children] == [(0, "0-3"), (1, "4-7")]


def test_a_contradicting_package_is_dropped_and_named() -> None:
    files = a_machine(threads=1) | {f"{CPU}/cpu7/topology/core_siblings_list": "3,7\n"}
    topology = look(files)
    assert [zone.cpus for zone in topology.machine.children if zone.kind is ZoneKind.PACKAGE] == ["0-3"]
    assert topology.warnings == ("package 1 dropped: its CPUs claim 3 of another package",)


def test_a_cpu_in_two_nodes_is_counted_once() -> None:
    topology = look(a_machine(threads=1) | {f"{NODE}/node1/cpulist": "2-7\n"})
    assert [node.cpus for node in topology.numa] == ["0-3", "4-7"]
    assert "CPUs in several NUMA nodes, given to the smallest: 2-3" in topology.warnings


def test_no_cpu_at_all_is_a_warning_and_no_crash() -> None:
    topology = look({})
    assert topology.capacity == {"cpu": 0}
    assert "no usable CPU found in sysfs" in topology.warnings


INFORMATION = """Model: \t\t NVIDIA A100-SXM4-80GB
IRQ:   \t\t 96
GPU UUID: \t {uuid}
Bus Type: \t PCIe
Bus Location: \t {address}
Device Minor: \t 0
GPU Excluded:\t No
"""


def with_cards(*addresses: str) -> dict[str, str]:
    files = a_machine()
    for number, address in enumerate(addresses):
        files[f"/proc/driver/nvidia/gpus/{address}/information"] = INFORMATION.format(
            uuid=f"GPU-{number}", address=address
        )
        files |= {
            f"/sys/bus/pci/devices/{address}/{name}": text
            for name, text in (
                ("class", "0x030200\n"),
                ("vendor", "0x10de\n"),
                ("device", "0x20b5\n"),
                ("numa_node", "1\n"),
            )
        }
    return files


def test_cards_are_numbered_in_pci_order_with_memory_by_model_and_their_node() -> None:
    topology = look(with_cards("0000:3b:00.0", "0000:1a:00.0"))
    assert [(c.index, c.pci, c.uuid, c.model, c.memory_mib, c.numa) for c in topology.cards] == [
        (0, "0000:1a:00.0", "GPU-1", "A100-80G", 81920, 1),
        (1, "0000:3b:00.0", "GPU-0", "A100-80G", 81920, 1),
    ]
    assert topology.capacity["neap.io/gpu-core"] == 200
    assert topology.capacity["neap.io/gpu-memory"] == 2 * 81920
    numa = topology.machine.children[1].children[0]
    assert [zone.attributes["pci"] for zone in numa.children if zone.kind is ZoneKind.GPU] == [
        "0000:1a:00.0",
        "0000:3b:00.0",
    ]


def test_an_unknown_card_model_has_no_memory_to_share_and_says_so() -> None:
    files = with_cards("0000:1a:00.0")
    path = "/proc/driver/nvidia/gpus/0000:1a:00.0/information"
    files[path] = files[path].replace("NVIDIA A100-SXM4-80GB", "NVIDIA Z9")
    topology = look(files)
    assert topology.cards[0].memory_mib == 0
    assert any("'NVIDIA Z9' unknown" in warning for warning in topology.warnings)


def test_the_board_management_vga_is_no_gpu_but_the_network_card_is_a_nic() -> None:
    files = a_machine()
    for address, pci_class, vendor in (("0000:03:00.0", "0x030000", "0x1a03"), ("0000:04:00.0", "0x020000", "0x15b3")):
        files |= {f"/sys/bus/pci/devices/{address}/class": pci_class, f"/sys/bus/pci/devices/{address}/vendor": vendor}
    found = [(zone.kind, zone.attributes["pci"]) for zone in look(files).machine.children if not zone.cpus]
    assert found == [(ZoneKind.NIC, "0000:04:00.0")]
