"""GPUs and network cards near each other: the node that has them, and which of its devices they are.

    filter   devices missing for the wish = 0: by count, group by group (see core.device_wish)
    score    75 · near + 25 · fill                                                                         [0..100]
    reserve  the best set of devices, exactly (see common.model.affinity); cards go to containers by gpu_share's
             rules, named in `prefer`; network cards are given by percent of their bandwidth

Where NUMA nodes were given before, devices inside them are taken if there are enough; else nearness among the devices
counts more, and the sentence says so. How many GPUs are wanted near each other is what the workload says; how much of
each, what its containers ask.

The decision names the class of the way between each GPU and each network card. Up to PXB traffic between them does
not touch the processor: GPUDirect RDMA is at its best. PHB crosses the host bridge, NODE and SYS the processor.

Units: devices; percent. When not: a pod that wants no devices near each other costs nothing.
Source: requirements 000-24, 000-25, 001-07, 002-47, ruling 1.7.1; NVIDIA, GPUDirect RDMA (supported systems).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from neap.common.model.affinity import NOUNS, DeviceChoice, Refusal, Strength
from neap.common.model.pcie import PathClass
from neap.common.model.placement import DeviceShare
from neap.common.model.topology import Card, Device, ZoneKind
from neap.scheduler.core.choice.device_division import Division
from neap.scheduler.core.choice.framework import Near, Parts, Plugin, Rule
from neap.scheduler.core.nodes.change import NodeChanged
from neap.scheduler.core.nodes.devices import wish_columns
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.device_wish import Machine, Wish, wish_of
from neap.scheduler.core.pods.pod import Pod

WAKES: Final = frozenset({NodeChanged.DEVICE, NodeChanged.NODE_ADDED})
DIRECT: Final = (PathClass.PIX, PathClass.PXB)
MOST_PAIRS: Final = 8  # told of one choice


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set: level and strength are the workload's."""


def have_devices(pod: Pod, view: View, _: Settings) -> Sequence[Rule]:
    """One rule: so many of them, so near."""
    wish = wish_of(pod)
    if wish is None:
        return ()
    missing = _column(view, wish, 0)

    def near() -> Near:
        verdicts = _column(view, wish, 2)

        def tell(row: int) -> str:
            return f"{{node}}: {verdicts[row].tell()}" if verdicts[row] else "{node}: its devices are unknown"

        def change(row: int) -> str:
            if not np.isfinite(missing[row]):
                return "{node} telling its devices"
            more = f"{missing[row]:.0f} more of them free on {{node}}"
            hard = wish.ask.strength is not Strength.SOFT
            return f"{more} in one {NOUNS[wish.ask.level][0]}, or a wider or softer level" if hard else more

        return Near(missing, tell, change)

    return (Rule(wish.reason, missing <= 0, WAKES, near),)


def nearness(pod: Pod, view: View, _: Settings) -> Numbers | None:
    """Shape (rows,), 0..100; None for a pod that wants no devices."""
    wish = wish_of(pod)
    return None if wish is None else np.asarray(_column(view, wish, 1), dtype=np.float64)


def choose(pod: Pod, table: NodeTable, row: int, _: Settings, given: Parts) -> Parts | str:
    """The devices of one node."""
    wish = wish_of(pod)
    if wish is None:
        return given
    machine = table.devices.machine(row)
    if machine is None:
        return "its devices are unknown"
    found = table.devices.division(row, wish, given.numa)
    if isinstance(found, Refusal):
        return f"{found.why}; {found.nearest}"
    shares = tuple(DeviceShare(address=nic, percent=wish.ask.nic_percent) for nic in found.choice.nics)
    why = tell_choice(machine, table.cards.of(row), wish, found, given.numa)
    return replace(given, prefer=found.cards, devices=(*given.devices, *shares), why=(*given.why, why))


def tell_choice(
    machine: Machine, on_node: Sequence[Card], wish: Wish, found: Division, numa: Sequence[int] = ()
) -> str:
    """What was chosen, where, how near, in one sentence."""
    devices = {device.address: device for device in machine.tree.devices}
    cards = {
        machine.tree.devices[position].address: f"card {card.index}"
        for card, position in zip(on_node, machine.cards, strict=True)
        if position >= 0
    }
    choice, level = found.choice, wish.ask.level.value
    names = [*(cards[address] for address in choice.gpus), *(name_of(devices[address]) for address in choice.nics)]
    held = "satisfied" if len(choice.groups) == 1 else f"spread over {len(choice.groups)} {NOUNS[wish.ask.level][1]}"
    said = [f"{', '.join(names)} of {', '.join(choice.groups)}", f"level {level} {held}"]
    if choice.near:
        told = [f"{cards[near.gpu]}-{name_of(devices[near.nic])} {near.path.value}" for near in choice.near]
        said.append(", ".join(told[:MOST_PAIRS] + [f"and {len(told) - MOST_PAIRS} more"] * (len(told) > MOST_PAIRS)))
        said.append(_direct(choice, devices))
    if numa and any(devices[address].numa not in numa for address in (*choice.gpus, *choice.nics)):
        said.append(f"not all of it near NUMA node {', '.join(map(str, numa))}, where its CPUs are")
    return "; ".join(said)


def name_of(device: Device) -> str:
    """What people call a network card: its RDMA device, else its interface, else its address."""
    return device.names[-1] if device.names else device.address


def _direct(choice: DeviceChoice, devices: dict[str, Device]) -> str:
    """For how many pairs GPUDirect RDMA does not touch the processor."""
    rdma = [near for near in choice.near if devices[near.nic].kind is ZoneKind.RDMA]
    if not rdma:
        return "GPUDirect RDMA impossible: no RDMA device"
    past = sum(near.path in DIRECT for near in rdma)
    return f"GPUDirect RDMA past the processor for {past} of {len(choice.near)} pairs"


def _column(view: View, wish: Wish, which: int) -> Any:
    """A column of a wish; where nobody asked for it (see Keeper.ask), nothing is known of any node."""
    try:
        return view.column(wish_columns(wish)[which])
    except KeyError:
        return (np.full(view.size, np.inf), np.zeros(view.size), np.zeros(view.size, dtype=np.object_))[which]


PLUGIN: Final = Plugin(settings=Settings, wakes=WAKES, filter=have_devices, score=nearness, reserve=choose)
