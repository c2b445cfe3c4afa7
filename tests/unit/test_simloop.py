"""Virtual time: it jumps, it notices when nothing can happen any more, and it knows no outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from neap.common.testing.simloop import Deadlock, simulate


def test_virtual_time_costs_no_real_time_and_only_passes_when_nobody_is_busy() -> None:
    async def main() -> list[float]:
        loop, times = asyncio.get_running_loop(), []
        for _ in range(3):
            await asyncio.sleep(86_400)
            times.append(loop.time())
        return times

    assert simulate(main()) == [86_400.0, 172_800.0, 259_200.0]


def test_waiting_for_what_can_never_happen_is_a_deadlock_and_an_error() -> None:
    async def main() -> None:
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match=r"at 5\.000 s"):
        simulate(main())


@pytest.mark.parametrize(
    "outside",
    [
        lambda: asyncio.to_thread(len, "thread"),
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 0),
    ],
    ids=["thread", "connection", "server"],
)
def test_threads_and_sockets_fail_in_a_simulation(outside: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    with pytest.raises(RuntimeError, match="a simulation has no"):
        simulate(outside())
