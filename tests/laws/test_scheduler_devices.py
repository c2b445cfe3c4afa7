"""Laws of devices in the scheduler: nothing is given twice, what the filter promises is what reserve gives, and the best."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neap.common.model.affinity import DeviceAsk, Refusal, Strength
from neap.common.model.device_tree import LEVELS
from neap.common.model.gpu import MOST_CONTAINERS
from neap.common.model.placement import DeviceShare, GpuShare, Placement
from neap.common.model.scheduling import Gang
from neap.common.model.topology import Device, NodeTopology, ZoneKind
from neap.common.model.workload import Workload
from neap.gpushare.core.share import share_out
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Parts, Plugin, Policy
from neap.scheduler.core.nodes.gang_cards import TOGETHER
from neap.scheduler.core.nodes.table import VERSION, NodeTable
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.device_wish import wish_of
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.plugins import device_affinity, fit, gpu_share
from tests.laws.device_oracle import best_devices
from tests.unit.device_world import MEMORY_MIB, a_box, a_gpu_node, a_trainer

NAMES = ["g0", "g1", "g2"]
PLUGINS: tuple[Plugin[Any], ...] = (fit.PLUGIN, device_affinity.PLUGIN, gpu_share.PLUGIN)
SLICES = [(30, 4000), (50, 8000), (60, 3000)]


def cycle_on(table: NodeTable) -> Cycle:
    modules = {"fit": fit, "device_affinity": device_affinity, "gpu_share": gpu_share}
    return Cycle(table, [Policy(name, module.PLUGIN) for name, module in modules.items()])


@st.composite
def nodes(draw: st.DrawFn, name: str) -> NodeTopology:
    devices: list[Device] = a_box(draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from([1, 2, 4])))
    if draw(st.integers(0, 5)) == 0:  # nobody says where anything is
        devices = [Device(kind=one.kind, address=one.address) for one in devices]
    return a_gpu_node(name, devices)


@st.composite
def filled(draw: st.DrawFn) -> NodeTable:
    """A node of which anything may be taken."""
    topology = draw(nodes("g0"))
    table = NodeTable()
    table.describe(topology)
    uses = ["free", "free", "free", "whole", "slice", "of a", "of b", "crowded"]
    for card in topology.cards:
        use = draw(st.sampled_from(uses))
        each = {"free": [], "whole": [(100, MEMORY_MIB)], "crowded": [(1, 256)] * MOST_CONTAINERS}.get(
            use, [(40, 4000)]
        )
        gang = Gang(name=use[-1], least=1) if use.startswith("of") else None
        shares = tuple(GpuShare(container="c", card=card.index, core=core, memory_mib=mib) for core, mib in each)
        table.charge("g0", Placement(workload=a_trainer(f"on-{card.index}", gang=gang), charged={}, gpus=shares), 0.0)
    for device in topology.devices:
        if device.kind is ZoneKind.RDMA and (percent := draw(st.sampled_from([0, 0, 0, 50, 100]))):
            part = (DeviceShare(address=device.address, percent=percent),)
            who = a_trainer(f"on-{device.address}")
            table.charge("g0", Placement(workload=who, charged={}, devices=part), 0.0)
    return table


@st.composite
def asks(draw: st.DrawFn, gpus: int) -> DeviceAsk:
    nics = draw(st.integers(0 if gpus else 1, 2))
    return DeviceAsk(
        gpus=gpus, nics=nics, nic_percent=draw(st.sampled_from([100, 60, 30])),
        level=draw(st.sampled_from(LEVELS)), strength=draw(st.sampled_from(Strength)),
    )  # fmt: skip


@st.composite
def trainers(draw: st.DrawFn) -> Workload:
    uid, whole = f"t{draw(st.integers(0, 30))}", draw(st.integers(0, 3))
    gang = draw(st.sampled_from([None, None, Gang(name="a", least=2), Gang(name="b", least=2)]))
    together = dict([TOGETHER]) if draw(st.integers(0, 4)) == 0 else {}
    if whole:
        ask = draw(st.one_of(st.none(), asks(whole)))
        return a_trainer(uid, ask, gpus=[(100 * whole, 0)], gang=gang, annotations=together)
    slices = draw(st.lists(st.sampled_from(SLICES), max_size=3))
    uniform = slices[:1] * len(slices) if draw(st.booleans()) else slices
    wanted = draw(st.one_of(st.none(), asks(draw(st.integers(0, len(slices))))))
    return a_trainer(uid, wanted, gpus=uniform, gang=gang, annotations=together)


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    if draw(st.integers(0, 9)) == 0:
        return "node", draw(nodes(draw(st.sampled_from(NAMES))))
    if draw(st.integers(0, 3)) == 0:
        return "leave", (draw(st.sampled_from(NAMES)), f"t{draw(st.integers(0, 30))}")
    return "decide", draw(trainers())


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    start = [("node", draw(nodes(name))) for name in NAMES]
    return start + draw(st.lists(steps(), max_size=25))


def play(table: NodeTable, cycle: Cycle, what: str, with_: Any) -> None:
    match what:
        case "node" if not table.charges(with_.node):  # a machine that changes under its pods may have too little
            table.describe(with_)
        case "leave":
            table.discharge(*with_)
        case "decide" if all(with_.uid not in table.charges(name) for name in NAMES):
            cycle.decide(pod_of(with_), 0.0)


def played(history: list[tuple[str, Any]]) -> tuple[NodeTable, Cycle]:
    table = NodeTable()
    cycle = cycle_on(table)
    for what, with_ in history:
        play(table, cycle, what, with_)
    return table, cycle


def view_for(table: NodeTable, pod: Pod) -> View:
    table.ask(pod)
    return table.view()


def passes(table: NodeTable, pod: Pod) -> np.ndarray[Any, Any]:
    """What all filters together say."""
    found = table.view().all()
    for plugin in PLUGINS:
        assert plugin.filter is not None
        for rule in plugin.filter(pod, view_for(table, pod), plugin.settings()):
            found = found & rule.passes
    return found


def reserved(table: NodeTable, row: int, pod: Pod) -> Parts | str:
    parts = device_affinity.choose(pod, table, row, device_affinity.Settings(), Parts())
    return parts if isinstance(parts, str) else gpu_share.choose(pod, table, row, gpu_share.Settings(), parts)


def exact(pod: Pod) -> bool:
    """Whether a pod's asks are alike and, if devices are wanted, each has its cards: then filters are exact."""
    wish, alike = wish_of(pod), len({(ask.core, ask.memory_mib) for ask in pod.asks}) <= 1
    return alike and (wish is None or wish.uniform)


