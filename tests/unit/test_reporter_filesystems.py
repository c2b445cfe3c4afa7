"""How full shared file systems are: from statvfs to the report, and from there to a guest that has to go."""

from __future__ import annotations

import msgspec
import pytest

from neap.common.host.memory import MemoryHost
from neap.common.host.port import Space
from neap.common.model.usage import FilesystemUsage
from neap.common.units import GIB, MIB
from neap.evictor.plugins.rootfs_pressure import Settings as Rule
from neap.reporter.core.space import parse_space
from neap.reporter.reader import NodeReader
from tests.unit.evictor_world import World, a_guest, shows, uids

WRITES = 50.0 * MIB


def reported(spaces: dict[str, Space]) -> tuple[FilesystemUsage, ...]:
    host = MemoryHost({"/proc/stat": ""})
    host.spaces |= spaces
    return NodeReader(host, clock=lambda: 1.0, node="n1").sample().filesystems


def test_each_file_system_is_said_once_by_its_first_path() -> None:
    root, data = Space(1, 100 * GIB, 40 * GIB, 1000, 400), Space(2, 50 * GIB, GIB, 0, 0)
    assert reported({"/": root, "/var/lib/kubelet": root, "/var/lib/containerd": data}) == (
        FilesystemUsage(path="/", size=100 * GIB, free=40 * GIB, inodes=1000, inodes_free=400),
        FilesystemUsage(path="/var/lib/containerd", size=50 * GIB, free=GIB),
    )


def test_a_host_that_says_nothing_of_file_systems_lacks_nothing() -> None:
    reader = NodeReader(MemoryHost({"/proc/stat": ""}), clock=lambda: 1.0, node="n1")
    usage = reader.sample()
    assert usage.filesystems == ()
    assert not any("space" in name for name in usage.unknown)


@pytest.mark.parametrize("text", ["1 2 3", "a b c d e", "1 -2 3 4 5"])
def test_numbers_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_space(text)


def disk(left: float = 0.5, inodes: float = 0.5, size: int = 100 * GIB) -> FilesystemUsage:
    return FilesystemUsage(path="/", size=size, free=int(left * size), inodes=1000, inodes_free=int(inodes * 1000))


def a_world(**rule: object) -> World:
    return World(a_guest("busy"), a_guest("idle"), rootfs_pressure=Rule(**{"dry_run": False, "reports": 3} | rule))  # type: ignore[arg-type]


def report(world: World, at: float, *disks: FilesystemUsage) -> list[str]:
    busy = msgspec.structs.replace(shows("busy"), io_read=0.0, io_write=WRITES)
    return uids(world.report(at, busy, shows("idle"), filesystems=disks))


@pytest.mark.parametrize(
    ("disks", "leaves"),
    [
        ((disk(0.13),), []),
        ((disk(0.11),), ["busy"]),
        ((disk(0.5, inodes=0.06),), ["busy"]),
        ((disk(0.5, inodes=0.08),), []),
        ((disk(0.01, size=5 * GIB),), []),
        ((FilesystemUsage(path="/", size=100 * GIB, free=200 * GIB),), []),
        ((FilesystemUsage(path="/"),), []),
        ((), []),
    ],
    ids=["enough", "bytes", "inodes", "inodes enough", "too small", "absurd", "unknown", "none"],
)
def test_who_writes_most_leaves_a_full_file_system_after_some_reports(
    disks: tuple[FilesystemUsage, ...], leaves: list[str]
) -> None:
    world = a_world()
    assert [uid for at in range(1, 3) for uid in report(world, float(at), *disks)] == []
    assert report(world, 3.0, *disks) == leaves
    if leaves:
        command = world.commands[0]
        assert command.rule == "rootfs_pressure"
        assert "left on /" in command.reason
        assert "writes 50Mi/s" in command.reason


def test_a_node_that_runs_full_takes_no_guests_and_is_open_again_when_it_has_room() -> None:
    world = a_world()
    for at in range(1, 5):
        report(world, float(at), disk(0.14))
    assert [one.rule for one in world.closings[-1].closed] == ["rootfs_pressure"]
    for at in range(5, 20):
        report(world, float(at), disk(0.5))
    assert world.closings[-1].closed == ()


def test_by_default_nobody_leaves_for_it() -> None:
    world = World(a_guest("busy"))
    for at in range(1, 30):
        report(world, float(at), disk(0.01))
    assert not world.commands
    assert any("would have evicted batch/busy" in line for line in world.said)
