"""`neap profile`, `predict`, `machine-types`, `waste`: what the bus knows of services and machines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import HEADROOM, MACHINE_TYPES, NODES, PROFILE, PROFILES, TOPOLOGY
from neap.common.errors import InputError, PortError
from neap.common.model.profile import MachineType, ProfileAnswer, ProfileRequest
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.console.core import profileview, waste
from neap.console.core.descriptor import descriptor
from neap.console.shell.reading import open_bus, placed, stored
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
            _machines(bus), stored(bus, TOPOLOGY.only()), stored(bus, NODES.only())
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
        held, profiles, offers = await asyncio.gather(
            placed(bus), stored(bus, PROFILES.only()), stored(bus, HEADROOM.only())
        )
    known = {profile.key: profile for profile in profiles}
    pods = [pod for node in sorted(held) for pod in held[node].values()]
    return waste.services(pods, known, kind), sum(one.offer.get(RESOURCES[kind], 0) for one in offers)


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
        found = await bus.get(PROFILES.at(namespace=asked.namespace, kind=asked.kind, name=asked.name))
        if found is None:
            return ProfileAnswer(profile=None, says="no profile, and no planner answers")
        return ProfileAnswer(profile=found.message, says="no planner answers: this is what is stored")


async def _machines(bus: Bus) -> dict[str, MachineType]:
    return {one.name: one for table in await stored(bus, MACHINE_TYPES.only()) for one in table.types}
