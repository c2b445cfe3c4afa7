"""Request and reply on the wire, the same for both adapters: JSON, and errors in NATS's service headers (ADR-32)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from neap.common.bus.health import LOG, Health
from neap.common.contract.channel import MALFORMED, Endpoint, shortened
from neap.common.errors import InputError, NeapError, PortError, Unavailable, WireError

Q = TypeVar("Q")
R = TypeVar("R")
Reply: TypeAlias = Callable[[bytes, dict[str, str]], Awaitable[None]]

AT_ONCE: Final = 256  # requests one responder works on; more are told to come back
ERROR: Final = "Nats-Service-Error"
CODE: Final = "Nats-Service-Error-Code"

encode: Final = msgspec.json.Encoder().encode


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(kind: Any, payload: bytes, subject: str) -> Any:
    """JSON -> a value of this type.

    Raises:
        WireError: names subject and what is wrong where.
    """
    try:
        return _decoder(kind).decode(payload)
    except MALFORMED as error:
        raise WireError(f"{subject}: {shortened(str(error))}") from None


def failure(code: int, text: str) -> tuple[bytes, dict[str, str]]:
    """An error as a reply."""
    return b"", {ERROR: text.replace("\r", " ").replace("\n", " ")[:1024], CODE: str(code)}


async def answered(
    endpoint: Endpoint[Q, R], answer: Callable[[Q], Awaitable[R]], payload: bytes, subject: str
) -> tuple[bytes, dict[str, str]]:
    """The reply to one request: what `answer` returns, or why it does not; never hangs.

    Raises:
        WireError: the request cannot be decoded.
    """
    request = decode(endpoint.request, payload, subject)

    async def reply() -> bytes:
        return encode(await answer(request))

    try:
        async with asyncio.timeout(endpoint.timeout):
            (outcome,) = await asyncio.gather(reply(), return_exceptions=True)
    except TimeoutError:
        return failure(504, f"{subject}: no answer within {endpoint.timeout:g} s")
    if isinstance(outcome, bytes):
        return outcome, {}
    if isinstance(outcome, NeapError):
        return failure(400, str(outcome))
    LOG.error("bus.answer: %s", subject, exc_info=outcome)
    return failure(500, f"{subject}: the responder failed with {type(outcome).__name__}")


class Answering(Generic[Q, R]):
    """Answers requests side by side, at most AT_ONCE; those under way when it ends are still answered.

    A request that cannot be decoded is answered with the reason, and counted in `health`.
    """

    def __init__(
        self, endpoint: Endpoint[Q, R], answer: Callable[[Q], Awaitable[R]], group: asyncio.TaskGroup, health: Health
    ) -> None:
        self._endpoint, self._answer, self._group, self._health = endpoint, answer, group, health
        self._working = 0

    def take(self, payload: bytes, subject: str, reply: Reply) -> None:
        """Work on one request; `reply` is called once."""
        self._group.create_task(self._work(payload, subject, reply))

    async def _work(self, payload: bytes, subject: str, reply: Reply) -> None:
        if self._working >= AT_ONCE:
            answer = failure(503, f"{subject}: busy with {AT_ONCE} requests")
        else:
            self._working += 1
            try:
                answer = await answered(self._endpoint, self._answer, payload, subject)
            except WireError as error:
                answer = failure(400, str(error))
                self._health.poisoned(self._endpoint, subject, error, asyncio.get_running_loop().time())
            finally:
                self._working -= 1
        with suppress(PortError):  # the asker notices that no answer came
            await reply(*answer)


def reply_of(endpoint: Endpoint[Any, R], payload: bytes, headers: Mapping[str, str] | None, subject: str) -> R:
    """The value in a reply.

    Raises:
        InputError: the responder refused. Unavailable: it was too busy. WireError: it answered nonsense.
    """
    if headers and ERROR in headers:
        busy = headers.get(CODE) in ("503", "504")
        raise (Unavailable if busy else InputError)(headers[ERROR])
    reply: R = decode(endpoint.reply, payload, subject)
    return reply