@given(histories())
def test_no_card_and_no_network_card_gives_more_than_it_has_at_any_prefix(history: list[tuple[str, Any]]) -> None:
    table = NodeTable()
    cycle = cycle_on(table)
    for what, with_ in history:
        play(table, cycle, what, with_)
        table.devices.validate()
        for node in table.names:
            cards: dict[int, list[tuple[int, int]]] = {}
            nics: dict[str, int] = {}
            for placement in table.charges(node).values():
                for share in placement.gpus:
                    cards.setdefault(share.card, []).append((share.core, share.memory_mib))
                for part in placement.devices:
                    nics[part.address] = nics.get(part.address, 0) + part.percent
            for shares in cards.values():
                assert sum(core for core, _ in shares) <= 100
                assert sum(memory for _, memory in shares) <= MEMORY_MIB
                assert len(shares) <= MOST_CONTAINERS
            assert all(percent <= 100 for percent in nics.values())


@given(histories())
def test_what_is_placed_the_gpushare_of_the_node_accepts(history: list[tuple[str, Any]]) -> None:
    topologies: dict[str, NodeTopology] = {}
    table = NodeTable()
    cycle = cycle_on(table)
    for what, with_ in history:
        if what == "node" and not table.charges(with_.node):
            topologies[with_.node] = with_
        play(table, cycle, what, with_)
    for node, topology in topologies.items():
        got = share_out(topology.cards, table.charges(node).values(), mps=False, devices=topology.devices)
        assert got.refused == {}


@given(histories())
def test_shares_of_one_gang_are_on_different_cards_unless_they_say_otherwise(history: list[tuple[str, Any]]) -> None:
    table, _ = played(history)
    for node in table.names:
        on: dict[tuple[int, str], list[bool]] = {}  # card and gang -> per member, whether it minds
        for placement in table.charges(node).values():
            gang = placement.workload.gang
            minds = placement.workload.annotations.get(TOGETHER[0]) != TOGETHER[1]
            for card in sorted({share.card for share in placement.gpus if share.core < 100} if gang else ()):
                on.setdefault((card, gang.name if gang else ""), []).append(minds)
        for members in on.values():
            assert not any(members[1:]), "who minds came to a card that had one"


