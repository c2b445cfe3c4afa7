"""Hosts served over a unix socket: the simulated hardware in one process, its services in others.

A frame is four bytes of length (big endian) and a msgpack value. Each request names the node, so one socket
serves them all. The client is synchronous, as the port is; every wait is bounded, a call for many is one round trip.
Callers of one client take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from neap.common.errors import Denied, PortError, Unavailable, Vanished
from neap.common.host.port import HostFs, Listings, Outcomes, Refused, Space, Spaces, Targets, Texts, Unsupported
from neap.common.units import Seconds

LARGEST_FRAME: Final = 1 << 25
LENGTH: Final = 4
TIMEOUT: Final[Seconds] = 2.0

_ERRORS: Final[Mapping[str, type[PortError]]] = {
    kind.__name__: kind for kind in (PortError, Vanished, Unsupported, Refused, Denied, Unavailable)
}


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One call of the port on one node."""

    node: str
    act: str
    path: str = ""
    text: str = ""
    paths: list[str] = []
    texts: list[str] = []
    stop: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What the call returned, or which error it raised with which words."""

    value: Any = None
    error: str = ""
    said: str = ""


_encode = msgspec.msgpack.Encoder().encode
_ask = msgspec.msgpack.Decoder(Ask)
_answer = msgspec.msgpack.Decoder(Answer)


class RemoteHost:
    """A HostFs whose files live in another process; connects when first used, and again when the line broke."""

    waits = True

    def __init__(self, socket_path: str, node: str, *, timeout: Seconds = TIMEOUT) -> None:
        self._socket_path, self._node, self._timeout = socket_path, node, timeout
        self._line: socket.socket | None = None
        self._turn = threading.Lock()  # rooms of one process share a host and ask from threads

    def read(self, path: str) -> str:
        """The whole file."""
        return str(self._call(Ask(self._node, "read", path)))

    def read_all(self, paths: Sequence[str]) -> Texts:
        """Many files in one round trip.

        Raises:
            Unavailable: nobody serves the host now.
        """
        found: Texts = self._call(Ask(self._node, "read_all", paths=list(paths)))
        return found

    def write(self, path: str, text: str) -> None:
        """Write the whole value; repeated once over a fresh line if the line broke (writes are idempotent)."""
        self._call(Ask(self._node, "write", path, text))

    def make_folder(self, path: str) -> None:
        """One directory; making it twice over a broken line is fine."""
        self._call(Ask(self._node, "make_folder", path))

    def remove_folder(self, path: str) -> None:
        """One directory; a second try over a fresh line may find it gone."""
        self._call(Ask(self._node, "remove_folder", path))

    def list(self, path: str) -> list[str]:
        """Sorted names in a directory."""
        names: list[str] = self._call(Ask(self._node, "list", path))
        return names

    def list_all(self, paths: Sequence[str]) -> Listings:
        """Many directories in one round trip."""
        found: Listings = self._call(Ask(self._node, "list_all", paths=[*paths]))
        return found

    def write_all(self, writes: Sequence[tuple[str, str]], *, stop: bool = False) -> Outcomes:
        """Many writes in one round trip; repeated as a whole over a fresh line (writes are idempotent)."""
        paths, texts = [path for path, _ in writes], [text for _, text in writes]
        told = self._call(Ask(self._node, "write_all", paths=paths, texts=texts, stop=stop))
        return [None if error is None else _ERRORS.get(error[0], PortError)(error[1]) for error in told]

    def exists(self, path: str) -> bool:
        """Whether the path is there now."""
        return bool(self._call(Ask(self._node, "exists", path)))

    def link(self, path: str) -> str | None:
        """The target of a symbolic link."""
        target: str | None = self._call(Ask(self._node, "link", path))
        return target

    def link_all(self, paths: Sequence[str]) -> Targets:
        """The targets of many symbolic links in one round trip."""
        targets: Targets = self._call(Ask(self._node, "link_all", paths=[*paths]))
        return targets

    def space_all(self, paths: Sequence[str]) -> Spaces:
        """The file systems of many paths in one round trip."""
        told = self._call(Ask(self._node, "space_all", paths=[*paths]))
        return [None if space is None else Space(*space) for space in told]

    def close(self) -> None:
        """Hang up; the next call connects again."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _call(self, ask: Ask) -> Any:
        frame = _encode(ask)
        with self._turn:
            answer = self._asked(ask, frame)
        if answer.error:
            raise _ERRORS.get(answer.error, PortError)(answer.said)
        return answer.value

    def _asked(self, ask: Ask, frame: bytes) -> Answer:
        for last in (False, True):
            try:
                return self._round_trip(frame)
            except TimeoutError:
                self.close()
                raise Unavailable(f"{ask.act} {ask.path} on {self._where}: no answer in {self._timeout:g} s") from None
            except OSError as error:
                self.close()
                if last:
                    raise Unavailable(f"{ask.act} {ask.path} on {self._where}: {error.strerror or error}") from None
        raise AssertionError("the second try either answers or raises")

    def _round_trip(self, frame: bytes) -> Answer:
        if self._line is None:
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(self._timeout)
            try:
                line.connect(self._socket_path)
            except OSError:
                line.close()
                raise
            self._line = line
        self._line.sendall(len(frame).to_bytes(LENGTH) + frame)
        size = int.from_bytes(self._exactly(self._line, LENGTH))
        if size > LARGEST_FRAME:
            raise OSError(None, f"frame of {size} bytes")
        return _answer.decode(self._exactly(self._line, size))

    @staticmethod
    def _exactly(line: socket.socket, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = line.recv(min(size, 1 << 20))
            if not piece:
                raise ConnectionResetError(None, "the host hung up")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    @property
    def _where(self) -> str:
        return f"node {self._node} at {self._socket_path}"


@contextlib.asynccontextmanager
async def serve_hosts(socket_path: str, hosts: Mapping[str, HostFs]) -> AsyncIterator[None]:
    """Serve the hosts, by node name, until the block ends. The mapping may change meanwhile."""
    lines: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(writer)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(LENGTH))
                if size > LARGEST_FRAME:
                    return
                frame = _encode(_answered(await reader.readexactly(size), hosts))
                writer.write(len(frame).to_bytes(LENGTH) + frame)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            lines.discard(writer)
            writer.close()

    _clear(socket_path)  # left by a process that was killed
    server = await asyncio.start_unix_server(talk, socket_path)
    try:
        yield
    finally:
        server.close()
        for line in list(lines):
            line.close()
        _clear(socket_path)


