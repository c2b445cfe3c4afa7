"""A container runtime that offers NRI, in this process: the frames, the order and the temper of containerd's.

    async with NriServer(path, pods=[...], containers=[...]) as runtime:
        plugin = await runtime.joined()     # registered, configured, synchronised
        answer = await plugin.ask("CreateContainer", {"pod": {...}, "container": {...}})

Messages are dicts with the field names of NRI's api.proto. They are encoded by Google's protobuf runtime from a table
of our own, so that a client with another codec and table is held against it. Like a Go runtime, it hangs up on
a multiplexer frame larger than its read buffer, on an answer it does not understand, and on events it does not know.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from neap.common.units import Seconds

Message: TypeAlias = Mapping[str, Any]

PATIENCE: Final[Seconds] = 60.0  # no wait is longer; an answer takes a millisecond
GO_BUFFER: Final = 4096  # bytes, of bufio
LAST_EVENT: Final = 14  # of NRI 0.12; 11 in 0.4
FAILED_PRECONDITION: Final = 9

# message: field=number:type, where * is repeated and `map` is map<string, string>
API: Final = """
Request: service=1:string method=2:string payload=3:bytes timeout_nano=4:int64
Response: status=1:Status payload=2:bytes
Status: code=1:int32 message=2:string
RegisterPluginRequest: plugin_name=1:string plugin_idx=2:string NRI_version=3:string
UpdateContainersRequest: update=1:*ContainerUpdate
UpdateContainersResponse: failed=1:*ContainerUpdate
ConfigureRequest: config=1:string runtime_name=2:string runtime_version=3:string registration_timeout=4:int64 request_timeout=5:int64
ConfigureResponse: events=2:int32
SynchronizeRequest: pods=1:*PodSandbox containers=2:*Container more=3:bool
SynchronizeResponse: update=1:*ContainerUpdate more=2:bool
CreateContainerRequest: pod=1:PodSandbox container=2:Container
CreateContainerResponse: adjust=1:ContainerAdjustment update=2:*ContainerUpdate
UpdateContainerRequest: pod=1:PodSandbox container=2:Container linux_resources=3:LinuxResources
UpdateContainerResponse: update=1:*ContainerUpdate
PostCreateContainerRequest: pod=1:PodSandbox container=2:Container
PostCreateContainerResponse:
StopContainerRequest: pod=1:PodSandbox container=2:Container
StopContainerResponse: update=1:*ContainerUpdate
RemoveContainerRequest: pod=1:PodSandbox container=2:Container
RemoveContainerResponse:
RunPodSandboxRequest: pod=1:PodSandbox
RunPodSandboxResponse:
StateChangeRequest: event=1:int32 pod=2:PodSandbox container=3:Container
StateChangeResponse:
ShutdownRequest:
ShutdownResponse:
PodSandbox: id=1:string name=2:string uid=3:string namespace=4:string labels=5:map annotations=6:map runtime_handler=7:string linux=8:LinuxPodSandbox pid=9:uint32 ips=10:*string
LinuxPodSandbox: pod_overhead=1:LinuxResources pod_resources=2:LinuxResources cgroup_parent=3:string cgroups_path=4:string
Container: id=1:string pod_sandbox_id=2:string name=3:string state=4:int32 labels=5:map annotations=6:map args=7:*string env=8:*string mounts=9:*Mount linux=11:LinuxContainer pid=12:uint32 created_at=14:int64
Mount: destination=1:string type=2:string source=3:string options=4:*string
LinuxContainer: devices=2:*LinuxDevice resources=3:LinuxResources oom_score_adj=4:OptionalInt cgroups_path=5:string
LinuxDevice: path=1:string type=2:string major=3:int64 minor=4:int64 file_mode=5:OptionalUInt32
LinuxResources: memory=1:LinuxMemory cpu=2:LinuxCPU unified=6:map
LinuxMemory: limit=1:OptionalInt64 reservation=2:OptionalInt64 swap=3:OptionalInt64
LinuxCPU: shares=1:OptionalUInt64 quota=2:OptionalInt64 period=3:OptionalUInt64 cpus=6:string mems=7:string
ContainerAdjustment: annotations=2:map env=4:*KeyValue linux=6:LinuxContainerAdjustment
LinuxContainerAdjustment: devices=1:*LinuxDevice resources=2:LinuxResources oom_score_adj=4:OptionalInt
ContainerUpdate: container_id=1:string linux=2:LinuxContainerUpdate ignore_failure=3:bool
LinuxContainerUpdate: resources=1:LinuxResources
KeyValue: key=1:string value=2:string
OptionalInt: value=1:int64
OptionalInt64: value=1:int64
OptionalUInt32: value=1:uint32
OptionalUInt64: value=1:uint64
"""


class Hangup(Exception):
    """The runtime does not put up with this plugin."""


def _classes() -> dict[str, Any]:
    """Message classes from the table above."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="neap/nrid.proto", package="nrid", syntax="proto3")
    for line in API.strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field, number, star, kind in re.findall(r"(\w+)=(\d+):(\*?)(\w+)", fields):
            place = message.field.add(name=field, number=int(number), json_name=field)
            place.label = kinds.LABEL_REPEATED if star or kind == "map" else kinds.LABEL_OPTIONAL
            if kind == "map":
                entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
                entry.options.map_entry = True
                for key, at in (("key", 1), ("value", 2)):
                    entry.field.add(name=key, number=at, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
                place.type, place.type_name = kinds.TYPE_MESSAGE, f".nrid.{name}.{entry.name}"
            elif kind[0].isupper():
                place.type, place.type_name = kinds.TYPE_MESSAGE, f".nrid.{kind}"
            else:
                place.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        each.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"nrid.{each.name}"))
        for each in file.message_type
    }


