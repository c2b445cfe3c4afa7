"""The real enforcer as a process of its own that can be killed: advice goes in, what was applied comes out.

The process is a fork, so a new one is there in no time; the bus inside it is the one in memory.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from neap.common.bus.memory import MemoryBroker
from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import ADVICE, CHANNELS, NODE_APPLIED, STREAMS
from neap.common.host.real import RealHost
from neap.common.model.advice import Applied, CgroupAdvice, Knobs, NodeAdvice, PoolAdvice
from neap.common.runtime.clock import wall_clock
from neap.common.runtime.run import Running
from neap.common.runtime.service import Outside
from neap.common.telemetry.span import NoTracer
from neap.enforcer.settings import Settings
from neap.enforcer.wiring import wire

NODE: Final = "lab"
LASTING: Final = 300.0  # seconds that advice is valid
PATIENCE: Final = 60.0
READY: Final = b"ready"


class Enforcer:
    """One life after the other of a node's enforcer; the journal outlives them."""

    def __init__(self, journal: Path, *, nap: float = 0.0, **settings: Any) -> None:
        self._nap = nap
        self._settings = Settings(node=NODE, journal_dir=str(journal), **settings)
        self._pid = self._in = self._out = 0
        self._rest = b""
        self._seq = 0

    @property
    def period(self) -> float:
        return self._settings.period

    def start(self) -> None:
        """A new life; it can be stopped from here on."""
        (theirs_in, self._in), (self._out, theirs_out) = os.pipe(), os.pipe()
        self._rest = b""
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._in)
            os.close(self._out)
            _live(self._settings, self._nap, theirs_in, theirs_out)
        os.close(theirs_in)
        os.close(theirs_out)
        assert self._line(time.monotonic() + PATIENCE, "the enforcer is there") == READY

    def advise(self, *cgroups: CgroupAdvice, pools: tuple[PoolAdvice, ...] = (), lasting: float = LASTING) -> int:
        """Hand in advice; its number."""
        self._seq += 1
        now = time.time()
        advice = NodeAdvice(
            at=now, source="lab", node=NODE, seq=self._seq, expires=now + lasting, pools=pools, cgroups=cgroups
        )
        os.write(self._in, msgspec.json.encode(advice) + b"\n")
        return self._seq

    def applied(self, seq: int, *, within: float = PATIENCE) -> Applied:
        """What was applied of this advice, once it was."""
        return self.hear(lambda applied: applied.advice_seq == seq, f"advice {seq} applied", within=within)

    def hear(self, wanted: Any, what: str, *, within: float = PATIENCE) -> Applied:
        """The next word of the enforcer that is wanted."""
        end = time.monotonic() + within
        while True:
            applied = msgspec.json.decode(self._line(end, what), type=Applied)
            if wanted(applied):
                return applied

    def _line(self, end: float, what: str) -> bytes:
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            assert left > 0, f"waited in vain: {what}"
            if select.select([self._out], [], [], left)[0]:
                piece = os.read(self._out, 1 << 16)
                assert piece, f"the enforcer ended; waited for: {what}"
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as at the end of a pod; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if not self._pid:
            return 0
        os.kill(self._pid, number)
        end, (pid, status) = time.monotonic() + PATIENCE, (0, 0)
        while not pid:
            if time.monotonic() > end:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                raise AssertionError(f"the enforcer did not end within {PATIENCE:.0f} s of {number.name}")
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            time.sleep(0.002)
        os.close(self._in)
        os.close(self._out)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)


@contextmanager
def an_enforcer(journal: Path, *, nap: float = 0.0, **settings: Any) -> Iterator[Enforcer]:
    """A running enforcer; stopped at the end, if it still runs. It rests for `nap` seconds after each write."""
    enforcer = Enforcer(journal, nap=nap, **settings)
    enforcer.start()
    try:
        yield enforcer
    finally:
        status = enforcer.stop()
    assert status == 0, f"the enforcer ended with {status}"


def of_pod(uid: str, pool: str, **knobs: Any) -> CgroupAdvice:
    """Advice for one pod."""
    return CgroupAdvice(target=f"pod/{uid}", pool=pool, knobs=Knobs(**knobs))


def of_class(kind: str, pool: str, **knobs: Any) -> CgroupAdvice:
    """Advice for a class."""
    return CgroupAdvice(target=f"class/{kind}", pool=pool, knobs=Knobs(**knobs))


# -- the process -----------------------------------------------------------------------------------------------------


class _SlowHost(RealHost):
    """The kernel, and a rest after each write: a kill then comes in the middle of many of them."""

    def __init__(self, nap: float) -> None:
        super().__init__()
        self._nap = nap

    def write(self, path: str, text: str) -> None:
        super().write(path, text)
        if self._nap:
            time.sleep(self._nap)


def _live(settings: Settings, nap: float, advice: int, applied: int) -> NoReturn:
    status = 1
    try:
        signal.alarm(0)
        asyncio.run(_enforce(settings, nap, advice, applied))
        status = 0
    except BaseException:  # noqa: BLE001  here a process ends
        traceback.print_exc()
    finally:
        os._exit(status)


async def _enforce(settings: Settings, nap: float, advice: int, applied: int) -> None:
    broker, clock, loop = MemoryBroker(), wall_clock(), asyncio.get_running_loop()
    bus, mine = broker.bus("enforcer"), broker.bus("advisor")
    await bus.ensure(STREAMS, CHANNELS)
    outside = Outside(bus=bus, clock=clock, host=_SlowHost(nap), tracer=NoTracer())
    running, stop = Running(wire(settings, outside), outside, count=lambda *_: None, validate=True), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    os.write(applied, READY + b"\n")
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(mine, applied))
        hearing = group.create_task(_hear(mine, advice))
        await running.run(stop)
        telling.cancel()
        hearing.cancel()


async def _hear(bus: Bus, advice: int) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(advice, "rb"))
    while line := await reader.readline():
        message = msgspec.json.decode(line, type=NodeAdvice)
        await bus.put(ADVICE.at(node=message.node), message)


async def _tell(bus: Bus, applied: int) -> None:
    async with bus.subscribe(NODE_APPLIED.only(node=NODE)) as items:
        async for item in items:
            if isinstance(item, Received):
                os.write(applied, msgspec.json.encode(item.message) + b"\n")
