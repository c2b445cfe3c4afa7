"""The server in memory against the real one, blow by blow: the same random writes end in the same objects or refusals.

Two corners of server-side apply are left out: maps that are applied empty, and objects in which nobody has written any
field yet.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from neap.common.errors import PortError
from neap.common.kube.kind import Kind
from neap.common.kube.port import Kube, PatchStyle
from tests.contract.kube_stages import (
    WIDE_CONFIG_MAPS,
    MemoryStage,
    RealStage,
    fresh,
)

WIDE_NODES: Kind[dict[str, Any]] = Kind("", "v1", "nodes", "Node", dict[str, Any], namespaced=False)
MANAGERS = ("one", "two", "three")
STEPS = 120


def texts(random: Random) -> dict[str, str]:
    return {name: random.choice("12") for name in random.sample("abcd", random.randint(1, 3))}


def conditions(random: Random) -> list[dict[str, str]]:
    kinds = random.sample(("A", "B", "C"), random.randint(1, 3))
    return [{"type": kind, "status": random.choice(("True", "False"))} for kind in kinds]


def taints(random: Random) -> list[dict[str, str]]:
    return [{"key": key, "effect": "NoSchedule"} for key in random.sample(("a", "b"), random.randint(1, 2))]


async def step(kube: Kube, seed: int, space: str, name: str) -> tuple[str, Any]:
    """One random write; the same for the same seed."""
    random = Random(seed)
    manager, force = random.choice(MANAGERS), random.random() < 0.3
    told: dict[str, Any] = {"manager": manager, "force": force}
    match random.randrange(7):
        case 0 | 1:
            body = {"data": texts(random)} if random.random() < 0.9 else {}
            found = await kube.apply(WIDE_CONFIG_MAPS, name, body, namespace=space, **told)
        case 2:
            patch = {"data": {key: random.choice(("1", "3", None)) for key in random.sample("abcd", 2)}}
            found = await kube.patch(WIDE_CONFIG_MAPS, name, patch, namespace=space)
        case 3:
            whole = {"metadata": {"name": name, "labels": texts(random)}, "data": texts(random)}
            found = await kube.replace(WIDE_CONFIG_MAPS, name, whole, namespace=space)
        case 4:
            body = {"status": {"conditions": conditions(random), "capacity": texts(random)}}
            found = await kube.apply(WIDE_NODES, name, body, subresource="status", **told)
        case 5:
            patch = {"status": {"conditions": conditions(random)[:1]}}
            found = await kube.patch(WIDE_NODES, name, patch, subresource="status", style=PatchStyle.STRATEGIC)
        case _:
            body = (
                {"spec": {"taints": taints(random)}}
                if random.random() < 0.8
                else {"metadata": {"labels": texts(random)}}
            )
            found = await kube.apply(WIDE_NODES, name, body, **told)
    return "done", plain(found)


def plain(object: dict[str, Any]) -> dict[str, Any]:
    """What people see of it; order in a keyed list means nothing, and empty is absent."""
    spec, status = object.get("spec", {}), object.get("status", {})
    seen = {
        "labels": object["metadata"].get("labels"),
        "data": object.get("data"),
        "taints": spec.get("taints"),
        "capacity": status.get("capacity"),
        "conditions": {each["type"]: each.get("status") or "" for each in status.get("conditions") or ()},
    }
    return {name: value for name, value in seen.items() if value}


async def tried(kube: Kube, seed: int, space: str, name: str) -> tuple[str, Any]:
    try:
        return await step(kube, seed, space, name)
    except PortError as error:
        return "refused", type(error).__name__


@pytest.mark.kube
@pytest.mark.parametrize("seed", range(4))
async def test_random_writers_fare_alike_on_both(
    seed: int, memory_kube_stage: MemoryStage, real_kube_stage: RealStage
) -> None:
    random, name = Random(seed), fresh("alike")
    sides = [(memory_kube_stage.kube, memory_kube_stage.space), (real_kube_stage.kube, real_kube_stage.space)]
    for kube, space in sides:
        await kube.create(WIDE_CONFIG_MAPS, {"metadata": {"name": name}, "data": {"a": "1"}}, namespace=space)
        condition = {"type": "Ready", "status": "True"}
        body = {"metadata": {"name": name, "labels": {"x": "y"}}, "status": {"conditions": [condition]}}
        await kube.create(WIDE_NODES, body)
    for number in range(STEPS):
        chosen = random.getrandbits(64)
        mine, theirs = [await tried(kube, chosen, space, name) for kube, space in sides]
        assert mine == theirs, f"step {number}"
