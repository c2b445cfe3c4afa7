"""Ask the scheduler what nodes are to a pod: for kube-scheduler's extender."""

from __future__ import annotations

import asyncio
from typing import Final

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import WEIGH
from neap.common.model.weighing import MOST_WEIGHED, WeighRequest
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.gateway.core.door.extender import Verdicts, verdicts
from neap.gateway.shell.web import Weigh

LONGEST_NAME: Final = 128  # characters; the bus knows no node of a longer one


def weighed(bus: Bus, within: Seconds) -> Weigh:
    """`Answers.weigh` of the web server: verdicts on as many nodes as asked for, or an error within this time."""

    async def ask(workload: Workload, names: tuple[str, ...]) -> Verdicts:
        told = await bus.request(WEIGH, WeighRequest(workload=workload, nodes=names), timeout=within)
        return verdicts(names, told)

    async def weigh(workload: Workload, names: tuple[str, ...]) -> Verdicts:
        """Raises: PortError, InputError, WireError: nobody answers, or not to this."""
        known = tuple(name for name in names if len(name) <= LONGEST_NAME)
        parts = [known[first : first + MOST_WEIGHED] for first in range(0, len(known), MOST_WEIGHED)]
        answers = await asyncio.gather(*(ask(workload, part) for part in parts))
        return {name: verdict for answer in answers for name, verdict in answer.items()}

    return weigh
