"""Messages as the planner keeps them: without what no desk reads, and with what many say alike as one object.

A workload of a large cluster takes 1 KB this way and 4 KB as it is decoded; a topology 1 KB and 50 KB. What is shared is
never changed; ids of pods and containers are interned. Not kept, so not to be asked for: labels and images of a workload,
zones and devices of a node.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from sys import intern
from typing import Any, Final, Generic, TypeVar, cast

from msgspec import Struct, json, msgpack
from msgspec.structs import replace

from neap.common.model.placement import Placement
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.model.workload import Container, Workload
from neap.common.units import Seconds

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
FULL_EVERY: Final = 10  # reports of which one is full, as reporters are set
MOST: Final = 50_000  # different things that are remembered to be shared; then it begins anew
_ZLIB: Final = b"\x78"  # with which no message in MessagePack begins: that is the number 120
NOTHING: Final[dict[str, Any]] = {}
NO_ZONES: Final = Zone(kind=ZoneKind.MACHINE, index=0)


class Lean:
    """See module docstring."""

    def __init__(self) -> None:
        self._shared: dict[Hashable, Any] = {}

    def placement(self, told: Placement) -> Placement:
        """A pod as it was placed."""
        return replace(told, workload=self._workload(told.workload), charged=self._mapping(told.charged))

    @staticmethod
    def topology(told: NodeTopology) -> NodeTopology:
        """A machine by its name, its labels and its amounts."""
        return replace(told, machine=NO_ZONES, numa=(), cards=(), devices=(), links=None, siblings={})

    def _workload(self, told: Workload) -> Workload:
        return replace(
            told, uid=intern(told.uid), namespace=intern(told.namespace), containers=self._containers(told.containers),
            labels=NOTHING, images=(), datasets=(), init_requests=self._mapping(told.init_requests), annotations=self._mapping(told.annotations),
            node_selector=self._mapping(told.node_selector), constraints=self._one(told.constraints),
        )  # fmt: skip

    def _containers(self, told: Sequence[Container]) -> tuple[Container, ...]:
        key = tuple((one.name, _content(one.requests), _content(one.limits)) for one in told)
        return self._as(("containers", key), tuple(told))

    def _mapping(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if not told:
            return NOTHING
        return self._as(("mapping", _content(told)), cast(dict[str, Any], told))

    def _one(self, told: T) -> T:
        return self._as((type(told), told), told)

    def _as(self, key: Hashable, told: T) -> T:
        """What was the first of its content."""
        if len(self._shared) >= MOST:
            self._shared.clear()
        return cast(T, self._shared.setdefault(key, told))


class Whole:
    """Reports with all their containers: a short one on top of its node's last full one.

    Of containers `fields` are kept. Where full reports come more often than every `often` seconds, short ones are let go.
    """

    def __init__(self, fields: Sequence[str], often: Seconds = 0.0) -> None:
        self._fields, self._often = tuple(fields), often
        self._full: dict[str, NodeUsage] = {}  # by node

    def lets_go(self, told: NodeUsage) -> bool:
        """Whether it is a short one, and a full one comes soon."""
        return bool(told.since) and told.period * FULL_EVERY < self._often

    def of(self, told: NodeUsage) -> NodeUsage | None:
        """The whole report; None where it is let go, or its full one is not known."""
        if told.since:
            return None if self.lets_go(told) else completed(told, self._full.get(told.node))
        if told.period * FULL_EVERY >= self._often:
            self._full[told.node] = report(told, self._fields)
        return told

    def forget(self, node: str) -> None:
        """A node is gone."""
        self._full.pop(node, None)


def report(told: NodeUsage, fields: Sequence[str]) -> NodeUsage:
    """A full report for `completed`, of each container with these fields only, and without its path."""
    containers = tuple(
        ContainerUsage(
            uid=intern(one.uid), container=intern(one.container), cgroup="",
            **{name: getattr(one, name) for name in fields},
        )
        for one in told.containers
    )  # fmt: skip
    return NodeUsage(
        at=told.at, source=told.source, node=told.node, seq=told.seq, period=told.period, containers=containers
    )


def completed(told: NodeUsage, full: NodeUsage | None) -> NodeUsage | None:
    """neap.common.model.usage.completed on top of what `report` left of a full one."""
    if not told.since:
        return told
    if full is None or full.seq != told.since or full.source != told.source:
        return None
    changed = {(one.uid, one.container): one for one in told.containers}
    return replace(
        told, containers=tuple(changed.get((one.uid, one.container), one) for one in full.containers), since=0
    )


class Packing(Generic[S]):
    """Messages of one type that are seldom looked at again, as a quarter of their JSON. `like`: one that is usual.

    A restart tells 100,000 at once: such are kept loosely, which is ten times as quick, and packed one by one later.
    """

    def __init__(self, like: S) -> None:
        self._decoder, self._like = json.Decoder(type(like)), json.encode(like)
        self._loose = msgpack.Decoder(type(like))

    def loose(self, told: S) -> bytes:
        """One message, in the half of its memory. 3 µs."""
        return msgpack.encode(told)

    def packed(self, told: S) -> bytes:
        """One message. 25 µs."""
        packer = zlib.compressobj(1, zdict=self._like)
        return packer.compress(json.encode(told)) + packer.flush()

    def tight(self, kept: bytes) -> bytes:
        """What is kept, packed if it is not."""
        return kept if kept.startswith(_ZLIB) else self.packed(self.unpacked(kept))

    def unpacked(self, kept: bytes) -> S:
        """As it was told. 25 µs."""
        if not kept.startswith(_ZLIB):
            return self._loose.decode(kept)
        return self._decoder.decode(zlib.decompressobj(zdict=self._like).decompress(kept))


def _content(told: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(told.items()))
