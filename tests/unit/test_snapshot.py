"""The example machines, and archives that are none."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from neap.common.cpuset import format_cpuset
from neap.common.errors import InputError
from neap.virtual.kernel import VirtualHost
from neap.virtual.snapshot import load_snapshot, load_snapshots

MACHINES = Path(__file__).resolve().parents[2] / "examples" / "machines"


def archive(folder: Path, files: dict[str, str], name: str = "odd.tar.bz2") -> Path:
    with tarfile.open(folder / name, "w:bz2") as pack:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            pack.addfile(member, io.BytesIO(text.encode()))
    return folder / name


def test_the_examples_are_a_varied_dozen() -> None:
    machines = load_snapshots(MACHINES)
    assert len(machines) >= 12
    sizes = {len(machine.cpus) for machine in machines}
    assert min(sizes) == 8
    assert max(sizes) == 128
    assert len(sizes) >= 9
    assert any(max(machine.numa) > len(machine.numa) for machine in machines)  # sparse NUMA ids
    assert any(not share.cpus and share.memory for machine in machines for share in machine.numa.values())
    assert any(machine.present > machine.cpus for machine in machines)  # offline CPUs
    assert all(machine.memory >= 8 << 30 for machine in machines)
    assert sum(path.stat().st_size for path in MACHINES.iterdir()) <= 700_000


def test_usable_cpus_and_memory_agree_with_the_ground_truth(shared: Path) -> None:
    truth = json.loads((shared / "data/hwloc/truth.json").read_text())
    checked = 0
    for machine in load_snapshots(MACHINES):
        if machine.name in truth:
            known = truth[machine.name]
            assert format_cpuset(machine.cpus) == known["pus"]
            memory = {numa["os_index"]: numa["memory_kib"] * 1024 for numa in known["numa"]}
            assert {index: share.memory for index, share in machine.numa.items()} == memory
            checked += 1
    assert checked >= 12


def test_nodes_of_one_machine_share_its_tree() -> None:
    path = MACHINES / "8em64t-2s4c-asymcaches.tar.bz2"
    assert load_snapshot(path) is load_snapshot(path)
    one, two = (VirtualHost(load_snapshot(path), node=name) for name in ("a", "b"))
    one.write("/sys/fs/cgroup/kubepods/besteffort/cpuset.cpus", "0-1")
    assert two.read("/sys/fs/cgroup/kubepods/besteffort/cpuset.cpus") == "\n"
    assert one.list("/sys/devices/system/cpu") == two.list("/sys/devices/system/cpu")


def test_a_captured_machine_shows_cgroup_v2_and_none_of_the_shell_it_was_captured_in() -> None:
    for machine in load_snapshots(MACHINES):
        host = VirtualHost(machine, node="n")
        assert host.read("/proc/self/cgroup") == "0::/\n"
        assert "cgroup2 /sys/fs/cgroup" in host.read("/proc/mounts")
        assert not host.exists("/dev/cpuset")
        assert "kubepods" in host.list("/sys/fs/cgroup")
        assert (
            len([line for line in host.read("/proc/stat").splitlines() if line.startswith("cpu")])
            == len(machine.cpus) + 1
        )


def test_links_of_a_capture_lead_to_their_devices() -> None:
    host = VirtualHost(load_snapshot(MACHINES / "32intel64-2p8co2t+8ve.tar.bz2"), node="n")
    address = host.list("/sys/bus/pci/devices")[0]
    assert host.read(f"/sys/bus/pci/devices/{address}/class").startswith("0x")
    assert (host.link(f"/sys/bus/pci/devices/{address}") or "").startswith("/sys/devices/pci")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"m/proc/cpuinfo": ""}, "no usable CPU"),
        ({"m/sys/devices/system/cpu/cpu0/online": "1"}, "no memory"),
        ({"a/x": "", "b/y": ""}, "top folder"),
    ],
)
def test_an_archive_that_is_no_machine_says_what_is_missing(tmp_path: Path, files: dict[str, str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        load_snapshot(archive(tmp_path, files))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.tar.bz2").write_bytes(b"no archive")
    for name in ("broken.tar.bz2", "absent.tar.bz2", "absent.zip"):
        with pytest.raises(InputError, match=name):
            load_snapshot(tmp_path / name)
