"""Laws of the evictor under numbers no machine has: nothing breaks, what is said can be read, owners stay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import NeapError
from neap.common.model.advice import CgroupAdvice, Knobs, NodeAdvice, PoolAdvice
from neap.common.model.evicting import Evicting
from neap.common.model.lifecycle import Eviction
from neap.common.model.qos import QosClass
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, DeviceUsage, FilesystemUsage, NumaUsage, Stall
from neap.common.runtime.machine import Arrived
from neap.common.runtime.setting import leaves
from neap.common.runtime.settings import flattened, patched
from neap.common.units import GIB
from neap.evictor.core.memory import Memory
from neap.evictor.settings import Settings
from tests.unit.evictor_world import World, a_guest, a_report, lends

amounts = st.sampled_from([None, 0.0, 0.5, 3.0, 64.0, 1e9, 1e308, -1.0, -1e308])
sizes = st.sampled_from([None, 0, 1, GIB, 9 * GIB, 2**62, -1, -(2**62)])
cpus = st.sampled_from(["", "0-3", "2", "9-2", "x", "0-4294967295"])
stalls = st.builds(Stall, some60=st.sampled_from([0.0, 0.9, 1e308, -1.0]), full10=st.sampled_from([0.0, 0.9, 1e308]))
containers = st.builds(
    ContainerUsage,
    uid=st.sampled_from(["a", "b", "owner"]),
    container=st.just("c"),
    cgroup=st.uuids().map(str),
    cpu=amounts,
    working_set=sizes,
    cpu_stall=stalls,
    run_delay=amounts,
    io_read=amounts,
    io_write=amounts,
    bandwidth=amounts,
    cpuset=cpus,
)
devices = st.builds(DeviceUsage, name=st.just("d"), read=amounts, write=amounts, busy=amounts, speed=amounts)
reports = st.fixed_dictionaries(
    {
        "containers": st.lists(containers, max_size=4),
        "memory_available": sizes,
        "memory_stall": stalls,
        "io_stall": stalls,
        "disks": st.lists(devices, max_size=2).map(tuple),
        "links": st.lists(devices, max_size=2).map(tuple),
        "numa": st.lists(
            st.builds(
                NumaUsage,
                index=st.sampled_from([0, 1, -1]),
                cpu=amounts,
                memory_free=sizes,
                memory_total=sizes,
                bandwidth=amounts,
                watermark_low=sizes,
            ),
            max_size=2,
        ).map(tuple),
    }
)
knobs = st.builds(
    Knobs, cpu_max=st.sampled_from([None, -5.0, 1e308, 2.0]), memory_high=sizes, memory_down_to=sizes, cpus=cpus
)


def eager() -> dict[str, Any]:
    """Every rule acts at the first report."""
    groups = {name: getattr(Settings(), name) for name in Settings.__struct_fields__ if hasattr(getattr(Settings(), name), "dry_run")}  # fmt: skip
    eager = {name: msgspec.structs.replace(group, reports=1, hold=0.0, dry_run=False) for name, group in groups.items()}
    return {**eager, "memory_bandwidth": msgspec.structs.replace(eager["memory_bandwidth"], most=1e9), "most": 1000}


KEYS = [".".join(leaf.key) for leaf in leaves(Settings, told=False)]


@pytest.mark.parametrize("key", KEYS)
def test_nothing_that_policy_may_set_breaks_the_evictor(key: str) -> None:
    """Each setting at the end of its bounds, every rule eager, on a node where everything is short."""
    for value in (1e308, 2**62, 1e15, 0.5, 1e-300, 1, 0):
        try:
            flat = flattened(Settings, "evictor", {key: value}, origin="policy")
            settings = patched(Settings(node="n1", **eager()), "evictor", flat, origin="policy")
        except NeapError:
            continue  # no policy can say it
        world = World(a_guest("a"), a_guest("b"))
        world.machine.tune(settings, 99.0)
        for now in (100.0, 101.0):
            numa = (NumaNode(index=0, cpus="0-9", memory=GIB),)
            machine = Zone(kind=ZoneKind.MACHINE, index=0)
            world.live(Arrived(now, NodeTopology(at=now, source="r", node="n1", machine=machine, numa=numa)))
            world.lends(1.0, now).live(Arrived(now, a_report(now, *(all_short(uid) for uid in "ab"), **SHORT)))
            memory = world.machine.memory
            assert msgspec.json.decode(msgspec.json.encode(memory), type=Memory) == memory
        for closing in world.closings:
            assert msgspec.json.decode(msgspec.json.encode(closing), type=Evicting) == closing


def all_short(uid: str) -> ContainerUsage:
    """A guest that has a part in everything that is short."""
    return ContainerUsage(
        uid=uid, container="c", cgroup=f"/k/{uid}", cpu=1.0, working_set=3 * GIB, cpu_stall=Stall(some60=0.9),
        io_read=1e9, io_write=1e9, bandwidth=1e9, cpuset="4-9",
    )  # fmt: skip


SHORT: dict[str, Any] = {
    "memory_available": 2**20,
    "memory_stall": Stall(full10=0.9),
    "io_stall": Stall(some60=0.9),
    "disks": (DeviceUsage(name="d", busy=0.99),),
    "links": (DeviceUsage(name="l", read=1e9, write=0.0, speed=1e9),),
    "numa": (NumaUsage(index=0, cpu=9.9, memory_free=0, memory_total=GIB, bandwidth=9e9, watermark_low=5),),
    "filesystems": (FilesystemUsage(path="/", size=100 * GIB, free=GIB, inodes=100, inodes_free=1),),
}


@given(st.lists(st.tuples(reports, knobs, cpus), min_size=1, max_size=5))
def test_nothing_that_is_measured_breaks_the_evictor_or_makes_an_owner_leave(story: list[Any]) -> None:
    owner = a_guest("owner", qos=QosClass.SHARED)
    world = World(a_guest("a"), a_guest("b"), owner, grace=0.0, confirm_after=1, **eager())
    for at, (report, knob, where) in enumerate(story, start=100):
        pools = tuple(PoolAdvice(name=name, cpus=where, requirement=0.0, reason="") for name in ("reclaimed", "share"))
        targets = (("pod/a", "reclaimed"), ("pod/owner", "share"), ("class/besteffort", "reclaimed"))
        cgroups = tuple(CgroupAdvice(target=target, pool=pool, knobs=knob) for target, pool in targets)
        numa = (NumaNode(index=0, cpus=where, memory=GIB), NumaNode(index=-1, cpus=where, memory=-1))
        machine = Zone(kind=ZoneKind.MACHINE, index=0)
        now = float(at)
        world.live(
            Arrived(now, lends(4.0, now)),
            Arrived(now, NodeTopology(at=now, source="r", node="n1", machine=machine, numa=numa)),
            Arrived(
                now, NodeAdvice(at=now, source="a", node="n1", seq=at, expires=1e300, pools=pools, cgroups=cgroups)
            ),
        )
        fields = {**report}
        world.live(Arrived(now, a_report(now, *fields.pop("containers"), **fields)))
    for command in world.commands:
        assert command.uid in ("a", "b")
        assert msgspec.json.decode(msgspec.json.encode(command), type=Eviction) == command
    for closing in world.closings:
        assert msgspec.json.decode(msgspec.json.encode(closing), type=Evicting) == closing
