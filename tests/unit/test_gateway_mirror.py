"""What a node shows: the amounts under all names, the zones with who has what of them, and when it is written."""

from __future__ import annotations

import msgspec

from neap.common.contract.catalogue import RATIOS
from neap.common.kube.objects import NODES, Node
from neap.common.model.advice import Headroom
from neap.common.model.evicting import Closure, Evicting
from neap.common.model.placement import Placed, Placement
from neap.common.model.qos import QosClass
from neap.common.model.ratios import KindRatio, NodeRatios
from neap.common.model.resource import CPU, GPU_CORE, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import Card, NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Done, Failed, Gone, Heard, Instruction
from neap.common.units import GIB
from neap.gateway.core.acts import ApplyNode, MirrorNode, TaintNode, Written
from neap.gateway.core.hearing.reflector import Removed, Seen
from neap.gateway.core.nodes.mirrored import amounts_of, extended, machine_of, shown_by
from neap.gateway.settings import Settings
from tests.unit.gateway_world import World, a_node

TOPOLOGY = NodeTopology(
    at=0.0, source="reporter", node="n1",
    machine=Zone(kind=ZoneKind.MACHINE, index=0, children=tuple(
        Zone(kind=ZoneKind.PACKAGE, index=i, children=(Zone(kind=ZoneKind.NUMA, index=i),)) for i in range(2)
    )),
    numa=(NumaNode(index=0, cpus="0-3", memory=8 * GIB), NumaNode(index=1, cpus="4-7", memory=8 * GIB)),
    cards=(Card(index=0, uuid="GPU-0", model="T4", memory_mib=16000, numa=1),),
)  # fmt: skip


def offer(cores: float, at: float = 1000.0, node: str = "n1") -> Headroom:
    amounts = {RECLAIMED_CPU: int(cores * 1000), RECLAIMED_MEMORY: 4 * GIB}
    return Headroom(at=at, source="advisor", node=node, offer=amounts, arithmetic={})


def written(said: list[Instruction], node: str = "n1") -> tuple[ApplyNode | None, MirrorNode | None]:
    apply = next((one for one in said if isinstance(one, ApplyNode) and one.node == node), None)
    return apply, next((one for one in said if isinstance(one, MirrorNode) and one.node == node), None)


def beats(world: World, seconds: float) -> list[Instruction]:
    """A while passes; what is written is taken."""
    said: list[Instruction] = []
    for _ in range(int(seconds)):
        found = world.pass_time(1.0)
        said += found
        for one in found:
            if isinstance(one, ApplyNode | MirrorNode | TaintNode):
                world.tell(Done(world.at, one, Written()))
    return said


def test_a_node_shows_what_it_lends_and_its_cards_under_every_name() -> None:
    amounts = amounts_of({RECLAIMED_CPU: 3500, RECLAIMED_MEMORY: GIB}, machine_of(TOPOLOGY))
    assert extended(amounts) == {
        "neap.io/reclaimed-millicpu": "3500",
        "neap.io/reclaimed-cpu": "3",  # whole cores: Kubernetes takes no others
        "neap.io/reclaimed-memory": str(GIB),
        "resource.katalyst.kubewharf.io/reclaimed_millicpu": "3500",
        "resource.katalyst.kubewharf.io/reclaimed_memory": str(GIB),
        "neap.io/gpu-core": "100",
        "neap.io/gpu-memory": "16000",
    }
    assert shown_by(extended(amounts)) == amounts  # what was written is read back as it was meant


def test_what_is_lent_reaches_the_node_and_its_mirror_once() -> None:
    world = World()
    beats(world, 3)
    world.tell(Arrived(world.at, TOPOLOGY), Arrived(world.at, offer(4)))
    apply, mirror = written(beats(world, 2))
    assert apply is not None
    assert apply.amounts["neap.io/reclaimed-millicpu"] == "4000"
    assert apply.amounts[GPU_CORE] == "100"
    assert mirror is not None
    status = msgspec.to_builtins(mirror.mirror.status)
    assert status["resources"]["allocatable"]["resource.katalyst.kubewharf.io/reclaimed_millicpu"] == "4000"
    assert [zone["type"] for zone in status["topologyZone"]] == ["Socket", "Socket"]
    assert status["topologyZone"][1]["children"][0]["children"] == ({"type": "GPU", "name": "0"},)
    assert mirror.mirror.metadata.owner_references[0].uid == "uid-n1"  # type: ignore[index]
    world.tell(Arrived(world.at, offer(4.1)))
    assert written(beats(world, 60)) == (None, None)  # 2.5 % are not worth a write
    world.tell(Arrived(world.at, offer(3.5)))
    assert written(beats(world, 2))[0] is not None


def test_the_mirror_is_written_again_after_ten_minutes_and_the_node_is_not() -> None:
    world = World()
    world.tell(Arrived(world.at, offer(4)))
    beats(world, 5)
    said = beats(world, 620)
    assert sum(isinstance(one, MirrorNode) and one.node == "n1" for one in said) in (1, 2)
    assert written(said)[0] is None