@given(histories(), trainers())
def test_taking_a_pod_on_and_off_leaves_every_byte_as_it_was(history: list[tuple[str, Any]], asked: Workload) -> None:
    table, cycle = played(history)
    pod = pod_of(asked)
    for node in NAMES:
        table.discharge(node, pod.uid)
    table.ask(pod)
    columns = table.columns
    before = {name: columns[name].tobytes() for name in columns.names if name != VERSION}
    decision = cycle.decide(pod, 0.0)
    if decision.placement is not None:
        table.discharge(decision.node, pod.uid)
    table.ask(pod)
    assert {name: columns[name].tobytes() for name in before} == before


@given(histories(), trainers())
def test_what_the_filter_promises_reserve_gives_and_nothing_else(
    history: list[tuple[str, Any]], asked: Workload
) -> None:
    table, _ = played(history)
    pod = pod_of(asked)
    for row, promised in enumerate(passes(table, pod)):
        parts = reserved(table, row, pod)
        if exact(pod):
            assert isinstance(parts, Parts) == promised, parts
        else:
            assert promised or isinstance(parts, str)
        if isinstance(parts, Parts) and asked.devices is not None:
            assert len(parts.devices) == asked.devices.nics
            assert not parts.prefer or tuple(share.card for share in parts.gpus) == parts.prefer
            assert asked.devices.gpus in (0, len(set(parts.prefer)))


@given(filled(), trainers())
def test_the_devices_are_the_best_there_are(table: NodeTable, asked: Workload) -> None:
    pod = pod_of(asked)
    wish = wish_of(pod)
    if wish is None or not wish.uniform:
        return
    for row in range(len(table)):
        machine, state = table.devices.machine(row), table.devices.state(row, wish)
        assert machine is not None
        devices = machine.tree.devices
        cards = [(devices[p].address, room) for p, room in zip(machine.cards, state.rooms, strict=True)]
        left = {address: room.core_free for address, room in cards}
        left |= {devices[p].address: percent for p, percent in zip(machine.nics, state.nics, strict=True)}
        need = max((ask.memory_mib for ask in pod.asks), default=0)
        only = {address for address in left if address not in dict(cards)} | {
            address
            for address, room in cards
            if room.index not in state.barred and room.memory_free_mib >= need and room.containers < MOST_CONTAINERS
            if need or room.untouched
        }
        found, best = table.devices.division(row, wish), best_devices(machine.tree, left, wish.ask, only)
        assert (None if isinstance(found, Refusal) else {*found.choice.gpus, *found.choice.nics}) == best


@given(filled(), trainers(), st.data())
def test_freeing_never_makes_a_pod_infeasible(table: NodeTable, asked: Workload, data: st.DataObject) -> None:
    pod = pod_of(asked)
    before = passes(table, pod)
    for uid in data.draw(st.sets(st.sampled_from(sorted(table.charges("g0"))))):
        table.discharge("g0", uid)
    assert (passes(table, pod) | ~before).all()
    if exact(pod):
        assert all(isinstance(reserved(table, int(row), pod), Parts) for row in np.flatnonzero(before))


@given(filled(), trainers())
def test_every_miss_is_told_with_its_numbers(table: NodeTable, asked: Workload) -> None:
    pod = pod_of(asked)
    for plugin in PLUGINS[1:]:
        assert plugin.filter is not None
        for rule in plugin.filter(pod, view_for(table, pod), plugin.settings()):
            assert rule.near is not None
            near = rule.near()
            assert near.missing.shape == rule.passes.shape
            assert ((near.missing > 0) == ~rule.passes).all()
            for row in map(int, np.flatnonzero(~rule.passes)):
                assert "{node}" in near.tell(row)
                assert near.change is not None
                assert near.change(row)


@given(histories(), trainers())
def test_a_kept_evaluation_is_the_one_from_scratch(history: list[tuple[str, Any]], asked: Workload) -> None:
    table = NodeTable()
    cycle, pod = cycle_on(table), pod_of(asked)
    for (what, with_), _ in pairwise([*history, ("end", None)]):
        play(table, cycle, what, with_)
        kept, fresh = cycle.evaluate(pod), cycle_on(table).evaluate(pod)
        assert kept.reasons == fresh.reasons
        filtered = kept.codes < len(kept.reasons) - 2  # not refused at reserve
        assert (kept.codes[filtered] == fresh.codes[filtered]).all()
        assert (kept.totals[filtered] == fresh.totals[filtered]).all()
        assert (kept.scores == fresh.scores).all()
