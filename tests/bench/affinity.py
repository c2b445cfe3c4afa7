"""Choosing devices: milliseconds a choice on machines as the reporter reads them, and whether it is the best one.

Machines: vendors' files (../shared/data/pcie, where it is), and a captured machine with eight accelerators on two
switches. Then what is not there to be read: two sockets with eight or sixteen GPUs, and the same with NVLinks drawn at
random, so that no two GPUs look alike. Asks and what is taken are drawn; every choice on a machine of up to nine GPUs
is compared with all sets.

The last rows are decisions of a scheduler on 10,000 nodes of four shapes, a third of them busy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Final

from neap.common.model.affinity import DeviceAsk, DeviceChoice, Strength, choose_devices
from neap.common.model.device_tree import LEVELS, DeviceTree, device_tree, tree_of
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE
from neap.common.model.topology import Card, Device, NodeTopology, Zone, ZoneKind
from neap.common.model.workload import Container, Workload
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.nccl import read_nccl
from neap.reporter.shell.host import read_snapshot
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies
from neap.virtual.kernel import VirtualHost
from neap.virtual.snapshot import load_snapshot
from tests.bench.measure import Row, rate
from tests.bench.samples import EXAMPLES, uid
from tests.laws.device_oracle import best_devices

PCIE: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "pcie"
CAPTURED: Final = "32intel64-2p8co2t+8ve.tar.bz2"
MOST: Final = 10.0  # ms a choice
ASKS, CHECKED = 60, 9  # choices per machine; GPUs of a machine up to which every set is looked at
NODES, DECISIONS = 10_000, 400


def rows() -> Iterator[Row]:
    for name, trees in machines():
        seconds, wrong, refused = _choices(trees)
        rough = ", by groups alone" if any(tree.rough for tree in trees) else ""
        note = f"{len(seconds)} choices, {refused} refused{rough}"
        yield Row(name=f"devices of {name}: the slowest choice", value=max(seconds) * 1e3, unit="ms",
                  at_most=MOST, note=note)  # fmt: skip
        if wrong is not None:
            yield Row(name=f"devices of {name}: choices that are not the best", value=wrong, unit="", at_most=0.0)
    yield from _decisions()


def machines() -> Iterator[tuple[str, list[DeviceTree]]]:
    """Trees by name; several where they are drawn."""
    if PCIE.is_dir():
        for name in ("ndv2", "ncv4"):
            yield name, [device_tree(read_nccl((PCIE / f"{name}-topo.xml").read_text()))]
    host = VirtualHost(load_snapshot(EXAMPLES / "machines" / CAPTURED), node="n1")
    found = build(read_snapshot(host), node="n1", at=1.0, reserve=Reserve(memory=1 << 30), labels={})
    yield "the captured machine", [tree_of(found)]
    for gpus in (8, 16):
        yield f"{gpus} GPUs on switches", [device_tree(a_box(gpus))]
        yield f"{gpus} GPUs, NVLinks at random", [device_tree(a_box(gpus), links(gpus, seed)) for seed in range(6)]


def a_box(gpus: int) -> list[Device]:
    """Two sockets, two switches each; a network card for every two GPUs."""

    def behind(kind: ZoneKind, number: int, place: int) -> Device:
        port, switch = f"0000:f0:{number:02x}.0", f"0000:e{place % 2}:0{place}.0"
        path = (f"pci0000:{place // 2:02x}", switch, f"{switch}.1", port)
        return Device(kind=kind, address=f"0000:{number:02x}:00.0", numa=place // 2, path=path)

    cards = [behind(ZoneKind.GPU, n, n * 4 // gpus) for n in range(gpus)]
    return cards + [behind(ZoneKind.RDMA, 0x80 + n, n * 8 // gpus) for n in range(gpus // 2)]


def links(gpus: int, seed: int) -> dict[tuple[str, str], int]:
    """NVLinks between any two GPUs, 0 to 4."""
    random, cards = Random(seed), [device.address for device in a_box(gpus)[:gpus]]
    return {pair: random.randrange(5) for pair in combinations(cards, 2)}


def _choices(trees: Iterable[DeviceTree]) -> tuple[list[float], int | None, int]:
    """Seconds of each choice, how many were not the best (None: not looked), how many were refused."""
    seconds, wrong, refused, looked = list[float](), 0, 0, False
    for seed, tree in enumerate(trees):
        random = Random(seed)
        for ask in _asks(random, tree):
            left = {device.address: random.choice([100, 100, 100, 50, 0]) for device in tree.devices}
            began = time.process_time()
            got = choose_devices(tree, left, ask)
            seconds.append(time.process_time() - began)
            chosen = {*got.gpus, *got.nics} if isinstance(got, DeviceChoice) else None
            refused += chosen is None
            if sum(map(tree.is_gpu, range(len(tree.devices)))) <= CHECKED:
                looked, wrong = True, wrong + (chosen != best_devices(tree, left, ask))
    return seconds, wrong if looked else None, refused


def _asks(random: Random, tree: DeviceTree) -> Iterator[DeviceAsk]:
    gpus = sum(map(tree.is_gpu, range(len(tree.devices))))
    for level, strength, _ in product(LEVELS, Strength, range(ASKS // 12)):
        yield DeviceAsk(
            gpus=random.randint(1, max(1, gpus // 2)),
            nics=random.randint(0, 2),
            fabric=random.choice([ZoneKind.RDMA, ZoneKind.NIC]),
            gpu_percent=random.choice([100, 50]),
            nic_percent=random.choice([100, 25]),
            level=level,
            strength=strength,
        )


def _decisions() -> Iterator[Row]:
    """Pods of two GPUs and a network card each, one after the other."""
    settings = Settings()
    table = NodeTable(guess=settings.guess, staleness=settings.stale)
    cycle = Cycle(table, policies(settings), quantum=settings.quantum, shapes=settings.shapes)
    for number in range(NODES):
        table.describe(_node(number))
    numbers = iter(range(1 << 30))
    kinds = [DeviceAsk(gpus=2, nics=1, nic_percent=50, level=level, strength=Strength.HARD) for level in LEVELS[:3]]

    def decide(count: int) -> int:
        for number in (next(numbers) for _ in range(count)):
            decision = cycle.decide(pod_of(_trainer(number, kinds[number % 3])), 1.0)
            assert decision.placement is not None
        return count

    decide(NODES // 3)
    yield Row(name=f"device affinity: decisions at {NODES:,} GPU nodes", value=rate(lambda: decide(DECISIONS)),
              unit="decisions/s", note="2 GPUs and half a network card each, hard")  # fmt: skip


def _node(number: int) -> NodeTopology:
    devices = a_box((8, 8, 4, 16)[number % 4])
    gpus = [device for device in devices if device.kind is ZoneKind.GPU]
    cards = tuple(
        Card(index=index, uuid=f"GPU-{number}-{index}", model="A100-80G", memory_mib=81920, numa=gpu.numa,
             pci=gpu.address)
        for index, gpu in enumerate(gpus)
    )  # fmt: skip
    amounts = {CPU: 128_000, GPU_CORE: 100 * len(cards)}
    return NodeTopology(at=0.0, source="bench", node=f"g{number}", machine=Zone(kind=ZoneKind.MACHINE, index=0),
                        numa=(), cards=cards, devices=tuple(devices), capacity=amounts, allocatable=amounts)  # fmt: skip


def _trainer(number: int, ask: DeviceAsk) -> Workload:
    main = Container(name="main", requests={CPU: 8_000, GPU_CORE: 100 * ask.gpus})
    return Workload(uid=uid(number), namespace="ml", name=f"train-{number}", qos=QosClass.DEDICATED,
                    containers=(main,), devices=ask)  # fmt: skip
