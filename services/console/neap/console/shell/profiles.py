"""`neap profile`, `predict`, `machine-types`, `waste`: what the bus knows of services and machines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import HEADROOM, MACHINE_TYPES, NODES, PLACEMENTS, PROFILE, PROFILES, TOPOLOGY
from neap.common.contract.channel import State
from neap.common.errors import InputError, PortError
from neap.common.model.placement import Placement, fold
from neap.common.model.profile import MachineType, ProfileAnswer, ProfileRequest
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.console.core import profileview, waste
from neap.console.core.descriptor import descriptor
from neap.console.shell.reading import open_bus
from neap.console.shell.submitting import cluster_clock

RESOURCES: Final = {"cpu": RECLAIMED_CPU, "memory": RECLAIMED_MEMORY}


async def show_profile(name: str, url: str, output: str) -> tuple[str, bool]:
    """A service's profile as text, YAML (Katalyst's ServiceProfileDescriptor) or JSON; whether there is one.

    Raises:
        InputError: no such name or output.
        PortError: no bus.
    """
    asked = named(name)
    async with open_bus(url) as bus:
        answer = await _ask(bus, asked)
        now = (await cluster_clock(bus)).now()
        if output == "yaml":
            if answer.profile is None:
                raise InputError(f"{name}: {answer.says}")
            return descriptor(answer.profile, (await _machines(bus)).values()), True
    if output == "json":
        import msgspec  # noqa: PLC0415

        return msgspec.json.format(msgspec.json.encode(answer)).decode(), answer.profile is not None
    return profileview.text(name, answer, now), answer.profile is not None


async def predict(name: str, target: str, cores: float, url: str) -> str:
    """What a pod of a service would use on a machine type.

    Raises:
        InputError: no such name, profile or machine type.
        PortError: no bus.
    """
    if not 0 < cores < 100_000:
        raise InputError(f"--cpu {cores}: above 0, in cores")
    asked = named(name)
    async with open_bus(url) as bus:
        answer, machines = await asyncio.gather(_ask(bus, asked), _machines(bus))
    if answer.profile is None:
        raise InputError(f"{name}: {answer.says}")
    return profileview.prediction(answer.profile, target, cores, machines)


async def show_machine_types(url: str) -> tuple[Mapping[str, MachineType], Mapping[str, Mapping[str, str]]]:
    """The table, and the labels of every node.

    Raises:
        PortError: no bus.
    """
    async with open_bus(url) as bus:
        machines, topologies, objects = await asyncio.gather(
            _machines(bus), _stored(bus, TOPOLOGY), _stored(bus, NODES)
        )
    labels: dict[str, Mapping[str, str]] = {one.node: one.labels for one in topologies}
    for one in objects:
        labels[one.node] = {**labels.get(one.node, {}), **one.labels}
    return machines, labels


async def find_waste(url: str, kind: str) -> tuple[list[waste.Row], int]:
    """By service, and what all nodes lend or offer just now.

    Raises:
        InputError: no such kind.
        PortError: no bus.
    """
    if kind not in RESOURCES:
        raise InputError(f"--of {kind}: {' or '.join(RESOURCES)}")
    async with open_bus(url) as bus:
        held, profiles, offers = await asyncio.gather(_held(bus), _stored(bus, PROFILES), _stored(bus, HEADROOM))
    known = {profile.key: profile for profile in profiles}
    return waste.services(held, known, kind), sum(one.offer.get(RESOURCES[kind], 0) for one in offers)


def named(name: str) -> ProfileRequest:
    """NAMESPACE/KIND/NAME.

    Raises:
        InputError: it is not that.
    """
    parts = name.split("/")
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{name!r}: write NAMESPACE/KIND/NAME, such as shop/Deployment/cart")
    return ProfileRequest(namespace=parts[0], kind=parts[1], name=parts[2])


async def _ask(bus: Bus, asked: ProfileRequest) -> ProfileAnswer:
    """What the planner says; what is stored, where no planner answers."""
    try:
        return await bus.request(PROFILE, asked)
    except PortError:
        stored = await bus.get(PROFILES.at(namespace=asked.namespace, kind=asked.kind, name=asked.name))
        says = (
            "no planner answers: this is what is stored" if stored is not None else "no profile, and no planner answers"
        )
        return ProfileAnswer(profile=None if stored is None else stored.message, says=says)


async def _machines(bus: Bus) -> dict[str, MachineType]:
    return {one.name: one for table in await _stored(bus, MACHINE_TYPES) for one in table.types}


async def _stored(bus: Bus, channel: State[Any]) -> list[Any]:
    found: dict[str, Any] = {}
    async with bus.watch(channel.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                found[item.subject] = item.message
    return [found[subject] for subject in sorted(found)]


async def _held(bus: Bus) -> list[Placement]:
    held: dict[str, dict[str, Placement]] = {}
    async with bus.follow(PLACEMENTS.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                held[item.message.node] = fold(held.get(item.message.node, {}), item.message)
    return [placement for node in sorted(held) for placement in held[node].values()]
