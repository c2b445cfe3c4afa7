"""GPUs and network cards near each other, as the scheduler gives them: requirements 000-24, 000-25, 001-07, 002-47."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neap.common.model.affinity import DeviceAsk, Strength
from neap.common.model.device_tree import Level
from neap.common.model.gpu import device_flaw
from neap.common.model.placement import DeviceShare, GpuShare, Placement
from neap.common.model.scheduling import Gang
from neap.common.model.topology import Card, Device, Link, NodeTopology, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.nccl import read_nccl, read_nvlinks
from neap.reporter.shell.host import read_snapshot
from neap.scheduler.core.choice.cycle import Cycle, Decision
from neap.scheduler.core.choice.framework import Parts, Policy
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.admission import refusal
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.plugins import device_affinity, fit, gpu_share
from neap.scheduler.settings import WEIGHTS
from neap.virtual.kernel import VirtualHost
from neap.virtual.snapshot import load_snapshot
from tests.unit.device_world import MEMORY_MIB, a_box, a_gpu_node, a_trainer, behind, gpu, nic
from tests.unit.scheduler_world import a_node, an_owner

HARD, SOFT, FEWEST = Strength.HARD, Strength.SOFT, Strength.FEWEST
PCIE = Path(__file__).resolve().parents[3] / "shared" / "data" / "pcie"
MACHINES = Path(__file__).resolve().parents[2] / "examples" / "machines"


class Pool:
    """A few GPU nodes and their scheduler."""

    def __init__(self, *nodes: NodeTopology) -> None:
        self.table = NodeTable()
        for node in nodes:
            self.table.describe(node)
        modules = {"fit": fit, "device_affinity": device_affinity, "gpu_share": gpu_share}
        self.cycle = Cycle(
            self.table, [Policy(name, module.PLUGIN, WEIGHTS.get(name, 1.0)) for name, module in modules.items()]
        )
        self._taken = 0

    def take(self, *cards: int, nics: dict[str, int] | None = None, node: str = "g1") -> None:
        """Somebody has these cards whole, and so much of network cards."""
        self._taken += 1
        gpus = tuple(GpuShare(container="c0", card=card, core=100, memory_mib=MEMORY_MIB) for card in cards)
        shares = tuple(DeviceShare(address=address, percent=percent) for address, percent in (nics or {}).items())
        who = an_owner(f"other-{self._taken}", cores=0)
        self.table.charge(node, Placement(workload=who, charged={}, gpus=gpus, devices=shares), 0.0)

    def place(self, ask: DeviceAsk, **more: Any) -> Decision:
        self._taken += 1
        return self.cycle.decide(pod_of(a_trainer(f"t{self._taken}", ask, **more)), 0.0)


def cards(decision: Decision) -> list[int]:
    assert decision.placement is not None, decision.rejected
    return sorted(share.card for share in decision.placement.gpus)


def nics(decision: Decision) -> dict[str, int]:
    assert decision.placement is not None, decision.rejected
    return {share.address: share.percent for share in decision.placement.devices}


def two_and_one(level: Level, strength: Strength = HARD, percent: int = 100) -> DeviceAsk:
    return DeviceAsk(gpus=2, nics=1, nic_percent=percent, level=level, strength=strength)


def nearest(pool: Pool, ask: DeviceAsk, **more: Any) -> tuple[str, str]:
    """The reason of the filter, and what is said of the first node."""
    pod = pod_of(a_trainer("x", ask, **more))
    pool.table.ask(pod)
    (rule,) = device_affinity.have_devices(pod, pool.table.view(), device_affinity.Settings())
    assert rule.near is not None
    return rule.reason, rule.near().tell(0).replace("{node}", pool.table.names[0])


# --- requirements


def test_two_gpus_and_a_card_come_from_one_root_complex_or_the_node_is_refused() -> None:  # 000-24
    pool = Pool(a_gpu_node())
    found = pool.place(two_and_one(Level.ROOT))
    assert (cards(found), nics(found)) == ([0, 1], {nic(0): 100})
    pool = Pool(a_gpu_node())
    pool.take(1, 2, 3, 5, 6, 7)  # one GPU of each root complex is free
    refused = pool.place(two_and_one(Level.ROOT))
    assert refused.placement is None
    assert ("device_affinity", "no root complex with 2 free GPUs + 1 free RDMA") in [
        (verdict.plugin, verdict.reason) for verdict in refused.rejected
    ]
    assert nearest(pool, two_and_one(Level.ROOT)) == (
        "no root complex with 2 free GPUs + 1 free RDMA",
        "g1: pci0000:00 has 1 free GPU + 2 free RDMA; 2 root complexes have them",
    )


def test_refused_at_switch_level_admitted_at_root_complex_level() -> None:  # 001-07
    pool = Pool(a_gpu_node())
    pool.take(1, 3, 4, 5, 6, 7, nics=dict.fromkeys(map(nic, (1, 2, 3)), 100))
    assert pool.place(two_and_one(Level.SWITCH)).placement is None
    assert nearest(pool, two_and_one(Level.SWITCH))[1] == (
        "g1: 0000:e1:00.0 has 1 free GPU + 1 free RDMA; 2 PCIe switches have them"
    )
    found = pool.place(two_and_one(Level.ROOT))
    assert (cards(found), nics(found)) == ([0, 2], {nic(0): 100})


def test_the_decision_says_how_near_each_pair_is_and_whether_gpudirect_helps() -> None:  # 000-25
    pool = Pool(a_gpu_node())
    (why,) = pool.place(two_and_one(Level.SWITCH)).why
    assert why == (
        "card 0, card 1, mlx5_0 of 0000:e1:00.0; level pcie-switch satisfied; card 0-mlx5_0 PIX, card 1-mlx5_0 PIX;"
        " GPUDirect RDMA past the processor for 2 of 2 pairs"
    )
    pool.take(2, 4, 5, 6, 7, nics={nic(1): 100, nic(3): 100})
    (why,) = pool.place(DeviceAsk(gpus=1, nics=1)).why
    assert (
        "level pcie-switch spread over 2 PCIe switches; card 3-mlx5_2 SYS; GPUDirect RDMA past the processor for 0"
        in why
    )
    plain = Pool(a_gpu_node(devices=[*a_box(2, 2)[:2], behind(nic(0), ZoneKind.NIC, 0, "pci0000:00", names=("eth0",))]))
    (why,) = plain.place(DeviceAsk(gpus=1, nics=1, fabric=ZoneKind.NIC, level=Level.ROOT)).why
    assert why.endswith("card 0-eth0 PHB; GPUDirect RDMA impossible: no RDMA device")


def test_the_node_with_the_nearer_set_wins_and_whole_switches_stay_whole() -> None:  # 002-47
    near, far = a_gpu_node("g1"), a_gpu_node("g2")
    pool = Pool(near, far)
    pool.take(1, 3, 5, 7, node="g2")  # no switch of g2 has two free GPUs
    soft = two_and_one(Level.SWITCH, SOFT)
    assert [pool.place(soft).node for _ in range(4)] == ["g1"] * 4
    assert pool.place(soft).node == "g2"
    pool = Pool(near, far)
    pool.take(0, node="g1")
    one = DeviceAsk(gpus=1, nics=1)
    found = pool.place(one)
    assert (found.node, cards(found)) == ("g1", [1]), "the broken switch is filled"


def test_bandwidth_is_given_in_percent_and_never_more_than_there_is() -> None:
    pool = Pool(a_gpu_node(devices=a_box(8, 1)))
    third = DeviceAsk(gpus=1, nics=1, nic_percent=33)
    assert [nics(pool.place(third)) for _ in range(3)] == [{nic(0): 33}] * 3
    assert pool.place(third).placement is None
    assert nearest(pool, third) == (
        "the node has not 1 free GPU + 1 RDMA with 33 % free",
        "g1: the node has 5 free GPUs + 0 RDMA with 33 % free",
    )


def test_a_card_that_leaves_wakes_who_waits_for_it() -> None:
    pool = Pool(a_gpu_node(devices=a_box(2, 1)))
    only_nic = DeviceAsk(nics=1)
    first = pool.place(only_nic)
    assert first.placement is not None
    refused = pool.place(only_nic)
    pool.table.changes.clear()
    pool.table.discharge(first.node, first.pod.uid)
    assert refused.wakes & pool.table.changes


def test_a_node_whose_buses_nobody_knows_serves_soft_wishes_only() -> None:
    bare = a_node("g1", cards=2)
    pool = Pool(bare)
    assert nearest(pool, DeviceAsk(gpus=2, strength=HARD))[1].endswith("nobody knows where 2 more are")
    found = pool.place(DeviceAsk(gpus=2))
    assert cards(found) == [0, 1]


def test_gpus_that_no_driver_shows_are_nobodys() -> None:
    pool = Pool(a_gpu_node(cards=()))
    assert pool.place(DeviceAsk(gpus=1, nics=1)).placement is None
    assert nics(pool.place(DeviceAsk(nics=1))) == {nic(0): 100}


def test_linked_gpus_are_taken_together() -> None:
    links = (Link(a=gpu(0), b=gpu(3), lanes=2), Link(a=gpu(1), b=gpu(2), lanes=2))
    devices = [Device(kind=ZoneKind.GPU, address=gpu(n), numa=0, path=(f"pci0000:0{n}", f"p{n}.0")) for n in range(4)]
    pool = Pool(a_gpu_node(devices=devices, links=links))
    pair = DeviceAsk(gpus=2, level=Level.NUMA)
    assert [cards(pool.place(pair)) for _ in range(2)] == [[0, 3], [1, 2]]


def test_slices_of_several_sizes_get_cards_near_each_other() -> None:
    pool = Pool(a_gpu_node())
    pool.take(0, 2)
    mixed = [(30, 4000), (60, 8000)]
    found = pool.place(DeviceAsk(gpus=2, nics=1, strength=HARD), gpus=mixed)
    assert cards(found) == [4, 5]
    (share,) = {share.card for share in pool.place(DeviceAsk(gpus=1, nics=1), gpus=mixed).placement.gpus}  # type: ignore[union-attr]
    assert share in (1, 3), "both on one card, of a broken switch"
    assert pool.place(DeviceAsk(gpus=1, strength=HARD), gpus=[(60, 8000), (60, 8000)]).placement is None


def test_devices_stay_on_the_numa_node_that_was_given_if_they_can() -> None:
    pool = Pool(a_gpu_node())
    pod = pod_of(a_trainer("t1", two_and_one(Level.SWITCH)))
    pool.table.ask(pod)
    given = device_affinity.choose(pod, pool.table, 0, device_affinity.Settings(), Parts(numa=(1,)))
    assert isinstance(given, Parts)
    assert (given.prefer, given.numa) == ((4, 5), (1,))
    pool.take(4, 5, 6, 7)
    far = device_affinity.choose(pod, pool.table, 0, device_affinity.Settings(), Parts(numa=(1,)))
    assert isinstance(far, Parts)
    assert far.prefer == (0, 1)
    assert far.why[0].endswith("not all of it near NUMA node 1, where its CPUs are")


@pytest.mark.parametrize(
    ("gpus", "asks", "said"),
    [
        (2, [(100, 0)], "2 GPUs, and the containers ask for 1 cards"),
        (1, [], "1 GPUs, and the containers ask for 0 cards"),
        (1, [(200, 0)], "1 GPUs, and the containers ask for 2 at least"),
        (1, [(100, 0), (30, 4000)], "at least"),
        (1, [(30, 4000), (30, 4000)], ""),
        (2, [(100, 0), (30, 4000), (30, 4000)], ""),
    ],
)
def test_gpus_near_each_other_are_those_the_containers_ask_for(gpus: int, asks: list[Any], said: str) -> None:
    workload = a_trainer("t1", DeviceAsk(gpus=gpus), gpus=asks)
    assert said in device_flaw(workload)
    assert said in refusal(workload)
    assert bool(device_flaw(workload)) is bool(said)


# --- Katalyst's companions (AC-24): network cards that accompany GPUs, where they mean what a device wish means


def companions(gpus: int, count: int) -> NodeTopology:
    """Each GPU on a switch of its own, network cards on them in turn."""
    made = [behind(gpu(n), ZoneKind.GPU, 0, "pci0000:00", f"{n:02x}") for n in range(gpus)]
    return a_gpu_node(
        devices=made + [behind(nic(n), ZoneKind.RDMA, 0, "pci0000:00", f"{n % gpus:02x}") for n in range(count)]
    )


@pytest.mark.parametrize(
    ("machine", "ask", "right"),
    [
        ((4, 2), DeviceAsk(gpus=4, nics=2), {0, 1}),  # 4 accompany, 2 targets: one per device that has one
        ((1, 2), DeviceAsk(gpus=1, nics=2, strength=HARD), {0, 1}),  # 1:2 with affinity
        ((1, 3), DeviceAsk(gpus=1, nics=3, strength=HARD), {0, 1, 2}),  # 1:3
        ((2, 3), DeviceAsk(gpus=2, nics=3), {0, 1, 2}),  # 2:3 without
        ((2, 3), DeviceAsk(gpus=2, nics=3, strength=HARD), None),  # 2:3 with: not at one GPU
        ((2, 5), DeviceAsk(gpus=2, nics=5, strength=HARD), None),
        ((2, 2), DeviceAsk(gpus=2, nics=3), None),  # too few
    ],
)
def test_network_cards_accompany_gpus(machine: tuple[int, int], ask: DeviceAsk, right: set[int] | None) -> None:
    found = Pool(companions(*machine)).place(ask)
    assert (None if found.placement is None else set(nics(found))) == (None if right is None else set(map(nic, right)))


def test_a_busy_companion_gives_way_to_the_next_nearest() -> None:
    pool = Pool(companions(2, 2))
    pool.take(1, nics={nic(0): 100})
    assert nics(pool.place(DeviceAsk(gpus=1, nics=1))) == {nic(1): 100}
    pool = Pool(companions(2, 2))
    pool.take(1, nics={nic(0): 100})
    assert pool.place(DeviceAsk(gpus=1, nics=1, strength=HARD)).placement is None


# --- machines that were captured, and vendors' files


def of_captured(name: str) -> NodeTopology:
    """A captured machine; its accelerators are given drivers."""
    host = VirtualHost(load_snapshot(MACHINES / name), node="g1")
    found = build(read_snapshot(host), node="g1", at=1.0, reserve=Reserve(memory=1 << 30), labels={})
    return with_cards(found, found.devices)


def with_cards(topology: NodeTopology, devices: tuple[Device, ...]) -> NodeTopology:
    made = [one for one in devices if one.kind is ZoneKind.GPU]
    drivers = tuple(
        Card(index=n, uuid=f"GPU-{n}", model="T4", memory_mib=MEMORY_MIB, numa=one.numa, pci=one.address)
        for n, one in enumerate(made)
    )
    return msgspec.structs.replace(topology, cards=drivers, devices=devices)


def test_on_a_captured_machine_accelerators_come_with_the_card_of_their_switch() -> None:
    pool = Pool(of_captured("32intel64-2p8co2t+8ve.tar.bz2"))
    four = DeviceAsk(gpus=4, nics=1, strength=HARD)
    first, second = pool.place(four), pool.place(four)
    assert [set(nics(found)) for found in (first, second)] == [{"0000:1a:00.0"}, {"0000:3e:00.0"}]
    assert sorted(cards(first) + cards(second)) == list(range(8))
    assert "4 of 4 pairs" in first.why[0]
    assert pool.place(DeviceAsk(gpus=1)).placement is None


@pytest.mark.parametrize("name", sorted(path.name for path in MACHINES.glob("*.tar.*")))
def test_every_captured_machine_has_a_tree_and_gives_what_it_has(name: str) -> None:
    topology = of_captured(name)
    pool, count = Pool(topology), len(topology.cards)
    if count:
        assert len(cards(pool.place(DeviceAsk(gpus=min(count, 16), level=Level.NODE)))) == min(count, 16)
    else:
        assert pool.place(DeviceAsk(gpus=1)).placement is None


def vendors(name: str) -> tuple[Pool, dict[str, Any]]:
    topology = a_node("g1", cores=96, gib=900)
    facts = json.loads((PCIE / "facts.json").read_text())[name]
    return Pool(with_cards(topology, read_nccl((PCIE / f"{name}-topo.xml").read_text()))), facts["numa"]


def test_the_only_card_of_ndv2_goes_with_the_gpus_near_it(shared: Path) -> None:
    near = DeviceAsk(gpus=1, nics=1, level=Level.NUMA, strength=HARD)
    pool, numa = vendors("ndv2")
    assert cards(pool.place(DeviceAsk(gpus=1, level=Level.NUMA)))[0] >= 4, "the card keeps its near GPUs"
    found = pool.place(near)
    assert (cards(found)[0] < 4, list(nics(found))) == (True, numa["0"]["ib"])
    pool, _ = vendors("ndv2")
    pool.take(0, 1, 2, 3)
    refused = pool.place(near)
    assert refused.rejected[0].reason == "no NUMA node with 1 free GPU + 1 free RDMA"
    soft = pool.place(DeviceAsk(gpus=1, nics=1, level=Level.NUMA))
    assert cards(soft)[0] >= 4
    assert "SYS" in soft.why[0]
    assert pool.place(DeviceAsk(gpus=2, nics=2)).placement is None
    pool, _ = vendors("ndv2")
    six = cards(pool.place(DeviceAsk(gpus=6, nics=1, level=Level.NUMA)))
    assert six[:4] == [0, 1, 2, 3]


def test_a_gpu_of_ncv4_near_the_network_is_the_first(shared: Path) -> None:
    pool, _ = vendors("ncv4")
    assert pool.place(DeviceAsk(gpus=2, level=Level.NUMA, strength=HARD)).placement is None
    found = pool.place(DeviceAsk(gpus=1, nics=1, fabric=ZoneKind.NIC, level=Level.NUMA, strength=HARD))
    assert (cards(found), nics(found)) == ([0], {"eth0": 100})


# --- a file of ours: a cube of NVLinks, read by the reporter


@pytest.mark.parametrize(
    ("size", "right"),
    [
        (1, [[n] for n in range(8)]),
        (2, [[0, 2], [1, 3], [4, 6], [5, 7]]),
        (4, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (8, [[*range(8)]]),
    ],
)
def test_gpus_of_a_cube_are_handed_out_as_published(size: int, right: list[list[int]]) -> None:
    text = (MACHINES.parent / "pcie" / "cube-topo.xml").read_text()
    node = msgspec.structs.replace(a_node("g1", cores=96), links=read_nvlinks(text))
    pool = Pool(with_cards(node, read_nccl(text)))
    ask = DeviceAsk(gpus=size, level=Level.NODE)
    assert sorted(cards(pool.place(ask)) for _ in right) == right
    assert pool.place(ask).placement is None


def test_members_of_a_gang_get_shares_of_different_cards_near_a_network_card_each() -> None:
    pool, gang = Pool(a_gpu_node()), Gang(name="train", least=2)
    near = DeviceAsk(gpus=1, nics=1, nic_percent=50, strength=HARD)
    found = [pool.place(near, gpus=[(30, 4000)], gang=gang) for _ in range(3)]
    assert [cards(one) for one in found] == [[0], [1], [2]]


def test_a_mix_of_slices_is_found_where_the_first_cards_have_too_little() -> None:
    devices = [behind(gpu(n), ZoneKind.GPU, 0, "pci0000:00") for n in range(4)]
    pool = Pool(a_gpu_node(devices=devices))
    for number in (0, 1):
        gpus = (GpuShare(container="c0", card=number, core=60, memory_mib=1000),)
        pool.table.charge("g1", Placement(workload=a_trainer(f"o{number}"), charged={}, gpus=gpus), 0.0)
    mixed = DeviceAsk(gpus=2, level=Level.NUMA, strength=HARD)
    assert cards(pool.place(mixed, gpus=[(70, 4000), (60, 4000)])) == [2, 3]
