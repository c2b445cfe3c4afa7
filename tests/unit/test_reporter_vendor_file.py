"""A vendor's topology file corrects what a hypervisor's bus says."""

from __future__ import annotations

import pytest

from neap.common.host.memory import MemoryHost
from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import NodeTopology
from neap.reporter.reader import NodeReader
from neap.reporter.settings import Settings

FILE = "/etc/topology.xml"
XML = """
<system version="1">
  <cpu numaid="1" affinity="0000000c">
    <pci busid="ffff:ff:01.0" class="0x060400">
      <pci busid="0001:00:00.0" class="0x030200" vendor="0x10de"/>
      <pci busid="0101:00:00.0" class="0x020700" vendor="0x15b3"/>
    </pci>
  </cpu>
</system>
"""
CPUS = "/sys/devices/system/cpu"
GPU, NIC = "0001:00:00.0", "0101:00:00.0"


def bus() -> dict[str, str]:
    """A virtual machine: each device on a bus of its own, near nothing."""
    files = {f"{CPUS}/online": "0-3\n", "/proc/meminfo": "MemTotal: 8388608 kB\n"}
    files |= {f"{CPUS}/cpu{cpu}/topology/core_id": f"{cpu}\n" for cpu in range(4)}
    for address, kind, vendor in ((GPU, "0x030200", "0x10de"), (NIC, "0x020700", "0x15b3")):
        files |= {
            f"/sys/bus/pci/devices/{address}/{name}": f"{text}\n"
            for name, text in (("class", kind), ("vendor", vendor), ("device", "0x1db5"), ("numa_node", "-1"))
        }
    return files


def look(files: dict[str, str]) -> NodeTopology:
    settings = Settings(topology_file=FILE)
    return NodeReader(MemoryHost(files), clock=lambda: 0.0, node="n1", settings=settings).topology()


def test_devices_are_where_the_vendor_says() -> None:
    gpu, nic = look(bus() | {FILE: XML}).devices
    assert (gpu.numa, nic.numa, path_class(gpu, nic)) == (1, 1, PathClass.PIX)
    assert (gpu.model, gpu.cpus) == ("1db5", "2-3")


def test_where_the_bus_shows_nothing_the_file_is_all_there_is() -> None:
    files = {path: text for path, text in bus().items() if "/pci/" not in path}
    assert [device.address for device in look(files | {FILE: XML}).devices] == [GPU, NIC]


def test_what_only_the_file_knows_is_named() -> None:
    files = {path: text for path, text in bus().items() if NIC not in path}
    topology = look(files | {FILE: XML})
    assert [device.address for device in topology.devices] == [GPU]
    assert f"{FILE}: 1 of its devices are not on the bus, such as {NIC}" in topology.warnings


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("<cpu/>", "not 'system'"), ("junk", "no XML")])
def test_a_file_that_is_missing_or_broken_changes_nothing_and_is_named(text: str | None, said: str) -> None:
    topology = look(bus() | ({} if text is None else {FILE: text}))
    assert [device.numa for device in topology.devices] == [-1, -1]
    assert any(FILE in warning and said in warning for warning in topology.warnings)


def linked(*gpus: str) -> str:
    """Four GPUs with what each says of its NVLinks."""
    cards = "".join(
        f'<pci busid="000{n}:00:00.0" class="0x030200" vendor="0x10de"><gpu dev="{n}">{links}</gpu></pci>'
        for n, links in enumerate(gpus)
    )
    return f'<system version="1"><cpu numaid="0" affinity="0000000c">{cards}</cpu></system>'


def nvlink(target: str, count: int, tclass: str = "0x030200") -> str:
    return f'<nvlink target="{target}" count="{count}" tclass="{tclass}"/>'


def test_nvlinks_are_read_from_the_vendors_file_and_unknown_without_it() -> None:
    direct = linked(nvlink("0001:00:00.0", 2), nvlink("0000:00:00.0", 2), nvlink("0002:00:00.0", 4), "")
    found = look({path: text for path, text in bus().items() if "/pci/" not in path} | {FILE: direct}).links
    assert [(link.a, link.b, link.lanes) for link in found or ()] == [("0000:00:00.0", "0001:00:00.0", 2)]
    assert look(bus() | {FILE: XML}).links is None, "no gpu element says"
    assert look(bus()).links is None, "sysfs does not tell"
    assert look(bus() | {FILE: linked("", "")}).links == (), "known to be none"


def test_behind_nvswitches_every_pair_is_linked_by_the_fewer_of_both() -> None:
    to = [nvlink(f"00{switch:02x}:ff:00.0", 2, "0x068000") for switch in range(6)]
    found = look(bus() | {FILE: linked("".join(to), "".join(to), "".join(to[:3]), "")}).links or ()
    assert {(link.a[3], link.b[3]): link.lanes for link in found} == {("0", "1"): 12, ("0", "2"): 6, ("1", "2"): 6}


def test_a_number_of_nvlinks_that_cannot_be_is_named_and_the_places_still_count() -> None:
    topology = look(bus() | {FILE: XML.replace("/>", "><gpu>" + nvlink(NIC, -3) + "</gpu></pci>", 1)})
    assert topology.links is None
    assert [warning for warning in topology.warnings if "'-3' NVLinks of 0001:00:00.0 cannot be" in warning]
    assert [device.numa for device in topology.devices] == [1, 1]
