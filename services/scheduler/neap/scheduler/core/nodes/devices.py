"""GPUs and network cards of every node: how they hang together, and what is left of them.

Few machines of a fleet have different trees, so a tree is made once for all nodes that look alike. What is left is
percent of a network card's bandwidth (Placement.devices) and what `cards` says of cards, which are devices by their
bus address; a card that no device tells of has no known place.

For each wish that was asked lately (see device_wish) there are columns, brought up to date by `ask`:

    missing    devices missing for it; 0: it fits            score    see device_wish, 0..100
    verdict    the Verdict, for the sentence about a node

A verdict is worked out once per machine, state and wish. Cost of `ask`: O(rows changed since the wish was last asked).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final

import msgspec
import numpy as np

from neap.common.model.affinity import Refusal
from neap.common.model.device_tree import LEVELS, NETWORK, WHOLE, tree_of
from neap.common.model.placement import Placement
from neap.common.model.topology import Card, Device, NodeTopology, ZoneKind
from neap.scheduler.core.choice.device_division import Division, divide
from neap.scheduler.core.nodes.cards import CARDS, Cards
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.gang_cards import GangCards
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.pods.device_wish import Machine, State, Verdict, Wish, judge, wish_of
from neap.scheduler.core.pods.pod import Pod

MOST_WISHES: Final = 64  # that have columns
MOST_VERDICTS: Final = 1 << 16  # remembered, of all wishes
MOST_DIVISIONS: Final = 1 << 10
MOST_MACHINES: Final = 1 << 12  # shapes remembered
LONGEST_LOG: Final = 1 << 16  # changes remembered; who missed more looks at every node


class Devices(Keeper):
    """See module docstring."""

    def __init__(self, columns: Columns, cards: Cards, gangs: GangCards) -> None:
        self._columns, self._cards, self._gangs = columns, cards, gangs
        self._machines: dict[int, Machine] = {}  # by row
        self._used: dict[int, dict[str, int]] = {}  # by row: percent by address
        self._states: dict[int, State] = {}  # by row, until it changes
        self._shapes: OrderedDict[Hashable, Machine] = OrderedDict()
        self._made = 0
        self._log: list[int] = []  # rows, as they changed
        self._trimmed = 0  # entries of the log that are forgotten
        self._asked: OrderedDict[Wish, int] = OrderedDict()  # -> entries of the log it knows
        self._verdicts: OrderedDict[Hashable, Verdict] = OrderedDict()
        self._divisions: OrderedDict[Hashable, Division | Refusal] = OrderedDict()

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:  # noqa: ARG002
        """What hangs where; what is held is known from the charges."""
        self._machines[row] = self._machine(topology)
        self._change(row)
        return ()

    def charge(self, row: int, placement: Placement, sign: int) -> Iterable[int]:
        """Network cards by percent; cards were told before."""
        if not placement.devices and not placement.gpus:
            return ()
        used = self._used.setdefault(row, {})
        for share in placement.devices:
            used[share.address] = used.get(share.address, 0) + sign * share.percent
            if not used[share.address]:
                del used[share.address]
        self._change(row)
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """None: wants no devices; else the columns of its wish exist and are up to date."""
        wish = wish_of(pod)
        if wish is None:
            return None
        missing, score, verdict = names = wish_columns(wish)
        known = self._asked.pop(wish, -1)
        rows: Iterable[int] = self._machines
        if known >= self._trimmed:
            rows = {row: None for row in self._log[known - self._trimmed :] if row in self._machines}
        elif known < 0:
            for name, kind in zip(names, (np.float64, np.float64, np.object_), strict=True):
                self._columns.add(name, kind, fill=np.inf if name == missing else 0)
        self._asked[wish] = self._trimmed + len(self._log)
        for row in rows:
            found = self._verdict(row, wish)
            self._columns[missing][row], self._columns[score][row] = found.missing, found.score
            self._columns[verdict][row] = found
        if len(self._asked) > MOST_WISHES:
            for name in wish_columns(self._asked.popitem(last=False)[0]):
                self._columns.drop(name)
        return names

    def machine(self, row: int) -> Machine | None:
        """How the devices of a node hang together; None for a node that was not described."""
        return self._machines.get(row)

    def state(self, row: int, wish: Wish) -> State:
        """What is left on a node, as far as the wish is concerned."""
        state = self._states.get(row)
        if state is None:
            machine, used = self._machines[row], self._used.get(row, {})
            left = tuple(max(0, WHOLE - used.get(machine.tree.devices[nic].address, 0)) for nic in machine.nics)
            state = self._states[row] = State(self._cards.rooms(row), left)
        barred = self._gangs.of(wish.gang, row) if wish.gang else frozenset()
        return state._replace(barred=barred) if barred else state

    def division(self, row: int, wish: Wish, numa: tuple[int, ...] = ()) -> Division | Refusal:
        """The devices of a node for a wish, exactly; in those NUMA nodes, if that is possible."""
        machine, state = self._machines[row], self.state(row, wish)
        key = (machine.number, state, wish, numa)
        found = self._divisions.get(key)
        if found is None:
            found = self._divisions[key] = divide(machine, state, wish, numa)
            if len(self._divisions) > MOST_DIVISIONS:
                self._divisions.popitem(last=False)
        return found

    def validate(self) -> None:
        """No network card gives more than it has."""
        for row, used in self._used.items():
            assert all(0 < percent <= WHOLE for percent in used.values()), f"row {row}: {used}"

    def _verdict(self, row: int, wish: Wish) -> Verdict:
        machine, state = self._machines[row], self.state(row, wish)
        key = (machine.number, state, wish)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = judge(machine, state, wish)
            if len(self._verdicts) > MOST_VERDICTS:
                self._verdicts.popitem(last=False)
        return found

    def _change(self, row: int) -> None:
        self._states.pop(row, None)
        if not self._asked:
            return
        self._log.append(row)
        if len(self._log) > LONGEST_LOG:
            self._trimmed += len(self._log) // 2
            del self._log[: len(self._log) // 2]

    def _machine(self, topology: NodeTopology) -> Machine:
        cards = topology.cards[:CARDS]
        devices = _devices(topology, cards)
        one_node = topology.numa[0].index if len(topology.numa) == 1 else None
        key = (devices, topology.links, one_node)
        found = self._shapes.get(key)
        if found is None:
            self._made += 1
            found = self._shapes[key] = _made(self._made, topology, devices, len(cards))
            if len(self._shapes) > MOST_MACHINES:
                self._shapes.popitem(last=False)
        return found


def wish_columns(wish: Wish) -> tuple[str, str, str]:
    """The columns of a wish: what is missing, its score, the verdict."""
    return (f"devices/{wish.name}/missing", f"devices/{wish.name}/score", f"devices/{wish.name}/verdict")


def _devices(topology: NodeTopology, cards: tuple[Card, ...]) -> tuple[Device, ...]:
    """One device per card, in the order of the cards, then the network cards. GPUs that no driver shows are nobody's."""
    known = {device.address: device for device in topology.devices if device.kind is ZoneKind.GPU}
    found = list[Device]()
    for card in cards:
        device = known.pop(card.pci, None)
        if device is None:
            address = card.pci if card.pci and all(card.pci != one.address for one in found) else f"card {card.index}"
            device = Device(kind=ZoneKind.GPU, address=address, numa=card.numa)
        found.append(device)
    nics = (device for device in topology.devices if device.kind in NETWORK)
    return (*found, *(_bare(device) for device in nics))


def _bare(device: Device) -> Device:
    """Without what may differ between machines of one make and places nothing."""
    return msgspec.structs.replace(device, vendor="", model="", cpus="")


def _made(number: int, topology: NodeTopology, devices: tuple[Device, ...], cards: int) -> Machine:
    tree = tree_of(msgspec.structs.replace(topology, devices=devices))
    position = {device.address: place for place, device in enumerate(tree.devices)}
    gpus = sum(1 << place for place in range(len(tree.devices)) if tree.is_gpu(place))
    masks = {
        level: tuple(
            ((bits := sum(1 << member for member in group.members)) & gpus, bits & ~gpus, group.known)
            for group in tree.of_level(level)
        )
        for level in LEVELS
    }
    nics = range(gpus.bit_count(), len(tree.devices))
    return Machine(number, tree, tuple(position.get(device.address, -1) for device in devices[:cards]), masks, nics)
