"""Reads what a cluster's streams hold, for the auditor: whole streams, and the scheduler's word on who waits.

The ledger is read first, so that whatever it holds was submitted in what is read after it. A cluster that goes on
while it is read may look torn at the newest end: read again.
"""

from __future__ import annotations

from typing import TypeVar

from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import EXPLAIN, PLACEMENTS, TOPOLOGY, TRAIL, WORKLOAD
from neap.common.contract.channel import Channel
from neap.common.model.explanation import ExplainRequest
from neap.common.model.topology import NodeTopology
from neap.common.model.workload import Workload
from neap.virtual.audit import History, unsettled

M = TypeVar("M")


async def read_history(bus: Bus) -> History:
    """Everything the auditor wants to know.

    Raises:
        PortError: bus or scheduler do not answer.
    """
    ledger = await stored(bus, PLACEMENTS)
    workloads, trail = await stored(bus, WORKLOAD), await stored(bus, TRAIL)
    history = History(workloads, ledger, trail, await topologies(bus))
    queued = {workload.uid: why for workload in unsettled(history) if (why := await _waits(bus, workload))}
    return History(history.workloads, history.ledger, history.trail, history.nodes, queued)


async def stored(bus: Bus, channel: Channel[M]) -> list[Received[M]]:
    """A whole stream."""
    found: list[Received[M]] = []
    async with bus.follow(channel.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            found.append(item)
    return found


async def topologies(bus: Bus) -> dict[str, NodeTopology]:
    """What the machines are, by node."""
    nodes: dict[str, NodeTopology] = {}
    async with bus.watch(TOPOLOGY.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                nodes[item.message.node] = item.message
    return nodes


async def _waits(bus: Bus, workload: Workload) -> str:
    """Why it waits, if the scheduler has it in its queue or on its way to a ledger; else empty."""
    answer = await bus.request(EXPLAIN, ExplainRequest(namespace=workload.namespace, name=workload.name))
    return answer.reason if answer.state == "queued" and (answer.node or answer.wakes_on) else ""