def _clear(socket_path: str) -> None:
    Path(socket_path).unlink(missing_ok=True)


def _answered(frame: bytes, hosts: Mapping[str, HostFs]) -> Answer:
    """Carry out one request."""
    try:
        ask = _ask.decode(frame)
    except msgspec.MsgspecError as error:
        return Answer(error="PortError", said=f"malformed request: {error}")
    host = hosts.get(ask.node)
    if host is None:
        return Answer(error="Unavailable", said=f"{ask.act} {ask.path}: no host {ask.node!r} is served here")
    try:
        return Answer(_carried_out(host, ask))
    except PortError as error:
        return Answer(error=_kind(error), said=str(error))


def _kind(error: PortError) -> str:
    kind = type(error).__name__
    return kind if kind in _ERRORS else "PortError"


def _carried_out(host: HostFs, ask: Ask) -> Any:
    match ask.act:
        case "read":
            return host.read(ask.path)
        case "read_all":
            return host.read_all(ask.paths)
        case "write":
            return host.write(ask.path, ask.text)
        case "make_folder":
            return host.make_folder(ask.path)
        case "remove_folder":
            return host.remove_folder(ask.path)
        case "list":
            return host.list(ask.path)
        case "list_all":
            return host.list_all(ask.paths)
        case "write_all":
            outcomes = host.write_all(list(zip(ask.paths, ask.texts, strict=True)), stop=ask.stop)
            return [None if error is None else (_kind(error), str(error)) for error in outcomes]
        case "exists":
            return host.exists(ask.path)
        case "link":
            return host.link(ask.path)
        case "link_all":
            return host.link_all(ask.paths)
        case "space_all":
            return host.space_all(ask.paths)
        case _:
            raise PortError(f"unknown request {ask.act!r}")
