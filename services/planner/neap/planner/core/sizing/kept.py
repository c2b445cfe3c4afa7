"""What the sizing desk keeps of a service: what it told of it last, packed, for 100,000 of them are seldom looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from neap.common.model.recommendation import ContainerSize, Recommendation, Sum
from neap.common.units import MIB, Seconds
from neap.foresight.rule import Memory
from neap.planner.core import lean

Remembered: TypeAlias = list[tuple[str, str, Memory]]  # container, resource, what the rule remembers
_SUM: Final = Sum(
    resource="cpu", now=1000, target=1000, confidence=0.933, memory=(472222.0, 1.5, 1.5, 0.0),
    arithmetic="1.5 cores = 1.2 cores (p90, half-life 24 h) x 1.15, drawn in to 1.1 cores (most in the last 24 h) x 1.1",
)  # fmt: skip
_MEMORY: Final = replace(_SUM, resource="memory", now=1 << 30, arithmetic="1.5Gi = 1.3Gi (highest in 14 d) x 1.15")
_SIZE: Final = ContainerSize(
    name="main", requests=(_SUM, _MEMORY), worst_replica="-aaaa-4bbb-8ccc-", least={"cpu": 10, "memory": 16 * MIB}
)
_PACKING: Final = lean.Packing(
    Recommendation(
        at=1.7e9, source="planner", namespace="", kind="Deployment", name="", version="", replicas=1,
        window=1209600.0, containers=(_SIZE,), saves={"cpu": 100, "memory": 1 << 30},
    )
)  # fmt: skip
_REMEMBERED: Final = msgspec.msgpack.Decoder(Remembered)


@dataclass(slots=True)
class Kept:
    """See module docstring. 600 bytes instead of 3 KB."""

    state: str = ""  # of the change under way, as told
    due: Seconds = 0.0
    _told: bytes = b""
    _memories: bytes = b""

    @property
    def told(self) -> Recommendation | None:
        """What was told last."""
        return _PACKING.unpacked(self._told) if self._told else None

    def tell(self, now: Recommendation, *, loosely: bool = False) -> None:
        """This is what was told last. `loosely`: in a hurry."""
        self.state, self._told = now.state, _PACKING.loose(now) if loosely else _PACKING.packed(now)

    def tighten(self) -> None:
        """Pack what was told in a hurry."""
        if self._told:
            self._told = _PACKING.tight(self._told)

    def remember(self, memories: Iterable[tuple[str, str, Memory]]) -> None:
        """What the rules remember from now on."""
        self._memories = msgspec.msgpack.encode(list(memories))

    def memory(self, container: str, resource: str) -> Memory:
        """What the rule remembers of it: since this life sized it, or else as it was told."""
        for name, kind, memory in _REMEMBERED.decode(self._memories) if self._memories else ():
            if (name, kind) == (container, resource):
                return memory
        told = self.told
        sums = (each for size in told.containers if size.name == container for each in size.requests) if told else ()
        return next((each.memory for each in sums if each.resource == resource), ())
