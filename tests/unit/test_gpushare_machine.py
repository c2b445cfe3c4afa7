"""gpushare of one node: what it accepts, what it refuses and why, what a container is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import msgspec

from neap.common.contract.catalogue import DEVICES, PLACEMENTS, TOPOLOGY
from neap.common.model.affinity import DeviceAsk
from neap.common.model.device import DeviceState, Enforcement
from neap.common.model.placement import Checkpoint, DeviceShare, GpuShare, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.common.model.topology import Card, Device, NodeTopology, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Event, Failed, Gone, Instruction, Put, Synced, Tick
from neap.gpushare.core.machine import GpushareMachine
from neap.gpushare.settings import Settings
from tests.conftest import SOON

MEMORY = 142336


def a_topology(*, cards: int = 2, memory: int = MEMORY) -> NodeTopology:
    return NodeTopology(
        at=0.0, source="reporter", node="n1", machine=Zone(kind=ZoneKind.MACHINE, index=0), numa=(),
        cards=tuple(Card(index=i, uuid=f"GPU-{i}", model="H200", memory_mib=memory) for i in range(cards)),
    )  # fmt: skip


def a_placement(uid: str, asks: dict[str, tuple[int, int]], shares: Iterable[tuple[str, int, int, int]]) -> Placement:
    containers = tuple(
        Container(name=name, requests={GPU_CORE: core} | ({GPU_MEMORY: memory} if memory else {}))
        for name, (core, memory) in asks.items()
    )
    workload = Workload(uid=uid, namespace="ml", name=uid, qos=QosClass.SHARED, containers=containers)
    gpus = tuple(GpuShare(container=c, card=card, core=core, memory_mib=memory) for c, card, core, memory in shares)
    return Placement(workload=workload, charged=workload.requests, gpus=gpus)


def a_slice(uid: str, core: int, memory: int, card: int = 0) -> Placement:
    return a_placement(uid, {"main": (core, memory)}, [("main", card, core, memory)])


class Node:
    """A machine fed by hand."""

    def __init__(self, *, cards: int = 2, synced: bool = True, mps: bool = False) -> None:
        self.machine, self.seq = GpushareMachine(Settings(node="n1", mps=mps)), 0
        if cards:
            self.tell(Arrived(0.0, a_topology(cards=cards)))
        if synced:
            self.tell(Synced(0.0, PLACEMENTS))

    def tell(self, event: Event) -> list[Instruction]:
        out = list(self.machine.handle(event))
        self.machine.validate()
        return out

    def entry(self, entry: LedgerEntry) -> list[Instruction]:
        self.seq += 1
        return self.tell(Arrived(1.0, entry, PLACEMENTS.at(node="n1").subject, self.seq))

    def place(self, placement: Placement) -> list[Instruction]:
        return self.entry(Placed(at=1.0, source="scheduler", node="n1", placement=placement, reason=""))

    def release(self, uid: str) -> list[Instruction]:
        return self.entry(Released(at=1.0, source="scheduler", node="n1", uid=uid, reason=""))


def state_of(out: list[Instruction]) -> DeviceState:
    (put,) = [item for item in out if isinstance(item, Put)]
    assert put.key == DEVICES.at(node="n1")
    assert isinstance(put.value, DeviceState)
    return put.value


def line_of(out: list[Instruction]) -> tuple[str, str]:
    (line,) = [item.entry for item in out if isinstance(item, Decide)]
    return line.what, line.why


def test_two_slices_fill_a_card_exactly_and_the_next_is_refused_by_name() -> None:
    node = Node(cards=1)
    node.place(a_slice("a", 30, 40000))
    out = node.place(a_slice("b", 70, 102336))
    (card,) = state_of(out).cards
    assert (card.core_free, card.memory_free_mib) == (0, 0)
    assert line_of(out)[0] == "gpu assigned"
    out = node.place(a_slice("c", 1, 256))
    assert state_of(out).refused == {"c": "container main, card 0: compute: 1 % asked, 0 % left"}
    assert line_of(out) == ("gpu refused", "container main, card 0: compute: 1 % asked, 0 % left")
    assert Count("neap_gpushare_refused_total") in out


def test_memory_is_the_short_dimension_when_it_is() -> None:
    node = Node(cards=1)
    node.place(a_slice("a", 30, 142000))
    assert state_of(node.place(a_slice("b", 30, 337))).refused["b"].endswith("memory: 337 MiB asked, 336 MiB left")


def test_a_slice_is_told_its_limits_and_that_nothing_enforces_them() -> None:
    allocation = state_of(Node().place(a_slice("a", 30, 40000, card=1))).cards[1].allocations[0]
    assert allocation.enforced is Enforcement.ACCOUNTED_ONLY
    assert allocation.environment == {
        "CUDA_VISIBLE_DEVICES": "GPU-1",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=40000M",
    }


def test_with_an_mps_daemon_a_slice_is_enforced_by_it() -> None:
    allocation = state_of(Node(mps=True).place(a_slice("a", 30, 40000))).cards[0].allocations[0]
    assert allocation.enforced is Enforcement.MPS


def test_whole_cards_are_named_whole_and_need_no_limits() -> None:
    placement = a_placement("w", {"train": (200, 0)}, [("train", 0, 100, MEMORY), ("train", 1, 100, MEMORY)])
    state = state_of(Node().place(placement))
    assert [card.core_free for card in state.cards] == [0, 0]
    allocations = [allocation for card in state.cards for allocation in card.allocations]
    assert {a.enforced for a in allocations} == {Enforcement.WHOLE}
    assert {a.environment["CUDA_VISIBLE_DEVICES"] for a in allocations} == {"GPU-0,GPU-1"}
    assert all(list(a.environment) == ["CUDA_VISIBLE_DEVICES"] for a in allocations)


def test_each_container_has_its_own_share() -> None:
    placement = a_placement("p", {"a": (20, 1000), "b": (30, 2000)}, [("a", 0, 20, 1000), ("b", 1, 30, 2000)])
    state = state_of(Node().place(placement))
    assert [[a.share.container for a in card.allocations] for card in state.cards] == [["a"], ["b"]]


def test_shares_that_are_not_what_was_asked_are_refused_whole() -> None:
    cases = {
        "no share": (a_placement("x", {"m": (30, 1000)}, []), "container m: 1 cards asked, 0 placed"),
        "other amount": (a_placement("x", {"m": (30, 1000)}, [("m", 0, 20, 1000)]), "20 % and 1000 MiB placed, 30 % and 1000 MiB asked"),
        "no such card": (a_placement("x", {"m": (30, 1000)}, [("m", 7, 30, 1000)]), "container m, card 7: the node has no such card"),
        "other container": (a_placement("x", {"m": (30, 1000)}, [("m", 0, 30, 1000), ("o", 0, 1, 256)]), "container o, card 0: a share for a container"),
        "broken rule": (a_placement("x", {"m": (30, 0)}, [("m", 0, 30, 0)]), "at least 256 MiB"),
        "same card twice": (a_placement("x", {"m": (200, 0)}, [("m", 0, 100, MEMORY)] * 2), "a whole card asked, 0 % and 0 MiB left"),
    }  # fmt: skip
    for name, (placement, why) in cases.items():
        node = Node()
        state = state_of(node.place(placement))
        assert why in state.refused["x"], name
        assert all(not card.allocations for card in state.cards), name
        assert (state_of(node.release("x")).refused) == {}


def test_a_refused_placement_takes_nothing_from_the_next() -> None:
    node = Node(cards=1)
    node.place(a_slice("big", 90, MEMORY + 1))
    assert state_of(node.place(a_slice("small", 90, 1000))).cards[0].core_free == 10


def test_released_shares_are_free_again() -> None:
    node = Node()
    node.place(a_slice("a", 30, 40000))
    assert state_of(node.release("a")).cards[0].core_free == 100


def test_nothing_is_said_before_the_ledger_was_read_and_no_trail_about_the_past() -> None:
    node = Node(synced=False)
    assert node.place(a_slice("a", 30, 40000)) == []
    out = node.tell(Synced(2.0, PLACEMENTS))
    assert state_of(out).cards[0].core_free == 70
    assert not [item for item in out if isinstance(item, Decide)]


def test_cards_not_yet_heard_of_are_unknown_and_refuse_nobody() -> None:
    node = Node(cards=0)
    assert node.place(a_slice("a", 30, 40000)) == []
    assert state_of(node.tell(Arrived(2.0, a_topology()))).refused == {}
    assert node.tell(Gone(3.0, TOPOLOGY, "n1")) == []


def test_a_node_without_cards_says_nothing_unless_somebody_was_sent_there() -> None:
    node = Node(cards=0)
    assert node.tell(Arrived(0.0, a_topology(cards=0))) == []
    assert node.place(a_placement("cpu", {}, [])) == []
    assert "the node has no such card" in state_of(node.place(a_slice("a", 30, 40000))).refused["a"]


def test_the_state_is_told_on_change_only_and_again_when_it_could_not_be_told() -> None:
    node = Node()
    put = next(item for item in node.place(a_slice("a", 30, 40000)) if isinstance(item, Put))
    assert node.tell(Tick(5.0, "tell")) == []
    assert node.tell(Failed(6.0, put, "away", may_retry=True)) == []
    assert state_of(node.tell(Tick(10.0, "tell"))).cards == put.value.cards


def test_an_entry_heard_twice_changes_nothing() -> None:
    node = Node()
    node.place(a_slice("a", 30, 40000))
    node.seq -= 1
    assert node.place(a_slice("a", 30, 40000)) == []


def test_a_checkpoint_is_the_same_state() -> None:
    node = Node()
    placements = (a_slice("a", 30, 40000), a_slice("b", 20, 1000))
    for placement in placements:
        node.place(placement)
    assert node.entry(Checkpoint(at=2.0, source="scheduler", node="n1", placements=placements)) == []


def test_gpushare_does_not_import_numpy() -> None:
    code = "import sys, neap.gpushare.wiring; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=SOON).returncode == 0


def networked(uid: str, ask: DeviceAsk | None, parts: dict[str, int], *, cards: int = 1, first: int = 0) -> Placement:
    """A pod with whole cards from `first` on, and parts of network cards."""
    asks = {"train": (100 * cards, 0)} if cards else {"train": (0, 0)}
    shares = [("train", first + n, 100, MEMORY) for n in range(cards)]
    placement = a_placement(uid, asks, shares)
    devices = tuple(DeviceShare(address=address, percent=percent) for address, percent in parts.items())
    workload = msgspec.structs.replace(placement.workload, devices=ask)
    return msgspec.structs.replace(placement, workload=workload, devices=devices)


def a_networked_node() -> Node:
    node = Node(cards=0)
    nics = tuple(
        Device(kind=kind, address=address, names=names)
        for kind, address, names in (
            (ZoneKind.RDMA, "0000:81:00.0", ("ib0", "mlx5_0")),
            (ZoneKind.RDMA, "0000:82:00.0", ("mlx5_1",)),
            (ZoneKind.NIC, "0000:83:00.0", ("eth0",)),
        )
    )
    node.tell(Arrived(0.0, msgspec.structs.replace(a_topology(), devices=nics)))
    return node


def test_network_cards_are_given_in_percent_and_named_to_the_containers() -> None:
    node, half = a_networked_node(), DeviceAsk(gpus=1, nics=2, nic_percent=50)
    out = node.place(networked("a", half, {"0000:81:00.0": 50, "0000:82:00.0": 50}))
    state = state_of(out)
    assert state.cards[0].allocations[0].environment["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1"
    assert [(network.name, network.free, network.given) for network in state.networks] == [
        ("mlx5_0", 50, {"a": 50}),
        ("mlx5_1", 50, {"a": 50}),
    ]
    assert line_of(out)[1].endswith("; 50 % of network card mlx5_1 (now 50 % left), accounted-only")
    state_of(node.place(networked("b", DeviceAsk(nics=1, nic_percent=50), {"0000:81:00.0": 50}, cards=0)))
    third = networked("c", DeviceAsk(gpus=1, nics=1, nic_percent=10), {"0000:81:00.0": 10}, first=1)
    state = state_of(node.place(third))
    assert state.refused == {"c": "network card 0000:81:00.0: 10 % asked, 0 % left"}
    assert not state.cards[1].allocations, "refused whole"
    assert [network.given for network in state_of(node.release("a")).networks] == [{"b": 50, "c": 10}]


def test_network_cards_that_are_not_what_was_asked_are_refused() -> None:
    one, rdma = DeviceAsk(gpus=1, nics=1, nic_percent=30), "0000:81:00.0"
    cases = {
        "nothing asked": (None, {rdma: 30}, "a share for a pod that asks for none"),
        "other amount": (one, {rdma: 40}, "40 % placed, 30 % asked"),
        "too many": (one, {rdma: 30, "0000:82:00.0": 30}, "1 network cards asked, 2 placed"),
        "not there": (one, {"0000:99:00.0": 30}, "network card 0000:99:00.0: the node has no such rdma"),
        "another fabric": (one, {"0000:83:00.0": 30}, "the node has no such rdma"),
    }
    for name, (ask, parts, why) in cases.items():
        assert why in state_of(a_networked_node().place(networked("x", ask, parts))).refused["x"], name
    silent = state_of(a_networked_node().place(networked("x", one, {})))
    assert not silent.refused, "a scheduler that gives no network cards away"
