"""Laws of device affinity: the choice is the least of all sets, whatever the order, and freeing never hurts.

The oracle knows the machine as it was drawn, by labels; it looks at every set and counts what the module's docstring
says, one criterion after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.affinity import DeviceAsk, DeviceChoice, Strength, choose_devices, fewest_groups
from neap.common.model.device_tree import LEVELS, POINTS, Level, device_tree
from neap.common.model.pcie import path_class
from neap.common.model.topology import Device, ZoneKind

Key: TypeAlias = tuple[object, ...]
LINKS = st.sampled_from([0, 0, 1, 2, 4])


@dataclass(frozen=True)
class Drawn:
    """A device and the group it is in at each level; at the levels in `lost` nobody knows."""

    device: Device
    labels: dict[Level, str]
    lost: frozenset[Level]

    @property
    def is_gpu(self) -> bool:
        return self.device.kind is ZoneKind.GPU


@dataclass(frozen=True)
class Case:
    machine: tuple[Drawn, ...]  # GPUs first, by address
    links: dict[tuple[str, str], int]
    left: dict[str, int]
    ask: DeviceAsk
    only: frozenset[str] | None
    must: frozenset[str]

    def of(self, kinds: Sequence[ZoneKind]) -> list[Drawn]:
        return [drawn for drawn in self.machine if drawn.device.kind in kinds]

    def sides(self) -> list[tuple[list[Drawn], int, int]]:
        """Per kind asked: its devices, how many, what percent of each."""
        ask = self.ask
        found = [
            (self.of([ZoneKind.GPU]), ask.gpus, ask.gpu_percent),
            (self.of(ask.fabrics), ask.nics, ask.nic_percent),
        ]
        return [side for side in found if side[1]]

    def candidates(self) -> list[tuple[list[Drawn], int]]:
        hard = self.ask.strength is not Strength.SOFT
        return [
            (
                [
                    drawn
                    for drawn in drawns
                    if self.left[drawn.device.address] >= percent
                    and (self.only is None or drawn.device.address in self.only)
                    and not (hard and self.ask.level in drawn.lost)
                ],
                count,
            )
            for drawns, count, percent in self.sides()
        ]


@st.composite
def machines(draw: st.DrawFn) -> tuple[Drawn, ...]:
    """Up to 2 nodes × 2 root complexes × 2 switches; some cards have a switch of their own, some have no place."""
    spots = []
    for kind, most in ((ZoneKind.GPU, 8), (ZoneKind.RDMA, 3), (ZoneKind.NIC, 1)):
        for _ in range(draw(st.integers(1 if kind is ZoneKind.GPU else 0, most))):
            root = draw(st.sampled_from(["00", "01", "10", "11"]))
            spots.append((kind, root, draw(st.sampled_from(["a", "a", "b", ""])), draw(st.integers(0, 9))))
    numbers = draw(st.permutations(range(len(spots))))
    silent = {number: draw(st.integers(0, 9)) == 9 for number in numbers}
    telling = {spot[1] for number, spot in zip(numbers, spots, strict=True) if spot[3] != 9 and not silent[number]}
    found = []
    for number, (kind, root, switch, odd) in zip(numbers, spots, strict=True):
        address, numa, lost = f"0000:{number:02x}:00.0", int(root[0]), set[Level]()
        numa = -1 if silent[number] else numa
        alone = f"alone {address}"
        if odd == 9:  # no path
            path: tuple[str, ...] = ()
            lost = {Level.SWITCH, Level.ROOT} | ({Level.NUMA} if numa < 0 else set())
            labels = {Level.SWITCH: alone, Level.ROOT: alone, Level.NUMA: alone if numa < 0 else f"node {numa}"}
        else:
            port = f"0000:{root}:{number:02x}.1"
            path = (f"pci0000:{root}", port)
            if switch:
                path = (f"pci0000:{root}", f"0000:{root}:0{switch}.0", f"0000:{root}:1{switch}.0", port)
            if odd == 8:  # a switch of its own
                path = (*path, f"{port}.up", f"{port}.down")
            node = f"node {root[0]}" if root in telling else f"root {root}"
            labels = {Level.SWITCH: f"{root} {switch}" if switch else alone, Level.ROOT: root, Level.NUMA: node}
        labels[Level.NODE] = "node"
        found.append(Drawn(Device(kind=kind, address=address, numa=numa, path=path), labels, frozenset(lost)))
    return tuple(sorted(found, key=lambda drawn: (not drawn.is_gpu, drawn.device.address)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    machine = draw(machines())
    gpus = [drawn.device.address for drawn in machine if drawn.is_gpu]
    alike = draw(st.booleans())
    links = {pair: 0 if alike else draw(LINKS) for pair in combinations(gpus, 2)}
    left = {drawn.device.address: draw(st.sampled_from([100, 100, 100, 50, 20, 0])) for drawn in machine}
    want_gpus, want_nics = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    ask = DeviceAsk(
        gpus=want_gpus,
        nics=want_nics if want_gpus else max(1, want_nics),
        fabric=draw(st.sampled_from([ZoneKind.RDMA, ZoneKind.NIC])),
        gpu_percent=draw(st.sampled_from([100, 50, 30])),
        nic_percent=draw(st.sampled_from([100, 50, 20])),
        level=draw(st.sampled_from(LEVELS)),
        strength=draw(st.sampled_from(Strength)),
    )
    addresses = st.sampled_from(sorted(left))
    only = draw(st.one_of(st.none(), st.none(), st.frozensets(addresses, min_size=min(3, len(left)))))
    must = draw(st.one_of(st.just(frozenset[str]()), st.frozensets(addresses, max_size=1)))
    return Case(machine, links, left, ask, only, must)


def in_use(chosen: Sequence[Drawn], level: Level) -> dict[str, list[Drawn]]:
    found: dict[str, list[Drawn]] = {}
    for drawn in chosen:
        found.setdefault(drawn.labels[level], []).append(drawn)
    return found


def lonely(case: Case, chosen: Sequence[Drawn], level: Level) -> int:
    used = in_use(chosen, level).values()
    return sum(len({drawn.is_gpu for drawn in group}) == 1 for group in used) if case.ask.gpus and case.ask.nics else 0


def broken(case: Case, chosen: Sequence[Drawn], level: Level) -> int:
    count = 0
    for drawns, _, percent in case.sides():
        after: dict[str, list[int]] = {}
        for drawn in drawns:
            room = case.left[drawn.device.address] - (percent if drawn in chosen else 0)
            after.setdefault(drawn.labels[level], []).append(room)
        count += sum(any(room < 100 for room in group) and any(room > 0 for room in group) for group in after.values())
    return count


def points(case: Case, chosen: Sequence[Drawn]) -> int:
    total = 0
    for a, b in combinations(chosen, 2):
        if a.is_gpu or b.is_gpu:
            total += POINTS[path_class(a.device, b.device)]
            total += 100 * case.links.get((a.device.address, b.device.address), 0)
    return total


def criteria(case: Case, chosen: Sequence[Drawn]) -> Key:
    level = case.ask.level
    place = LEVELS.index(level)
    wider = LEVELS[place + 1 : -1]
    first: Key = ()
    inside: Key = ()
    beside = 0
    if level is not Level.NODE:
        used = in_use(chosen, level)
        first = (
            len(used),
            lonely(case, chosen, level),
            *(len(in_use(chosen, other)) for other in wider),
            *(broken(case, chosen, other) for other in (level, *wider)),
        )
        beside = sum(drawn.labels[level] in used and case.left[drawn.device.address] > 0 for drawn in case.machine)
        for other in reversed(LEVELS[:place]):
            inside = (*inside, lonely(case, chosen, other), broken(case, chosen, other))
    room = sum(case.left[drawn.device.address] for drawn in chosen)
    return (*first, -points(case, chosen), beside, *inside, room, sorted(case.machine.index(drawn) for drawn in chosen))


def sets(case: Case, candidates: list[tuple[list[Drawn], int]]) -> list[tuple[Drawn, ...]]:
    parts = product(*(combinations(drawns, count) for drawns, count in candidates))
    found = [tuple(drawn for part in choice for drawn in part) for choice in parts]
    return [chosen for chosen in found if case.must <= {drawn.device.address for drawn in chosen}]


def allowed(case: Case) -> int:
    """How many groups may be used."""
    if case.ask.strength is Strength.SOFT:
        return 99
    if case.ask.strength is Strength.HARD:
        return 1
    level = case.ask.level
    every = [([drawn for drawn in drawns if level not in drawn.lost], count) for drawns, count, _ in case.sides()]
    parts = product(*(combinations(drawns, count) for drawns, count in every))
    return min((len({drawn.labels[level] for part in choice for drawn in part}) for choice in parts), default=1)


def best(case: Case) -> set[str] | None:
    level, most = case.ask.level, allowed(case)
    possible = [chosen for chosen in sets(case, case.candidates()) if len(in_use(chosen, level)) <= most]
    found = min(possible, key=lambda chosen: criteria(case, chosen), default=None)
    return None if found is None else {drawn.device.address for drawn in found}


def choose(case: Case, devices: Sequence[Device] | None = None, left: dict[str, int] | None = None) -> set[str] | None:
    tree = device_tree([drawn.device for drawn in case.machine] if devices is None else devices, case.links)
    found = choose_devices(tree, case.left if left is None else left, case.ask, only=case.only, must=case.must)
    return {*found.gpus, *found.nics} if isinstance(found, DeviceChoice) else None


@given(cases())
def test_the_choice_is_the_least_of_all_sets(case: Case) -> None:
    assert choose(case) == best(case)


@given(cases(), st.data())
def test_the_order_of_the_devices_does_not_matter(case: Case, data: st.DataObject) -> None:
    mixed = data.draw(st.permutations([drawn.device for drawn in case.machine]))
    assert choose(case, mixed) == choose(case)


@given(cases(), st.data())
def test_freeing_devices_never_makes_an_ask_infeasible(case: Case, data: st.DataObject) -> None:
    freed = {address: data.draw(st.sampled_from([room, 100])) for address, room in case.left.items()}
    assert choose(case) is None or choose(case, left=freed) is not None


@given(cases())
def test_the_filter_knows_how_few_groups_the_best_set_uses(case: Case) -> None:
    tree = device_tree([drawn.device for drawn in case.machine], case.links)
    usable = {
        index for index, drawn in enumerate(case.machine) if any(drawn in drawns for drawns, _ in case.candidates())
    }
    used = [len(in_use(chosen, case.ask.level)) for chosen in sets(case, case.candidates())]
    if not case.must:
        assert fewest_groups(tree, usable, case.ask) == min(used, default=None)


@given(cases())
def test_a_choice_has_what_is_asked_and_says_how_near_every_pair_is(case: Case) -> None:
    devices = {drawn.device.address: drawn.device for drawn in case.machine}
    found = choose_devices(device_tree(devices.values(), case.links), case.left, case.ask)
    if isinstance(found, DeviceChoice):
        assert (len(found.gpus), len(found.nics)) == (case.ask.gpus, case.ask.nics)
        assert {(near.gpu, near.nic): near.path for near in found.near} == {
            (a, b): path_class(devices[a], devices[b]) for a in found.gpus for b in found.nics
        }
    else:
        assert found.why
        assert found.nearest