CLASSES: Final = _classes()


def encode(name: str, message: Message) -> bytes:
    """A message as Google's runtime writes it."""
    return bytes(json_format.ParseDict(message, CLASSES[name]()).SerializeToString(deterministic=True))


def decode(name: str, payload: bytes) -> dict[str, Any]:
    """A message as Google's runtime reads it; what is not said is not in it."""
    found: dict[str, Any] = json_format.MessageToDict(parse(name, payload), preserving_proto_field_name=True)
    return found


def parse(name: str, payload: bytes) -> Any:
    """A message object.

    Raises:
        Hangup: it is none.
    """
    try:
        return CLASSES[name].FromString(payload)
    except DecodeError as error:
        raise Hangup(f"{name}: {error}") from None


class NriPlugin:
    """One plugin's connection, seen by the runtime."""

    def __init__(self, server: NriServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self.registered: dict[str, Any] = {}
        self.events = 0  # the mask it subscribed to
        self.corrected: list[dict[str, Any]] = []  # updates in answer to the synchronisation
        self.closed = asyncio.Event()
        self._known = asyncio.Event()
        self._writing = asyncio.Lock()
        self._streams = {1: bytearray(), 2: bytearray()}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 1

    async def ask(self, method: str, message: Message) -> dict[str, Any]:
        """A request to the plugin; its answer."""
        return decode(f"{method}Response", await self.ask_raw(method, encode(f"{method}Request", message)))

    async def ask_raw(self, method: str, payload: bytes) -> bytes:
        """The same with a message that need not be one.

        Raises:
            Hangup: the plugin answered with an error, or the connection ended.
        """
        stream, self._next = self._next, self._next + 2
        service = "nri.pkg.api.v1alpha1.Plugin"
        request = CLASSES["Request"](service=service, method=method, payload=payload, timeout_nano=2_000_000_000)
        answer = self._answers[stream] = asyncio.get_running_loop().create_future()
        await self._write(1, stream, 1, request.SerializeToString())
        async with asyncio.timeout(PATIENCE):
            response = await answer
        if response.status.code:
            raise Hangup(f"{method}: {response.status.code} {response.status.message}")
        return bytes(response.payload)

    async def send(self, raw: bytes) -> None:
        """Bytes as they are, in pieces of `server.dribble`."""
        size = self._server.dribble or len(raw) or 1
        async with self._writing:
            for at in range(0, len(raw), size):
                self._writer.write(raw[at : at + size])
                await self._writer.drain()
                if self._server.dribble:
                    await asyncio.sleep(0)  # so that the pieces arrive as pieces

    def hang_up(self) -> None:
        """As a runtime that dies."""
        self._writer.transport.abort()

    async def live(self) -> None:
        """Serve until the connection ends, and say why if it was not the plugin that left."""
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(self._start())
            try:
                while True:
                    line, size = struct.unpack(">II", await self._reader.readexactly(8))
                    self._check(line, size)
                    await self._take(line, await self._reader.readexactly(size))
            except (OSError, EOFError, Hangup) as error:
                if isinstance(error, Hangup):
                    self._server.complaints.append(str(error))
            finally:
                starting.cancel()
                self.hang_up()
                for answer in self._answers.values():
                    if not answer.done():
                        answer.set_exception(Hangup("the connection ended"))
                        answer.exception()  # whether anybody waits or not
                self.closed.set()

    async def _start(self) -> None:
        """What containerd does with a new plugin."""
        await self._known.wait()
        with suppress(Hangup, TimeoutError, OSError):
            versions = {"runtime_name": "nrid", "runtime_version": "v2", "request_timeout": 2000}
            self.events = (await self.ask("Configure", versions)).get("events", 0)
            if self.events >> self._server.last_event:
                self._server.complaints.append(f"unknown events in {self.events:#x}")
                self.hang_up()
                return
            if await self._synchronize():
                self._server.joins.put_nowait(self)

    async def _synchronize(self) -> bool:
        part = self._server.part or max(1, len(self._server.containers))
        pods = self._server.pods
        for at in range(0, max(1, len(self._server.containers)), part):
            more = at + part < len(self._server.containers)
            told = {"pods": pods, "containers": self._server.containers[at : at + part], "more": more}
            answer = await self.ask("Synchronize", told)
            pods = []
            if more and (not answer.get("more") or answer.get("update")):
                self._server.complaints.append("a plugin that does not take a synchronisation in parts")
                self.hang_up()
                return False
            self.corrected = answer.get("update", [])
        return True

    def _check(self, line: int, size: int) -> None:
        """Go reads a connection through a buffer, and a frame must fit what is being read."""
        stream = self._streams.get(line)
        if stream is None:
            raise Hangup(f"a frame for connection {line}")
        left = struct.unpack(">I", stream[:4])[0] + 10 - len(stream) if len(stream) >= 10 else 0
        if size > max(GO_BUFFER, left):
            raise Hangup(f"a frame of {size} bytes where {max(GO_BUFFER, left)} can be read")

    async def _take(self, line: int, piece: bytes) -> None:
        stream = self._streams[line]
        stream += piece
        while len(stream) >= 10:
            size, number, kind, _ = struct.unpack(">IIBB", stream[:10])
            if len(stream) < 10 + size:
                return
            payload = bytes(stream[10 : 10 + size])
            del stream[: 10 + size]
            if line == 1 and kind == 2 and number in self._answers:
                self._answers.pop(number).set_result(parse("Response", payload))
            elif line == 2 and kind == 1:
                await self._serve(number, parse("Request", payload))
            else:
                raise Hangup(f"a frame of type {kind} for stream {number} of connection {line}")

    async def _serve(self, stream: int, request: Any) -> None:
        if self._server.silent:
            return
        response = CLASSES["Response"](status=CLASSES["Status"]())
        if request.method == "RegisterPlugin":
            self.registered = decode("RegisterPluginRequest", request.payload)
            if self._server.refusal:
                response.status.code, response.status.message = FAILED_PRECONDITION, self._server.refusal
            else:
                self._known.set()
        elif request.method == "UpdateContainers":
            updates = decode("UpdateContainersRequest", request.payload).get("update", [])
            failed = [each for each in updates if each["container_id"] in self._server.failing]
            response.payload = encode("UpdateContainersResponse", {"failed": failed})
            await self._server.hear(updates)
        else:
            raise Hangup(f"no method {request.method}")
        await self._write(2, stream, 2, response.SerializeToString())

    async def _write(self, line: int, stream: int, kind: int, payload: bytes) -> None:
        """Like Go's buffered writer: the first 4096 bytes, then the rest; or in pieces of `server.piece`."""
        whole = struct.pack(">IIBB", len(payload), stream, kind, 0) + payload
        cut = self._server.piece
        ends = [0, *range(cut, len(whole), cut), len(whole)] if cut else [0, min(GO_BUFFER, len(whole)), len(whole)]
        pieces = [whole[at:end] for at, end in pairwise(ends) if end > at]
        await self.send(b"".join(struct.pack(">II", line, len(piece)) + piece for piece in pieces))


class NriServer:
    """See module docstring. Change its fields at any time; they hold from the next frame or connection on.

    Args:
        path: of the socket.
        pods, containers: what a synchronisation tells.
    """

    def __init__(self, path: Path, *, pods: Sequence[Message] = (), containers: Sequence[Message] = ()) -> None:
        self.path, self.pods, self.containers = path, list(pods), list(containers)
        self.part = 0  # containers in one part of a synchronisation; 0: all
        self.piece = 0  # bytes in one frame; 0: as Go does
        self.dribble = 0  # bytes written at once; 0: all
        self.silent = False  # answers nothing
        self.refusal = ""  # why nobody may register
        self.failing: set[str] = set()  # containers that cannot be updated
        self.last_event = LAST_EVENT
        self.complaints: list[str] = []  # about plugins
        self.updates: list[dict[str, Any]] = []  # unsolicited
        self.joins: asyncio.Queue[NriPlugin] = asyncio.Queue()
        self.connections = 0  # ever made
        self.plugins: list[NriPlugin] = []
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._living: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; a socket left behind is removed."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._meet, self.path)

    async def stop(self) -> None:
        """Hang up on everybody and listen no more; the socket file stays, as after a crash."""
        if self._server is not None:
            self._server.close()
        for plugin in self.plugins:
            plugin.hang_up()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._living)
        self.plugins.clear()

    async def restart(self) -> None:
        """As if the runtime had died and come back."""
        await self.stop()
        await self.start()

    async def joined(self) -> NriPlugin:
        """The next plugin that is registered, configured and synchronised."""
        async with asyncio.timeout(PATIENCE):
            return await self.joins.get()

    async def heard(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """All unsolicited updates, once they are enough."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: enough(self.updates))
            return list(self.updates)

    async def hear(self, updates: Sequence[dict[str, Any]]) -> None:
        """Keep unsolicited updates."""
        async with self._changed:
            self.updates += updates
            self._changed.notify_all()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plugin = NriPlugin(self, reader, writer)
        self.connections += 1
        self.plugins.append(plugin)
        living = asyncio.ensure_future(plugin.live())
        self._living.add(living)
        living.add_done_callback(self._living.discard)
        await living
