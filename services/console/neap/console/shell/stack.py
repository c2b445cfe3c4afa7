"""The laptop stack: an embedded NATS server and one process per room, all of them children of this one.

Children get a session of their own, so Ctrl-C reaches only this process, and the kernel ends them when this
process dies, however it dies. A child that ends by itself is started again, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final

from neap.common.errors import PortError, SettingsError, Unavailable
from neap.common.runtime.main import UNSETTLED
from neap.common.runtime.settings import process_environment
from neap.common.testing.natsd import NatsServer
from neap.common.units import Seconds

ROOMS: Final = ("virtual", "reporter", "advisor", "enforcer", "evictor", "gpushare", "scheduler", "planner")
HARDWARE: Final = "virtual"  # kernels answer at once: the process that plays them goes first
BEHIND_HARDWARE: Final = 5  # niceness of the rooms
GRACE: Final[Seconds] = 20.0  # longer than a room takes that uses all of its own
MOST_RESTARTS: Final = 20
RESTART_AFTER: Final[Seconds] = 0.2
PR_SET_PDEATHSIG: Final = 1


@dataclass
class Child:
    """One room's process. `wanted` is false once it is to stay away."""

    name: str
    process: asyncio.subprocess.Process
    restarts: int = 0
    wanted: bool = True


@dataclass
class Stack:
    """See module docstring. `settings` are `section.key=value` for every child."""

    out: Path
    settings: Sequence[str]
    rooms: Sequence[str] = ROOMS
    port: int = 0
    tell: Callable[[str], None] = lambda _: None
    children: dict[str, Child] = field(default_factory=dict)
    server: NatsServer | None = None
    broken: asyncio.Future[None] = field(default_factory=asyncio.Future)  # set when a child cannot be kept running
    _ending: AsyncExitStack = field(default_factory=AsyncExitStack)
    _minders: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Stack:
        """Start everything, or nothing.

        Raises:
            SettingsError, PortError: names the port taken or the folder that cannot be written.
        """
        try:
            (self.out / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"{self.out}: cannot be written: {error.strerror}") from None
        async with AsyncExitStack() as ending:
            try:
                self.server = await ending.enter_async_context(NatsServer(store=self.out / "nats", port=self.port))
            except Unavailable:
                raise
            except PortError as error:
                raise SettingsError(str(error)) from None
            ending.push_async_callback(self._end)
            for name in self.rooms:
                self.children[name] = Child(name, await self._spawn(name))
                self._minders.append(asyncio.ensure_future(self._mind(self.children[name])))
            self._ending = ending.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything, the server last."""
        await self._ending.aclose()

    async def _end(self) -> None:
        """End the children: TERM, a bounded wait, KILL."""
        for child in self.children.values():
            child.wanted = False
            _signal(child.process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await asyncio.gather(*(child.process.wait() for child in self.children.values()))
        for child in self.children.values():
            if child.process.returncode is None:
                _signal(child.process, signal.SIGKILL)
                await child.process.wait()
        self.broken.cancel()
        for minder in self._minders:
            minder.cancel()
        await asyncio.gather(*self._minders, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where the bus is."""
        if self.server is None:
            raise PortError("the stack is not running")
        return self.server.url

    async def _spawn(self, name: str) -> asyncio.subprocess.Process:
        arguments = [part for pair in (f"process.nats_url={self.url}", *self.settings) for part in ("--set", pair)]
        command = [sys.executable, "-m", f"neap.{name}", *arguments]
        niceness = 0 if name == HARDWARE else BEHIND_HARDWARE
        return await spawn(command, log=self.out / "logs" / f"{name}.log", niceness=niceness)

    async def _mind(self, child: Child) -> None:
        """Start a child again when it ends unasked."""
        while True:
            status = await child.process.wait()
            if not child.wanted:
                return
            if status == UNSETTLED or child.restarts >= MOST_RESTARTS:
                self._give_up(child.name, status)
                return
            child.restarts += 1
            self.tell(f"{child.name} ended with {status}; started again ({child.restarts})")
            await asyncio.sleep(RESTART_AFTER)
            if child.wanted:
                child.process = await self._spawn(child.name)

    def _give_up(self, name: str, status: int) -> None:
        log = self.out / "logs" / f"{name}.log"
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        if not self.broken.done():
            self.broken.set_exception(SettingsError(f"{name} ended with {status}: {' '.join(last)[:400]} (see {log})"))


async def spawn(
    command: Sequence[str], *, log: Path, capture: bool = False, niceness: int = 0
) -> asyncio.subprocess.Process:
    """A child in a session of its own that dies with this process; its output is appended to `log`."""
    with log.open("ab") as sink:
        out: IO[bytes] | int = asyncio.subprocess.PIPE if capture else sink
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=sink,
            env=dict(process_environment()),
            start_new_session=True,
            preexec_fn=partial(_begin, niceness),
        )


def _begin(niceness: int) -> None:
    """In the child: how it stands to others, and that it dies with its parent.

    Sessions are groups of their own to Linux' scheduler, which share CPUs evenly whatever the niceness of those in
    them, so the group is told as well (sched(7), "The autogroup feature").
    """
    os.nice(niceness)
    if niceness > BEHIND_HARDWARE:  # rooms keep their even shares: they are one behind the other in every period
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))
    with suppress(OSError, AttributeError):  # Linux only; elsewhere a killed parent leaves children
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
