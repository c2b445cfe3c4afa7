"""One connection to a runtime: its requests are served, ours are answered. Knows frames, not NRI.

At most REQUESTS of the runtime's requests are served at once; while they are, nothing more is read. Serving never
waits for an answer of the runtime, so this cannot lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias

from neap.common.errors import Denied, PortError, Unavailable, WireError
from neap.common.runtime.clock import Clock
from neap.common.units import Seconds
from neap.enforcer.nri.frame import Decoder, Frame, Line, Type, encode
from neap.enforcer.nri.schema import (
    PLUGIN_SERVICE,
    REQUEST,
    RESPONSE,
    RUNTIME_SERVICE,
    Request,
    Response,
    Status,
)

Serve: TypeAlias = Callable[[str, bytes], Awaitable[bytes]]  # method, message -> message

REQUESTS: Final = 64
CALLS: Final = 16  # of ours that wait for the runtime
READ: Final = 1 << 16  # bytes
INVALID, UNIMPLEMENTED = 3, 12  # google.rpc.Code


class Unknown(PortError):
    """The runtime asks for a method that is not served here."""


async def finished(task: asyncio.Future[Any], clock: Clock, within: Seconds) -> bool:
    """Whether the task ended within so many seconds of the clock. It goes on either way."""
    alarm = asyncio.ensure_future(clock.sleep_until(clock.now() + within))
    try:
        await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
    finally:
        alarm.cancel()
    return task.done()


class Session:
    """See module docstring. Everything it starts lives in `group`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        group: asyncio.TaskGroup,
        clock: Clock,
    ) -> None:
        self._reader, self._writer, self._group, self._clock = reader, writer, group, clock
        self._free = asyncio.Semaphore(REQUESTS)
        self._decoder = Decoder()
        self._calls: dict[int, asyncio.Future[Response]] = {}
        self._next = 1  # streams of ours are odd

    async def run(self, serve: Serve) -> NoReturn:
        """Read until the connection ends.

        Raises:
            Unavailable: always, with the reason: closed, broken, or nothing that makes sense.
        """
        try:
            while piece := await self._reader.read(READ):
                for frame in self._decoder.feed(piece):
                    await self._take(frame, serve)
        except WireError as error:
            raise Unavailable(f"the runtime sent what cannot be read: {error}") from error
        except OSError as error:
            raise Unavailable(f"the connection broke: {error}") from error
        else:
            raise Unavailable("the runtime closed the connection")
        finally:
            self._writer.close()
            for answer in self._calls.values():
                answer.cancel()

    async def call(self, method: str, message: bytes, within: Seconds) -> bytes:
        """One request of ours.

        Raises:
            Unavailable: too many wait already, or no answer in time.
            Denied: the runtime says no, and why.
            WireError: the request is too large.
        """
        if len(self._calls) >= CALLS:
            raise Unavailable(f"NRI {method}: {CALLS} requests wait for the runtime already")
        if self._writer.is_closing():
            raise Unavailable(f"NRI {method}: the connection has ended")
        stream, self._next = self._next, self._next + 2
        request = REQUEST.encode(Request(service=RUNTIME_SERVICE, method=method, payload=message))
        self._send(Frame(Line.RUNTIME, stream, Type.REQUEST, request))
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._calls[stream] = answer
        try:
            if not await finished(answer, self._clock, within):
                raise Unavailable(f"NRI {method}: no answer within {within:g} s")
        finally:
            del self._calls[stream]
        if answer.cancelled():
            raise Unavailable(f"NRI {method}: the connection ended before the runtime answered")
        response = answer.result()
        if response.status.code:
            raise Denied(f"NRI {method}: refused with code {response.status.code}: {response.status.message}")
        return response.payload

    async def _take(self, frame: Frame, serve: Serve) -> None:
        match frame.line, frame.type:
            case Line.PLUGIN, Type.REQUEST:
                await self._free.acquire()
                self._group.create_task(self._answer(frame, serve))
            case Line.RUNTIME, Type.RESPONSE if frame.stream in self._calls:
                answer = self._calls[frame.stream]
                if not answer.done():
                    answer.set_result(RESPONSE.decode(frame.message))
            case _:
                pass  # too late for its caller, or of a newer protocol

    async def _answer(self, frame: Frame, serve: Serve) -> None:
        try:
            response = RESPONSE.encode(await _respond(frame.message, serve))
            self._send(Frame(Line.PLUGIN, frame.stream, Type.RESPONSE, response))
            with suppress(OSError):  # `run` says why
                await self._writer.drain()
        finally:
            self._free.release()

    def _send(self, frame: Frame) -> None:
        if not self._writer.is_closing():  # then nobody hears it, and `run` says why
            self._writer.write(encode(frame))


async def _respond(message: bytes, serve: Serve) -> Response:
    try:
        request = REQUEST.decode(message)
        method = request.method if request.service == PLUGIN_SERVICE else f"{request.service}/{request.method}"
        return Response(payload=await serve(method, request.payload))
    except WireError as error:
        return Response(status=Status(code=INVALID, message=str(error)))
    except Unknown as error:
        return Response(status=Status(code=UNIMPLEMENTED, message=str(error)))
