"""Nodes with GPUs and network cards on switches, for tests of device affinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from neap.common.model.affinity import DeviceAsk
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY
from neap.common.model.topology import Card, Device, NodeTopology, NumaNode, ZoneKind
from neap.common.model.workload import Container, Workload
from tests.unit.scheduler_world import a_node, an_owner

MEMORY_MIB = 16_000


def gpu(number: int) -> str:
    return f"0000:{number:02x}:00.0"


def nic(number: int) -> str:
    return f"0000:{0x80 + number:02x}:00.0"


def behind(address: str, kind: ZoneKind, numa: int, root: str, switch: str = "", names: tuple[str, ...] = ()) -> Device:
    """A device on its own root port, or on a port of a switch."""
    port = f"0000:f0:{address[5:7]}.0"
    path = (root, f"0000:e0:{switch}.0", f"0000:e1:{switch}.0", port) if switch else (root, port)
    return Device(kind=kind, address=address, numa=numa, path=path, names=names)


def a_box(gpus: int = 8, nics: int = 4) -> list[Device]:
    """Per NUMA node one root complex with two switches, each with a quarter of the devices (requirement 000-24)."""
    return [
        behind(gpu(n), ZoneKind.GPU, n * 2 // gpus, f"pci0000:0{n * 2 // gpus}", f"{n * 4 // gpus:02x}")
        for n in range(gpus)
    ] + [
        behind(nic(n), ZoneKind.RDMA, n * 2 // nics, f"pci0000:0{n * 2 // nics}", f"{n * 4 // nics:02x}", (f"ib{n}", f"mlx5_{n}"))
        for n in range(nics)
    ]  # fmt: skip


def a_gpu_node(name: str = "g1", devices: Sequence[Device] | None = None, **more: Any) -> NodeTopology:
    """A node whose GPUs are cards, in their order."""
    found = a_box() if devices is None else devices
    gpus = [device for device in found if device.kind is ZoneKind.GPU]
    cards = tuple(
        Card(index=index, uuid=f"GPU-{index}", model="T4", memory_mib=MEMORY_MIB, numa=one.numa, pci=one.address)
        for index, one in enumerate(gpus)
    )
    numa = tuple(NumaNode(index=index, cpus="", memory=1) for index in range(2))
    node = a_node(name, cores=1000, gib=4000)
    return msgspec.structs.replace(node, **{"cards": cards, "devices": tuple(found), "numa": numa} | more)


def a_trainer(
    uid: str = "t1", ask: DeviceAsk | None = None, *, gpus: Sequence[tuple[int, int]] | None = None, **more: Any
) -> Workload:
    """A pod with one container per (core, memory) of `gpus`; without them one that wants as many whole cards as asked."""
    wanted = gpus if gpus is not None else [(100 * ask.gpus, 0)] if ask and ask.gpus else []
    requests = [{CPU: 1000, GPU_CORE: core} | ({GPU_MEMORY: memory} if memory else {}) for core, memory in wanted]
    containers = tuple(Container(name=f"c{number}", requests=amounts) for number, amounts in enumerate(requests))
    return an_owner(
        uid, **{"containers": containers or (Container(name="c0", requests={CPU: 1000}),), "devices": ask} | more
    )
