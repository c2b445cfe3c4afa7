"""What the scheduler says of nodes reaches kube-scheduler's extender, or the reason why it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus
from neap.common.contract.catalogue import WEIGH
from neap.common.errors import InputError, NoResponder, Unavailable, WireError
from neap.common.model.weighing import FITS, MOST_WEIGHED, UNKNOWN, Obstacle, Weighing, WeighRequest
from neap.gateway.core.door.extender import NodeVerdict, verdicts
from neap.gateway.shell.weigh import weighed
from tests.conftest import SOON
from tests.unit.scheduler_world import an_owner

FULL = Obstacle(plugin="fit", reason="cpu", resolvable=True)
ELSEWHERE = Obstacle(plugin="node_selector", reason="label zone=b", resolvable=False)
BUSY = Obstacle(plugin="ledger", reason="busy", resolvable=True, brief=True)


@asynccontextmanager
async def served(answer: Callable[[WeighRequest], Weighing]) -> AsyncIterator[Bus]:
    broker = MemoryBroker()

    async def answered(request: WeighRequest) -> Weighing:
        return answer(request)

    async with broker.bus("scheduler").serve(WEIGH, answered):
        yield broker.bus("gateway")


def test_codes_become_verdicts_and_an_unknown_node_has_none() -> None:
    told = Weighing(
        codes=(FITS, 1, 2, UNKNOWN, 3, 9), scores=(70.0, 0, 0, 0, 80.0, 0), obstacles=(FULL, ELSEWHERE, BUSY)
    )
    assert verdicts(("a", "b", "c", "d", "e", "f"), told) == {
        "a": NodeVerdict(score=70.0),
        "b": NodeVerdict(why="neap: fit cpu"),
        "c": NodeVerdict(why="neap: node_selector label zone=b", resolvable=False),
        "e": NodeVerdict(score=80.0),
    }
    with pytest.raises(WireError, match="2 nodes were asked about, and 6 codes came"):
        verdicts(("a", "b"), told)


async def test_many_nodes_are_asked_about_in_parts_and_impossible_names_never() -> None:
    asked = list[int]()

    def answer(request: WeighRequest) -> Weighing:
        asked.append(len(request.nodes))
        return Weighing(codes=(FITS,) * len(request.nodes), scores=(50.0,) * len(request.nodes))

    names = tuple(f"n{number}" for number in range(MOST_WEIGHED + 7))
    async with served(answer) as bus:
        found = await weighed(bus, SOON)(an_owner(), (*names, "x" * 129))
        assert sorted(asked) == [7, MOST_WEIGHED]
        assert found == dict.fromkeys(names, NodeVerdict(score=50.0))
        assert await weighed(bus, SOON)(an_owner(), ()) == {}, "no name does not mean all of them"
        assert len(asked) == 2


async def test_who_does_not_answer_is_an_error_that_says_so() -> None:
    with pytest.raises(NoResponder):
        await weighed(MemoryBroker().bus("gateway"), SOON)(an_owner(), ("n1",))

    def not_yet(_: WeighRequest) -> Weighing:
        raise Unavailable("the scheduler still reads what is stored")

    async with served(not_yet) as bus:
        with pytest.raises(InputError, match="still reads"):
            await weighed(bus, SOON)(an_owner(), ("n1",))

    async def never(_: WeighRequest) -> Weighing:
        await asyncio.Event().wait()
        raise AssertionError

    broker = MemoryBroker()
    async with broker.bus("scheduler").serve(WEIGH, never):
        with pytest.raises(Unavailable):
            await weighed(broker.bus("gateway"), within=0.05)(an_owner(), ("n1",))
