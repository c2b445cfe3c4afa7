"""What people ask the planner to do: answered at once from what is known, and handed to the machine as an event.

An endpoint answers from a pure function of the machine's state, so it cannot change it. What is accepted waits here
until the machine hears of it (and judges it again, then with instructions as its outcome).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from neap.common.model.recommendation import ApplyAnswer, ApplyRequest

MOST_WAITING: Final = 1000


class Asked:
    """See module docstring."""

    def __init__(self, judge: Callable[[ApplyRequest], ApplyAnswer]) -> None:
        self._judge = judge
        self._waiting: asyncio.Queue[ApplyRequest] = asyncio.Queue(MOST_WAITING)

    def answer(self, request: ApplyRequest) -> ApplyAnswer:
        """What becomes of it; the machine hears of it if it is accepted."""
        answer = self._judge(request)
        if not answer.accepted or request.show:
            return answer
        if self._waiting.full():
            return ApplyAnswer(accepted=False, says=f"{MOST_WAITING} changes wait already; ask again later")
        self._waiting.put_nowait(request)
        return answer

    @asynccontextmanager
    async def source(self) -> AsyncIterator[AsyncIterator[ApplyRequest]]:
        """What was accepted, as it comes."""
        yield self._each()

    async def _each(self) -> AsyncIterator[ApplyRequest]:
        while True:
            yield await self._waiting.get()
