"""Devices near each other: published sequences, Katalyst's cases, the requirements' cases and captured machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.affinity import DeviceAsk, DeviceChoice, Refusal, Strength, choose_devices
from neap.common.model.device_tree import POINTS, DeviceTree, Level, device_tree, tree_of
from neap.common.model.pcie import PathClass, path_class
from neap.common.model.topology import Device, NodeTopology, NumaNode, Zone, ZoneKind
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.nccl import read_nccl
from neap.reporter.shell.host import read_snapshot
from neap.virtual.kernel import VirtualHost
from neap.virtual.snapshot import load_snapshot

PCIE = Path(__file__).resolve().parents[3] / "shared" / "data" / "pcie"
MACHINES = Path(__file__).resolve().parents[2] / "examples" / "machines"
FACTS = json.loads((PCIE / "facts.json").read_text()) if PCIE.is_dir() else {}
HARD, FEWEST = Strength.HARD, Strength.FEWEST


def gpu(number: int) -> str:
    return f"0000:{number:02x}:00.0"


def nic(number: int) -> str:
    return f"0000:{0x80 + number:02x}:00.0"


def behind(address: str, kind: ZoneKind, numa: int, root: str, switch: str = "") -> Device:
    """A device on its own root port, or on a port of a switch."""
    port = f"0000:f0:{address[5:7]}.0"
    path = (root, f"0000:e0:{switch}.0", f"0000:e1:{switch}.0", port) if switch else (root, port)
    return Device(kind=kind, address=address, numa=numa, path=path)


def a_box() -> list[Device]:
    """Per NUMA node one root complex with two switches, each with two GPUs and a network card (requirement 000-24)."""
    return [behind(gpu(n), ZoneKind.GPU, n // 4, f"pci0000:0{n // 4}", f"{n // 2:02x}") for n in range(8)] + [
        behind(nic(n), ZoneKind.RDMA, n // 2, f"pci0000:0{n // 2}", f"{n:02x}") for n in range(4)
    ]


def grouped(pairs: Iterable[Sequence[int]], root_size: int = 4, numa_size: int = 8) -> list[Device]:
    """GPUs from 1: pairs share a switch, `root_size` in a row a root complex, `numa_size` in a row a node."""
    switch = {member: f"{index:02x}" for index, pair in enumerate(pairs) for member in pair}
    return [
        behind(gpu(n), ZoneKind.GPU, (n - 1) // numa_size, f"pci0000:{(n - 1) // root_size:02x}", switch[n])
        for n in sorted(switch)
    ]


def left(tree: DeviceTree, free: Iterable[str]) -> dict[str, int]:
    untouched = set(free)
    return {device.address: 100 if device.address in untouched else 0 for device in tree.devices}


def all_of(tree: DeviceTree) -> dict[str, int]:
    return left(tree, [device.address for device in tree.devices])


def numbers(found: DeviceChoice | Refusal) -> list[int] | None:
    """GPUs by number; None for a refusal."""
    return [int(address[5:7], 16) for address in found.gpus] if isinstance(found, DeviceChoice) else None


def chosen(found: DeviceChoice | Refusal) -> DeviceChoice:
    assert isinstance(found, DeviceChoice), found
    return found


def refused(found: DeviceChoice | Refusal) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


# --- published sequences and partly taken machines (facts.json)


def a_published(name: str) -> tuple[DeviceTree, list[list[str]], list[list[int]]]:
    """The machine, its words and its links."""
    pascal = name == "dgx1_pascal"
    facts = FACTS[name]
    devices = [
        behind(gpu(n), ZoneKind.GPU, n // 4, f"pci0000:0{n // 4}", f"{n // 4}{n % 2}")
        if pascal
        else behind(gpu(n), ZoneKind.GPU, n // 2, f"pci0000:0{n}")
        for n in range(facts["gpus"])
    ]
    links = {(gpu(a), gpu(b)): count for a, row in enumerate(facts["nvlinks"]) for b, count in enumerate(row) if a < b}
    return device_tree(devices, links), facts["pcie"], facts["nvlinks"]


def cases(part: str) -> list[Any]:
    machines = [name for name in FACTS if "published_sequences" in FACTS[name]]
    found = [(name, case) for name in machines for case in FACTS[name][part]]
    return [pytest.param(*case, id=f"{case[0]}-{json.dumps(case[1])}") for case in found]


NONE = [pytest.param("", None, marks=pytest.mark.skip("no reference data"))]


@pytest.mark.parametrize("name", ["dgx1_pascal", "rtx8000_x4"])
def test_the_machine_is_the_published_one(shared: Path, name: str) -> None:
    tree, words, _ = a_published(name)
    for a, b in combinations(range(len(words)), 2):
        assert words[a][b] in ("-", path_class(tree.devices[a], tree.devices[b]))


@pytest.mark.parametrize(("name", "size"), cases("published_sequences") or NONE)
def test_requests_one_after_the_other_get_what_the_published_policy_gives(shared: Path, name: str, size: str) -> None:
    tree, *_ = a_published(name)
    room, sets = all_of(tree), FACTS[name]["published_sequences"][size]
    for right in sets:
        found = chosen(choose_devices(tree, room, DeviceAsk(gpus=int(size), level=Level.NODE)))
        assert numbers(found) == right
        room |= dict.fromkeys(found.gpus, 0)
    assert isinstance(choose_devices(tree, room, DeviceAsk(gpus=int(size), level=Level.NODE)), Refusal)


@pytest.mark.parametrize(("name", "case"), cases("partial_cases") or NONE)
def test_on_a_partly_taken_machine_the_best_set_is_found(shared: Path, name: str, case: dict[str, Any]) -> None:
    tree, words, links = a_published(name)
    room = left(tree, map(gpu, case["free"]))
    must = [gpu(n) for n in case.get("must_include", ())]
    got = choose_devices(tree, room, DeviceAsk(gpus=case["want"], level=Level.NODE), must=must)
    if not case["right"]:
        assert refused(got).why
        return
    found = [int(address[5:7], 16) for address in chosen(got).gpus]
    assert found in case["right"]
    ladder = {word.value: points for word, points in POINTS.items()} | {"-": 0}
    assert sum(links[a][b] * 100 + ladder[words[a][b]] for a, b in combinations(found, 2)) == case["best_score"]


# --- vendors' files (facts.json, ndv2 and ncv4)


def a_vendor(name: str) -> DeviceTree:
    return device_tree(read_nccl((PCIE / f"{name}-topo.xml").read_text()))


def near_ib(gpus: int, nics: int = 1, strength: Strength = HARD) -> DeviceAsk:
    return DeviceAsk(gpus=gpus, nics=nics, level=Level.NUMA, strength=strength)


def test_the_only_card_of_ndv2_is_given_with_the_gpus_near_it(shared: Path) -> None:
    tree, numa = a_vendor("ndv2"), FACTS["ndv2"]["numa"]
    near, far, ib = numa["0"]["gpus"], numa["1"]["gpus"], numa["0"]["ib"]
    one = chosen(choose_devices(tree, all_of(tree), near_ib(1)))
    assert (one.gpus[0] in near, list(one.nics)) == (True, ib)
    assert list(chosen(choose_devices(tree, all_of(tree), near_ib(4))).gpus) == near
    alone = chosen(choose_devices(tree, all_of(tree), DeviceAsk(gpus=1, level=Level.NUMA)))
    assert alone.gpus[0] in far  # the card keeps its near GPUs
    taken = left(tree, far + ib)
    assert refused(choose_devices(tree, taken, near_ib(1))) == Refusal(
        why="no NUMA node with 1 free GPU + 1 free RDMA",
        nearest="NUMA node 0 has 0 free GPUs + 1 free RDMA; 2 NUMA nodes have them",
    )
    soft = chosen(choose_devices(tree, taken, near_ib(1, strength=Strength.SOFT)))
    assert (soft.gpus[0] in far, list(soft.nics), soft.near[0].path) == (True, ib, PathClass.SYS)
    for strength in Strength:
        assert isinstance(choose_devices(tree, all_of(tree), near_ib(2, 2, strength)), Refusal)
    for strength in (Strength.SOFT, FEWEST):
        six = chosen(choose_devices(tree, all_of(tree), near_ib(6, strength=strength)))
        assert (list(six.gpus[:4]), len(set(six.gpus[4:]) & set(far)), list(six.nics)) == (near, 2, ib)


def test_a_gpu_of_ncv4_is_near_its_processors_and_one_is_near_the_network(shared: Path) -> None:
    tree = a_vendor("ncv4")
    ask = DeviceAsk(gpus=1, nics=1, fabric=ZoneKind.NIC, level=Level.NUMA, strength=HARD)
    found = chosen(choose_devices(tree, all_of(tree), ask))
    assert (found.gpus, found.nics, found.groups) == (("0001:00:00.0",), ("eth0",), ("NUMA node 0",))
    two = DeviceAsk(gpus=2, level=Level.NUMA, strength=HARD)
    assert refused(choose_devices(tree, all_of(tree), two)).why == "no NUMA node with 2 free GPUs"
    for cpus, right in (
        (24, True),
        (25, False),
    ):  # of a GPU and its processors in one node: others tell which nodes fit
        fits = [device.address for device in tree.devices if len(parse_cpuset(device.cpus)) >= cpus]
        got = choose_devices(tree, all_of(tree), DeviceAsk(gpus=1, level=Level.NUMA, strength=HARD), only=fits)
        assert isinstance(got, DeviceChoice) is right


# --- Katalyst's device affinity (katalyst-node A18, katalyst-control AC-22)

PAIRS = [(1, 2), (3, 4), (5, 6), (7, 8)]
QUADS = [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)]


@pytest.mark.parametrize(
    ("groups", "level", "free", "only", "want", "right"),
    [
        (PAIRS[:2], Level.SWITCH, [1, 2, 3], [1, 3], 1, [3]),  # fills the broken pair
        (PAIRS, Level.SWITCH, [3, 5, 6, 7, 8], None, 1, [3]),
        (QUADS[:2], Level.SWITCH, [1, 2, 3, 4, 5, 6, 8], [1, 3, 5, 6], 2, [5, 6]),
        (QUADS, Level.SWITCH, [2, 3, 6, 7, 8, 9, 10, 11, 12], [2, 3, 6, 7, 9, 10], 4, [2, 3, 6, 7]),
        (PAIRS, Level.SWITCH, [*range(1, 9)], [1, 2, 3, 5, 7], 4, [1, 2, 3, 5]),  # pairs inside quads
        (PAIRS, Level.ROOT, [*range(1, 9)], [1, 2, 3, 5, 7], 4, [1, 2, 3, 5]),
    ],
)
def test_broken_groups_are_filled_and_whole_ones_stay_whole(
    groups: list[Any], level: Level, free: list[int], only: list[int] | None, want: int, right: list[int]
) -> None:
    tree = device_tree(grouped(groups))
    allowed = None if only is None else [gpu(n) for n in only]
    found = choose_devices(tree, left(tree, map(gpu, free)), DeviceAsk(gpus=want, level=level), only=allowed)
    assert numbers(found) == right


@pytest.mark.parametrize(
    ("groups", "level", "free", "want", "right"),
    [
        (PAIRS, Level.SWITCH, [1, 3], 2, None),  # different pairs
        (PAIRS, Level.SWITCH, [*range(1, 9)], 4, [1, 2, 3, 4]),  # two pairs
        (PAIRS, Level.SWITCH, [1, 2, 3, 4, 5], 5, [1, 2, 3, 4, 5]),  # exactly three pairs
        (PAIRS, Level.SWITCH, [1, 3, 5, 6, 7], 5, None),  # needs four
        (QUADS[:2], Level.SWITCH, [1, 2, 5, 6], 4, None),
        (QUADS[:2], Level.NUMA, [*range(1, 9)], 6, [1, 2, 3, 4, 5, 6]),  # a level of eight
        (QUADS[:2], Level.SWITCH, [*range(1, 9)], 6, [1, 2, 3, 4, 5, 6]),  # both quads
    ],
)
def test_required_affinity_uses_no_more_groups_than_an_empty_node(
    groups: list[Any], level: Level, free: list[int], want: int, right: list[int] | None
) -> None:
    tree = device_tree(grouped(groups))
    ask = DeviceAsk(gpus=want, level=level, strength=FEWEST)
    assert numbers(choose_devices(tree, left(tree, map(gpu, free)), ask)) == right


@pytest.mark.parametrize("level", [Level.SWITCH, Level.ROOT, Level.NUMA])
def test_where_nobody_knows_the_places_required_is_refused_and_preferred_is_in_order(level: Level) -> None:
    tree = device_tree([Device(kind=ZoneKind.GPU, address=gpu(n)) for n in range(4)])
    for strength in (HARD, FEWEST):
        why = refused(choose_devices(tree, all_of(tree), DeviceAsk(gpus=2, level=level, strength=strength)))
        assert "nobody knows where 4 more are" in why.nearest
    assert numbers(choose_devices(tree, all_of(tree), DeviceAsk(gpus=2, level=level))) == [0, 1]
    assert numbers(choose_devices(tree, all_of(tree), DeviceAsk(gpus=2, level=Level.NODE, strength=HARD))) == [0, 1]


# --- requirements


def ask_two(level: Level, strength: Strength = HARD) -> DeviceAsk:
    return DeviceAsk(gpus=2, nics=1, level=level, strength=strength)


def test_two_gpus_and_a_card_come_from_one_root_complex_or_not_at_all() -> None:  # 000-24
    tree = device_tree(a_box())
    found = chosen(choose_devices(tree, all_of(tree), ask_two(Level.ROOT)))
    assert (found.groups, len(found.gpus), len(found.nics)) == (("pci0000:00",), 2, 1)
    across = left(tree, [gpu(0), gpu(4), *map(nic, range(4))])
    assert refused(choose_devices(tree, across, ask_two(Level.ROOT))) == Refusal(
        why="no root complex with 2 free GPUs + 1 free RDMA",
        nearest="pci0000:00 has 1 free GPU + 2 free RDMA; 2 root complexes have them",
    )


def test_what_one_switch_does_not_hold_one_root_complex_may() -> None:  # 001-07
    tree = device_tree(a_box())
    room = left(tree, [gpu(0), gpu(2), nic(0)])
    assert refused(choose_devices(tree, room, ask_two(Level.SWITCH))) == Refusal(
        why="no PCIe switch with 2 free GPUs + 1 free RDMA",
        nearest="0000:e1:00.0 has 1 free GPU + 1 free RDMA; 2 PCIe switches have them",
    )
    assert numbers(choose_devices(tree, room, ask_two(Level.ROOT))) == [0, 2]


def test_the_same_switch_is_before_the_same_root_complex_before_the_same_node_before_any() -> None:  # 002-47
    tree, ask = device_tree(a_box()), ask_two(Level.SWITCH, Strength.SOFT)
    broken = all_of(tree) | {gpu(0): 0}
    assert numbers(choose_devices(tree, broken, ask)) == [2, 3]
    one = DeviceAsk(gpus=1, nics=1)
    assert numbers(choose_devices(tree, broken, one)) == [1]  # keeps the other switches whole
    apart = left(tree, [gpu(0), gpu(4), gpu(6), *map(nic, range(4))])
    assert numbers(choose_devices(tree, apart, ask)) == [4, 6]


def test_every_switch_used_gives_gpus_and_a_card() -> None:  # 002-48, several cards per pod
    more = [behind(nic(n + 4), ZoneKind.RDMA, n // 2, f"pci0000:0{n // 2}", f"{n:02x}") for n in range(4)]
    tree = device_tree([*a_box(), *more])
    room = all_of(tree) | {gpu(n): 0 for n in (1, 3, 4, 5, 6, 7)}
    found = chosen(choose_devices(tree, room, DeviceAsk(gpus=2, nics=2)))
    assert (numbers(found), found.nics) == ([0, 2], (nic(0), nic(1)))


def test_the_choice_says_how_near_each_gpu_and_card_are() -> None:  # 000-25
    root, up, down = "pci0000:00", "0000:e0:00.0", "0000:e1:00.0"
    far = Device(kind=ZoneKind.GPU, address=gpu(1), numa=0, path=(root, up, down, "a.0", "b.0", "c.0"))
    devices = [
        behind(gpu(0), ZoneKind.GPU, 0, root, "00"),
        far,
        behind(gpu(2), ZoneKind.GPU, 0, root),
        behind(gpu(3), ZoneKind.GPU, 0, "pci0000:01"),
        behind(gpu(4), ZoneKind.GPU, 1, "pci0000:02"),
        behind(nic(0), ZoneKind.RDMA, 0, root, "00"),
    ]
    tree = device_tree(devices)
    found = chosen(choose_devices(tree, all_of(tree), DeviceAsk(gpus=5, nics=1)))
    assert [near.path.value for near in found.near] == ["PIX", "PXB", "PHB", "NODE", "SYS"]


# --- shares, odd buses, bad input


def test_shares_of_cards_and_of_bandwidth_go_to_what_is_shared_already() -> None:
    tree = device_tree(a_box())
    room = all_of(tree) | {gpu(3): 70, nic(1): 50}
    share = DeviceAsk(gpus=1, nics=1, gpu_percent=30, nic_percent=25, strength=HARD)
    found = chosen(choose_devices(tree, room, share))
    assert (numbers(found), found.nics) == ([3], (nic(1),))
    room = dict.fromkeys(room, 20)
    assert refused(choose_devices(tree, room, share)).why == (
        "no PCIe switch with 1 GPU with 30 % free + 1 RDMA with 25 % free"
    )


def test_a_switch_on_the_card_and_a_second_port_do_not_hide_the_switch_they_share() -> None:
    root, up, down = "pci0000:00", "0000:01:00.0", "0000:02:00.0"
    own = [
        Device(kind=ZoneKind.GPU, address=gpu(n), path=(root, up, down, f"0000:03:0{n}.0", f"{n}:u.0", f"{n}:d.0"))
        for n in range(2)
    ]
    ports = [
        Device(kind=ZoneKind.RDMA, address=f"0000:80:00.{port}", path=(root, up, down, "0000:03:08.0"))
        for port in range(2)
    ]
    virtual = Device(kind=ZoneKind.RDMA, address="0000:80:00.2", path=ports[0].path, physical=ports[0].address)
    (group,) = device_tree([*own, *ports, virtual]).of_level(Level.SWITCH)
    assert (group.name, len(group.members), group.known) == (down, 4, True)


def test_where_firmware_tells_no_node_the_root_complex_does_and_one_node_needs_no_telling() -> None:
    silent = Device(kind=ZoneKind.GPU, address=gpu(1), path=("pci0000:00", "0000:00:02.0"))
    told = behind(gpu(0), ZoneKind.GPU, 1, "pci0000:00")
    assert [group.name for group in device_tree([silent, told]).of_level(Level.NUMA)] == ["NUMA node 1"]
    bare = Device(kind=ZoneKind.GPU, address=gpu(2))
    one = NodeTopology(
        at=0.0,
        source="t",
        node="n",
        machine=Zone(kind=ZoneKind.MACHINE, index=0),
        numa=(NumaNode(index=0, cpus="0-3", memory=1),),
        devices=(bare,),
    )
    assert [group.known for group in tree_of(one).of_level(Level.NUMA)] == [True]


def test_a_node_without_devices_and_an_address_that_is_not_there_are_refused() -> None:
    empty = refused(choose_devices(device_tree([]), {}, DeviceAsk(gpus=1, strength=HARD)))
    assert (empty.why, empty.nearest) == ("no PCIe switch with 1 free GPU", "the node has 0 free GPUs")
    tree = device_tree(a_box())
    assert refused(choose_devices(tree, all_of(tree), DeviceAsk(gpus=1), must=["x"])).why.startswith("x must be")
    assert isinstance(choose_devices(tree, all_of(tree), DeviceAsk(gpus=1), must=[gpu(0), gpu(1)]), Refusal)


def test_a_node_too_irregular_for_an_exact_search_is_searched_by_its_groups() -> None:
    gpus = [behind(gpu(n), ZoneKind.GPU, n // 16, f"pci0000:{n // 8:02x}", f"{n // 4:02x}") for n in range(32)]
    links = {(gpu(a), gpu(b)): (7 * a + 11 * b + 13 * a * b) % 97 for a, b in combinations(range(32), 2)}
    tree, regular = device_tree(gpus, links), device_tree(gpus)
    assert (tree.rough, regular.rough) == (True, False)
    for tried in (tree, regular):
        assert numbers(choose_devices(tried, all_of(tried), DeviceAsk(gpus=8, level=Level.ROOT))) == [*range(8)]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ({}, "neither"),
        ({"gpus": -1}, "gpus=-1"),
        ({"gpus": 65}, "gpus=65"),
        ({"nics": 1, "nic_percent": 0}, "nic_percent=0"),
        ({"gpus": 1, "gpu_percent": 101}, "gpu_percent=101"),
        ({"nics": 1, "fabric": ZoneKind.GPU}, "fabric 'gpu'"),
    ],
)
def test_an_ask_that_cannot_be_meant_is_refused_by_name(ask: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DeviceAsk(**ask)


# --- a captured machine: eight accelerators, two switches with an InfiniBand card each


def test_on_a_captured_machine_accelerators_come_with_the_card_of_their_switch() -> None:
    host = VirtualHost(load_snapshot(MACHINES / "32intel64-2p8co2t+8ve.tar.bz2"), node="n1")
    tree = tree_of(build(read_snapshot(host), node="n1", at=1.0, reserve=Reserve(memory=1 << 30), labels={}))
    room = all_of(tree)
    first = chosen(choose_devices(tree, room, DeviceAsk(gpus=4, nics=1, strength=HARD)))
    assert (first.nics, first.groups, {near.path for near in first.near}) == (
        ("0000:1a:00.0",),
        ("0000:18:00.0",),
        {PathClass.PIX},
    )
    room |= dict.fromkeys((*first.gpus[:3], *first.nics), 0)
    assert chosen(choose_devices(tree, room, DeviceAsk(gpus=1))).gpus == first.gpus[3:]  # fills what is broken
    assert chosen(choose_devices(tree, room, DeviceAsk(gpus=1, nics=1))).nics == ("0000:3e:00.0",)
    assert refused(choose_devices(tree, room, DeviceAsk(gpus=5, nics=1, strength=HARD))) == Refusal(
        why="no PCIe switch with 5 free GPUs + 1 free RDMA",
        nearest="0000:3b:00.0 has 4 free GPUs + 1 free RDMA; 2 PCIe switches have them",
    )
    every = chosen(choose_devices(tree, all_of(tree), DeviceAsk(gpus=8, nics=2, strength=FEWEST)))
    assert every.groups == ("0000:18:00.0", "0000:3b:00.0")