def test_a_restart_writes_nothing_that_the_api_shows_already() -> None:
    world = World()
    shown = msgspec.structs.replace(
        a_node(), status=msgspec.convert({"allocatable": extended({RECLAIMED_CPU: 4000, RECLAIMED_MEMORY: 4 * GIB})}, type(a_node().status))
    )  # fmt: skip
    world.machine.handle(Heard(world.at, Removed(NODES, "n1", "uid-n1")))
    world.tell(Heard(world.at, Seen(NODES, shown, "1")), Arrived(world.at, offer(4)))
    assert written(beats(world, 30))[0] is None


def test_a_node_that_forgot_what_it_lends_is_told_again() -> None:
    world = World()
    world.tell(Arrived(world.at, offer(4)))
    beats(world, 5)
    world.pass_time(60)
    reset = msgspec.convert({"metadata": {"name": "n1", "uid": "uid-n1"}, "status": {"allocatable": {"neap.io/reclaimed-millicpu": "0"}}}, Node)  # fmt: skip
    world.tell(Heard(world.at, Seen(NODES, reset, "9")))
    apply, _ = written(beats(world, 3))
    assert apply is not None
    assert apply.amounts["neap.io/reclaimed-millicpu"] == "4000"


def test_who_is_bound_to_numa_nodes_stands_in_the_mirror_with_an_even_part_of_each() -> None:
    world = World()
    world.tell(Arrived(world.at, TOPOLOGY), Arrived(world.at, offer(4)))
    beats(world, 5)
    workload = Workload(uid="u1", namespace="shop", name="pay", qos=QosClass.DEDICATED,
                        containers=(Container(name="main", requests={CPU: 4000, MEMORY: 2 * GIB}),))  # fmt: skip
    placed = Placed(at=world.at, source="scheduler", node="n1", reason="it fits",
                    placement=Placement(workload=workload, charged=workload.requests, numa=(0, 1)))  # fmt: skip
    world.tell(Arrived(world.at, placed, seq=1))
    _, mirror = written(beats(world, 2))
    assert mirror is not None
    zones = msgspec.to_builtins(mirror.mirror.status)["topologyZone"]
    for socket in zones:
        [allocation] = socket["children"][0]["allocations"]
        assert allocation == {"consumer": "shop/pay/u1", "requests": {"cpu": "2000m", "memory": str(GIB)}}


def test_a_write_that_fails_is_tried_again() -> None:
    world = World()
    world.tell(Arrived(world.at, offer(4)))
    said = world.pass_time(1.0)
    for one in said:
        if isinstance(one, ApplyNode | MirrorNode):
            world.tell(Failed(world.at, one, "no answer", may_retry=True))
    assert written(beats(world, 20)) == (None, None)
    assert written(beats(world, 20))[0] is not None


def test_other_schedulers_are_told_by_a_taint_only_where_asked() -> None:
    for kind, rule, key in (
        ("none", "memory_pressure", ""),
        ("neap", "memory_pressure", "neap.io/evicting"),
        ("katalyst", "memory_pressure", "node.katalyst.kubewharf.io/MemoryPressure"),
        ("katalyst", "cpu_load", "node.katalyst.kubewharf.io/CPUPressure"),
    ):
        world = World(Settings(elect=False, taints=kind))  # type: ignore[arg-type]
        closed = (Closure(rule=rule, why="short", until=world.at + 20),)
        world.tell(Arrived(world.at, Evicting(at=world.at, source="evictor", node="n1", closed=closed)))
        said = [one for one in beats(world, 40) if isinstance(one, TaintNode)]
        if not key:
            assert not said
        else:
            assert [taint.key for taint in said[0].put] == [key]
            assert said[-1].take == (key,), "it goes when its time is over, though nobody said so"


def test_a_nodes_mirror_says_how_much_more_than_it_has_it_sells_and_why() -> None:
    def conditions(said: list[Instruction]) -> dict[str, tuple[str, str]]:
        mirror = written(said)[1]
        assert mirror is not None
        return {one.type: (one.status, one.message) for one in mirror.mirror.status.conditions or ()}

    world = World()
    beats(world, 3)
    sold = KindRatio(resource="cpu", ratio=1.42, set=1.5, foreseen=1.42, peak=18_200, requested=9000, original=32_000,
                     arithmetic="")  # fmt: skip
    ratios = NodeRatios(at=world.at, source="planner", node="n1", kinds=(sold,), lowered="two owners suffer")
    world.tell(Arrived(world.at, ratios))
    assert conditions(beats(world, 90))["Overcommitted"] == ("True", "cpu x1.42 of x1.5 set; two owners suffer")
    world.tell(Arrived(world.at, msgspec.structs.replace(ratios, at=world.at)))
    quiet = [one for one in beats(world, 30) if isinstance(one, MirrorNode) and one.node == "n1"]
    assert not quiet, "what is said again is not written again"
    world.tell(Gone(world.at, RATIOS, RATIOS.at(node="n1").subject))
    assert "Overcommitted" not in conditions(beats(world, 90))
