"""Builds the virtual world: hosts out of machine snapshots, and the day they are to live through."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from neap.common.errors import InputError
from neap.common.runtime.clock import Clock
from neap.common.units import MINUTE, Seconds
from neap.virtual.behaviour import Curves
from neap.virtual.day import make_day
from neap.virtual.dayfile import read_day
from neap.virtual.kernel import VirtualHost
from neap.virtual.parts import Day, MachineShape, node_names
from neap.virtual.past import story
from neap.virtual.pod import CardSpec
from neap.virtual.settings import Settings
from neap.virtual.slices import examples_root, read_slices
from neap.virtual.snapshot import Snapshot, load_snapshots

CARDS: Final = (CardSpec(model="T4", count=2), CardSpec(model="P100", count=2), CardSpec(model="V100M16", count=4))
"""The most frequent GPU nodes of the openb cluster whose model is disclosed (examples/trace/openb_node_shapes.csv)."""
CARDS_EVERY: Final = 6  # every sixth node has cards


@dataclass(frozen=True)
class Plan:
    """One virtual node before it is built."""

    shape: MachineShape
    snapshot: Snapshot
    cards: tuple[CardSpec, ...]


@dataclass(frozen=True)
class VirtualWorld:
    """Everything the service "virtual" runs; a simulation hands `hosts[node]` to the node's services."""

    hosts: Mapping[str, VirtualHost]
    day: Day
    shapes: tuple[MachineShape, ...]
    curves: Curves


def plan_nodes(settings: Settings) -> tuple[Plan, ...]:
    """The nodes: all machines of examples/machines in an order drawn by the seed, again and again; or all the one named.

    Raises:
        InputError: there is no machine, none of this name, or one cannot be read.
    """
    folder, wanted = examples_root(settings.examples) / "machines", settings.machine
    machines = list(load_snapshots(folder, wanted)) if folder.is_dir() else []
    if not machines:
        known = sorted(path.name.partition(".tar")[0] for path in folder.glob("*.tar.*"))
        raise InputError(f"no machine snapshot {wanted + ' ' if wanted else ''}in {folder} (known: {', '.join(known)})")
    random.Random(f"{settings.seed}.machines").shuffle(machines)
    return tuple(_plan(index, node, machines) for index, node in enumerate(node_names(settings.nodes)))


def _plan(index: int, node: str, machines: Sequence[Snapshot]) -> Plan:
    snapshot = machines[index % len(machines)]
    nth, rest = divmod(index, CARDS_EVERY)
    cards = (CARDS[nth % len(CARDS)],) if rest == CARDS_EVERY - 1 else ()
    shape = MachineShape(node, len(snapshot.cpus), snapshot.memory, sum(card.count for card in cards))
    return Plan(shape, snapshot, cards)


def build_hosts(plans: Sequence[Plan], at: Seconds) -> dict[str, VirtualHost]:
    """The hosts by node name, freshly booted at `at`."""
    return {
        plan.shape.node: VirtualHost(plan.snapshot, node=plan.shape.node, at=at, cards=plan.cards) for plan in plans
    }


def read_world(settings: Settings) -> tuple[Day, tuple[MachineShape, ...], Curves]:
    """The day and the machines' shapes without building a host: for those who only want to tell about it.

    Raises:
        InputError: examples or day file do not hold; names file and field.
    """
    shapes = tuple(plan.shape for plan in plan_nodes(settings))
    slices = read_slices(examples_root(settings.examples))
    if settings.file:
        day = read_day(Path(settings.file), start=settings.start, curves=slices.curves, seed=settings.seed)
    else:
        day = make_day(settings, slices, shapes, settings.seed)
    if told := story(day, slices.curves, settings.past):
        day = dataclasses.replace(day, story=(*day.story, told))
    return day, shapes, slices.curves


def make_world(settings: Settings, clock: Clock) -> VirtualWorld:
    """Hosts and day.

    Raises:
        InputError: examples or day file do not hold; names file and field.
    """
    start = settings.start or clock.now() // MINUTE * MINUTE
    day, shapes, curves = read_world(msgspec.structs.replace(settings, start=start))
    return VirtualWorld(build_hosts(plan_nodes(settings), clock.now()), day, shapes, curves)
