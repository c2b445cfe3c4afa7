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
