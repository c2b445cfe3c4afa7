"""`neap overcommit`: read what nodes sell, and set how much they may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import NODES, RATIOS, TOPOLOGY
from neap.common.errors import InputError
from neap.common.model.policy import Tier
from neap.common.model.resource import CPU, MEMORY
from neap.common.units import Ratio
from neap.console.core.overcommitted import NodeSale, accepted, as_json, refusal, table
from neap.console.core.policies import Draft
from neap.console.shell.policy import look, set_policy
from neap.console.shell.reading import open_bus, placed, stored

ROOM: Final = "planner"
KINDS: Final = (CPU, MEMORY)
MOST: Final = 1000.0


async def show_overcommit(node: str, url: str, *, in_json: bool) -> str:
    """What nodes sell and why; of one, or of all that sell more than they have.

    Raises:
        InputError: nobody has said anything about such a node.
        PortError: no bus.
    """
    async with open_bus(url) as bus:
        nodes = await _sales(bus)
    if node and node not in nodes:
        raise InputError(f"node {node!r}: nobody has said anything about it ({len(nodes)} nodes are known)")
    some = [nodes[name] for name in sorted(nodes) if node in {"", name}]
    return json.dumps(as_json(some), indent=2) if in_json else table(some)


async def set_overcommit(pairs: Sequence[str], *, pool: str, node: str, reason: str, url: str) -> list[str]:
    """Let nodes sell more (or less) of a kind, by policy of the planner: all of them can, or nothing is written.

    Raises:
        InputError: a ratio does not hold, no such node, or pods are in the way; names them.
        PortError: no bus.
    """
    ratios = ratios_in(pairs)
    if pool and node:
        raise InputError("write either --pool or --node")
    async with open_bus(url) as bus:
        nodes, seen = await _sales(bus), await look(bus, nodes=False)
    mine = [sale for _, sale in sorted(nodes.items()) if (sale.name == node if node else pool in {"", sale.pool})]
    if not mine:
        whose = f"node {node!r}" if node else f"pool {pool!r}"
        raise InputError(f"{whose}: nobody has said anything of it ({len(nodes)} nodes are known)")
    if short := [why for sale in mine if (why := refusal(sale, ratios))]:
        raise InputError("\n".join(["pods would run on what is not sold:", *short]))
    tier, name = (Tier.NODE, node) if node else (Tier.POOL, pool) if pool else (Tier.CLUSTER, "")
    title = "-".join(["overcommit", *([name] if name else [])])
    before = seen.documents.get((ROOM, title))
    draft = Draft(
        name=title,
        room=ROOM,
        tier=f"{tier}={name}" if name else str(tier),
        patch={**(before.now.patch if before else {}), **{f"overcommit.{kind}": r for kind, r in ratios.items()}},
        reason=reason,
    )
    said = await set_policy([draft], url, None)
    told = [line for sale in mine for line in accepted(sale, ratios)]
    return [*said, *told, "the interference watch is on: where an owner suffers, nothing more is sold than what runs"]


def ratios_in(pairs: Sequence[str]) -> Mapping[str, Ratio]:
    """A ratio by kind, of words such as cpu=1.4.

    Raises:
        InputError: no such kind, or no ratio.
    """
    found: dict[str, Ratio] = {}
    for pair in pairs:
        kind, _, written = pair.partition("=")
        try:
            ratio = float(written)
        except ValueError:
            ratio = 0.0
        if kind not in KINDS or not 1 <= ratio <= MOST:
            raise InputError(f"{pair!r}: write cpu=1.5 or memory=1.2, a ratio within 1..{MOST:g}")
        found[kind] = ratio
    return found


async def _sales(bus: Bus) -> dict[str, NodeSale]:
    """Everything stored about what nodes sell, by name."""
    nodes: dict[str, NodeSale] = {}

    def of(name: str) -> NodeSale:
        return nodes.setdefault(name, NodeSale(name))

    topologies, objects, ratios, held = await asyncio.gather(
        stored(bus, TOPOLOGY.only()), stored(bus, NODES.only()), stored(bus, RATIOS.only()), placed(bus)
    )
    for topology in topologies:
        of(topology.node).topology = topology
    for told in objects:
        of(told.node).object = told
    for said in ratios:
        of(said.node).ratios = said
    for node, placements in held.items():
        of(node).held = placements
    return nodes
